"""The MNIST digits, from the four IDX files that everybody has.

An IDX file, all numbers big-endian:

    bytes 0-1   0
    byte  2     the type of an element; 8 is an unsigned byte, the only one here
    byte  3     how many dimensions: 3 for pictures, 1 for labels
    bytes 4-    one 32-bit extent a dimension
    then        the elements, the last dimension fastest, and nothing after them

gzipped or not, told by content. A file is held to what it promises, and inflated no further than that.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rehydrate.errors import CorruptError, LimitError, MissingFileError, TruncatedError
from rehydrate.storage.source import open_source
from rehydrate.text import counted, dimensions, shown, size

__all__ = ["MOST_DIGITS", "Part", "read_digits", "read_idx"]

Part = Literal["train", "test"]
Bytes = NDArray[np.uint8]

MOST_DIGITS = 500_000
"""Digits in one file. The largest set of this layout that people use, EMNIST's, has 280,000; more is a bomb."""

_STEMS = {"train": "train", "test": "t10k"}
_SPELLINGS = ("{stem}-{what}-idx{rank}-ubyte", "{stem}-{what}.idx{rank}-ubyte")
"""As they were published, and as several archives unpack them; each with or without `.gz`."""
_SIDE = 28
_UNSIGNED_BYTE = 8
_GZIP = b"\x1f\x8b"
_PIECE = 16 << 10
"""Bytes inflated at a time; they become 16 MB at most."""


def read_digits(folder: str | os.PathLike[str], part: Part) -> tuple[Bytes, Bytes]:
    """The digits in `folder` to learn from (`train`) or to be tested on (`test`).

    Gives pictures, uint8 `[N, 28, 28]`, 0 for paper and 255 for ink, and labels, uint8 `[N]`, 0 to 9. Raises
    `MissingFileError`, `TruncatedError`, `CorruptError` (also when the two files do not belong together) and
    `LimitError`.
    """
    if part not in _STEMS:
        raise ValueError(f"the parts are called 'train' and 'test', not {shown(repr(part))}")
    where = os.fspath(folder)
    hint = f"rehydrate fetch mnist --data {shown(where)}"
    pictures_file = _found(where, _STEMS[part], "images", 3, hint)
    labels_file = _found(where, _STEMS[part], "labels", 1, hint)
    pictures = read_idx(pictures_file, rank=3, hint=hint)
    labels = read_idx(labels_file, rank=1, hint=hint)
    if pictures.shape[1:] != (_SIDE, _SIDE):
        raise CorruptError(
            f"the pictures are {pictures.shape[1]:,} by {pictures.shape[2]:,} and not {_SIDE} by {_SIDE}",
            where=shown(pictures_file),
            hint=hint,
        )
    if len(pictures) != len(labels):
        raise CorruptError(
            "the pictures and the labels do not belong together",
            where=f"{shown(pictures_file)}\n{shown(labels_file)}",
            found=f"{counted(len(pictures), 'picture')}, {counted(len(labels), 'label')}",
            hint=hint,
        )
    if labels.max() > 9:
        raise CorruptError("a label is not a digit", where=shown(labels_file), found=str(labels.max()), hint=hint)
    return pictures, labels


def read_idx(path: str, *, rank: int, hint: str = "") -> Bytes:
    """One IDX file of unsigned bytes with `rank` dimensions, as an array of its own."""
    source = open_source(path)
    try:
        data = source.read(0, min(source.size, _largest(rank)))
        pieces = _inflated(data, path, hint) if data[:2] == _GZIP else iter([data])
        return _parsed(pieces, rank, path, hint)
    finally:
        source.close()


def _found(folder: str, stem: str, what: str, rank: int, hint: str) -> str:
    """The file of that name in either spelling, gzipped or not."""
    names = [spelling.format(stem=stem, what=what, rank=rank) for spelling in _SPELLINGS]
    for name in (*names, *(f"{name}.gz" for name in names)):
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            return path
    there = "the folder is there, the file is not" if os.path.isdir(folder) else "there is no such folder"
    raise MissingFileError(f"the digits need {names[0]}.gz", where=shown(folder), found=there, hint=hint)


def _largest(rank: int) -> int:
    """Bytes that are read of a file at most: one more than its largest content, so that too much is seen."""
    return 4 + 4 * rank + MOST_DIGITS * (_SIDE * _SIDE if rank > 1 else 1) + 1


def _inflated(data: bytes, path: str, hint: str) -> Iterator[bytes]:
    """What is gzipped in `data`, in pieces; several members may follow each other."""
    at = 0
    try:
        while data[at : at + 2] == _GZIP:
            member = zlib.decompressobj(wbits=31)
            while not member.eof:
                piece = data[at : at + _PIECE]
                if not piece:
                    raise TruncatedError("the gzipped file ends early", where=shown(path), hint=hint)
                yield member.decompress(piece)
                at += len(piece) - len(member.unused_data)
    except zlib.error as error:
        raise CorruptError("the gzipped data is broken", where=shown(path), found=str(error), hint=hint) from error


def _parsed(pieces: Iterator[bytes], rank: int, path: str, hint: str) -> Bytes:
    """The array that the pieces spell out, taken in no further than its own header promises."""
    content = bytearray()
    start = 4 + 4 * rank
    _take(pieces, content, start)
    _check_magic(content, rank, path, hint)
    if len(content) < start:
        raise TruncatedError("the file ends inside its header", where=shown(path), found=size(len(content)), hint=hint)
    shape = tuple(int(extent) for extent in np.frombuffer(content, ">u4", rank, 4))
    if shape[0] > MOST_DIGITS or prod(shape[1:]) > _SIDE * _SIDE:
        raise LimitError(
            f"more than {MOST_DIGITS:,} digits of {_SIDE} by {_SIDE}", where=shown(path), found=dimensions(shape)
        )
    end = start + prod(shape)
    _take(pieces, content, end + 1)
    if len(content) < end:
        raise TruncatedError(
            f"the file ends {size(end - len(content))} early",
            where=shown(path),
            found=f"{size(len(content) - start)} of {dimensions(shape)}",
            hint=hint,
        )
    if len(content) > end or end == start:
        what = "there is more after the last element" if len(content) > end else "the file holds no digit"
        raise CorruptError(what, where=shown(path), found=dimensions(shape), hint=hint)
    return np.frombuffer(content, np.uint8, end - start, start).reshape(shape)


def _take(pieces: Iterator[bytes], content: bytearray, wanted: int) -> None:
    """Append pieces until there are `wanted` bytes, or no more."""
    while len(content) < wanted:
        piece = next(pieces, None)
        if piece is None:
            return
        content += piece


def _check_magic(content: bytearray, rank: int, path: str, hint: str) -> None:
    magic = bytes(content[:4])
    if magic == bytes([0, 0, _UNSIGNED_BYTE, rank]):
        return
    if len(magic) == 4 and magic[:2] == b"\0\0" and magic[2] == _UNSIGNED_BYTE:
        what = f"expected {'pictures' if rank == 3 else 'labels'}, and this has {counted(magic[3], 'dimension')}"
    else:
        what = "this is not an IDX file of unsigned bytes" if len(magic) == 4 else "the file ends inside its header"
    kind = CorruptError if len(magic) == 4 else TruncatedError
    raise kind(what, where=shown(path), found=f"first bytes {magic.hex(' ') or 'none'}", hint=hint)
