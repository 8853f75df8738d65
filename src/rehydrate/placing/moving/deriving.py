"""Values → torch tensors: what a tensor of a model is made of, computed.

One function for each `How` of `matching.values`, over torch's own operations. The tensors of the file are given;
nothing is read here, and nothing is written over: what comes out may be a view of what went in.

Numbers of less than 32 bits are added up, scaled and resampled as float32 and brought back at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn.functional import interpolate

from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.matching.values import (
    Cast,
    Derived,
    Interpolated,
    Joined,
    Padded,
    Permuted,
    Repeated,
    Reshaped,
    Sliced,
    Summed,
    Value,
)
from rehydrate.placing.dtypes import torch_dtype

__all__ = ["derived"]

_MODES = {1: "linear", 2: "bicubic", 3: "trilinear"}
"""How torch's `interpolate` resamples a grid of so many dimensions."""


@torch.no_grad()
def derived(value: Value, tensor_of: Callable[[TensorRef], torch.Tensor]) -> torch.Tensor:
    """The tensor that a value stands for; `tensor_of` gives those of the file.

    >>> from rehydrate.matching.values import padded
    >>> import io, rehydrate as rh
    >>> buffer = io.BytesIO(); torch.save({"x": torch.ones(2)}, buffer)
    >>> with rh.open(buffer) as checkpoint:
    ...     derived(padded(checkpoint["x"], 0, 3), lambda ref: ref.torch())
    tensor([1., 1., 0.])
    """
    if isinstance(value, TensorRef):
        return tensor_of(value)
    parts = [derived(source, tensor_of) for source in value.sources]
    return _WAYS[type(value.how)](value, value.how, parts)


def _permuted(value: Derived, how: Permuted, parts: Sequence[torch.Tensor]) -> torch.Tensor:
    return parts[0].permute(how.order)


def _reshaped(value: Derived, how: Reshaped, parts: Sequence[torch.Tensor]) -> torch.Tensor:
    return parts[0].reshape(value.shape)


def _sliced(value: Derived, how: Sliced, parts: Sequence[torch.Tensor]) -> torch.Tensor:
    return parts[0].narrow(how.axis, how.start, how.stop - how.start)


def _joined(value: Derived, how: Joined, parts: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.cat(list(parts), how.axis)


def _padded(value: Derived, how: Padded, parts: Sequence[torch.Tensor]) -> torch.Tensor:
    part, there = parts[0], parts[0].shape[how.axis]
    longer = torch.empty(value.shape, dtype=part.dtype, device=part.device)
    longer.narrow(how.axis, 0, there).copy_(part)
    fill = torch.tensor(how.fill, dtype=torch.float64, device=part.device).to(part.dtype)
    longer.narrow(how.axis, there, value.shape[how.axis] - there).copy_(fill)
    return longer


def _interpolated(value: Derived, how: Interpolated, parts: Sequence[torch.Tensor]) -> torch.Tensor:
    last = parts[0].movedim(how.axis, -1)
    kept, rest = last[..., : how.kept], last[..., how.kept :]
    lead = rest.shape[:-1]
    if how.grid != how.onto:
        grid = _wide(rest).reshape(-1, 1, *how.grid)
        rest = interpolate(grid, size=how.onto, mode=_MODES[len(how.grid)], align_corners=False).to(last.dtype)
    return torch.cat([kept, rest.reshape(*lead, -1)], -1).movedim(-1, how.axis)


def _summed(value: Derived, how: Summed, parts: Sequence[torch.Tensor]) -> torch.Tensor:
    part = parts[0]
    groups = part.reshape(
        *part.shape[: how.axis], how.groups, part.shape[how.axis] // how.groups, *part.shape[how.axis + 1 :]
    )
    return _wide(groups).sum(how.axis + 1).to(part.dtype)


def _repeated(value: Derived, how: Repeated, parts: Sequence[torch.Tensor]) -> torch.Tensor:
    part = parts[0]
    old, new = part.shape[how.axis], value.shape[how.axis]
    turns = torch.arange(new, device=part.device) % old
    scaled = _wide(part) * (old / new)
    return scaled.index_select(how.axis, turns).to(part.dtype)


def _cast(value: Derived, how: Cast, parts: Sequence[torch.Tensor]) -> torch.Tensor:
    return parts[0].to(torch_dtype(value.dtype))


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers as floats that can be computed with."""
    is_narrow = tensor.is_floating_point() and tensor.element_size() < 4
    return tensor.float() if is_narrow else tensor.to(torch.complex64) if tensor.dtype == torch.complex32 else tensor


_WAYS: Mapping[type, Callable[[Derived, Any, Sequence[torch.Tensor]], torch.Tensor]] = {
    Permuted: _permuted,
    Reshaped: _reshaped,
    Sliced: _sliced,
    Joined: _joined,
    Padded: _padded,
    Interpolated: _interpolated,
    Summed: _summed,
    Repeated: _repeated,
    Cast: _cast,
}
