"""From pixels to ink: how much darker or lighter than the paper under it each pixel is, whatever the light and colour.

Paper is what stays when everything narrower than a stroke could be is taken away, which follows gradients, vignettes
and the edges of shadows. Ink is told apart from the paper's noise and texture, or there is none. Nothing here knows of
digits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "SMOOTH_FROM",
    "TINY",
    "Ink",
    "Plane",
    "Plate",
    "blurred",
    "grain_of",
    "ink_of",
    "inks",
    "plate_of",
    "widened",
]

Plane = NDArray[np.float32]
"""Height × width of one quantity."""

SMOOTH_FROM = 56
"""Pixels of the longer side from which strokes are wide enough for a light blur against noise."""
STROKE = 0.55
"""The widest stroke, in shorter sides of the picture; wider is paper."""
FAINTEST = 5.0
"""Levels of 255 by which the faintest ink differs from its paper, where there is no noise at all."""
SURE = 6.0
"""Standard deviations of the paper's noise by which ink must differ from it."""
STEEP = 0.25
"""The part of its contrast that ink changes by within a stroke's edge, even in a blurred picture."""
IMPULSE = 40.0
"""Levels by which a pixel differs from those beside it, at least, if it is not part of anything."""
TINY = 24
"""Pixels of the longer side of a picture that may have strokes everywhere."""
GRAINY = 0.08
"""The noise, in parts of the contrast, from which ink is looked at through a light blur."""
PEAK = 6
"""Pixels that must be as strong as the ink is said to be: fewer are dust."""


@dataclass(frozen=True, slots=True)
class Plate:
    """One number a pixel, the one that shows most contrast, and the light that fell on it."""

    levels: Plane
    """0 to 255 along the axis of colour in which ink and paper differ."""
    light: Plane
    """Brightness, to tell a dark place from dark ink."""
    smooth: Plane
    """The levels, blurred lightly where the picture is large enough."""
    noise: float
    """Standard deviation of the noise of `smooth`."""


@dataclass(frozen=True, slots=True)
class Ink:
    """How much ink each pixel has, if it was drawn dark on light, or if it was drawn light on dark."""

    amount: Plane
    """0 is paper and 1 is ink; a little more where the ink is thickest."""
    sign: float
    """1 if it is darker than its paper, -1 if it is lighter."""
    contrast: float
    """Levels between paper and ink; 0 if no ink stands out from the paper."""
    noise: float
    """Standard deviation of `amount` on paper."""
    relief: float
    """Levels by which the picture goes up and down within a stroke's width: little for paper in any light."""


def plate_of(pixels: Plane) -> Plate:
    """The channel to look at, of pixels `[H, W]` or `[H, W, 3]` from 0 to 255."""
    light = pixels if pixels.ndim == 2 else pixels.mean(axis=2)
    levels = light
    if pixels.ndim == 3 and float(np.abs(pixels - light[..., None]).max()) > 6:
        levels = pixels @ _axis_of_contrast(pixels)
    levels = _without_impulses(levels)
    noise = grain_of(levels)
    smooth = levels
    if max(levels.shape) >= SMOOTH_FROM:
        smooth = blurred(levels)
        noise *= 0.375  # what [1 2 1] / 4 both ways leaves of white noise
    return Plate(levels, light, smooth, noise)


def inks(plate: Plate) -> Iterator[Ink]:
    """The ink as dark on light and as light on dark, the one first that asks for the less unlikely paper."""
    width = _widest(plate)
    readings = []
    for sign in (1.0, -1.0):
        smooth = plate.smooth * np.float32(sign)
        paper = _closed(smooth, width)
        readings.append((paper, paper - smooth, _steps(paper)))
    contrast = max(max(_contrast_of(depth) for _, depth, _ in readings), 1.0)
    seen = _steps(plate.smooth)
    oddness = [_oddness(*readings[at][1:], seen, readings[1 - at][2], contrast) for at in (0, 1)]
    relief = min(float(depth.mean()) - _at(depth, 0.35) for _, depth, _ in readings)
    for at in (0, 1) if oddness[0] <= oddness[1] else (1, 0):
        yield _ink_of(plate, (1.0, -1.0)[at], readings[at][0], relief)


def ink_of(plate: Plate, sign: float) -> Ink:
    """The ink as dark on light (1) or as light on dark (-1)."""
    return _ink_of(plate, sign, _closed(plate.smooth * np.float32(sign), _widest(plate)), 0.0)


def _widest(plate: Plate) -> int:
    shortest: int = min(plate.levels.shape)
    return max(3, round(STROKE * shortest)) | 1


def _steps(plane: Plane) -> Plane:
    """How much each pixel differs from those below and to the right of it."""
    steps = np.zeros_like(plane)
    steps[:-1] += np.abs(plane[1:] - plane[:-1])
    steps[:, :-1] += np.abs(plane[:, 1:] - plane[:, :-1])
    return steps


