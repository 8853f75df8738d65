"""Sources over other sources: a part of one, bytes that are computed when they are wanted, and several as one.

None of them holds bytes of its own. What is computed is computed again each time it is read and then forgotten, so
that a file of compressed tensors takes no more memory than the tensor that somebody asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from rehydrate.errors import CorruptError, TruncatedError
from rehydrate.storage.source import Source, check_range
from rehydrate.text import shown, size

__all__ = ["ComputedSource", "PartSource", "SourceSet", "origin"]

Buffer = bytes | bytearray | memoryview


class PartSource:
    """A run of another source's bytes: a file inside an archive. Closing it closes that one.

    >>> from rehydrate.storage.source import MemorySource
    >>> PartSource(MemorySource(b"hello"), 1, 3, "inner").read(1, 2)
    b'll'
    """

    def __init__(self, source: Source, start: int, length: int, name: str) -> None:
        if start < 0 or length < 0 or start + length > source.size:
            raise TruncatedError(
                "a file inside this one reaches beyond its end", where=shown(name), found=size(source.size)
            )
        self.name = name
        self.size = length
        self.within = source
        """The source that it is a part of."""
        self.begin = start
        """Its first byte there."""

    def read(self, start: int, length: int) -> bytes:
        """Exactly `length` bytes from `start`."""
        check_range(self, start, length)
        return self.within.read(self.begin + start, length)

    def fill(self, jobs: Sequence[tuple[int, memoryview]]) -> None:
        """Read into the views of the jobs."""
        for start, view in jobs:
            check_range(self, start, view.nbytes)
        self.within.fill([(self.begin + start, view) for start, view in jobs])

    def close(self) -> None:
        """Close the source that it is a part of."""
        self.within.close()


def origin(source: Source, start: int) -> tuple[Source, int]:
    """Where the byte at `start` really lies: in what a part is a part of, so that neighbours are seen to be that.

    >>> from rehydrate.storage.source import MemorySource
    >>> whole = MemorySource(b"hello")
    >>> origin(PartSource(PartSource(whole, 1, 4, "inner"), 1, 2, "innermost"), 1) == (whole, 3)
    True
    """
    while isinstance(source, PartSource):
        start += source.begin
        source = source.within
    return source, start


class ComputedSource:
    """Bytes that are made when they are asked for: inflated, dequantised, put together from boxes.

    `compute(start, length)` gives exactly these bytes. It must be pure: two threads may call it at once. What it reads
    lies in another source, which this one does not close.
    """

    def __init__(self, length: int, compute: Callable[[int, int], Buffer], name: str) -> None:
        self.name = name
        self.size = length
        self._compute = compute

    def read(self, start: int, length: int) -> bytes:
        """Exactly `length` bytes from `start`."""
        return bytes(self._made(start, length))

    def fill(self, jobs: Sequence[tuple[int, memoryview]]) -> None:
        """Make the bytes of each job and copy them into its view."""
        for start, view in jobs:
            flat = view.cast("B")
            flat[:] = self._made(start, len(flat))

    def close(self) -> None:
        """There is nothing to give back."""

    def _made(self, start: int, length: int) -> memoryview:
        check_range(self, start, length)
        made = memoryview(self._compute(start, length)).cast("B")
        if len(made) != length:
            raise CorruptError(
                "a tensor's bytes are not as many as the file says",
                where=shown(self.name),
                found=f"{len(made):,} bytes for {length:,}",
            )
        return made


class SourceSet:
    """Several files that are one checkpoint. It is named and closed as one; reading goes to each file itself."""

    def __init__(self, sources: Iterable[Source], name: str) -> None:
        self.name = name
        self.sources = tuple(sources)
        self.size = sum(source.size for source in self.sources)

    def read(self, start: int, length: int) -> bytes:
        """The files one after the other, in their order; nothing of ours reads a set so."""
        check_range(self, start, length)
        pieces: list[bytes] = []
        for source in self.sources:
            if length and start < source.size:
                pieces.append(source.read(start, min(length, source.size - start)))
                length -= len(pieces[-1])
            start = max(start - source.size, 0)
        return b"".join(pieces)

    def fill(self, jobs: Sequence[tuple[int, memoryview]]) -> None:
        """Read into the views of the jobs."""
        for start, view in jobs:
            flat = view.cast("B")
            flat[:] = self.read(start, len(flat))

    def close(self) -> None:
        """Close every file."""
        for source in self.sources:
            source.close()
