"""The files that the benchmark loads. They are made here, by torch.save, of random numbers; nothing is fetched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

__all__ = ["WORKLOADS", "Workload"]


@dataclass(frozen=True, slots=True)
class Workload:
    """One file, and how to make it."""

    name: str
    file: str
    write: Callable[[Path], None]


def _small_tensors() -> dict[str, torch.Tensor]:
    """30,000 vectors of 512 float32: 2 kB each, 61 MB; what is waited for is Python, not memory."""
    torch.manual_seed(0)
    return {f"layers.{index}.weight": torch.randn(512) for index in range(30_000)}


def _many_small(path: Path) -> None:
    torch.save(_small_tensors(), path)


def _many_small_legacy(path: Path) -> None:
    """The same in the stream that torch wrote before 1.6."""
    torch.save(_small_tensors(), path, _use_new_zipfile_serialization=False)


def _few_large(path: Path) -> None:
    """16 matrices of 4096 × 4096 float32: 64 MiB each, 1.07 GB; what is waited for is memory."""
    torch.manual_seed(0)
    torch.save({f"layers.{index}.weight": torch.randn(4096, 4096) for index in range(16)}, path)


WORKLOADS = (
    Workload("30,000 tensors of 2 kB (.pth, 61 MB): open and load", "many.pth", _many_small),
    Workload("30,000 tensors of 2 kB (legacy stream, 61 MB): open and load", "legacy.pth", _many_small_legacy),
    Workload("16 tensors of 64 MiB (.pth, 1.07 GB): open and load", "large.pth", _few_large),
)
