"""Values of a file that are given to somebody's `load_state_dict`: real, or refused; and compared.

Never a record: those are for people to read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from rehydrate.checkpoint.record import NAMESPACES, Record, brief
from rehydrate.errors import RebuildError
from rehydrate.placing.values import real_values
from rehydrate.text import shown

__all__ = ["is_plain", "is_same", "number_of", "real_or_refused"]

_PLAIN = frozenset({str, int, float, bool, complex, bytes, type(None)})


def is_plain(value: object) -> bool:
    """Whether a value holds nothing and is its own copy."""
    return type(value) in _PLAIN


def real_or_refused(value: object, attributes: Mapping[int, object], where: str) -> Any:
    """A value with real tensors. Raises `RebuildError` for one in which something needs code that nobody ran."""
    real = real_values(value, attributes)
    stack, seen = [real], set()
    while stack:
        item = stack.pop()
        if is_plain(item) or id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, Record):
            raise RebuildError(
                f"{shown(where)!r} holds something that only its own code can build",
                found=brief(item),
                hint="rh.load(...) gives it as a record: read what you need of it there",
            )
        if isinstance(item, dict):
            stack += [*item, *item.values()]
        elif isinstance(item, (list, tuple, set, frozenset)):
            stack += item
        elif isinstance(item, NAMESPACES):
            stack += vars(item).values()
    return real


def is_same(one: object, other: object) -> bool:
    """Whether two values are equal; tensors by their numbers."""
    if isinstance(one, torch.Tensor) or isinstance(other, torch.Tensor):
        both = isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor)
        if both:
            return torch.equal(one.cpu(), other.cpu())  # type: ignore[attr-defined]
        return number_of(one) == number_of(other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(is_same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(is_same, one, other))
    return bool(one == other)


def number_of(value: object) -> object:
    """A number for a tensor of one; anything else as it is."""
    return value.item() if isinstance(value, torch.Tensor) and value.numel() == 1 else value
