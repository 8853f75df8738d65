"""Pickles that are parts of a file: where they end, and that nothing stands behind.

One that ends where nothing but itself says is read through a window, which grows as long as the pickle does not end in
it; the first is large enough for most. Nothing behind the window is read, so that a checkpoint's index can be opened
without its gigabytes of tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from rehydrate.checkpoint.trace import Trace
from rehydrate.errors import AmbiguousError, LimitError, TruncatedError
from rehydrate.formats.facts import trace_of
from rehydrate.limits import Limits
from rehydrate.pickles.known import read_known_pickle
from rehydrate.pickles.reading import Reading
from rehydrate.storage.source import Source
from rehydrate.text import counted, shown, size

__all__ = ["check_nothing_after", "read_pickle_inside", "trace_inside"]

_GROWTH = 4
"""How much larger the next window is: a pickle that is read again costs a third more, and not the square."""


def read_pickle_inside(
    source: Source,
    at: int,
    limits: Limits,
    *,
    window: int = 4096,
    persistent: Callable[[], Callable[[object], object] | None] = lambda: None,
) -> Reading:
    """The pickle that begins at byte `at`. Its own bytes are counted from there.

    `persistent` makes what answers persistent ids, anew for each window: what the last one has made is what counts.
    Raises what reading a pickle raises, and `LimitError` for one that is longer than the limit.
    """
    rest = source.size - at
    while True:
        length = min(max(window, 1), rest, limits.pickle_bytes)
        try:
            return read_known_pickle(source.read(at, length), persistent=persistent(), limits=limits)
        except TruncatedError as error:
            if length == rest:
                raise
            if length == limits.pickle_bytes:
                raise LimitError(
                    "the pickle is too long", where=f"{shown(source.name)}, byte {at:,}", found=size(length)
                ) from error
        window = length * _GROWTH


def trace_inside(reading: Reading, at: int, where: str = "") -> Trace:
    """The trace of a pickle that begins at byte `at` of the member `where`."""
    return replace(trace_of(reading, where), start=at)


def check_nothing_after(reading: Reading, end: int, where: str) -> None:
    """`AmbiguousError` unless a pickle ends with what it lies in, which is called `where` and ends at byte `end`."""
    if reading.end != end:
        raise AmbiguousError(
            "there are bytes after the end of the pickle; other readers may read those instead",
            where=f"{where}, byte {reading.end:,}",
            found=counted(end - reading.end, "byte"),
        )
