"""Values that checkpoints hold beside tensors, in files of torch.save: as torch gives them, or as they were saved.

Where torch's safe reader knows the value, it is the oracle. It refuses most; then what was saved is: it is our own.
"""

from __future__ import annotations

import datetime
import decimal
import io
import pathlib
import pickle
import random
import uuid
from argparse import Namespace
from collections import defaultdict, deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
import torch

import rehydrate as rh
from rehydrate.checkpoint.record import Record
from rehydrate.checkpoint.tensor import TensorRef

from ..pickles.alike import difference
from .likeness import assert_alike

pytestmark = [pytest.mark.filterwarnings(f"ignore:.*{what}") for what in ("TypedStorage", "lr_scheduler")]


def saved(value: object, *, as_zip: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=as_zip)
    return buffer.getvalue()


def _optimizers() -> dict[str, Any]:
    net = torch.nn.Linear(3, 2)
    adam = torch.optim.AdamW(net.parameters(), lr=0.1, amsgrad=True)
    net(torch.ones(1, 3)).sum().backward()
    adam.step()
    plans = torch.optim.lr_scheduler.OneCycleLR(adam, 0.1, total_steps=9)
    sgd = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    sgd.step()
    return {
        "adam": adam.state_dict(),
        "sgd": sgd.state_dict(),
        "schedule": {key: value for key, value in plans.state_dict().items() if not callable(value)},
        "scaler": torch.amp.GradScaler("cpu").state_dict(),
    }


KNOWN_TO_TORCH: dict[str, Callable[[], Any]] = {
    "sizes, devices, dtypes, layouts": lambda: [torch.Size((2, 3)), torch.device("cuda:1"), torch.bfloat16],
    "the state of a generator": lambda: [torch.get_rng_state(), torch.Generator().get_state()],
    "the state of Python's generator": random.getstate,
    "optimizers, schedules and scalers": _optimizers,
    "a parameter without a gradient": lambda: torch.nn.Parameter(torch.ones(2), requires_grad=False),
    "parameters in lists of both kinds": lambda: (
        list(torch.nn.Linear(2, 2).parameters()),
        [torch.nn.Buffer(torch.ones(2))],
    ),
    "a model's state with its versions": lambda: torch.nn.BatchNorm2d(3).state_dict(),
    "a state with packed weights": lambda: torch.nn.LSTM(2, 3, 2).state_dict(),
}


