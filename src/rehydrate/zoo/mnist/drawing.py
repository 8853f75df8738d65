"""Pictures that nobody wrote: digits and signs drawn by strokes, and glyphs printed with Pillow's own font.

Training draws them anew each epoch, so that a network also knows digits that were drawn with a mouse or printed. A
stroke is a line through a few points of a 100 by 100 square, x to the right and y down: `~` leads a smooth curve and
`-` a chain of straight lines, `/` separates the strokes of one sign. Whatever is drawn is brought to where MNIST's
digits are: the longer side 20 pixels, the centre of mass in the middle of 28 by 28.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

__all__ = ["DIGITS", "SEGMENTS", "SIDE", "between", "chosen", "drawn", "printed", "signs"]

SIDE = 28
"""Pixels of a side."""
BOX = 20
"""Pixels of the longer side of what is in the picture."""
SEGMENTS = 30
"""Straight pieces of which one sign is made; enough for an 8 without corners."""
_AT_ONCE = 16
"""Pictures rendered together: so few that what they need stays in the cache of the processor."""

DIGITS: tuple[tuple[str, ...], ...] = (
    (
        "~50,0 15,15 0,50 15,85 50,100 85,85 100,50 85,15 50,0",
        "~60,0 20,8 0,50 15,88 50,100 88,80 100,45 75,8 40,4",
        "~62,6 25,5 2,45 10,85 45,100 82,88 98,50 85,12 50,0 36,8",
    ),
    (
        "-50,0 50,100",
        "-50,0 50,100",
        "-25,22 50,0 50,100",
        "-20,30 55,0 55,100",
        "-25,22 50,0 50,100/-20,100 80,100",
        "-32,15 50,0 50,100/-28,100 72,100",
        "-5,45 60,0 60,100",
    ),
    (
        "~5,25 25,3 60,0 85,20 80,45 40,75 0,100/-0,100 100,100",
        "~5,20 40,0 80,15 75,50 40,85 10,95 10,75 35,75 60,95 100,95",
        "~10,15 50,0 85,20 70,55 5,100/-5,100 95,100",
        "-5,10 85,0 0,100 100,100",
        "-0,0 90,0 90,48 0,48 0,100 95,100",
    ),
    (
        "~5,12 45,0 85,18 70,42 40,48/~40,48 80,55 90,80 50,100 5,88",
        "-10,0 85,0 45,40/~45,40 85,55 85,85 45,100 5,88",
        "~8,5 60,0 85,22 60,45 35,48/~35,48 75,52 92,78 60,100 0,95",
        "-0,0 90,0 90,100 0,100/-15,50 90,50",
    ),
    (
        "-65,100 65,0 0,70 100,70",
        "-60,0 0,62 95,62/-72,25 72,100",
        "-15,0 5,55 95,55/-75,0 75,100",
        "-20,0 10,55 90,55/-70,10 70,100",
        "~10,0 10,40 40,52 82,45/-85,0 80,100",
        "-0,0 0,55 90,55/-90,0 90,100",
    ),
    (
        "-90,0 20,0 12,42/~12,42 50,35 90,55 85,85 45,100 5,90",
        "-15,5 12,45/~12,45 55,38 90,60 80,90 40,100 5,90/-15,5 95,0",
        "~88,4 30,4 15,35 60,48 86,72 60,98 8,95",
        "-90,0 0,0 0,48 90,48 90,100 0,100",
    ),
    (
        "~75,0 30,30 5,65 25,97 65,98 90,75 70,52 35,55 8,72",
        "~85,10 50,0 10,40 10,80 50,100 88,78 70,50 30,52 10,72",
        "~40,0 12,45 8,80 40,100 78,85 70,58 35,58 10,80",
        "-90,0 0,0 0,100 90,100 90,50 0,50",
    ),
    (
        "-0,0 100,0 40,100",
        "-0,0 95,0 45,100/-25,50 85,50",
        "-5,18 5,0 95,0 40,100",
        "-0,3 95,0/~95,0 60,45 45,100",
        "-0,3 95,0/~95,0 62,45 48,100/-28,52 88,48",
        "-0,0 85,0 85,100",
    ),
    (
        "~50,48 15,30 20,5 50,0 80,8 82,30 50,48 12,70 15,93 50,100 85,93 88,70 50,48",
        "~85,12 50,0 15,15 25,40 70,58 88,80 55,100 15,85 25,60 70,38 88,12",
        "~50,0 20,10 20,38 50,48 80,38 80,10 50,0/~50,48 10,60 10,92 50,100 90,92 90,60 50,48",
        "-0,0 90,0 90,100 0,100 0,0/-0,50 90,50",
    ),
    (
        "~90,15 50,0 10,18 12,45 50,55 85,35 92,8/-92,8 85,100",
        "~88,15 50,0 10,20 20,50 60,52 88,20/~88,20 90,60 70,95 25,100",
        "~85,8 40,0 8,22 25,48 65,45 88,10/~88,10 75,60 60,100",
        "-90,50 0,50 0,0 90,0 90,100 5,100",
    ),
)
"""Ways to write each digit: with and without foot, flag, bar and loop, open and closed, round and angular."""


def between(low: float, high: float, shape: int | tuple[int, ...], chance: torch.Generator) -> torch.Tensor:
    """Uniform random numbers."""
    sizes = (shape,) if isinstance(shape, int) else shape
    return torch.rand(sizes, generator=chance) * (high - low) + low


def chosen(options: int, count: int, chance: torch.Generator) -> torch.Tensor:
    """`count` random indices below `options`."""
    return torch.randint(options, (count,), generator=chance)


@cache
def signs(spellings: tuple[str, ...]) -> torch.Tensor:
    """Signs as pieces of lines, float32 `[sign, SEGMENTS, end, xy]` in the 100 by 100 square."""
    return torch.stack([_pieces(spelling) for spelling in spellings])


def drawn(pieces: torch.Tensor, chance: torch.Generator, *, narrowest: float = 0.7) -> torch.Tensor:
    """Signs `[N, SEGMENTS, 2, 2]` as somebody's hand would draw them: float32 `[N, 28, 28]`, 0 to 1.

    Each is wobbled, slanted, made as narrow as `narrowest`, and drawn with a pen of its own.
    """
    count = len(pieces)
    wobbled = _wobbled(pieces / 100 - 0.5, chance)
    turn = between(-0.12, 0.12, count, chance)
    slant = between(-0.25, 0.25, count, chance)
    narrow = between(narrowest, 1.05, count, chance)
    row_x = torch.stack([narrow * turn.cos(), slant - turn.sin()], 1)
    row_y = torch.stack([narrow * turn.sin(), turn.cos()], 1)
    placed = torch.einsum("nij,nsej->nsei", torch.stack([row_x, row_y], 1), wobbled)
    pen = 1.3 + 2.7 * between(0, 1, count, chance) ** 1.5
    soft = between(0.7, 1.8, count, chance)
    fitted = _fitted(placed, pen)
    groups = [slice(at, at + _AT_ONCE) for at in range(0, max(count, 1), _AT_ONCE)]
    return torch.cat([_rendered(fitted[group], pen[group], soft[group]) for group in groups])


@cache
def printed(characters: str, widths: tuple[int, ...] = (0, 1, 2)) -> torch.Tensor:
    """Characters in the font that comes with Pillow, float32 `[character × width, 28, 28]`, 0 to 1.

    Each is printed once for every width, in pixels at a height of 64, by which its strokes are made thicker.
    """
    font = ImageFont.load_default(64)
    pictures = []
    for character in characters:
        for width in widths:
            page = Image.new("L", (160, 160))
            ImageDraw.Draw(page).text((48, 32), character, fill=255, font=font, stroke_width=width)
            glyph = page.crop(page.getbbox() or (0, 0, 1, 1))
            scale = BOX / max(glyph.size)
            extent = (max(1, round(glyph.width * scale)), max(1, round(glyph.height * scale)))
            pictures.append(_centred(glyph.resize(extent, Image.Resampling.BOX)))
    return torch.stack(pictures)


def _centred(glyph: Image.Image) -> torch.Tensor:
    """A small picture in the middle of a page, by its centre of mass."""
    ink = np.asarray(glyph, np.float32) / 255
    rows, columns = (np.arange(extent) + 0.5 for extent in ink.shape)
    total = ink.sum()
    top = round(SIDE / 2 - float(ink.sum(1) @ rows / total))
    left = round(SIDE / 2 - float(ink.sum(0) @ columns / total))
    top, left = (min(max(at, 0), SIDE - extent) for at, extent in zip((top, left), ink.shape, strict=True))
    page = torch.zeros(SIDE, SIDE)
    page[top : top + ink.shape[0], left : left + ink.shape[1]] = torch.from_numpy(ink)
    return page


def _pieces(spelling: str) -> torch.Tensor:
    """A spelled sign as `SEGMENTS` pieces of lines; those left over have no length and draw nothing of their own."""
    strokes = [_points(stroke) for stroke in spelling.split("/")]
    lengths = [float((points[1:] - points[:-1]).norm(dim=1).sum()) for points in strokes]
    curved = [index for index, stroke in enumerate(spelling.split("/")) if stroke[0] == "~"]
    straight = sum(len(points) - 1 for index, points in enumerate(strokes) if index not in curved)
    total = sum(lengths[index] for index in curved)
    lines = []
    for index, points in enumerate(strokes):
        if index in curved:
            share = max(2, math.floor((SEGMENTS - straight) * lengths[index] / total))
            points = _along(points, min(share, SEGMENTS - straight))
        lines.append(torch.stack([points[:-1], points[1:]], 1))
    every = torch.cat(lines)
    rest = every[:1, :1].expand(SEGMENTS - len(every), 2, 2)
    return torch.cat([every, rest])


def _points(stroke: str) -> torch.Tensor:
    pairs = [[float(number) for number in pair.split(",")] for pair in stroke[1:].split()]
    return torch.tensor(pairs)


def _along(points: torch.Tensor, pieces: int) -> torch.Tensor:
    """Points of the smooth curve (Catmull and Rom's) that goes through the given ones."""
    before = torch.cat([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    at = torch.linspace(0, len(points) - 1 - 1e-6, pieces + 1)
    start = at.floor().long()
    t = (at - start).unsqueeze(1)
    a, b, c, d = (before[start + step] for step in range(4))
    return 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - 3 * c + d - a) * t**3)


def _wobbled(pieces: torch.Tensor, chance: torch.Generator) -> torch.Tensor:
    """Points moved by three slow waves, so that lines bend and still meet where they met."""
    count = len(pieces)
    moved = pieces
    for _ in range(3):
        wave = between(-5, 5, (count, 1, 1, 2), chance)
        phase = between(0, 2 * math.pi, (count, 1, 1), chance)
        push = 0.035 * torch.randn(count, 1, 1, 2, generator=chance)
        moved = moved + push * ((pieces * wave).sum(-1) + phase).sin().unsqueeze(-1)
    return moved


def _fitted(pieces: torch.Tensor, pen: torch.Tensor) -> torch.Tensor:
    """Pieces in pixels: the longer side with its pen `BOX` long, the middle of all lines in the middle of the page."""
    flat = pieces.flatten(1, 2)
    longest = (flat.amax(1) - flat.amin(1)).amax(1).clamp(min=1e-3)
    scaled = pieces * ((BOX - pen) / longest).view(-1, 1, 1, 1)
    lengths = (scaled[:, :, 1] - scaled[:, :, 0]).norm(dim=2, keepdim=True) + 1e-6
    middle = (scaled.mean(2) * lengths).sum(1) / lengths.sum(1)
    placed = scaled - middle.view(-1, 1, 1, 2) + SIDE / 2
    low, high = placed.flatten(1, 2).amin(1), placed.flatten(1, 2).amax(1)
    edge = pen.unsqueeze(1) / 2 + 1
    inside: torch.Tensor = (edge - low).clamp(min=0) - (high - SIDE + edge).clamp(min=0)
    return torch.add(placed, inside.view(-1, 1, 1, 2))


def _rendered(pieces: torch.Tensor, pen: torch.Tensor, soft: torch.Tensor) -> torch.Tensor:
    """How much ink each pixel has, by its distance from the nearest piece of a line."""
    middles = torch.arange(SIDE) + 0.5
    grid = torch.stack(torch.meshgrid(middles, middles, indexing="xy"), -1).view(-1, 2)
    start, along = pieces[:, :, 0], pieces[:, :, 1] - pieces[:, :, 0]
    squared = (along * along).sum(2, keepdim=True)
    reach = along @ grid.T - (along * start).sum(2, keepdim=True)
    t = (reach / (squared + 1e-6)).clamp_(0, 1)
    away = (grid * grid).sum(1) - 2 * (start @ grid.T) + (start * start).sum(2, keepdim=True)
    distance = (away + t * (t * squared - 2 * reach)).amin(1).clamp_(min=0).sqrt()
    ink: torch.Tensor = 0.5 + (pen.unsqueeze(1) / 2 - distance) / soft.unsqueeze(1)
    return ink.clamp(0, 1).view(-1, SIDE, SIDE)
