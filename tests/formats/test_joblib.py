"""joblib's files against joblib: its arrays in the middle of the pickle, in files beside it, and under compression."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import joblib
import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

import rehydrate as rh
from rehydrate.checkpoint.record import Record
from rehydrate.errors import AmbiguousError, CorruptError, LimitError, RehydrateError, TruncatedError

from ..effort import tried
from ..hostile.guard import guarded, warm
from ..pickles.alike import difference

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
KINDS = ["?", "u1", "<i4", ">i4", "<f8", ">f8", "<f2", "<c8", "<U3", "S2"]
ARRAYS = st.sampled_from(KINDS).flatmap(
    lambda kind: arrays_of.arrays(kind, arrays_of.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=3))
)
SEEN = st.sampled_from((lambda array: array, numpy.asfortranarray, lambda array: array.T, lambda array: array[::-1]))
TREES = st.recursive(
    st.builds(lambda array, see: see(array), ARRAYS, SEEN) | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


class Estimator:
    """What scikit-learn's classes look like in a file."""

    def __init__(self) -> None:
        self.coef_ = numpy.arange(6.0).reshape(2, 3)
        self.classes_ = numpy.array(["cat", "dog"])
        self.kinds_ = numpy.array([{"a": numpy.ones(2)}, None], dtype=object)


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    warm()
    rh.load(dumped(numpy.zeros(1)))


def dumped(value: object, **options: Any) -> bytes:
    buffer = io.BytesIO()
    joblib.dump(value, buffer, **options)
    return buffer.getvalue()


@tried(200)
@given(TREES, st.sampled_from(PROTOCOLS))
def test_what_joblib_dumped_comes_out_as_joblib_loads_it(tree: Any, protocol: int) -> None:
    data = dumped(tree, protocol=protocol)
    with guarded(), rh.open(data) as checkpoint:
        str(checkpoint)
    assert not difference(rh.load(data), joblib.load(io.BytesIO(data)))
    for name, ref in checkpoint.items():
        assert checkpoint[name].numpy().shape == ref.shape


@pytest.mark.parametrize("compress", [("zlib", 3), ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)])
def test_compressed_files_are_opened_through_their_compression(compress: tuple[str, int]) -> None:
    value = {"w": numpy.arange(100.0), "names": ["a"]}
    data = dumped(value, compress=compress)
    with rh.open(data) as checkpoint:
        assert checkpoint.format == {"bz2": "bzip2"}.get(compress[0], compress[0]) + "+joblib"
    assert not difference(rh.load(data), value)


def test_an_estimator_is_a_record_whose_arrays_are_references() -> None:
    with guarded(), rh.open(dumped(Estimator())) as checkpoint:
        str(checkpoint)
        assert checkpoint.format == "joblib"
        assert checkpoint.facts["writer"] == "joblib.dump"
        assert checkpoint["coef_"].shape == (2, 3)
        assert checkpoint.tree.state["classes_"] == ["cat", "dog"]
        assert checkpoint["kinds_[0].a"].numpy().tolist() == [1.0, 1.0]
        assert f"{__name__}.Estimator" in checkpoint.facts["calls"]
        assert len(checkpoint.traces) == 2  # the file's pickle, and that of the array of objects


def test_a_file_without_arrays_is_a_plain_pickle() -> None:
    with rh.open(dumped({"NumpyArrayWrapper": 1})) as checkpoint:
        assert checkpoint.format == "pickle"
        assert checkpoint.tree == {"NumpyArrayWrapper": 1}


def test_arrays_of_what_torch_has_nothing_like_stay_records_with_their_bytes() -> None:
    value = [numpy.array(["2024-02-29"], "M8[D]"), numpy.zeros(2, [("a", "f4"), ("b", "i8")]), numpy.ones(1)]
    with rh.open(dumped(value)) as checkpoint:
        times, structure, ones = checkpoint.tree
        assert (times.path, len(times.state), len(structure.state)) == ("numpy.ndarray", 8, 24)
        assert ones.numpy().tolist() == [1.0]


