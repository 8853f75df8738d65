"""safetensors, against the reference's own package: what it opens is bit-equal here, and what it refuses is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy
import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

import rehydrate as rh
from rehydrate.errors import CorruptError, RehydrateError, TruncatedError
from rehydrate.formats.opening import open_checkpoint

from ..effort import tried

BITS = {
    "F4": 4,
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}
"""Every element type of the format that torch has."""


def file_of(header: object, data: bytes, padding: str = "") -> bytes:
    text = (header if isinstance(header, str) else json.dumps(header)) + padding
    return len(text.encode()).to_bytes(8, "little") + text.encode() + data


def theirs(data: bytes, path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str] | None]:
    """What the reference makes of it."""
    path.write_bytes(data)
    with safetensors.safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in list(file.keys())}, file.metadata()


def raw(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def alike(ours: torch.Tensor, reference: torch.Tensor) -> bool:
    return (ours.dtype, ours.shape, raw(ours)) == (reference.dtype, reference.shape, raw(reference))


@st.composite
def headers(draw: st.DrawFn) -> tuple[dict[str, Any], bytes]:
    """A header in any order and with any names, and its buffer."""
    names = draw(st.lists(st.text(max_size=8).filter(lambda name: name != "__metadata__"), max_size=6, unique=True))
    kinds = [(draw(st.sampled_from(sorted(BITS))), draw(st.lists(st.integers(0, 3), max_size=3))) for _ in names]
    kinds = [(word, [*shape, 2] if word == "F4" else shape) for word, shape in kinds]
    at = 0
    described: dict[str, Any] = {}
    for name, (word, shape) in zip(names, kinds, strict=True):
        end = at + math.prod(shape) * BITS[word] // 8
        described[name] = {"dtype": word, "shape": shape, "data_offsets": [at, end]}
        at = end
    described = {name: described[name] for name in draw(st.permutations(names))}
    metadata = draw(st.none() | st.dictionaries(st.text(max_size=5), st.text(max_size=9), min_size=1, max_size=3))
    if metadata is not None:
        described = {"__metadata__": metadata, **described}
    return described, draw(st.binary(min_size=at, max_size=at))


@tried(150)
@given(content=headers(), dense=st.booleans(), ascii_only=st.booleans(), padding=st.integers(0, 9))
def test_what_the_reference_opens_is_bit_equal_here_in_the_order_of_the_header(
    content: tuple[dict[str, Any], bytes],
    dense: bool,
    ascii_only: bool,
    padding: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    header, data = content
    separators = (",", ":") if dense else None
    text = json.dumps(header, separators=separators, ensure_ascii=ascii_only)
    if "BOOL" in text:  # torch takes any byte for a bool, and numpy two of them
        data = bytes(byte & 1 for byte in data)
    file = file_of(text, data, " " * padding)
    expected, metadata = theirs(file, tmp_path_factory.getbasetemp() / "reference")
    with rh.open(file) as checkpoint:
        assert checkpoint.format == "safetensors"
        names = [name for name in header if name != "__metadata__"]
        assert list(checkpoint.tree) == names  # type: ignore[call-overload]
        assert checkpoint.facts.get("metadata") == metadata
        for name in names:
            assert alike(checkpoint[(name,)].torch(), expected[name])


@tried(300)
@given(content=headers(), at=st.integers(0), byte=st.integers(0, 255))
def test_a_changed_byte_of_the_header_is_refused_or_read_as_the_reference_reads_it(
    content: tuple[dict[str, Any], bytes], at: int, byte: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    header, data = content
    whole = bytearray(file_of(header, bytes(len(data))))
    whole[at % (len(whole) - len(data))] = byte
    try:
        checkpoint = rh.open(bytes(whole))
    except RehydrateError:
        return
    expected, metadata = theirs(bytes(whole), tmp_path_factory.getbasetemp() / "changed")
    with checkpoint:
        assert checkpoint.format == "safetensors"
        assert set(checkpoint.tree) == set(expected)  # type: ignore[call-overload]
        assert all(alike(checkpoint[(name,)].torch(), expected[name]) for name in expected)
        assert (checkpoint.facts.get("metadata") or {}) == (metadata or {})


@pytest.mark.parametrize("word", BITS)
def test_every_element_type_is_the_one_that_the_reference_gives(word: str, tmp_path: Path) -> None:
    data = (b"\0\1" if word == "BOOL" else b"\x3c\x01") * (2 * BITS[word])
    header = {"w": {"dtype": word, "shape": [4, 8], "data_offsets": [0, len(data)]}}
    expected, _ = theirs(file_of(header, data), tmp_path / "file")
    with rh.open(file_of(header, data)) as checkpoint:
        assert alike(checkpoint["w"].torch(), expected["w"])
        assert checkpoint["w"].numpy().tobytes() == data


def test_what_torch_wrote_with_it_loads_into_torch(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    safetensors.torch.save_file(model.state_dict(), tmp_path / "net.safetensors", {"format": "pt"})
    other = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    assert rh.load_into(other, tmp_path / "net.safetensors")
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in other.state_dict().items())
    with rh.open(tmp_path / "net.safetensors") as checkpoint:
        assert checkpoint.facts["metadata"] == {"format": "pt"}
        assert checkpoint.traces == ()


def test_a_header_that_is_spelled_in_no_usual_way_says_the_same() -> None:
    usual = '{"__metadata__":{"a":"b"},"w":{"dtype":"U8","shape":[2,1],"data_offsets":[0,2]}}'
    odd = (
        '{ "w" : {"data_offsets": [0, 2],\n"shape":[2,1], "\\u0064type":"U8", "more": [1]}, "__metadata__": {"a":"b"} }'
    )
    for text in (usual, odd):
        with rh.open(file_of(text, b"xy")) as checkpoint:
            assert checkpoint.facts["metadata"] == {"a": "b"}
            assert (checkpoint["w"].shape, checkpoint["w"].numpy().tobytes()) == ((2, 1), b"xy")


def test_a_cut_file_is_told_with_how_much_is_there_and_opens_as_far_as_it_goes() -> None:
    header = {
        "a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]},
        "b": {"dtype": "U8", "shape": [4], "data_offsets": [4, 8]},
    }
    whole = file_of(header, b"abcdefgh")
    with pytest.raises(TruncatedError) as caught:
        rh.open(whole[:-3])
    assert f"{len(whole) - 3} bytes of {len(whole)}" in str(caught.value)
    with open_checkpoint(whole[:-3], is_cut=True) as checkpoint:
        assert [checkpoint[name].is_whole for name in "ab"] == [True, False]
        assert checkpoint["a"].numpy().tobytes() == b"abcd"
        with pytest.raises(TruncatedError):
            checkpoint["b"].numpy()


def test_what_lies_behind_the_last_tensor_is_said_to_the_byte() -> None:
    whole = file_of({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}, b"a")
    with pytest.raises(CorruptError, match="goes on after its last tensor") as caught:
        rh.open(whole + b"behind")
    assert f"byte {len(whole)}" in str(caught.value)
    assert "6 bytes" in str(caught.value)


def test_only_the_bytes_of_the_tensor_that_is_wanted_are_read(tmp_path: Path) -> None:
    arrays = {f"w{number}": torch.full((1000,), number) for number in range(50)}
    safetensors.torch.save_file(arrays, tmp_path / "net")
    with rh.open(tmp_path / "net") as checkpoint:
        pieces = checkpoint["w7"].pieces
        assert [piece.length for piece in pieces] == [8000]
        assert checkpoint["w7"][10:20].numpy().tolist() == [7] * 10


def test_real_files_are_bit_equal(test_data: Path) -> None:
    found = 0
    for path in sorted((test_data / "checkpoints").rglob("*.safetensors")):
        with rh.open(path) as checkpoint:
            if checkpoint.format != "safetensors":
                continue
            expected = safetensors.torch.load_file(path)
            assert sorted(checkpoint) == sorted(expected)
            assert all(alike(checkpoint[name].torch(), expected[name]) for name in expected)
            found += 1
    assert found


def test_an_empty_tensor_that_numpy_has_no_array_for_is_ours_to_refuse() -> None:
    file = file_of({"w": {"dtype": "F32", "shape": [0, 1 << 62], "data_offsets": [0, 0]}}, b"")
    with rh.open(file) as checkpoint:
        assert checkpoint["w"].shape == (0, 1 << 62)
        with pytest.raises(ValueError, match="numpy has no array"):
            checkpoint["w"].numpy()
    assert numpy.empty((0, 4)).shape == (0, 4)