def _oddness(depth: Plane, steps: Plane, seen: Plane, others: Plane, contrast: float) -> float:
    """How unlikely it is that a paper with these steps of brightness is the paper.

    True paper has few steps: no more than the other reading's, as the edge of a shadow is in both, and none where the
    picture itself has none. Ink seldom lies along the edges of a picture, and covers the smaller part of it.
    """
    own = np.maximum(steps - widened(others, 3), 0).sum()
    unseen = np.maximum(steps - widened(seen, 3), 0).sum()
    edge = np.concatenate((depth[0], depth[-1], depth[:, 0], depth[:, -1]))
    shares = np.clip(edge / contrast, 0, 1).mean() + np.clip(depth / contrast, 0, 1).mean()
    return float((own + unseen) / contrast + shares * sum(depth.shape))


def _ink_of(plate: Plate, sign: float, paper: Plane, relief: float) -> Ink:
    """The ink on a paper; where it is lighter, the sign is -1 and the paper is that of the negative."""
    smooth, width = plate.smooth * np.float32(sign), _widest(plate)
    depth = paper - smooth
    low, middle = _at(depth, 0.05), _at(depth, 0.35)
    contrast = _contrast_of(depth)
    # Of a normal distribution's paper, which most of the page is; where it is not, the eighth is as much as can be.
    noise = max(plate.noise, min((middle - low) / 1.26, contrast / 8))
    lift = min(middle, 5 * plate.noise)  # the closing lies on the brightest grains of the paper
    if max(depth.shape) < TINY:
        noise, lift = min(noise, contrast / 8), 0.0
    if _contrast_of(blurred(depth)) - lift < max(FAINTEST, 0.5 * SURE * noise) or _is_light_only(
        depth, contrast, max(plate.noise, min(noise, contrast / 25))
    ):
        return Ink(np.zeros_like(depth), sign, 0.0, 0.0, relief)
    # Ink is measured from the paper's mean.
    is_ink = widened((depth > 0.3 * contrast).astype(np.float32), 3)
    paper = np.minimum(paper, _mean_around(smooth, 1 - is_ink, paper, width // 4))
    if plate.smooth is plate.levels and noise > GRAINY * contrast:
        amount, noise = paper - blurred(smooth), 0.375 * noise
    elif plate.noise > 0.375 * GRAINY * contrast:
        amount = paper - smooth
    else:
        amount, noise = paper - plate.levels * np.float32(sign), max(noise, plate.noise / 0.375)
    contrast = _contrast_of(amount)
    if sign > 0:  # in half the light, ink is half as much darker than its paper
        bright = np.maximum(paper if plate.levels is plate.light else _closed(plate.light, width), 16)
        amount *= np.clip(np.median(bright) / bright, 0.5, max(1.0, min(3.0, 0.07 * contrast / max(noise, 0.01))))
        contrast = _contrast_of(amount)
    if contrast < FAINTEST / 2:
        return Ink(np.zeros_like(depth), sign, 0.0, 0.0, relief)
    return Ink(np.maximum(amount, 0) / np.float32(contrast), sign, contrast, noise / contrast, relief)


def _contrast_of(depth: Plane) -> float:
    """Levels between paper and ink: what most of the strong pixels have."""
    peak = _peak_of(depth, min(PEAK, max(1, depth.size // 60)))
    return _at(depth[depth >= 0.5 * peak], 0.75) if peak > 0 else 0.0


def _peak_of(plane: Plane, rank: int) -> float:
    """The largest value but `rank` - 1."""
    high = plane[plane > 0.25 * plane.max()]  # sorting a whole page of zeros takes longer than all else
    return float(np.sort(high if high.size >= rank else plane, axis=None)[-rank])


def _axis_of_contrast(pixels: Plane) -> Plane:
    """The axis of colour along which neighbours differ most: edges of ink, for light changes slowly."""
    steps = [pixels[2:] - pixels[:-2], pixels[:, 2:] - pixels[:, :-2]]
    moments = sum(np.tensordot(step, step, ((0, 1), (0, 1))) for step in steps)
    axis = np.linalg.eigh(np.asarray(moments, dtype=np.float64))[1][:, -1]
    # Lighter is more, and colours at the ends of the axis stay within 0 to 255 where all components agree in sign.
    axis = axis if axis.sum() >= 0 else -axis
    return np.asarray(axis / np.abs(axis).sum(), dtype=np.float32)


def _is_light_only(depth: Plane, contrast: float, noise: float) -> bool:
    """Whether nothing changes by that contrast within the width of a stroke's edge: light and lamps change slowly."""
    step = 4 if min(depth.shape) >= 64 else 2
    if max(depth.shape) < SMOOTH_FROM or min(depth.shape) <= step:
        return False
    plane = blurred(depth)
    changes = (np.abs(plane[step:] - plane[:-step]), np.abs(plane[:, step:] - plane[:, :-step]))
    steepest = max(_peak_of(change, PEAK) for change in changes)
    return steepest - 3.5 * noise < STEEP * contrast  # the largest difference that the noise makes by itself


def _without_impulses(levels: Plane) -> Plane:
    """Single pixels that are unlike all their eight neighbours, which are alike, are set to the median of those."""
    padded = edged(levels, 1)
    apart = np.abs(padded[:-2, 1:-1] - levels)
    for beside in (padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]):
        np.minimum(apart, np.abs(beside - levels), out=apart)
    rows, columns = np.nonzero(apart > IMPULSE)
    if not rows.size:
        return levels
    around = np.stack([padded[rows + y, columns + x] for y in range(3) for x in range(3) if (y, x) != (1, 1)])
    around.sort(axis=0)
    median = (around[3] + around[4]) / 2
    # But for one of them, which may be another such pixel. Pixels along a stroke's edge have both sides around them.
    odd = around[6] - around[1] < 0.5 * np.abs(median - levels[rows, columns])
    result = levels.copy()
    result[rows[odd], columns[odd]] = median[odd]
    return result


def grain_of(levels: Plane) -> float:
    """The standard deviation of noise that differs from pixel to pixel.

    By Immerkær's mask, and from the calmest quarter of the pixels: the others may be strokes.
    """
    if min(levels.shape) < 3:
        return 0.0
    down = levels[:-2] - 2 * levels[1:-1] + levels[2:]
    both = down[:, :-2] - 2 * down[:, 1:-1] + down[:, 2:]
    return _at(np.abs(both), 0.25) / 0.3186 / 6


def blurred(plane: Plane) -> Plane:
    """The plane through [1 2 1] / 4, both ways."""
    padded = edged(plane, 1)
    down = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    both: Plane = (down[:, :-2] + 2 * down[:, 1:-1] + down[:, 2:]) * np.float32(1 / 16)
    return both


def edged(plane: Plane, margin: int) -> Plane:
    """The plane with a margin to all sides in which it goes on as it ends."""
    for axis in (0, 1):
        size = plane.shape[axis]
        plane = plane.take(np.clip(np.arange(-margin, size + margin), 0, size - 1), axis)
    return plane


def widened(plane: Plane, width: int) -> Plane:
    """The largest value in a square of an odd `width` around each pixel."""
    return _extreme(_extreme(edged(plane, width // 2), width, 0, np.maximum), width, 1, np.maximum)


def _closed(plane: Plane, width: int) -> Plane:
    """The plane with everything dark that is narrower than `width` filled. Beyond its edges it goes on as it ends."""
    padded = edged(plane, width - 1)
    for extreme in (np.maximum, np.minimum):
        for axis in (0, 1):
            padded = _extreme(padded, width, axis, extreme)
    return padded


def _extreme(plane: Plane, width: int, axis: int, extreme: np.ufunc) -> Plane:
    """The extreme of every window of `width` along an axis, in about log2(width) passes."""
    result, covered = plane if axis == 0 else plane.T, 1
    while covered < width:
        step = min(covered, width - covered)
        result = extreme(result[:-step], result[step:])
        covered += step
    return result if axis == 0 else result.T


def _mean_around(plane: Plane, weights: Plane, otherwise: Plane, reach: int) -> Plane:
    """The weighted mean in a square around each pixel; `otherwise` where next to nothing there has a weight."""
    if reach >= 8:  # every second row and column is enough for a mean over so many
        coarse = _mean_around(plane[::2, ::2], weights[::2, ::2], otherwise[::2, ::2], reach // 2)
        return np.repeat(np.repeat(coarse, 2, axis=0), 2, axis=1)[: plane.shape[0], : plane.shape[1]]
    weighed, total = plane * weights, weights
    for _ in range(2):
        weighed, total = _summed(weighed, reach), _summed(total, reach)
    area = np.float32((2 * reach + 1) ** 4)
    few = total < 0.02 * area
    return np.where(few, otherwise, weighed / np.where(few, 1, total))


def _summed(plane: Plane, reach: int) -> Plane:
    """The sum in a square that reaches so far to all sides of each pixel."""
    for axis in (0, 1):
        size = plane.shape[axis]
        total = np.zeros([size + 1 if axis == along else plane.shape[along] for along in (0, 1)])
        np.cumsum(plane, axis=axis, out=total[1:] if axis == 0 else total[:, 1:])
        places = np.arange(size)
        upper, lower = np.minimum(places + reach + 1, size), np.maximum(places - reach, 0)
        plane = (total.take(upper, axis) - total.take(lower, axis)).astype(np.float32)
    return plane


def _at(plane: Plane, share: float) -> float:
    """The value that this share of the plane is below; of a large plane, every second row and column."""
    some = plane[::2, ::2] if plane.ndim == 2 and plane.size > 2048 else plane
    return float(np.sort(some, axis=None)[round(share * (some.size - 1))])
