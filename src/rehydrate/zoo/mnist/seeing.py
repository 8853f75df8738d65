"""The ways to see a picture: the page as it is, without its ruled lines, the sheet on a table, a page cut too close.

The whole page is looked at first, small, and then what was found on it from nearer. Which way is the right one is
decided elsewhere, by what it shows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageOps

from rehydrate.zoo.mnist.finding import (
    Found,
    crispness,
    edges_touched,
    found_in,
    halves_of,
    is_solid,
    things_of,
    whole_of,
)
from rehydrate.zoo.mnist.inking import SMOOTH_FROM, TINY, Ink, Plane, Plate, grain_of, ink_of, inks, plate_of
from rehydrate.zoo.mnist.pieces import Box, together
from rehydrate.zoo.mnist.preparing import Digit
from rehydrate.zoo.mnist.ruling import without_lines

__all__ = ["Sight", "sights"]

PAGE, LONGEST = 128, 640
"""Sides of the square that has as many pixels as a page that is searched for ink, and the most of a long narrow one."""
NEAR, CLOSER = 40, 56
"""A digit shorter than the first on that page is looked at again, from as near as makes it as long as the second."""
NOISY, AVERAGED = 0.07, 36
"""Noise, in parts of the ink, from which a longer digit is looked at again, small enough for noise to average out."""
CUT = 0.3
"""The part of the ink's contrast by which the edge of a picture changes within a stroke's width where it cuts one."""
PAPER_ON_EDGE = 0.8
"""Of the pixels along the edge of a picture that was cut close, in order of brightness, where to find the paper."""
SHEET = 0.4
"""The part of the picture's height and width that a sheet of paper on a table covers, at least."""
FAINT, DIM = 25.0, 60.0
"""Levels of 255 between paper and ink: what is fainter than these may be light."""
SOFT, CRISP, SOFTEST = 0.6, 0.7, 0.45
"""The crispness of what is faint: below the first it is light, and up to the second it may be. What is dim is light
below the third."""
GRAINIEST = 32.0
"""Levels of 255, the standard deviation of the noise of the worst photograph of paper."""
ROUGHEST = 4.0
"""Levels, of both dark and light relief, from which a page without ink is none of paper."""


@dataclass(frozen=True, slots=True)
class Sight:
    """One way to see a page."""

    whole: Digit | None
    """All ink, if it is one digit; None where there is no ink."""
    parts: tuple[Digit, ...] = ()
    """Each thing for itself, from left to right, where there are several that may be digits."""
    gap: float = 0.0
    """The smallest distance between two of them, in lengths of the longest."""
    halves: tuple[Digit, ...] = ()
    """A thing that is wide enough to be two digits that touch, cut where it is thinnest."""
    doubtful: bool = False
    """Whether the ink is so faint and soft that, if it is no digit, it is no ink."""
    restless: bool = False
    """Whether there is no ink on the page, and no paper either: noise, or a pattern."""
    supposed: bool = False
    """Whether it is far-fetched: it counts only if it surely shows a digit."""


def sights(view: Image.Image) -> Iterator[Sight]:
    """The ways to see an opaque picture, the likeliest first."""
    if max(view.size) < TINY:  # pixels as large as strokes: between them there is more than squares
        view = view.resize((3 * view.width, 3 * view.height), Image.Resampling.BICUBIC)
    plate = _plate(view)
    readings = inks(plate)
    found = found_in(next(readings))
    reaches_the_edge = _reaches_the_edge(plate, found)
    if reaches_the_edge:
        if _is_cut_close(plate, found.ink):
            wider = _wider_page(view, found.ink.sign)
            yield replace(_seen(wider, found_in(ink_of(_plate(wider), found.ink.sign))), supposed=True)
        erased = _erased(found)
        if erased is not None:
            sight = _seen(view, erased, has_lines=True)
            yield sight
            if sight.whole is None:
                return
    is_patch = bool(found.pieces) and is_solid(found.main) and min(found.main.box.height, found.main.box.width) > 8
    if is_patch:
        sight = _on_the_sheet(view, found)
        yield sight
        if sight.whole is None and not sight.supposed:
            return
    yield _seen(view, found)
    faint_lines = None if reaches_the_edge or not found.pieces else _erased(found)
    if faint_lines is not None and faint_lines.pieces:
        yield _seen(view, faint_lines, has_lines=True)
    is_cut = bool(found.pieces) and edges_touched(found.main.box, found.labels.shape) > 1
    if is_patch or is_cut or not found.ink.contrast:
        yield replace(_seen(view, found_in(next(readings))), supposed=is_patch or is_cut)


def _seen(view: Image.Image, found: Found, *, has_lines: bool = False, cut_out: bool = False) -> Sight:
    """What was found on the page, looked at again from nearer, or further away, where that shows more."""
    ink = found.ink
    crisp = crispness(found) if found.pieces and ink.contrast < DIM else 1.0
    if not found.pieces or crisp < (SOFT if ink.contrast < FAINT else SOFTEST):
        return Sight(None, restless=not has_lines and (ink.relief > ROUGHEST or _is_grainy(view)))
    box, scale = together(found.pieces).box, _scale(view)
    wanted = CLOSER if box.longest < NEAR else AVERAGED if ink.noise > NOISY else box.longest
    closer = min(1.0, scale * wanted / box.longest)
    if not 0.8 < closer / scale < 1.2:
        near = _part(view, box, round(0.45 * box.longest) + 2)
        there = ink_of(plate_of(_pixels(near, closer)), ink.sign)
        amount = without_lines(there.amount) if has_lines else None
        again = found_in(there if amount is None else replace(there, amount=amount), cut_out=cut_out)
        found = again if again.pieces else found
    parts, gap = things_of(found)
    return Sight(
        whole_of(found), parts, gap, () if parts else halves_of(found), doubtful=crisp < CRISP and ink.contrast < FAINT
    )


