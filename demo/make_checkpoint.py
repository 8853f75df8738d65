"""Writes `demo/checkpoint.pth`: what somebody's training script would have left behind.

`torch.save`, as everybody calls it, of a dictionary: the state dict of a network in `DataParallel`, the epoch, the
optimizer, and the settings as an object of a class of theirs. That class is made up here and exists nowhere else, so
whoever gets the file cannot import it. The numbers are those of the large MNIST network that ships with the package.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

import rehydrate as rh
from rehydrate.zoo import mnist

__all__ = ["main"]

HERE = Path(__file__).parent


class TrainingConfig:
    """Their settings; saved as `somebodys_project.config.TrainingConfig`."""

    def __init__(self) -> None:
        self.dataset = "mnist"
        self.batch_size = 64
        self.learning_rate = 0.01
        self.momentum = 0.5
        self.augment = ["shift", "tilt"]


def main() -> None:
    """Write the file."""
    _pretend_installed(TrainingConfig, "somebodys_project.config")
    config = TrainingConfig()
    network = nn.DataParallel(rh.load_model(mnist.weights("large"), mnist.ConvNet))
    optimizer = torch.optim.SGD(network.parameters(), lr=config.learning_rate)
    torch.save(
        {
            "epoch": 10,
            "config": config,
            "state_dict": network.state_dict(),
            "optimizer": optimizer.state_dict(),
        },
        HERE / "checkpoint.pth",
    )


def _pretend_installed(kind: type, module: str) -> None:
    """Let pickle believe, in this process, that a class comes from a module that there is not."""
    parent = ""
    for name in module.split("."):
        parent = f"{parent}.{name}" if parent else name
        sys.modules[parent] = ModuleType(parent)
    kind.__module__ = module
    vars(sys.modules[module])[kind.__name__] = kind


if __name__ == "__main__":
    main()
