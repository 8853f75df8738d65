"""The ways to compress that Python can undo: how each is recognised, and what undoes it.

    gzip   1f 8b 08, members one after the other, each with CRC32 and length; zeros may follow (RFC 1952)
    bzip2  "BZh" 1-9, streams one after the other, each with a CRC32 for its blocks and one for all
    xz     fd "7zXZ" 00, streams one after the other, zeros in fours between them; mostly CRC64
    lzma   5d 00 00, of before xz: length of the dictionary, length of the data or -1; no checksum
    zlib   78 and 01, 5e, 9c or da, one stream with Adler-32 (RFC 1950)

The last two have no real signature, so their first bytes must also unpack to something.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

__all__ = ["DICTIONARY", "Compression", "Unpacker", "compression_of"]

DICTIONARY = 512 << 20
"""Bytes that unpacking xz may take beside the data; `xz -9` asks for 65 MB."""

_TRIED = 64
"""Bytes that the formats without a signature must give of their beginning."""
_ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_LZMA = b"\x5d\x00\x00"


class Unpacker(Protocol):
    """What the standard library's decompressors have in common, once zlib's are made like the others."""

    @property
    def eof(self) -> bool:
        """Whether the stream has ended."""

    @property
    def unused_data(self) -> bytes:
        """What came after its end."""

    @property
    def needs_input(self) -> bool:
        """Whether there is nothing to unpack before more is handed in."""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Hand in more, and get at most so many bytes."""


class _Inflater:
    """zlib's decompressor with the manners of the others: it keeps what it has not got to yet."""

    def __init__(self, window: int) -> None:
        self._inflater = zlib.decompressobj(window)

    @property
    def eof(self) -> bool:
        return self._inflater.eof

    @property
    def unused_data(self) -> bytes:
        return self._inflater.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._inflater.eof and not self._inflater.unconsumed_tail

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inflater.decompress(self._inflater.unconsumed_tail + data, max_length)


@dataclass(frozen=True, slots=True)
class Compression:
    """One way to compress."""

    name: str
    suffixes: tuple[str, ...]
    unpacker: Callable[[], Unpacker]
    knows: Callable[[bytes], bool]
    has_streams: bool = True
    """Whether several streams one after the other are one file."""
    padding: int = 0
    """Zeros may stand after a stream, so many at a time; none if 0."""


def _begins(signature: bytes, first: bytes) -> bool:
    return first.startswith(signature)


def _unpacks(unpacker: Callable[[], Unpacker], first: bytes) -> bool:
    """Whether the beginning of a file unpacks to something."""
    try:
        tried = unpacker()
        return bool(tried.decompress(first, _TRIED))
    except (zlib.error, lzma.LZMAError, EOFError, MemoryError):
        return False


_gzip = partial(_Inflater, 31)
_zlib = partial(_Inflater, 15)
_xz = partial(lzma.LZMADecompressor, lzma.FORMAT_XZ, DICTIONARY)
_lzma = partial(lzma.LZMADecompressor, lzma.FORMAT_ALONE, DICTIONARY)


def _knows_bzip2(first: bytes) -> bool:
    return first[:3] == b"BZh" and first[3:4] in (b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8", b"9")


def _knows_zlib(first: bytes) -> bool:
    return first[:2] in _ZLIB and _unpacks(_zlib, first)


def _knows_lzma(first: bytes) -> bool:
    return first[:3] == _LZMA and _unpacks(_lzma, first)


COMPRESSIONS = (
    Compression("gzip", (".gz", ".gzip", ".tgz"), _gzip, partial(_begins, b"\x1f\x8b"), padding=1),
    Compression("bzip2", (".bz2", ".tbz2"), bz2.BZ2Decompressor, _knows_bzip2),
    Compression("xz", (".xz", ".txz"), _xz, partial(_begins, b"\xfd7zXZ\0"), padding=4),
    Compression("lzma", (".lzma",), _lzma, _knows_lzma, has_streams=False),
    Compression("zlib", (".zlib", ".zz", ".z"), _zlib, _knows_zlib, has_streams=False),
)


def compression_of(first: bytes) -> Compression | None:
    """How a file is compressed that begins with these bytes, or None."""
    return next((compression for compression in COMPRESSIONS if compression.knows(first)), None)
