"""torch's first format, the tar archives of 0.1.0 to 0.1.9: written here by hand, as nothing writes them any more.

The oracle is torch's own reader of them, which only reads whole files from a path, and unsafely: it is asked about
files that are made here and nothing else.
"""

from __future__ import annotations

import struct
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import rehydrate as rh
from rehydrate.formats.opening import open_checkpoint

from ..effort import tried
from ..hostile.archives_tar import (
    counted,
    persistent,
    tar_of,
    tar_storage,
    tar_tensor,
    torch_members,
    torch_tar,
    views,
)
from ..hostile.assembler import (
    build,
    empty_dict,
    empty_tuple,
    global_,
    newfalse,
    newobj,
    persid_binary,
    pickle_of,
    setitem,
    tuple3,
    unicode,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*TypedStorage")  # which torch itself still gives here

CONTENT = struct.pack("<12f", *range(12))


def holding(names: dict[str, int | str], **parts: bytes | None) -> bytes:
    """A file whose object is a dictionary of tensors and storages, by their keys."""
    program = b"".join(unicode(name) + persistent(key) + setitem for name, key in names.items())
    return torch_tar(pickle=pickle_of(empty_dict, program), **parts)


class File(bytes):
    """Too long to be shown where a test fails."""

    def __repr__(self) -> str:
        return f"<{len(self):,} bytes>"


@st.composite
def files(draw: st.DrawFn) -> File:
    """Tensors that are windows on a few storages and on parts of them."""
    room: dict[int, int] = {}
    parts: list[bytes] = []
    for key in range(1, draw(st.integers(1, 3)) + 1):
        room[key] = draw(st.integers(0, 12))
        parts.append(tar_storage(key, CONTENT[: 4 * room[key]]))
    smaller: list[tuple[int, int, int, int]] = []
    for key in range(10, 10 + draw(st.integers(0, 2))):
        whole = draw(st.sampled_from(sorted(set(room) - {10, 11})))
        offset = draw(st.integers(0, room[whole]))
        room[key] = draw(st.integers(0, room[whole] - offset))
        smaller.append((key, whole, offset, room[key]))
    tensors: list[bytes] = []
    names: dict[str, int | str] = {}
    for key in range(20, 20 + draw(st.integers(0, 5))):
        owner = draw(st.sampled_from(sorted(room)))
        size = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
        stride = draw(st.lists(st.integers(0, 3), min_size=len(size), max_size=len(size)))
        extent = 1 + sum((extent - 1) * step for extent, step in zip(size, stride, strict=True))
        if extent > room[owner]:
            size, stride, extent = [0], [1], 0
        tensors.append(tar_tensor(key, owner, size, stride, offset=draw(st.integers(0, room[owner] - extent))))
        names[f"t{key}"] = key
    names.update({f"s{key}": key for key in draw(st.sets(st.sampled_from(sorted(room)), max_size=2))})
    return File(holding(names, tensors=counted(*tensors), storages=counted(*parts) + views(*smaller)))


@tried(60)
@given(files())
def test_tensors_and_storages_are_those_that_torch_gives(tmp_path_factory: pytest.TempPathFactory, data: File) -> None:
    path = tmp_path_factory.mktemp("tar") / "net.pt"
    path.write_bytes(data)
    ours: Any = rh.load(path)
    theirs = torch.load(path, weights_only=False)  # made above: it names nothing but torch's own storages
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        assert ours[name].tolist() == value.tolist()
        if isinstance(value, torch.Tensor):
            assert (ours[name].shape, ours[name].stride()) == (value.shape, value.stride())
            assert ours[name].dtype == value.dtype
    assert sharing(ours) == sharing(theirs)


def sharing(tensors: dict[str, Any]) -> set[tuple[str, str]]:
    """Pairs of tensors where what is written to the first element of one shows in the other."""
    found: set[tuple[str, str]] = set()
    shown = {name: tensor for name, tensor in tensors.items() if isinstance(tensor, torch.Tensor) and tensor.numel()}
    for at, (name, tensor) in enumerate(shown.items()):
        before = {other: value.tolist() for other, value in shown.items()}
        tensor[(0,) * tensor.dim()] = 1000 + at
        found.update((name, other) for other, value in shown.items() if value.tolist() != before[other])
    return found


def test_facts_and_traces_are_of_every_pickle_in_every_part() -> None:
    with rh.open(torch_tar()) as checkpoint:
        assert checkpoint.format == "torch-tar"
        facts = checkpoint.facts
        assert (facts["writer"], facts["byteorder"], facts["saved_on"]) == ("torch.save", "little", ("cpu",))
        where = [trace.where for trace in checkpoint.traces]
    assert where == ["sys_info", "pickle", "tensors", "tensors", "storages", "storages", "storages"]


def test_a_file_of_a_big_endian_machine_is_read_in_its_order() -> None:
    data = holding(
        {"w": 2},
        sys_info=pickle_of(empty_dict, unicode("little_endian"), newfalse, setitem),
        tensors=counted(tar_tensor(order=">")),
        storages=counted(tar_storage(content=struct.pack(">4f", 1, 2, 3, 4), order=">")) + views(),
    )
    with rh.open(data) as checkpoint:
        assert checkpoint["w"].numpy().tolist() == [1, 2, 3, 4]
        assert checkpoint.facts["byteorder"] == "big"


def test_a_tensor_without_dimensions_or_storage_is_an_empty_one() -> None:
    tensors = counted(tar_tensor(2, None, (), ()), tar_tensor(3, 1, (), ()))
    data = holding({"a": 2, "b": 3}, tensors=tensors, storages=counted(tar_storage(1, b"")) + views())
    ours: Any = rh.load(data)
    assert [(tensor.shape, tensor.dtype) for tensor in ours.values()] == [((0,), torch.float32)] * 2


def test_a_class_is_a_record_and_its_source_a_fact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kind = global_("nets", "Net") + unicode("/home/a/nets.py") + unicode("class Net: ...") + tuple3 + persid_binary
    state = empty_dict + b"".join(
        unicode(name)
        + empty_dict
        + (unicode("w") + persistent(2) + setitem if name == "_parameters" else b"")
        + setitem
        for name in ("_parameters", "_buffers", "_modules")
    )
    with rh.open(torch_tar(pickle=pickle_of(kind, empty_tuple, newobj, state, build))) as checkpoint:
        assert list(checkpoint) == ["w"]
        assert checkpoint.facts["sources"] == {"nets.Net": ("/home/a/nets.py", "class Net: ...")}
    assert list(tmp_path.iterdir()) == []


def test_what_is_left_of_a_cut_file_is_whole_or_not_whole() -> None:
    tensors = counted(tar_tensor(2, 1, (4,), (1,)), tar_tensor(4, 3, (4,), (1,)))
    storages = counted(tar_storage(1, CONTENT[:16]), tar_storage(3, CONTENT[16:32])) + views()
    data = holding({"a": 2, "b": 4}, tensors=tensors, storages=storages)
    first, second = data.index(CONTENT[:16]) + 16, data.index(CONTENT[16:32]) + 16
    begin = data.index(b"storages")  # the header of the last part, which may be missing, too
    for length in range(begin, second + 1):
        with open_checkpoint(data[:length], is_cut=True) as checkpoint:
            assert [checkpoint[name].is_whole for name in "ab"] == [length >= first, length >= second], length
            if length >= first:
                assert checkpoint["a"].numpy().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["sys_info", "pickle", "tensors", "storages"])
def test_a_part_that_is_missing_is_named(name: str) -> None:
    with pytest.raises(rh.CorruptError, match="missing") as caught:
        rh.open(torch_tar(**{name: None}))
    assert name in str(caught.value)


def test_it_is_an_archive_that_others_read_too(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    path.write_bytes(tar_of(*torch_members()))
    with tarfile.open(path) as archive:
        assert archive.getnames() == ["sys_info", "pickle", "tensors", "storages"]


def test_the_real_file_gives_every_tensor_of_its_network(test_data: Path) -> None:
    (path,) = test_data.glob("checkpoints/spro+practical-pytorch/*/char-rnn-classification/*.pt")
    with rh.open(path) as checkpoint:
        shapes = sorted(ref.shape for ref in checkpoint.values() if ref.numel)
        assert checkpoint.format == "torch-tar"
        assert shapes[-1] == (128, 180)
        assert all(abs(ref.numpy()).max() < 10 for ref in checkpoint.values())