def test_bytes_in_a_plain_pickle_are_not_taken_for_an_arrays() -> None:
    data = dumped(numpy.ones(2))
    with rh.open(data) as checkpoint:
        assert checkpoint.format == "joblib"
    with pytest.raises(RehydrateError):
        rh.open(data.replace(b"NumpyArrayWrapper", b"NumpyArraywrapper"))


@pytest.mark.parametrize("cut", [1, 9, 17, 40, 60])
def test_a_cut_file_is_a_cut_file(cut: int) -> None:
    with pytest.raises(TruncatedError):
        rh.open(dumped([numpy.arange(5.0)])[:-cut])


def test_bytes_after_the_end_are_an_error() -> None:
    with pytest.raises(AmbiguousError):
        rh.open(dumped(numpy.ones(2)) + dumped(1))


OLD = """
import sys, numpy, pickle, zlib
sys.path.insert(0, {folder!r})
class NDArrayWrapper:
    def __init__(self, filename): self.filename, self.subclass, self.allow_mmap = filename, numpy.ndarray, True
class ZNDArrayWrapper(NDArrayWrapper):
    def __init__(self, filename, array):
        self.filename = filename
        kind, self.init_args, state = array.__reduce__()
        self.state = state[:-1]
for one in (NDArrayWrapper, ZNDArrayWrapper): one.__module__ = "joblib.numpy_pickle"
import types
module = types.ModuleType("joblib.numpy_pickle")
vars(module).update(NDArrayWrapper=NDArrayWrapper, ZNDArrayWrapper=ZNDArrayWrapper)
sys.modules["joblib"], sys.modules["joblib.numpy_pickle"] = types.ModuleType("joblib"), module
def zfile(data): return b"ZF" + hex(len(data)).ljust(19).encode() + zlib.compress(data)
array = numpy.arange(6.0).reshape(2, 3)
numpy.save("model.pkl_01.npy", array)
open("model.pkl", "wb").write(pickle.dumps({{"w": NDArrayWrapper("model.pkl_01.npy"), "epoch": 3}}, 2))
open("small.pkl_01.npy.z", "wb").write(zfile(array.tobytes()))
open("small.pkl", "wb").write(zfile(pickle.dumps({{"w": ZNDArrayWrapper("small.pkl_01.npy.z", array), "epoch": 3}}, 2)))
open("out.pkl", "wb").write(pickle.dumps({{"w": NDArrayWrapper("../model.pkl_01.npy")}}, 2))
open("none.pkl", "wb").write(pickle.dumps({{"w": NDArrayWrapper("none.npy")}}, 2))
open("other.pkl", "wb").write(pickle.dumps({{"w": NDArrayWrapper("model.pkl")}}, 2))
"""


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files as joblib 0.9 laid them out; today's cannot write them. Made apart: it takes classes of that name."""
    folder = tmp_path_factory.mktemp("old")
    subprocess.run([sys.executable, "-c", OLD.format(folder=str(folder))], cwd=folder, check=True, timeout=60)
    return folder


@pytest.mark.filterwarnings("ignore:The file .* has been generated with a joblib version less than 0.10")
@pytest.mark.parametrize("name", ["model.pkl", "small.pkl"])
def test_arrays_in_files_beside_it_are_read(old: Path, name: str) -> None:
    assert numpy.array_equal(joblib.load(old / name)["w"], numpy.arange(6.0).reshape(2, 3))
    with rh.open(old / name) as checkpoint:
        assert checkpoint.format == "joblib"
        assert checkpoint["w"].numpy().tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
        assert checkpoint.tree["epoch"] == 3


@pytest.mark.parametrize("name", ["out.pkl", "none.pkl", "other.pkl"])
def test_a_file_in_another_folder_or_of_another_kind_is_not_an_array(old: Path, name: str) -> None:
    with rh.open(old / name) as checkpoint:
        assert isinstance(checkpoint.tree["w"], Record)
        assert len(checkpoint) == 0


def test_a_file_by_itself_shows_what_is_not_there(old: Path) -> None:
    with rh.open((old / "model.pkl").read_bytes()) as checkpoint:
        assert checkpoint.tree["w"].state["filename"] == "model.pkl_01.npy"


