"""The counted strings and typed values that a GGUF file begins with.

    string      length, u64 (u32 in version 1), and so many bytes of UTF-8
    value       type, u32, and what it says: 0 u8  1 i8  2 u16  3 i16  4 u32  5 i32  6 f32  7 bool, one byte  8 string
                9 array: type of its items, u32; their number, u64 (u32 in version 1); the items one after the other
                10 u64  11 i64  12 f64

Source: `ggml/docs/gguf.md`. Whatever a count says, no more is read or made than bytes are there for.
"""

from __future__ import annotations

import struct

from rehydrate.checkpoint.record import Record
from rehydrate.errors import CorruptError, LimitError, TruncatedError
from rehydrate.storage.source import Source
from rehydrate.text import shown, size

__all__ = ["Values"]

_WINDOW = 1 << 20
"""Bytes that are read at once."""
_ITEMS = 1_400_000
"""Items of all arrays together that are kept. A large vocabulary has a million with its merges; each takes up to eighty
bytes, however short it is. Arrays beyond are passed over, and stand there as records of their type and length."""
_DEEPEST = 8
"""Arrays in each other; writers make none so far."""
_LONGEST = 64 << 20
"""Bytes of one string; chat templates have some thousand."""

_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}
_BOOL, _STRING, _ARRAY = 7, 8, 9
_NAMES = ("u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64")


class Values:
    """Reads values from a source, one after the other. `at` is the next byte."""

    def __init__(self, source: Source, at: int, *, order: str, has_short_counts: bool) -> None:
        self._source = source
        self._order = order
        self._count = "I" if has_short_counts else "Q"
        self._window = b""
        self._begin = at
        self._in = 0
        self._items = 0

    @property
    def at(self) -> int:
        """The next byte of the source."""
        return self._begin + self._in

    def take(self, length: int) -> bytes:
        """The next bytes, exactly so many."""
        end = self._in + length
        if end > len(self._window):
            self._refill(length)
            end = length
        data = self._window[self._in : end]
        self._in = end
        return data

    def _refill(self, length: int) -> None:
        begin = self.at
        if length > self._source.size - begin:
            raise TruncatedError(
                "the GGUF file is cut in its index",
                where=f"{shown(self._source.name)}, byte {begin:,}",
                found=f"{size(self._source.size - begin)} of {size(length)}",
                hint="download it again",
            )
        self._window = self._source.read(begin, min(max(length, _WINDOW), self._source.size - begin))
        self._begin, self._in = begin, 0

    def number(self, kind: str) -> int:
        """One whole number; `kind` is its letter in `struct`."""
        (value,) = self._numbers(kind, 1)
        return int(value)

    def count(self) -> int:
        """A number of things, or of bytes."""
        return self.number(self._count)

    def integers(self, kind: str, count: int) -> tuple[int, ...]:
        """Several whole numbers."""
        return tuple(map(int, self._numbers(kind, count)))

    def string(self) -> str:
        """A counted string; bytes that are no UTF-8 are kept, as Python keeps those of file names."""
        length = self.count()
        if length > _LONGEST:
            raise self._cut_or_too_long(length)
        return self.take(length).decode("utf-8", "surrogateescape")

    def value(self) -> object:
        """A type and what it says; arrays are lists."""
        return self._of_type(self.number("I"), 0)

    def _of_type(self, kind: int, depth: int) -> object:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            return self._array(depth)
        if kind not in _NUMBERS:
            raise CorruptError("a value is of a type that GGUF lacks", where=f"byte {self.at:,}", found=str(kind))
        (value,) = self._numbers(_NUMBERS[kind], 1)
        return self._truth(value) if kind == _BOOL else value

    def _array(self, depth: int) -> object:
        kind, count = self.number("I"), self.count()
        if self._items + count > _ITEMS:
            return self._passed_over(kind, count)
        self._items += count
        if depth == _DEEPEST:
            raise LimitError("arrays of the GGUF file lie in each other too often", where=f"byte {self.at:,}")
        if kind in _NUMBERS:
            numbers = self._numbers(_NUMBERS[kind], count)
            return [self._truth(value) for value in numbers] if kind == _BOOL else list(numbers)
        return [self._of_type(kind, depth + 1) for _ in range(count)]

    def _passed_over(self, kind: int, count: int) -> Record:
        """An array that is too long to keep."""
        if count > self._source.size - self.at or (kind not in _NUMBERS and kind != _STRING):
            raise self._cut_or_too_long(count)
        if kind == _STRING:
            for _ in range(count):
                self._skip(self.count())
        else:
            self._skip(struct.calcsize(self._order + _NUMBERS[kind]) * count)
        return Record("gguf", "array", (_NAMES[kind], count))

    def _skip(self, length: int) -> None:
        if length <= len(self._window) - self._in:
            self._in += length
            return
        self._begin, self._in, self._window = self.at + length, 0, b""
        if self._begin > self._source.size:
            raise self._cut_or_too_long(length)

    def _numbers(self, kind: str, count: int) -> tuple[int | float, ...]:
        layout = f"{self._order}{count}{kind}"
        return struct.unpack(layout, self.take(struct.calcsize(layout)))

    def _truth(self, value: int | float) -> bool:
        if value not in (0, 1):
            raise CorruptError("a value is neither true nor false", where=f"byte {self.at:,}", found=str(value))
        return value == 1

    def _cut_or_too_long(self, count: int) -> LimitError | TruncatedError:
        """Why so many things are not read: every one takes a byte at least."""
        left = max(self._source.size - self.at, 0)
        if count > left:
            return TruncatedError(
                "the GGUF file ends before what it counts",
                where=f"{shown(self._source.name)}, byte {self.at:,}",
                found=f"{size(left)} for {count:,}",
                hint="download it again",
            )
        return LimitError("the index of the GGUF file is too large", where=f"byte {self.at:,}", found=f"{count:,}")
