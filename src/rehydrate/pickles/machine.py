"""The pickle machine: programs for a stack machine, read as data.

A pickle is a program for a stack machine: push a value, make a tuple of the last three, call this name with that
tuple. This machine runs the program without its effects. A name becomes an inert `Record`; a call becomes a record of
the call, or a plain value where one of our own pure functions (`constructors`) knows the name. It never imports, never
calls anything that the file chose, never sets an attribute on anything. It is iterative, reads an immutable buffer,
never allocates more than the bytes in front of it justify, and stops at the `Limits`.

What the machine cannot do is why it exists: `pickle.Unpickler` serves extension codes without asking, allocates what a
memo index claims, hashes whatever is used as a key, and lets `__setstate__` be planted. How each opcode is spelled is
in `opcodes`; this file is what they do.

`shortcut` may run ahead over stretches it recognises; see `tensor_runs`. It must leave stack and memo as if the opcodes
had been taken one by one, and may leave memo slots unfilled that `recall` can fill later by replaying the stretch.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from rehydrate.checkpoint.record import Record
from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.dtypes import DType
from rehydrate.errors import AmbiguousError, CorruptError, LimitError, TruncatedError
from rehydrate.limits import Limits
from rehydrate.text import shown

__all__ = ["NOWHERE", "UNFIT", "Constructor", "Handler", "Machine", "Name", "Shortcut", "Stateful", "Stretch"]

Constructor = Callable[[tuple[object, ...]], object]
Name = tuple[str, str]
"""Module and qualified name."""
Handler = Callable[["Machine"], object]
Shortcut = tuple[Name, Callable[["Machine"], bool]]
"""A name, and what to try when it is recalled from the memo: true when it has run ahead."""

UNFIT = object()
"""What a constructor returns when the arguments are not those it knows; the call then stays a record."""

_DICTS = (dict, OrderedDict, defaultdict, Counter)
_PLAIN = (str, int, float, bool, bytes, complex, type(None), type(...), Record, TensorRef, DType)
NOWHERE = 1 << 62
"""The boundary when no frame is open: beyond any file."""


@dataclass(frozen=True, slots=True)
class Stateful:
    """What a constructor returns for a value with attributes of its own."""

    value: object
    state: object


class Stretch(NamedTuple):
    """Opcodes that a shortcut ran over, and the memo slots that they would have filled."""

    first: int
    """The first slot; the others follow it."""
    slots: int
    start: int
    """The first byte, and below the byte after the last one."""
    stop: int
    values: tuple[tuple[range, Sequence[object]], ...]
    """Slots whose values the shortcut has made, and those values: they must come back as the same objects."""

    def made(self, slot: int) -> object:
        """What the shortcut made for a slot, or `UNFIT`."""
        for slots, values in self.values:
            if slot in slots:
                return values[slots.index(slot)]
        return UNFIT


class Machine:
    """One run over one pickle. `reading.read_pickle` is the way in; opcodes and shortcuts use its fields."""

    __slots__ = (
        "at", "attributes", "boundary", "cache", "called", "collisions", "constants", "constructors", "data",
        "first_seen", "handlers", "kept", "lazy", "limits", "marks", "memo", "names", "parent", "persistent",
        "protocol", "result", "shortcut", "stack", "top", "trigger",
    )  # fmt: skip

    def __init__(
        self,
        data: bytes,
        at: int,
        *,
        constructors: Mapping[Name, Constructor],
        constants: Mapping[Name, object],
        persistent: Callable[[object], object] | None,
        shortcut: Shortcut | None,
        handlers: Sequence[Handler],
        limits: Limits,
        parent: Machine | None = None,
    ) -> None:
        self.data = data
        self.at = at
        self.constructors = constructors
        self.constants = constants
        self.persistent = persistent
        self.shortcut = shortcut
        self.handlers = handlers
        self.limits = limits
        self.parent = parent
        self.stack: list[object] = []
        self.marks: list[list[object]] = []
        self.memo: dict[int, object] = {}
        self.top = 0
        self.lazy: list[Stretch] = []
        """What a shortcut ran over, rising; none of these slots is in the memo before somebody asks."""
        self.trigger: object = None
        self.names: dict[Name, object] = parent.names if parent else {}
        self.first_seen: dict[Name, int] = parent.first_seen if parent else {}
        self.called: set[Name] = set()
        self.attributes: dict[int, object] = {}
        self.kept: list[object] = []
        self.collisions: dict[int, dict[int, int]] = {}
        self.cache: Any = None
        """Whatever a shortcut wants to keep; dropped when a memo slot that it may have looked at changes."""
        self.boundary = NOWHERE
        self.protocol = 0
        self.result: object = None

    def run(self, stop: int | None = None) -> None:
        """Take opcodes until STOP, or until the byte `stop` when replaying a stretch."""
        data, handlers = self.data, self.handlers
        try:
            for _ in range(self.limits.operations):
                at = self.at
                if at >= self.boundary:
                    self.cross()
                if at == stop:
                    return
                self.at = at + 1
                if handlers[data[at]](self):
                    return
        except IndexError as error:
            if self.at > len(data):
                raise self.cut() from error
            raise self.broken("it takes more from the stack than there is") from error
        raise LimitError("the pickle has too many operations", found=f"{self.limits.operations:,}")

    def broken(self, why: str) -> CorruptError:
        """The error for a program that no pickler writes."""
        return CorruptError(f"the pickle is broken: {why}", where=f"byte {self.at - 1:,} of the pickle")

    def cut(self) -> TruncatedError:
        """The error for a program that ends before STOP."""
        return TruncatedError(
            "the pickle ends early (Ran out of input)",
            found=f"{len(self.data):,} bytes",
            hint="download it again",
        )

    def take(self, length: int) -> bytes:
        """The next bytes; the check comes before any allocation."""
        end = self.at + length
        if length < 0 or end > len(self.data):
            raise self.cut()
        piece = self.data[self.at : end]
        self.at = end
        return piece

    def unsigned(self, width: int) -> int:
        """The next little-endian number."""
        return int.from_bytes(self.take(width), "little")

    def line(self) -> bytes:
        """The next text argument, up to its newline."""
        end = self.data.find(b"\n", self.at)
        if end < 0:
            raise self.cut()
        piece = self.data[self.at : end]
        self.at = end + 1
        return piece

    def cross(self) -> None:
        """The end of a frame has come: an opcode must not lie across it, or readers disagree about what it says."""
        if self.at != self.boundary:
            raise AmbiguousError(
                "the pickle has an operation that lies across the end of a frame; readers disagree about it",
                where=f"byte {self.at:,} of the pickle",
            )
        self.boundary = NOWHERE

    def to_mark(self) -> list[object]:
        """Everything above the last MARK."""
        if not self.marks:
            raise self.broken("it looks for a mark that was never set (could not find MARK)")
        items = self.stack
        self.stack = self.marks.pop()
        return items

    def put(self, slot: int) -> None:
        """Remember the top of the stack."""
        if slot >= self.top:
            self.top = slot + 1
        else:
            self.cache = None
            self.settle()
        self.memo[slot] = self.stack[-1]

    def recall(self, slot: int) -> object:
        """The value of a memo slot, replaying the stretch that a shortcut ran over if it lies in one."""
        if slot in self.memo:
            return self.memo[slot]
        which = bisect_right(self.lazy, slot, key=lambda stretch: stretch.first) - 1
        if which >= 0 and slot < self.lazy[which].first + self.lazy[which].slots:
            value = self.lazy[which].made(slot)
            if value is UNFIT:
                self.replay(self.lazy[which])
                value = self.memo[slot]
            return value
        if self.parent is not None:
            return self.parent.recall(slot)
        raise self.broken(f"it recalls memo {slot}, which was never put")

    def settle(self) -> None:
        """Fill every slot that shortcuts left open: one is about to change, or to be counted."""
        for stretch in self.lazy:
            self.replay(stretch)
        self.lazy.clear()

    def replay(self, stretch: Stretch) -> None:
        """Take a stretch opcode by opcode and keep what it put; what stands in the memo already stays."""
        again = Machine(
            self.data, stretch.start, constructors=self.constructors, constants=self.constants,
            persistent=self.persistent, shortcut=None, handlers=self.handlers, limits=self.limits,
            parent=self,
        )  # fmt: skip
        again.run(stretch.stop)
        for slot in range(stretch.first, stretch.first + stretch.slots):
            made = stretch.made(slot)
            self.memo.setdefault(slot, again.memo[slot] if made is UNFIT else made)

    def named(self, module: str, name: str) -> None:
        """Push what a name stands for: a constant of ours, or a bare record, the same one each time."""
        both = (module, name)
        value = self.names.get(both)
        if value is None:
            if max(len(module), len(name)) > self.limits.name_length:
                raise LimitError("the pickle holds a name that is too long", found=shown(module))
            if len(self.names) >= self.limits.globals:
                raise LimitError("the pickle names too many classes", found=f"{len(self.names):,}")
            value = self.constants[both] if both in self.constants else Record(module, name)
            self.names[both] = value
            self.first_seen[both] = self.at
        if self.shortcut is not None and both == self.shortcut[0]:
            self.trigger = value
        self.stack.append(value)

    def call(self, function: object, args: object, kwargs: Mapping[str, object] | None = None) -> object:
        """What a call gives: a plain value where a constructor knows the name, a record otherwise."""
        if type(args) is not tuple:
            raise self.broken("a call's arguments are not a tuple")
        if not isinstance(function, Record):
            raise self.broken(f"it calls {shown(function)}, which cannot be called")
        if function.args is not None:
            return Record("", "call", (function, *args), kwargs)
        both = (function.module, function.name)
        self.called.add(both)
        construct = self.constructors.get(both)
        if construct is not None and not kwargs:
            value = construct(args)
            if isinstance(value, Stateful):
                self.give_state(value.value, value.state)
                return value.value
            if value is not UNFIT:
                return value
        return Record(function.module, function.name, args, kwargs)

    def give_state(self, target: object, state: object) -> None:
        """What BUILD does, without any `__setstate__`, `__dict__` or `setattr`: note it beside the value."""
        if isinstance(target, Record):
            if target.args is None:
                raise self.broken("it changes a name that it only imported")
            target.state = state  # an honest pickler builds once; merging would let a file make us copy for ever
        elif isinstance(target, (*_DICTS, list, set, deque, TensorRef)):
            self.attributes[id(target)] = state
            self.kept.append(target)
        else:
            raise self.broken(f"it gives state to {shown(type(target).__name__)}")

    def extend(self, target: object, items: list[object]) -> None:
        """APPEND and APPENDS."""
        if type(target) is list or type(target) is deque:
            target.extend(items)
        elif isinstance(target, Record):
            target.items.extend(items)
        else:
            raise self.broken(f"it appends to {shown(type(target).__name__)}")

    def assign(self, target: object, items: list[object]) -> None:
        """SETITEM and SETITEMS: keys and values in turn."""
        if len(items) % 2:
            raise self.broken("a key has no value")
        if type(target) in _DICTS:
            for at in range(0, len(items), 2):
                key = items[at]
                if type(key) is not str:
                    self.check_key(key, target)
                target[key] = items[at + 1]  # type: ignore[index]
        elif isinstance(target, Record):
            target.items.extend(zip(items[::2], items[1::2], strict=True))
        else:
            raise self.broken(f"it sets items of {shown(type(target).__name__)}")

    def check_key(self, key: object, owner: object) -> None:
        """Refuse what cannot be hashed, and what takes long to hash; see `Limits.key_nodes`."""
        level, nodes = [key], 0
        for _ in range(self.limits.key_depth):
            nodes += len(level)
            if nodes > self.limits.key_nodes:
                raise LimitError("a dictionary key is too large", where=f"byte {self.at:,}")
            inner: list[object] = []
            for item in level:
                if type(item) is tuple or type(item) is frozenset:
                    inner.extend(item)
                elif not isinstance(item, _PLAIN):
                    raise self.broken(f"a key is of an unhashable type: {type(item).__name__!r}")
            if not inner:
                self.count_collision(key, owner)
                return
            level = inner
        raise LimitError("a dictionary key is nested too deeply", where=f"byte {self.at:,}")

    def count_collision(self, key: object, owner: object) -> None:
        """Numbers and tuples hash predictably, so a file can choose keys that all collide."""
        if isinstance(key, (str, bytes, Record)) or key in owner:  # type: ignore[operator]
            return
        counts = self.collisions.setdefault(id(owner), {})
        if not counts:
            self.kept.append(owner)
        mixed = hash(key)
        counts[mixed] = counts.get(mixed, 0) + 1
        if counts[mixed] > self.limits.key_collisions:
            raise LimitError("a dictionary has too many keys of the same hash", where=f"byte {self.at:,}")

    def persist(self, token: object) -> None:
        """What a persistent id stands for, which the container around the pickle knows."""
        self.stack.append(Record("", "persistent_id", (token,)) if self.persistent is None else self.persistent(token))
