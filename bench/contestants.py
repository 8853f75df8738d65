"""A file is opened and loaded: by us, and by torch in three ways.

torch.load(weights_only=False) runs whatever a file says. Here it is given files that this benchmark has written itself
a moment ago, and nothing else.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from race import Worker, raced, serve
from report import Row
from workloads import Workload

__all__ = ["measure_opening"]

CONTESTANTS: Mapping[str, Mapping[str, str]] = {
    "rehydrate.load": {},
    "torch.load(weights_only=True)": {},
    "torch.load(weights_only=False)": {},
    "torch.load(weights_only=True), huge pages": {"THP_MEM_ALLOC_ENABLE": "1"},
}
"""Name → what its environment has more. The last is torch tuned: its allocator asks for huge pages, as ours does."""


def measure_opening(workload: Workload, path: Path, rounds: int) -> tuple[str, list[Row]]:
    """Each contestant's times on one file."""
    workload.write(path)
    workers = [Worker(name, path, __file__, more) for name, more in CONTESTANTS.items()]
    rows = raced(workers, rounds, what=workload.name)
    path.unlink()
    return workload.name, rows


def _loader(name: str, path: str) -> Callable[[], Any]:
    import torch

    torch.set_num_threads(2)
    if name == "rehydrate.load":
        import rehydrate as rh

        return lambda: rh.load(path)
    safe = "weights_only=True" in name
    return lambda: torch.load(path, weights_only=safe)


def _digest(loaded: Mapping[str, Any]) -> str:
    import torch

    whole = hashlib.sha256()
    for name, tensor in loaded.items():
        whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} {tensor.stride()}".encode())
        whole.update(memoryview(tensor.contiguous().view(torch.uint8).numpy()))
    return whole.hexdigest()


def _serve(name: str, path: str) -> None:
    load = _loader(name, path)
    serve(load, lambda: _digest(load()), touched=os.path.getsize(path))


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2])
