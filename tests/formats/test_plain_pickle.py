"""Plain pickles: what `pickle.dump` wrote, with tensors and arrays, and what else people give that suffix."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

import rehydrate as rh
from rehydrate.checkpoint.record import Record
from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.errors import AmbiguousError, NoSuchTensorError, RebuildError, RehydrateError

from ..effort import tried
from ..hostile.guard import guarded, warm
from ..oracle.likeness import assert_alike
from ..oracle.trees import trees

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:.*{what}")
    for what in ("quantize", "Sparse", "nested tensors", "TypedStorage", "ComplexHalf")
]


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    warm()
    rh.load(pickle.dumps(torch.zeros(1)))
    for as_zip in (True, False):  # what storages inside are read by
        buffer = io.BytesIO()
        torch.save(torch.zeros(1).storage(), buffer, _use_new_zipfile_serialization=as_zip)
        rh.load(buffer)


def dumped(value: object, protocol: int = pickle.DEFAULT_PROTOCOL) -> bytes:
    return pickle.dumps(value, protocol)


@tried(80)
@given(trees(), st.sampled_from(PROTOCOLS))
def test_a_tree_of_tensors_loads_as_pickle_loads_it(tree: object, protocol: int) -> None:
    data = dumped(tree, protocol)
    ours = rh.load(data)
    try:
        theirs = pickle.loads(data)
    except AttributeError as error:  # torch cannot read what it pickles of the types that have no storage class
        assume("UntypedStorage" not in str(error))
        raise
    assert_alike(ours, theirs)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_pickled_state_dict_is_a_model(protocol: int) -> None:
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    with guarded(), rh.open(dumped(net.state_dict(), protocol)) as checkpoint:
        str(checkpoint)
        assert checkpoint.facts["saved_on"] == ("cpu",)
        weights = checkpoint.weights()
    assert list(weights) == list(net.state_dict())
    assert all(torch.equal(ref.torch(), net.state_dict()[name]) for name, ref in weights.items())
    again = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    rh.load_into(again, dumped(net, protocol))
    assert torch.equal(again[0].weight, net[0].weight)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_tensors_share_memory_where_pickle_lets_them(protocol: int) -> None:
    whole = torch.arange(6.0)
    data = dumped([whole, whole, whole[2:], whole.view(2, 3).t()], protocol)
    assert_alike(rh.load(data), pickle.loads(data))


def test_storages_are_the_same_whether_they_are_recognised_or_read() -> None:
    kinds = (torch.float32, torch.bfloat16, torch.int8, torch.bool, torch.complex64, torch.uint16, torch.float8_e5m2)
    tensors = {f"{kind}.{count}": torch.ones(count).to(kind) for kind in kinds for count in (0, 1, 300, 70_000)}
    data = dumped(tensors)
    longer = data.replace(b"little_endianq\x02\x88", b"little_endianq\x09\x88")
    with rh.open(data) as quick, rh.open(longer) as slow:
        assert len(quick.traces) == 1 < len(slow.traces)
        assert quick.facts == slow.facts
        for (name, one), other in zip(quick.items(), slow.values(), strict=True):
            assert (one.window, one.storage.dtype, one.storage.location) == (
                other.window,
                other.storage.dtype,
                other.storage.location,
            )
            assert (one.storage.key, one.numpy().tobytes()) == (other.storage.key, other.numpy().tobytes()), name


@pytest.mark.parametrize("change", [
    (b"longq\x07K\x04", b"longq\x07K\x05"), (b"cpuq\x03K\x02", b"cpuq\x03K\x03"), (b"q\x01a.\x02", b"q\x01a.\x03"),
    (b"FloatStorage", b"OtherStorage"), (b"FloatStorage", b"ShortStorage"), (b"X\3\0\0\0cpu", b"X\4\0\0\0cpu"),
    (b"a.\x02\0\0\0\0\0\0\0", b"a.\x02\0\0\0\0\0\0\1"), (b"cpu", b"c\x1b\n"),
])  # fmt: skip
def test_a_changed_byte_in_a_storage_is_refused_or_read_the_long_way(change: tuple[bytes, bytes]) -> None:
    data = dumped({"w": torch.ones(2)})
    assert data.count(change[0]) == 1
    with guarded(), rh.open(data.replace(*change)) as checkpoint:
        str(checkpoint)
        (storage,) = (ref.storage for ref in checkpoint.values()) if len(checkpoint) else (None,)
    if storage is not None:
        assert storage.nbytes == 8
        assert len(checkpoint.traces) > 1


def test_the_pickles_inside_are_traced() -> None:
    data = dumped({"a": torch.ones(1), "b": torch.ones(2)}).replace(b"longq\x07K\x04", b"longq\x07K\x05")
    with rh.open(data) as checkpoint:
        assert len(checkpoint.traces) > 2
        inside = [trace for trace in checkpoint.traces if trace.where]
        assert {trace.where for trace in inside} == {"storage 1 in the pickle", "storage 2 in the pickle"}
        assert any(("torch", "FloatStorage") in trace.names for trace in inside)


@pytest.mark.parametrize("data", [
    b"", b"no storage", b"\x80\x02}." * 30, b"\x80\x02" + b"x" * 100, b"PK\3\4" + b"\0" * 100,
    pickle.dumps({"w": [0] * 1000}), pickle.dumps(pickle.dumps(torch.ones(2))),
])  # fmt: skip
def test_bytes_that_are_no_storage_stay_the_record_of_a_call(data: bytes) -> None:
    program = b"\x80\x03ctorch.storage\n_load_from_bytes\nB" + len(data).to_bytes(4, "little") + data + b"\x85R."
    with guarded(), rh.open(program) as checkpoint:
        str(checkpoint)
    assert isinstance(checkpoint.tree, Record)
    assert checkpoint.tree.args == (data,)
    assert checkpoint.facts["calls"] == ("torch.storage._load_from_bytes",)


def test_a_zip_of_one_storage_is_a_storage_too() -> None:
    buffer = io.BytesIO()
    torch.save(torch.arange(3.0).storage(), buffer)
    data = buffer.getvalue()
    program = (
        b"\x80\x03ctorch._utils\n_rebuild_tensor_v2\n(ctorch.storage\n_load_from_bytes\n"
        b"B" + len(data).to_bytes(4, "little") + data + b"\x85RK\0K\x03\x85K\x01\x85\x89NtR."
    )
    with rh.open(program) as checkpoint:
        assert checkpoint.tree.numpy().tolist() == [0.0, 1.0, 2.0]


def test_pickles_in_pickles_end_at_a_depth() -> None:
    data = dumped(torch.ones(1))
    for _ in range(20):
        data = b"\x80\x03ctorch.storage\n_load_from_bytes\nB" + len(data).to_bytes(4, "little") + data + b"\x85R."
    with guarded(), rh.open(data) as checkpoint:
        assert isinstance(checkpoint.tree, Record)


SEVERAL = dumped({"epoch": 1}) + dumped([2]) + pickle.dumps("three", 0)


def test_pickles_one_after_another_are_an_error_that_counts_them() -> None:
    with pytest.raises(AmbiguousError, match="3 pickles, one after another") as error:
        rh.open(SEVERAL)
    assert 'member="0"' in error.value.hint


@pytest.mark.parametrize(("member", "value"), [("0", {"epoch": 1}), ("1", [2]), ("2", "three")])
def test_one_of_several_pickles_can_be_chosen(member: str, value: object) -> None:
    with rh.open(SEVERAL, member=member) as checkpoint:
        assert checkpoint.tree == value
        assert checkpoint.facts["member"] == member


@pytest.mark.parametrize("member", ["3", "-1", "00", "x", "0\x1b[2J"])
def test_a_pickle_that_is_not_there_cannot(member: str) -> None:
    with pytest.raises(NoSuchTensorError, match="no member"):
        rh.open(SEVERAL, member=member)


@pytest.mark.parametrize("rest", [b"x", b"\n", b"\0" * 9, dumped([1])[:-1], dumped([1]) + b"."])
def test_anything_else_after_a_pickle_is_an_error_whatever_is_chosen(rest: bytes) -> None:
    for member in (None, "0", "1"):
        with pytest.raises((AmbiguousError, NoSuchTensorError)):
            rh.open(dumped([1]) + rest, member=member)


def test_many_pickles_take_together_no_more_work_than_one() -> None:
    one = b"\x80\x02]q\x00(" + b"K\x01" * 500 + b"e" + b"c__builtin__\nset\nh\x00\x85R0" * 40 + b"."
    with pytest.raises(RehydrateError):
        rh.open(one * 400)


UNPACKED = (
    b"\x80\x02}(X\1\0\0\0wctorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\x000"
    b"X\6\0\0\0cuda:1K\6tQK\0K\2K\3\x86K\3K\1\x86\x89NtRX\5\0\0\0epochK\3u."
)


def test_the_index_of_an_unpacked_zip_shows_names_and_shapes() -> None:
    with guarded(), rh.open(UNPACKED) as checkpoint:
        str(checkpoint)
    ref = checkpoint["w"]
    assert (ref.shape, ref.dtype.name, ref.is_whole) == ((2, 3), "float32", False)
    assert checkpoint.facts["saved_on"] == ("cuda:1",)
    assert "data.pkl" in checkpoint.facts["writer"]
    assert checkpoint.tree["epoch"] == 3
    for read in (ref.numpy, lambda: rh.load(UNPACKED), lambda: rh.load_into(torch.nn.Linear(3, 2), UNPACKED)):
        with pytest.raises(RehydrateError) as error:
            read()
        assert isinstance(error.value, RebuildError) or "w" in str(error.value)


def test_an_unpacked_index_of_storages_beyond_all_memory_is_shown_and_not_read() -> None:
    huge = UNPACKED.replace(b"K\6tQ", b"\x8a\x08" + b"\xff" * 7 + b"\x0ftQ")
    with guarded(), rh.open(huge) as checkpoint:
        assert checkpoint["w"].storage.nbytes > 1 << 60
    with pytest.raises(RebuildError):
        rh.load(huge)


def test_a_persistent_id_of_something_else_stays_a_record() -> None:
    with guarded(), rh.open(b"Psomewhere\n.") as checkpoint:
        assert checkpoint.tree.args == ("somewhere",)


@pytest.mark.parametrize("text", ["prose.", "I have a dream.", "(c) 2024 somebody.", "Not found.", "{}."])
def test_prose_is_no_pickle(text: str) -> None:
    with pytest.raises(RehydrateError):
        rh.open(text.encode())


def test_the_real_plain_pickles_open(test_data: Path) -> None:
    folder = test_data / "checkpoints"
    with rh.open(folder / "cleardusk+3DDFA_V2/configs/param_mean_std_62d_120x120.pkl") as checkpoint:
        assert {name: ref.shape for name, ref in checkpoint.items()} == {"mean": (62,), "std": (62,)}
        assert numpy.isfinite(checkpoint["std"].numpy()).all()
    with rh.open(folder / "cleardusk+3DDFA_V2/configs/tri.pkl") as checkpoint:
        assert isinstance(checkpoint.tree, TensorRef)
    with rh.open(folder / "lukesin+nas-for-kws/data.pkl") as checkpoint:
        assert len(checkpoint) > 1000
        assert not next(iter(checkpoint.values())).is_whole
    loaded: Any = rh.load(folder / "deepjavalibrary+djl/api/src/test/resources/list.safetensors")
    assert loaded is not None
