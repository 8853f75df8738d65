"""Who loads, each in a process of its own: `python contestants.py NAME FILE` does one load for every line it reads.

`unsafe` is torch.load(weights_only=False). It runs on files that this benchmark has written itself a moment ago and on
nothing else.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["CONTESTANTS", "Worker", "touch"]

CONTESTANTS: Mapping[str, Mapping[str, str]] = {
    "rehydrate.load": {},
    "torch.load(weights_only=True)": {},
    "torch.load(weights_only=False)": {},
    "torch.load(weights_only=True), huge pages": {"THP_MEM_ALLOC_ENABLE": "1"},
}
"""Name → what its environment has more. The last is torch tuned: its allocator asks for huge pages, as ours does."""


class Worker:
    """The process of one contestant; `script` is the file that plays it."""

    def __init__(self, name: str, path: Path, *, script: str = __file__, more: Mapping[str, str] | None = None) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, script, name, os.fspath(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(CONTESTANTS[name] if more is None else more)},
        )

    def load(self) -> float:
        """Wall seconds of one load."""
        return float(self._ask("load"))

    def digest(self) -> str:
        """What it loaded, as one number: names, dtypes, shapes, bytes."""
        return self._ask("digest")

    def peak(self) -> int:
        """Bytes of memory that one load took at most, the model that it filled among them."""
        return int(self._ask("peak"))

    def close(self) -> None:
        """End the process."""
        self._process.communicate("", timeout=60)

    def _ask(self, what: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        if not answer:
            sys.exit(f"{self.name} ended before it answered")
        return answer


def _loader(name: str, path: str) -> Callable[[], Any]:
    import torch

    torch.set_num_threads(2)
    if name == "rehydrate.load":
        import rehydrate as rh

        return lambda: rh.load(path)
    safe = "weights_only=True" in name
    return lambda: torch.load(path, weights_only=safe)


def touch(nbytes: int) -> None:
    """Take memory, touch every page and give it back: the next to need it finds it with this machine already."""
    memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    page = b"\1" * mmap.PAGESIZE
    for at in range(0, nbytes - mmap.PAGESIZE, mmap.PAGESIZE):
        memory[at : at + mmap.PAGESIZE] = page
    memory.close()


def _digest(loaded: Mapping[str, Any]) -> str:
    import torch

    whole = hashlib.sha256()
    for name, tensor in loaded.items():
        whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} {tensor.stride()}".encode())
        whole.update(memoryview(tensor.contiguous().view(torch.uint8).numpy()))
    return whole.hexdigest()


def _serve(name: str, path: str) -> None:
    load = _loader(name, path)
    for line in sys.stdin:
        if line.strip() == "digest":
            answer = _digest(load())
        else:
            touch(os.path.getsize(path))
            started = time.perf_counter()
            loaded = load()
            answer = repr(time.perf_counter() - started)
            del loaded
        print(answer, flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2])
