"""Reading the digit in a picture as people have it, or saying why there is none to read.

The page is seen in the ways that `seeing` offers, and our own large network, which was also trained on what is no
digit, says which of them shows one. The digit itself is then read by whatever network was asked for. A picture that is
as MNIST's are goes to the network as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import nn

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.storage.source import Where
from rehydrate.zoo.mnist.judging import Problem, judged, read_by
from rehydrate.zoo.mnist.networks import load_network
from rehydrate.zoo.mnist.pictures import PictureLike, opened
from rehydrate.zoo.mnist.preparing import Digit

__all__ = ["Prediction", "Problem", "predict"]

_SAID = {
    "blank": "the page is blank",
    "several": "several digits, or things; cut the picture around one",
    "not a digit": "what is there does not look like a digit",
}


@dataclass(frozen=True, slots=True)
class Prediction:
    """What was read in a picture. Truthy exactly when a digit was.

    >>> import numpy as np
    >>> bool(Prediction(None, (0.1,) * 10, np.zeros((28, 28), dtype=np.uint8), "blank"))
    False
    """

    digit: int | None
    """0 to 9, or None where there is a problem."""
    probabilities: tuple[float, ...]
    """Of the ten digits, by the network that was asked for; all alike for a blank page."""
    picture: Digit = field(repr=False)
    """What the network saw: uint8 `[28, 28]`, white ink on black."""
    problem: Problem | None = None
    """Why there is no digit to read."""

    def __bool__(self) -> bool:
        return self.digit is not None

    def __str__(self) -> str:
        if self.digit is None:
            return f"no digit: {_SAID[self.problem or 'not a digit']}"
        return f"{self.digit} ({100 * self.probabilities[self.digit]:.1f} %)"

    def to_dict(self) -> dict[str, object]:
        """The same as plain data: `digit`, `probabilities`, `picture` as 28 rows, `problem`."""
        return {
            "digit": self.digit,
            "probabilities": list(self.probabilities),
            "picture": self.picture.tolist(),
            "problem": self.problem,
        }


def predict(picture: PictureLike, model: Where | Checkpoint | nn.Module | None = None) -> Prediction:
    """Read the handwritten digit in a picture.

    `picture` is a path, bytes, a seekable binary file, a Pillow image, or an array `[H, W]`, `[H, W, 1 to 4]`: dark on
    light or light on dark, of any size, in colours, see-through, photographed. A grey picture of 28 × 28 whose edges
    are dark is what MNIST's are, and is not changed. `model` is a module that gives ten (log-)probabilities for
    `[1, 1, 28, 28]`, anything `load_network` takes, or None for our own.

    Raises `MissingFileError`, `TruncatedError`, `CorruptError` and `LimitError` for pictures that cannot be read, and
    what `load_network` raises.

    >>> import numpy as np
    >>> print(predict(np.zeros((100, 100), dtype=np.uint8)))
    no digit: the page is blank
    """
    image = opened(picture)
    network = model if model is None or isinstance(model, nn.Module) else load_network(model)
    seen = judged(image)
    if seen.problem == "blank":
        return Prediction(None, (0.1,) * 10, seen.digit, seen.problem)
    if network is None:
        probabilities = seen.probabilities
    else:
        with _undisturbed(network):
            probabilities = read_by(network, [seen.digit])[0]
    digit = None if seen.problem else int(probabilities.argmax())
    return Prediction(digit, tuple(float(each) for each in probabilities), seen.digit, seen.problem)


@contextmanager
def _undisturbed(network: nn.Module) -> Iterator[None]:
    """The network in `eval()` mode, and afterwards as somebody's training had it."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
