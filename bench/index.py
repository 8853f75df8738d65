"""How long the index of a 1 GB file takes, beside Python's own zip reader; and opening it, names and shapes and all."""

from __future__ import annotations

import gc
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from report import Row

import rehydrate as rh
from rehydrate.formats.zip_directory import ZipDirectory
from rehydrate.limits import Limits
from rehydrate.storage.source import open_source

__all__ = ["measure_index"]

TENSORS, NUMBERS = 30_000, 8_500


def measure_index(folder: Path, rounds: int) -> tuple[str, list[Row]]:
    """The archive's directory read by us and by zipfile, which must agree; in turn, in this process."""
    path = folder / "index.pth"
    torch.save({f"layers.{index}.weight": torch.zeros(NUMBERS) for index in range(TENSORS)}, path)
    ours, theirs = _directory(path), zipfile.ZipFile(path)
    with theirs:
        if [(name, member.offset, member.size) for name, member in ours.members.items()] != [
            (entry.filename, entry.header_offset, entry.file_size) for entry in theirs.infolist()
        ]:
            raise SystemExit("the two indexes disagree")
    contestants: dict[str, Callable[[], object]] = {
        "rehydrate, the index": lambda: _directory(path),
        "zipfile.ZipFile(FILE)": lambda: zipfile.ZipFile(path).close(),
        "rehydrate.open(FILE): index, names, shapes": lambda: rh.open(path).close(),
    }
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name in contestants if number % 2 == 0 else reversed(contestants):
            gc.collect()
            started = time.perf_counter()
            contestants[name]()
            if number:  # the first round only warms
                times[name].append(time.perf_counter() - started)
    path.unlink()
    return "the index of a .pth of 1.02 GB, 30,000 tensors", [
        Row(name, tuple(seconds)) for name, seconds in times.items()
    ]


def _directory(path: Path) -> ZipDirectory:
    source = open_source(path)
    try:
        return ZipDirectory(source, Limits())
    finally:
        source.close()
