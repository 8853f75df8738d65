"""Whatever torch.save writes: rh.load gives what torch.load gives, and rh.open's references read as its tensors."""

from __future__ import annotations

import io
from collections import defaultdict
from typing import Any

import ml_dtypes
import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import rehydrate as rh

from ..effort import tried
from .likeness import assert_alike
from .trees import COMPOSITES, DTYPES, attributed, dense_tensors, trees

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:.*{what}")
    for what in ("quantize", "Sparse", "nested tensors", "TypedStorage", "ComplexHalf")  # torch may change them one day
]


def saved(obj: object, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(obj, buffer, **options)
    return buffer.getvalue()


def reloaded(data: bytes) -> object:
    return torch.load(io.BytesIO(data), weights_only=True)


@tried(250)
@given(trees())
def test_a_tree_that_torch_saved_loads_as_torch_loads_it(tree: object) -> None:
    data = saved(tree)
    assert_alike(rh.load(data), reloaded(data))


@pytest.mark.parametrize("name", sorted(COMPOSITES))
def test_a_tensor_that_is_more_than_a_window_loads_as_torch_loads_it(name: str) -> None:
    tensor = COMPOSITES[name]()
    data = saved({"one": tensor, "again": tensor})
    assert_alike(rh.load(data), reloaded(data))


def as_array(tensor: torch.Tensor) -> numpy.ndarray[Any, Any]:
    """A tensor's elements as an array of its own, by torch's bytes and not by ours."""
    plain = tensor.detach().resolve_conj().resolve_neg()
    if plain.dtype is torch.complex32:
        plain = plain.to(torch.complex64)
    name = str(plain.dtype).removeprefix("torch.")
    if name.startswith(("bits", "float4")):
        name = "uint16" if name == "bits16" else "uint8"
    kind = numpy.dtype(getattr(ml_dtypes, name) if name.startswith(("bfloat", "float8")) else name)
    return numpy.frombuffer(bytes_of(plain), kind).reshape(plain.shape)


def bytes_of(tensor: torch.Tensor) -> bytes:
    """The bytes of a tensor's elements in order, whatever torch can do with their type."""
    width = tensor.element_size()
    raw = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
    strides = (*(stride * width for stride in tensor.stride()), 1)
    window = raw.as_strided((*tensor.shape, width), strides, tensor.storage_offset() * width)
    return window.contiguous().numpy().tobytes()


@st.composite
def indices(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Basic indices that fit a shape: integers, slices with positive steps, and at most one ellipsis."""
    index: list[Any] = []
    for extent in shape[: draw(st.integers(0, len(shape)))]:
        if extent and draw(st.booleans()):
            index.append(draw(st.integers(-extent, extent - 1)))
        else:
            ends = st.none() | st.integers(-extent - 2, extent + 2)
            index.append(slice(draw(ends), draw(ends), draw(st.none() | st.integers(1, 3))))
    if len(index) <= len(shape) and draw(st.booleans()):
        index.append(...)
    return tuple(index)


@tried(250)
@given(dense_tensors(), st.data())
def test_a_reference_reads_as_the_tensor_and_its_slices_as_slices_of_it(
    tensors: list[torch.Tensor], data: st.DataObject
) -> None:
    with rh.open(saved({f"t{at}": tensor for at, tensor in enumerate(tensors)})) as checkpoint:
        assert list(checkpoint) == [f"t{at}" for at in range(len(tensors))]
        for ref, tensor in zip(checkpoint.values(), tensors, strict=True):
            assert (ref.shape, ref.strides, ref.offset) == (tensor.shape, tensor.stride(), tensor.storage_offset())
            assert_same_array(ref.numpy(), as_array(tensor))
            index = data.draw(indices(tuple(tensor.shape)))
            window = as_array(tensor)[index if ... in index else (*index, ...)]  # an array, also of no dimensions
            assert_same_array(ref[index].numpy(), window)
            mine = ref.torch()
            assert (mine.dtype, mine.shape, mine.requires_grad) == (tensor.dtype, tensor.shape, False)
            assert_same_array(as_array(mine), as_array(tensor))
            if not (tensor.is_conj() or tensor.is_neg()):
                assert bytes_of(mine) == bytes_of(tensor)


def assert_same_array(one: numpy.ndarray[Any, Any], other: numpy.ndarray[Any, Any]) -> None:
    """The same bits; only the sign and the payload of what is not a number depend on who computes."""
    assert (one.dtype, one.shape) == (other.dtype, other.shape)
    if one.tobytes() != other.tobytes():
        real = numpy.zeros(0, one.dtype).real.dtype
        mine, theirs = (numpy.ascontiguousarray(each).reshape(-1).view(real) for each in (one, other))
        assert numpy.array_equal(numpy.isnan(mine), numpy.isnan(theirs))
        assert mine[~numpy.isnan(mine)].tobytes() == theirs[~numpy.isnan(mine)].tobytes()


def test_an_array_is_writable_and_outlives_the_file() -> None:
    with rh.open(saved({"w": torch.arange(4.0)})) as checkpoint:
        array = checkpoint["w"].numpy()
        again = checkpoint["w"].numpy()
    array += 1
    assert array.tolist() == [1, 2, 3, 4]
    assert again.tolist() == [0, 1, 2, 3]


def test_every_element_type_is_covered() -> None:
    named = {value for value in vars(torch).values() if isinstance(value, torch.dtype)}
    saveable = set(torch.storage._new_dtypes()) | set(torch.storage._dtype_to_storage_type_map())
    quantised = {torch.quint8, torch.qint8, torch.qint32, torch.quint4x2, torch.quint2x4}
    assert named & saveable - quantised <= set(DTYPES)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_pickle_protocol_that_torch_can_be_asked_for_opens(protocol: int) -> None:
    tree = {"w": torch.ones(2, 3), "b": b"bytes", "set": {1, 2}, "big": 1 << 99, "more": [torch.zeros(1)] * 2}
    assert_alike(rh.load(saved(tree, pickle_protocol=protocol)), reloaded(saved(tree)))


def test_a_file_position_does_not_matter_and_stays_usable() -> None:
    stream = io.BytesIO(saved({"w": torch.ones(2)}))
    stream.read(7)
    assert_alike(rh.load(stream), {"w": torch.ones(2)})
    assert_alike(rh.load(stream), {"w": torch.ones(2)})


def test_plain_values_that_torch_refuses_come_back_too() -> None:
    tree = {"d": defaultdict(list, {"a": [1]}), "e": b"", "f": frozenset({1}), "r": range(3), "s": slice(1, 2)}
    loaded = rh.load(saved(tree))
    assert loaded == tree
    assert isinstance(loaded, dict)
    assert loaded["d"].default_factory is list


def test_a_newer_element_type_that_requires_grad_opens_though_torch_cannot_read_it() -> None:
    tensor = torch.ones(2).to(torch.float8_e5m2).requires_grad_()
    loaded = rh.load(saved({"w": tensor}))
    assert isinstance(loaded, dict)
    assert loaded["w"].requires_grad
    assert loaded["w"].dtype is torch.float8_e5m2


def test_tensors_of_other_element_types_on_one_untyped_storage_share_it() -> None:
    words = torch.arange(8, dtype=torch.int16).view(torch.uint16)
    tree = [words, words.view(torch.uint8), words.view(torch.float8_e5m2)[3:], words.untyped_storage()]
    data = saved(tree)
    assert_alike(rh.load(data), reloaded(data))


def test_bare_storages_load_as_torch_loads_them() -> None:
    floats, numbers = torch.arange(4.0), torch.arange(4, dtype=torch.uint8)
    data = saved({"typed": floats.storage(), "w": floats[1:], "untyped": numbers.untyped_storage(), "n": numbers[1:]})
    assert_alike(rh.load(data), reloaded(data))


def test_a_tensor_with_attributes_keeps_them_and_a_tensor_inside_them() -> None:
    inner = torch.arange(2)
    data = saved([attributed(torch.ones(2), {"inner": inner}), attributed(nn.Parameter(torch.ones(1)), 3), inner])
    assert_alike(rh.load(data), reloaded(data))


def test_an_attribute_never_overrides_what_a_tensor_is() -> None:
    tensor = torch.ones(2)
    tensor.__dict__["numpy"] = "mine"
    tensor.__dict__["fine"] = "kept"
    loaded = rh.load(saved(tensor))
    assert isinstance(loaded, torch.Tensor)
    assert loaded.__dict__ == {"fine": "kept"}


def test_a_module_that_was_saved_whole_is_a_record_with_its_tensors() -> None:
    with rh.open(saved(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)))) as checkpoint:
        assert isinstance(checkpoint.tree, rh.Record)
        assert list(checkpoint) == list(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).state_dict())


@pytest.mark.parametrize(
    "context",
    [lambda: torch.device("meta"), torch.inference_mode, torch.no_grad, lambda: torch.autocast("cpu")],
    ids=["default device", "inference", "no grad", "autocast"],
)
def test_what_a_file_holds_does_not_depend_on_the_context_that_it_is_loaded_in(context: Any) -> None:
    data = saved({name: make() for name, make in COMPOSITES.items()} | {"p": nn.Parameter(torch.arange(3.0)[1:])})
    expected = reloaded(data)
    with context():
        loaded = rh.load(data)
        with rh.open(data) as checkpoint:
            assert checkpoint["p"].torch().tolist() == [1, 2]
    assert_alike(loaded, expected)
