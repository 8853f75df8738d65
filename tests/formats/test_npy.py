"""numpy's array files, against numpy: what it wrote is what comes out, and what it would run is only shown."""

from __future__ import annotations

import io
from typing import Any

import ml_dtypes
import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rehydrate as rh
from rehydrate.checkpoint.record import Record
from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.errors import AmbiguousError, CorruptError, LimitError, TruncatedError
from rehydrate.formats.opening import open_checkpoint

from ..effort import tried
from ..hostile.examining import check_message, check_text

Array = numpy.ndarray[Any, Any]

NUMBERS = ["?", "i1", "u1", *(f"{order}{kind}" for order in "<>" for kind in (
    "i2", "i4", "i8", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16",
))]  # fmt: skip
"""Every type of numpy's that is a tensor to torch."""


def saved(array: Array, version: tuple[int, int] | None = None) -> bytes:
    buffer = io.BytesIO()
    numpy.lib.format.write_array(buffer, array, version)
    return buffer.getvalue()


def with_header(text: str, data: bytes = b"", version: int = 1) -> bytes:
    raw = text.encode("utf-8" if version == 3 else "latin-1")
    return b"\x93NUMPY" + bytes((version, 0)) + len(raw).to_bytes(2 if version == 1 else 4, "little") + raw + data


def same(ref: object, array: Array) -> bool:
    """Whether the tensor is this array bit by bit, in the byte order of this machine."""
    assert isinstance(ref, TensorRef)
    found = ref.numpy()
    wanted = array.astype(array.dtype.newbyteorder("="))
    return found.dtype == wanted.dtype and found.shape == wanted.shape and found.tobytes() == wanted.tobytes()


arrays = st.builds(
    lambda kind, shape, order, seed: numpy.require(
        numpy.frombuffer(numpy.random.default_rng(seed).bytes(_bytes_of(kind, shape)), kind).reshape(shape)
        if kind != "?"
        else numpy.random.default_rng(seed).integers(0, 2, shape).astype(bool),
        requirements=[order],
    ),
    st.sampled_from(NUMBERS),
    st.lists(st.integers(0, 4), max_size=5).map(tuple),
    st.sampled_from("CF"),
    st.integers(0, 1 << 32),
)


def _bytes_of(kind: str, shape: tuple[int, ...]) -> int:
    return numpy.dtype(kind).itemsize * int(numpy.prod(shape))


@given(arrays, st.sampled_from([(1, 0), (2, 0), (3, 0), None]))
@tried(200)
def test_every_array_of_numbers_is_a_tensor_of_the_same_bits(array: Array, version: tuple[int, int] | None) -> None:
    with rh.open(saved(array, version)) as checkpoint:
        assert checkpoint.format == "npy"
        assert list(checkpoint) == [""]
        assert same(checkpoint.tree, array)


def test_a_part_is_read_without_the_rest_also_in_fortran_order() -> None:
    array = numpy.asfortranarray(numpy.arange(24.0).reshape(4, 6))
    with rh.open(saved(array)) as checkpoint:
        ref = checkpoint[""]
        assert ref.strides == (1, 4)
        assert ref[1:3, ::2].numpy().tolist() == array[1:3, ::2].tolist()
        assert checkpoint.facts["order"] == "Fortran"


@pytest.mark.parametrize("array", [
    numpy.array(["a", "bcd", "", "ü模"]), numpy.array([["x"], ["yy"]]), numpy.array("alone"),
    numpy.array([b"a", b"bc"]), numpy.array(["a", "bc"]).astype(">U2"), numpy.zeros((0, 3), "U4"),
    numpy.zeros((2, 0), "S1"),
])  # fmt: skip
def test_text_is_lists_of_text(array: Array) -> None:
    assert rh.open(saved(array)).tree == array.tolist()


@pytest.mark.parametrize("array", [
    numpy.array("2020-01-01", "M8[ns]"), numpy.array([1, 2], "m8[s]"),
    numpy.zeros(2, [("a", "<f4"), ("b", ">i2", (2, 2))]),
    numpy.arange(3).astype(ml_dtypes.bfloat16), numpy.arange(3, dtype=numpy.longdouble),
    numpy.asfortranarray(numpy.arange(6).reshape(2, 3).astype("M8[D]")),
])  # fmt: skip
def test_what_torch_has_no_type_for_is_a_record_with_its_bytes(array: Array) -> None:
    with rh.open(saved(array)) as checkpoint:
        record = checkpoint.tree
        assert isinstance(record, Record)
        assert record.path == "numpy.ndarray"
        assert record.args is not None
        assert record.args[0] == array.shape
        assert checkpoint["bytes"].numpy().tobytes() == array.tobytes()


