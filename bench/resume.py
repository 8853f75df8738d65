"""A run that goes on: a model and its Adam, 1.61 GB in one file, into objects that exist and have been at work.

torch loads the whole file beside them, copies the parameters, and has the optimizer replace its states by copies.
Each contestant has a process of its own, whose memory has been touched; files are warm.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from race import Worker, peak, raced, serve
from report import Row

__all__ = ["measure_resume"]

LAYERS, WIDTH = 8, 4096
OURS, TORCH = (
    'rehydrate.load_into({"model": …, "optimizer": …}, FILE)',
    "torch.load(FILE); model, optimizer .load_state_dict",
)


def measure_resume(folder: Path, rounds: int) -> tuple[str, list[Row]]:
    """After both went on alike, in turn."""
    import torch

    path = folder / "run.pth"
    model, optimizer = _run()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, path)
    del model, optimizer
    workers = [Worker(name, path, __file__, {}) for name in (OURS, TORCH)]
    rows = raced(workers, rounds, what="resuming", nbytes=path.stat().st_size)
    path.unlink()
    return "1.61 GB (.pth): a run goes on, its model and its Adam", rows


def _run() -> tuple[Any, Any]:
    """A model and its optimizer after a step."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(LAYERS)))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    _step(model, optimizer)
    return model, optimizer


def _step(model: Any, optimizer: Any) -> None:
    import torch

    optimizer.zero_grad()
    model(torch.ones(1, WIDTH)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def _loader(name: str, path: str, model: Any, optimizer: Any) -> Callable[[], object]:
    import torch

    import rehydrate as rh

    def theirs() -> None:
        loaded = torch.load(path)
        model.load_state_dict(loaded["model"])
        optimizer.load_state_dict(loaded["optimizer"])

    return theirs if name == TORCH else lambda: rh.load_into({"model": model, "optimizer": optimizer}, path)


def _digest(model: Any) -> str:
    whole = hashlib.sha256()
    for tensor in model.state_dict().values():
        whole.update(memoryview(tensor.numpy()).cast("B"))
    return whole.hexdigest()


def _serve(name: str, path: str) -> None:
    import torch

    torch.set_num_threads(2)
    model, optimizer = _run()
    load = _loader(name, path, model, optimizer)
    nbytes = Path(path).stat().st_size

    def digest() -> str:
        _step(model, optimizer)  # somewhere else than in the file
        load()
        _step(model, optimizer)
        return _digest(model)

    serve(load, digest, touched=nbytes, peak=lambda: peak(load, nbytes))


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2])
