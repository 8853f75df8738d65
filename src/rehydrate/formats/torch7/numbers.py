"""A line of numbers in text → the bytes that they stand for, made when somebody wants them and then forgotten.

Torch7 writes the elements of a storage with single spaces between, floats with nine digits and doubles with seventeen:
enough to get the same number back, bit for bit. Nothing else is a number here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from rehydrate.dtypes import DType
from rehydrate.errors import CorruptError
from rehydrate.storage.source import Source
from rehydrate.text import shown

__all__ = ["LONGEST_NUMBER", "SPELLED", "SpelledNumbers"]

LONGEST_NUMBER = 40
"""Characters of one number; `%.17g` writes at most 24."""
SPELLED = {b"1.#INF": b"inf", b"-1.#INF": b"-inf", b"1.#QNAN": b"nan", b"-1.#IND": b"nan", b"1.#IND": b"nan"}
"""What the C library of Windows writes for numbers that are none."""

_WINDOW = 1 << 16
"""Characters that are read at once."""
_CODES = {"float16": "e", "float32": "f", "float64": "d", "int16": "h", "int32": "i", "int64": "q"}
"""How `struct` calls the element types that are spelled out; those of one byte are not."""


class SpelledNumbers:
    """A run of numbers in text as the bytes that they stand for. Read in windows: a storage may be most of the file."""

    def __init__(self, source: Source, start: int, end: int, dtype: DType) -> None:
        self._source, self._start, self._end = source, start, end
        self._itemsize = dtype.itemsize
        self._code = _CODES[dtype.name]
        self._convert: Callable[[bytes], float] = float if dtype.kind == "float" else int

    def made(self, start: int, length: int) -> bytearray:
        """These bytes of the storage."""
        first = start // self._itemsize
        last = -(-(start + length) // self._itemsize)
        made = bytearray()
        number = 0
        for words, count in self._windows(first):
            if words is not None:
                wanted = words[max(first - number, 0) : last - number]
                made += self._packed(wanted)
            number += count
            if number >= last:
                break
        return made[start - first * self._itemsize :][:length]

    def _windows(self, first: int) -> Iterator[tuple[list[bytes] | None, int]]:
        """The words of each window, or None where all are before `first`, and how many there are."""
        rest = b""
        number = 0
        for at in range(self._start, self._end, _WINDOW):
            text = rest + self._source.read(at, min(_WINDOW, self._end - at))
            if at + _WINDOW < self._end:
                text, _, rest = text.rpartition(b" ")
            if len(rest) > LONGEST_NUMBER:
                raise self._no_numbers(f"a word of {len(rest):,} characters")
            if not text:
                continue
            count = text.count(b" ") + 1
            yield (text.split(b" ") if number + count > first else None), count
            number += count

    def _packed(self, words: list[bytes]) -> bytes:
        try:
            if any(b"_" in word for word in words):
                raise ValueError("an underscore in a number")
            return struct.pack(f"<{len(words)}{self._code}", *[self._convert(SPELLED.get(w, w)) for w in words])
        except (ValueError, OverflowError, struct.error) as error:
            raise self._no_numbers(shown(str(error))) from error

    def _no_numbers(self, found: str) -> CorruptError:
        return CorruptError(
            "a line of numbers has words in it that are none of its type",
            where=f"{shown(self._source.name)}, bytes {self._start:,} to {self._end:,}",
            found=found,
        )
