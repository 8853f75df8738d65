"""What readers take from elsewhere, for a fuzzer that reads thousands of files a second in one process.

A checkpoint of many files lies in one folder that is written over, and the index of an HDF5 file, which in truth a
process of its own reads, is read in this one, or made up. What ends that process ends here with the same error.
"""

from __future__ import annotations

import json
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from unittest.mock import patch

import pyfive  # here, for nothing may be imported while a file is being opened

from rehydrate.errors import CorruptError, LimitError
from rehydrate.formats.hdf5 import index, reading
from rehydrate.storage.source import Source

__all__ = ["folder", "indexed_here", "told_by"]

SECONDS = 2.0
"""Processor time for one index; the process that it is for has five."""
OBJECTS = 10_000


@cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


def folder(files: Mapping[str, bytes]) -> Path:
    """A folder with exactly these files; it is the same one every time."""
    path = Path(_temporary().name)
    for old in path.iterdir():
        if old.name not in files:
            old.unlink()
    for name, content in files.items():
        (path / name).write_bytes(content)
    return path


@contextmanager
def indexed_here() -> Iterator[None]:
    """Within it, the index of an HDF5 file is read in this process."""
    with patch.object(reading, "read_index", _read_here):
        yield


@contextmanager
def told_by(lines: bytes) -> Iterator[None]:
    """Within it, the index of an HDF5 file is said to be this: an object of JSON on each line."""

    def told(source: Source) -> list[dict[str, object]]:
        try:
            said = [json.loads(line) for line in lines.decode("utf-8", "replace").splitlines()]
        except (ValueError, RecursionError) as error:
            raise CorruptError("no JSON") from error
        return [one for one in said if isinstance(one, dict)]

    with patch.object(reading, "read_index", told):
        yield


class _Spent(BaseException):
    """The seconds are used up."""


class _File:
    """A source as pyfive wants it."""

    closed = False

    def __init__(self, source: Source) -> None:
        self._source, self._at = source, 0

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._source.size)[whence]
        if self._at < 0:
            raise ValueError("a negative address")
        return self._at

    def read(self, length: int = -1) -> bytes:
        left = max(self._source.size - self._at, 0)
        data = self._source.read(self._at, left if length < 0 else min(length, left)) if left else b""
        self._at += len(data)
        return data

    def close(self) -> None:
        """The source is the checkpoint's."""


def _read_here(source: Source) -> list[dict[str, object]]:
    def stop(*_: object) -> None:
        raise _Spent

    previous = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    found = []
    try:
        # It logs its version for each dataset in chunks, and looks for that in every folder of the path.
        with patch("pyfive.h5d.version", lambda name: "of pyfive"):
            for said in index._objects(pyfive.File(_File(source))):
                found.append(json.loads(json.dumps(said)))
                if len(found) > OBJECTS:
                    raise LimitError("this HDF5 file has too long an index")
    except (MemoryError, _Spent) as error:
        raise LimitError("reading the index takes too much") from error
    except Exception as error:
        why = ascii(f"{type(error).__name__}: {error}")[:300]
        raise CorruptError("no way through the index", found=why) from error
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)
    return found
