"""A checkpoint of 1.61 GB, a model with the two moments that Adam keeps, put into tensors that exist.

Each contestant has a process of its own with such a model, whose memory has been touched. One of them is the limit: it
knows where the bytes lie, and reads them into the same tensors with as many threads as turn out to be best. Its files
are warm, as everybody's; what rehydrate does besides (opening, matching, seeing that all can be read) is in its time.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from race import SETTINGS, Worker, peak, raced, serve
from report import Row

__all__ = ["measure_in_place"]

LAYERS, SHAPE = 8, (4096, 4096)
"""64 MiB a tensor: from 32 MiB on, C's allocator gives out new memory each time, as in a run's one load."""
PARTS = ("weights", "exp_avg", "exp_avg_sq")
OURS, TORCH, SAFETENSORS, LIMIT = (
    "rehydrate.load_into(model, FILE)",
    "model.load_state_dict(torch.load(FILE))",
    "model.load_state_dict(safetensors.torch.load_file(FILE))",
    "the limit: preadv into the same memory",
)
CHUNK = 8 << 20


def measure_in_place(folder: Path, rounds: int) -> Iterator[tuple[str, list[Row]]]:
    """With torch's allocator as it comes, and with its switch for huge pages; in turn, after all loaded the same."""
    path = folder / "adam.pth"
    _write(path)
    for said, more in SETTINGS.items():
        title = f"1.61 GB (.pth): a model and Adam's moments, put in place{said}"
        workers = [Worker(name, path, __file__, more) for name in (OURS, TORCH, SAFETENSORS, LIMIT)]
        yield title, raced(workers, rounds, what="in place", nbytes=path.stat().st_size)
    path.unlink()
    path.with_suffix(".safetensors").unlink()


def _write(path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    state = {name: torch.randn(SHAPE) for name in _model().state_dict()}
    torch.save(state, path)
    save_file(state, path.with_suffix(".safetensors"))


def _model() -> Any:
    """Memory is touched: it has been in use."""
    import torch
    from torch import nn

    return nn.ModuleDict(
        {part: nn.ParameterList([nn.Parameter(torch.ones(SHAPE)) for _ in range(LAYERS)]) for part in PARTS}
    )


def _loader(name: str, path: str, model: Any) -> Callable[[], object]:
    import torch

    if name == OURS:
        import rehydrate as rh

        return lambda: rh.load_into(model, path)
    if name == TORCH:
        return lambda: model.load_state_dict(torch.load(path))
    if name == SAFETENSORS:
        from safetensors.torch import load_file

        return lambda: model.load_state_dict(load_file(path.removesuffix(".pth") + ".safetensors"))
    return _limit(path, model)


def _limit(path: str, model: Any) -> Callable[[], object]:
    """Reads with as many threads as were fastest in a trial of each."""
    import rehydrate as rh

    descriptor = os.open(path, os.O_RDONLY)
    with rh.open(path) as checkpoint:
        places = {name: checkpoint[name].pieces[0].start for name in checkpoint}
    chunks: list[tuple[int, memoryview]] = []
    for name, tensor in sorted(model.state_dict().items(), key=lambda item: places[item[0]]):
        view = memoryview(tensor.numpy()).cast("B")
        chunks += [(places[name] + at, view[at : at + CHUNK]) for at in range(0, len(view), CHUNK)]

    def read(threads: int) -> None:
        with ThreadPoolExecutor(threads) as pool:
            for count in pool.map(lambda chunk: os.preadv(descriptor, [chunk[1]], chunk[0]), chunks):
                assert count

    def seconds(threads: int) -> float:
        started = time.perf_counter()
        read(threads)
        return time.perf_counter() - started

    counts = (1, 2, 3, 4)
    rounds = [{threads: seconds(threads) for threads in counts} for _ in range(6)]  # in turn: moments differ
    trials = {threads: min(each[threads] for each in rounds) for threads in counts}
    best = min(trials, key=trials.__getitem__)
    return lambda: read(best)


def _digest(model: Any) -> str:
    whole = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        whole.update(memoryview(tensor.numpy()).cast("B"))
    return whole.hexdigest()


def _serve(name: str, path: str) -> None:
    import torch

    torch.set_num_threads(2)
    model = _model()
    load = _loader(name, path, model)
    nbytes = sum(tensor.numel() * tensor.element_size() for tensor in model.parameters())

    def digest() -> str:
        with torch.no_grad():
            for tensor in model.parameters():
                tensor.zero_()
        load()
        return _digest(model)

    serve(load, digest, touched=nbytes, peak=lambda: peak(load, nbytes))


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2])
