"""References to tensors: read when asked, in parts, by many threads, and only while the file is open."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

import rehydrate as rh
from rehydrate.storage import source


def saved(obj: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(obj, buffer)
    return buffer.getvalue()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    torch.save({"w": torch.arange(6_000_000.0).view(1000, 6000), "n": torch.tensor(3)}, tmp_path / "x.pth")
    return tmp_path / "x.pth"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each read of a file asked for."""
    asked: list[int] = []
    real = source.FileSource.read

    def count(self: source.FileSource, start: int, length: int) -> bytes:
        asked.append(length)
        return real(self, start, length)

    monkeypatch.setattr(source.FileSource, "read", count)
    return asked


def test_opening_reads_the_index_and_a_slice_reads_its_own_bytes(path: Path, read: list[int]) -> None:
    with rh.open(path) as checkpoint:
        assert sum(read) < 400_000
        read.clear()
        rows = checkpoint["w"][10:12]
        assert read == []
        assert rows.numpy()[1, 5] == 11 * 6000 + 5
        assert sum(read) < 2 * 6000 * 4 + 100_000


@pytest.mark.parametrize(
    "index", [numpy.int64(1), (numpy.int32(1), slice(None)), torch.tensor(1), (..., numpy.uint8(1))]
)
def test_whatever_stands_for_a_whole_number_is_one(index: Any) -> None:
    tensor = torch.arange(6).view(2, 3)
    with rh.open(saved({"w": tensor})) as checkpoint:
        assert checkpoint["w"][index].numpy().tolist() == tensor.numpy()[index].tolist()


@pytest.mark.parametrize(
    ("index", "error"),
    [
        (5, IndexError), (-3, IndexError), ((0, 0, 0), IndexError), (slice(None, None, -1), ValueError),
        (True, TypeError), (None, TypeError), ("w", TypeError), (1.0, TypeError), ((..., ...), TypeError),
        ([0], TypeError), (torch.tensor([0, 1]), TypeError),
    ],
)  # fmt: skip
def test_any_other_index_is_an_error(index: Any, error: type[Exception]) -> None:
    with rh.open(saved({"w": torch.arange(6).view(2, 3)})) as checkpoint, pytest.raises(error):
        checkpoint["w"][index].numpy()


def test_many_threads_may_read_at_once(path: Path) -> None:
    with rh.open(path) as checkpoint, ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(lambda at: checkpoint["w"][at].numpy(), range(0, 1000, 7)))
    assert [row[0] for row in rows] == [at * 6000 for at in range(0, 1000, 7)]


def test_a_closed_file_is_told_and_what_was_read_stays(path: Path) -> None:
    with rh.open(path) as checkpoint:
        ref, array = checkpoint["w"], checkpoint["n"].numpy()
    assert array == 3
    assert ref.shape == (1000, 6000)
    with pytest.raises(rh.ClosedError, match="has been closed"):
        ref[0].numpy()
    with pytest.raises(rh.ClosedError):
        rh.load(checkpoint)


def test_a_name_that_is_not_there_is_told_with_the_one_that_was_meant() -> None:
    with rh.open(saved({"conv1.weight": torch.ones(1)})) as checkpoint:
        with pytest.raises(rh.NoSuchTensorError, match=r"did you mean 'conv1\.weight'"):
            checkpoint["conv1.wieght"]
        assert "conv1.wieght" not in checkpoint
        with pytest.raises(KeyError):
            checkpoint[("conv1", "weight")]


def test_a_path_is_a_tuple_of_keys_and_its_spelling_leads_back_to_it() -> None:
    tree = {"a.b": torch.tensor(0), "a": {"b": torch.tensor(1), 0: [torch.tensor(2)], "0": torch.tensor(3)}}
    with rh.open(saved(tree)) as checkpoint:
        by_path = {("a.b",): 0, ("a", "b"): 1, ("a", 0, 0): 2, ("a", "0"): 3}
        assert {path: int(checkpoint[path].numpy()) for path in by_path} == by_path
        assert [int(ref.numpy()) for ref in checkpoint.values()] == [0, 1, 2, 3]
        assert list(checkpoint)[::2] == ["a.b", "a[0][0]"]
        assert [checkpoint[name].name for name in checkpoint] == list(checkpoint)


def test_an_expanded_tensor_of_exabytes_is_refused_whole_and_read_in_part() -> None:
    tensor = torch.tensor([1.0, 2.0]).expand(1 << 40, 2)
    with rh.open(saved({"w": tensor})) as checkpoint:
        with pytest.raises(rh.LimitError, match="read a part of it"):
            checkpoint["w"].numpy()
        assert checkpoint["w"][1 << 39 : (1 << 39) + 2].numpy().tolist() == [[1, 2], [1, 2]]
    loaded: Any = rh.load(saved({"w": tensor}))
    assert loaded["w"].shape == (1 << 40, 2)


def test_a_tensor_that_cannot_stand_alone_says_what_builds_it() -> None:
    with rh.open(saved({"w": torch.ones(2, device="meta")})) as checkpoint:
        assert checkpoint["w"].shape == (2,)
        for read in (checkpoint["w"].torch, checkpoint["w"].numpy):
            with pytest.raises(rh.RebuildError):
                read()
