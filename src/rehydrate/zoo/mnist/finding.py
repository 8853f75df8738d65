"""Which ink of a page is the digit, and whether there are several things: from ink to pictures of 28 × 28.

Dust and what lies at the edges of the page are left out; a digit in pieces is one thing. What the things are is asked
of a network, elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rehydrate.zoo.mnist.inking import SMOOTH_FROM, Ink, blurred, widened
from rehydrate.zoo.mnist.pieces import Box, Labels, Piece, box_of, pieces_of, together
from rehydrate.zoo.mnist.preparing import Digit, prepared

__all__ = ["Found", "crispness", "edges_touched", "found_in", "halves_of", "is_solid", "things_of", "whole_of"]

LEAST, PEAK = 0.25, 0.45
"""Ink, in parts of its contrast, that is part of a piece, and that a piece must have somewhere after a light blur."""
AROUND = 0.8
"""The part of the page's height and width that is spanned by what goes around it, such as a printed frame."""
ALONG = 0.5
"""The part of an edge of the page along which something lies that belongs to the page."""
INNER = 0.12
"""The length, in parts of the page, of what is left to be looked at when all that is taken away."""
DUST_LENGTH, DUST_MASS = 0.3, 0.05
"""Parts of the main piece's length and ink: what is shorter and less is dust, unless it lies within the digit."""
FAR = 0.12
"""The distance from the main piece, in its lengths, from which what is shorter than a minor piece is dust, too."""
GRAIN_MASS = 0.004
"""The part of the main piece's ink that something within the digit has at least."""
SOLID = 0.65
"""The part of its box that a patch fills; strokes fill less, but for a plain 1."""
MINOR_LENGTH, MINOR_MASS = 0.45, 0.12
"""Parts of the longest thing's length and of the most ink: what is shorter or less belongs to a thing beside it."""
OVERLAP = 0.3
"""The part of its height and of its width by which a piece overlaps a thing that it belongs to."""
MOST_THINGS, PATTERN = 4, 24
"""Things that are looked at one by one, those with the most ink; and how many may be digits and no pattern."""
WIDE = 0.9
"""Width, in heights, from which a thing may be two digits that touch."""
LEANS = (-0.4, -0.2, 0.0, 0.2, 0.4)
"""Columns per row by which a line between two digits leans."""


@dataclass(frozen=True, slots=True)
class Found:
    """Ink, and the pieces of it that may belong to a digit, those with the most ink first; there may be none."""

    ink: Ink
    labels: Labels
    pieces: list[Piece]

    @property
    def main(self) -> Piece:
        """The piece with the most ink."""
        return self.pieces[0]


def found_in(ink: Ink, *, cut_out: bool = False) -> Found:
    """What there is on a page. On a sheet that was cut out of a picture, nothing at its edges belongs to it."""
    least = min(max(LEAST, 2.5 * ink.noise), 0.5)
    calm = blurred(ink.amount) if max(ink.amount.shape) >= SMOOTH_FROM else ink.amount
    labels, pieces = pieces_of(ink.amount, least, calm, PEAK)
    return Found(ink, labels, _without_dust(_without_surroundings(pieces, ink.amount.shape, 1 if cut_out else 2)))


def crispness(found: Found) -> float:
    """How much more ink there is in the main piece than a little way outside of it: 1 for ink, less for light."""
    mine = np.isin(found.labels, found.main.labels)
    mask = mine.astype(np.float32)
    ring = (widened(mask, 9) > 0) & (widened(mask, 5) == 0) & (found.labels == 0)
    outside = float(found.ink.amount[ring].mean()) if ring.any() else 0.0
    return float(found.ink.amount[mine].mean()) - outside


def edges_touched(box: Box, shape: tuple[int, ...]) -> int:
    """How many edges of the page a box touches."""
    return (box.top == 0) + (box.left == 0) + (box.bottom == shape[0]) + (box.right == shape[1])


def is_solid(piece: Piece) -> bool:
    """Whether a piece is a patch and not made of strokes."""
    return piece.mass > SOLID * piece.box.height * piece.box.width


def whole_of(found: Found) -> Digit:
    """All that was found as one digit."""
    return _drawn(found.ink, found.labels, together(found.pieces))


def things_of(found: Found) -> tuple[tuple[Digit, ...], float]:
    """What may be several digits, one by one from left to right, and the least distance in lengths of the longest."""
    things = _things(found.pieces)
    if not 1 < len(things) <= PATTERN:
        return (), 0.0
    things = sorted(things[:MOST_THINGS], key=lambda thing: thing.box.left + thing.box.right)
    longest = max(thing.box.longest for thing in things)
    gap = min(max(one.box.gaps(other.box)) for at, one in enumerate(things) for other in things[:at])
    return tuple(_drawn(found.ink, found.labels, thing) for thing in things), gap / longest


