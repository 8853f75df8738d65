"""A flat mapping of names, nested again by the paths that its writer noted: dicts by text, lists by number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rehydrate.checkpoint.record import brief
from rehydrate.checkpoint.tree import DEEPEST
from rehydrate.errors import AmbiguousError, CorruptError, LimitError
from rehydrate.text import shown

__all__ = ["unflattened"]

_LONGEST_LIST = 1 << 31
"""Where a number can no longer be a place in a list."""

Inner = dict[object, object]


def unflattened(values: Iterable[tuple[str, object]], paths: Mapping[object, object]) -> Inner:
    """Put each value at its path; at its name where there is none.

    Numbers make a list where together they count from 0 and leave none out, and stay a dict's keys where not. Raises
    `AmbiguousError` where two values have one path, `CorruptError` where a value is to hold others.

    >>> unflattened([("a.0", 1), ("a.1", 2), ("b", 3)], {"a.0": ("a", 0), "a.1": ("a", 1)})
    {'a': [1, 2], 'b': 3}
    """
    root: Inner = {}
    made: dict[int, tuple[Inner, object, Inner]] = {}
    for name, value in values:
        *above, last = _path(name, paths.get(name))
        here = root
        for key in above:
            if key not in here:
                below: Inner = {}
                made[id(below)] = (here, key, below)
                here[key] = below
            found = made.get(id(here[key]))
            if found is None:
                raise CorruptError("one value is said to lie inside another", found=shown(name))
            here = found[2]
        if last in here:
            raise AmbiguousError("two values are said to lie in one place", found=shown(name))
        here[last] = value
    for parent, key, below in reversed(made.values()):
        if all(number in below for number in range(len(below))):
            parent[key] = [below[number] for number in range(len(below))]
    return root


def _path(name: str, path: object) -> tuple[object, ...]:
    if path is None:
        return (name,)
    if not isinstance(path, (tuple, list)) or not path or not all(_is_key(key) for key in path):
        raise CorruptError("the path of a value is none", where=shown(name), found=brief(path))
    if len(path) > DEEPEST:
        raise LimitError("the path of a value is too long", where=shown(name), found=f"{len(path):,} keys")
    return tuple(path)


def _is_key(key: object) -> bool:
    return type(key) is str or (type(key) is int and 0 <= key < _LONGEST_LIST)
