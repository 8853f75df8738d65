"""Compressed files: opened as what is inside, bounded, and never past a broken checksum."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import random
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import rehydrate as rh
from rehydrate.formats.opening import open_checkpoint
from rehydrate.limits import Limits

from ..effort import tried

Pack = Callable[[bytes], bytes]

PACKERS: dict[str, Pack] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "zlib": zlib.compress,
}
WITH_STREAMS = ("gzip", "bzip2", "xz")
every_packer = pytest.mark.parametrize("name", PACKERS)


def saved(obj: object, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(obj, buffer, **options)
    return buffer.getvalue()


TREE = {"w": torch.arange(6.0).reshape(2, 3), "n": 3}
INSIDE: dict[str, bytes] = {
    "torch-zip": saved(TREE),
    "torch-legacy": saved(TREE, _use_new_zipfile_serialization=False),
    "pickle": pickle.dumps({"w": [1, 2, 3], "text": "<html>"}, 0),
}


@every_packer
@pytest.mark.parametrize("inside", INSIDE)
def test_what_is_inside_opens_as_what_it_is(name: str, inside: str) -> None:
    with rh.open(PACKERS[name](INSIDE[inside])) as packed, rh.open(INSIDE[inside]) as plain:
        assert packed.format == f"{name}+{inside}"
        assert list(packed) == list(plain)
        assert all(numpy.array_equal(packed[key].numpy(), plain[key].numpy()) for key in plain)


@pytest.mark.parametrize("level", [1, 6, 9])
def test_every_level_of_zlib_is_recognised(level: int) -> None:
    for window in (15, 31):
        packer = zlib.compressobj(level, wbits=window)
        with rh.open(packer.compress(INSIDE["torch-zip"]) + packer.flush()) as checkpoint:
            assert checkpoint.format.endswith("+torch-zip")


def test_a_file_keeps_its_name_and_what_is_inside_is_called_without_the_suffix(tmp_path: Path) -> None:
    path = tmp_path / "net.pth.gz"
    path.write_bytes(gzip.compress(INSIDE["torch-zip"]))
    with rh.open(path) as checkpoint:
        assert checkpoint.source.name == str(path)
        assert checkpoint.facts["compressed"] == path.stat().st_size
    path.write_bytes(gzip.compress(b"<html><title>Not here</title>"))
    with pytest.raises(rh.NotACheckpointError, match="a web page: Not here") as caught:
        rh.open(path)
    assert caught.value.where == str(tmp_path / "net.pth")


def test_what_a_pickle_inside_would_have_done_is_told_of_what_was_unpacked() -> None:
    with rh.open(gzip.compress(INSIDE["torch-zip"])) as checkpoint:
        assert [trace.where for trace in checkpoint.traces] == ["unpacked/archive/data.pkl"]


@pytest.mark.parametrize("name", WITH_STREAMS)
def test_several_streams_are_one_file(name: str) -> None:
    data = INSIDE["torch-zip"]
    parts = b"".join(PACKERS[name](data[at : at + 100]) for at in range(0, len(data), 100))
    with rh.open(parts) as checkpoint:
        assert checkpoint["w"].numpy().tolist() == [[0, 1, 2], [3, 4, 5]]


def test_zeros_that_the_format_allows_at_the_end_are_no_part_of_it() -> None:
    data = INSIDE["torch-zip"]
    for packed in (gzip.compress(data) + bytes(37), lzma.compress(data) + bytes(8) + lzma.compress(b"") + bytes(4)):
        with rh.open(packed) as checkpoint:
            assert len(checkpoint) == 1
    with pytest.raises(rh.AmbiguousError, match="after the end"):
        rh.open(lzma.compress(data) + bytes(3))


def test_containers_in_each_other_open_as_far_as_the_limit() -> None:
    data = INSIDE["torch-zip"]
    with rh.open(gzip.compress(lzma.compress(bz2.compress(data)))) as checkpoint:
        assert checkpoint.format == "gzip+xz+bzip2+torch-zip"
    for _ in range(5):
        data = gzip.compress(data)
    with pytest.raises(rh.LimitError, match="too many containers"):
        rh.open(data)


@every_packer
def test_bytes_after_the_end_are_an_error(name: str) -> None:
    with pytest.raises(rh.AmbiguousError, match="after the end"):
        rh.open(PACKERS[name](INSIDE["torch-zip"]) + b"more than sixteen bytes of something")


@every_packer
def test_a_cut_file_says_so(name: str) -> None:
    packed = PACKERS[name](saved({"w": torch.randn(100)}))
    for kept in (0.5, 0.9, 0.99):
        with pytest.raises(rh.TruncatedError, match="ends early"):
            rh.open(packed[: int(len(packed) * kept)])


def test_what_a_cut_file_still_has_can_be_had() -> None:
    tensors = {str(at): torch.randn(2000) for at in range(20)}
    packed = gzip.compress(saved(tensors, _use_new_zipfile_serialization=False))
    with open_checkpoint(packed[: len(packed) * 3 // 4], is_cut=True) as checkpoint:
        whole = [name for name, ref in checkpoint.items() if ref.is_whole]
        assert 10 <= len(whole) <= 16
        assert all(numpy.array_equal(checkpoint[name].numpy(), tensors[name].numpy()) for name in whole)


@pytest.mark.parametrize("name", ["gzip", "bzip2", "xz", "zlib"])
def test_a_broken_checksum_is_bad_crc(name: str) -> None:
    packed = bytearray(PACKERS[name](INSIDE["torch-zip"]))
    at = {"gzip": -6, "bzip2": -4, "xz": -30, "zlib": -2}[name]
    packed[at] ^= 0x40
    with pytest.raises(rh.CorruptError, match="bad CRC"):
        rh.open(bytes(packed))


@pytest.mark.parametrize(
    ("name", "kind", "compute"), [("gzip", "crc32", zlib.crc32), ("zlib", "adler32", zlib.adler32)]
)
def test_the_checksum_of_everything_is_handed_up(name: str, kind: str, compute: Callable[[bytes], int]) -> None:
    with rh.open(PACKERS[name](INSIDE["torch-zip"])) as checkpoint, rh.open(INSIDE["torch-zip"]) as plain:
        assert checkpoint.checksums is not None
        assert plain.checksums is not None
        first, *others = checkpoint.checksums()
        assert (first.kind, first.expected) == (kind, compute(b"".join(first.read())))
        assert len(others) == len(list(plain.checksums()))


@every_packer
def test_a_bomb_is_refused_before_it_is_unpacked(name: str) -> None:
    bomb = PACKERS[name](bytes(70 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(rh.LimitError, match="unpacks to too much"):
            rh.open(bomb)
        assert tracemalloc.get_traced_memory()[1] < 160 << 20
    finally:
        tracemalloc.stop()
    with pytest.raises(rh.LimitError, match="1\\.0 MB"):
        rh.open(gzip.compress(bytes(2_000_000)), limits=Limits(unpacked_bytes=1_000_000))


def test_opening_takes_little_more_memory_than_what_is_inside() -> None:
    random.seed(0)
    packed = gzip.compress(saved({"w": torch.frombuffer(bytearray(random.randbytes(20_000_000)), dtype=torch.uint8)}))
    tracemalloc.start()
    with rh.open(packed) as checkpoint:
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
        tracemalloc.stop()
        assert checkpoint["w"].shape == (20_000_000,)


def test_many_small_streams_take_no_more_time_than_their_bytes() -> None:
    with pytest.raises(rh.NotACheckpointError, match="empty"):
        rh.open(gzip.compress(b"") * 20_000)


def test_text_that_begins_like_zlib_or_lzma_is_text() -> None:
    for text in (b"x\x9cyz", b"x^2 + y^2 = 1", b"]\0\0" + bytes(100)):
        with pytest.raises(rh.NotACheckpointError) as caught:
            rh.open(text)
        assert "zlib" not in str(caught.value)


@tried(300)
@given(name=st.sampled_from(sorted(PACKERS)), at=st.floats(0, 1), byte=st.integers(0, 255))
def test_a_changed_byte_is_refused_or_makes_no_difference(name: str, at: float, byte: int) -> None:
    packed = bytearray(PACKERS[name](INSIDE["pickle"]))
    packed[min(int(at * len(packed)), len(packed) - 1)] = byte
    try:
        with rh.open(bytes(packed)) as checkpoint:
            assert name == "lzma" or checkpoint.tree == pickle.loads(INSIDE["pickle"])
    except rh.RehydrateError:
        pass
