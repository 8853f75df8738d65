"""Two graphs of values are the same when their outlines are: types, values, order, and what is the same object.

An outline is a flat list, made without recursion, so that graphs may be deep, shared and cyclic. Objects are numbered
in the order in which they are met. This file knows Python's own types only; `describe` is asked about any other.
"""

from __future__ import annotations

import struct
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable

Parts = tuple[object, list[object]]
"""What an object is called, and what is inside it."""
Describe = Callable[[object], Parts]

_ALWAYS_NEW = (str, bytes)
_LISTS = (list, tuple, deque)
_DICTS = (dict, OrderedDict, Counter, defaultdict)


def outline(root: object, describe: Describe | None = None) -> list[object]:
    """The outline of everything that is reached from `root`."""
    tokens: list[object] = []
    numbers: dict[int, int] = {}
    met: list[object] = []  # alive, so that no id is used twice
    stack = [iter((root,))]
    while stack:
        for value in stack[-1]:
            if is_nobody(value):
                tokens.append(spelled(value))
                continue
            if id(value) in numbers:
                tokens.append(("again", numbers[id(value)]))
                continue
            numbers[id(value)] = len(numbers)
            met.append(value)
            label, inside = parts_of(value, describe)
            tokens.append(label)
            stack.append(iter(inside))
            met.append(inside)
            break
        else:
            stack.pop()
    return tokens


def is_nobody(value: object) -> bool:
    """Whether nobody can rely on which object it is: Python itself makes one or many of them as it likes."""
    if isinstance(value, (str, bytes, tuple, frozenset)):
        return len(value) == 0 or (isinstance(value, _ALWAYS_NEW) and len(value) == 1)
    return isinstance(value, (int, float, complex, range, slice, type(None), type(...)))


def spelled(value: object) -> object:
    """A value without identity; floats by their bits, for nan and -0.0."""
    if isinstance(value, float):
        return "float", struct.pack(">d", value)
    if isinstance(value, complex):
        return "complex", struct.pack(">dd", value.real, value.imag)
    if isinstance(value, int):
        return type(value).__name__, hex(value)
    return type(value).__name__, value if isinstance(value, (str, bytes)) else repr(value)


def parts_of(value: object, describe: Describe | None) -> Parts:
    """The label and the contents of one object."""
    kind = type(value)
    if kind in _ALWAYS_NEW or kind is bytearray:
        return (kind.__name__, bytes(value) if kind is bytearray else value), []  # type: ignore[call-overload]
    if isinstance(value, _LISTS) and kind in _LISTS:
        return (kind.__name__, len(value), value.maxlen if isinstance(value, deque) else None), list(value)
    if isinstance(value, dict) and kind in _DICTS:
        made = value.default_factory if isinstance(value, defaultdict) else None
        flat = [part for pair in value.items() for part in pair]
        return (kind.__name__, len(value), getattr(made, "__name__", None)), flat
    if isinstance(value, (set, frozenset)) and kind in (set, frozenset):
        return _unordered(value)
    if describe is None:
        raise TypeError(f"an outline of {kind}")
    return describe(value)


def _unordered(value: set[object] | frozenset[object]) -> Parts:
    """A set in an order of its own; what is neither plain nor made of plain values is only counted."""
    keys = [_key(item) for item in value]
    return (type(value).__name__, len(value), sorted(key for key in keys if key is not None)), []


def _key(item: object) -> str | None:
    if isinstance(item, (tuple, frozenset)):
        inner = [_key(part) for part in item]
        if None in inner:
            return None
        ordered = inner if isinstance(item, tuple) else sorted(key for key in inner if key is not None)
        return f"{type(item).__name__}{ordered}"
    if isinstance(item, (str, bytes, int, float, complex, range, type(None))):
        return repr(spelled(item))
    return None
