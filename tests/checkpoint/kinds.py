"""Every way in which people save a model, or something else, made by torch itself."""

from __future__ import annotations

import argparse
import io
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy
import torch
from torch import nn


class Net(nn.Module):
    """A model whose class the reader of its file does not need."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 3)


class Trainer:
    """Somebody's own object around a model."""

    def __init__(self) -> None:
        self.model = Net()
        self.history = [1.0, 0.5]


def state() -> dict[str, torch.Tensor]:
    return Net().state_dict()


def optimizer() -> torch.optim.Optimizer:
    net = nn.Linear(3, 2)
    adam = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 3)).sum().backward()
    adam.step()
    return adam


def wrapped(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return OrderedDict((f"module.{name}", tensor) for name, tensor in tensors.items())


ONE_MODEL: dict[str, Callable[[], Any]] = {
    "state dict": state,
    "container": lambda: {
        "epoch": 37,
        "state_dict": state(),
        "optimizer": optimizer().state_dict(),
        "args": argparse.Namespace(lr=0.1, arch="net"),
        "best": numpy.float64(99.25),
    },
    "model_state_dict": lambda: {"model_state_dict": state(), "loss": torch.tensor(0.5), "step": 3},
    "a name of one's own": lambda: {"my_net": state(), "notes": ["a", "b"]},
    "DataParallel": lambda: {"state_dict": wrapped(state())},
    "whole model": Net,
    "whole model, wrapped": lambda: nn.DataParallel(Net()),
    "whole model in a container": lambda: {"model": Net(), "optimizer": optimizer(), "epoch": 3},
    "model beside its own state dict": lambda: (lambda net: {"net": net, "state_dict": net.state_dict()})(Net()),
    "list": lambda: [state(), optimizer().state_dict()],
    "tuple": lambda: (state(), 5),
    "trainer": Trainer,
    "generator state beside it": lambda: {"rng": torch.get_rng_state(), "weights": {"model": state()}},
    "statistics beside it": lambda: {"model": state(), "input": {"mean": torch.zeros(3), "std": torch.ones(3)}},
    "scheduler masks beside it": lambda: {"net": state(), "compression_sched": {"masks": state()}},
}
"""Files of one model, the one with the tensors of `Net`."""

SEVERAL_MODELS: dict[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
    "gan": (lambda: {"G": state(), "D": nn.Linear(3, 1).state_dict(), "epoch": 1}, ("G", "D")),
    "raw and ema": (
        lambda: {"model": state(), "ema": state(), "optimizer": optimizer().state_dict()},
        ("model", "ema"),
    ),
    "teacher and student": (
        lambda: {"student": state(), "teacher": state(), "loss": {"center": torch.zeros(1, 9)}},
        ("student", "teacher"),
    ),
    "nested": (lambda: {"nets": {"a": state(), "b": state()}}, ("nets.a", "nets.b")),
    "list of two": (lambda: [state(), state()], ("[0]", "[1]")),
    "whole models": (lambda: {"g": Net(), "d": Net()}, ("g", "d")),
}
"""Files of several models, and their names."""

NO_MODEL: dict[str, Callable[[], Any]] = {
    "optimizer": lambda: optimizer().state_dict(),
    "pickled optimizer": optimizer,
    "optimizer's slots": lambda: {"slots": {0: {"exp_avg": torch.zeros(3, 3), "step": torch.tensor(1.0)}}},
    "optimizer flattened": lambda: {"state.fc.weight.exp_avg": torch.zeros(3, 3), "param_groups.fc.weight.lr": 0.1},
    "generator states": lambda: {"python": (3, (1, 2)), "cpu": torch.get_rng_state(), "cuda": [torch.get_rng_state()]},
    "scheduler": lambda: {"base_lrs": [0.1], "last_epoch": 3, "_last_lr": [0.05]},
    "scalars": lambda: {"epoch": 3, "lr": 0.1, "name": "x", "done": True, "none": None},
    "loss": lambda: {"loss": torch.tensor(0.5), "epoch": 3},
    "tensor": lambda: torch.zeros(3, 4),
    "tensors": lambda: [torch.zeros(3), torch.ones(2)],
    "empty": dict,
    "none": lambda: None,
    "number": lambda: 5,
    "numpy": lambda: {"a": numpy.float32(3.5), "n": numpy.int64(7), "b": numpy.bool_(True)},
}
"""Files without a model."""


def saved(obj: object) -> bytes:
    """What `torch.save` makes of an object."""
    buffer = io.BytesIO()
    torch.save(obj, buffer)
    return buffer.getvalue()
