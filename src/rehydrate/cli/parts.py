"""The parts of a file in a few words each: what a person wants to know of an epoch, an optimizer, a config object.

Reads the inert tree only and builds nothing; every word that comes out of the file is escaped. Prints nothing.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping
from itertools import islice

from rehydrate.checkpoint.record import Record, brief
from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.checkpoint.tree import children, is_module, spelled, tensors_under
from rehydrate.checkpoint.weights import is_optimizer
from rehydrate.dtypes import DType
from rehydrate.text import counted, dimensions, listed, shown

__all__ = ["held", "why_no_model", "words"]

_MOST = 8
"""Parts that are named; those with tensors come before those without."""
_KEY = 32
"""Columns of a part's name."""
_LOOKED_AT = 100
"""Entries that are looked at for tensors that are not read."""
_ATTRIBUTES = 4
"""Attributes of an object that are named."""

_NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMBERS: Mapping[str, tuple[str, str]] = {
    "f2": ("e", "float16"), "f4": ("f", "float32"), "f8": ("d", "float64"),
    "i1": ("b", "int8"), "i2": ("h", "int16"), "i4": ("i", "int32"), "i8": ("q", "int64"),
    "u1": ("B", "uint8"), "u2": ("H", "uint16"), "u4": ("I", "uint32"), "u8": ("Q", "uint64"),
    "b1": ("?", "bool"),
}  # fmt: skip
"""numpy's code of a type → struct's code, and numpy's name for it."""


def held(tree: object) -> list[str]:
    """What the root of a file is, and its parts, a line each."""
    parts = list(_parts(tree))
    if isinstance(tree, (dict, list, tuple)) and (not parts or _is_state_dict(tree) or is_optimizer(tree)):
        return [_container(tree)]
    if not isinstance(tree, (dict, list, tuple)) and (is_module(tree) or not parts):
        return [words(tree)]
    head = [f"a pickled {shown(tree.path)} with:"] if isinstance(tree, Record) else []
    if isinstance(tree, (list, tuple)):
        head = [_container(tree)]
    with_tensors = {
        at
        for at, (_, part) in enumerate(parts)
        if isinstance(part, (TensorRef, dict, list, tuple, Record)) and next(tensors_under(part), None) is not None
    }
    chosen = sorted(sorted(range(len(parts)), key=lambda at: at not in with_tensors)[:_MOST])
    lines = [f"{shown(_key(parts[at][0]), _KEY)}: {words(parts[at][1])}" for at in chosen]
    more = [f"and {len(parts) - _MOST:,} more"] if len(parts) > _MOST else []
    return [*head, *lines, *more]


def _parts(tree: object) -> Iterable[tuple[object, object]]:
    """What a root is made of: entries of a container, attributes of an object."""
    if isinstance(tree, Record):
        return tree.state.items() if isinstance(tree.state, dict) and not _number(tree) else ()
    return children(tree)


def _key(key: object) -> str:
    return key if isinstance(key, str) else spelled((key,))


def words(value: object) -> str:
    """A value in a few words."""
    if isinstance(value, TensorRef):
        return f"a tensor, {value.dtype} {dimensions(value.shape)}"
    if isinstance(value, DType):
        return f"torch.{value.name}"
    if isinstance(value, Record):
        return _object(value)
    if isinstance(value, (dict, list, tuple)) and next(tensors_under(value), None) is not None:
        return _container(value)
    if isinstance(value, (dict, list, tuple)) and any(map(_number, _values(value))):
        return _container(value)
    return brief(value, 1)


def _values(value: dict[object, object] | list[object] | tuple[object, ...]) -> Iterable[object]:
    return islice(value.values() if isinstance(value, dict) else value, _MOST)


