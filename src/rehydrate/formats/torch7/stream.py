"""The object stream of Torch7, read into tables, tensors and inert records. Nothing in it is run.

    object      int TYPE, then
      0 nil
      1 number      double
      2 string      int length, characters
      3 table       int INDEX; if it is new: int count, then count times a key and a value, both objects
      4 torch       int INDEX; if it is new: version and class as below, then what that class writes of itself
      5 boolean     int, 1 for true
      6 function    int length, Lua bytecode, the object of its upvalues        (of the oldest files; has no INDEX)
      7, 8 function int INDEX; if it is new: as 6

    version     int length, "V " and a number; then int length, the class's name. Before there were versions, the
                name alone
    torch.*Tensor, torch.*Storage    see `tensors`
    tds.Hash    long count, then keys and values; tds.Vec: long count, then values
    others      one object, mostly a table of the fields

INDEX is how objects are shared, and how they may contain themselves. There are no marks and no lengths of objects, so
a stream can only be read from its beginning. Source: `File.lua` of torch7, `hash.lua` and `vec.lua` of tds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from rehydrate.checkpoint.record import Record
from rehydrate.checkpoint.tensor import Storage, Window
from rehydrate.errors import CorruptError, LimitError, TruncatedError
from rehydrate.formats.torch7.encodings import Encoding
from rehydrate.formats.torch7.tensors import read_storage, read_window, stem_of, tensor_on
from rehydrate.limits import Limits
from rehydrate.text import shown

__all__ = ["Stream", "Table", "read_stream"]

NIL, NUMBER, STRING, TABLE, TORCH, BOOLEAN, FUNCTION, OLD_RECURSIVE, RECURSIVE = range(9)

_VERSION = re.compile(rb"V (-?\d{1,9}(?:\.\d{1,9})?)")

EXACT = 1 << 53
"""Whole numbers below this are whole numbers of the program that wrote them; Lua has only doubles."""


class Table(list[object]):
    """A table of Lua's as the stream has it: keys and values in turn. `final` is what `values` makes of it."""

    __slots__ = ("final",)

    final: Any


@dataclass(slots=True)
class Stream:
    """What a stream holds. Tables in it are still tables, wherever they are."""

    root: object = None
    tables: list[Table] = field(default_factory=list)
    vectors: list[Table] = field(default_factory=list)
    """Those that have values only."""
    records: list[Record] = field(default_factory=list)
    """Objects of classes that are neither tensors nor storages, and functions."""
    storages: list[Storage] = field(default_factory=list)
    code: list[tuple[int, int]] = field(default_factory=list)
    """Where Lua bytecode lies, and how long it is."""
    end: int = 0
    has_longs: bool = False
    """Whether the width of longs made a difference."""
    is_cut: bool = False


@dataclass(slots=True)
class _Frame:
    """An object whose parts are still to come."""

    holder: Table | Record | None
    left: int
    """Objects that are still to come."""
    window: Window | None = None
    """Of a tensor, whose storage is to come."""
    index: int = 0


def read_stream(encoding: Encoding, limits: Limits, *, is_cut: bool = False) -> Stream:
    """Read one object with all that it leads to.

    With `is_cut`, a stream that ends early gives what is there; otherwise that is a `TruncatedError`.
    Raises `CorruptError` for what is no such stream, `LimitError` for one that is beyond all measure.
    """
    reader = _Reader(encoding, limits)
    try:
        reader.read()
    except TruncatedError:
        if not is_cut:
            raise
        reader.give_up()
    reader.stream.end = encoding.at
    return reader.stream


