"""A tree of references → the same tree with real tensors: what `torch.load` would have given.

The tree is copied, never changed: containers keep their types, sharing and cycles; torch's composites (sparse,
quantised, sizes, devices) are put together from their records; every other record stays inert. The walk is iterative
and in three passes: find everything and make empty shells for what can be filled later, make tuples from the inside
out, fill the shells.
"""

from __future__ import annotations

from argparse import Namespace
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any, TypeGuard

import torch

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.record import NAMESPACES, Record
from rehydrate.checkpoint.tensor import Storage, TensorRef
from rehydrate.collector import collector_paused
from rehydrate.dtypes import DType
from rehydrate.formats.opening import opened
from rehydrate.placing.assemble import ASSEMBLERS, assembled
from rehydrate.placing.devices import CPU, Device, MapLocation, destination
from rehydrate.placing.dtypes import torch_dtype
from rehydrate.placing.tensors import Storages
from rehydrate.storage.source import Where

__all__ = ["is_composite", "load", "real_values"]

_ATOMS = frozenset({str, int, float, bool, type(None), bytes, complex})


def load(
    where: Where | Checkpoint,
    *,
    device: Device | None = None,
    map_location: MapLocation | None = None,
) -> object:
    """What `torch.load` gives; see `rehydrate.load`."""
    if device is not None and map_location is not None:
        raise TypeError("give device= or map_location=, not both")
    goal = map_location if map_location is not None else device if device is not None else CPU
    with collector_paused():
        return _loaded(where, goal)


def _loaded(where: Where | Checkpoint, goal: MapLocation) -> object:
    """In a function of its own, so that the inert tree is gone before the collector comes back and looks at it."""
    with opened(where) as checkpoint:
        return real_values(checkpoint.tree, checkpoint.attributes, goal)


def real_values(tree: object, attributes: Mapping[int, object], goal: MapLocation = CPU) -> object:
    """A tree of references, or a part of one, with real tensors; `attributes` are those of its checkpoint."""
    return _Rebuild(tree, attributes, goal).value


