"""rh.save: the format by suffix, strangers refused with their paths, and no trace of what was refused."""

from __future__ import annotations

import dataclasses
import enum
import os
import pathlib
import pickle
import re
from collections import OrderedDict, UserDict, defaultdict, deque, namedtuple
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import nn

import rehydrate as rh

TORCH_SUFFIXES = [".pth", ".pt", ".bin", ".ckpt", ".tar", ".PTH", ".pth.tar"]
PICKLE_SUFFIXES = [".pickle", ".pkl", ".PKL"]


@pytest.mark.parametrize("suffix", TORCH_SUFFIXES)
def test_these_suffixes_are_torch_zips(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"net{suffix}"
    saved = rh.save({"w": torch.ones(2), "n": [torch.zeros(1)]}, path)
    assert (saved.format, saved.tensors, saved.path, saved.nbytes) == ("torch-zip", 2, str(path), path.stat().st_size)
    assert torch.load(path, weights_only=True)["w"].tolist() == [1, 1]
    assert str(saved).endswith(f"net{suffix}: 2 tensors, {saved.nbytes} bytes, torch-zip")
    with rh.open(path) as checkpoint:
        assert checkpoint.format == "torch-zip"


@pytest.mark.parametrize("suffix", PICKLE_SUFFIXES)
def test_these_suffixes_are_plain_pickles(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"net{suffix}"
    assert rh.save({"a": [1, 2]}, path).format == "pickle"
    assert pickle.loads(path.read_bytes()) == {"a": [1, 2]}


def test_a_format_may_be_named_instead(tmp_path: Path) -> None:
    assert rh.save({"w": torch.ones(1)}, tmp_path / "net.weights", format="torch-zip").format == "torch-zip"
    assert rh.save([1], os.fspath(tmp_path / "no-suffix"), format="pickle").format == "pickle"
    assert rh.load(tmp_path / "no-suffix") == [1]


@pytest.mark.parametrize(
    ("name", "format", "words"),
    [
        ("net", None, r"no suffix[\s\S]*\.pth"),
        ("net.weights", None, r"'\.weights' says nothing[\s\S]*\.pth"),
        ("net.safetensors", None, "says nothing"),
        ("net.pth", "zip", r"no format 'zip'[\s\S]*torch-zip"),
    ],
)
def test_a_format_that_is_not_known_is_told(name: str, format: str | None, words: str, tmp_path: Path) -> None:  # noqa: A002
    with pytest.raises(rh.SaveError, match=words):
        rh.save({}, tmp_path / name, format=format)
    assert list(tmp_path.iterdir()) == []


class Colour(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass
class Config:
    lr: float = 0.1


class Plain:
    def __init__(self) -> None:
        self.a = 1


class Dict(dict[str, int]):
    pass


class Str(str):
    __slots__ = ()


class Tensor(torch.Tensor):
    pass


Pair = namedtuple("Pair", "a b")

STRANGERS: dict[str, tuple[Any, str]] = {
    "module": (nn.Linear(1, 1), r"save its \.state_dict\(\)"),
    "optimizer": (torch.optim.SGD(nn.Linear(1, 1).parameters()), r"save its \.state_dict\(\)"),
    "lambda": (lambda: 1, "that is code"),
    "function": (os.path.join, "that is code"),
    "class": (Plain, "that is code"),
    "array": (numpy.ones(2), r"torch\.from_numpy"),
    "array scalar": (numpy.float64(2), r"value\.item\(\)"),
    "dataclass": (Config(), r"dataclasses\.asdict"),
    "enum": (Colour.RED, r"value\.name or value\.value"),
    "int enum": (Level.LOW, r"value\.name or value\.value"),
    "path": (pathlib.PurePosixPath("/a"), r"str\(value\)"),
    "object": (Plain(), r"vars\(value\)"),
    "dict of one's own": (Dict(a=1), r"save a plain dict: dict\(value\)"),
    "defaultdict": (defaultdict(list), r"save a plain dict: dict\(value\)"),
    "user dict": (UserDict(), r"vars\(value\)"),
    "str of one's own": (Str("x"), r"save a plain str: str\(value\)"),
    "named tuple": (Pair(1, 2), r"save a plain tuple: tuple\(value\)"),
    "tensor of one's own": (torch.ones(1).as_subclass(Tensor), r"as_subclass\(torch\.Tensor\)"),
    "lazy parameter": (nn.LazyLinear(1).weight, "run a batch through the model first"),
    "generator": ((number for number in [1]), "plain data"),
    "deque": (deque([1]), "plain data"),
    "frozenset": (frozenset({1}), "save a set or a sorted list"),
    "range": (range(3), "plain data"),
    "slice": (slice(3), "plain data"),
    "module of Python": (os, r"vars\(value\)"),
    "memory": (memoryview(b"x"), "plain data"),
    "generator of torch": (torch.Generator(), "plain data"),
    "record": (rh.Record("a", "b"), "plain data"),
    "number too long": (1 << 5000, "255 bytes"),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_a_stranger_is_refused_with_its_path_and_what_to_do_and_leaves_no_trace(name: str, tmp_path: Path) -> None:
    value, advice = STRANGERS[name]
    path = tmp_path / "net.pth"
    rh.save({"old": torch.ones(1)}, path)
    before = path.read_bytes()
    tree = {"state_dict": {"w": torch.zeros(3)}, "config": {"deep": [0, {"here": value}]}}
    with pytest.raises(rh.SaveError, match=advice) as caught:
        rh.save(tree, path)
    assert re.search(r"where +config\.deep\[1\]\.here", str(caught.value))
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.pth"]


@pytest.mark.parametrize(
    "place", ["root", "key", "in a tuple", "in a set", "attribute of a tensor", "attribute of a dict"]
)
def test_a_stranger_is_found_wherever_it_is(place: str, tmp_path: Path) -> None:
    stranger = Plain()
    tensor, ordered = torch.ones(1), OrderedDict(a=1)
    tensor.tag = stranger  # type: ignore[attr-defined]
    ordered.note = stranger  # type: ignore[attr-defined]
    tree, where = {
        "root": (stranger, "the object itself"),
        "key": ({stranger: 1}, "<"),
        "in a tuple": ({"t": (1, (2, stranger))}, r"t\[1\]\[1\]"),
        "in a set": ({"s": {stranger}}, r"s"),
        "attribute of a tensor": ({"w": tensor}, r"w\.tag"),
        "attribute of a dict": ({"d": ordered}, r"d\.note"),
    }[place]
    with pytest.raises(rh.SaveError, match=rf"where +.*{where}"):
        rh.save(tree, tmp_path / "x.pth")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "value", [torch.ones(1), nn.Parameter(torch.ones(1)), torch.float32, torch.Size([1]), Plain(), len]
)
def test_a_plain_pickle_holds_plain_data_only(value: object, tmp_path: Path) -> None:
    with pytest.raises(rh.SaveError, match=r"a\[0\]"):
        rh.save({"a": [value]}, tmp_path / "x.pickle")
    assert list(tmp_path.iterdir()) == []


def test_a_tensor_that_torch_could_not_read_back_is_refused(tmp_path: Path) -> None:
    words = torch.ones(2)
    for tree in (
        {"a": {"w": torch.ones(2).to(torch.float8_e5m2).requires_grad_()}},
        {"a": {"w": words.requires_grad_()}, "b": words.detach().view(torch.uint8)},
    ):
        with pytest.raises(rh.SaveError, match=r"requires grad[\s\S]*a\.w[\s\S]*detach"):
            rh.save(tree, tmp_path / "x.pth")


def test_the_names_of_a_file_with_any_stem_are_read_by_torch(tmp_path: Path) -> None:
    for stem in ("模型", "a b", "ünï", "a.b.c", "-", "x" * 200):
        path = tmp_path / f"{stem}.pth"
        rh.save({"w": torch.ones(1)}, path)
        assert torch.load(path, weights_only=True)["w"].tolist() == [1]
        assert torch.equal(rh.load(path)["w"], torch.ones(1))


def test_saving_a_module_leaves_it_as_it_was(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout()).train()
    before = {name: (id(value), value.clone()) for name, value in model.named_parameters()}
    rh.save(model, tmp_path / "x.pth")
    assert model.training
    assert all(id(value) == before[name][0] for name, value in model.named_parameters())
    assert all(torch.equal(value, before[name][1]) for name, value in model.named_parameters())


def test_a_file_may_be_saved_over_itself_while_it_is_open(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    rh.save({"w": torch.ones(3)}, path)
    with rh.open(path) as checkpoint:
        rh.save({"w": torch.zeros(3)}, path)
        assert checkpoint["w"].numpy().tolist() == [1, 1, 1]
    loaded = rh.load(path)
    rh.save(loaded, path)
    assert torch.load(path, weights_only=True)["w"].tolist() == [0, 0, 0]
