"""Chunks of an HDF5 dataset → its elements. Loads numpy; imported only when such a tensor's bytes are asked for.

A dataset is cut into boxes of one size, those at the edges padded; each is stored by itself after a row of filters, and
a box that is not stored is full of the fill value.

    1       deflate
    2       shuffle (element size): all first bytes of the elements, then all second ones, …; a rest stays as it is
    3       fletcher32: a checksum after the data, of big-endian 16-bit words
    32000   lzf: a control byte below 32 is followed by so many bytes and one more; else its high three bits (seven: and
            the byte that follows) and two are how many to repeat, from as far back as the other five bits and the byte
            that follows say, and one more
    mask    bit n is set where filter n was left out for this box

Source: HDF5 File Format Specification 3.0, IV.A.2.l; `H5Zshuffle.c`, `H5checksum.c`.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from rehydrate.errors import CorruptError, LimitError, RebuildError
from rehydrate.storage.source import Source
from rehydrate.text import shown, size

__all__ = ["Chunked", "elements_of"]

Array = numpy.ndarray[Any, Any]

_DEFLATE, _SHUFFLE, _FLETCHER, _LZF = 1, 2, 3, 32000
_NAMES = {4: "szip", 5: "n-bit", 6: "scale-offset", 32001: "blosc", 32004: "lz4", 32015: "zstandard"}


@dataclass(frozen=True, slots=True)
class Chunked:
    """Where a dataset's boxes lie."""

    source: Source
    name: str
    shape: tuple[int, ...]
    itemsize: int
    box: tuple[int, ...]
    """Extents of one chunk."""
    filters: tuple[tuple[int, tuple[int, ...]], ...]
    """Number and arguments of each, in the order of writing."""
    fill: bytes
    """One element that was never written; empty for zeros."""
    rows: tuple[tuple[int, ...], ...]
    """For each chunk that is stored: its place, its size, its mask, and the element that it begins with."""


def elements_of(data: Chunked, start: int, length: int) -> bytes:
    """Bytes of the elements in row-major order, as the file orders the bytes of each.

    Only chunks that touch the rows in question are read.
    """
    if not length:
        return b""
    shape = data.shape or (1,)
    width = math.prod(shape[1:]) * data.itemsize
    first, last = start // width, -(-(start + length) // width)
    room = _blank(data, (last - first, *shape[1:]))
    for at, stored, mask, *corner in data.rows:
        begin = corner[0] if corner else 0
        if begin < last and begin + data.box[0] > first:
            box = _decoded(data, data.source.read(at, stored), mask)
            inside = tuple(slice(max(first - begin, 0) if axis == 0 else 0, None) for axis in range(len(shape)))
            part = box[inside]
            target = room[(slice(max(begin - first, 0), None), *(slice(edge, None) for edge in corner[1:]))]
            fits = tuple(map(min, part.shape[:-1], target.shape[:-1]))
            where = tuple(slice(extent) for extent in fits)
            target[where] = part[where]
    return room.tobytes()[start - first * width :][:length]


def _blank(data: Chunked, shape: Sequence[int]) -> Array:
    """Elements that nobody has written, as bytes."""
    room: Array = numpy.zeros((*shape, data.itemsize), numpy.uint8)
    if any(data.fill):
        room[:] = numpy.frombuffer(data.fill, numpy.uint8)
    return room


def _decoded(data: Chunked, raw: bytes, mask: int) -> Array:
    """The elements of one box, as bytes."""
    whole = math.prod(data.box) * data.itemsize
    for number in range(len(data.filters) - 1, -1, -1):
        if not mask >> number & 1:
            raw = _undone(data, raw, *data.filters[number], most=whole)
    if len(raw) != whole:
        raise CorruptError(
            "a chunk of an HDF5 dataset is not as long as it should be",
            where=shown(data.name),
            found=f"{size(len(raw))} for {size(whole)}",
        )
    return numpy.frombuffer(raw, numpy.uint8).reshape(*data.box, data.itemsize)


def _undone(data: Chunked, raw: bytes, kind: int, arguments: tuple[int, ...], *, most: int) -> bytes:
    """What one filter was given, from what it made of it."""
    if kind == _DEFLATE:
        return _inflated(data, raw, most + 4)  # a checksum may be inside
    if kind == _LZF:
        return _repeated(data, raw, most + 4)
    if kind == _SHUFFLE:
        return _unshuffled(raw, arguments[0] if arguments else data.itemsize)
    if kind == _FLETCHER:
        return _checked(data, raw)
    raise RebuildError(
        f"this dataset is packed with {_NAMES.get(kind, f'filter {kind}')}, which rehydrate does not unpack",
        where=shown(data.name),
        hint="h5repack --filter=GZIP=4 writes a file that is packed with deflate",
    )


def _inflated(data: Chunked, raw: bytes, most: int) -> bytes:
    inflater = zlib.decompressobj()
    try:
        made = inflater.decompress(raw, most + 1)
    except zlib.error as error:
        raise CorruptError("a chunk of an HDF5 dataset cannot be inflated", where=shown(data.name)) from error
    if len(made) > most:
        raise LimitError("a chunk of an HDF5 dataset unpacks to more than it is", where=shown(data.name))
    return made


def _repeated(data: Chunked, raw: bytes, most: int) -> bytes:
    """What lzf packed."""
    made = bytearray()
    at = 0
    try:
        while at < len(raw) and len(made) <= most:
            control = raw[at]
            at += 1
            if control < 32:
                made += raw[at : at + control + 1]
                at += control + 1
                continue
            count = control >> 5
            if count == 7:
                count += raw[at]
                at += 1
            back = ((control & 31) << 8) + raw[at] + 1
            at += 1
            if back > len(made):
                raise IndexError
            run = made[-back:][: count + 2]
            made += (run * (count // len(run) + 2))[: count + 2]
    except IndexError as error:
        raise CorruptError("a chunk of an HDF5 dataset is no lzf", where=shown(data.name)) from error
    return bytes(made)


def _unshuffled(raw: bytes, width: int) -> bytes:
    if width < 2 or len(raw) < 2 * width:
        return raw
    whole = len(raw) // width * width
    return numpy.frombuffer(raw[:whole], numpy.uint8).reshape(width, -1).T.tobytes() + raw[whole:]


def _checked(data: Chunked, raw: bytes) -> bytes:
    """The data without its checksum, which must be right. Sums are compared modulo 65535, where 0 has two spellings."""
    body, expected = raw[:-4], int.from_bytes(raw[-4:], "little")
    words = numpy.frombuffer(body + b"\0" * (len(body) % 2), ">u2").astype(numpy.uint64)
    behind = numpy.arange(len(words), 0, -1, dtype=numpy.uint64) % numpy.uint64(65535)
    low, high = int(words.sum()), int((words * behind % numpy.uint64(65535)).sum())
    if len(raw) < 4 or (low - (expected & 0xFFFF)) % 65535 or (high - (expected >> 16)) % 65535:
        raise CorruptError(
            "a chunk of an HDF5 dataset does not match its checksum (fletcher32)",
            where=shown(data.name),
            hint="the file was damaged after it was written; download it again",
        )
    return body