@pytest.mark.parametrize("as_zip", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", KNOWN_TO_TORCH)
def test_what_torch_reads_without_trust_loads_as_torch_loads_it(name: str, as_zip: bool) -> None:
    torch.manual_seed(0)
    data = saved(KNOWN_TO_TORCH[name](), as_zip=as_zip)
    assert_alike(rh.load(data), torch.load(io.BytesIO(data), weights_only=True))


REFUSED_BY_TORCH: dict[str, Any] = {
    "namespaces": {"args": Namespace(lr=0.1, sizes=[1, 2]), "cfg": SimpleNamespace(inner=Namespace(a=None))},
    "paths": [pathlib.PurePosixPath("/data/x"), pathlib.Path("relative"), pathlib.PureWindowsPath("C:/data")],
    "times": [
        datetime.datetime(2024, 2, 29, 12, 30, tzinfo=datetime.UTC), datetime.date(2024, 2, 29), datetime.time(3),
        datetime.timedelta(days=3, microseconds=5),
    ],
    "exact numbers": [decimal.Decimal("1.50"), uuid.UUID(int=5)],
    "containers": [defaultdict(list, a=[1]), deque([1, 2], 5), frozenset({1}), range(3), slice(1, 2), ...],
    "scalars": [numpy.float64(0.5), numpy.int64(-3), numpy.bool_(True), numpy.complex64(1j), numpy.str_("x")],
    "arrays": {"mean": numpy.arange(6.0).reshape(2, 3), "t": numpy.ones((2, 3)).T, "words": numpy.array(["a"])},
}  # fmt: skip


@pytest.mark.parametrize("as_zip", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", REFUSED_BY_TORCH)
def test_what_torch_refuses_loads_as_it_was_saved(name: str, as_zip: bool) -> None:
    data = saved({"value": REFUSED_BY_TORCH[name], "w": torch.ones(2)}, as_zip=as_zip)
    loaded: Any = rh.load(data)
    assert not difference(loaded["value"], REFUSED_BY_TORCH[name])
    assert torch.equal(loaded["w"], torch.ones(2))


def _saved_as(kind: Any, args: tuple[Any, ...], state: Any) -> Any:
    """Something that pickles as this call with this state."""

    class Old:
        def __reduce__(self) -> Any:
            return kind, args, state

    return Old()


@pytest.mark.parametrize("requires_grad", [True, False])
def test_a_parameter_of_before_0_4_is_one(requires_grad: bool) -> None:
    old = _saved_as(torch.nn.Parameter, (torch.arange(3.0),), (requires_grad, False, None))
    data = saved({"w": old, "again": [old]})
    assert_alike(rh.load(data), torch.load(io.BytesIO(data), weights_only=True))
    with rh.open(data) as checkpoint:
        assert list(checkpoint) == ["w", "again[0]"]
        assert "parameter" in checkpoint["w"].traits


@pytest.mark.parametrize("kind", ["torch.autograd.variable\nVariable", "torch.nn.parameter\nParameter"])
def test_a_variable_of_before_0_1_10_is_the_tensor_in_it(kind: str) -> None:
    tensor = pickle.dumps(torch.arange(3.0), 2)[2:-1]
    data = b"\x80\x02c" + kind.encode() + b"\n)\x81(" + tensor + b"NN\x88\x89tb."
    with rh.open(data) as checkpoint:
        assert isinstance(checkpoint.tree, TensorRef)
        assert checkpoint.tree.traits == {"requires_grad", *(["parameter"] if "Parameter" in kind else [])}
    assert rh.load(data).tolist() == [0.0, 1.0, 2.0]  # type: ignore[attr-defined]


class Halves(torch.Tensor):
    """A subclass that keeps its numbers in two tensors, as DTensor and many quantised tensors do."""

    @staticmethod
    def __new__(cls, left: torch.Tensor, right: torch.Tensor) -> Halves:
        shape = (left.shape[0] + right.shape[0], *left.shape[1:])
        made: Any = torch.Tensor._make_wrapper_subclass(cls, shape, dtype=left.dtype)
        made.left, made.right = left, right
        return made  # type: ignore[no-any-return]

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten.detach.default:
            return args[0]
        raise NotImplementedError(function)


@pytest.mark.parametrize("as_zip", [True, False], ids=["zip", "legacy"])
def test_a_subclass_that_holds_other_tensors_is_a_record_with_those_in_it(as_zip: bool) -> None:
    data = saved({"w": Halves(torch.ones(2, 3), torch.zeros(1, 3))}, as_zip=as_zip)
    with rh.open(data) as checkpoint:
        record = checkpoint.tree["w"]
        assert record.path == f"{__name__}.Halves"
        assert {name: ref.shape for name, ref in checkpoint.items()} == {"w.left": (2, 3), "w.right": (1, 3)}
        assert f"{__name__}.Halves" in checkpoint.facts["calls"]
    loaded: Any = rh.load(data)
    assert type(loaded["w"]) is Record
    assert torch.equal(loaded["w"].state["left"], torch.ones(2, 3))


def test_tensors_that_xla_once_saved_through_numpy_are_tensors() -> None:
    class Through:
        def __reduce__(self) -> Any:
            array = numpy.arange(3, dtype="f4")
            return torch._utils._rebuild_device_tensor_from_numpy, (array, torch.float32, "xla:0", True)

    with rh.open(saved({"w": Through()})) as checkpoint:
        ref = checkpoint["w"]
        assert type(ref) is TensorRef
        assert (ref.storage.location, ref.traits) == ("xla:0", {"requires_grad"})
        assert ref.numpy().tolist() == [0.0, 1.0, 2.0]
    loaded: Any = rh.load(saved({"w": Through()}), device="cpu")
    assert torch.equal(loaded["w"].detach(), torch.arange(3.0))


def test_an_array_shared_by_a_tensor_and_itself_is_each_its_own() -> None:
    array = numpy.arange(4.0)
    loaded: Any = rh.load(saved({"a": array, "again": array, "t": torch.from_numpy(array)}))
    assert loaded["a"] is loaded["again"]
    loaded["a"][0] = 9
    assert loaded["t"][0] == 0


def test_map_location_does_not_move_arrays() -> None:
    loaded: Any = rh.load(saved({"a": numpy.ones(2), "t": torch.ones(2)}), map_location="meta")
    assert type(loaded["a"]) is numpy.ndarray
    assert loaded["t"].is_meta
