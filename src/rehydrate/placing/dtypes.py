"""Our element types and torch's, one for the other."""

from __future__ import annotations

from functools import cache

import torch

from rehydrate.dtypes import BY_NAME, DType
from rehydrate.errors import RebuildError

__all__ = ["dtype_of", "torch_dtype"]


def torch_dtype(dtype: DType) -> torch.dtype:
    """torch's object for an element type.

    Raises `RebuildError` where the installed torch is too old to have it.

    >>> torch_dtype(BY_NAME["bfloat16"])
    torch.bfloat16
    """
    found = getattr(torch, dtype.name, None)
    if not isinstance(found, torch.dtype):
        raise RebuildError(
            f"torch {torch.__version__} has no element type {dtype.name}",
            hint="install a newer torch",
        )
    return found


@cache
def dtype_of(dtype: torch.dtype) -> DType:
    """Our row for torch's element type.

    >>> str(dtype_of(torch.half))
    'float16'
    """
    return BY_NAME[str(dtype).removeprefix("torch.")]
