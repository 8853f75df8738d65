"""How the files of Torch7 spell numbers and strings: in binary, and in text.

    binary    an int is 4 bytes, a double 8, a long 8 or 4 (whatever the writing machine had), all of one byte order;
              arrays are their elements, one after the other
    ascii     every scalar and every array of numbers is a line: `%d` or `%.17g` (`%.9g` for floats and halves), single
              spaces between; characters and bytes stand as they are, and a newline after them; nothing at all is
              written for an array without elements

Every length is held against what is left of the file before anything is read by it. The elements of a storage are
passed over: of them only where they lie is kept. Source: `lib/TH/THDiskFile.c` of torch7.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from rehydrate.checkpoint.tensor import Piece
from rehydrate.dtypes import DType
from rehydrate.errors import CorruptError, TruncatedError
from rehydrate.formats.torch7.numbers import LONGEST_NUMBER, SPELLED, SpelledNumbers
from rehydrate.storage.source import Source
from rehydrate.storage.views import ComputedSource
from rehydrate.text import shown, size

__all__ = ["AsciiEncoding", "BinaryEncoding", "Encoding"]

Find = Callable[[Any], tuple[Piece, ...]]

WINDOW = 1 << 16
"""Bytes that are read at once while objects are; storages are stepped over."""


class Encoding(Protocol):
    """What an object stream is read through, from its beginning to its end."""

    long: int
    """Bytes of a long."""

    @property
    def at(self) -> int:
        """The byte of the file that comes next."""

    def integer(self) -> int:
        """An int."""

    def longs(self, count: int) -> tuple[int, ...]:
        """So many longs."""

    def number(self) -> float:
        """A double."""

    def characters(self, count: int) -> bytes:
        """So many bytes; `TruncatedError` before anything is read if there are fewer."""

    def elements(self, dtype: DType, count: int) -> tuple[Find, int]:
        """Where the elements of a storage are: what finds their pieces, and the entry to hand it. Steps over them.

        Those of a file that was cut may reach beyond its end, for whoever said that it may; see `is_cut`.
        """


class BinaryEncoding:
    """Numbers as they were in memory."""

    def __init__(self, source: Source, order: str, long: int, *, is_cut: bool = False) -> None:
        self.long = long
        self._source = source
        self._coding = "raw" if order == "little" else "big-endian"
        self._mark = "<" if order == "little" else ">"
        self._integer = struct.Struct(self._mark + "i").unpack_from
        self._double = struct.Struct(self._mark + "d").unpack_from
        self._is_cut = is_cut
        self._base = self._at = self._end = 0
        self._window = b""

    @property
    def at(self) -> int:
        """The byte of the file that comes next."""
        return self._base + self._at

    def integer(self) -> int:
        """An int: 4 bytes. What a stream has most of, so that it looks into the window itself."""
        at = self._at
        if at + 4 > self._end:
            at = self._taken(4)
        else:
            self._at = at + 4
        number: int = self._integer(self._window, at)[0]
        return number

    def longs(self, count: int) -> tuple[int, ...]:
        """So many longs."""
        at = self._taken(count * self.long)
        code = "q" if self.long == 8 else "i"
        return struct.unpack_from(f"{self._mark}{count}{code}", self._window, at)

    def number(self) -> float:
        """A double: 8 bytes."""
        at = self._taken(8)
        number: float = self._double(self._window, at)[0]
        return number

    def characters(self, count: int) -> bytes:
        """So many bytes."""
        at = self._taken(count)
        return self._window[at : at + count]

    def elements(self, dtype: DType, count: int) -> tuple[Find, int]:
        """See `Encoding.elements`."""
        start, nbytes = self.at, count * dtype.itemsize
        if start + nbytes > self._source.size and not self._is_cut:
            raise _ended(self._source, start, nbytes)
        self._at += nbytes
        if self._at > self._end:
            self._base, self._at, self._end, self._window = start + nbytes, 0, 0, b""
        return partial(self._pieces, nbytes), start

    def _pieces(self, nbytes: int, start: int) -> tuple[Piece, ...]:
        return (Piece(self._source, start, nbytes, 0, self._coding),)

    def _taken(self, count: int) -> int:
        """The place in the window of the next bytes, which are taken; they are fetched if they are not in it."""
        at = self._at
        if at + count > self._end:
            start = self._base + at
            left = self._source.size - start
            if count > left:
                raise _ended(self._source, start, count)
            self._window = self._source.read(start, min(max(count, WINDOW), left))
            self._base, self._end, at = start, len(self._window), 0
        self._at = at + count
        return at


class AsciiEncoding:
    """Numbers as text. All of the file is looked at, because nothing else says where a line of numbers ends."""

    long = 8

    def __init__(self, source: Source, *, is_cut: bool = False) -> None:
        self._source = source
        self._data = source.read(0, source.size)
        self._is_cut = is_cut
        self.at = 0

    def integer(self) -> int:
        """A line that is an int."""
        return self.longs(1)[0]

    def longs(self, count: int) -> tuple[int, ...]:
        """A line of integers."""
        if not count:
            return ()
        words = self._line(count)
        try:
            return tuple(map(int, words))
        except ValueError as error:
            raise self._no_number(words) from error

    def number(self) -> float:
        """A line that is a double."""
        words = self._line(1)
        try:
            return float(SPELLED.get(words[0], words[0]))
        except ValueError as error:
            raise self._no_number(words) from error

    def characters(self, count: int) -> bytes:
        """So many bytes as they are, and the newline after them."""
        start, end = self.at, self.at + count
        if end > len(self._data):
            raise _ended(self._source, start, count)
        self._end_line(end, count)
        return self._data[start:end]

    def elements(self, dtype: DType, count: int) -> tuple[Find, int]:
        """See `Encoding.elements`."""
        start = self.at
        if dtype.itemsize == 1:  # characters and bytes are not spelled out
            if start + count > len(self._data) and not self._is_cut:
                raise _ended(self._source, start, count)
            self._end_line(start + count, count)
            return self._bytes(count), start
        if not count:
            return self._numbers(dtype, 0, start), start
        end = self._data.find(b"\n", start)
        if end < 0:
            return self._cut(dtype, count, start), start
        words = self._data.count(b" ", start, end) + (end > start)
        if words != count:
            raise CorruptError(
                "a line of numbers is not as long as the file says",
                where=self._place(start),
                found=f"{words:,} numbers for {count:,}",
            )
        self.at = end + 1
        return self._numbers(dtype, count, end), start

    def _cut(self, dtype: DType, count: int, start: int) -> Find:
        """The numbers of the last line of a file that ends in it, of which the last may be cut, too."""
        end = len(self._data)
        words = min(self._data.count(b" ", start, end), count)
        if not self._is_cut:
            raise TruncatedError(
                "the file ends early: a line of numbers has no end",
                where=self._place(start),
                found=f"{words:,} numbers of {count:,}",
                hint="download it again",
            )
        self.at = end
        return self._numbers(dtype, words, end)

    def _bytes(self, count: int) -> Find:
        source = self._source
        return lambda start: (Piece(source, start, count),)

    def _numbers(self, dtype: DType, count: int, end: int) -> Find:
        source = self._source

        def find(start: int) -> tuple[Piece, ...]:
            spelled = SpelledNumbers(source, start, end, dtype)
            made = ComputedSource(count * dtype.itemsize, spelled.made, f"{source.name}, byte {start:,}")
            return (Piece(made, 0, made.size),)

        return find

    def _line(self, count: int) -> list[bytes]:
        """The next line, which has so many words."""
        start = self.at
        # Between words stands one character, and no word is longer than a number can be.
        end = self._data.find(b"\n", start, start + count * LONGEST_NUMBER)
        if end < 0:
            if len(self._data) - start < count * LONGEST_NUMBER:
                raise _ended(self._source, start, count)
            raise CorruptError("a number was expected here", where=self._place(start))
        words = self._data[start:end].split(b" ")
        if len(words) != count or b"_" in self._data[start:end]:
            raise self._no_number(words)
        self.at = end + 1
        return words

    def _end_line(self, end: int, count: int) -> None:
        if count and self._data[end : end + 1] == b"\n":
            end += 1
        self.at = end

    def _no_number(self, words: list[bytes]) -> CorruptError:
        return CorruptError(
            "a number was expected here",
            where=self._place(self.at),
            found=shown(b" ".join(words)[:LONGEST_NUMBER].decode("latin-1")),
        )

    def _place(self, at: int) -> str:
        return f"{shown(self._source.name)}, byte {at:,}"


def _ended(source: Source, start: int, count: int) -> TruncatedError:
    return TruncatedError(
        f"the file ends early: bytes {start:,} to {start + count:,} were wanted",
        where=shown(source.name),
        found=size(source.size),
        hint="download it again",
    )
