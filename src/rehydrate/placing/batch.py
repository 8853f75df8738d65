"""Moving inputs to where a model lives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import nn

from rehydrate.placing.devices import CPU

__all__ = ["device_of", "to_device"]

Batch = TypeVar("Batch")


def to_device(batch: Batch, model: nn.Module | torch.device | str) -> Batch:
    """See `rehydrate.to_device`."""
    device = device_of(model) if isinstance(model, nn.Module) else torch.device(model)
    return _moved(batch, device)  # type: ignore[no-any-return]


def device_of(model: nn.Module) -> torch.device:
    """Where a model's first parameter or buffer lives; the CPU for a model that has neither."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return CPU


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, nn.utils.rnn.PackedSequence):
        return value.to(device)  # type: ignore[arg-type]
    if isinstance(value, Mapping):
        moved = {key: _moved(item, device) for key, item in value.items()}
        return moved if type(value) is dict else _rebuilt_mapping(value, moved)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_moved(item, device) for item in value))
    if isinstance(value, (list, tuple, set, frozenset)):
        return type(value)(_moved(item, device) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        changed = {entry.name: _moved(getattr(value, entry.name), device) for entry in fields(value) if entry.init}
        return replace(value, **changed)
    return value


def _rebuilt_mapping(value: Any, moved: dict[Any, Any]) -> Any:
    """The same kind of mapping where it can be made from a dict or copied and updated (defaultdict)."""
    if hasattr(value, "copy"):
        copied = value.copy()
        if hasattr(copied, "update"):
            copied.update(moved)
            return copied
    return type(value)(moved)