class _Reader:
    """Reads objects one after the other; those that contain others wait on a stack of its own."""

    def __init__(self, encoding: Encoding, limits: Limits) -> None:
        self.stream = Stream()
        self._in = encoding
        self._limits = limits
        self._objects: dict[int, tuple[int, object]] = {}
        self._classes: dict[bytes, tuple[str, str]] = {}
        self._stack: list[_Frame] = []

    def read(self) -> None:
        """Read the root object."""
        stack, integer = self._stack, self._in.integer
        for _ in range(self._limits.operations):
            kind = integer()
            if kind == NUMBER:
                value: object = _whole(self._in.number())
            elif kind == STRING:
                value = _text(self._in.characters(self._count(integer(), "a string")))
            elif kind == NIL:
                value = None
            elif kind == BOOLEAN:
                value = integer() == 1
            else:
                depth = len(stack)
                value = self._begun(kind)
                if len(stack) > depth:
                    continue
            if self._delivered(value):
                return
        raise LimitError("there are too many objects in this file", found=f"{self._limits.operations:,} and more")

    def give_up(self) -> None:
        """The stream has ended early: what is there is all there is."""
        self.stream.is_cut = True
        part: Table | Record | None = None
        while self._stack:
            holder = self._stack.pop().holder
            if part is not None and isinstance(holder, Table):
                holder.append(part)
            elif part is not None and isinstance(holder, Record):
                _give(holder, part)
            part = holder
        self.stream.root = part
        for table in self.stream.tables:
            if len(table) % 2:
                table.pop()  # a key without its value

    def _delivered(self, value: object) -> bool:
        """Hand a complete object to whatever waits for it; whether that was the root."""
        stack = self._stack
        while stack:
            frame = stack[-1]
            holder = frame.holder
            frame.left -= 1
            if type(holder) is Table:
                holder.append(value)
            elif isinstance(holder, Record):
                _give(holder, value)
            if frame.left:
                return False
            stack.pop()
            if frame.window is None:
                value = holder
            else:
                value = tensor_on(frame.window, value, self._in)
                self._objects[frame.index] = (TORCH, value)
        self.stream.root = value
        return True

    def _begun(self, kind: int) -> object:
        """An object that may be shared: one that is known, one without parts, or one that has begun (on the stack)."""
        if kind == FUNCTION:
            return self._function(None)
        if kind not in (TABLE, TORCH, OLD_RECURSIVE, RECURSIVE):
            raise CorruptError("there is no object of this type", where=self._place(), found=f"type {kind}")
        index = self._in.integer()
        known = self._objects.get(index)
        if known is not None:
            if known[0] != kind:
                raise CorruptError(
                    "one object is of two types", where=self._place(), found=f"types {known[0]} and {kind}"
                )
            return known[1]
        if kind == TABLE:
            return self._table(index)
        if kind == TORCH:
            return self._instance(index)
        return self._function(index, kind)

    def _table(self, index: int) -> object:
        table = Table()
        self.stream.tables.append(table)
        self._objects[index] = (TABLE, table)
        count = self._count(self._in.integer(), "a table")
        if count:
            self._stack.append(_Frame(table, 2 * count))
        return table

    def _function(self, index: int | None, kind: int = FUNCTION) -> object:
        length = self._count(self._in.integer(), "a function")
        at = self._in.at
        function = Record("lua", "function", state={"code": self._in.characters(length)})
        self.stream.code.append((at, length))
        self.stream.records.append(function)
        if index is not None:
            self._objects[index] = (kind, function)
        self._stack.append(_Frame(function, 1))
        return function

    def _instance(self, index: int) -> object:
        version, module, name = self._class()
        stem = stem_of(f"{module}.{name}")
        if stem is not None:
            return self._tensor_or_storage(index, *stem)
        if module == "tds" and name in ("Hash", "Vec", "hash", "vec"):
            return self._counted(index, name)
        record = Record(module, name, kwargs=None if version == 1 else {"version": version})
        self.stream.records.append(record)
        self._objects[index] = (TORCH, record)
        self._stack.append(_Frame(record, 1))
        return record

    def _counted(self, index: int, name: str) -> object:
        """A container of tds: like a table, without keys if it is a Vec."""
        table = Table()
        is_vector = name in ("Vec", "vec")
        (self.stream.vectors if is_vector else self.stream.tables).append(table)
        self._objects[index] = (TORCH, table)
        self.stream.has_longs = True
        count = self._count(self._in.longs(1)[0], f"a tds.{name}")
        if count:
            self._stack.append(_Frame(table, count if is_vector else 2 * count))
        return table

    def _tensor_or_storage(self, index: int, stem: str, is_tensor: bool) -> object:
        self.stream.has_longs = True
        if is_tensor:
            self._stack.append(_Frame(None, 1, read_window(self._in, stem, self._limits), index))
            return None
        storage = read_storage(self._in, stem, index)
        self._objects[index] = (TORCH, storage)
        self.stream.storages.append(storage)
        return storage

    def _class(self) -> tuple[float, str, str]:
        """The version of a class, and the two parts of its name."""
        first = self._in.characters(self._name_length())
        version = _VERSION.fullmatch(first)
        spelled = self._in.characters(self._name_length()) if version else first
        parts = self._classes.get(spelled)
        if parts is None:
            if len(self._classes) >= self._limits.globals:
                raise LimitError("there are too many classes in this file", found=f"{len(self._classes):,} and more")
            name = spelled.decode("latin-1")
            if not name.isprintable():
                raise CorruptError("this is no name of a class", where=self._place(), found=shown(name))
            module, _, last = name.rpartition(".")
            parts = self._classes[spelled] = (module, last)
        return (_whole(float(version[1])) if version else 0, *parts)

    def _name_length(self) -> int:
        length = self._in.integer()
        if not 0 < length <= self._limits.name_length:
            raise CorruptError("this is no name of a class", where=self._place(), found=f"{length:,} characters")
        return length

    def _count(self, count: int, what: str) -> int:
        if count < 0:
            raise CorruptError(f"{what} cannot have this length", where=self._place(), found=f"{count:,}")
        return count

    def _place(self) -> str:
        return f"byte {self._in.at:,}"


def _whole(number: float) -> int | float:
    """A number as Python would have written it: Lua knows doubles only, also where it counts."""
    return int(number) if -EXACT < number < EXACT and number.is_integer() else number


def _text(characters: bytes) -> str | bytes:
    """A string of Lua's is bytes; mostly they are text."""
    try:
        return characters.decode("utf-8")
    except UnicodeDecodeError:
        return characters


def _give(record: Record, value: object) -> None:
    """What a class wrote of itself, or the upvalues of a function."""
    if isinstance(record.state, dict) and record.path == "lua.function":
        record.state["upvalues"] = value
    else:
        record.state = value
