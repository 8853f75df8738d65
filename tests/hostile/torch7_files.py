"""A writer of Torch7's files, as Lua's `torch.save` writes them: binary of either width and order, and text.

    Lua().of({"w": Tensor("Float", [1, 2])})

Values are what they are in Lua: None, bool, int and float (numbers), str and bytes (strings), dict and list (tables),
and the classes below. One object written twice is written once, as Lua does. Every part can be written by hand.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

CODES = {"Byte": "B", "Char": "b", "Short": "h", "Int": "i", "Long": "q", "Float": "f", "Double": "d", "Half": "e"}


@dataclass(eq=False)
class Tensor:
    """A tensor with a storage of its own, or one that looks at another's."""

    kind: str
    values: Sequence[float] | Storage
    shape: Sequence[int] | None = None
    strides: Sequence[int] | None = None
    offset: int = 1
    prefix: str = ""
    """`Cuda` for one that was on a GPU."""


@dataclass(eq=False)
class Storage:
    """The elements of tensors."""

    kind: str
    values: Sequence[float]
    prefix: str = ""


@dataclass(eq=False)
class Instance:
    """An object of a class; `version` None is how it was before there were versions."""

    name: str
    fields: Any = field(default_factory=dict)
    version: int | None = 1


@dataclass(eq=False)
class Function:
    """Bytecode and upvalues."""

    code: bytes = b"\x1bLJ\x01\0"
    upvalues: Any = field(default_factory=list)
    kind: int = 8


@dataclass(eq=False)
class Counted:
    """A tds.Hash of a dict, a tds.Vec of a list."""

    values: Any


class Lua:
    """A stream that is being written."""

    def __init__(self, *, long: int = 8, order: str = "<", is_ascii: bool = False, first: int = 1) -> None:
        self.long, self.order, self.is_ascii, self.first = long, order, is_ascii, first
        self.out = bytearray()
        self.seen: dict[int, int] = {}
        self.kept: list[object] = []

    def of(self, value: object) -> bytes:
        """The whole file."""
        self.object(value)
        return bytes(self.out)

    def numbers(self, code: str, values: Sequence[float]) -> None:
        if code in "bB":
            self.out += struct.pack(f"{len(values)}{code}", *values) + (b"\n" if self.is_ascii and values else b"")
        elif self.is_ascii:
            spelled = {"d": "%.17g", "f": "%.9g", "e": "%.9g"}.get(code, "%d")
            self.out += b" ".join((spelled % value).encode() for value in values) + (b"\n" if values else b"")
        else:
            code = "i" if code == "q" and self.long == 4 else code
            self.out += struct.pack(f"{self.order}{len(values)}{code}", *values)

    def integer(self, value: int) -> None:
        self.numbers("i", [value])

    def string(self, text: str | bytes) -> None:
        data = text.encode() if isinstance(text, str) else text
        self.integer(len(data))
        self.numbers("B", data)

    def object(self, value: Any) -> None:
        if value is None:
            self.integer(0)
        elif isinstance(value, bool):
            self.integer(5)
            self.integer(value)
        elif isinstance(value, (int, float)):
            self.integer(1)
            self.numbers("d", [value])
        elif isinstance(value, (str, bytes)):
            self.integer(2)
            self.string(value)
        elif isinstance(value, Function):
            if self.begun(value.kind, value):
                self.string(value.code)
                self.object(value.upvalues)
        elif isinstance(value, (dict, list)):
            if self.begun(3, value):
                pairs = value.items() if isinstance(value, dict) else enumerate(value, 1)
                self.integer(len(value))
                for key, item in pairs:
                    self.object(key)
                    self.object(item)
        elif self.begun(4, value):
            self.instance(value)

    def begun(self, kind: int, value: object) -> bool:
        """Write type and index; whether the object is new."""
        self.integer(kind)
        if kind == 6:
            return True
        is_new = id(value) not in self.seen
        index = self.seen.setdefault(id(value), len(self.seen) + self.first)
        self.kept.append(value)
        self.integer(index)
        return is_new

    def instance(self, value: Any) -> None:
        if isinstance(value, Tensor):
            self.tensor(value)
        elif isinstance(value, Storage):
            self.named(f"torch.{value.prefix}{stem(value)}Storage")
            self.numbers("q", [len(value.values)])
            self.numbers(CODES[value.kind], value.values)
        elif isinstance(value, Counted):
            is_hash = isinstance(value.values, dict)
            self.named("tds.Hash" if is_hash else "tds.Vec", 0)
            self.numbers("q", [len(value.values)])
            for item in [part for pair in value.values.items() for part in pair] if is_hash else value.values:
                self.object(item)
        else:
            self.named(value.name, value.version)
            self.object(value.fields)

    def named(self, name: str, version: int | None = 1) -> None:
        if version is not None:
            self.string(f"V {version}")
        self.string(name)

    def tensor(self, value: Tensor) -> None:
        self.named(f"torch.{value.prefix}{stem(value)}Tensor")
        storage = value.values if isinstance(value.values, Storage) else None
        if storage is None and len(value.values):
            storage = Storage(value.kind, value.values, value.prefix)
        shape = [len(storage.values)] if storage and value.shape is None else list(value.shape or [])
        strides = value.strides or [prod(shape[at + 1 :]) for at in range(len(shape))]
        self.integer(len(shape))
        self.numbers("q", shape)
        self.numbers("q", strides)
        self.numbers("q", [value.offset])
        self.object(storage)


def stem(value: Tensor | Storage) -> str:
    """Floats on a GPU have no name of their own: `torch.CudaTensor`."""
    return "" if value.prefix and value.kind == "Float" else value.kind


ENCODINGS: dict[str, dict[str, Any]] = {
    "binary": {},
    "binary with longs of 4 bytes": {"long": 4},
    "big-endian": {"order": ">"},
    "big-endian with longs of 4 bytes": {"order": ">", "long": 4},
    "ascii": {"is_ascii": True},
}
"""Every way in which Torch7 spells a file."""
