"""Paths through a tree of plain data and records, and the names that paths are spelled with.

A path is a tuple of keys. Its dotted name is its spelling: `("state_dict", "conv1.weight")` is
`state_dict.conv1.weight`, an int key is `[0]`. Where two paths would read alike, keys are quoted: `["a.b"].c`.

Walking is iterative and visits each container once, by its first path: trees may be as deep as a file likes and may
contain themselves. A module is walked as `state_dict()` would walk it: `checkpoint.modules`. The integers of a
quantised tensor have the name that the tensor has.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from rehydrate.checkpoint.modules import is_module, module_children, tables_of
from rehydrate.checkpoint.record import NAMESPACES, Record, brief
from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.errors import LimitError

__all__ = [
    "Below", "Openings", "Path", "children", "counted_below", "holders_of", "integers_of", "is_bare", "names_of",
    "spelled", "tensors_under", "value_at",
]  # fmt: skip

Path = tuple[object, ...]
"""Keys from the root of a tree to a value in it."""

DEEPEST = 256
"""Containers above a tensor; real files have ten. A path is as long as it is deep."""
LETTERS = 1 << 28
"""Letters of all paths together: two hundred for each of a million tensors. One long key may stand in every path."""

ENTRIES_AGAIN = 100_000
"""Entries of layers that stand in a second place; layers that hold each other twice double with each level."""
_MOST = 1 << 62
"""Where counting stops, for the same reason."""

_LONGEST_NUMBER = 64
"""Bits of a key that is spelled in digits; Python refuses to print those of a million."""
_QUOTED = 3
"""How many of a path's last keys are tried in quotes, one after the other, to tell it from others."""

_QUANTISED = ("torch._utils", "_rebuild_qtensor")

_CONTAINERS = (dict, list, tuple, set, frozenset, deque, Record, *NAMESPACES)
_PLAIN = frozenset({str, int, float, bool, complex, bytes, bytearray, type(None)})
"""Types that hold nothing."""
_GLANCED = 8
"""Items of a container that are looked at before it is entered; a larger one may stand in a thousand places."""


def children(value: object) -> Iterator[tuple[object, object]]:
    """The (key, child) pairs of one container; nothing for anything else."""
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, (list, tuple, set, frozenset, deque)):
        yield from enumerate(value)
    elif isinstance(value, NAMESPACES):
        yield from vars(value).items()
    elif is_module(value):
        yield from module_children(value)
    elif isinstance(value, Record):
        yield from _record_children(value)


def _record_children(record: Record) -> Iterator[tuple[object, object]]:
    state = record.state
    if isinstance(state, dict):
        yield from state.items()
    elif state is not None:
        yield "state", state
    first = 0 if integers_of(record) is None else 1  # those stand under the record's own name
    yield from ((("args", at), item) for at, item in enumerate(record.args or ()) if at >= first)
    yield from ((("kwargs", key), item) for key, item in record.kwargs.items())
    yield from ((("items", at), item) for at, item in enumerate(record.items))


class Openings:
    """Opens the containers of one tree, and notices where they hold the same things again and again.

    A module in two places has its names in both. Records that share one table are no honest file's, and a table of a
    kilobyte would be walked a thousand times. Raises `LimitError` where that goes beyond what layers need.
    """

    def __init__(self) -> None:
        self._tables: set[int] = set()
        self._again = 0

    def children(self, value: object) -> Iterator[tuple[object, object]]:
        """See `children`."""
        for table in tables_of(value) if isinstance(value, Record) else ():
            if id(table) in self._tables:
                self._again += len(table)
            self._tables.add(id(table))
        if self._again > ENTRIES_AGAIN:
            raise LimitError("the layers of this file's modules lie in each other too often to have names")
        return children(value)


def is_bare(value: object) -> bool:
    """Whether a small container holds plain values only, found out without entering it: a file may have millions."""
    if isinstance(value, dict):
        return len(value) <= _GLANCED and _PLAIN.issuperset(map(type, value.values()))
    if isinstance(value, Record):
        parts = value.args or (), value.items
        is_small = not value.kwargs and max(map(len, parts)) <= _GLANCED
        is_stateless = type(value.state) in _PLAIN or (type(value.state) in (list, dict, tuple) and not value.state)
        return is_stateless and is_small and all(_PLAIN.issuperset(map(type, part)) for part in parts)
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        return len(value) <= _GLANCED and _PLAIN.issuperset(map(type, value))
    return isinstance(value, NAMESPACES) and not vars(value)


