"""Memory for large tensors, on pages of whichever size this machine hands out faster.

A page's first touch is what a load waits for: on pages of 4 kB it costs several times what reading into them does, and
huge pages cost a tenth of that, where the system has them ready. Where it first has to make room for them they are
slower, sometimes much. So it is measured, once in a process, before the first large allocation. Nothing here reads.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch

__all__ = ["HUGE", "LARGE", "advice", "allocate", "bytes_of", "empty_tensor", "in_a_row", "measured_advice"]

LARGE = 1 << 20
"""Bytes from which memory is asked of the system directly, and a storage has a block to itself."""
HUGE = 2 << 20
"""Bytes from which memory can lie on huge pages: that is the size of one."""
_MEASURED = 16 << 20
"""Bytes from which it is worth a few milliseconds to know which pages are faster; below, huge ones are asked for."""
_SAMPLE = 4 << 20
"""Bytes that are touched to measure. A huge page begins in them at a multiple of its size."""
_TRIES = 3
_SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def allocate(nbytes: int) -> mmap.mmap | bytearray:
    """Zeroed, writable memory of our own."""
    if nbytes < LARGE:
        return bytearray(nbytes)
    if not hasattr(mmap, "MAP_PRIVATE"):  # Windows
        return mmap.mmap(-1, nbytes)
    try:
        return _advised(nbytes, _advice_for(nbytes))
    except OSError:  # a kernel without huge pages, or without the memory: then this raises the like of it
        return _advised(nbytes, None)


def empty_tensor(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """A tensor on the CPU with memory of its own, in which anything may stand."""
    nbytes = torch.Size(shape).numel() * dtype.itemsize
    if nbytes < LARGE:
        return torch.empty(shape, dtype=dtype, device="cpu")
    return torch.frombuffer(allocate(nbytes), dtype=torch.uint8).view(dtype).view(shape)


def bytes_of(tensor: torch.Tensor) -> memoryview:
    """The memory of a contiguous tensor on the CPU, to be written to; it has some, and needs no gradient."""
    flat = tensor if tensor.stride() == (1,) else in_a_row(tensor)
    numbers: Any = flat.view(torch.uint8).numpy()
    return memoryview(numbers)


def in_a_row(tensor: torch.Tensor) -> torch.Tensor:
    """A contiguous tensor as one of one dimension; what has extent one may have any stride, and `view` keeps it."""
    return tensor.detach().as_strided((tensor.numel(),), (1,))


def _advice_for(nbytes: int) -> int | None:
    if nbytes >= _MEASURED:
        return advice()
    return getattr(mmap, "MADV_HUGEPAGE", None) if nbytes >= HUGE else None


@cache
def advice() -> int | None:
    """What the system is told about large memory here: `MADV_HUGEPAGE`, `MADV_NOHUGEPAGE`, or nothing."""
    return measured_advice(_setting(), _seconds)


def measured_advice(setting: str, seconds: Callable[[int], float]) -> int | None:
    """The same, for a setting of the system's and what measures the touching of memory under an advice.

    >>> measured_advice("never", lambda advice: 0.0) is None
    True
    >>> measured_advice("madvise", {mmap.MADV_HUGEPAGE: 2.0, mmap.MADV_NOHUGEPAGE: 1.0}.get) is mmap.MADV_NOHUGEPAGE
    True
    """
    huge: int | None = getattr(mmap, "MADV_HUGEPAGE", None)
    small: int | None = getattr(mmap, "MADV_NOHUGEPAGE", None)
    if setting == "never" or huge is None or small is None:
        return None
    least = {huge: float("inf"), small: float("inf")}
    try:
        for _ in range(_TRIES):  # in turns: whatever else the machine does then meets both
            for wanted in least:
                least[wanted] = min(least[wanted], seconds(wanted))
    except OSError:  # a kernel without them
        return None
    return huge if least[huge] <= least[small] else small


def _setting() -> str:
    """The word in brackets: `always`, `madvise` or `never`."""
    try:
        words = _SETTING.read_text("ascii")
    except (OSError, ValueError):
        return "unknown"
    return words[words.find("[") + 1 : words.find("]")]


def _seconds(wanted: int) -> float:
    """How long it takes to touch each page of some fresh memory."""
    memory = _advised(_SAMPLE, wanted)
    pages = memoryview(memory)[:: mmap.PAGESIZE]
    ones = bytes(len(pages))
    started = time.perf_counter()
    pages[:] = ones
    passed = time.perf_counter() - started
    pages.release()
    memory.close()
    return passed


def _advised(nbytes: int, wanted: int | None) -> mmap.mmap:
    """Private memory: Python's default is shared, which a fork would share and huge pages leave out."""
    memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if wanted is not None:
        memory.madvise(wanted)
    return memory
