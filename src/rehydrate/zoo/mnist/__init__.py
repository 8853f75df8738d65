"""The two networks that were published as `mnist_convnet_model_epoch_10.pth`, trained, and what reads pictures by them.

    from rehydrate.zoo import mnist

    mnist.predict("seven.png").digit                 # 7, or None and a problem
    mnist.ConvNet, mnist.ConvNet2017                 # the classes; mnist.weights("large" | "small") their trained files
    mnist.load_network("somebody's.pth")             # whichever of the two the file is, told by shapes

Names are looked up when they are first used: importing this loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rehydrate.zoo.mnist.networks import ConvNet, ConvNet2017, load_network, weights
    from rehydrate.zoo.mnist.predicting import Prediction, predict
    from rehydrate.zoo.mnist.training import Evaluation, evaluate, train

__all__ = [
    "ConvNet",
    "ConvNet2017",
    "Evaluation",
    "Prediction",
    "evaluate",
    "load_network",
    "predict",
    "train",
    "weights",
]

_HOMES = {
    "networks": ("ConvNet", "ConvNet2017", "load_network", "weights"),
    "predicting": ("Prediction", "predict"),
    "training": ("Evaluation", "evaluate", "train"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'rehydrate.zoo.mnist' has no attribute {name!r}")
    return getattr(import_module(f"rehydrate.zoo.mnist.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
