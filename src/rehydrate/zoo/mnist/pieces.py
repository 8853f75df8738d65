"""Connected pieces of ink: where each lies, how much ink it has, and which of them are one thing.

Labels are found over runs of a row, so that a page costs as much as the ink on it. Nothing here looks at light or
colours, and nothing here knows what a digit looks like.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rehydrate.zoo.mnist.inking import Plane

__all__ = ["Box", "Labels", "Piece", "box_of", "labelled", "pieces_of", "together"]

Labels = NDArray[np.int32]
"""Height × width: 0 where there is no ink, and the number of the piece where there is."""


@dataclass(frozen=True, slots=True)
class Box:
    """Rows `top` to `bottom` and columns `left` to `right`, the ends not included."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left

    @property
    def longest(self) -> int:
        """The longer side."""
        return max(self.height, self.width)

    def joined(self, other: Box) -> Box:
        """The smallest box around both."""
        return Box(
            min(self.top, other.top),
            min(self.left, other.left),
            max(self.bottom, other.bottom),
            max(self.right, other.right),
        )

    def grown(self, margin: int, shape: tuple[int, ...]) -> Box:
        """The box with a margin to all sides, cut where the page ends."""
        return Box(
            max(self.top - margin, 0),
            max(self.left - margin, 0),
            min(self.bottom + margin, shape[0]),
            min(self.right + margin, shape[1]),
        )

    def gaps(self, other: Box) -> tuple[int, int]:
        """Empty rows and empty columns between two boxes; negative where they overlap."""
        down = max(self.top, other.top) - min(self.bottom, other.bottom)
        across = max(self.left, other.left) - min(self.right, other.right)
        return down, across


@dataclass(frozen=True, slots=True)
class Piece:
    """Ink that hangs together."""

    labels: tuple[int, ...]
    """Its numbers in the labels; several once pieces have been put together."""
    box: Box
    mass: float
    """The sum of its ink."""


def box_of(mask: NDArray[np.bool_]) -> Box | None:
    """The smallest box around all of a mask, or None around nothing."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return None
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


def together(pieces: list[Piece]) -> Piece:
    """Several pieces as one."""
    box = pieces[0].box
    for piece in pieces[1:]:
        box = box.joined(piece.box)
    return Piece(tuple(label for piece in pieces for label in piece.labels), box, sum(piece.mass for piece in pieces))


def pieces_of(amount: Plane, least: float, calm: Plane, peak: float) -> tuple[Labels, list[Piece]]:
    """The pieces of ink above `least` that reach `peak` somewhere in `calm`, those with the most ink first."""
    labels = labelled(amount > least)
    count = int(labels.max())
    if not count:
        return labels, []
    rows, columns = np.nonzero(labels)
    which = labels[rows, columns] - 1
    ink = amount[rows, columns]
    mass = np.bincount(which, ink, count)
    strongest = np.zeros(count, np.float32)
    np.maximum.at(strongest, which, calm[rows, columns])
    edges = []
    for places, size in ((rows, amount.shape[0]), (columns, amount.shape[1])):
        first, last = np.full(count, size), np.zeros(count, int)
        np.minimum.at(first, which, places)
        np.maximum.at(last, which, places + 1)
        edges.append((first, last))
    (top, bottom), (left, right) = edges
    found = [
        Piece((at + 1,), Box(int(top[at]), int(left[at]), int(bottom[at]), int(right[at])), float(mass[at]))
        for at in np.argsort(-mass, kind="stable")
        if strongest[at] >= peak
    ]
    return labels, found


def labelled(mask: NDArray[np.bool_]) -> Labels:
    """Numbers from 1 for the pieces of a mask; pixels that touch at a corner hang together.

    >>> labelled(np.array([[1, 0, 0, 1], [0, 1, 0, 1]], dtype=bool))
    array([[1, 0, 0, 2],
           [0, 1, 0, 2]], dtype=int32)
    """
    height, width = mask.shape
    padded = np.zeros((height, width + 2), dtype=np.int8)
    padded[:, 1:-1] = mask
    steps = np.diff(padded, axis=1)
    rows, starts = np.nonzero(steps == 1)
    ends = np.nonzero(steps == -1)[1]  # not included, and as many as starts, in the same order
    labels = np.zeros((height, width), dtype=np.int32)
    if not rows.size:
        return labels
    numbers = _joined(rows * (width + 2) + starts, rows * (width + 2) + ends, width + 2)
    _, numbers = np.unique(numbers, return_inverse=True)
    labels[mask] = np.repeat(numbers + 1, ends - starts)
    return labels


def _joined(starts: NDArray[np.int64], ends: NDArray[np.int64], stride: int) -> NDArray[np.int64]:
    """For each run, the first run of its piece. Runs are given by their places in the page read row by row."""
    first = np.searchsorted(ends, starts - stride, "left")  # a run above that ends where this starts touches a corner
    last = np.searchsorted(starts, ends - stride, "right")
    counts = np.maximum(last - first, 0)
    below = np.repeat(np.arange(len(starts)), counts)
    above = np.repeat(first - np.concatenate(([0], np.cumsum(counts)[:-1])), counts) + np.arange(counts.sum())
    parents = np.arange(len(starts))
    while True:
        a, b = parents[above], parents[below]
        apart = a != b
        if not apart.any():
            return parents
        np.minimum.at(parents, np.maximum(a, b)[apart], np.minimum(a, b)[apart])
        while not np.array_equal(parents, parents[parents]):
            parents = parents[parents]
