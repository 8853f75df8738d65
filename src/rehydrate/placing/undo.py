"""A model as it was: what is needed to put it back when a load fails half-way.

Which tensors every module holds, and its attributes, are always kept; what is in the tensors only up to `UNDO` bytes.
Nothing here decides when to put back.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

__all__ = ["UNDO", "Undo"]

UNDO = 64 << 20
"""Bytes of a model up to which a copy is kept while it is overwritten. Past it, memory would be three times the model;
by then every byte has been read and checked, and copying has little left to fail of."""

_TABLES = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set")


class Undo:
    """Taken before a model is touched."""

    def __init__(self, model: nn.Module) -> None:
        self._attributes = [(module, dict(module.__dict__)) for module in model.modules()]
        self._tables = [
            (table, table.copy())
            for _, attributes in self._attributes
            for name in _TABLES
            if isinstance(table := attributes.get(name), (dict, set))  # a scripted module has a kind of its own
        ]
        every: dict[int, torch.Tensor] = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
        self._lazy: list[tuple[Any, type]] = [
            (tensor, type(tensor)) for tensor in every.values() if nn.parameter.is_lazy(tensor)
        ]
        real = [tensor for tensor in every.values() if not nn.parameter.is_lazy(tensor) and not tensor.is_meta]
        self.has_values = sum(map(_nbytes, real)) <= UNDO
        """Whether the values can be put back too."""
        self._values = [(tensor, tensor.detach().clone()) for tensor in real] if self.has_values else []

    @torch.no_grad()
    def put_back(self) -> None:
        """Make the model what it was, as far as that was kept."""
        for module, attributes in self._attributes:
            module.__dict__.clear()
            module.__dict__.update(attributes)
        for table, content in self._tables:
            table.clear()
            table.update(content)
        for tensor, kind in self._lazy:
            if type(tensor) is not kind:
                tensor.data = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
                tensor.__class__ = kind
        for tensor, value in self._values:
            copy_values(tensor, value)


def copy_values(tensor: torch.Tensor, value: torch.Tensor) -> None:
    """Overwrite what is in a tensor; gradients are off."""
    if tensor.is_inference():  # those may be written to in inference mode only
        with torch.inference_mode():
            tensor.copy_(value)
    else:
        tensor.copy_(value)


def _nbytes(tensor: torch.Tensor) -> int:
    dense = tensor._values() if tensor.layout is torch.sparse_coo else tensor
    return dense.numel() * dense.element_size()