def _on_the_sheet(view: Image.Image, found: Found) -> Sight:
    """What stands on a patch that may be a sheet of paper; supposed, unless it is large and lighter than the rest."""
    box, sign = found.main.box, found.ink.sign
    sheet = _part(view, box, -round(0.03 * box.longest))
    sight = _seen(sheet, found_in(ink_of(_plate(sheet), -sign), cut_out=True), cut_out=True)
    height, width = found.labels.shape
    return replace(sight, supposed=sign > 0 or min(box.height / height, box.width / width) < SHEET)


def _reaches_the_edge(plate: Plate, found: Found) -> bool:
    """Whether strokes, or lines, are cut off by the edge of the picture."""
    ink, edge = found.ink, _edge_of(plate.smooth)
    if not ink.contrast:
        return False
    step = max(2, max(plate.smooth.shape) // 16)
    change = float(np.abs(edge[step:] - edge[:-step]).max(initial=0))
    if change > max(CUT, 6 * ink.noise) * ink.contrast:
        return True
    return bool(found.pieces) and edges_touched(found.main.box, plate.smooth.shape) > 1


def _is_cut_close(plate: Plate, ink: Ink) -> bool:
    """Whether the edge of the picture is paper of one brightness, but for the ink that it cuts."""
    edge = np.sort(ink.sign * _edge_of(plate.smooth))
    away = np.abs(edge - edge[round(PAPER_ON_EDGE * (len(edge) - 1))]) / max(ink.contrast, 1)
    paper, neither = float((away < 0.25).mean()), float(((away >= 0.25) & (away < 0.6)).mean())
    return ink.contrast > FAINT and paper > 0.5 and neither < 0.25


def _edge_of(plane: Plane) -> Plane:
    """The values along the edges of a plane, once around."""
    return np.concatenate((plane[0], plane[1:, -1], plane[-1, -2::-1], plane[-2::-1, 0]))


def _erased(found: Found) -> Found | None:
    """The ink without the lines of the paper; None if there are none, or if they are strokes of what is there."""
    ink = found.ink
    amount = without_lines(ink.amount) if max(ink.amount.shape) >= SMOOTH_FROM else None
    if amount is None:
        return None
    erased = found_in(replace(ink, amount=amount))
    return erased if not erased.pieces or edges_touched(erased.main.box, amount.shape) < 2 else None


def _wider_page(view: Image.Image, sign: float) -> Image.Image:
    """The picture on a larger page, of the colour of the lighter (1) or the darker (-1) part of its edges.

    In a picture that was cut close around a digit, strokes along the edges look like a table beside the paper.
    """
    pixels = np.asarray(view, dtype=np.float32).reshape(view.height, view.width, -1)
    edge = np.concatenate((pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))
    order = np.argsort(sign * edge.mean(axis=1), kind="stable")
    colour = edge[order[round(PAPER_ON_EDGE * (len(order) - 1))]].tolist()
    margin = round(0.2 * max(view.size)) + 2
    fill = colour[0] if view.mode == "F" else tuple(round(level) for level in colour)
    return ImageOps.expand(view, margin, fill)


def _is_grainy(view: Image.Image) -> bool:
    """Whether the middle of a picture is as grainy as no camera's pictures are."""
    grey = view if view.mode in ("L", "F") else view.convert("L")
    left, top = max(0, view.width // 2 - PAGE), max(0, view.height // 2 - PAGE)
    near = grey.crop((left, top, min(left + 2 * PAGE, view.width), min(top + 2 * PAGE, view.height)))
    return grain_of(np.asarray(near, dtype=np.float32)) > GRAINIEST


def _part(view: Image.Image, box: Box, margin: int) -> Image.Image:
    """The part of a picture in a box of the small page, with a margin, which may be negative."""
    scale = _scale(view)
    near = box.grown(margin, (round(view.height * scale), round(view.width * scale)))
    left, top, right, bottom = (round(edge / scale) for edge in (near.left, near.top, near.right, near.bottom))
    return view.crop((left, top, min(max(right, left + 1), view.width), min(max(bottom, top + 1), view.height)))


def _plate(view: Image.Image) -> Plate:
    return plate_of(_pixels(view, _scale(view)))


def _scale(view: Image.Image) -> float:
    """By how much a picture is made smaller to be searched."""
    return min(1.0, PAGE / math.sqrt(view.width * view.height), LONGEST / max(view.size))


def _pixels(view: Image.Image, scale: float) -> Plane:
    """The picture scaled down: 0 to 255, `[H, W]` or `[H, W, 3]`."""
    size = (max(1, round(view.width * scale)), max(1, round(view.height * scale)))
    if size != view.size:
        view = view.resize(size, Image.Resampling.BOX, reducing_gap=3.0 if view.mode != "F" else None)
    return np.asarray(view, dtype=np.float32)
