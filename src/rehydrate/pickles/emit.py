"""Plain trees → pickles, for files that others read without trusting us.

Two dialects of one emitter. `torch` writes what `torch.load(weights_only=True)` accepts: protocol 2 opcodes, and
tensors as calls of torch's rebuild functions over persistent ids. `plain` writes protocol 4 of plain data. Sharing and
cycles are kept through the memo; the walk is iterative, so a tree may be as deep as it likes. Only exact builtin types
are written: a subclass would come back as something else, and that is `SaveError` with the path that leads to it.
"""

from __future__ import annotations

import struct
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from rehydrate.checkpoint.tree import Path, spelled
from rehydrate.errors import SaveError
from rehydrate.text import shown

__all__ = ["Call", "Global", "PersistentId", "emit_pickle", "place_of"]


@dataclass(frozen=True, slots=True)
class Global:
    """A name for the reader to look up, such as `torch.FloatStorage`."""

    module: str
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A call for the reader to make: how tensors, sizes and devices are written."""

    function: Global
    args: tuple[object, ...]
    state: object = None
    """What the reader gives to the result afterwards, if anything."""


@dataclass(frozen=True, slots=True, eq=False)
class PersistentId:
    """A tuple that the container around the pickle knows the meaning of."""

    token: tuple[object, ...]


Convert = Callable[[object, Path], object]
"""What to write instead of a value that is not plain: a `Call`, a `Global`; `SaveError` if there is nothing."""

Trail = tuple[Any, object] | None
"""A path as (path above, key): in a tree of a hundred thousand levels, whole paths would fill the memory."""

_BATCH = 1000
"""Items between two marks; torch's reader and Python's need no limit, but a mark's items are a copy of them."""