@pytest.mark.parametrize(("data", "error"), [
    (b"ZF0x", CorruptError),
    (b"ZF" + b"0x5".ljust(19) + zlib.compress(b"\x80\x02N."), CorruptError),
    (b"ZF" + b"0x3".ljust(19) + zlib.compress(b"\x80\x02N."), CorruptError),
    (b"ZF" + b"0xzz".ljust(19) + zlib.compress(b"\x80\x02N."), CorruptError),
    (b"ZF" + b"0xffffffffffffffff".ljust(19) + zlib.compress(b"\x80\x02N."), LimitError),
    (b"ZF" + b"0x4".ljust(19) + zlib.compress(b"\x80\x02N.") + b"x", CorruptError),
    (b"ZF" + b"0x4".ljust(19) + b"no zlib at all", CorruptError),
])  # fmt: skip
def test_a_broken_compressed_file_is_refused(data: bytes, error: type[Exception]) -> None:
    with guarded(), pytest.raises(error):
        rh.open(data)


def test_an_old_compressed_pickle_of_python_2_has_a_space_more() -> None:
    with rh.open(b"ZF" + b"0x4".ljust(20) + zlib.compress(b"\x80\x02N.")) as checkpoint:
        assert checkpoint.tree is None


def wrapper(**state: bytes) -> bytes:
    """A pickle of one NumpyArrayWrapper that says this; no bytes after it."""
    parts = {"subclass": b"cnumpy\nndarray\n", "shape": b"K\x02\x85", "order": b"X\1\0\0\0C", "allow_mmap": b"\x88"}
    parts["dtype"] = b"cnumpy\ndtype\nX\2\0\0\0f4\x85R"
    pairs = b"".join(
        b"X" + len(key).to_bytes(4, "little") + key.encode() + value for key, value in (parts | state).items()
    )
    return b"\x80\x02cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81}(" + pairs + b"ub"


@pytest.mark.parametrize("program", [
    wrapper(shape=b"J\xff\xff\xff\xff\x85") + b"\0" * 8 + b".",
    wrapper(shape=b"\x8a\x08\0\0\0\0\0\0\0\x40\x85") + b"\0" * 8 + b".",
    wrapper(shape=b"N") + b"\0" * 8 + b".",
    wrapper(order=b"X\1\0\0\0K") + b"\0" * 8 + b".",
    wrapper(dtype=b"N") + b"\0" * 8 + b".",
    wrapper(dtype=b"cnumpy\ndtype\nX\4\0\0\0f999\x85R") + b"\0" * 8 + b".",
    wrapper(dtype=b"cnumpy\ndtype\nX\2\0\0\0O8\x85R") + b"\x80\x02",
    wrapper(numpy_array_alignment_bytes=b"K\x10") + b"\xff" * 9 + b".",
    wrapper() + b"\0" * 7,
    wrapper() + b"\0" * 8 + b"R.",
    wrapper() * 2 + b"\0" * 8 + b".",
])  # fmt: skip
def test_a_wrapper_that_lies_is_refused(program: bytes) -> None:
    with guarded(), pytest.raises(RehydrateError):
        rh.open(program)


def test_a_wrapper_by_hand_is_read_as_it_would_be_written() -> None:
    array = numpy.array([1.5, -2.0], "f4")
    with rh.open(wrapper() + array.tobytes() + b".") as checkpoint:
        assert checkpoint.tree.numpy().tolist() == [1.5, -2.0]


def test_a_frame_that_goes_on_over_an_array_is_refused() -> None:
    body = wrapper() + b"\0" * 8 + b"."
    framed = b"\x80\x04\x95" + (len(body) - 2).to_bytes(8, "little") + body[2:]
    with guarded(), pytest.raises(RehydrateError):
        rh.open(framed)


def test_arrays_of_objects_take_together_no_more_work_than_one_file() -> None:
    inner = b"\x80\x02]q\x00(" + b"K\x01" * 500 + b"e" + b"c__builtin__\nset\nh\x00\x85R0" * 40 + b"."
    objects = wrapper(dtype=b"cnumpy\ndtype\nX\2\0\0\0O8\x85R", shape=b"K\1\x85")[2:] + inner
    with guarded(), pytest.raises(RehydrateError):
        rh.open(b"\x80\x02]" + b"".join(objects + b"a" for _ in range(400)) + b".")
