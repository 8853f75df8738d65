"""Pictures of digits, changed as hands, pens and cameras change them.

`distorted` turns, slants, scales, shifts and bends a picture, makes its strokes thicker or thinner, blurs it and
changes its contrast, each by chance and mostly by little: the test digits are pictures that nobody changed.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from rehydrate.zoo.mnist.drawing import SIDE, between

__all__ = ["distorted"]

TURN = 0.30
"""Radians to either side, 17 degrees."""
SLANT = 0.25
STRETCH = 0.18
"""By how much a side grows or shrinks at most."""
SHIFT = 3.6
"""Pixels to any side."""
BEND = 0.9
"""Pixels, as a standard deviation, by which points of a 6 by 6 grid are moved to any side, where a picture is bent."""


def distorted(pictures: torch.Tensor, chance: torch.Generator) -> torch.Tensor:
    """Pictures float32 `[N, 28, 28]`, 0 to 1, each changed in its own way; the same shape and range."""
    moved = _moved(pictures, chance)
    return _toned(_blurred(_thickened(moved, chance), chance), chance)


def _some(share: float, count: int, chance: torch.Generator) -> torch.Tensor:
    """1 for about `share` of the pictures and 0 for the others, `[N, 1, 1]`."""
    return (between(0, 1, (count, 1, 1), chance) < share).float()


def _moved(pictures: torch.Tensor, chance: torch.Generator) -> torch.Tensor:
    count = len(pictures)
    # A product of two uniform numbers is mostly small and sometimes large.
    calm = between(0.2, 1, (count, 1), chance)
    turn, slant, wide, tall, right, down = (between(-1, 1, (count, 6), chance) * calm).unbind(1)
    turn, slant = TURN * turn, SLANT * slant
    wide, tall = 1 + STRETCH * wide, 1 + STRETCH * tall
    to_page = 2 * SHIFT / SIDE
    row_x = torch.stack([turn.cos() / wide, (turn.sin() + slant) / wide, to_page * right], 1)
    row_y = torch.stack([-turn.sin() / tall, turn.cos() / tall, to_page * down], 1)
    axis = (torch.arange(SIDE) + 0.5) * 2 / SIDE - 1
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).view(-1, 2)
    page = torch.cat([grid, torch.ones(len(grid), 1)], 1)
    places = (page @ torch.stack([row_x, row_y], 1).transpose(1, 2)).view(count, SIDE, SIDE, 2)
    bend = torch.randn(count, 2, 6, 6, generator=chance) * (BEND * 2 / SIDE)
    bend = bend * (calm.square() * (between(0, 1, (count, 1), chance) < 0.6)).view(-1, 1, 1, 1)
    bend = functional.interpolate(bend, size=(SIDE, SIDE), mode="bilinear", align_corners=True)
    places = places + bend.permute(0, 2, 3, 1)
    return functional.grid_sample(pictures.unsqueeze(1), places, align_corners=False).squeeze(1)


def _neighbours(pictures: torch.Tensor) -> list[torch.Tensor]:
    """The pixels above, below, left and right of every pixel; paper beyond the edge."""
    wide = functional.pad(pictures, (1, 1, 1, 1))
    return [wide[:, :-2, 1:-1], wide[:, 2:, 1:-1], wide[:, 1:-1, :-2], wide[:, 1:-1, 2:]]


def _thickened(pictures: torch.Tensor, chance: torch.Generator) -> torch.Tensor:
    """Strokes up to two pixels thicker, or up to one thinner, by what the brightest and darkest neighbours are."""
    count = len(pictures)
    up, down, left, right = _neighbours(pictures)
    fat = torch.maximum(torch.maximum(torch.maximum(up, down), torch.maximum(left, right)), pictures)
    thin = torch.minimum(torch.minimum(torch.minimum(up, down), torch.minimum(left, right)), pictures)
    fatter = between(0, 1, (count, 1, 1), chance) * _some(0.3, count, chance)
    thinner = between(0, 0.6, (count, 1, 1), chance) * _some(0.3, count, chance)
    return pictures + fatter * (fat - pictures) + thinner * (thin - pictures)


def _blurred(pictures: torch.Tensor, chance: torch.Generator) -> torch.Tensor:
    weight = between(0, 0.2, (len(pictures), 1, 1), chance) * _some(0.3, len(pictures), chance)
    up, down, left, right = _neighbours(pictures)
    return pictures + weight * (up + down + left + right - 4 * pictures)


def _toned(pictures: torch.Tensor, chance: torch.Generator) -> torch.Tensor:
    """Paler or more black-and-white, and with a little noise."""
    count = len(pictures)
    strength = 2 ** (between(-0.7, 2, (count, 1, 1), chance) * _some(0.5, count, chance))
    pale = 1 - between(0, 0.5, (count, 1, 1), chance) * _some(0.15, count, chance)
    noise = between(0, 0.08, (count, 1, 1), chance) * _some(0.2, count, chance)
    toned = (pictures * strength).clamp(0, 1) * pale
    return (toned + noise * torch.randn(toned.shape, generator=chance)).clamp(0, 1)
