"""Ink as MNIST has it: the digit scaled to 20 pixels, its centre of mass at the centre of 28 × 28, white on black.

MNIST's makers scaled two-level digits into a box of 20 × 20, which made their edges grey. A digit that comes at that
size already is copied and not scaled again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rehydrate.zoo.mnist.inking import Plane, widened
from rehydrate.zoo.mnist.pieces import box_of

__all__ = ["CENTRE", "INNER", "SIDE", "Digit", "prepared"]

Digit = NDArray[np.uint8]
"""28 × 28, 0 is paper and 255 is ink."""

SIDE = 28
INNER = 20
"""The longer side of a digit."""
CENTRE = 14.0
"""Row and column of the centre of mass, counted from the middle of pixel 0: the mean over MNIST's training digits."""
AS_IT_IS = 0.125
"""The part by which a digit may be longer or shorter than 20 pixels and still be copied."""
THIN, THINNER_THAN = 2.2, 1.5
"""Strokes, in pixels of the 28: what is thinner than the second is made as wide as the first. One in twenty of MNIST's
is."""
FAT, FATTER_THAN = 4.2, 5.0
"""The same for strokes that are too wide."""


def prepared(amount: Plane, noise: float) -> Digit:
    """The ink of one digit, and nothing else, as the network wants it. `noise` is the paper's, in parts of the ink."""
    rough = max(np.flatnonzero((amount > 0.3).any(axis=axis)).size for axis in (0, 1)) / INNER
    coarse = float(np.clip(2 * (rough - 1.1), 0, 1))  # 0 for a digit that is as small as MNIST's, 1 for a large one
    least = min(2.5 * noise, 0.4) + 0.06 * coarse
    ink = np.clip((amount - least) / (1 - 0.3 * coarse - least), 0, 1)
    ink = _cropped(ink, float(np.clip(0.15 * (rough - 1.1), 0.02, 0.4)))
    if not ink.size:
        return np.zeros((SIDE, SIDE), dtype=np.uint8)
    scale = max(ink.shape) / INNER
    if abs(scale - 1) > AS_IT_IS:
        ink = _scaled(_evened(ink, scale))
    peak = float(np.quantile(ink[ink > 0.2], 0.9)) if (ink > 0.2).any() else 1.0
    if peak < 0.9:  # a stroke thinner than a pixel
        ink = np.clip(ink / max(peak, 0.25), 0, 1)
    return _centred(ink)


def _cropped(ink: Plane, least: float) -> Plane:
    """The part with ink."""
    box = box_of(ink > least)
    return ink[:0, :0] if box is None else ink[box.top : box.bottom, box.left : box.right]


def _evened(ink: Plane, scale: float) -> Plane:
    """The ink with strokes of a width that MNIST has, where there are pixels enough to widen or narrow them."""
    mask = ink > 0.5
    padded = np.pad(mask, 1).astype(np.int8)
    outline = 0.8 * sum(float(np.abs(np.diff(padded, axis=axis)).sum()) for axis in (0, 1))
    if not outline:
        return ink
    width = 2 * float(ink.sum()) / outline / scale
    if width < THINNER_THAN:
        reach = round((THIN - width) * scale / 2)
        return widened(np.pad(ink, reach), 2 * reach + 1) if reach else ink
    if width > FATTER_THAN:
        reach = round((width - FAT) * scale / 2)
        narrow = 1 - widened(np.pad(1 - ink, 1, constant_values=1), 2 * reach + 1) if reach else ink
        return narrow if (narrow > 0.5).any() else ink
    return ink


def _scaled(ink: Plane) -> Plane:
    """The ink with a longer side of 20 pixels."""
    scale = max(ink.shape) / INNER
    size = tuple(max(1, round(side / scale)) for side in reversed(ink.shape))
    how = Image.Resampling.HAMMING if scale > 1 else Image.Resampling.BICUBIC
    image = Image.fromarray(np.ascontiguousarray(ink, dtype=np.float32)).resize(size, how)
    scaled: Plane = np.clip(np.asarray(image), 0, 1)
    return scaled


def _centred(ink: Plane) -> Digit:
    """The ink in 28 × 28, its centre of mass as near to the centre as whole pixels allow without losing any."""
    page = np.zeros((SIDE, SIDE), dtype=np.uint8)
    total = max(float(ink.sum()), 1e-6)
    place = []
    for axis, size in enumerate(ink.shape):
        middle = float((ink.sum(axis=1 - axis) * np.arange(size)).sum()) / total
        place.append(int(np.clip(round(CENTRE - middle), 0, SIDE - size)))
    page[place[0] : place[0] + ink.shape[0], place[1] : place[1] + ink.shape[1]] = np.rint(ink * 255)
    return page