class _Emitter:
    def __init__(self, *, for_torch: bool, convert: Convert) -> None:
        self.out = bytearray(b"\x80\x02" if for_torch else b"\x80\x04")
        self.for_torch = for_torch
        self.convert = convert
        self.memo: dict[int, int] = {}
        self.strings: dict[str, int] = {}
        self.globals: dict[Global, int] = {}
        self.kept: list[object] = []
        self.open: set[int] = set()
        self.slots = 0

    def run(self, root: object) -> bytes:
        """Drive the writers of nested values without recursion."""
        stack: list[Iterator[tuple[object, Trail]]] = [self.value(root, None)]
        while stack:
            for value, trail in stack[-1]:
                if not self.atom(value, trail):
                    stack.append(self.value(value, trail))
                    break
            else:
                stack.pop()
        self.out += b"."
        return bytes(self.out)

    def remember(self, value: object) -> None:
        """Give the value on top of the stack a memo slot."""
        self.kept.append(value)
        self.memo[id(value)] = self.slot()

    def alias(self, value: object, stand_in: object) -> None:
        """What was written for `stand_in` is also what stands for `value`, should it come again."""
        if id(stand_in) in self.memo:
            self.kept.append(value)
            self.memo[id(value)] = self.memo[id(stand_in)]

    def slot(self) -> int:
        """Put the top of the stack into the next slot; torch numbers them so, and its runs are recognised by it."""
        count = self.slots
        self.slots += 1
        self.out += b"q" + bytes((count,)) if count < 256 else b"r" + struct.pack("<I", count)
        return count

    def get(self, slot: int) -> None:
        self.out += b"h" + bytes((slot,)) if slot < 256 else b"j" + struct.pack("<I", slot)

    def atom(self, value: object, trail: Trail) -> bool:
        """Write a value that has nothing inside; false if it has."""
        kind = type(value)
        if kind is str:
            self.string(cast("str", value), trail)
        elif kind is int:
            self.integer(cast("int", value), trail)
        elif kind is float:
            self.out += b"G" + struct.pack(">d", value)
        elif value is None:
            self.out += b"N"
        elif kind is bool:
            self.out += b"\x88" if value else b"\x89"
        elif isinstance(value, Global):
            self.name(value)
        elif kind is bytes and isinstance(value, bytes) and not self.for_torch:
            wide = len(value) >= 1 << 32
            self.out += b"\x8e" + struct.pack("<Q", len(value)) if wide else b"B" + struct.pack("<I", len(value))
            self.out += value
        elif id(value) in self.memo:
            self.get(self.memo[id(value)])
        else:
            return False
        return True

    def string(self, text: str, trail: Trail) -> None:
        slot = self.strings.get(text)
        if slot is not None:
            self.get(slot)
            return
        raw = text.encode("utf-8", "surrogatepass")
        if len(raw) >= 1 << 32:
            raise SaveError("a string of more than 4 GB is not saved", where=_place(trail))
        self.out += b"X" + struct.pack("<I", len(raw)) + raw
        self.strings[text] = self.slot()

    def integer(self, number: int, trail: Trail) -> None:
        if 0 <= number < 256:
            self.out += b"K" + bytes((number,))
        elif 0 <= number < 65536:
            self.out += b"M" + struct.pack("<H", number)
        elif -(1 << 31) <= number < 1 << 31:
            self.out += b"J" + struct.pack("<i", number)
        else:
            width = (number if number >= 0 else ~number).bit_length() // 8 + 1
            raw = number.to_bytes(width, "little", signed=True)
            if len(raw) < 256:
                self.out += b"\x8a" + bytes((len(raw),)) + raw
            elif not self.for_torch:
                self.out += b"\x8b" + struct.pack("<i", len(raw)) + raw
            else:
                raise SaveError(
                    "torch cannot read an integer of more than 255 bytes",
                    where=_place(trail),
                    found=f"{number.bit_length():,} bits",
                )

    def name(self, value: Global) -> None:
        slot = self.globals.get(value)
        if slot is not None:
            self.get(slot)
            return
        self.out += b"c" + value.module.encode() + b"\n" + value.name.encode() + b"\n"
        self.globals[value] = self.slot()

    def value(self, value: object, trail: Trail) -> Iterator[tuple[object, Trail]]:
        """Write one value that has others inside, asking for each of those in turn."""
        if self.atom(value, trail):
            return
        writer = _WRITERS.get(type(value))
        if writer is None:
            replaced = self.convert(value, _path(trail))
            yield replaced, trail
            self.alias(value, replaced)
            return
        yield from writer(self, value, trail)

    def list_(self, value: list[object], trail: Trail) -> Iterator[tuple[object, Trail]]:
        self.out += b"]"
        self.remember(value)
        yield from self.items(value, trail, b"e")

    def items(self, value: Any, trail: Trail, close: bytes) -> Iterator[tuple[object, Trail]]:
        for at, item in enumerate(value):
            if at % _BATCH == 0:
                self.out += b"(" if at == 0 else close + b"("
            inside = (trail, at)
            if not self.atom(item, inside):
                yield item, inside
        if len(value):
            self.out += close

    def dict_(self, value: dict[object, object], trail: Trail) -> Iterator[tuple[object, Trail]]:
        self.out += b"}"
        self.remember(value)
        yield from self.pairs(value, trail)

    def pairs(self, value: Mapping[object, object], trail: Trail) -> Iterator[tuple[object, Trail]]:
        for at, (key, item) in enumerate(value.items()):
            if at % _BATCH == 0:
                self.out += b"(" if at == 0 else b"u("
            inside = (trail, key)
            if not self.atom(key, inside):
                yield key, inside
            if not self.atom(item, inside):
                yield item, inside
        if value:
            self.out += b"u"

    def ordered_dict(self, value: OrderedDict[object, object], trail: Trail) -> Iterator[tuple[object, Trail]]:
        self.name(Global("collections", "OrderedDict"))
        self.out += b")R"
        self.remember(value)
        yield from self.pairs(value, trail)
        if value.__dict__:  # torch keeps the versions of modules' layouts there, as `_metadata`
            yield dict(value.__dict__), trail
            self.out += b"b"

    def counter(self, value: Counter[object], trail: Trail) -> Iterator[tuple[object, Trail]]:
        self.name(Global("collections", "Counter"))
        yield from self.arguments((dict(value),), trail)
        self.out += b"R"
        self.remember(value)

    def arguments(self, value: tuple[object, ...], trail: Trail) -> Iterator[tuple[object, Trail]]:
        """The tuple of a call; what is wrong inside is told by the path of the call."""
        yield from self.tuple_(value, trail, is_call=True)

    def tuple_(
        self, value: tuple[object, ...], trail: Trail, *, is_call: bool = False
    ) -> Iterator[tuple[object, Trail]]:
        if not value:
            self.out += b")"
            return
        if id(value) in self.open and self.for_torch:
            raise SaveError(
                "a tuple that contains itself cannot be read by torch",
                where=_place(trail),
                hint="make it a list",
            )
        self.open.add(id(value))
        small = len(value) <= 3
        if not small:
            self.out += b"("
        for at, item in enumerate(value):
            inside = trail if is_call else (trail, at)
            if not self.atom(item, inside):
                yield item, inside
        self.open.discard(id(value))
        if id(value) in self.memo:  # something inside led back here and has written it: that one is the tuple
            self.out += b"0" * len(value) if small else b"1"
            self.get(self.memo[id(value)])
            return
        self.out += (b"", b"\x85", b"\x86", b"\x87")[len(value)] if small else b"t"
        self.remember(value)

    def set_(self, value: set[object], trail: Trail) -> Iterator[tuple[object, Trail]]:
        if self.for_torch:
            self.name(Global("builtins", "set"))
            yield from self.arguments((list(value),), trail)
            self.out += b"R"
            self.remember(value)
            return
        self.out += b"\x8f"
        self.remember(value)
        yield from self.items(value, trail, b"\x90")

    def frozenset_(self, value: frozenset[object], trail: Trail) -> Iterator[tuple[object, Trail]]:
        if self.for_torch:
            raise SaveError(
                "torch's safe reader knows no frozenset",
                where=_place(trail),
                hint="save a set or a sorted list",
            )
        self.out += b"("
        for item in value:
            yield item, trail
        self.out += b"\x91"
        self.remember(value)

    def bytes_(self, value: bytes, trail: Trail) -> Iterator[tuple[object, Trail]]:
        """Bytes for protocol 2, as Python itself writes them there."""
        yield Call(Global("_codecs", "encode"), (value.decode("latin-1"), "latin1")), trail

    def bytearray_(self, value: bytearray, trail: Trail) -> Iterator[tuple[object, Trail]]:
        call = Call(Global("builtins", "bytearray"), (bytes(value),))
        yield call, trail
        self.alias(value, call)

    def complex_(self, value: complex, trail: Trail) -> Iterator[tuple[object, Trail]]:
        yield Call(Global("builtins", "complex"), (value.real, value.imag)), trail

    def call(self, value: Call, trail: Trail) -> Iterator[tuple[object, Trail]]:
        self.name(value.function)
        yield from self.arguments(value.args, trail)
        self.out += b"R"
        self.remember(value)
        if value.state is not None:
            yield value.state, trail
            self.out += b"b"

    def persistent(self, value: PersistentId, trail: Trail) -> Iterator[tuple[object, Trail]]:
        yield value.token, trail
        self.out += b"Q"