def _parts(value: object) -> Iterable[object]:
    """Everything that a container holds; of a record the containers that its parts are in."""
    if isinstance(value, dict):
        return value.values()
    if isinstance(value, Record):
        more = (value.kwargs, value.items) if value.kwargs or value.items else ()
        return value.state, value.args, *more
    return vars(value).values() if isinstance(value, NAMESPACES) else value  # type: ignore[return-value]


def holders_of(root: object) -> set[int]:
    """The `id` of every container with a tensor somewhere below it.

    In one pass that remembers little of what holds none: a file of one tensor may have millions of empty lists. Raises
    `LimitError` for a tensor that lies too deep to have a name.
    """
    holders: set[int] = set()
    seen = {id(root)}
    owners = [root]
    stack = [iter(_parts(root))] if isinstance(root, _CONTAINERS) else []
    while stack:
        for child in stack[-1]:
            if type(child) in _PLAIN:
                continue
            if type(child) is TensorRef or id(child) in holders:
                for owner in reversed(owners):
                    if id(owner) in holders:
                        break
                    holders.add(id(owner))
            elif id(child) not in seen and isinstance(child, _CONTAINERS) and not is_bare(child):
                if len(stack) > 3 * DEEPEST:  # a module in a module is three containers further
                    _refuse_tensors(child, seen)
                    continue
                seen.add(id(child))
                owners.append(child)
                stack.append(iter(_parts(child)))
                break
        else:
            stack.pop()
            owners.pop()
    return holders


def _refuse_tensors(root: object, seen: set[int]) -> None:
    """Walk what lies too deep for a tensor to have a name, and remember it; raises `LimitError` where one is there."""
    seen.add(id(root))
    below = [root]
    while below:
        for child in _parts(below.pop()):
            if isinstance(child, TensorRef):
                raise LimitError("the paths of this file's tensors are too long to have names")
            if isinstance(child, _CONTAINERS) and id(child) not in seen and not is_bare(child):
                seen.add(id(child))
                below.append(child)


def value_at(tree: object, path: Path) -> object:
    """The value that a path leads to; None where it leads nowhere, or where two values have the same key."""
    for key in path:
        tree = tree.get(key) if isinstance(tree, Mapping) else dict(children(tree)).get(key)
    return tree


def integers_of(value: object) -> TensorRef | None:
    """The integers of a quantised tensor, which is a record of them and of how they are scaled; None for all else."""
    if isinstance(value, Record) and value.args and (value.module, value.name) == _QUANTISED:
        return value.args[0] if isinstance(value.args[0], TensorRef) else None
    return None


def tensors_under(root: object) -> Iterator[tuple[Path, TensorRef]]:
    """Every tensor below `root` with the path that leads to it, in the file's order.

    A container is entered once, by its first path; a layer of a pickled module as often as the module names it, which
    is what `state_dict()` does. Raises `LimitError` where a file of a few bytes would make names that fill all memory.
    """
    if isinstance(root, TensorRef):
        yield (), root
        return
    if (integers := integers_of(root)) is not None:
        yield (), integers
    holders = holders_of(root)
    seen = {id(root)}
    keys: list[object] = []
    letters = [0]
    spent = 0
    openings = Openings()
    stack = [openings.children(root)]
    owners = [root]
    while stack:
        for key, child in stack[-1]:
            ref = child if isinstance(child, TensorRef) else integers_of(child)
            if ref is not None:
                spent += letters[-1] + (len(key) if isinstance(key, str) else 1)
                if len(stack) > DEEPEST or spent > LETTERS:
                    raise LimitError("the paths of this file's tensors are too long to have names")
                yield (*keys, key), ref
            if id(child) in holders and (id(child) not in seen or _is_layer_of(child, owners)):
                seen.add(id(child))
                owners.append(child)
                keys.append(key)
                letters.append(letters[-1] + (len(key) if isinstance(key, str) else 1))
                stack.append(openings.children(child))
                break
        else:
            stack.pop()
            owners.pop()
            letters.pop()
            if keys:
                keys.pop()


