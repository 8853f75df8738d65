"""Two networks were published under one file name with the same eight keys; only their shapes tell them apart.

Shapes alone, so that a file can be recognised before torch is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["EPOCHS", "LARGE", "SMALL", "known_as"]

Shapes = Mapping[str, tuple[int, ...]]

EPOCHS = 10
"""Passes over the training digits where nobody says otherwise; as many as the published files had. Here because the
command line shows it before anything is loaded."""

LARGE: Shapes = {
    "conv1.weight": (20, 1, 5, 5),
    "conv1.bias": (20,),
    "conv2.weight": (50, 20, 5, 5),
    "conv2.bias": (50,),
    "fc1.weight": (500, 800),
    "fc1.bias": (500,),
    "fc2.weight": (10, 500),
    "fc2.bias": (10,),
}
"""The network of 2019, 431,080 parameters."""

SMALL: Shapes = {
    "conv1.weight": (10, 1, 5, 5),
    "conv1.bias": (10,),
    "conv2.weight": (20, 10, 5, 5),
    "conv2.bias": (20,),
    "fc1.weight": (50, 320),
    "fc1.bias": (50,),
    "fc2.weight": (10, 50),
    "fc2.bias": (10,),
}
"""The network of 2017, 21,840 parameters."""


def known_as(shapes: Shapes) -> str | None:
    """The name of the network that has exactly these tensors.

    >>> known_as(SMALL)
    'zoo.mnist.ConvNet2017 (2017, 21,840 parameters)'
    """
    if dict(shapes) == dict(LARGE):
        return "zoo.mnist.ConvNet (2019, 431,080 parameters)"
    if dict(shapes) == dict(SMALL):
        return "zoo.mnist.ConvNet2017 (2017, 21,840 parameters)"
    return None
