"""Files as people have them, made by torch and pickle themselves."""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import nn

from ..checkpoint.kinds import Net, optimizer, state


def digits() -> dict[str, torch.Tensor]:
    """The tensors of the larger MNIST network."""
    shapes = {"conv1": (20, 1, 5, 5), "conv2": (50, 20, 5, 5), "fc1": (500, 800), "fc2": (10, 500)}
    named: dict[str, torch.Tensor] = {}
    for name, shape in shapes.items():
        named[f"{name}.weight"] = torch.zeros(shape)
        named[f"{name}.bias"] = torch.zeros(shape[0])
    return named


def saved(obj: Callable[[], Any]) -> Callable[[Path], None]:
    return lambda path: torch.save(obj(), path)


def pickled(obj: object, protocol: int = 4) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(pickle.dumps(obj, protocol)) and None


KINDS: dict[str, Callable[[Path], None]] = {
    "state dict": saved(state),
    "digits": saved(digits),
    "container": saved(
        lambda: {
            "epoch": 37,
            "state_dict": {f"module.{name}": tensor for name, tensor in state().items()},
            "optimizer": optimizer().state_dict(),
            "args": argparse.Namespace(lr=0.1, arch="net"),
            "best": numpy.float64(99.25),
        }
    ),
    "whole model": saved(Net),
    "gan": saved(lambda: {"G": state(), "D": nn.Linear(3, 1).state_dict(), "epoch": 1}),
    "raw and ema": saved(lambda: {"model": state(), "ema": state()}),
    "list": saved(lambda: [state(), optimizer().state_dict()]),
    "optimizer": saved(lambda: optimizer().state_dict()),
    "scalars": saved(lambda: {"epoch": 3, "lr": 0.1, "name": "x", "none": None}),
    "tensor": saved(lambda: torch.zeros(3, 4)),
    "tensors": saved(lambda: [torch.zeros(2)] * 30),
    "empty": saved(dict),
    "none": saved(lambda: None),
    "numpy": saved(lambda: {"a": numpy.float32(3.5), "m": numpy.zeros((3, 4)), "b": numpy.bool_(True)}),
    "many": saved(lambda: {f"blocks.{at}.weight": torch.zeros(2) for at in range(3000)}),
    "plain pickle": pickled({"da": 111, 2: [23, 1, 4], "23": {1: 2, "d": "sad"}}),
    "protocol 0": pickled({"da": 111}, 0),
    "pickled list": pickled([1, "two"]),
    "pickled number": pickled(5),
    "pickled state dict": pickled(state()),
}
"""A name for each kind of file, and what writes one."""


def write(path: Path, kind: str = "state dict") -> Path:
    """A file of one kind."""
    KINDS[kind](path)
    return path