def _container(value: object) -> str:
    """A dictionary or a list by its size and the tensors in it."""
    inside = sum(1 for _ in tensors_under(value))
    length = len(value) if isinstance(value, (dict, list, tuple)) else 0
    if not length:
        return f"an empty {'dictionary' if isinstance(value, dict) else 'list'}"
    if _is_state_dict(value):
        return f"a state dict, {counted(inside, 'tensor')}"
    if is_optimizer(value):
        return f"an optimizer's state, {counted(inside, 'tensor')}"
    what = "a dictionary" if isinstance(value, dict) else "a list" if isinstance(value, list) else "a tuple"
    text = f"{what} of {counted(length, 'entry' if isinstance(value, dict) else 'item')}"
    return f"{text}, {counted(inside, 'tensor')} in it" if inside else text


def _is_state_dict(value: object) -> bool:
    return (
        isinstance(value, dict)
        and 2 * sum(isinstance(item, TensorRef) for item in value.values()) > len(value)
        and all(isinstance(key, str) for key in value)
    )


def _object(record: Record) -> str:
    """Something that the file named: what it is to a person, or its class and the names of its attributes."""
    known = _number(record) or _array(record) or _unread_tensor(record)
    if known:
        return known
    name = shown(record.path, 60)
    if record.args is None and record.state is None:
        return f"{name}, a class or function by name"
    if is_module(record) or is_optimizer(record):
        inside = sum(1 for _ in tensors_under(record))
        return f"the pickled {'model' if is_module(record) else 'optimizer'} {name}, {counted(inside, 'tensor')}"
    names = [shown(key, 24) for key in record.state] if isinstance(record.state, dict) else []
    return f"a pickled {name}" + (f" with {listed(names, _ATTRIBUTES)}" if names else "")


def _number(value: object) -> str:
    """A pickled numpy scalar as the number that it is, or nothing."""
    if not (isinstance(value, Record) and value.module in _NUMPY and value.name == "scalar"):
        return ""
    args = value.args or ()
    if len(args) != 2 or not isinstance(args[1], bytes):
        return ""
    code, order = _numpy_type(args[0])
    letter, name = _NUMBERS.get(code, ("", ""))
    if not letter or struct.calcsize("=" + letter) != len(args[1]):
        return ""
    (number,) = struct.unpack((">" if order == ">" else "<") + letter, args[1])
    return f"{number:.9g}, a numpy {name}" if isinstance(number, float) else f"{number}, a numpy {name}"


def _array(record: Record) -> str:
    """A pickled numpy array by its type and shape, or nothing."""
    state = record.state
    if record.module not in _NUMPY or record.name != "_reconstruct" or not isinstance(state, tuple) or len(state) < 3:
        return ""
    shape = state[1]
    if not isinstance(shape, tuple) or not all(type(extent) is int and 0 <= extent < 1 << 63 for extent in shape):
        return ""
    code, _ = _numpy_type(state[2])
    name = _NUMBERS.get(code, ("", shown(code, 24)))[1]
    return f"a numpy array, {name} {dimensions(shape)}, {counted(math.prod(shape), 'number')}"


def _numpy_type(value: object) -> tuple[str, str]:
    """numpy's code of a pickled dtype, and its byte order."""
    if not isinstance(value, Record) or not value.args or not isinstance(value.args[0], str):
        return "", ""
    state = value.state
    order = state[1] if isinstance(state, tuple) and len(state) > 1 else "<"
    return value.args[0], order if isinstance(order, str) else "<"


def _unread_tensor(record: Record) -> str:
    """A tensor whose bytes are in a pickle inside this one, or in no file at all; nothing for anything else."""
    if record.module != "torch._utils" or not record.name.startswith("_rebuild_tensor") or not record.args:
        return ""
    shape = record.args[2] if len(record.args) > 2 else None
    return f"a tensor {brief(shape)}, its numbers not read"


def why_no_model(tree: object) -> str:
    """Why a file has none: there is none, or its tensors are where they are not read."""
    for part in (tree, *islice((part for _, part in children(tree)), _LOOKED_AT)):
        for _, value in islice(children(part), _LOOKED_AT):
            if isinstance(value, Record) and _unread_tensor(value):
                storage = value.args[0] if value.args else None
                is_inside = isinstance(storage, Record) and storage.name == "_load_from_bytes"
                where = "pickle wrote its tensors, and torch.save did not" if is_inside else "its tensors are elsewhere"
                return f"none that can be read: {where}"
    return "none in this file"