def test_long_lists_of_text_are_not_read_when_the_file_is_opened() -> None:
    array = numpy.full(300_000, "x")
    with rh.open(saved(array)) as checkpoint:
        assert isinstance(checkpoint.tree, Record)
        assert checkpoint["bytes"].numpy().tobytes() == array.tobytes()


def test_objects_are_read_as_data_and_what_they_would_run_is_told() -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return print, ("it ran",)

    with rh.open(saved(numpy.array([Evil(), 3, None], dtype=object))) as checkpoint:
        assert "builtins.print" in checkpoint.facts["calls"]  # type: ignore[operator]
        assert len(checkpoint.traces) == 1
        assert "it ran" in str(checkpoint) or "print" in str(checkpoint)


def test_what_python_2_wrote_opens() -> None:
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 1L), }\n"
    assert rh.open(with_header(header, bytes(8))).tree.shape == (2, 1)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_names_in_structures_are_read_as_python_reads_them(version: int) -> None:
    array = numpy.zeros(1, [("a'b\\\"", "<f4"), ("n\nl", "<f4")])
    record = rh.open(saved(array, (version, 0))).tree
    assert [field[0] for field in record.args[1]] == ["a'b\\\"", "n\nl"]


@pytest.mark.parametrize("kind", ["<f4", "<U2", "|O"])
def test_a_file_that_is_cut_anywhere_is_refused(kind: str) -> None:
    data = saved(numpy.array([1, 2, 3]).astype(kind))
    for end in range(1, len(data)):
        with pytest.raises(rh.RehydrateError):
            rh.open(data[:end])


def test_a_cut_file_says_how_much_is_there() -> None:
    data = saved(numpy.zeros(1000, "f4"))
    with pytest.raises(TruncatedError, match=r"3\.0 kB of 4\.0 kB"):
        rh.open(data[:-1000])


def test_what_is_left_of_a_cut_file_opens_when_it_is_asked_for() -> None:
    for array in (numpy.zeros(1000, "f4"), numpy.array(["a", "b"])):
        with open_checkpoint(saved(array)[:-3], is_cut=True) as checkpoint:
            assert [ref.is_whole for ref in checkpoint.values()] == [False]
        with open_checkpoint(saved(numpy.zeros(1000, "f4")), is_cut=True) as checkpoint:
            assert checkpoint[""].is_whole


def test_two_arrays_in_one_file_are_not_guessed_between() -> None:
    array = saved(numpy.zeros(3))
    with pytest.raises(AmbiguousError, match="beginning with another array"):
        rh.open(array + array)


@pytest.mark.parametrize(("header", "error"), [
    ("{'descr': '<f4', 'fortran_order': False}", CorruptError),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (), 'more': 1}", CorruptError),
    ("{'descr': '<f4', 'fortran_order': 0, 'shape': ()}", CorruptError),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': 3}", CorruptError),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (3)}", CorruptError),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (True,)}", CorruptError),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", CorruptError),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 0)}", CorruptError),
    ("{'descr': '<q9', 'fortran_order': False, 'shape': ()}", CorruptError),
    ("{'descr': 7, 'fortran_order': False, 'shape': ()}", CorruptError),
    ("{'descr': '<f4', 'descr': '<i4', 'fortran_order': False, 'shape': ()}", AmbiguousError),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': ()} + 1", CorruptError),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': tuple()}", CorruptError),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (,)}", CorruptError),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (1 2)}", CorruptError),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1," * 65 + ")}", LimitError),
    ("(" * 60, LimitError),
    ("[" * 9000, LimitError),
    ("__import__('os').system('id')", CorruptError),
    ("", CorruptError),
    ("9" * 5000, CorruptError),
])  # fmt: skip
def test_a_header_that_says_anything_else_is_refused(header: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        rh.open(with_header(header, bytes(64)))


@pytest.mark.parametrize("kind", ["<f4", ">i2", "<U2", "|O", "V3"])
def test_a_changed_byte_gives_another_array_or_an_error_of_ours(kind: str) -> None:
    data = saved(numpy.array([1, 2, 3]).astype(kind) if kind != "V3" else numpy.zeros(3, kind))
    for at in range(len(data)):
        for flip in (0x01, 0x10, 0x80):
            try:
                with rh.open(data[:at] + bytes((data[at] ^ flip,)) + data[at + 1 :]) as checkpoint:
                    check_text(str(checkpoint))
                    for ref in checkpoint.values():
                        ref.numpy()
            except rh.RehydrateError as error:
                check_message(error)
