"""GGUF, against the `gguf` package: its writer, its reader's names and its dequantising, bit by bit."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import gguf
import numpy
import pytest
from gguf import GGMLQuantizationType as Kind
from hypothesis import given
from hypothesis import strategies as st

import rehydrate as rh
from rehydrate.errors import AmbiguousError, CorruptError, LimitError, RebuildError, TruncatedError
from rehydrate.formats.opening import open_checkpoint

from ..effort import tried
from ..hostile.examining import check_message, check_text
from ..hostile.gguf_files import array, gguf_of, info, pair, text

Array = numpy.ndarray[Any, Any]

COMPUTED = [
    "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "MXFP4",
    "NVFP4", "TQ1_0", "TQ2_0",
]  # fmt: skip
NAMED = ["Q8_1", "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "Q1_0"]
PLAIN = ["<f4", "<f2", "<f8", "<i1", "<i2", "<i4", "<i8"]


def written(path: Path, tensors: dict[str, tuple[Array, Kind | None]], *, is_big: bool = False) -> Path:
    """A file by gguf's own writer, with values of many types."""
    order = gguf.GGUFEndian.BIG if is_big else gguf.GGUFEndian.LITTLE
    writer = gguf.GGUFWriter(path, "llama", endianess=order)
    writer.add_uint8("u8", 200)
    writer.add_int8("i8", -3)
    writer.add_uint16("u16", 65535)
    writer.add_int16("i16", -4)
    writer.add_uint32("u32", 1 << 31)
    writer.add_int32("i32", -5)
    writer.add_uint64("u64", 1 << 63)
    writer.add_int64("i64", -6)
    writer.add_float32("f32", 0.5)
    writer.add_float64("f64", 0.1)
    writer.add_bool("yes", True)
    writer.add_string("words", "für alle 模型")
    writer.add_array("tokens", ["a", "", "▁the"])
    writer.add_array("scores", [0.5, -1.0])
    for name, (values, kind) in tensors.items():
        writer.add_tensor(name, values, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def random_blocks(kind: str, shape: tuple[int, ...], seed: int = 0) -> Array:
    """Bytes of blocks for a tensor of this shape: any bytes, so that scales are also NaN, infinite and subnormal."""
    numbers, nbytes = gguf.GGML_QUANT_SIZES[Kind[kind]]
    raw = numpy.random.default_rng(seed).integers(0, 256, (*shape[:-1], shape[-1] // numbers * nbytes))
    return raw.astype(numpy.uint8)


def by_gguf(blocks: Array, kind: str) -> Array:
    with numpy.errstate(all="ignore"):
        wanted: Array = gguf.quants.dequantize(blocks, Kind[kind])
    return wanted


@pytest.mark.parametrize("is_big", [False, True], ids=["little-endian", "big-endian"])
def test_numbers_that_are_stored_as_they_are(is_big: bool, tmp_path: Path) -> None:
    arrays = {kind: numpy.arange(-6, 6).reshape(3, 4).astype(kind) for kind in PLAIN}
    path = written(tmp_path / "x.gguf", {name: (value, None) for name, value in arrays.items()}, is_big=is_big)
    with rh.open(path) as checkpoint:
        assert checkpoint.format == "gguf"
        assert checkpoint.facts["byteorder"] == ("big" if is_big else "little")
        assert list(checkpoint) == PLAIN
        for name, value in arrays.items():
            found = checkpoint[name].numpy()
            assert (found.dtype, found.tolist()) == (value.dtype, value.tolist())


def test_metadata_is_a_dict_of_plain_values(tmp_path: Path) -> None:
    with rh.open(written(tmp_path / "x.gguf", {})) as checkpoint:
        assert checkpoint.facts["metadata"] == {
            "general.architecture": "llama", "u8": 200, "i8": -3, "u16": 65535, "i16": -4, "u32": 1 << 31, "i32": -5,
            "u64": 1 << 63, "i64": -6, "f32": 0.5, "f64": 0.1, "yes": True, "words": "für alle 模型",
            "tokens": ["a", "", "▁the"], "scores": [0.5, -1.0],
        }  # fmt: skip
        assert checkpoint.facts["version"] == 3
        assert checkpoint.tree == {}


def test_bfloat16_is_itself(tmp_path: Path) -> None:
    raw = numpy.array([[0x3F80, 0xC000, 0x7FC1, 0x0001]], numpy.uint16)
    with rh.open(written(tmp_path / "x.gguf", {"w": (raw.view(numpy.uint8), Kind.BF16)})) as checkpoint:
        assert checkpoint["w"].dtype.name == "bfloat16"
        assert checkpoint["w"].numpy().view(numpy.uint16).tolist() == raw.tolist()


@pytest.mark.parametrize("kind", COMPUTED)
@given(seed=st.integers(0, 1 << 32), rows=st.integers(1, 4), blocks=st.integers(1, 3), data=st.data())
@tried(12)
def test_blocks_of_any_bytes_are_what_gguf_makes_of_them(
    kind: str, seed: int, rows: int, blocks: int, data: st.DataObject
) -> None:
    shape = (rows, blocks * gguf.GGML_QUANT_SIZES[Kind[kind]][0])
    raw = random_blocks(kind, shape, seed)
    wanted = by_gguf(raw, kind)
    with rh.open(gguf_of([info("w", shape[::-1], Kind[kind].value)], data=raw.tobytes())) as checkpoint:
        assert checkpoint.facts["quantized"] == {kind: 1}
        ref = checkpoint["w"]
        assert (ref.shape, ref.dtype.name) == (shape, "float32")
        assert ref.numpy().tobytes() == wanted.tobytes()
        first = data.draw(st.integers(0, shape[1] - 1))
        last = data.draw(st.integers(first, shape[1]))
        assert ref[rows - 1, first:last].numpy().tobytes() == wanted[rows - 1, first:last].tobytes()


def test_q8_k_is_its_scale_times_its_numbers() -> None:
    numbers = numpy.arange(-128, 128, dtype=numpy.int8)
    raw = struct.pack("<f", 0.25) + numbers.tobytes() + bytes(32)
    with rh.open(gguf_of([info("w", (256,), Kind.Q8_K.value)], data=raw)) as checkpoint:
        assert checkpoint["w"].numpy().tolist() == (numbers * 0.25).tolist()


def test_only_the_blocks_that_are_wanted_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = random_blocks("Q8_0", (1000, 320))
    path = written(tmp_path / "x.gguf", {"w": (raw, Kind.Q8_0)})
    with rh.open(path) as checkpoint:
        read: list[int] = []
        source = checkpoint.source
        ask = type(source).read

        def counted(self: Any, start: int, length: int) -> bytes:
            read.append(length)
            return ask(self, start, length)

        monkeypatch.setattr(type(source), "read", counted)
        part = checkpoint["w"][500].numpy()
        assert part.tobytes() == by_gguf(raw, "Q8_0")[500].tobytes()
        assert read == [10 * 34]


def test_a_large_tensor_is_computed_in_parts() -> None:
    raw = random_blocks("Q4_0", (3, 1 << 20))
    with rh.open(gguf_of([info("w", (1 << 20, 3), 2)], data=raw.tobytes())) as checkpoint:
        assert checkpoint["w"].numpy().tobytes() == by_gguf(raw, "Q4_0").tobytes()


@pytest.mark.parametrize("kind", NAMED)
def test_what_is_not_computed_opens_and_says_so_when_it_is_wanted(kind: str) -> None:
    numbers, nbytes = gguf.GGML_QUANT_SIZES[Kind[kind]]
    nbytes = 36 if kind == "Q8_1" else nbytes  # two halves before the numbers; the package still has two floats
    with rh.open(gguf_of([info("w", (numbers, 2), Kind[kind].value)], data=bytes(2 * nbytes))) as checkpoint:
        assert checkpoint["w"].shape == (2, numbers)
        with pytest.raises(RebuildError, match=kind):
            checkpoint["w"].numpy()


@pytest.mark.parametrize("version", [1, 2, 3])
def test_every_version_opens(version: int) -> None:
    data = gguf_of(
        [info("w", (2, 3), 0, version=version)],
        [pair("n", 10, struct.pack("<Q", 7), version=version),
         pair("t", 8, text("x", version=version), version=version),
         pair("a", 9, array(9, [array(4, [b"\1\0\0\0"], version=version)] * 2, version=version), version=version)],
        version=version, data=struct.pack("<6f", *range(6)),
    )  # fmt: skip
    with rh.open(data) as checkpoint:
        assert checkpoint["w"].numpy().tolist() == [[0, 1], [2, 3], [4, 5]]
        assert checkpoint.facts["metadata"] == {"n": 7, "t": "x", "a": [[1], [1]]}


def test_a_file_that_is_cut_anywhere_is_refused() -> None:
    data = gguf_of([info("w", (8,), 0)], [pair("t", 8, text("abc"))], data=bytes(32))
    for end in range(4, len(data)):
        with pytest.raises(rh.RehydrateError):
            rh.open(data[:end])
    with pytest.raises(TruncatedError, match="12 bytes of 32 bytes"):
        rh.open(data[:-20])


def test_what_is_left_of_a_cut_file_is_told_for_each_tensor() -> None:
    infos = [info("a", (8,), 0), info("b", (64,), 2, offset=32), info("c", (8,), 0, offset=96)]
    data = gguf_of(infos, data=bytes(range(128)))
    with open_checkpoint(data[:-70], is_cut=True) as cut, rh.open(data) as whole:
        assert {name: ref.is_whole for name, ref in cut.items()} == {"a": True, "b": False, "c": False}
        assert cut["b"][:32].numpy().tobytes() == whole["b"][:32].numpy().tobytes()
        assert all(ref.is_whole for ref in whole.values())


def test_one_file_of_several_says_so() -> None:
    with rh.open(gguf_of([], [pair("split.count", 2, struct.pack("<H", 3))])) as checkpoint:
        assert checkpoint.facts["shards"] == "this is one of 3 files"


def test_errors_name_the_tensor() -> None:
    infos = [info("a", (8,), 0), info("b", (8,), 0, offset=0)]
    with pytest.raises(CorruptError, match="overlap") as caught:
        rh.open(gguf_of(infos, data=bytes(32)))
    assert caught.value.where in ("a", "b")
    with pytest.raises(AmbiguousError, match="same name"):
        rh.open(gguf_of([info("a", (8,), 0), info("a", (8,), 0, offset=32)], data=bytes(64)))


def test_a_gap_or_a_tail_belongs_to_nothing() -> None:
    with pytest.raises(AmbiguousError, match="before a tensor"):
        rh.open(gguf_of([info("a", (8,), 0, offset=64)], data=bytes(96)))
    with pytest.raises(AmbiguousError, match="after the last tensor"):
        rh.open(gguf_of([info("a", (8,), 0)], data=bytes(64)))


def test_arrays_that_are_too_long_to_keep_are_passed_over() -> None:
    many = 1_500_000
    pairs = [
        pair("a", 9, struct.pack("<IQ", 0, many) + bytes(many)),
        pair("b", 9, array(8, [text("xy")] * many)),
        pair("c", 4, struct.pack("<I", 7)),
    ]
    with rh.open(gguf_of([info("w", (8,), 0)], pairs, data=bytes(32))) as checkpoint:
        metadata = checkpoint.facts["metadata"]
        assert [metadata[key].args for key in "ab"] == [("u8", many), ("string", many)]  # type: ignore[index]
        assert metadata["c"] == 7  # type: ignore[index]
        assert checkpoint["w"].shape == (8,)


def test_more_metadata_than_there_are_bytes_is_refused_before_it_is_made() -> None:
    with pytest.raises(LimitError):
        rh.open(gguf_of([], [pair("a", 9, array(9, [], claim=2_000_000) + bytes(3_000_000))]))
    with pytest.raises(TruncatedError):
        rh.open(gguf_of([], [pair("a", 9, struct.pack("<IQ", 0, 1 << 60))]))


def test_a_changed_byte_changes_what_it_belongs_to_or_is_refused() -> None:
    pairs = [pair("a", 9, array(8, [text("x"), text("yz")])), pair("yes", 7, b"\1")]
    infos = [info("w", (32, 2), Kind.Q8_0.value), info("v", (4,), 0, offset=96)]
    data = gguf_of(infos, pairs, data=bytes(range(112)))
    for at in range(len(data)):
        for flip in (0x01, 0x10, 0x80):
            changed = data[:at] + bytes((data[at] ^ flip,)) + data[at + 1 :]
            try:
                with rh.open(changed) as checkpoint:
                    check_text(str(checkpoint))
                    for ref in checkpoint.values():
                        ref.numpy()
            except rh.RehydrateError as error:
                check_message(error)


def split_into(folder: Path, tensors: int) -> list[Path]:
    """What gguf's own writer makes of a model in files of two tensors each."""
    writer = gguf.GGUFWriter(folder / "m.gguf", "llama", split_max_tensors=2)
    for number in range(tensors):
        writer.add_tensor(f"blk.{number}.w", numpy.full((2, 32), number, "f4"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(folder.iterdir())


def test_all_files_of_a_split_model_in_a_folder_are_the_model(tmp_path: Path) -> None:
    first, *_, last = split_into(tmp_path, 5)
    with rh.open(first) as checkpoint:
        assert checkpoint.facts["shards"] == "this is one of 3 files"
        assert len(checkpoint) == 2
    with rh.open(tmp_path) as checkpoint:
        assert list(checkpoint.weights()) == [f"blk.{number}.w" for number in range(5)]
        assert checkpoint["blk.4.w"].numpy().tolist() == [[4.0] * 32] * 2
        assert checkpoint.facts["files"] == tuple(path.name for path in sorted(tmp_path.iterdir()))
    last.unlink()
    with pytest.raises(rh.SeveralError, match="2 checkpoints"):
        rh.open(tmp_path)
