"""Handwriting: digits as strokes, written by a hand that shakes and presses unevenly.

A glyph is a few strokes, a stroke a few points that a smooth curve goes through; two strokes that share an end make a
corner. `written` moves the points a little, puts the glyph where it belongs and drags a round pen along. The result is
how much ink lies where: an array of height × width, from 0 to 1. Nothing here knows of colours, paper or files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

__all__ = ["GLYPHS", "Ink", "Mark", "written"]

Ink = NDArray[np.float64]
Stroke = tuple[tuple[float, float], ...]

FINER = 3
"""Times finer than the picture, in each direction, that strokes are drawn before they are averaged down."""

# Each glyph stands in a box one high, x to the right and y down. Letters after a digit are other hands.
GLYPHS: dict[str, tuple[Stroke, ...]] = {
    "0": (((.34, .02), (.13, .12), (.03, .46), (.11, .85), (.34, .98), (.57, .85), (.65, .5), (.56, .14), (.33, .02)),),
    "0b": (((.5, .1), (.3, .01), (.1, .2), (.04, .6), (.18, .94), (.42, .94), (.6, .66), (.6, .28), (.44, .05)),),
    "1": (((.4, .01), (.35, .5), (.29, .99)),),
    "1b": (((.14, .27), (.28, .17), (.4, .02)), ((.4, .02), (.39, .5), (.37, .99))),
    "2": (((.08, .24), (.2, .05), (.42, .03), (.56, .2), (.48, .44), (.26, .72), (.04, .96)),
          ((.04, .96), (.35, .94), (.66, .97))),
    "2b": (((.06, .25), (.22, .04), (.48, .06), (.55, .28), (.38, .6), (.16, .9), (.05, .92), (.07, .8), (.26, .82),
            (.46, .96), (.68, .88)),),
    "3": (((.08, .13), (.28, .02), (.52, .1), (.5, .32), (.24, .46)),
          ((.24, .46), (.5, .53), (.6, .75), (.42, .95), (.18, .97), (.04, .85))),
    "3b": (((.1, .08), (.34, .01), (.54, .12), (.46, .34), (.22, .45)),
           ((.22, .45), (.46, .46), (.62, .64), (.52, .9), (.26, .99), (.03, .9))),
    "4": (((.15, .04), (.1, .3), (.05, .55)), ((.05, .55), (.35, .56), (.68, .52)), ((.52, .06), (.5, .5), (.46, .99))),
    "4b": (((.13, .02), (.1, .26), (.08, .46)), ((.08, .46), (.3, .5), (.54, .46)), ((.56, .02), (.54, .5), (.5, .99))),
    "5": (((.19, .06), (.16, .24), (.12, .43)),
          ((.12, .43), (.34, .38), (.56, .52), (.57, .78), (.37, .97), (.15, .96), (.03, .87)),
          ((.19, .06), (.4, .06), (.62, .03))),
    "5b": (((.6, .03), (.4, .05), (.2, .05)), ((.2, .05), (.17, .25), (.14, .45)),
           ((.14, .45), (.36, .4), (.54, .55), (.52, .82), (.32, .98), (.05, .92))),
    "6": (((.47, .01), (.24, .2), (.08, .52), (.08, .81), (.29, .98), (.53, .88), (.56, .67), (.38, .53), (.18, .61),
           (.09, .78)),),
    "6b": (((.38, .01), (.16, .26), (.05, .62), (.16, .93), (.4, .97), (.56, .79), (.46, .58), (.26, .57),
            (.09, .74)),),
    "7": (((.04, .07), (.34, .07), (.63, .05)), ((.63, .05), (.44, .45), (.28, .99))),
    "7b": (((.03, .1), (.3, .05), (.6, .06)), ((.6, .06), (.42, .5), (.3, .99)), ((.2, .53), (.38, .5), (.58, .51))),
    "8": (((.52, .16), (.34, .02), (.12, .13), (.17, .34), (.37, .48), (.55, .68), (.5, .91), (.29, .99), (.08, .87),
           (.13, .66), (.35, .48), (.52, .31), (.53, .17)),),
    "8b": (((.33, .46), (.13, .34), (.13, .12), (.33, .02), (.53, .13), (.52, .34), (.33, .46), (.1, .6), (.06, .82),
            (.3, .99), (.57, .86), (.55, .62), (.33, .46)),),
    "9": (((.54, .16), (.36, .02), (.13, .12), (.08, .33), (.25, .48), (.45, .39), (.56, .14)),
          ((.56, .14), (.55, .55), (.48, .99))),
    "9b": (((.55, .2), (.38, .02), (.15, .1), (.07, .32), (.24, .48), (.46, .38), (.55, .2), (.56, .55), (.44, .88),
            (.18, .97)),),
    "scribble": (((.0, .6), (.12, .2), (.2, .8), (.34, .15), (.42, .85), (.56, .2), (.62, .75), (.78, .3), (.84, .7),
                  (1., .35)), ((.05, .4), (.3, .55), (.6, .4), (.95, .6)), ((.1, .75), (.5, .3), (.9, .8))),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mark:
    """A glyph on a page. Places and sizes are parts of the page's height or width, angles are degrees."""

    glyph: str
    height: float = 0.64
    centre: tuple[float, float] = (0.5, 0.5)
    pen: float = 0.09
    """Width of the pen, as a part of the glyph's height."""
    tilt: float = 0.0
    """Clockwise."""
    slant: float = 0.0
    """How far the top leans to the right, as a part of the glyph's height."""
    shaky: float = 0.012


