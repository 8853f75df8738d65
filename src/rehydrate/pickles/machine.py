"""The pickle machine: programs for a stack machine, read as data.

A pickle is a program for a stack machine: push a value, make a tuple of the last three, call this name with that
tuple. This machine runs the program without its effects. A name becomes an inert `Record`; a call becomes a record of
the call, or a plain value where one of our own pure functions (`constructors`) knows the name. It never imports, never
calls anything that the file chose, never sets an attribute on anything. It is iterative, reads an immutable buffer,
never allocates more than the bytes in front of it justify, and stops at the `Limits`. What it does again and again
without new bytes (copying an argument, hashing a key) is counted as work, so that time grows no faster than the file.

What the machine cannot do is why it exists: `pickle.Unpickler` serves extension codes without asking, allocates what a
memo index claims, hashes whatever is used as a key, and lets `__setstate__` be planted. How each opcode is spelled is
in `opcodes`; this file is what they do.

`shortcut` may run ahead over stretches it recognises; see `tensor_runs`. It must leave stack and memo as if the opcodes
had been taken one by one, and may leave memo slots unfilled that `recall` can fill later by replaying the stretch.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import length_hint
from sys import getsizeof
from time import thread_time
from typing import Any, NamedTuple

from rehydrate.checkpoint.record import Record, brief
from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.errors import AmbiguousError, CorruptError, LimitError, TruncatedError
from rehydrate.limits import Limits
from rehydrate.pickles.keys import check_key
from rehydrate.pickles.results import UNFIT, Constructor, Costly, Filled, Following, Growing, Name, Stateful
from rehydrate.text import shown

__all__ = ["NOWHERE", "Handler", "Machine", "Shortcut", "Stretch"]

Handler = Callable[["Machine"], object]
Shortcut = tuple[Name, Callable[["Machine"], bool]]
"""A name, and what to try when it is recalled from the memo: true when it has run ahead."""

_DICTS = (dict, OrderedDict, defaultdict, Counter)
_COPIES = frozenset({bytes, bytearray, deque, Counter})
"""What a constructor makes by copying an argument."""
_COPY = 4
"""Work of copying one value, which takes memory, too; hashing one is the unit."""
_VALUE = 8
"""Bytes that a list takes for one value."""
_CALL = 300
"""Bytes that what a call gives may take without being counted: its opcodes are three at least."""
_RECURSIVE = frozenset({deque, defaultdict})
"""Types whose contents Python frees by recursion in C: a long chain of them would end the process."""
NOWHERE = 1 << 62
"""The boundary when no frame is open: beyond any file."""


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
        "at", "attributes", "boundary", "cache", "called", "calls", "collisions", "constants", "constructors",
        "counter", "data", "depths", "first_seen", "growing", "handlers", "inside", "kept", "keys", "late", "lazy",
        "limits", "marks", "memo", "names", "parent", "persistent", "protocol", "replaced", "result", "shortcut",
        "stack", "standing", "started", "top", "trigger", "weight", "work",
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
        self.calls: dict[int, tuple[int, Record]] = {}
        """Calls that are still records, by the record's `id`, each with the byte of its opcode."""
        self.growing: dict[int, Growing] = {}
        """Values that wait for BUILD, by their `id`; and below the memo slots that each stands in."""
        self.standing: dict[int, list[int]] = {}
        self.attributes: dict[int, object] = {}
        self.replaced: list[tuple[int, object]] = []
        """States that gave way to another of the same value, each with the byte of the opcode that brought that."""
        self.kept: list[object] = []
        self.collisions: dict[int, dict[int, int]] = {}
        self.depths: dict[int, int] = {}
        """Levels of deques and defaultdicts in each other below one of them, where there are several."""
        self.inside: set[int] = set()
        self.late = 0
        """How many grew deeper after they had been put into another, whose depth did not follow."""
        self.keys = 0
        self.started = thread_time()
        self.counter = iter(range(limits.operations))
        """Opcodes that may still be taken."""
        self.weight = 0
        self.work = limits.work + limits.work_per_byte * len(data)
        """How much more may be done without new bytes."""
        self.cache: Any = None
        """Whatever a shortcut wants to keep; dropped when a memo slot that it may have looked at changes."""
        self.boundary = NOWHERE
        self.protocol = 0
        self.result: object = None

    def run(self, stop: int | None = None) -> None:
        """Take opcodes until STOP, or until the byte `stop` when replaying a stretch."""
        data, handlers = self.data, self.handlers
        try:
            for _ in self.counter:
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
        value = self.memo[slot] = self.stack[-1]
        if self.growing and id(value) in self.growing:
            self.standing.setdefault(id(value), []).append(slot)

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
            raise self.broken(f"it calls {brief(function)}, which cannot be called")
        both = (function.module, function.name)
        if function.args is not None:
            self.spend(_COPY * len(args))
            made = Record("", "call", (function, *args), kwargs)
        else:
            self.called.add(both)
            construct = self.constructors.get(both)
            if construct is not None and not kwargs:
                value = self.finished(construct(args))
                if value is not UNFIT:
                    return value
            made = Record(function.module, function.name, args, kwargs)
        return self.noted(made)

    def noted(self, record: Record) -> Record:
        """A call that stays one."""
        self.calls[id(record)] = self.at - 1, record
        return record

    def finished(self, value: object) -> object:
        """What a constructor gave, with the state and the items that it left to the machine."""
        if isinstance(value, Costly):
            self.spend(_COPY * value.work)
            self.weigh(_VALUE * value.work)
            value = value.make()
        if isinstance(value, Record) and value.args is not None and id(value) not in self.calls:
            self.called.add((value.module, value.name))
            return self.noted(value)
        if isinstance(value, Stateful):
            return self.given(self.finished(value.value), value.state)
        if isinstance(value, Growing):
            self.growing[id(value.value)] = value
            return self.noted(value.value) if isinstance(value.value, Record) else value.value
        if isinstance(value, Filled):
            self.spend(_COPY * len(value.items))
            if isinstance(value.value, dict):
                self.assign(value.value, value.items)
                self.weigh(getsizeof(value.value) - _CALL)
                return value.value
            made = self.collected(value.items)
            self.weigh(getsizeof(made) - _CALL)
            return made if isinstance(value.value, set) else frozenset(made)
        if type(value) in _COPIES:
            self.spend(_COPY * len(value))  # type: ignore[arg-type]
            self.weigh(getsizeof(value) - _CALL)
        if type(value) is deque:
            self.nest(value, value)
        return value

    def spend(self, work: int) -> None:
        """Count work that no new bytes of the file ask for; see `Limits.work`."""
        self.work -= work
        if self.work < 0:
            raise LimitError("the pickle makes more work than its length explains", where=f"byte {self.at:,}")

    def weigh(self, nbytes: int) -> None:
        """Count memory beyond what the bytes and opcodes that asked for it explain; see `Limits.room`."""
        self.weight += max(nbytes, 0)
        if self.weight > self.limits.room:
            taken = self.limits.operations - length_hint(self.counter)
            more = taken * self.limits.room_per_operation + self.at * self.limits.room_per_byte
            if self.weight > self.limits.room + more:
                raise LimitError("the pickle takes more memory than its length explains", where=f"byte {self.at:,}")

    def build(self, state: object) -> None:
        """BUILD: the value on top of the stack takes a state, and may become another by it."""
        target = self.stack[-1]
        value = self.grown(target, state) if id(target) in self.growing else UNFIT
        if value is UNFIT:
            self.given(target, state)
        elif value is not target:
            self.stack[-1] = value

    def grown(self, target: object, state: object) -> object:
        """What a value that waited for this state becomes, or `UNFIT`; the memo then has that, too."""
        value = self.growing.pop(id(target)).grow(target, state)
        slots = self.standing.pop(id(target), ())
        if isinstance(value, Following):
            if self.boundary not in (NOWHERE, self.at):
                raise self.broken("a frame goes on where the bytes of an array should be")
            self.boundary = NOWHERE
            value, self.at = value.read(self.data, self.at)
        value = self.finished(value)
        if value is not UNFIT and value is not target:
            self.calls.pop(id(target), None)
            self.cache = None
            for slot in slots:
                if self.memo.get(slot) is target:
                    self.memo[slot] = value
        return value

    def given(self, target: object, state: object) -> object:
        """A value with its state noted beside it, without any `__setstate__`, `__dict__` or `setattr`."""
        if isinstance(target, Record):
            if target.args is None:
                raise self.broken("it changes a name that it only imported")
            if target.state is not None:
                self.replaced.append((self.at - 1, target.state))
            target.state = state  # an honest pickler builds once; merging would let a file make us copy for ever
        elif isinstance(target, (*_DICTS, list, set, deque, TensorRef)):
            self.attributes[id(target)] = state
            self.kept.append(target)
        else:
            raise self.broken(f"it gives state to {shown(type(target).__name__)}")
        return target

    def extend(self, target: object, items: list[object]) -> None:
        """APPEND and APPENDS."""
        if type(target) is list:
            target.extend(items)
        elif type(target) is deque:
            self.nest(target, items)
            target.extend(items)
        elif isinstance(target, Record):
            target.extend(items)
        else:
            raise self.broken(f"it appends to {shown(type(target).__name__)}")

    def assign(self, target: object, items: Sequence[object]) -> None:
        """SETITEM and SETITEMS: keys and values in turn."""
        if len(items) % 2:
            raise self.broken("a key has no value")
        if type(target) in _DICTS:
            if type(target) is defaultdict:
                self.nest(target, items)
            for at in range(0, len(items), 2):
                key = items[at]
                if type(key) is not str:
                    check_key(self, key, target)
                target[key] = items[at + 1]  # type: ignore[index]
        elif isinstance(target, Record):
            target.extend(zip(items[::2], items[1::2], strict=True))
        else:
            raise self.broken(f"it sets items of {shown(type(target).__name__)}")

    def nest(self, target: object, items: Iterable[object]) -> None:
        """Refuse deques and defaultdicts that are in each other, directly, deeper than the C stack is."""
        deep = [item for item in items if type(item) in _RECURSIVE and item is not target]
        if not deep:
            return
        depth = 1 + max(self.depths.get(id(item), 1) for item in deep)
        if depth > self.depths.get(id(target), 1):
            self.depths[id(target)] = depth
            self.late += id(target) in self.inside
            if max(depth, self.late) > self.limits.deque_depth:
                raise LimitError("deques are nested too deeply", where=f"byte {self.at:,}")
        self.inside.update(map(id, deep))
        self.kept += (target, *deep)

    def add(self, target: object, items: Sequence[object]) -> None:
        """ADDITEMS."""
        if type(target) is set:
            for item in items:
                if type(item) is not str:
                    check_key(self, item, target)
                target.add(item)
        elif isinstance(target, Record):
            target.extend(items)
        else:
            raise self.broken(f"it adds to {shown(type(target).__name__)}")

    def collected(self, items: Sequence[object]) -> set[object]:
        """A new set of these."""
        made: set[object] = set()
        self.add(made, items)
        return made

    def persist(self, token: object) -> None:
        """What a persistent id stands for, which the container around the pickle knows."""
        self.stack.append(Record("", "persistent_id", (token,)) if self.persistent is None else self.persistent(token))
