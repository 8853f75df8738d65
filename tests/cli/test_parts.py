"""The parts of a file in a few words each."""

from __future__ import annotations

import argparse
import collections
import pickle
import types

import numpy
import pytest
import torch

import rehydrate as rh
from rehydrate.cli.parts import held, why_no_model, words

from ..checkpoint.kinds import Net, Trainer, optimizer, saved, state


def said(obj: object) -> str:
    with rh.open(saved({"it": obj})) as checkpoint:
        assert isinstance(checkpoint.tree, dict)
        return words(checkpoint.tree["it"])


def listed(obj: object) -> list[str]:
    with rh.open(saved(obj)) as checkpoint:
        return held(checkpoint.tree)


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (37, "37"), (0.5, "0.5"), ("resnet", "'resnet'"), (None, "None"), (True, "True"), ([1, 2], "[1, 2]"),
        ({}, "{}"), (torch.zeros(2, 3), "a tensor, float32 [2, 3]"), (torch.zeros(()).half(), "a tensor, float16 []"),
        (torch.bfloat16, "torch.bfloat16"),
        ([torch.zeros(1)], "a list of 1 item, 1 tensor in it"),
        ((torch.zeros(1), 2), "a tuple of 2 items, 1 tensor in it"),
        ({"a": [torch.zeros(1)], "b": 1}, "a dictionary of 2 entries, 1 tensor in it"),
        ({"a": torch.zeros(1)}, "a state dict, 1 tensor"),
        (collections.OrderedDict(a=torch.zeros(1), b=torch.zeros(1)), "a state dict, 2 tensors"),
        (argparse.Namespace(), "Namespace()"),
        (argparse.Namespace(lr=1, wd=[2]), "Namespace(lr=1, wd=[... 1])"),
        (argparse.Namespace(**dict.fromkeys("abcdefgh", 1)), "Namespace(a=1, b=1, c=1, d=1, e=1, f=1, ... 8)"),
        (types.SimpleNamespace(a=torch.zeros(1), b=1), "a SimpleNamespace of 2 attributes, 1 tensor in it"),
        (argparse.Namespace, "argparse.Namespace, a class or function by name"),
        ([numpy.float64(1), numpy.int8(-3), numpy.bool_(True)], "[1.0, -3, True]"),
        (numpy.array(["abc", "d"]), "['abc', 'd']"),
        (numpy.array("2024-02-29", "M8[D]"), "a pickled numpy._core.multiarray._reconstruct"),
    ],
)  # fmt: skip
def test_a_value_is_said_as_a_person_would(obj: object, expected: str) -> None:
    assert said(obj) == expected


def test_models_and_optimizers_are_said_to_be_such() -> None:
    name = f"{Net.__module__}.Net"
    assert said(state()) == "a state dict, 9 tensors"
    assert said(Net()) == f"the pickled model {name}, 9 tensors"
    assert said(optimizer().state_dict()) == "an optimizer's state, 6 tensors"
    assert said(optimizer()).startswith("the pickled optimizer torch.optim.adam.Adam, ")


def test_a_numpy_array_is_its_type_and_its_shape() -> None:
    assert said(numpy.zeros((3, 4), "float32")) == "a numpy array, float32 [3, 4], 12 numbers"
    assert said(numpy.zeros((), ">i8")) == "a numpy array, int64 [], 1 number"
    assert said([numpy.zeros(2)]) == "a list of 1 item, 1 tensor in it"


def test_an_empty_root_and_a_root_that_is_no_container_are_said() -> None:
    assert listed({}) == ["an empty dictionary"]
    assert listed([]) == ["an empty list"]
    assert listed(None) == ["None"]
    assert listed(torch.zeros(2)) == ["a tensor, float32 [2]"]
    assert listed(numpy.float64(2)) == ["2.0"]
    assert listed(argparse.Namespace(lr=0.1, net=state())) == [
        "a Namespace with:", "lr: 0.1", "net: a state dict, 9 tensors",
    ]  # fmt: skip
    assert listed(state()) == ["a state dict, 9 tensors"]


def test_an_object_at_the_root_is_said_with_its_attributes() -> None:
    assert listed(Trainer()) == [
        f"a pickled {Trainer.__module__}.Trainer with:",
        f"model: the pickled model {Net.__module__}.Net, 9 tensors",
        "history: [1.0, 0.5]",
    ]


def test_parts_with_tensors_come_before_those_without_where_there_is_no_room() -> None:
    lines = listed({**{f"setting {at}": at for at in range(20)}, "net": state(), 7: 1, ("a", 1): 2})
    assert len(lines) == 9
    assert lines[7:] == ["net: a state dict, 9 tensors", "and 15 more"]
    assert lines[0] == "setting 0: 0"


def test_keys_of_any_kind_are_spelled() -> None:
    assert listed({7: 1, ("a", 1): 2, "a\nb": 3, None: 4}) == ["[7]: 1", "[('a', 1)]: 2", "a\\nb: 3", "[None]: 4"]


def test_a_file_whose_tensors_are_not_read_says_so() -> None:
    assert why_no_model({"a": 1}) == "none in this file"
    whole = pickle.dumps({"net": state()})
    with rh.open(whole.replace(b"storage", b"nothing")) as checkpoint:  # bytes of tensors that say something else
        assert why_no_model(checkpoint.tree) == (
            "none that can be read: pickle wrote its tensors, and torch.save did not"
        )