def written(mark: Mark, size: tuple[int, int], rng: np.random.Generator) -> Ink:
    """The ink of one mark on a page of `size` (width, height) pixels."""
    width, height = size[0] * FINER, size[1] * FINER
    page = Image.new("L", (width, height), 0)
    pencil = ImageDraw.Draw(page)
    tall = mark.height * height
    for stroke in _placed(mark, (width, height), rng):
        line = _smooth(stroke, step=max(tall * mark.pen / 8, 1.0))
        pressure = _pressure(len(line), rng)
        for (x, y), press in zip(line, pressure, strict=True):
            radius = tall * mark.pen * press / 2
            pencil.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return np.asarray(page.resize(size, Image.Resampling.BOX), dtype=np.float64) / 255


def _placed(mark: Mark, size: tuple[int, int], rng: np.random.Generator) -> list[Ink]:
    """The strokes of a glyph in pixels: shaken, leaned, turned, and with the glyph's middle at its place."""
    strokes = [np.array(stroke, dtype=np.float64) for stroke in GLYPHS[mark.glyph]]
    every = np.concatenate(strokes)
    middle = (every.min(axis=0) + every.max(axis=0)) / 2
    shift = {point: rng.normal(0, mark.shaky, 2) for stroke in GLYPHS[mark.glyph] for point in stroke}
    angle = math.radians(mark.tilt)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    lean = np.array([[1.0, -mark.slant], [0.0, 1.0]])
    place = np.array([mark.centre[0] * size[0], mark.centre[1] * size[1]])
    return [
        (np.array([np.array(point) + shift[point] for point in stroke]) - middle)
        @ (turn @ lean).T * mark.height * size[1] + place
        for stroke in GLYPHS[mark.glyph]
    ]  # fmt: skip


def _smooth(points: Ink, step: float) -> Ink:
    """Points along the Catmull-Rom curve through `points`, no further apart than about `step` pixels."""
    ends = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    line = [points[:1]]
    for before, start, end, after in zip(ends, ends[1:], ends[2:], ends[3:], strict=False):
        count = max(int(np.hypot(*(end - start)) * 1.3 / step), 2)
        t = np.linspace(0, 1, count + 1)[1:, None]
        bend = 2 * before - 5 * start + 4 * end - after
        turn = -before + 3 * start - 3 * end + after
        line.append(start + 0.5 * t * ((end - before) + t * (bend + t * turn)))
    return np.concatenate(line)


def _pressure(count: int, rng: np.random.Generator) -> Ink:
    """How hard the pen is pressed along a stroke: around 1, changing slowly, lighter where it leaves the paper."""
    places = np.linspace(0, 1, count)
    slow = np.interp(places, np.linspace(0, 1, 6), rng.normal(1, 0.1, 6))
    return np.clip(slow, 0.75, 1.25) * np.interp(places, [0, 0.85, 1], [1, 1, 0.8])
