"""Pictures of no digit: what a network learns to be unsure about.

A network that has only seen digits calls a cross an 8 and is certain of it. Shown signs, scribbles, textures and broken
digits, and asked to find all ten classes equally likely there, it learns that its highest probability means something.
What one person takes for a digit and another does not (a ring, the letters O, I, l, S, Z, B, b, G, g, q) is left out.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from rehydrate.zoo.mnist.drawing import SEGMENTS, SIDE, between, chosen, drawn, printed, signs

__all__ = ["outliers"]

SIGNS = (
    "-0,100 50,0 100,100/-20,65 80,65",  # letters
    "-100,0 0,0 0,100 100,100/-0,50 75,50",
    "-100,0 0,0 0,100/-0,50 75,50",
    "-0,0 0,100/-100,0 100,100/-0,50 100,50",
    "-0,0 0,100/-90,0 0,55 90,100",
    "-0,100 0,0 50,60 100,0 100,100",
    "-0,100 0,0 90,100 90,0",
    "-0,100 0,0/~0,0 70,5 80,30 60,50 0,52/-40,52 90,100",
    "-0,0 50,100 100,0",
    "-0,0 25,100 50,30 75,100 100,0",
    "-0,0 100,0/-50,0 50,100",
    "-0,0 45,50 90,0/-45,50 45,100",
    "~0,30 15,0 25,30 28,100/~28,45 45,5 60,40 60,100/~60,45 80,5 95,40 100,100",
    "~0,20 10,80 45,80 50,20/~50,20 58,85 90,80 100,20",
    "-0,0 100,100/-100,0 0,100",  # crosses and stars
    "-50,0 50,100/-0,50 100,50",
    "-50,0 50,100/-5,25 95,75/-95,25 5,75",
    "-30,0 25,100/-75,0 70,100/-0,32 100,32/-0,68 100,68",
    "-50,0 21,95 98,36 2,36 79,95 50,0",
    "-0,50 100,50/-65,20 100,50 65,80",  # arrows
    "-100,50 0,50/-35,20 0,50 35,80",
    "-50,0 50,100/-15,40 50,0 85,40",
    "-0,100 100,0/-50,0 100,0 100,50",
    "-0,50 100,50/-30,20 0,50 30,80/-70,20 100,50 70,80",
    "-50,0 0,90 100,90 50,0",  # shapes
    "-0,0 100,0 50,90 0,0",
    "-0,0 95,0 95,95 0,95 0,0",
    "-50,0 100,50 50,100 0,50 50,0",
    "-0,0 95,0 95,95 0,95 0,0/-0,0 95,95/-95,0 0,95",
    "~50,100 10,55 0,25 25,2 50,25/~50,25 75,2 100,25 90,55 50,100",
    "-0,60 35,100 100,0",
    "-0,50 100,50",
    "-0,35 100,35/-0,65 100,65",
    "-0,15 100,15/-0,50 100,50/-0,85 100,85",
    "-20,0 20,100/-50,0 50,100/-80,0 80,100",
    "-0,0 20,100 40,0 60,100 80,0 100,100",
    "~0,50 15,20 30,50 45,80 60,50 75,20 90,50",
    "-0,0 0,40 33,40 33,0/-33,40 33,80 66,80 66,40/-66,80 66,100 100,100 100,60",
    "~55,50 45,40 40,55 55,68 75,50 55,22 25,35 20,70 55,95 98,60 80,10",  # a spiral
    "~50,0 0,50 50,100 100,50 50,0/~22,65 50,85 78,65/-33,32 34,40/-66,32 67,40",  # a face
    "-0,45 50,0 100,45/-12,40 12,100 88,100 88,40/-40,100 40,65 60,65 60,100",  # a house
    "-50,45 50,100/~50,0 10,15 25,48 75,48 90,15 50,0/-50,75 20,55/-50,80 80,60",  # a tree
    "~50,0 42,10 50,20 58,10 50,0/-50,20 50,65/-15,35 85,35/-50,65 20,100/-50,65 80,100",  # a person
)
GLYPHS = "AEFHKMNPRTVWXYadefhkmptwx#@&%?+=*<>^{}$~"

_KINDS = (
    ("sign", 5),
    ("glyph", 3),
    ("scribble", 4),
    ("lines", 2),
    ("texture", 3),
    ("shape", 2),
    ("pair", 3),
    ("half", 1),
)
"""How many of every 23 pictures are of which kind."""


def outliers(count: int, digits: torch.Tensor, labels: torch.Tensor, chance: torch.Generator) -> torch.Tensor:
    """`count` pictures of no digit, float32 `[N, 28, 28]`, 0 to 1; some are made from `digits`, of the same kind."""
    cut = digits[labels > 1]  # half a 1 is a 1, and half a 0 a bracket that some write for it
    cut = cut if len(cut) else torch.zeros(1, SIDE, SIDE)
    makers = {
        "sign": lambda share: _signs(share, chance),
        "glyph": lambda share: _glyphs(share, chance),
        "scribble": lambda share: drawn(_scribbles(share, chance), chance),
        "lines": lambda share: drawn(_lines(share, chance), chance),
        "texture": lambda share: _textures(share, chance),
        "shape": lambda share: _shapes(share, chance),
        "pair": lambda share: _pairs(share, digits, chance),
        "half": lambda share: _halves(share, cut, chance),
    }
    parts = sum(part for _, part in _KINDS)
    made = [makers[kind](-(-count * part // parts)) for kind, part in _KINDS]
    every = torch.cat(made)
    return every[torch.randperm(len(every), generator=chance)[:count]]


def _signs(count: int, chance: torch.Generator) -> torch.Tensor:
    every = signs(SIGNS)
    return drawn(every[chosen(len(every), count, chance)], chance, narrowest=0.75)


def _glyphs(count: int, chance: torch.Generator) -> torch.Tensor:
    every = printed(GLYPHS)
    return every[chosen(len(every), count, chance)]


def _scribbles(count: int, chance: torch.Generator) -> torch.Tensor:
    """Walks that turn so much that they cross themselves several times."""
    bend = between(0.4, 1.1, (count, 1), chance) * torch.where(between(0, 1, (count, 1), chance) < 0.5, -1.0, 1.0)
    turns = bend + 0.9 * torch.randn(count, SEGMENTS, generator=chance)
    heading = turns.cumsum(1)
    steps = torch.stack([heading.cos(), heading.sin()], 2) * between(5, 30, (count, SEGMENTS, 1), chance)
    ends = steps.cumsum(1)
    return torch.stack([ends - steps, ends], 2)


def _lines(count: int, chance: torch.Generator) -> torch.Tensor:
    """Four to nine straight lines between any points, joined or not."""
    points = between(0, 100, (count, 9, 2, 2), chance)
    joined = torch.cat([points[:, :1, :1], points[:, :-1, 1:]], 1)
    is_joined = between(0, 1, (count, 1, 1, 1), chance) < 0.5
    lines = torch.where(is_joined, torch.cat([joined, points[:, :, 1:]], 2), points)
    kept = torch.arange(9) < chosen(6, count, chance).unsqueeze(1) + 4
    lines = torch.where(kept.view(count, 9, 1, 1), lines, lines[:, :1, :1])
    return torch.cat([lines, lines[:, :1, :1].expand(count, SEGMENTS - 9, 2, 2)], 1)


def _textures(count: int, chance: torch.Generator) -> torch.Tensor:
    """Noise, blobs, waves and chequers, over the whole page or in a window of it."""
    coarse = between(-1, 1, (count, 1, 7, 7), chance)
    blobs = functional.interpolate(coarse, size=(SIDE, SIDE), mode="bicubic", align_corners=False).squeeze(1)
    noise = between(-1, 1, (count, SIDE, SIDE), chance)
    axis = torch.linspace(-1, 1, SIDE)
    turn = between(0, math.pi, (count, 1, 1), chance)
    along = axis * turn.cos() + axis.unsqueeze(1) * turn.sin()
    across = axis.unsqueeze(1) * turn.cos() - axis * turn.sin()
    fast = between(3, 14, (count, 1, 1), chance)
    phase = between(0, 6.3, (count, 1, 1), chance)
    waves = (along * fast + phase).sin()
    chequers = waves * (across * fast).sin() * 1.5
    kinds = torch.stack([blobs, noise, waves, chequers, along, 0.6 * blobs + 0.6 * noise, torch.ones_like(noise)])
    field = kinds[chosen(len(kinds), count, chance), torch.arange(count)]
    sharp = 10 ** between(-0.3, 1.5, (count, 1, 1), chance)
    ink = (0.5 + sharp * (field - between(-0.5, 0.5, (count, 1, 1), chance))).clamp(0, 1)
    return ink * _window(count, chance)


def _window(count: int, chance: torch.Generator) -> torch.Tensor:
    """The whole page for half of the pictures; for the others a box or an ellipse that is not as narrow as a 1."""
    axis = torch.arange(SIDE) - (SIDE - 1) / 2
    half = between(6, 11, (count, 2, 1), chance)
    across, down = (axis / half[:, side] for side in (0, 1))
    box = torch.maximum(across.abs().unsqueeze(1), down.abs().unsqueeze(2))
    ellipse = (across.square().unsqueeze(1) + down.square().unsqueeze(2)).sqrt()
    page = torch.zeros_like(box)
    kind = torch.randint(4, (count,), generator=chance)
    return (torch.stack([page, page, box, ellipse])[kind, torch.arange(count)] < 1).float()


def _shapes(count: int, chance: torch.Generator) -> torch.Tensor:
    """Filled boxes, discs and wedges, and empty pages."""
    axis = torch.arange(SIDE) - (SIDE - 1) / 2
    turn = between(0, 2 * math.pi, (count, 1, 1), chance)
    x = axis * turn.cos() + axis.unsqueeze(1) * turn.sin()
    y = axis.unsqueeze(1) * turn.cos() - axis * turn.sin()
    half = between(5, 9, (count, 1, 1), chance)
    flat = between(0.6, 1, (count, 1, 1), chance)
    box = torch.maximum(x.abs(), y.abs() / flat)
    disc = (x.square() + (y / flat).square()).sqrt()
    wedge = torch.maximum(2 * x.abs() + y, -y * 1.2)
    cross = torch.maximum(torch.maximum(x.abs(), y.abs()), 3 * torch.minimum(x.abs(), y.abs()))
    empty = torch.full_like(box, SIDE)
    kinds = torch.stack([box, disc, wedge, cross, empty])
    return (0.5 + half - kinds[chosen(len(kinds), count, chance), torch.arange(count)]).clamp(0, 1)


def _pairs(count: int, digits: torch.Tensor, chance: torch.Generator) -> torch.Tensor:
    """Two or three digits side by side, as small as one frame makes them."""
    some = digits[chosen(len(digits), 3 * count, chance)].view(count, 3, SIDE, SIDE)
    near = [(3, 5), (4, 6), (2, 4)][int(chosen(3, 1, chance))]
    left, middle, right = some[:, 0, :, near[0] :], some[:, 1, :, near[1] : -near[1]], some[:, 2, :, : -near[0]]
    half = count // 4
    three = torch.cat([left[:half], middle[:half], right[:half]], 2)
    two = torch.cat([left[half:], right[half:]], 2)
    return torch.cat([_squeezed(three), _squeezed(two)])


def _squeezed(wide: torch.Tensor) -> torch.Tensor:
    """A wide picture on a square page, in its own proportions."""
    width = SIDE - 3
    height = round(SIDE * width / wide.shape[2])
    small = functional.interpolate(wide.unsqueeze(1), size=(height, width), mode="area").squeeze(1)
    small = (1.3 * small).clamp(0, 1)
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    return functional.pad(small, (left, SIDE - width - left, top, SIDE - height - top))


def _halves(count: int, digits: torch.Tensor, chance: torch.Generator) -> torch.Tensor:
    """Digits of which a straight cut near the middle leaves a part."""
    axis = torch.linspace(-1, 1, SIDE)
    turn = between(0, 2 * math.pi, (count, 1, 1), chance)
    side = axis * turn.cos() + axis.unsqueeze(1) * turn.sin()
    return digits[chosen(len(digits), count, chance)] * (side > between(0.0, 0.15, (count, 1, 1), chance))
