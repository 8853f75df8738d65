"""Systems that lack calls which Linux has: the same files, read and written another way."""

from __future__ import annotations

import mmap
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import rehydrate as rh


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what Windows does not have."""
    for name in ("pread", "preadv", "fchmod", "O_CLOEXEC", "O_NONBLOCK", "O_DIRECTORY"):
        monkeypatch.delattr(os, name)
    for name in ("MAP_PRIVATE", "MAP_ANONYMOUS", "MADV_HUGEPAGE"):
        monkeypatch.delattr(mmap, name)


@pytest.mark.usefixtures("windows")
def test_files_are_saved_and_loaded_without_the_calls_that_only_unix_has(tmp_path: Path) -> None:
    tree = {"large": torch.randn(700_000), "small": torch.arange(7)}
    for _ in range(2):  # a new file, and one that replaces it
        rh.save(tree, tmp_path / "x.pth")
    loaded = rh.load(tmp_path / "x.pth")
    assert isinstance(loaded, dict)
    assert all(torch.equal(loaded[name], tree[name]) for name in tree)
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.pth"]


@pytest.mark.usefixtures("windows")
def test_many_threads_may_read_one_file_that_has_only_one_position(tmp_path: Path) -> None:
    tensors = {str(index): torch.full((5000,), float(index)) for index in range(50)}
    torch.save(tensors, tmp_path / "x.pth")
    with rh.open(tmp_path / "x.pth") as checkpoint, ThreadPoolExecutor(8) as pool:
        arrays = list(pool.map(lambda name: checkpoint[name].numpy(), tensors))
    assert all((array == index).all() for index, array in enumerate(arrays))