class Below(NamedTuple):
    """What lies below a container."""

    tensors: int
    values: int


def counted_below(root: object, holders: set[int]) -> dict[int, Below]:
    """For every container with tensors, by its `id`, what lies below it; what it shares with others counts in each.

    `holders` are those containers, see `holders_of`. In one pass, however much is shared. What a container holds of
    itself counts as nothing.
    """
    counts = {id(root): Below(0, 0)}
    openings = Openings()
    stack = [(root, openings.children(root))]
    totals = [[0, 0]]
    while stack:
        value, inside = stack[-1]
        for _, child in inside:
            total = totals[-1]
            total[1] += 1
            if isinstance(child, TensorRef) or integers_of(child) is not None:
                total[0] += 1
            if isinstance(child, _CONTAINERS) and id(child) in holders:
                if id(child) not in counts:
                    counts[id(child)] = Below(0, 0)
                    stack.append((child, openings.children(child)))
                    totals.append([0, 0])
                    break
                _add(total, counts[id(child)])
        else:
            stack.pop()
            counts[id(value)] = below = Below(*totals.pop())
            if totals:
                _add(totals[-1], below)
    return counts


def _add(total: list[int], below: Below) -> None:
    total[0] = min(total[0] + below.tensors, _MOST)
    total[1] = min(total[1] + below.values, _MOST)


def _is_layer_of(child: object, owners: list[object]) -> bool:
    """Whether this is a module in a module, and not in itself."""
    return is_module(child) and is_module(owners[-1]) and not any(child is owner for owner in owners)


def spelled(path: Path, *, quoted: bool = False) -> str:
    """The dotted name of a path.

    >>> spelled(("optimizer", "state", 0, "exp_avg")), spelled(("a.b", "c"), quoted=True)
    ('optimizer.state[0].exp_avg', '["a.b"].c')
    """
    parts: list[str] = []
    for key in path:
        if isinstance(key, str) and not (quoted and not key.isidentifier()):
            parts.append("." + key if parts else key)
        elif isinstance(key, str):
            parts.append("[" + json.dumps(key) + "]")
        elif isinstance(key, int) and not isinstance(key, bool) and key.bit_length() <= _LONGEST_NUMBER:
            parts.append(f"[{key}]")
        elif isinstance(key, tuple) and len(key) == 2 and key[0] in ("args", "kwargs", "items"):
            parts.append(f"({key[0]})" + spelled(key[1:]))
        else:
            parts.append(f"[{brief(key)}]")
    return "".join(parts)


def names_of(paths: Iterable[Path]) -> dict[str, Path]:
    """A name for each path, in their order: the plain spelling, quoted where that one is taken.

    >>> names_of([("a.b",), ("a", "b")])
    {'a.b': ('a.b',), 'a["b"]': ('a', 'b')}
    """
    names: dict[str, Path] = {}
    alike: list[Path] = []
    in_order = list(paths)
    for path in in_order:
        name = spelled(path)
        if names.setdefault(name, path) is not path:
            alike.append(path)
    counts: dict[str, int] = {}
    for path in alike:
        names[_distinct(path, names, counts)] = path
    if not alike:
        return names
    name_of = {path: name for name, path in names.items()}
    return {name_of[path]: path for path in in_order}


def _distinct(path: Path, taken: Mapping[str, Path], counts: dict[str, int]) -> str:
    """A spelling of `path` that no other path has; `counts` has the last number after each quoted spelling."""
    attempts = [spelled(path, quoted=True)]
    for last in range(1, min(len(path), _QUOTED) + 1):
        tail = "".join(f"[{json.dumps(key)}]" if isinstance(key, str) else spelled((key,)) for key in path[-last:])
        attempts.append(spelled(path[:-last]) + tail)
    for attempt in attempts:
        if attempt not in taken:
            return attempt
    count = counts.get(attempts[0], 1) + 1
    while f"{attempts[0]}#{count}" in taken:
        count += 1
    counts[attempts[0]] = count
    return f"{attempts[0]}#{count}"
