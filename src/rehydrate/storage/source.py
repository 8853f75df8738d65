"""Sources: bytes readable at any offset, by many threads at once.

A source never interprets what it reads and never writes. It hands out exactly what was asked for or raises
`TruncatedError`; it never returns fewer bytes than were asked. Files are read with `pread`, not mapped: a file that
shrinks while it is read is then an error and not a signal that kills the process. (`placing.moving.mapped` maps a file
that it knows to be local, through the descriptor that is open here.) Where a system has no `pread` (Windows), threads
take turns at the file's one position.
"""

from __future__ import annotations

import os
import stat
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from errno import EMFILE
from io import SEEK_END
from typing import BinaryIO, Protocol

from rehydrate.errors import ClosedError, MissingFileError, NotACheckpointError, TruncatedError
from rehydrate.text import shown, size

__all__ = ["FileSource", "MemorySource", "Source", "StreamSource", "Where", "check_range", "open_source"]

Where = str | bytes | bytearray | memoryview | os.PathLike[str] | BinaryIO
"""What can be opened: a path, the bytes themselves, or a seekable binary file."""

CHUNK = 8 << 20
"""Bytes of one read. Larger reads gain nothing, and chunks are what the threads share out."""
THREADS = 4
"""Readers at once. Two already reach the memory's speed when warm; four keep a cold disk's queue filled."""

_ALONG = 4096
"""Bytes between two that are wanted which are read along: that costs less than another call."""
_ASIDE = memoryview(bytearray(_ALONG))
"""Where they go."""
_VIEWS = 1000
"""Views that one call fills; systems take 1,024."""


class Source(Protocol):
    """Bytes that can be read at any offset, by many threads at once."""

    @property
    def name(self) -> str:
        """What people call it: the path as it was given, or `<bytes>`."""

    @property
    def size(self) -> int:
        """How many bytes there are."""

    def read(self, start: int, length: int) -> bytes:
        """Exactly `length` bytes from `start`, or `TruncatedError`."""

    def fill(self, jobs: Sequence[tuple[int, memoryview]]) -> None:
        """Read into memory that the caller owns: for each job, from that offset, as many bytes as the view has."""

    def close(self) -> None:
        """Give the file back. Reading afterwards raises `ClosedError`."""


class MemorySource:
    """Bytes that are already in memory.

    >>> MemorySource(b"hello").read(1, 3)
    b'ell'
    """

    def __init__(self, data: bytes | bytearray | memoryview, name: str = "<bytes>") -> None:
        self.name = name
        # A copy of anything that could still be changed: what was checked must be what is used.
        self._data = data if isinstance(data, bytes) else bytes(data)
        self.size = len(self._data)

    def read(self, start: int, length: int) -> bytes:
        """Exactly `length` bytes from `start`."""
        check_range(self, start, length)
        return self._data[start : start + length]

    def fill(self, jobs: Sequence[tuple[int, memoryview]]) -> None:
        """Copy into the views of the jobs."""
        whole = memoryview(self._data)
        for start, view in jobs:
            check_range(self, start, len(view))
            view[:] = whole[start : start + len(view)]

    def close(self) -> None:
        """Nothing to give back: the bytes are somebody's."""


