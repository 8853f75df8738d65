"""What another reader may see in a file that does not open here: pickles, wherever they begin.

A payload in front of garbage has run before its reader notices the garbage, and a zip whose directory is gone still
has its members. So the beginning of the file and every member called `….pkl` are read as far as they go. What is found
can only make a verdict worse.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator

from rehydrate.checking.examining import Examiner
from rehydrate.errors import RehydrateError
from rehydrate.formats.zip_directory import LOCAL
from rehydrate.limits import Limits
from rehydrate.storage.source import Source, Where, open_source
from rehydrate.text import shown

__all__ = ["see_what_is_there"]

_LOOKED_AT = 64 << 20
"""Bytes from the file's beginning that are looked at."""
_PICKLES = 16
"""Pickles that are looked for, one after the other and in members."""
_UNPACKED = 16 << 20
"""Bytes that a deflated member is unpacked to."""


def see_what_is_there(where: Where, examiner: Examiner, limits: Limits) -> str:
    """Examine whatever can be seen; gives the file's name."""
    if isinstance(where, (str, os.PathLike)) and os.path.isdir(where):
        return os.fspath(where)
    source = open_source(where)
    try:
        _see(source, examiner, limits)
    finally:
        source.close()
    return source.name


def _see(source: Source, examiner: Examiner, limits: Limits) -> None:
    length = min(source.size, _LOOKED_AT, limits.pickle_bytes)
    try:
        data = source.read(0, length)
    except RehydrateError:
        return
    at = 0
    for _ in range(_PICKLES):
        if at >= length:
            break
        at, broke = examiner.pickle(data, at, "")
        if broke is not None:
            break
    for name, content in _members(data):
        examiner.pickle(content, 0, name)


def _members(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The pickles among the members of a zip archive, found by their own headers."""
    at, found = data.find(b"PK\3\4"), 0
    while at >= 0 and found < _PICKLES and at + LOCAL.size <= len(data):
        _, _, method, _, packed, _, name_length, extra_length = LOCAL.unpack_from(data, at)
        name = data[at + LOCAL.size : at + LOCAL.size + name_length]
        start = at + LOCAL.size + name_length + extra_length
        if name.lower().endswith((b".pkl", b".pickle")):
            found += 1
            content = data[start : start + packed] if packed not in (0, 0xFFFFFFFF) else data[start:]
            if method == 8:
                content = _inflated(content)
            yield shown(name.decode("utf-8", "replace")), content
        at = data.find(b"PK\3\4", at + 4)


def _inflated(packed: bytes) -> bytes:
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, _UNPACKED)
    except zlib.error:
        return b""