def _path(trail: Trail) -> Path:
    """The path that a trail spells backwards."""
    keys: list[object] = []
    while trail is not None:
        trail, key = trail
        keys.append(key)
    return tuple(reversed(keys))


def _place(trail: Trail) -> str:
    return place_of(_path(trail))


def place_of(path: Path) -> str:
    """A path as a message tells it.

    >>> place_of(("model", "fc.weight")), place_of(())
    ('model.fc.weight', 'the object itself')
    """
    return shown(spelled(path)) or "the object itself"


_WRITERS: Mapping[type, Callable[[_Emitter, Any, Trail], Iterator[tuple[object, Trail]]]] = {
    list: _Emitter.list_,
    dict: _Emitter.dict_,
    OrderedDict: _Emitter.ordered_dict,
    Counter: _Emitter.counter,
    tuple: _Emitter.tuple_,
    set: _Emitter.set_,
    frozenset: _Emitter.frozenset_,
    bytes: _Emitter.bytes_,
    bytearray: _Emitter.bytearray_,
    complex: _Emitter.complex_,
    Call: _Emitter.call,
    PersistentId: _Emitter.persistent,
}


def emit_pickle(root: object, *, for_torch: bool, convert: Convert) -> bytes:
    """The pickle of a plain tree; `convert` says what stands for every value that is not plain.

    >>> def refuse(value, path): raise SaveError("not plain")
    >>> emit_pickle([1, "a"], for_torch=True, convert=refuse)
    b'\\x80\\x02]q\\x00(K\\x01X\\x01\\x00\\x00\\x00aq\\x01e.'
    """
    return _Emitter(for_torch=for_torch, convert=convert).run(root)
