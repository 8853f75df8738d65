"""A race: contestants, each in a process of its own, that load the same in turn.

A process is a script that is given a name and a file; it ends in `serve`, which answers the lines that it reads. What
contestants loaded is compared before any figure counts.
"""

from __future__ import annotations

import mmap
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from report import Row

__all__ = ["SETTINGS", "Worker", "peak", "raced", "serve"]

SETTINGS: Mapping[str, Mapping[str, str]] = {"": {}, "; torch on huge pages": {"THP_MEM_ALLOC_ENABLE": "1"}}
"""What a title says more → what the environment has more: torch as it comes, and torch tuned."""


class Worker:
    """The process of one contestant; `script` is the file that plays it, `more` what its environment has more."""

    def __init__(self, name: str, path: Path, script: str, more: Mapping[str, str]) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, script, name, os.fspath(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **more},
        )

    def load(self) -> float:
        """Wall seconds of one load."""
        return float(self._ask("load"))

    def digest(self) -> str:
        """What it loaded, as one number."""
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


def raced(workers: Sequence[Worker], rounds: int, *, what: str, nbytes: int | None = None) -> list[Row]:
    """The times of each, in turn, the order turned round every time; with their peaks as multiples of `nbytes`.

    Exits when two of them loaded different things. Ends their processes.
    """
    try:
        digests = {worker.name: worker.digest() for worker in workers}  # warms both the file and the processes, too
        if len(set(digests.values())) != 1:
            sys.exit(f"{what}: the contestants loaded different things: {digests}")
        peaks = {worker.name: None if nbytes is None else worker.peak() / nbytes for worker in workers}
        times: dict[str, list[float]] = {worker.name: [] for worker in workers}
        for number in range(rounds):
            for worker in workers if number % 2 == 0 else reversed(workers):
                times[worker.name].append(worker.load())
    finally:
        for worker in workers:
            worker.close()
    return [Row(name, tuple(seconds), peaks[name]) for name, seconds in times.items()]


def serve(
    load: Callable[[], object], digest: Callable[[], str], *, touched: int, peak: Callable[[], int] | None = None
) -> None:
    """Answer for a contestant. Before each load that is timed, so many bytes of memory are touched and given back."""
    for line in sys.stdin:
        if line.strip() == "digest":
            answer = digest()
        elif line.strip() == "peak" and peak is not None:
            answer = str(peak())
        else:
            _touch(touched)
            started = time.perf_counter()
            loaded = load()
            answer = repr(time.perf_counter() - started)
            del loaded
        print(answer, flush=True)


def peak(load: Callable[[], object], nbytes: int) -> int:
    """What memory grows by during a load, and `nbytes` that the loaded takes already."""
    Path("/proc/self/clear_refs").write_text("5")  # the highest mark begins anew
    before = _status("VmRSS")
    load()
    return _status("VmHWM") - before + nbytes


def _status(word: str) -> int:
    found = re.search(rf"{word}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found.group(1)) << 10 if found else 0


def _touch(nbytes: int) -> None:
    """Take memory, touch every page and give it back: the next to need it finds it with this machine already."""
    memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    page = b"\1" * mmap.PAGESIZE
    for at in range(0, nbytes - mmap.PAGESIZE, mmap.PAGESIZE):
        memory[at : at + mmap.PAGESIZE] = page
    memory.close()
