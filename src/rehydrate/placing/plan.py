"""Jobs: which tensor in memory is filled with which value of a file."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from rehydrate.matching.values import Value

__all__ = ["Job"]


@dataclass(frozen=True, slots=True)
class Job:
    """One tensor that is to be filled."""

    name: str
    tensor: torch.Tensor
    source: Value
    part: tuple[tuple[int, int], ...] = ()
    is_fresh: bool = False
    """Whether nobody has seen the tensor yet, so that nothing has to be put back."""
