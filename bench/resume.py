"""A run that goes on: a model and its Adam, 1.61 GB in one file, into objects that exist and have been at work.

torch loads the whole file beside them, copies the parameters, and has the optimizer replace its states by copies.
Each contestant has a process of its own, whose memory has been touched; files are warm.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from contestants import Worker, touch
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
    nbytes = path.stat().st_size
    del model, optimizer
    workers = [Worker(name, path, script=__file__, more={}) for name in (OURS, TORCH)]
    try:
        if len({worker.digest() for worker in workers}) != 1:
            sys.exit("resuming: the contestants went on differently")
        peaks = [worker.peak() / nbytes for worker in workers]
        times: list[list[float]] = [[] for _ in workers]
        for number in range(rounds):
            for at in (0, 1) if number % 2 == 0 else (1, 0):
                times[at].append(workers[at].load())
    finally:
        for worker in workers:
            worker.close()
    path.unlink()
    rows = [Row(name, tuple(times[at]), peaks[at]) for at, name in enumerate((OURS, TORCH))]
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
    from in_place import peak

    torch.set_num_threads(2)
    model, optimizer = _run()
    load = _loader(name, path, model, optimizer)
    nbytes = Path(path).stat().st_size
    for line in sys.stdin:
        if line.strip() == "digest":
            _step(model, optimizer)  # somewhere else than in the file
            load()
            _step(model, optimizer)
            answer = _digest(model)
        elif line.strip() == "peak":
            answer = str(peak(load, nbytes))
        else:
            touch(nbytes)
            started = time.perf_counter()
            load()
            answer = repr(time.perf_counter() - started)
        print(answer, flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2])
