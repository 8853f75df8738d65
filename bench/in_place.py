"""A checkpoint of 1.61 GB, a model with the two moments that Adam keeps, put into tensors that exist.

Each contestant has a process of its own with such a model, whose memory has been touched. One of them is the limit: it
knows where the bytes lie, and reads them into the same tensors with as many threads as turn out to be best. Its files
are warm, as everybody's; what rehydrate does besides (opening, matching, seeing that all can be read) is in its time.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from contestants import Worker, touch
from report import Row

__all__ = ["measure_in_place", "peak"]

LAYERS, SHAPE = 8, (4096, 4096)
"""64 MiB a tensor: from 32 MiB on, C's allocator gives out new memory each time, as in a run's one load."""
PARTS = ("weights", "exp_avg", "exp_avg_sq")
OURS, TORCH, SAFETENSORS, LIMIT = (
    "rehydrate.load_into(model, FILE)",
    "model.load_state_dict(torch.load(FILE))",
    "model.load_state_dict(safetensors.torch.load_file(FILE))",
    "the limit: preadv into the same memory",
)
SETTINGS: Mapping[str, Mapping[str, str]] = {"": {}, "; torch on huge pages": {"THP_MEM_ALLOC_ENABLE": "1"}}
"""What the title says more → what the environment has more."""
CHUNK = 8 << 20


def measure_in_place(folder: Path, rounds: int) -> Iterator[tuple[str, list[Row]]]:
    """With torch's allocator as it comes, and with its switch for huge pages; in turn, after all loaded the same."""
    path = folder / "adam.pth"
    _write(path)
    for said, more in SETTINGS.items():
        title = f"1.61 GB (.pth): a model and Adam's moments, put in place{said}"
        yield title, _measured(path, rounds, more)
    path.unlink()
    path.with_suffix(".safetensors").unlink()


def _measured(path: Path, rounds: int, more: Mapping[str, str]) -> list[Row]:
    workers = [Worker(name, path, script=__file__, more=more) for name in (OURS, TORCH, SAFETENSORS, LIMIT)]
    try:
        digests = {worker.name: worker.digest() for worker in workers}
        if len(set(digests.values())) != 1:
            sys.exit(f"in place: the contestants loaded different things: {digests}")
        peaks = {worker.name: worker.peak() / path.stat().st_size for worker in workers}
        times: dict[str, list[float]] = {worker.name: [] for worker in workers}
        for number in range(rounds):
            for worker in workers if number % 2 == 0 else reversed(workers):
                times[worker.name].append(worker.load())
    finally:
        for worker in workers:
            worker.close()
    return [Row(name, tuple(seconds), peaks[name]) for name, seconds in times.items()]


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


def peak(load: Callable[[], object], nbytes: int) -> int:
    """What memory grows by during a load, and the model's own bytes."""
    Path("/proc/self/clear_refs").write_text("5")  # the highest mark begins anew
    before = _status("VmRSS")
    load()
    return _status("VmHWM") - before + nbytes


def _status(word: str) -> int:
    found = re.search(rf"{word}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found.group(1)) << 10 if found else 0


def _serve(name: str, path: str) -> None:
    import torch

    torch.set_num_threads(2)
    model = _model()
    load = _loader(name, path, model)
    nbytes = sum(tensor.numel() * tensor.element_size() for tensor in model.parameters())
    for line in sys.stdin:
        if line.strip() == "digest":
            with torch.no_grad():
                for tensor in model.parameters():
                    tensor.zero_()
            load()
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
