"""The parts of a file in a few words each: what a person wants to know of an epoch, an optimizer, a config object.

Reads the inert tree only and builds nothing; every word that comes out of the file is escaped. Prints nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from rehydrate.checkpoint.candidates import is_optimizer
from rehydrate.checkpoint.modules import is_module
from rehydrate.checkpoint.record import NAMESPACES, Record, brief
from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.checkpoint.tree import children, spelled, tensors_under
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
_CONTAINERS = (dict, list, tuple, *NAMESPACES)


def held(tree: object) -> list[str]:
    """What the root of a file is, and its parts, a line each."""
    parts = list(_parts(tree))
    if isinstance(tree, (dict, list, tuple)) and (not parts or _is_state_dict(tree) or is_optimizer(tree)):
        return [_container(tree)]
    if not isinstance(tree, (dict, list, tuple)) and (is_module(tree) or not parts):
        return [words(tree)]
    head = [f"a pickled {shown(tree.path)} with:"] if isinstance(tree, Record) else []
    if isinstance(tree, NAMESPACES):
        head = [f"a {type(tree).__name__} with:"]
    if isinstance(tree, (list, tuple)):
        head = [_container(tree)]
    with_tensors = {
        at
        for at, (_, part) in enumerate(parts)
        if isinstance(part, (TensorRef, Record, *_CONTAINERS)) and next(tensors_under(part), None) is not None
    }
    chosen = sorted(sorted(range(len(parts)), key=lambda at: at not in with_tensors)[:_MOST])
    lines = [f"{shown(_key(parts[at][0]), _KEY)}: {words(parts[at][1])}" for at in chosen]
    more = [f"and {len(parts) - _MOST:,} more"] if len(parts) > _MOST else []
    return [*head, *lines, *more]


def _parts(tree: object) -> Iterable[tuple[object, object]]:
    """What a root is made of: entries of a container, attributes of an object."""
    if isinstance(tree, Record):
        return tree.state.items() if isinstance(tree.state, dict) else ()
    return children(tree)


def _key(key: object) -> str:
    return key if isinstance(key, str) else spelled((key,))


def words(value: object) -> str:
    """A value in a few words."""
    if isinstance(value, TensorRef) and "array" in value.traits:
        return f"a numpy array, {value.dtype} {dimensions(value.shape)}, {counted(value.numel, 'number')}"
    if isinstance(value, TensorRef):
        return f"a tensor, {value.dtype} {dimensions(value.shape)}"
    if isinstance(value, DType):
        return f"torch.{value.name}"
    if isinstance(value, Record):
        return _object(value)
    if isinstance(value, _CONTAINERS) and next(tensors_under(value), None) is not None:
        return _container(value)
    return brief(value, 1)


def _container(value: object) -> str:
    """A dictionary or a list by its size and the tensors in it."""
    inside = sum(1 for _ in tensors_under(value))
    if isinstance(value, NAMESPACES):
        text = f"a {type(value).__name__} of {counted(len(vars(value)), 'attribute')}"
        return f"{text}, {counted(inside, 'tensor')} in it"
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
    known = _unread_tensor(record)
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