def halves_of(found: Found) -> tuple[Digit, ...]:
    """The two sides of the line, upright or leaning, that crosses least ink in a wide thing's middle, or nothing."""
    thing = together(found.pieces)
    box = thing.box
    if box.width < WIDE * box.height or is_solid(thing):
        return ()
    rows, columns = slice(box.top, box.bottom), slice(box.left, box.right)
    mine = np.isin(found.labels[rows, columns], thing.labels)
    amount = np.where(mine, found.ink.amount[rows, columns], 0)
    down, across = np.arange(box.height)[:, None] - box.height / 2, np.arange(box.width)
    least, right_of_it = np.inf, mine
    for lean in LEANS:
        level = across - lean * down
        for place in np.linspace(0.3, 0.7, 9) * box.width:
            crossed = float(amount[np.abs(level - place) < 1].sum())
            if crossed < least:
                least, right_of_it = crossed, level >= place
    sides = np.zeros_like(found.labels)
    sides[rows, columns] = np.where(mine, 1 + right_of_it, 0)
    boxes = [box_of(sides == side) for side in (1, 2)]
    return tuple(
        _drawn(found.ink, sides, Piece((side,), box, 0.0)) for side, box in enumerate(boxes, 1) if box is not None
    )


def _without_surroundings(pieces: list[Piece], shape: tuple[int, ...], edges: int) -> list[Piece]:
    """Pieces without what lies at so many edges of the page, along one, or around everything, if more is there."""
    height, width = shape
    inner: list[Piece] = []
    outer: list[Piece] = []
    for piece in pieces:
        box = piece.box
        along = max(
            box.width / width if box.top == 0 or box.bottom == height else 0.0,
            box.height / height if box.left == 0 or box.right == width else 0.0,
        )
        spans = box.height > AROUND * height and box.width > AROUND * width
        is_around = spans and piece.mass < 0.4 * box.height * box.width
        (outer if edges_touched(box, shape) >= edges or along > ALONG or is_around else inner).append(piece)
    if outer and any(piece.box.longest > INNER * max(shape) for piece in inner):
        return inner
    return pieces


def _without_dust(pieces: list[Piece]) -> list[Piece]:
    if len(pieces) < 2:
        return pieces
    main = pieces[0]
    longest = max(piece.box.longest for piece in pieces if piece.mass > 0.3 * main.mass)
    kept = []
    for piece in pieces:
        gap = max(piece.box.gaps(main.box))
        length, mass = (MINOR_LENGTH, MINOR_MASS) if gap > FAR * longest else (DUST_LENGTH, DUST_MASS)
        is_small = piece.box.longest < length * longest and piece.mass < mass * main.mass
        is_within = gap < 0 and piece.mass > GRAIN_MASS * main.mass
        if not is_small or is_within:
            kept.append(piece)
    return kept


def _things(pieces: list[Piece]) -> list[Piece]:
    """Pieces put together to what may be digits of their own, those with the most ink first."""
    longest, most = max(piece.box.longest for piece in pieces), pieces[0].mass
    things: list[list[Piece]] = []
    minor: list[Piece] = []
    for piece in pieces:
        box = piece.box
        if box.longest < MINOR_LENGTH * longest or piece.mass < MINOR_MASS * most:
            minor.append(piece)
            continue
        for thing in things:
            down, across = together(thing).box.gaps(box)
            if -down > OVERLAP * box.height and -across > OVERLAP * box.width:
                thing.append(piece)
                break
        else:
            things.append([piece])
    for piece in minor if things else []:
        box = piece.box
        min(things, key=lambda thing: max(together(thing).box.gaps(box))).append(piece)
    return sorted((together(thing) for thing in things), key=lambda thing: -thing.mass)


def _drawn(ink: Ink, labels: Labels, thing: Piece) -> Digit:
    """One thing as the network wants it, with the soft edges of its strokes and nothing of its neighbours."""
    margin = max(2, thing.box.longest // 24)
    box = thing.box.grown(margin, ink.amount.shape)
    rows, columns = slice(box.top, box.bottom), slice(box.left, box.right)
    there = labels[rows, columns]
    mine = np.isin(there, thing.labels)
    near = widened(mine.astype(np.float32), 2 * (margin // 2) + 1) > 0
    return prepared(np.where(near & (mine | (there == 0)), ink.amount[rows, columns], 0), ink.noise)
