"""torch.distributed.checkpoint, against torch's own reader: in whatever boxes a tensor lies, it is the same tensor.

torch's reader runs on folders that were made here and on no others: it would run what a stranger's `.metadata` says.
"""

from __future__ import annotations

import io
import json
import pickle
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torch.distributed.checkpoint as dcp
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.checkpoint import DefaultSavePlanner, FileSystemWriter
from torch.distributed.checkpoint import metadata as named
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

import rehydrate as rh
from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.errors import AmbiguousError, CorruptError, MissingFileError, NotACheckpointError, TruncatedError
from rehydrate.formats.opening import open_checkpoint

from ..effort import tried

Box = tuple[tuple[int, ...], tuple[int, ...]]
"""Offsets and sizes."""
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


class Ranks:
    """Writes a folder as ranks would that hold boxes of tensors: each into its own file, then the index of all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.described: dict[str, Any] = {}
        self.stored: dict[named.MetadataIndex, _StorageInfo] = {}
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()

    def write(self, rank: int, index: named.MetadataIndex, value: object) -> None:
        path = self.folder / f"__{rank}_0.distcp"
        offset = path.stat().st_size if path.exists() else 0
        buffer = io.BytesIO()
        torch.save(value, buffer)
        with path.open("ab") as file:
            file.write(buffer.getvalue())
        self.stored[index] = _StorageInfo(path.name, offset, len(buffer.getvalue()))

    def tensor(
        self,
        name: str,
        tensor: torch.Tensor,
        boxes: Sequence[Box],
        laid_out: Callable[[torch.Tensor], torch.Tensor] = torch.clone,
    ) -> None:
        for number, (offsets, sizes) in enumerate(boxes):
            part = tensor[tuple(slice(at, at + extent) for at, extent in zip(offsets, sizes, strict=True))]
            self.write(number % 3, named.MetadataIndex(name, offsets), laid_out(part))
        self.described[name] = named.TensorStorageMetadata(
            named.TensorProperties(tensor.dtype),
            tensor.size(),
            [named.ChunkStorageMetadata(torch.Size(offsets), torch.Size(sizes)) for offsets, sizes in boxes],
        )

    def thing(self, name: str, value: object) -> None:
        self.write(0, named.MetadataIndex(name), value)
        self.described[name] = named.BytesStorageMetadata()

    def finish(self, paths: dict[str, tuple[object, ...]] | None = None) -> Path:
        index = named.Metadata(self.described, planner_data=paths, storage_data=self.stored)
        (self.folder / ".metadata").write_bytes(pickle.dumps(index))
        return self.folder


def by_torch(folder: Path, like: dict[str, Any]) -> dict[str, Any]:
    """What torch loads into tensors of the same shapes."""
    dcp.load(like, checkpoint_id=folder, no_dist=True)
    return like


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def column_major(part: torch.Tensor) -> torch.Tensor:
    return part.T.contiguous().T if part.ndim == 2 else part.clone()


@st.composite
def tilings(draw: st.DrawFn) -> tuple[tuple[int, ...], list[Box]]:
    """A shape, and boxes that are cut out of it again and again, so that they need not lie in a grid."""
    shape = tuple(draw(st.lists(st.integers(0, 6), max_size=3)))
    boxes: list[Box] = [((0,) * len(shape), shape)]
    for _ in range(draw(st.integers(0, 5)) if shape else 0):
        offsets, sizes = boxes.pop(draw(st.integers(0, len(boxes) - 1)))
        axis = draw(st.integers(0, len(shape) - 1))
        first = draw(st.integers(0, sizes[axis]))
        for at, extent in ((0, first), (first, sizes[axis] - first)):
            if extent or not sizes[axis]:
                boxes.append(
                    (
                        (*offsets[:axis], offsets[axis] + at, *offsets[axis + 1 :]),
                        (*sizes[:axis], extent, *sizes[axis + 1 :]),
                    )
                )
    return shape, draw(st.permutations(list(dict.fromkeys(boxes))))


@tried(150)
@given(
    tiling=tilings(),
    dtype=st.sampled_from(
        [torch.float32, torch.bfloat16, torch.int64, torch.complex64, torch.bool, torch.float8_e4m3fn]
    ),
    laid_out=st.sampled_from([torch.clone, column_major]),
    start=st.integers(0, 6),
    length=st.integers(0, 6),
)
def test_a_tensor_in_any_boxes_is_what_torch_puts_together(
    tiling: tuple[tuple[int, ...], list[Box]],
    dtype: torch.dtype,
    laid_out: Callable[[torch.Tensor], torch.Tensor],
    start: int,
    length: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    shape, boxes = tiling
    whole = torch.randint(0, 100, shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    ranks = Ranks(tmp_path_factory.getbasetemp() / "boxes")
    ranks.tensor("w", whole, boxes, laid_out)
    folder = ranks.finish()
    expected = by_torch(folder, {"w": torch.zeros(shape, dtype=dtype)})["w"]
    with rh.open(folder) as checkpoint:
        ref = checkpoint["w"]
        for found in (ref.torch(), rh.load(folder)["w"]):
            assert (found.dtype, found.shape) == (dtype, whole.shape)
            assert bits(found) == bits(expected)
        if shape:
            part = slice(min(start, shape[0]), min(start + length, shape[0]))
            assert ref[part].numpy().tobytes() == ref.numpy()[part].tobytes()
        assert ref.is_whole


def nested_state() -> dict[str, Any]:
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(5, 4)).sum().backward()
    optimizer.step()
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": 7,
        "names": ["a", "b"],
        "list": [torch.ones(2), {"x": torch.zeros(3, dtype=torch.bfloat16)}],
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 3),
        "turned": torch.arange(6.0).reshape(2, 3).T,
    }


def same(ours: object, expected: object) -> bool:
    if isinstance(expected, torch.Tensor):
        return isinstance(ours, torch.Tensor) and ours.dtype == expected.dtype and torch.equal(ours, expected)
    if isinstance(expected, dict):
        return (
            isinstance(ours, dict)
            and {str(key) for key in ours} == {str(key) for key in expected}
            and all(same(ours[key] if key in ours else ours[str(key)], value) for key, value in expected.items())
        )
    if isinstance(expected, list):
        return isinstance(ours, list) and len(ours) == len(expected) and all(map(same, ours, expected))
    return ours == expected


def test_what_torch_saved_is_nested_as_it_was(tmp_path: Path) -> None:
    state = nested_state()
    dcp.save(state, checkpoint_id=tmp_path / "ckpt", no_dist=True)
    for where in (tmp_path / "ckpt", tmp_path / "ckpt" / ".metadata"):
        with rh.open(where) as checkpoint:
            assert checkpoint.format == "dcp"
            assert checkpoint.facts["files"] == ("__0_0.distcp",)
            assert (checkpoint.facts["imports"], checkpoint.facts["calls"]) == ((), ())
            assert list(checkpoint.weights()) == list(state["model"])
        assert same(rh.load(where), state)


@pytest.mark.parametrize(
    ("writer", "options"),
    [
        (lambda folder: FileSystemWriter(folder, single_file_per_rank=False), {}),
        (lambda folder: FileSystemWriter(folder, thread_count=3), {}),
        (FileSystemWriter, {"planner": DefaultSavePlanner(flatten_state_dict=False)}),
        (FileSystemWriter, {"use_collectives": False}),
    ],
    ids=["a file for each tensor", "several threads", "not flattened", "a rank alone"],
)
def test_every_way_that_torch_writes_opens_alike(
    writer: Callable[[Path], FileSystemWriter], options: dict[str, Any], tmp_path: Path
) -> None:
    state = {"model": {"a": torch.arange(12.0).reshape(3, 4), "b": torch.ones(2)}, "step": 7}
    dcp.save(state, storage_writer=writer(tmp_path), no_dist=True, **options)
    with rh.open(tmp_path) as checkpoint:
        assert (checkpoint.format, list(checkpoint)) == ("dcp", ["model.a", "model.b"])
    assert same(rh.load(tmp_path), state)


def test_it_loads_into_a_model(tmp_path: Path) -> None:
    state = nested_state()
    dcp.save(state, checkpoint_id=tmp_path, no_dist=True)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    assert rh.load_into(model, tmp_path)
    assert same(dict(model.state_dict()), dict(state["model"]))


def test_a_flat_set_keeps_its_names(tmp_path: Path) -> None:
    ranks = Ranks(tmp_path / "flat")
    ranks.tensor("layers.0.weight", torch.ones(2, 2), [((0, 0), (2, 2))])
    ranks.thing("layers.0._extra_state", {"amax": torch.ones(3), "step": 3})
    with rh.open(ranks.finish()) as checkpoint:
        assert list(checkpoint.tree) == ["layers.0.weight", "layers.0._extra_state"]  # type: ignore[call-overload]
        assert list(checkpoint) == ["layers.0.weight", "layers.0._extra_state.amax"]
        assert checkpoint["layers.0._extra_state.amax"].numpy().tolist() == [1, 1, 1]


def test_a_tensor_is_looked_for_when_it_is_wanted_and_others_may_be_damaged(tmp_path: Path) -> None:
    ranks = Ranks(tmp_path / "set")
    ranks.tensor("good", torch.ones(3), [((0,), (3,))])
    ranks.tensor("bad", torch.zeros(3), [((0,), (3,))])
    folder = ranks.finish()
    path = folder / "__0_0.distcp"
    info = ranks.stored[named.MetadataIndex("bad", (0,))]
    data = bytearray(path.read_bytes())
    data[info.offset : info.offset + info.length] = bytes(info.length)
    path.write_bytes(data)
    with rh.open(folder) as checkpoint:
        with pytest.raises(NotACheckpointError, match="zeros"):
            checkpoint["bad"].numpy()
        assert checkpoint["good"].numpy().tolist() == [1, 1, 1]


def test_rows_that_ranks_hold_are_read_where_they_lie(tmp_path: Path) -> None:
    ranks = Ranks(tmp_path / "rows")
    whole = torch.arange(12.0).reshape(6, 2)
    ranks.tensor("w", whole, [((4, 0), (2, 2)), ((0, 0), (3, 2)), ((3, 0), (1, 2))])
    with rh.open(ranks.finish()) as checkpoint:
        pieces = checkpoint["w"].pieces
        assert [(piece.at, piece.length) for piece in pieces] == [(0, 24), (24, 8), (32, 16)]
        assert [Path(piece.source.name).name for piece in pieces] == ["__1_0.distcp", "__2_0.distcp", "__0_0.distcp"]
        assert checkpoint["w"].torch().equal(whole)


def test_one_box_that_two_ranks_hold_counts_once(tmp_path: Path) -> None:
    ranks = Ranks(tmp_path / "replicas")
    ranks.tensor("w", torch.ones(4), [((0,), (4,)), ((0,), (4,))])
    with rh.open(ranks.finish()) as checkpoint:
        assert checkpoint["w"].numpy().tolist() == [1] * 4


@pytest.mark.parametrize(
    "boxes",
    [
        [((0, 0), (2, 2)), ((2, 2), (2, 2))],
        [((0, 0), (4, 3)), ((0, 2), (4, 2))],
        [((0, 0), (3, 4)), ((1, 0), (3, 4))],
        [((0, 0), (4, 3)), ((1, 1), (2, 2))],
        [((0, 0), (4, 3))],
        [((0, 0), (4, 5))],
    ],
)  # fmt: skip
def test_boxes_that_are_not_the_whole_are_refused(boxes: list[Box], tmp_path: Path) -> None:
    ranks = Ranks(tmp_path / "holes")
    ranks.tensor("w", torch.ones(5, 6), boxes)
    ranks.described["w"].size = torch.Size((4, 4))
    with pytest.raises(CorruptError):
        rh.open(ranks.finish())


def test_every_pickle_and_every_checksum_is_known(tmp_path: Path) -> None:
    ranks = Ranks(tmp_path / "traces")
    ranks.tensor("w", torch.ones(2), [((0,), (2,))])
    ranks.thing("epoch", 3)
    with rh.open(ranks.finish()) as checkpoint:
        assert [trace.where for trace in checkpoint.traces] == [".metadata", "epoch/archive/data.pkl"]
        assert ("torch.distributed.checkpoint.metadata", "Metadata") in checkpoint.traces[0].names
        assert checkpoint.checksums is not None
        names = {checksum.name for checksum in checkpoint.checksums()}
        assert {"w/archive/data.pkl", "w/archive/data/0", "epoch/archive/data.pkl"} <= names


def test_missing_and_cut_files_are_named(tmp_path: Path) -> None:
    ranks = Ranks(tmp_path / "cut")
    ranks.tensor("w", torch.arange(9.0), [((0,), (3,)), ((3,), (3,)), ((6,), (3,))])
    ranks.tensor("v", torch.ones(2), [((0,), (2,))])
    folder = ranks.finish()
    path = folder / "__2_0.distcp"
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(TruncatedError, match="a file of this checkpoint is cut") as cut:
        rh.open(folder)
    assert "__2_0.distcp" in str(cut.value)
    assert f"{len(whole) - 10:,} bytes; 'w' ends at {len(whole):,}" in str(cut.value)
    with open_checkpoint(folder, is_cut=True) as checkpoint:
        assert not checkpoint["w"].is_whole
        assert checkpoint["v"].is_whole
        assert checkpoint["v"].numpy().tolist() == [1, 1]
    path.unlink()
    with pytest.raises(MissingFileError, match="1 of the 3 files of this checkpoint is not here") as missing:
        rh.open(folder)
    assert "__2_0.distcp" in str(missing.value)


def test_one_file_of_a_set_says_where_the_others_are_told_apart(tmp_path: Path) -> None:
    dcp.save(nested_state(), checkpoint_id=tmp_path, no_dist=True)
    with pytest.raises(AmbiguousError, match=r"torch\.distributed\.checkpoint") as caught:
        rh.open(tmp_path / "__0_0.distcp")
    assert "open the folder" in str(caught.value)
    with pytest.raises(NotACheckpointError, match="without the folder"):
        rh.open((tmp_path / ".metadata").read_bytes())


def test_the_files_are_closed_with_the_checkpoint(tmp_path: Path) -> None:
    dcp.save({"w": torch.ones(2)}, checkpoint_id=tmp_path, no_dist=True)
    with rh.open(tmp_path) as checkpoint:
        ref = checkpoint["w"]
    with pytest.raises(ValueError, match="has been closed"):
        ref.numpy()


def write_parts(folder: Path, parts: Sequence[dict[str, tuple[torch.Tensor, tuple[int, ...]]]]) -> Path:
    """A folder as `HuggingFaceStorageWriter` leaves it when every rank writes its own."""
    folder.mkdir()
    for number, held in enumerate(parts, 1):
        safetensors.torch.save_file(
            {name: part.contiguous() for name, (part, _) in held.items()},
            folder / f"shard-{number:05}-model-00001-of-00001.safetensors",
            {
                "format": "pt",
                "DCP_VERSION": "1.0",
                "DCP_SHARDING_INFO": json.dumps({name: {"saved_offsets": at} for name, (_, at) in held.items()}),
            },
        )
    return folder


def test_what_ranks_wrote_as_safetensors_is_put_together_as_torch_does(tmp_path: Path) -> None:
    whole = torch.arange(24.0).reshape(4, 6)
    folder = write_parts(
        tmp_path / "parts",
        [
            {"w": (whole[:2, :4], (0, 0)), "b": (torch.ones(3), (0,))},
            {"w": (whole[:2, 4:], (0, 4)), "b": (torch.ones(3), (0,))},
            {"w": (whole[2:], (2, 0)), "s": (torch.tensor(7), ())},
        ],
    )
    expected = {"w": torch.zeros(4, 6), "b": torch.zeros(3), "s": torch.tensor(0)}
    dcp.load(expected, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=True)
    with rh.open(folder) as checkpoint:
        assert checkpoint.format == "dcp"
        assert len(checkpoint.facts["files"]) == 3  # type: ignore[arg-type]
        assert set(checkpoint) == set(expected)
        assert all(torch.equal(checkpoint[name].torch(), value) for name, value in expected.items())
    assert torch.equal(rh.load(folder)["w"], whole)


def test_parts_of_safetensors_that_leave_a_hole_are_refused(tmp_path: Path) -> None:
    parts = [{"w": (torch.ones(2), (0,))}, {"w": (torch.ones(2), (3,))}]
    with pytest.raises(CorruptError, match="hole"):
        rh.open(write_parts(tmp_path / "hole", parts))
    with pytest.raises(CorruptError, match="where it belongs"):
        rh.open(write_parts(tmp_path / "lost", [{"w": (torch.ones(2), (0, 0))}, {"v": (torch.ones(2), (0,))}]))
    with pytest.raises(CorruptError, match="not alike"):
        rh.open(write_parts(tmp_path / "odd", [{"w": (torch.ones(2), (0,))}, {"w": (torch.ones(2).long(), (2,))}]))


def test_a_real_set_opens_with_all_its_tensors(test_data: Path) -> None:
    found = 0
    for path in sorted((test_data / "checkpoints").rglob(".metadata")):
        with rh.open(path.parent, member=None) as checkpoint:
            assert checkpoint.format == "dcp"
            refs = [checkpoint[name] for name in checkpoint]
            assert refs
            assert all(isinstance(ref, TensorRef) and ref.numpy().shape == ref.shape for ref in refs)
            found += 1
    assert found


def test_an_index_of_the_formats_own_words_is_plain_data(tmp_path: Path) -> None:
    dcp.save({"w": torch.ones(2)}, checkpoint_id=tmp_path, no_dist=True)
    assert rh.audit(tmp_path).verdict == "data-only"
