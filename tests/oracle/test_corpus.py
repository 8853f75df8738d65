"""Every real file that is a torch zip, a legacy stream or a plain pickle, against torch's safe reader.

Where torch opens a file, ours must be the same to the bit. Where torch refuses because of a class that it does not
know, it is given empty stand-ins for those names, still under `weights_only=True`, and the tensors must be the same.
"""

from __future__ import annotations

import json
import os
import warnings
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy
import pytest
import torch

import rehydrate as rh
from rehydrate.pickles.known import HARMLESS

from .likeness import assert_alike, differences

FOLDER = os.environ.get("REHYDRATE_TEST_DATA")
pytestmark = pytest.mark.skipif(
    not FOLDER, reason="REHYDRATE_TEST_DATA is not set: it names a folder with checkpoints/"
)


def entries() -> list[dict[str, Any]]:
    if not FOLDER:
        return []
    listed = json.loads((Path(FOLDER) / "checkpoints" / "index.json").read_text("utf-8"))
    return [entry for entry in listed if entry["kind"] == "torch zip" or is_legacy(entry) or "pickle" in entry["kind"]]


def is_legacy(entry: dict[str, Any]) -> bool:
    """A stream of before 1.6."""
    return str(entry["kind"]).startswith("torch legacy (")


ENTRIES = entries()


def load_safely(path: Path) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old protocols, and of types whose names torch has retired
        return torch.load(path, map_location="cpu", weights_only=True)


def test_every_file_that_torch_opens_is_equal_to_the_bit_here(test_data: Path) -> None:
    compared = 0
    wrong: list[str] = []
    for entry in ENTRIES:
        path = test_data / "checkpoints" / entry["path"]
        try:
            theirs = load_safely(path)
        except Exception:  # noqa: BLE001 - what torch does not open is the next test's
            continue
        compared += 1
        wrong += [f"{entry['path']}: {found}" for found in differences(rh.load(path), theirs)[:3]]
    assert not wrong, "\n".join(wrong)
    assert compared >= 97


def test_every_reference_of_those_files_reads_as_the_tensor_that_torch_gives(test_data: Path) -> None:
    compared = 0
    for entry in ENTRIES:
        path = test_data / "checkpoints" / entry["path"]
        try:
            theirs = load_safely(path)
        except Exception:  # noqa: BLE001
            continue
        if not isinstance(theirs, dict):
            continue
        with rh.open(path) as checkpoint:
            for key, tensor in theirs.items():
                if type(key) is str and type(tensor) is torch.Tensor and not tensor.is_quantized:
                    mine = checkpoint[(key,)].torch()
                    assert (mine.dtype, mine.shape) == (tensor.dtype, tensor.shape), (entry["path"], key)
                    assert same_bits(mine, tensor), (entry["path"], key)
                    compared += 1
    assert compared > 500


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.equal(*(each.contiguous().reshape(-1).view(torch.uint8) for each in (one, other)))


class StandIn:
    """What torch builds for a class that is not installed: it keeps what it was given and does nothing."""

    def __new__(cls, *args: object, **kwargs: object) -> StandIn:
        made = super().__new__(cls)
        made.args = args
        made.state = None
        return made

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        self.state = state

    def __hash__(self) -> int:
        return id(self)


def tensors_in(tree: object) -> Iterator[torch.Tensor]:
    """Every tensor, in an order that both kinds of tree have."""
    seen: set[int] = set()
    stack = [tree]
    while stack:
        value = stack.pop()
        if isinstance(value, torch.Tensor):
            yield value
            continue
        if id(value) in seen:
            continue
        seen.add(id(value))
        inside: list[object] = []
        if isinstance(value, dict):
            inside = list(value.values())
        elif isinstance(value, (list, tuple)):
            inside = list(value)
        elif isinstance(value, (StandIn, rh.Record)):
            inside = [value.args, value.state]
        stack.extend(reversed(inside))


def foreign_names(path: Path, entry: dict[str, Any]) -> list[str]:
    """Names that torch's safe reader does not know; it tells them of zips only."""
    if is_legacy(entry):
        with rh.open(path) as checkpoint:
            return list(checkpoint.facts["imports"])  # type: ignore[call-overload, no-any-return]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return torch.serialization.get_unsafe_globals_in_checkpoint(path)
        except Exception:  # noqa: BLE001 - opcodes that torch's own safe reader does not know
            return []


def test_files_with_classes_that_are_not_installed_give_the_tensors_that_stand_ins_give(test_data: Path) -> None:
    compared = 0
    for entry in ENTRIES:
        path = test_data / "checkpoints" / entry["path"]
        if entry["kind"] != "torch zip" and not is_legacy(entry):
            continue
        foreign = foreign_names(path, entry)
        if not foreign:
            continue
        stand_ins = [(type(name.rpartition(".")[2], (StandIn,), {}), name) for name in foreign]
        with torch.serialization.safe_globals(stand_ins):
            try:
                theirs = load_safely(path)
            except Exception:  # noqa: BLE001
                continue
        ours = list(tensors_in(rh.load(path)))
        assert_alike(ours, list(tensors_in(theirs)))
        compared += bool(ours)
    assert compared >= 18


def test_files_that_torch_refuses_open_with_their_strangers_inert_and_named(test_data: Path) -> None:
    opened = 0
    for entry in ENTRIES:
        path = test_data / "checkpoints" / entry["path"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                foreign = set(torch.serialization.get_unsafe_globals_in_checkpoint(path))
            except Exception:  # noqa: BLE001
                continue
        if not foreign:
            continue
        with rh.open(path) as checkpoint:
            said = {as_python_3(name) for name in checkpoint.facts["imports"]}
            values = rh.load(checkpoint)
        plain = {as_python_3(f"{module}.{name}") for module, name in HARMLESS}  # what we build and torch does not
        assert foreign - said <= plain, entry["path"]
        assert {type(stranger) for stranger in strangers_in(values)} <= {rh.Record, *BUILT}
        opened += 1
    assert opened >= 15


BUILT = (Namespace, PurePosixPath, numpy.ndarray)
"""Classes of values that real files hold and that are built, beside Python's own."""


def as_python_3(name: str) -> str:
    """The name that torch's reader makes of one that protocol 2 writes for Python 2."""
    module, _, leaf = name.rpartition(".")
    return ".".join(NAME_MAPPING.get((module, leaf), (IMPORT_MAPPING.get(module, module), leaf)))


def strangers_in(tree: object) -> Iterator[object]:
    """Whatever is neither a tensor nor a builtin."""
    seen: set[int] = set()
    stack = [tree]
    while stack:
        value = stack.pop()
        if id(value) in seen or isinstance(value, torch.Tensor):
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            stack.extend((*value, *value.values()))
        elif isinstance(value, (list, tuple, set, frozenset)):
            stack.extend(value)
        elif isinstance(value, rh.Record):
            stack.extend((value.args, value.state, *value.items))
            yield value
        elif type(value).__module__ not in ("builtins", "collections", "torch", "torch.storage"):
            yield value
