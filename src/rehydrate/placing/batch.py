"""Moving inputs to where a model lives."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from copy import copy
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import nn

from rehydrate.placing.devices import CPU, Device, resolve

__all__ = ["device_of", "to_device"]

Batch = TypeVar("Batch")


def to_device(batch: Batch, model: nn.Module | Device) -> Batch:
    """See `rehydrate.to_device`."""
    device = device_of(model) if isinstance(model, nn.Module) else resolve(model)
    return _moved(batch, device)  # type: ignore[no-any-return]


def device_of(model: nn.Module) -> torch.device:
    """Where a model's first parameter or buffer lives; the CPU for a model that has neither."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return CPU


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, (torch.Tensor, nn.utils.rnn.PackedSequence)):
        return value.to(device)  # type: ignore[arg-type]
    if isinstance(value, Mapping):
        return _moved_mapping(value, device)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_moved(item, device) for item in value))
    if isinstance(value, deque):
        return type(value)((_moved(item, device) for item in value), value.maxlen)
    if isinstance(value, (list, tuple, set, frozenset)):
        return type(value)(_moved(item, device) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return _moved_dataclass(value, device)
    return value


def _moved_mapping(value: Mapping[Any, Any], device: torch.device) -> Any:
    """The same kind of mapping: a changed copy where there can be one (of a defaultdict), else made from a dict."""
    moved = {key: _moved(item, device) for key, item in value.items()}
    if type(value) is dict:
        return moved
    copied = value.copy() if hasattr(value, "copy") else None
    if copied is None or not hasattr(copied, "__setitem__"):
        return type(value)(moved)  # type: ignore[call-arg]
    for key, item in moved.items():
        copied[key] = item
    return copied


def _moved_dataclass(value: Any, device: torch.device) -> Any:
    """A copy with its fields moved; itself where there was nothing to move."""
    old = {entry.name: getattr(value, entry.name) for entry in fields(value)}
    moved = {name: _moved(item, device) for name, item in old.items()}
    changed = {name: item for name, item in moved.items() if item is not old[name]}
    if not changed:
        return value
    if type(value).__dataclass_params__.frozen:
        return replace(value, **changed)
    copied = copy(value)
    for name, item in changed.items():
        setattr(copied, name, item)
    return copied
