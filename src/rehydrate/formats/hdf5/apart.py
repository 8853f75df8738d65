"""Has the index of an HDF5 file read in a process of its own, with limits. What they say is in `index`.

HDF5's index is a graph of structures that point anywhere into the file, and its readers were not written for strangers'
files: pyfive can be sent round in circles and made to allocate without end. Here that ends one small process. Nothing
is handed to it but bytes of this file, and nothing comes back but JSON, which is looked at before it is believed.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

from rehydrate.errors import CorruptError, LimitError, MissingExtraError, RebuildError
from rehydrate.storage.source import Source
from rehydrate.text import shown, size

if TYPE_CHECKING:
    import subprocess

__all__ = ["SCRIPT", "read_index"]

SCRIPT = os.path.join(os.path.dirname(__file__), "index.py")
"""What the process runs."""

_SECONDS = 5
"""Processor time, and one more for each megabyte: ten thousand datasets take two."""
_ROOM = 64 << 20
"""Memory beyond what the process has before it begins, and four times the file."""
_ANSWER = 16 << 20
"""Bytes of an answer, and twice the file: an index in JSON is about as long as in HDF5."""


def read_index(source: Source) -> list[dict[str, object]]:
    """The groups and datasets of a file.

    Raises `MissingExtraError` without pyfive, `LimitError` where reading takes more than its share, `CorruptError`
    where pyfive finds no way through.
    """
    import json
    import subprocess
    import sys

    if not sys.executable:
        raise RebuildError("there is no Python to start for reading an HDF5 file", where=shown(source.name))
    command = [sys.executable, "-P", SCRIPT]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # threads take address space
    asked = {"size": source.size, "seconds": _SECONDS + (source.size >> 20), "room": _ROOM + 4 * source.size}
    pipe = subprocess.PIPE
    # Our own script, and nothing of the file in the command.
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment)  # noqa: S603
    try:
        return [json.loads(text) for text in _said(process, source, json.dumps(asked).encode() + b"\n")]
    except (BrokenPipeError, json.JSONDecodeError) as error:  # it was ended in the middle of a word
        raise _ended(source) from error
    except KeyboardInterrupt:
        process.kill()
        raise
    finally:
        _end(process)


def _said(process: subprocess.Popen[bytes], source: Source, first: bytes) -> Iterator[bytes]:
    """Hand over the bytes that are asked for, and give on what is said of each object."""
    hears, says = process.stdin, process.stdout
    if hears is None or says is None:
        raise _ended(source)
    hears.write(first)
    hears.flush()
    handed = heard = 0
    while word := says.read(1):
        if word == b"R":
            start, length = struct.unpack("<QQ", _exactly(says, 16, source))
            handed += length
            if handed > source.size:  # it keeps what it has been given
                break
            hears.write(source.read(start, length))
            hears.flush()
            continue
        if word not in b"OE":  # what its watchdog says when it ends it
            break
        (length,) = struct.unpack("<Q", _exactly(says, 8, source))
        heard += length
        if heard > _ANSWER + 2 * source.size:
            raise LimitError("this HDF5 file has too long an index", where=shown(source.name), found=size(heard))
        text = _exactly(says, length, source)
        if word == b"E":
            _check_end(text, source)
            return
        yield text
    raise _ended(source)


def _exactly(stream: IO[bytes], length: int, source: Source) -> bytes:
    data = stream.read(length)
    if len(data) != length:
        raise _ended(source)
    return data


def _ended(source: Source) -> LimitError:
    return LimitError(
        "reading the index of this HDF5 file took more time or memory than it may, and was ended",
        where=shown(source.name),
        found=size(source.size),
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Leave no process and no pipe behind. One that asks for more meets a closed pipe, and then it ends by itself."""
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            try:
                stream.close()
            except BrokenPipeError:  # it ended first
                continue
    process.wait()


def _check_end(text: bytes, source: Source) -> None:
    """How it ended, if not well."""
    import json

    says = json.loads(text)
    if "missing" in says:
        raise MissingExtraError(
            "reading HDF5 files needs pyfive", where=shown(source.name), hint="pip install 'rehydrate[hdf5]'"
        )
    if str(says.get("error", "")).startswith("MemoryError"):
        raise _ended(source)
    if "error" in says:
        raise CorruptError(
            "the index of this HDF5 file cannot be read", where=shown(source.name), found=shown(says["error"])
        )
