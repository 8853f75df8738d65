"""torch's zip files as old and odd writers left them, held against torch; and files that break their promises."""

from __future__ import annotations

import io
import mmap
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

import rehydrate as rh
from rehydrate.formats.torch_zip import write_torch_zip
from rehydrate.formats.zip_directory import ZipDirectory
from rehydrate.formats.zip_writer import ZipWriter
from rehydrate.limits import Limits
from rehydrate.storage.atomic import replacing
from rehydrate.storage.source import MemorySource, open_source
from rehydrate.writing.gather import gather

TREE = {
    "half": torch.arange(5).half(),
    "float": torch.arange(6.0).view(2, 3),
    "double": torch.arange(3.0, dtype=torch.float64)[1:],
    "complex": torch.tensor([1 + 2j, 3 - 4j]),
    "long": torch.arange(4) << 33,
    "bytes": torch.arange(7, dtype=torch.uint8),
    "flags": torch.tensor([True, False]),
    "empty": torch.empty(0),
    "n": 3,
}


def saved(obj: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(obj, buffer)
    return buffer.getvalue()


Members = dict[str, bytes]


def members_of(data: bytes) -> Members:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(members: Members, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def assert_same(ours: Any, theirs: Any) -> None:
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        if isinstance(value, torch.Tensor):
            assert (ours[name].dtype, ours[name].stride()) == (value.dtype, value.stride())
            assert torch.equal(ours[name], value), name
        else:
            assert ours[name] == value


def reloaded(data: bytes) -> Any:
    return torch.load(io.BytesIO(data), weights_only=True)


def without(*endings: str) -> Callable[[Members], Members]:
    return lambda members: {name: content for name, content in members.items() if not name.endswith(endings)}


VARIANTS: dict[str, Callable[[Members], Members]] = {
    "as it is": lambda members: members,
    "before 2.1: no byteorder": without("byteorder", ".format_version", ".storage_alignment", "serialization_id"),
    "no more than a reader needs": lambda members: {
        name: content for name, content in members.items() if name.endswith(("data.pkl", "version")) or "/data/" in name
    },
    "another folder's name": lambda members: {
        "模型/" + name.split("/", 1)[1]: content for name, content in members.items()
    },
    "in another order": lambda members: dict(reversed(members.items())),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_other_versions_of_torch_wrote_is_read_as_torch_reads_it(variant: str) -> None:
    data = packed(VARIANTS[variant](members_of(saved(TREE))))
    assert_same(rh.load(data), reloaded(data))


def swapped(members: Members) -> Members:
    """The same file as a big-endian machine would have written it."""
    kinds = {
        "half": "<f2",
        "float": "<f4",
        "double": "<f8",
        "complex": "<f4",
        "long": "<i8",
        "bytes": "u1",
        "flags": "u1",
    }
    keys = {str(at): kind for at, kind in enumerate([*kinds.values(), "<f4"])}
    changed: Members = {}
    for name, content in members.items():
        folder, _, key = name.rpartition("/")
        if folder.endswith("/data"):
            content = numpy.frombuffer(content, keys[key]).byteswap().tobytes()
        changed[name] = b"big" if name.endswith("byteorder") else content
    return changed


def test_a_file_of_a_big_endian_machine_is_read_as_torch_reads_it() -> None:
    data = packed(swapped(members_of(saved(TREE))))
    assert_same(rh.load(data), TREE)
    assert_same(rh.load(data), reloaded(data))
    with rh.open(data) as checkpoint:
        assert checkpoint.facts["byteorder"] == "big"
        for name, tensor in TREE.items():
            if isinstance(tensor, torch.Tensor):
                assert torch.equal(checkpoint[name].torch(), tensor)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (without("data/1"), rh.CorruptError, "missing from the archive"),
        (lambda m: {**m, "archive/data/1": m["archive/data/1"][:-4]}, rh.CorruptError, "another length"),
        (lambda m: {**m, "archive/data/1": m["archive/data/1"] + b"\0"}, rh.CorruptError, "another length"),
        (lambda m: {**m, "archive/data.pkl": m["archive/data.pkl"] + b"."}, rh.AmbiguousError, "after the end"),
        (lambda m: {**m, "archive/data.pkl": m["archive/data.pkl"][:-9]}, rh.TruncatedError, "ends early"),
        (lambda m: {**m, "archive/byteorder": b"middle"}, rh.CorruptError, "neither little nor big"),
        (lambda m: {**m, "other/data.pkl": m["archive/data.pkl"]}, rh.AmbiguousError, "two checkpoints"),
        (lambda m: {**m, "beside.txt": b"x"}, rh.AmbiguousError, "beside the checkpoint's folder"),
        (lambda m: {**m, "archive/constants.pkl": b"N."}, rh.AmbiguousError, "a program beside"),
        (lambda m: {**m, "archive/code/__torch__.py": b""}, rh.AmbiguousError, "a program beside"),
        (without("data.pkl"), rh.NotACheckpointError, "none of its files is a checkpoint"),
        (lambda m: {}, rh.NotACheckpointError, "."),
    ],
)
def test_a_file_that_breaks_a_promise_is_told_which(
    change: Callable[[Members], Members], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        rh.load(packed(change(members_of(saved(TREE)))))


def test_tensors_are_checked_against_their_storages_when_the_file_is_opened() -> None:
    members = members_of(saved({"w": torch.arange(3.0)}))
    pickle = members["archive/data.pkl"]
    at = pickle.index(b"K\x03\x85")
    for wrong in (b"K\x04\x85", b"K\xff\x85"):
        broken = {**members, "archive/data.pkl": pickle[:at] + wrong + pickle[at + 3 :]}
        with pytest.raises(rh.CorruptError, match="out of bounds"):
            rh.open(packed(broken))


def test_a_bit_that_flipped_in_the_index_is_noticed() -> None:
    data = bytearray(saved(TREE))
    at = data.index(b"half")
    data[at] ^= 1
    with pytest.raises(rh.CorruptError):
        rh.open(bytes(data))


def test_newer_types_of_a_big_endian_machine_are_read_as_what_they_were() -> None:
    tree = {
        "words": torch.arange(5, dtype=torch.int16).view(torch.uint16),
        "eighths": torch.ones(3).to(torch.float8_e5m2),
    }
    data = {
        name: bytes(content[at ^ 1] for at in range(len(content))) if name.endswith("data/0") else content
        for name, content in members_of(saved(tree)).items()
    }
    with rh.open(packed({**data, "archive/byteorder": b"big"})) as checkpoint:
        loaded: Any = rh.load(checkpoint)
        assert loaded["words"].tolist() == checkpoint["words"].numpy().tolist() == [0, 1, 2, 3, 4]
        assert loaded["eighths"].float().tolist() == [1, 1, 1]


def test_storages_begin_at_multiples_of_64_and_torch_finds_each_of_seventy_thousand(tmp_path: Path) -> None:
    parts = gather({"first": torch.tensor([1.0]), "last": torch.tensor([2.0])})
    more = [(str(key), struct.pack("<f", key)) for key in range(2, 70_000)]
    with replacing(tmp_path / "many.pth", durable=False) as sink:
        write_torch_zip(sink, "many", parts.pickle, [*parts.storages, *more])
    theirs = torch._C.PyTorchFileReader(str(tmp_path / "many.pth"))
    assert len(theirs.get_all_records()) == 70_000 + 3
    assert theirs.get_record("data/69999") == struct.pack("<f", 69_999)
    assert theirs.get_record_offset("data/69999") % 64 == 0
    assert torch.load(tmp_path / "many.pth", weights_only=True)["last"].item() == 2.0
    loaded = rh.load(tmp_path / "many.pth")
    assert isinstance(loaded, dict)
    assert loaded["first"].item() == 1.0


class Counting:
    """A sink that keeps what is not a tensor's bytes, and only counts those: for archives of many gigabytes."""

    def __init__(self) -> None:
        self.position = 0
        self.kept: dict[int, bytes] = {}

    def write(self, data: bytes | memoryview) -> None:
        if memoryview(data).nbytes < 1 << 20:
            self.kept[self.position] = bytes(data)
        self.position += memoryview(data).nbytes


class Sparse(MemorySource):
    """What `Counting` kept, as a source with zeros between."""

    def __init__(self, sink: Counting) -> None:
        super().__init__(b"")
        self.size = sink.position
        self._kept = sink.kept

    def read(self, start: int, length: int) -> bytes:
        data = bytearray(length)
        for at, piece in self._kept.items():
            low, high = max(at, start), min(at + len(piece), start + length)
            if low < high:
                data[low - start : high - start] = piece[low - at : high - at]
        return bytes(data)


def test_members_and_archives_of_more_than_four_gigabytes_are_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zlib, "crc32", lambda data, value=0: value)  # which takes ten seconds for as many bytes
    with mmap.mmap(-1, (4 << 30) + 7) as zeros:
        sink = Counting()
        writer = ZipWriter(sink)  # type: ignore[arg-type]
        with memoryview(zeros) as large:
            writer.add("a/data/0", [b"small"])
            writer.add("a/data/1", [large])
            writer.add("a/data/2", [b"behind"])
        writer.finish()
    directory = ZipDirectory(Sparse(sink), Limits())
    sizes = {name: member.size for name, member in directory.members.items()}
    assert sizes == {"a/data/0": 5, "a/data/1": (4 << 30) + 7, "a/data/2": 6}
    behind = directory.members["a/data/2"]
    assert directory.source.read(directory.start_of(behind), 6) == b"behind"
    assert directory.start_of(behind) > 4 << 30
    assert all(directory.start_of(member) % 64 == 0 for member in directory.members.values())


def test_a_source_may_be_a_path_bytes_or_a_stream(tmp_path: Path) -> None:
    data = saved(TREE)
    (tmp_path / "x.pth").write_bytes(data)
    for where in (
        tmp_path / "x.pth",
        str(tmp_path / "x.pth"),
        data,
        bytearray(data),
        memoryview(data),
        io.BytesIO(data),
    ):
        assert_same(rh.load(where), TREE)
    with open(tmp_path / "x.pth", "rb") as stream:
        assert_same(rh.load(stream), TREE)
        assert open_source(stream).size == len(data)


def test_what_macos_packs_beside_the_folder_is_passed_over() -> None:
    members = members_of(saved({"w": torch.ones(2)}))
    beside = {"__MACOSX/archive/._data.pkl": b"\0\5\x16\7" + bytes(80)}
    loaded: Any = rh.load(packed(members | beside))
    assert loaded["w"].tolist() == [1, 1]
