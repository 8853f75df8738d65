"""The names in one part of a file, as the file has them, before anything is concluded from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from rehydrate.checkpoint.modules import COUNTER, INNER, is_module, is_wrapper
from rehydrate.checkpoint.record import Record
from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.checkpoint.tree import Path, children, names_of, spelled, tensors_under

__all__ = ["Named", "names_beside", "names_by_class", "tensors_of", "versions_of"]


class Named(NamedTuple):
    """The tensors of a part, in the file's order."""

    tensors: Mapping[str, TensorRef]
    paths: Mapping[str, Path]
    """Name → path; empty for a state dict, whose keys are the names."""


def tensors_of(part: object) -> Named:
    """The tensors of a part by name."""
    if isinstance(part, dict) and all(type(name) is str and type(ref) is TensorRef for name, ref in part.items()):
        return Named(part, {})
    refs = dict(tensors_under(part))
    paths = names_of(refs)
    return Named({name: refs[path] for name, path in paths.items()}, paths)


def names_beside(part: object, tensors: Mapping[str, TensorRef]) -> list[str]:
    """The names in a state dict that are no tensors': extra state, packed weights, counters."""
    if part is tensors or not isinstance(part, dict):
        return []
    return [name for name in part if isinstance(name, str) and name not in tensors]


def versions_of(part: object, attributes: Mapping[int, object]) -> dict[str, object]:
    """torch's `_metadata` of a state dict: module prefix → version of that module's layout."""
    state = attributes.get(id(part))
    metadata = state.get("_metadata") if isinstance(state, dict) else None
    if not isinstance(metadata, dict):
        return {}
    return {name: value for name, value in metadata.items() if isinstance(name, str)}


def names_by_class(module: Record, paths: Mapping[str, Path]) -> dict[str, str]:
    """The names of a pickled module's tensors → the same without wrappers, as the classes tell that they are.

    What a wrapper keeps for itself is not there.
    """
    if not _has_wrapper(module):
        return {name: name for name in paths}
    layers = _Layers()
    own: dict[str, str] = {}
    for name, path in paths.items():
        part: object = module
        kept: list[object] = []
        is_counter = False
        for key in path:
            is_held = layers.is_wrapper(part)
            is_counter = is_held and key == COUNTER
            if not (is_held and key in INNER):
                kept.append(key)
            part = layers.entries(part).get(key)
        if not is_counter:
            own[name] = spelled(tuple(kept)) if len(kept) < len(path) else name
    return own


def _has_wrapper(module: Record) -> bool:
    stack: list[object] = [module]
    seen: set[int] = set()
    while stack:
        part = stack.pop()
        if id(part) not in seen and isinstance(part, Record) and is_module(part):
            seen.add(id(part))
            if is_wrapper(part):
                return True
            stack.extend(child for _, child in children(part) if isinstance(child, Record))
    return False


class _Layers:
    """What is asked of the same module for every tensor below it, found out once."""

    def __init__(self) -> None:
        self._entries: dict[int, dict[object, object]] = {}
        self._wrappers: dict[int, bool] = {}

    def entries(self, part: object) -> dict[object, object]:
        """The children of a part by their keys."""
        found = self._entries.get(id(part))
        if found is None:
            found = self._entries[id(part)] = dict(children(part))
        return found

    def is_wrapper(self, part: object) -> bool:
        """Whether a part is a module that only holds another."""
        found = self._wrappers.get(id(part))
        if found is None:
            found = self._wrappers[id(part)] = is_module(part) and is_wrapper(part)
        return found