class _Leaving:
    """On the stack of the first pass: everything inside this value has been found."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value


class _Rebuild:
    """One copy of one tree."""

    def __init__(self, tree: object, attributes: Mapping[int, object], goal: MapLocation) -> None:
        self._attributes = attributes
        self._made: dict[int, object] = {}
        self._tuples: list[object] = []
        self._shells: list[object] = []
        self._refs: dict[int, TensorRef] = {}
        self._bare: list[Storage] = []
        self._find(tree)
        self._make_arrays()
        refs = self._refs.values()
        wanted = [ref.storage for ref in refs] + self._bare
        if callable(goal) and not isinstance(goal, (torch.device, Mapping)):
            storages = Storages(wanted, lambda saved: CPU, goal)
        else:
            storages = Storages(wanted, destination(goal))
        self._made.update(zip(self._refs, storages.tensors(refs), strict=True))
        for bare in self._bare:
            self._made[id(bare)] = _bare_storage(bare, storages.storage(bare))
        for item in self._tuples:
            self._made[id(item)] = self._finish(item)
        for shell in self._shells:
            self._fill(shell)
        for value in (*self._shells, *(refs if self._attributes else ())):
            self._give_attributes(value, self._made[id(value)])
        self.value = self._of(tree)

    def _make_arrays(self) -> None:
        """numpy's arrays, which no device and no `map_location` moves, and which share memory with nothing."""
        for identity, ref in [pair for pair in self._refs.items() if "array" in pair[1].traits]:
            del self._refs[identity]
            array = ref.numpy()
            self._made[identity] = array if ref.window.is_row_major else array.copy("F")

    def _of(self, value: object) -> object:
        """The copy of a value; what is not copied is its own."""
        return self._made.get(id(value), value)

    def _find(self, root: object) -> None:
        """First pass: shells for everything that can be filled, tuples with the inner ones first."""
        stack: list[object] = [root, *self._attributes.values()]
        entered: set[int] = set()
        while stack:
            value = stack.pop()
            kind = type(value)
            if kind is _Leaving:
                self._tuples.append(value.value)  # type: ignore[attr-defined]
            elif kind is TensorRef:
                self._refs[id(value)] = value  # type: ignore[assignment]
            elif kind not in _ATOMS and id(value) not in entered:
                entered.add(id(value))
                self._enter(value, kind, stack)

    def _enter(self, value: object, kind: type, stack: list[object]) -> None:
        """One value that is neither an atom nor a tensor: its shell, and its children onto the stack."""
        make_shell = _SHELLS.get(kind)
        if make_shell is not None:
            self._made[id(value)] = make_shell(value)
            if kind is not bytearray:
                self._shells.append(value)
        elif kind is tuple or kind is frozenset or is_composite(value):
            stack.append(_Leaving(value))
        elif kind is Record:
            self._made[id(value)] = Record(value.module, value.name)  # type: ignore[attr-defined]
            self._shells.append(value)
        elif kind is DType:
            self._made[id(value)] = torch_dtype(value)  # type: ignore[arg-type]
        elif isinstance(value, Storage):
            self._bare.append(value)
        refs, add = self._refs, stack.append
        for child in _inside(value):
            if type(child) is TensorRef:
                refs[id(child)] = child
            else:
                add(child)

    def _finish(self, value: object) -> object:
        """Second pass: a tuple, a frozenset or a composite, whose insides are there."""
        if isinstance(value, tuple):
            return tuple(self._of(item) for item in value)
        if isinstance(value, frozenset):
            return frozenset(self._of(item) for item in value)
        record = value if isinstance(value, Record) else Record("", "")
        arguments = tuple(self._of(item) for item in record.args or ())
        return assembled(record, arguments)

    def _fill(self, value: object) -> None:
        """Third pass: what belongs into a shell."""
        shell, of = self._made[id(value)], self._of
        if isinstance(value, Counter) and isinstance(shell, Counter):
            dict.update(shell, dict(self._copied_items(value)))
        elif isinstance(value, dict) and isinstance(shell, dict):
            shell.update(self._copied_items(value))
        elif isinstance(value, (list, deque)):
            shell.extend(of(item) for item in value)  # type: ignore[attr-defined]
        elif isinstance(value, set):
            shell.update(of(item) for item in value)  # type: ignore[attr-defined]
        elif isinstance(value, Record) and isinstance(shell, Record):
            shell.args = None if value.args is None else tuple(of(item) for item in value.args)
            shell.kwargs = {key: of(item) for key, item in value.kwargs.items()}
            shell.state = of(value.state)
            shell.items = [of(item) for item in value.items]

        elif isinstance(value, NAMESPACES):
            vars(shell).update({key: of(item) for key, item in vars(value).items()})

    def _copied_items(self, value: Mapping[Any, object]) -> Iterator[tuple[Any, Any]]:
        """Keys and values, each replaced by its copy where it has one. Maps of builtins: nothing runs per item."""
        get, keys, items = self._made.get, value.keys(), value.values()
        return zip(map(get, map(id, keys), keys), map(get, map(id, items), items), strict=True)

    def _give_attributes(self, value: object, made: object) -> None:
        """`_metadata` of a state dict and its like; never a name that the class itself defines."""
        if id(value) not in self._attributes:
            return
        state = self._of(self._attributes[id(value)])
        own = getattr(made, "__dict__", None)
        if isinstance(state, dict) and isinstance(own, dict):
            own.update(
                (key, item) for key, item in state.items() if isinstance(key, str) and not hasattr(type(made), key)
            )


def is_composite(record: object) -> TypeGuard[Record]:
    """Whether this is the record of something that torch puts together."""
    return isinstance(record, Record) and record.path in ASSEMBLERS


def _inside(value: object) -> Iterable[object]:
    """Children of a container, keys too."""
    if isinstance(value, dict):
        keys = [key for key in value if type(key) is not str]
        return [*keys, *value.values()] if keys else value.values()
    if isinstance(value, Record):
        return [*(value.args or ()), *value.kwargs.values(), value.state, *value.items]
    if isinstance(value, NAMESPACES):
        return list(vars(value).values())
    return value if isinstance(value, (list, tuple, set, frozenset, deque)) else ()


def _bare_storage(storage: Storage, made: torch.UntypedStorage) -> object:
    return torch.storage.TypedStorage(  # type: ignore[no-untyped-call]
        wrap_storage=made, dtype=torch_dtype(storage.dtype), _internal=True
    )


_SHELLS: Mapping[type, Callable[..., object]] = {
    dict: lambda value: {},
    OrderedDict: lambda value: OrderedDict(),
    defaultdict: lambda value: defaultdict(value.default_factory),
    Counter: lambda value: Counter(),
    list: lambda value: [],
    deque: lambda value: deque(maxlen=value.maxlen),
    set: lambda value: set(),
    bytearray: bytearray,
    Namespace: lambda value: Namespace(),
    SimpleNamespace: lambda value: SimpleNamespace(),
}