class FileSource:
    """A regular file, read with `pread`; many threads may read at once."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.name = os.fspath(path)
        self._descriptor = _open_file(self.name)
        self._closer = weakref.finalize(self, os.close, self._descriptor)
        self._turn = threading.Lock()
        self._opened = os.fstat(self._descriptor)
        self.size = self._opened.st_size

    @property
    def descriptor(self) -> int:
        """The open file, for those who ask the system about it. Raises `ClosedError` when there is none any more."""
        self._check_open()
        return self._descriptor

    @property
    def has_changed(self) -> bool:
        """Whether somebody has written to the file, or cut it, since it was opened. One that replaced it is another."""
        now = os.fstat(self.descriptor)
        return (now.st_size, now.st_mtime_ns) != (self._opened.st_size, self._opened.st_mtime_ns)

    def read(self, start: int, length: int) -> bytes:
        """Exactly `length` bytes from `start`."""
        check_range(self, start, length)
        self._check_open()
        data = os.pread(self._descriptor, length, start) if hasattr(os, "pread") else b""
        if len(data) == length:
            return data
        buffer = bytearray(length)  # a very long read may be cut by the kernel, and a file may shrink
        buffer[: len(data)] = data
        self._read_into(start + len(data), memoryview(buffer)[len(data) :])
        return bytes(buffer)

    def fill(self, jobs: Sequence[tuple[int, memoryview]]) -> None:
        """Read into the views of the jobs, in chunks that threads share out; neighbours in one call."""
        self._check_open()
        chunks = list(_chunks([(start, view.cast("B")) for start, view in jobs]))
        for start, views in chunks:
            check_range(self, start, sum(map(len, views)))
        if len(chunks) == 1:
            self._read_run(*chunks[0])
            return
        pool = ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1))
        try:
            for _ in pool.map(lambda chunk: self._read_run(*chunk), chunks):
                pass
        finally:  # nobody writes into the views any more when this returns, and what failed is not carried on with
            pool.shutdown(cancel_futures=True)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._closer()

    def _check_open(self) -> None:
        if not self._closer.alive:
            raise ClosedError(
                "this checkpoint has been closed",
                where=shown(self.name),
                hint="read tensors inside the `with rh.open(...)` block, or open it again",
            )

    def _read_run(self, start: int, views: list[memoryview]) -> None:
        """Fill the views, one after the other, with the bytes from `start`."""
        whole = sum(map(len, views))
        read = os.preadv(self._descriptor, views, start) if len(views) > 1 and hasattr(os, "preadv") else 0
        if read == whole:
            return
        for view in views:  # whatever was cut, or cannot be read in one call, is read again
            self._read_into(start, view)
            start += len(view)

    def _read_into(self, start: int, view: memoryview) -> None:
        """Fill the view with the bytes from `start`."""
        while view:
            count = self._read_some(start, view)
            if count == 0:
                raise TruncatedError(
                    "the file became shorter while it was being read",
                    where=f"{shown(self.name)}, byte {start:,}",
                    found=f"{size(os.fstat(self._descriptor).st_size)}; it had {size(self.size)}",
                    hint="open it again once whoever writes it has finished",
                )
            view = view[count:]
            start += count

    def _read_some(self, start: int, view: memoryview) -> int:
        """Fill the beginning of the view, and say how much of it."""
        if hasattr(os, "preadv"):
            return os.preadv(self._descriptor, [view], start)
        with self._turn:
            os.lseek(self._descriptor, start, os.SEEK_SET)
            data = os.read(self._descriptor, min(len(view), CHUNK))
        view[: len(data)] = data
        return len(data)


class StreamSource:
    """A seekable binary file object, read under a lock from its very beginning."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self.name = str(getattr(stream, "name", "<file>"))
        self.size = stream.seek(0, SEEK_END)

    def read(self, start: int, length: int) -> bytes:
        """Exactly `length` bytes from `start`."""
        check_range(self, start, length)
        pieces: list[bytes] = []
        with self._lock:
            self._stream.seek(start)
            while length:
                piece = self._stream.read(length)
                if not piece:
                    raise TruncatedError("the stream ended early", where=shown(self.name))
                pieces.append(piece)
                length -= len(piece)
        return b"".join(pieces)

    def fill(self, jobs: Sequence[tuple[int, memoryview]]) -> None:
        """Read into the views of the jobs, one after the other."""
        for start, view in jobs:
            for at in range(0, len(view), CHUNK):
                part = view[at : at + CHUNK]
                part[:] = self.read(start + at, len(part))

    def close(self) -> None:
        """The stream is the caller's, who closes it."""


def _chunks(jobs: Iterable[tuple[int, memoryview]]) -> Iterator[tuple[int, list[memoryview]]]:
    """What is read by one call each: a part of a long job, or many short ones with what lies between them."""
    first, end, views = 0, 0, list[memoryview]()
    for start, view in jobs:
        length = len(view)
        if length > CHUNK:
            yield from ((start + at, [view[at : at + CHUNK]]) for at in range(0, length, CHUNK))
            continue
        gap = start - end
        if not views or not 0 <= gap <= _ALONG or start + length - first > CHUNK or len(views) > _VIEWS:
            if views:
                yield first, views
            first, views = start, []
        elif gap:
            views.append(_ASIDE[:gap])
        views.append(view)
        end = start + length
    if views:
        yield first, views


def open_source(where: Where) -> Source:
    """The source behind whatever a caller calls a file.

    Raises `MissingFileError` when there is none, `NotACheckpointError` for a folder or a device, `TypeError` for
    something that is no file at all.
    """
    if isinstance(where, (bytes, bytearray, memoryview)):
        return MemorySource(where)
    if isinstance(where, (str, os.PathLike)):
        return FileSource(where)
    if hasattr(where, "read") and hasattr(where, "seek"):
        return StreamSource(where)
    raise TypeError(f"expected a path, bytes or a seekable binary file, got {type(where).__name__}")


def _open_file(path: str) -> int:
    try:
        # O_NONBLOCK: opening a named pipe that nobody writes to must not wait for ever.
        flags = [getattr(os, name, 0) for name in ("O_CLOEXEC", "O_NONBLOCK", "O_BINARY")]  # as far as there are any
        descriptor = os.open(path, os.O_RDONLY | sum(flags))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingFileError("there is no such file", where=shown(path)) from error
    except OSError as error:
        hint = "allow more: ulimit -n 8192, and start Python again" if error.errno == EMFILE else ""
        raise NotACheckpointError(f"cannot be opened: {error.strerror}", where=shown(path), hint=hint) from error
    except ValueError as error:  # a NUL byte in the name
        raise MissingFileError("no file can have this name", where=shown(path)) from error
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISREG(kind):
        return descriptor
    os.close(descriptor)
    what = "a folder" if stat.S_ISDIR(kind) else "a pipe" if stat.S_ISFIFO(kind) else "a device"
    hint = "" if stat.S_ISDIR(kind) else "write what comes out of it to a file, and open that"
    raise NotACheckpointError(f"this is {what}, not a checkpoint file", where=shown(path), hint=hint)


def check_range(source: Source, start: int, length: int) -> None:
    """`TruncatedError` unless these bytes lie in the source."""
    if start < 0 or length < 0 or start + length > source.size:
        raise TruncatedError(
            f"the file ends early: bytes {start:,} to {start + length:,} were wanted",
            where=shown(source.name),
            found=size(source.size),
            hint="download it again",
        )
