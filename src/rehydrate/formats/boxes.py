"""Boxes: a tensor that several ranks wrote, each the part of it that it held, as one run of bytes again.

A box is an offset and an extent along each dimension. Boxes that are runs of the whole, as those that are cut along the
first dimension are, become pieces and are read where they lie; others are put together when bytes are wanted. That the
boxes are the whole, with no hole and no overlap, is proved from their corners before anything is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import product
from math import prod
from operator import itemgetter
from typing import NamedTuple

from rehydrate.checkpoint.tensor import Piece, TensorRef, row_major
from rehydrate.errors import CorruptError, LimitError
from rehydrate.storage.views import ComputedSource
from rehydrate.text import counted, dimensions

__all__ = ["Box", "check_cover", "pieces_of_boxes"]

_MOST_CUT = 5
"""Dimensions along which a tensor is cut; two are usual, and work doubles with each."""

Extents = tuple[int, ...]


class Box(NamedTuple):
    """Where a part lies in the whole, in elements along each dimension."""

    offsets: Extents
    sizes: Extents


def check_cover(size: Extents, boxes: Iterable[Box], where: str) -> None:
    """`CorruptError` unless every element of a tensor of this size lies in exactly one of the boxes.

    >>> check_cover((2, 3), [Box((0, 0), (2, 1)), Box((0, 1), (2, 2))], "w")
    >>> check_cover((2, 3), [Box((0, 0), (2, 1))], "w")
    Traceback (most recent call last):
    rehydrate.errors.CorruptError: the parts of a tensor leave a hole, or overlap
      where  w
      found  1 part of [2, 3]
    """
    parts = list(boxes)
    for box in parts:
        if (
            len(box.offsets) != len(size)
            or len(box.sizes) != len(size)
            or any(offset + extent > whole for offset, extent, whole in zip(*box, size, strict=True))
        ):
            raise CorruptError(
                "a part of a tensor lies outside it",
                where=where,
                found=f"{dimensions(box.sizes)} at {dimensions(box.offsets)} of {dimensions(size)}",
            )
    cut = [axis for axis, whole in enumerate(size) if any(box.sizes[axis] != whole for box in parts)]
    if len(cut) > _MOST_CUT:
        raise LimitError(
            f"a tensor is cut along more than {counted(_MOST_CUT, 'dimension')}", where=where, found=dimensions(size)
        )
    # As a function on the grid, a box is the sum of its corners, each with a sign; so is the whole. Boxes that add up
    # to the whole have the corners of the whole left, and no others do.
    corners: Counter[Extents] = Counter()
    for box, sign in [*((part, 1) for part in parts if prod(part.sizes)), (Box((0,) * len(size), size), -1)]:
        ends = [(box.offsets[axis], box.offsets[axis] + box.sizes[axis]) for axis in cut]
        for upper in product((0, 1), repeat=len(cut)):
            corners[tuple(map(_chosen, ends, upper))] += -sign if sum(upper) % 2 else sign
    if prod(size) and any(corners.values()):
        raise CorruptError(
            "the parts of a tensor leave a hole, or overlap",
            where=where,
            found=f"{counted(len(parts), 'part')} of {dimensions(size)}",
        )


def _chosen(ends: tuple[int, int], upper: int) -> int:
    return ends[upper]


def pieces_of_boxes(size: Extents, parts: Iterable[tuple[Box, TensorRef]], name: str) -> tuple[Piece, ...]:
    """The pieces of a row-major tensor of this size, from references to its parts; the boxes cover it."""
    placed = [(_start_of_run(size, box), box, ref) for box, ref in parts if ref.numel]
    runs = sorted([(start, ref) for start, _, ref in placed if start is not None], key=itemgetter(0))
    if len(runs) == len(placed):
        return tuple(piece for start, ref in runs for piece in _pieces_of_run(ref, start * ref.dtype.itemsize, name))
    full = tuple((box, ref) for _, box, ref in placed)
    length = prod(size) * full[0][1].dtype.itemsize
    return (Piece(ComputedSource(length, partial(_assembled, size, full), name), 0, length),)


def _start_of_run(size: Extents, box: Box) -> int | None:
    """The first element of a box whose elements lie side by side in the whole; None where they do not."""
    axis = len(size) - 1
    while axis >= 0 and box.sizes[axis] == size[axis]:
        axis -= 1
    if any(extent != 1 for extent in box.sizes[: max(axis, 0)]):
        return None
    return sum(offset * stride for offset, stride in zip(box.offsets, row_major(size), strict=True))


def _pieces_of_run(ref: TensorRef, at: int, name: str) -> tuple[Piece, ...]:
    """Where the elements of one part lie, row-major, as the bytes of the whole from `at` on."""
    pieces = ref.pieces
    if not ref.window.is_row_major or any(piece.coding != "raw" for piece in pieces):
        return (Piece(ComputedSource(ref.nbytes, partial(_rewritten, ref), name), 0, ref.nbytes, at),)
    begin = ref.offset * ref.dtype.itemsize
    end = begin + ref.nbytes
    found: list[Piece] = []
    for source, start, length, here, _ in pieces:
        low, high = max(begin, here), min(end, here + length)
        if low < high:
            found.append(Piece(source, start + low - here, high - low, at + low - begin))
    if sum(piece.length for piece in found) != ref.nbytes:
        raise CorruptError("a part of a tensor has no data", where=name)
    return tuple(found)


def _rewritten(ref: TensorRef, start: int, length: int) -> bytes:
    """Some bytes of the elements in row-major order."""
    from rehydrate.checkpoint.arrays import read_elements

    return read_elements(ref).tobytes()[start : start + length]


def _assembled(size: Extents, parts: Sequence[tuple[Box, TensorRef]], start: int, length: int) -> memoryview:
    """Some bytes of the whole: the rows that they lie in are put together from what each part has of them."""
    import numpy

    from rehydrate.checkpoint.arrays import read_elements

    width = parts[0][1].dtype.itemsize
    row = prod(size[1:]) * width
    first, last = start // row, -(-(start + length) // row)
    rows = numpy.empty((last - first, *size[1:], width), numpy.uint8)
    for box, ref in parts:
        low, high = max(box.offsets[0], first), min(box.offsets[0] + box.sizes[0], last)
        if low >= high:
            continue
        part = read_elements(ref[low - box.offsets[0] : high - box.offsets[0]])
        inner = [slice(offset, offset + extent) for offset, extent in zip(*box, strict=True)][1:]
        rows[low - first : high - first, *inner] = (
            part.reshape(-1).view(numpy.uint8).reshape(high - low, *box.sizes[1:], width)
        )
    return memoryview(rows.data).cast("B")[start - first * row :][:length]
