"""The check before the first byte moves: what will be read can be read.

A cut file, a broken disk or a server that is gone shall show while the model is still as it was. So what is not yet in
the page cache is read once, into a buffer that is thrown away, and what is there already is only counted: by Linux
since 6.5 in no time (`cachestat`), before that page by page (`mincore`, over a mapping that nobody touches). Nothing
here knows tensors or writes any.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy

from rehydrate.errors import CorruptError, TruncatedError
from rehydrate.storage.source import THREADS, FileSource, MemorySource, Source
from rehydrate.text import shown, size

__all__ = ["Span", "available_memory", "check_readable", "check_unchanged", "is_at_hand"]

Span = tuple[Source, int, int]
"""A source that is no part of another, a first byte in it, and how many there are."""

_WINDOW = 16 << 20
"""Bytes that are looked at in one call, and read if one of them is not there."""
_GAP = 1 << 20
"""Bytes between two spans that are looked at along with them."""
_SCRATCH = 1 << 20
"""Bytes of one read whose result is thrown away: few enough to stay in the processor's cache."""
_PAGE = mmap.PAGESIZE
_CACHESTAT = 451
"""Linux's number for the call, on every processor that torch runs on; C libraries have no function for it yet."""


def check_readable(spans: Iterable[Span]) -> tuple[str, ...]:
    """Read whatever of the spans of files is not in memory; gives sentences about what could not be held there.

    Raises `TruncatedError` for a file that has become shorter, `CorruptError` for one that has changed otherwise, and
    whatever reading raises.
    """
    files: dict[FileSource, list[tuple[int, int]]] = {}
    for source, start, length in spans:
        if isinstance(source, FileSource):
            files.setdefault(source, []).append((start, start + length))
    check_unchanged(files)
    runs = {source: _merged(parts) for source, parts in files.items()}
    wanted = sum(end - start for parts in runs.values() for start, end in parts)
    room = available_memory()
    if room is not None and wanted > room:
        return (
            f"{size(wanted)} are more than this machine can hold in its memory now ({size(room)}): the files are as "
            "long as they should be, but whether all of it can be read shows only while it is read",
        )
    windows = [
        (look, start, min(_WINDOW, end - start))
        for look, parts in ((_Look(source), parts) for source, parts in runs.items())
        for first, end in parts
        if not look.holds(first, end - first)
        for start in range(first, end, _WINDOW)
    ]
    if len(windows) <= 1:
        for look, *window in windows:
            look.make_resident(*window)
        return ()
    pool = ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1))
    try:
        for _ in pool.map(lambda window: window[0].make_resident(*window[1:]), windows):
            pass
    finally:
        pool.shutdown(cancel_futures=True)
    return ()


def is_at_hand(source: Source) -> bool:
    """Whether the bytes of a source can be read a second time for little: they are in a file or in memory, as they are.

    What is computed, or comes out of somebody's stream, is read once and held.
    """
    return isinstance(source, (FileSource, MemorySource))


def available_memory() -> int | None:
    """Bytes that could be taken without anything being written out; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    except (OSError, ValueError):
        return None
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), None)


def _merged(parts: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """First bytes and ends in order, those that nearly touch as one."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(parts):
        if merged and start - merged[-1][1] <= _GAP:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def check_unchanged(sources: Iterable[Source]) -> None:
    """Raise `TruncatedError` or `CorruptError` for a file that was written to since it was opened.

    Its tensors need not lie any more where they lay then. One that took its place by name is another, and no matter.
    """
    for source in sources:
        if not isinstance(source, FileSource) or not source.has_changed:
            continue
        now, where = os.fstat(source.descriptor).st_size, shown(source.name)
        hint = "open it again once whoever writes it has finished"
        if now < source.size:
            found = f"{size(now)}; it had {size(source.size)}"
            raise TruncatedError("the file has become shorter since it was opened", where=where, found=found, hint=hint)
        raise CorruptError("the file has changed since it was opened", where=where, hint=hint)


class _Look:
    """One file, and what of it is in memory."""

    def __init__(self, source: FileSource) -> None:
        self._source = source
        self._pages: numpy.ndarray[Any, Any] | None = None
        self._may_ask = _may_ask(source)

    def holds(self, start: int, length: int) -> bool:
        """Whether the page cache has all of these bytes, as far as counting pages tells."""
        if not self._may_ask:
            return False
        first = start - start % _PAGE
        pages = -(-(start + length - first) // _PAGE)
        if _count(self._source.descriptor, first, pages * _PAGE) == pages:
            return True
        if self._pages is None and _mincore() is not None:
            self._pages = _mapping(self._source)
        return False

    def make_resident(self, start: int, length: int) -> None:
        """Read these bytes unless they are there already."""
        if self._pages is not None and self._is_resident(self._pages.ctypes.data, start, length):
            return
        scratch = memoryview(bytearray(min(_SCRATCH, length)))
        try:
            for at in range(start, start + length, _SCRATCH):
                self._source.fill([(at, scratch[: start + length - at])])
        except OSError:  # what could not be read must not count as there the next time
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(self._source.descriptor, start, length, os.POSIX_FADV_DONTNEED)
            raise

    @staticmethod
    def _is_resident(base: int, start: int, length: int) -> bool:
        """Whether every page is there, and was read without an error."""
        first = start - start % _PAGE
        count = -(-(start + length - first) // _PAGE)
        states = ctypes.create_string_buffer(count)
        answer = _mincore()(base + first, start + length - first, states)
        return answer == 0 and states.raw.count(b"\1") == count


def _count(descriptor: int, start: int, length: int) -> int:
    """How many pages of a part of a file are in the page cache; -1 where the system does not say."""
    part = (ctypes.c_uint64 * 2)(start, length)
    counts = (ctypes.c_uint64 * 5)()  # there, dirty, being written, evicted, recently evicted
    call = getattr(ctypes.CDLL(None), "syscall", None)
    if call is None or call(_CACHESTAT, descriptor, part, counts, 0) != 0:
        return -1
    return counts[0]


def _mapping(source: FileSource) -> numpy.ndarray[Any, Any] | None:
    """The file as an array that has addresses and is never looked into: a file that was cut meanwhile would end us."""
    try:
        pages = mmap.mmap(source.descriptor, source.size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
    except (OSError, ValueError):
        return None
    return numpy.frombuffer(pages, numpy.uint8)


def _may_ask(source: FileSource) -> bool:
    """Whether the system answers truthfully: of files that one may not write to, it says that all of them is there."""
    if not sys.platform.startswith("linux") or not hasattr(mmap, "MAP_PRIVATE"):
        return False
    owner = os.fstat(source.descriptor).st_uid
    return owner == os.geteuid() or os.access(f"/proc/self/fd/{source.descriptor}", os.W_OK)


@cache
def _mincore() -> Any:
    """The system's call, on Linux."""
    call = getattr(ctypes.CDLL(None), "mincore", None)
    if call is not None:
        call.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    return call
