"""The parts of a file in a few words each."""

from __future__ import annotations

import argparse
import collections
import io
import pickle
import zipfile
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

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
        (argparse.Namespace(), "a pickled argparse.Namespace"),
        (argparse.Namespace(lr=1, wd=2), "a pickled argparse.Namespace with lr, wd"),
        (argparse.Namespace(**dict.fromkeys("abcdef")), "a pickled argparse.Namespace with a, b, c, d and 2 more"),
        (argparse.Namespace, "argparse.Namespace, a class or function by name"),
        ([numpy.float64(1)], "a list of 1 item"),
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


NUMBERS: dict[str, Any] = {
    kind: st.integers(numpy.iinfo(kind).min, numpy.iinfo(kind).max)
    for kind in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
} | {"float32": st.floats(width=32), "float64": st.floats(), "float16": st.floats(width=16), "bool": st.booleans()}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_numpy_number_is_the_number(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(NUMBERS)))
    number = numpy.dtype(kind).type(data.draw(NUMBERS[kind]))
    text, _, name = said(number).partition(", a numpy ")
    assert name == kind
    assert text == (f"{float(number):.9g}" if kind.startswith("float") else str(number.item()))


def test_a_numpy_array_is_its_type_and_its_shape() -> None:
    assert said(numpy.zeros((3, 4), "float32")) == "a numpy array, float32 [3, 4], 12 numbers"
    assert said(numpy.zeros((), ">i8")) == "a numpy array, int64 [], 1 number"
    assert said(numpy.array(["abc"])) == "a numpy array, U3 [1], 1 number"


def test_an_empty_root_and_a_root_that_is_no_container_are_said() -> None:
    assert listed({}) == ["an empty dictionary"]
    assert listed([]) == ["an empty list"]
    assert listed(None) == ["None"]
    assert listed(torch.zeros(2)) == ["a tensor, float32 [2]"]
    assert listed(numpy.float64(2)) == ["2, a numpy float64"]
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
    for data in (pickle.dumps(state()), pickle.dumps({"net": state()})):
        with rh.open(data) as checkpoint:
            assert why_no_model(checkpoint.tree) == (
                "none that can be read: pickle wrote its tensors, and torch.save did not"
            )
    with zipfile.ZipFile(io.BytesIO(saved({"net": state()}))) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        with rh.open(archive.read(name)) as checkpoint:
            assert why_no_model(checkpoint.tree) == "none that can be read: its tensors are elsewhere"
