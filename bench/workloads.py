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


def _many_small(path: Path) -> None:
    """20,000 vectors of 512 float32: 2 kB each, 41 MB; what is waited for is Python, not memory."""
    torch.manual_seed(0)
    torch.save({f"layers.{index}.weight": torch.randn(512) for index in range(20_000)}, path)


def _few_large(path: Path) -> None:
    """16 matrices of 4096 × 4096 float32: 64 MiB each, 1.07 GB; what is waited for is memory."""
    torch.manual_seed(0)
    torch.save({f"layers.{index}.weight": torch.randn(4096, 4096) for index in range(16)}, path)


WORKLOADS = (
    Workload("20,000 tensors of 2 kB (.pth, 41 MB): open and load", "many.pth", _many_small),
    Workload("16 tensors of 64 MiB (.pth, 1.07 GB): open and load", "large.pth", _few_large),
)
