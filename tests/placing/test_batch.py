"""to_device: every tensor of a batch goes to where the model lives; everything else stays what it is."""

from __future__ import annotations

from collections import Counter, OrderedDict, UserDict, defaultdict, deque
from dataclasses import InitVar, dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

import rehydrate as rh

META = nn.Linear(1, 1, device="meta")


class Point(NamedTuple):
    x: Any
    name: str


@dataclass
class Sample:
    image: torch.Tensor
    label: int
    seed: InitVar[int] = 3
    size: int = field(init=False, default=0)

    def __post_init__(self, seed: int) -> None:
        self.size = seed


@dataclass(frozen=True)
class Frozen:
    image: torch.Tensor
    more: tuple[Any, ...] = ()


class Opaque:
    def __init__(self) -> None:
        self.tensor = torch.ones(1)


def test_tensors_move_in_every_kind_of_container_and_nothing_else_changes() -> None:
    opaque = Opaque()
    sample = Sample(torch.ones(2), 7, seed=9)
    sample.size = 11
    batch = {
        "tensor": torch.ones(2),
        "list": [torch.ones(1), 1, None, "cuda", b"x"],
        "tuple": (torch.ones(1), (torch.ones(1),)),
        "named": Point(torch.ones(1), "p"),
        "set": {torch.ones(1)},
        "deque": deque([torch.ones(1)], maxlen=3),
        "ordered": OrderedDict(a=torch.ones(1)),
        "default": defaultdict(list, a=torch.ones(1)),
        "counts": Counter("aab"),
        "user": UserDict(a=torch.ones(1)),
        "proxy": MappingProxyType({"a": torch.ones(1)}),
        "sample": sample,
        "frozen": Frozen(torch.ones(1), (torch.ones(1), "x")),
        "packed": pack_sequence([torch.ones(3, 2), torch.ones(1, 2)]),
        "size": torch.Size([1, 2]),
        "opaque": opaque,
        "range": range(3),
        7: torch.ones(1),
    }
    moved = rh.to_device(batch, META)
    assert list(moved) == list(batch)
    for name, value in batch.items():
        if name != "proxy":
            assert type(moved[name]) is type(value), name
    for tensor in (
        moved["tensor"], moved["list"][0], moved["tuple"][0], moved["tuple"][1][0], moved["named"].x, *moved["set"],
        moved["deque"][0], moved["ordered"]["a"], moved["default"]["a"], moved["user"]["a"], moved["proxy"]["a"],
        moved["sample"].image, moved["frozen"].image, moved["frozen"].more[0], moved["packed"].data, moved[7],
    ):  # fmt: skip
        assert tensor.is_meta
    assert moved["list"][1:] == [1, None, "cuda", b"x"]
    assert moved["deque"].maxlen == 3
    assert moved["default"].default_factory is list
    assert moved["counts"] == Counter("aab")
    assert (moved["sample"].label, moved["sample"].size) == (7, 11)
    assert moved["frozen"].more[1] == "x"
    assert isinstance(moved["packed"], PackedSequence)
    assert moved["opaque"] is opaque
    assert not opaque.tensor.is_meta
    assert not batch["tensor"].is_meta
    assert not sample.image.is_meta


@pytest.mark.parametrize("goal", ["meta", torch.device("meta"), META, nn.Sequential(nn.ReLU(), META)])
def test_a_device_does_as_well_as_a_model(goal: Any) -> None:
    assert rh.to_device(torch.ones(1), goal).is_meta


@pytest.mark.parametrize("model", [nn.ReLU(), nn.Linear(1, 1), nn.BatchNorm1d(1, affine=False)])
def test_what_is_there_already_is_not_copied(model: nn.Module) -> None:
    tensor = torch.ones(1)
    sample = Frozen(tensor)
    assert rh.to_device(tensor, model) is tensor
    assert rh.to_device(sample, model) is sample or rh.to_device(sample, model).image is tensor


def test_a_model_of_buffers_only_says_where_it_lives() -> None:
    assert rh.to_device(torch.ones(1), nn.BatchNorm1d(1, affine=False, device="meta")).is_meta


@pytest.mark.parametrize("goal", ["cuda:99", "nonsense"])
def test_a_device_that_is_not_there_is_an_error(goal: str) -> None:
    with pytest.raises(rh.DeviceError, match="cpu"):
        rh.to_device(torch.ones(1), goal)
