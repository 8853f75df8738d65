"""Whether what is seen on a page is a digit, and from which of the ways to see it the digit is best read.

Our own large network decides: it was also trained on what is no digit, so that its highest probability means something.
Whose network then reads the digit makes no difference to this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from rehydrate.errors import MismatchError
from rehydrate.zoo.mnist.networks import load_network, outputs_of
from rehydrate.zoo.mnist.pictures import views
from rehydrate.zoo.mnist.preparing import CENTRE, INNER, SIDE, Digit
from rehydrate.zoo.mnist.seeing import Sight, sights

__all__ = ["Problem", "Seen", "judged", "our_network", "read_by"]

Problem = Literal["blank", "several", "not a digit"]
Probabilities = NDArray[np.float32]

DARK = 64.0
"""The mean of the pixels along the edges of a picture like MNIST's, at most; theirs is 8 at most."""
SURE = 0.9
"""The probability of a digit from which no other way to see the page is tried."""
LIKELY = 0.5
"""The probability from which it is a digit, if no other way shows a likelier one."""
MEANT, PLACED = 0.3, 0.11
"""The same for a picture of 28 × 28: whoever made it that small meant a digit; and for one in which what is there has
the size and place that MNIST's makers gave their digits, and which is not taken apart."""
OFF_CENTRE = 0.6
"""Pixels from `CENTRE` to the centre of mass, at most, of what MNIST's makers placed: they rounded."""
PART = 0.85
"""The probability from which each of several things is a digit of its own."""
SOME_PART = 0.6
"""The same where all together are no digit at all, for two of them."""
APART = 0.07
"""The distance of two things, in lengths of the longest, from which they are no broken digit."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a page shows."""

    digit: Digit
    """What a network is to see: uint8 `[28, 28]`."""
    probabilities: Probabilities
    """Of the ten digits, `[10]`, by our own network; all alike for a blank page."""
    problem: Problem | None

    @property
    def sureness(self) -> float:
        """The probability of the likeliest digit; 0 where there is a problem."""
        return 0.0 if self.problem else float(self.probabilities.max())


@cache
def our_network() -> nn.Module:
    """The large network with our weights, loaded once."""
    return load_network()


def read_by(network: nn.Module, digits: Sequence[Digit]) -> Probabilities:
    """Probabilities `[N, 10]` of pictures, by a network that gives probabilities, their logarithms or logits.

    Raises `MismatchError` for a network that does not give ten numbers a picture.
    """
    values = outputs_of(network, torch.from_numpy(np.stack(digits))).to("cpu", torch.float32)
    are_probabilities = bool((values >= 0).all()) and bool((values.sum(1) - 1).abs().max() < 1e-3)
    probabilities: Probabilities = (values if are_probabilities else values.softmax(1)).numpy()
    if not np.isfinite(probabilities).all():
        raise MismatchError("the network gives values that are no numbers", found=str(values[0].tolist()))
    return probabilities


def judged(image: Image.Image) -> Seen:
    """What a picture from `pictures.opened` shows."""
    as_it_is = _like_mnist(image)
    if as_it_is is not None:
        return _judged_as_it_is(image, as_it_is)
    likely = MEANT if image.size == (SIDE, SIDE) else LIKELY
    best: Seen | None = None
    for view in views(image):
        for sight in sights(view):
            seen = _judged(sight, likely)
            if seen.sureness >= SURE:
                return seen
            if sight.supposed:
                continue
            if seen.problem == "several":
                return seen
            if best is None or best.problem == "blank" or seen.sureness > best.sureness:
                best = seen
    return best or _BLANK


def _judged(sight: Sight, likely: float) -> Seen:
    if sight.whole is None:
        return _BLANK if not sight.restless else replace(_BLANK, problem="not a digit")
    network = our_network()
    probabilities = read_by(network, [sight.whole, *sight.parts])
    whole, parts = probabilities[0], probabilities[1:].max(axis=1)
    sure = float(whole.max())
    problem: Problem | None = None if sure >= likely else "not a digit"
    if len(parts):
        all_digits = bool((parts >= PART).all())
        some_digits = int((parts >= SOME_PART).sum()) > 1
        if (all_digits and (sure < SURE or sight.gap > APART)) or (problem and some_digits):
            problem = "several"
    elif sight.halves and sure < SURE and bool((read_by(network, sight.halves).max(axis=1) >= PART).all()):
        problem = "several"
    if problem == "not a digit" and sight.doubtful:
        return _BLANK
    return Seen(sight.whole, whole, problem)


def _judged_as_it_is(image: Image.Image, digit: Digit) -> Seen:
    """What a picture shows that goes to the network as it is; where that is not sure, what else it could be."""
    seen = Seen(digit, read_by(our_network(), [digit])[0], None)
    if seen.sureness >= (PLACED if _is_placed(digit) else SURE):
        return seen
    others = [_judged(sight, MEANT) for sight in sights(image) if not sight.supposed]
    if others[0].problem == "blank" and seen.sureness < LIKELY:
        return replace(_BLANK, digit=digit)
    if others[0].problem == "several":
        return replace(seen, problem="several")
    if max(seen.sureness, *(other.sureness for other in others)) < MEANT:
        return replace(seen, problem="not a digit")
    return seen


def _is_placed(digit: Digit) -> bool:
    """Whether ink has the size and the place of MNIST's: 20 pixels long, or 19, its centre of mass in the middle."""
    for axis in (0, 1):
        along = digit.sum(axis=axis, dtype=np.float64)
        if abs(float((along * np.arange(SIDE)).sum()) / max(along.sum(), 1) - CENTRE) > OFF_CENTRE:
            return False
    return INNER - 1 <= max(int(np.count_nonzero(digit.any(axis=axis))) for axis in (0, 1)) <= INNER


def _like_mnist(image: Image.Image) -> Digit | None:
    """The picture as it is, if it is one that MNIST could hold: grey, 28 × 28, edges dark, something lighter within."""
    if image.size != (SIDE, SIDE) or image.mode not in ("L", "RGB", "F"):
        return None
    pixels = np.asarray(image)
    if pixels.ndim == 3:
        if (pixels != pixels[..., :1]).any():
            return None
        pixels = pixels[..., 0]
    digit: Digit = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    edge = float(np.concatenate((digit[0], digit[-1], digit[1:-1, 0], digit[1:-1, -1])).mean())
    is_dark = edge <= DARK and float(digit.max()) - edge >= edge - float(digit.min())
    return digit if is_dark else None


_BLANK = Seen(np.zeros((SIDE, SIDE), dtype=np.uint8), np.full(10, 0.1, dtype=np.float32), "blank")
