"""numpy's arrays, scalars and types inside pickles, against numpy: values without numpy, arrays again with it."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

import rehydrate as rh
from rehydrate.checkpoint.record import Record
from rehydrate.checkpoint.tensor import TensorRef

from ..effort import tried
from ..hostile.guard import guarded, warm
from .alike import difference

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
NUMBERS = [
    "?", "i1", "u1",
    *(order + kind for order in "<>" for kind in ("i2", "i4", "i8", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16")),
]  # fmt: skip
SHAPES = arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
ARRAYS = st.sampled_from(NUMBERS).flatmap(lambda kind: arrays_of.arrays(kind, SHAPES)) | st.sampled_from(
    ["<U3", ">U2", "S4"]
).flatmap(lambda kind: arrays_of.arrays(kind, arrays_of.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=3)))
SEEN = st.sampled_from((
    lambda array: array,
    numpy.asfortranarray,
    lambda array: array.T,
    lambda array: array[::-1] if array.ndim else array,
    lambda array: array[..., ::2] if array.ndim else array,
))  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    warm()
    rh.load(pickle.dumps(numpy.zeros(1)))


@tried(400)
@given(st.lists(st.builds(lambda array, see: see(array), ARRAYS, SEEN), max_size=3), st.sampled_from(PROTOCOLS))
def test_arrays_come_out_as_numpy_would_have_built_them(arrays: list[Any], protocol: int) -> None:
    data = pickle.dumps({"arrays": arrays, "pair": (*arrays, *arrays)}, protocol)
    with guarded(), rh.open(data) as checkpoint:
        str(checkpoint)
    expected = pickle.loads(data)
    assert checkpoint.facts["imports"] == ()
    assert not difference(rh.load(data), expected)
    for ref, array in zip(checkpoint.tree["arrays"], expected["arrays"], strict=True):
        if isinstance(ref, TensorRef):
            assert (ref.shape, ref.traits) == (array.shape, {"array"})
            assert ref.numpy().tobytes() == array.astype(array.dtype.newbyteorder("=")).tobytes()


@tried(200)
@given(
    st.sampled_from([*NUMBERS, "<U3", "S3"]).flatmap(lambda kind: arrays_of.from_dtype(numpy.dtype(kind))),
    st.sampled_from(PROTOCOLS),
)
def test_a_scalar_is_the_number_that_it_was(scalar: Any, protocol: int) -> None:
    if not isinstance(scalar, numpy.generic):  # hypothesis gives Python's own text for text
        scalar = numpy.array(scalar)[()]
    if scalar.dtype.itemsize == 0:
        return
    with guarded(), rh.open(pickle.dumps([scalar], protocol)) as checkpoint:
        str(checkpoint)
    assert not difference(checkpoint.tree, [scalar])


def test_looking_at_arrays_and_scalars_loads_no_numpy(tmp_path: Path) -> None:
    path = tmp_path / "arrays.pkl"
    path.write_bytes(
        pickle.dumps({"mean": numpy.zeros((3, 2)), "best": numpy.float32(0.5), "names": numpy.array(["a"])})
    )
    program = (
        "import sys, rehydrate as rh\n"
        f"with rh.open({str(path)!r}) as c:\n"
        "    print(c.tree['best'], c.tree['names'], c['mean'].shape, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "0.5 ['a'] (3, 2) False\n"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_array_in_two_places_is_one(protocol: int) -> None:
    array = numpy.arange(4.0)
    data = pickle.dumps([array, (array,), {"x": array}], protocol)
    with rh.open(data) as checkpoint:
        first, (second,), third = checkpoint.tree
        assert first is second is third["x"]
    loaded: Any = rh.load(data)
    assert loaded[0] is loaded[1][0] is loaded[2]["x"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays_of_objects_are_lists(protocol: int) -> None:
    array = numpy.empty((2, 2), dtype=object)
    array[0, 0], array[1, 1] = {"a": 1}, numpy.arange(3)
    with guarded(), rh.open(pickle.dumps(array, protocol)) as checkpoint:
        str(checkpoint)
    (one, two), (three, four) = checkpoint.tree
    assert (one, two, three) == ({"a": 1}, None, None)
    assert four.numpy().tolist() == [0, 1, 2]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_array_of_objects_that_holds_itself_keeps_what_it_is(protocol: int) -> None:
    array = numpy.empty(1, dtype=object)
    array[0] = array
    with guarded(), rh.open(pickle.dumps(array, protocol)) as checkpoint:
        str(checkpoint)
    (inner,) = checkpoint.tree
    assert isinstance(inner, Record)  # what stood there before it was known that there are objects in it


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_arrays_of_the_types_that_torch_has_and_numpy_lacks_are_tensors_too(name: str, protocol: int) -> None:
    array = numpy.array([1.5, -2.0], getattr(ml_dtypes, name))
    with rh.open(pickle.dumps({"w": array}, protocol)) as checkpoint:
        assert checkpoint["w"].dtype.name == name
        assert checkpoint["w"].numpy().tobytes() == array.tobytes()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_element_type_is_ours_where_torch_has_it(protocol: int) -> None:
    types = [numpy.dtype("f4"), numpy.dtype(">i2"), numpy.dtype("M8[ns]"), numpy.dtype([("a", "i4")])]
    data = pickle.dumps(types, protocol)
    with rh.open(data) as checkpoint:
        first, *others = checkpoint.tree
        assert str(first) == "float32"
        assert [record.path for record in others] == ["numpy.dtype"] * 3
    assert rh.load(data)[0] is torch.float32  # type: ignore[index]


STRANGE = {
    "times": numpy.array(["2024-02-29"], "M8[D]"),
    "a structure": numpy.zeros(2, [("a", "f4"), ("b", "i8")]),
    "long doubles": numpy.zeros(2, numpy.longdouble),
    "masked": numpy.ma.masked_array([1.0, 2.0], mask=[True, False]),
    "records": numpy.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
    "a generator": numpy.random.default_rng(3),
    "an old generator": numpy.random.RandomState(3),
    "a function": numpy.add,
    "a scalar of time": numpy.timedelta64(3, "s"),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", STRANGE)
def test_what_torch_has_nothing_like_stays_a_record_that_shows_what_it_was(name: str, protocol: int) -> None:
    with guarded(), rh.open(pickle.dumps([STRANGE[name]], protocol)) as checkpoint:
        shown = str(checkpoint)
    assert isinstance(checkpoint.tree[0], Record)
    assert "numpy" in shown


def test_the_state_of_an_old_generator_can_be_read() -> None:
    with rh.open(pickle.dumps(numpy.random.RandomState(3))) as checkpoint:
        state = checkpoint.tree.state
        assert (state["bit_generator"], state["state"]["key"].shape) == ("MT19937", (624,))


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
@pytest.mark.parametrize(("state", "why"), [
    (b"K\x01K\x02\x85cnumpy\ndtype\nX\x02\0\0\0f4\x85R\x89C\x04\0\0\0\0", "fewer bytes than elements"),
    (b"K\x01J\xff\xff\xff\xff\x85cnumpy\ndtype\nX\x02\0\0\0f4\x85R\x89C\x04\0\0\0\0", "a negative extent"),
    (b"K\x01\x8a\x09\0\0\0\0\0\0\0\0\x01K\0\x86cnumpy\ndtype\nX\x02\0\0\0f4\x85R\x89C\0", "an extent of 65 bits"),
    (b"K\x01\x8a\x08\0\0\0\0\0\0\0\x40\x8a\x08\0\0\0\0\0\0\0\x40K\0\x87cnumpy\ndtype\nX\x02\0\0\0f4\x85R\x89C\0",
     "more elements than can be counted"),
    (b"K\x01J\x40\x42\x0f\0K\0\x86cnumpy\ndtype\nX\x02\0\0\0U0\x85R\x89C\0", "a million empty lists"),
    (b"K\x01K\x01\x85cnumpy\ndtype\nX\x02\0\0\0U1\x85R\x89C\x04\xff\xff\xff\xff", "text that is none"),
    (b"K\x01K\x01\x85cnumpy\ndtype\nX\x02\0\0\0O8\x85R\x89C\x08" + b"\0" * 8, "objects that are bytes"),
    (b"K\x01N\x85cnumpy\ndtype\nX\x02\0\0\0f4\x85R\x89C\0", "an extent of None"),
    (b"K\x01K\x01\x85N\x89C\x04\0\0\0\0", "no type"),
])  # fmt: skip
def test_an_array_that_cannot_be_stays_a_record(module: str, state: bytes, why: str) -> None:
    head = b"\x80\x03c%s\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\x01b\x87R(" % module.encode()
    with guarded(), rh.open(head + state + b"tb.") as checkpoint:
        str(checkpoint)
        assert len(checkpoint) == 0, why
    assert isinstance(checkpoint.tree, Record)


def test_arrays_of_python_2_are_read() -> None:
    # numpy.array([1.0, -1.0], "f4") as numpy 1.6 on Python 2 pickled it, in protocols 0 and 2; bf80 is no UTF-8
    for data in (
        b"cnumpy.core.multiarray\n_reconstruct\np0\n(cnumpy\nndarray\np1\n(I0\ntp2\nS'b'\np3\ntp4\nRp5\n(I1\n(I2\ntp6\n"
        b"cnumpy\ndtype\np7\n(S'f4'\np8\nI0\nI1\ntp9\nRp10\n(I3\nS'<'\np11\nNNNI-1\nI-1\nI0\ntp12\nbI00\n"
        b"S'\\x00\\x00\\x80?\\x00\\x00\\x80\\xbf'\np13\ntp14\nb.",
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x00cnumpy\nndarray\nq\x01K\x00\x85U\x01b\x87Rq\x02(K\x01K\x02\x85"
        b"cnumpy\ndtype\nq\x03U\x02f4K\x00K\x01\x87Rq\x04(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"U\x08\x00\x00\x80?\x00\x00\x80\xbftb.",
    ):
        with rh.open(data) as checkpoint:
            assert checkpoint.tree.numpy().tolist() == [1.0, -1.0]


def test_arrays_of_python_2_whose_bytes_are_text_are_read() -> None:
    array = numpy.frombuffer("größe und länge".encode(), "u1")
    data = pickle.dumps(array, 2)
    raw = array.tobytes()
    latin = raw.decode("latin-1").encode()
    short = b"U" + bytes((len(raw),)) + raw  # Python 2 wrote the bytes themselves, as a string
    assert data.count(b"X" + len(latin).to_bytes(4, "little") + latin) == 1
    head, rest = data.split(b"h\x03X" + len(latin).to_bytes(4, "little") + latin)
    tail = rest[rest.index(b"R") + 1 :]
    data = head + short + tail
    with rh.open(data) as checkpoint:
        assert checkpoint.tree.numpy().tobytes() == raw


def test_arrays_beside_a_models_tensors_are_not_the_model() -> None:
    buffer = io.BytesIO()
    net = {"fc.weight": torch.ones(2, 3), "fc.bias": torch.ones(2)}
    torch.save({"net": net, "curves": {"train.loss": numpy.zeros((9, 9)), "test.loss": numpy.zeros((9, 9))}}, buffer)
    with rh.open(buffer) as checkpoint:
        assert list(checkpoint.weights()) == ["fc.weight", "fc.bias"]
        assert len(checkpoint) == 4
    loaded: Any = rh.load(buffer)
    assert type(loaded["curves"]["train.loss"]) is numpy.ndarray
    assert type(loaded["net"]["fc.bias"]) is torch.Tensor


def test_a_model_that_was_kept_as_arrays_is_the_model() -> None:
    model = {"conv1.weight": numpy.ones((2, 3, 3, 3), "f4"), "conv1.bias": numpy.zeros(2, "f4")}
    data = pickle.dumps({"model": model, "__author__": "somebody", "matching_heuristics": True})
    net = torch.nn.Sequential()
    net.add_module("conv1", torch.nn.Conv2d(3, 2, 3))
    with rh.open(data) as checkpoint:
        assert list(checkpoint.weights()) == list(model)
    rh.load_into(net, data)
    assert net.conv1.weight.sum().item() == 54.0  # type: ignore[union-attr, operator]
