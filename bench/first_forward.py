"""From nothing to the first output: a model of 1.07 GB is built, filled from a file, and asked once.

The tutorial's recipe builds the model with random weights, loads the file, and copies. Beside it is what somebody
writes who knows torch well. Each contestant has a process of its own, in which torch has been imported.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from race import SETTINGS, Worker, raced, serve
from report import Row

__all__ = ["measure_first_forward"]

LAYERS, WIDTH = 16, 4096
OURS, MAPPED, META, TUTORIAL, EXPERT = (
    "rehydrate.load_model(FILE, Net)",
    "rehydrate.load_model(FILE, Net, mapped=True)",
    "rehydrate.load_into(Net() on meta, FILE)",
    "Net(); load_state_dict(torch.load(FILE))",
    "Net() on meta; load_state_dict(torch.load(FILE, mmap=True), assign=True)",
)
NAMES = (OURS, MAPPED, META, TUTORIAL, EXPERT)


def measure_first_forward(folder: Path, rounds: int) -> Iterator[tuple[str, list[Row]]]:
    """With torch's allocator as it comes, and with its switch for huge pages; in turn, after all answered the same."""
    import torch

    path = folder / "large.pth"
    torch.manual_seed(0)
    torch.save(_net().state_dict(), path)
    for said, more in SETTINGS.items():
        workers = [Worker(name, path, __file__, more) for name in NAMES]
        rows = raced(workers, rounds, what="first forward")
        title = f"1.07 GB (.pth): from nothing to the first output{said}"
        yield title, rows
    path.unlink()


def _net() -> Any:
    from torch import nn

    return nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)))


def _answer(name: str, path: str, question: Any) -> Any:
    import torch

    import rehydrate as rh

    if name in (OURS, MAPPED):
        model = rh.load_model(path, _net, mapped=name == MAPPED)
    elif name == TUTORIAL:
        model = _net()
        model.load_state_dict(torch.load(path))
    else:
        with torch.device("meta"):
            model = _net()
        if name == META:
            rh.load_into(model, path)
        else:
            model.load_state_dict(torch.load(path, mmap=True), assign=True)
    model.eval()
    with torch.no_grad():
        return model(question)


def _serve(name: str, path: str) -> None:
    import torch

    torch.set_num_threads(2)
    question = torch.linspace(-1, 1, WIDTH)[None]

    def ask() -> Any:
        return _answer(name, path, question)

    serve(
        ask,
        lambda: hashlib.sha256(ask().numpy().tobytes()).hexdigest(),
        touched=2 * Path(path).stat().st_size,
    )


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2])
