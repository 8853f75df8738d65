"""A file with one byte changed opens as it was, or is refused, or differs in the tensor whose byte it was."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator

import numpy
import pytest
import torch

import rehydrate as rh
from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.errors import RehydrateError

from ..effort import FACTOR
from ..hostile.archives import torch_zip
from ..hostile.archives_tar import Member, record, said, tar_of, torch_tar
from ..hostile.assembler import empty_dict, pickle_of, setitem, tensor, unicode
from ..hostile.examining import check_message, check_text
from ..pickles.described import outline_of

FLIPS = (0x01, 0x10, 0x20, 0x80)
"""One bit low, the bit between capitals and small letters, and one high."""


def saved_by_torch() -> bytes:
    buffer = io.BytesIO()
    torch.save({"w": torch.tensor([1.0, 2.0]), "b": torch.tensor([3], dtype=torch.int64), "epoch": 7}, buffer)
    return buffer.getvalue()


def saved_by_rehydrate() -> bytes:
    program = empty_dict + unicode("w") + tensor() + setitem + unicode("n") + unicode("a name") + setitem
    return torch_zip(pickle_of(program), {"0": struct.pack(">4f", 1, 2, 3, 4)}, order=b"big")


def repacked() -> bytes:
    """By hand, with compression, as some do to save room; only the pickle may be compressed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved_by_torch())) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            kind = zipfile.ZIP_STORED if "/data/" in name else zipfile.ZIP_DEFLATED
            new.writestr(name, old.read(name), kind)
    return buffer.getvalue()


def spans_of_storages(data: bytes) -> list[range]:
    """Where the bytes of tensors lie, by another reader than ours."""
    spans = []
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for entry in archive.infolist():
            if "/data/" in entry.filename:
                at = entry.header_offset
                name, extra = struct.unpack_from("<2H", data, at + 26)
                spans.append(range(at + 30 + name + extra, at + 30 + name + extra + entry.file_size))
    return spans


def contents(checkpoint: Checkpoint) -> tuple[object, dict[str, bytes | None]]:
    """The tree, and the bytes of each tensor; None for those that are refused when they are read."""
    return outline_of(checkpoint.tree), {name: _bytes_of(checkpoint, name) for name in checkpoint}


def _bytes_of(checkpoint: Checkpoint, name: str) -> bytes | None:
    try:
        return numpy.ascontiguousarray(checkpoint[name].numpy()).tobytes()
    except RehydrateError as error:
        check_message(error)
        return None


def flipped(data: bytes) -> Iterator[tuple[int, bytes]]:
    flips = range(1, 256) if FACTOR > 1 else FLIPS
    for at in range(len(data)):
        for flip in flips:
            yield at, data[:at] + bytes((data[at] ^ flip,)) + data[at + 1 :]


@pytest.mark.parametrize("make", [saved_by_torch, saved_by_rehydrate, repacked])
def test_a_changed_byte_of_a_torch_zip_changes_only_the_tensor_it_belongs_to(make: object) -> None:
    data = make()  # type: ignore[operator]
    spans = spans_of_storages(data)
    with rh.open(data) as checkpoint:
        tree, tensors = contents(checkpoint)
    refused = same = 0
    for at, changed in flipped(data):
        try:
            checkpoint = rh.open(changed)
        except RehydrateError as error:
            check_message(error)
            refused += 1
            continue
        with checkpoint:
            check_text(str(checkpoint))
            its_tree, its_tensors = contents(checkpoint)
        if _without_order(its_tree) != _without_order(tree):
            pytest.fail(f"byte {at} changed the tree")
        different = [name for name, raw in its_tensors.items() if raw is not None and raw != tensors[name]]
        same += not different
        assert not different or any(at in span for span in spans), f"byte {at} changed {different}"
    assert refused > 100
    assert same > 100


def _without_order(tree: object) -> str:
    """Where a storage lies in the file is no part of what the file says."""
    return repr([token[:-1] if token[:1] == ("storage",) else token for token in tree])  # type: ignore[index,attr-defined]


def saved_before_1_6() -> bytes:
    whole = torch.arange(4.0)
    buffer = io.BytesIO()
    torch.save({"w": whole, "part": whole[1:], "n": 3}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def packed_in_a_tar() -> bytes:
    return tar_of(said(record(b"mtime", b"1.5")), Member(b"net.pth", saved_before_1_6()))[:3584]


@pytest.mark.parametrize("make", [saved_before_1_6, packed_in_a_tar, lambda: torch_tar()[:6144]])
def test_a_changed_byte_of_a_file_without_checksums_is_read_or_refused(make: Callable[[], bytes]) -> None:
    data = make()
    rh.open(data).close()
    for _, changed in flipped(data):
        try:
            with rh.open(changed) as checkpoint:
                check_text(str(checkpoint))
                contents(checkpoint)
        except RehydrateError as error:
            check_message(error)


@pytest.mark.parametrize("protocol", range(6))
def test_a_changed_byte_of_a_pickle_is_read_or_refused(protocol: int) -> None:
    data = pickle.dumps({"a": [1, 2.5, ("b", None)], 3: {"c", "d"}, "e": b"f"}, protocol)
    for _, changed in flipped(data):
        try:
            with rh.open(changed) as checkpoint:
                check_text(str(checkpoint))
        except RehydrateError as error:
            check_message(error)


@pytest.mark.parametrize(
    "make",
    [saved_by_torch, saved_by_rehydrate, repacked, saved_before_1_6, lambda: pickle.dumps([1, "a"] * 9, 4)],
)
def test_a_file_that_is_cut_anywhere_is_refused(make: object) -> None:
    data = make()  # type: ignore[operator]
    for end in range(len(data)):
        with pytest.raises(RehydrateError) as caught:
            rh.open(data[:end])
        check_message(caught.value)
