"""Ruled and squared paper: straight thin lines from one edge of the page to the other are taken out of the ink.

What a line adds is subtracted where it is lighter than the ink on it, and nothing stays that does not go on above or
below it, so that strokes that cross a line are whole. Lines may be a little tilted. Nothing here knows of digits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rehydrate.zoo.mnist.inking import Plane

__all__ = ["without_lines"]

MOST_TILT = 0.1
"""Rows by which a line may rise or fall, in columns: six degrees."""
FILLED = 0.7
"""The part of a line that must be inked."""
FAINT = 0.1
"""The least ink of a line, in parts of the ink of the writing."""
THICK = 0.035
"""The thickest line, in parts of the page; thicker is a stroke."""
DARK = 0.6
"""Ink from which nothing can be seen on a line."""


def without_lines(amount: Plane) -> Plane | None:
    """The ink without lines, or None where there are none. Those across are taken out first, then those down."""
    across = _without_rows(amount)
    down = _without_rows((amount if across is None else across).T)
    return across if down is None else down.T


def _without_rows(amount: Plane) -> Plane | None:
    """The ink without lines that lie across the page."""
    inked = amount > FAINT
    inked[1:] |= amount[:-1] > FAINT  # a tilted line goes from row to row in steps
    inked[:-1] |= amount[1:] > FAINT
    most = round(MOST_TILT * amount.shape[1])
    best, best_score = 0, 0.0
    for tilt in range(-most, most + 1):
        fill = inked[_places(amount.shape, tilt)].mean(axis=1)
        score = float(np.maximum(fill - FILLED, 0).sum())
        if score > best_score:
            best, best_score = tilt, score
    if not best_score:
        return None
    places = _places(amount.shape, best)
    level = amount[places]
    lines = [line for line in _lines(inked[places].mean(axis=1) > FILLED) if _is_thin(line, len(amount))]
    if not lines:
        return None
    for top, bottom in lines:
        _erase(level, max(top - 1, 0), min(bottom + 1, len(level)))
    result = amount.copy()
    result[places] = np.minimum(result[places], level)
    return result


def _places(shape: tuple[int, ...], tilt: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the page sheared so that what falls by `tilt` over its width lies level."""
    columns = np.arange(shape[1])
    fall = np.rint(tilt * (columns / max(shape[1] - 1, 1) - 0.5)).astype(np.intp)
    rows = np.clip(np.arange(shape[0])[:, None] + fall, 0, shape[0] - 1)
    return rows, np.broadcast_to(columns, rows.shape)


def _lines(rows: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last (not included) of the rows that follow each other."""
    steps = np.diff(np.concatenate(([0], rows.astype(np.int8), [0])))
    return list(zip(np.flatnonzero(steps == 1).tolist(), np.flatnonzero(steps == -1).tolist(), strict=True))


def _is_thin(line: tuple[int, int], height: int) -> bool:
    return line[1] - line[0] <= max(2, THICK * height) + 2


def _erase(level: Plane, top: int, bottom: int) -> None:
    """Take a line, with its soft edges, out of the rows from `top` to `bottom`."""
    band = level[top:bottom]
    beside = np.maximum(level[max(top - 1, 0)], level[min(bottom, len(level) - 1)])
    line = float(np.median(band.max(axis=0)))
    if line < DARK:
        band[...] = np.maximum(band - line, 0) / np.float32(1 - line)
    np.minimum(band, beside, out=band)  # a stroke goes on above or below, and a line is of unequal strength
