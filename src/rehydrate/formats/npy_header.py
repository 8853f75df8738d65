r"""The header of a numpy array file, and the element types that it can name.

    93 "NUMPY"                       six bytes
    major, minor                     1 0, 2 0 or 3 0
    length of the header             2 bytes little-endian in version 1, 4 bytes in 2 and 3
    header                           {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), } as Python prints it,
                                     padded with spaces, and a line feed; latin-1, in version 3 UTF-8

    descr   order (< > |), kind, bytes: <f4 >i8 |u1 <c16 |b1; <U3 has four bytes a character, |S5, |V2, <M8[ns]; |O is
            an object; a list of (name, descr) or (name, descr, shape) is a structure. Python 2 wrote 3L for 3.

Source: `numpy/lib/_format_impl.py` and NEP 1. The header is read by a grammar of its own, of strings, whole numbers,
True, False, None, tuples, lists and dicts; nothing of it is evaluated.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import accumulate
from operator import mul

from rehydrate.errors import AmbiguousError, CorruptError, LimitError, TruncatedError
from rehydrate.limits import Limits
from rehydrate.storage.source import Source
from rehydrate.text import dimensions, shown, size

__all__ = ["MAGIC", "Header", "itemsize_of", "read_header"]

MAGIC = b"\x93NUMPY"

_LONGEST = 1 << 20
"""Bytes of a header. numpy's own reader stops at 10,000 unless it is told; a structure of many columns needs more."""
_DEEPEST = 16
"""Structures in each other."""
_MOST = 1 << 63
"""Elements, and bytes, that numpy can count."""

_TOKEN = re.compile(
    r"""[ \t\n\f\r]*(?:
        [bBuU]?(?P<text>'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")
      | (?P<number>-?[0-9]{1,20})L?
      | (?P<word>True|False|None)
      | (?P<sign>[()\[\]{},:])
    )""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)")
_SHORT = {"n": "\n", "r": "\r", "t": "\t"}
_WORDS = {"True": True, "False": False, "None": None}
_CLOSING = {"(": ")", "[": "]", "{": "}"}

_SIMPLE = re.compile(r"[<>|=]?([biufcSaUVMmO])([0-9]{0,18})(?:\[[^\]]{1,40}\])?")
"""A type that is no structure: its kind, its size, and the unit of a time."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the header says."""

    version: tuple[int, int]
    descr: object
    """The typestring, or the list of a structure's fields."""
    is_fortran: bool
    """The first dimension is the fastest."""
    shape: tuple[int, ...]
    itemsize: int | None
    """Bytes of one element; None where they are objects, pickled."""
    end: int
    """The first byte after the header: the data."""

    @property
    def numel(self) -> int:
        """How many elements there are."""
        *_, count = accumulate(self.shape, mul, initial=1)
        return count

    @property
    def nbytes(self) -> int:
        """Bytes of all elements; 0 for objects, whose pickle is as long as it is."""
        return self.numel * (self.itemsize or 0)


def read_header(source: Source, limits: Limits) -> Header:
    """The header at the beginning of a source.

    Raises `TruncatedError` where it is cut, `CorruptError` where it is none or says what cannot be, `AmbiguousError`
    for a key that stands there twice, `LimitError` for one that is too long.
    """
    start = source.read(0, min(12, source.size))
    major, minor = start[6:8].ljust(2, b"\0")
    if not start.startswith(MAGIC[: len(start)]) or (len(start) > 7 and (major not in (1, 2, 3) or minor != 0)):
        raise CorruptError("this is no numpy array of a version that is known", found=start.hex(" "))
    width = 2 if major == 1 else 4
    length = int.from_bytes(start[8 : 8 + width], "little")
    end = 8 + width + length
    if len(start) < 8 + width or end > source.size:
        raise TruncatedError(
            "the numpy array is cut in its header",
            where=shown(source.name),
            found=f"{size(source.size)} of at least {size(max(end, 10))}",
            hint="download it again",
        )
    if length > _LONGEST:
        raise LimitError("the header of a numpy array is too long", found=size(length))
    raw = source.read(8 + width, length)
    try:
        said = _Reader(raw.decode("utf-8" if major == 3 else "latin-1")).whole()
    except UnicodeDecodeError as error:
        raise CorruptError("the header of a numpy array is no text", found=shown(raw[:60].decode("latin-1"))) from error
    return _header(said, (major, minor), end, limits)


def _header(said: object, version: tuple[int, int], end: int, limits: Limits) -> Header:
    if not isinstance(said, dict) or set(said) != {"descr", "fortran_order", "shape"}:
        raise CorruptError("the header of a numpy array does not say descr, fortran_order and shape, and no more")
    shape, is_fortran = said["shape"], said["fortran_order"]
    if not isinstance(shape, tuple) or not all(type(extent) is int and 0 <= extent < _MOST for extent in shape):
        raise CorruptError("a numpy array's shape is not made of whole numbers")
    if len(shape) > limits.dimensions:
        raise LimitError("a numpy array has too many dimensions", found=f"{len(shape):,}")
    if type(is_fortran) is not bool:
        raise CorruptError("a numpy array's order is neither C nor Fortran")
    itemsize = itemsize_of(said["descr"])
    *_, largest = accumulate((max(extent, 1) for extent in shape), mul, initial=max(itemsize or 1, 1))
    if largest >= _MOST:
        raise CorruptError("a numpy array has more bytes than numpy can count", found=dimensions(shape))
    return Header(version, said["descr"], is_fortran, shape, itemsize, end)


def itemsize_of(descr: object) -> int | None:
    """Bytes of one element of a type; None if there are objects in it. `CorruptError` for what is no type.

    >>> itemsize_of("<f4"), itemsize_of("<U3"), itemsize_of([("a", "<f4", (2, 2)), ("b", "|S3")]), itemsize_of("|O")
    (4, 12, 19, None)
    """
    if isinstance(descr, str):
        match = _SIMPLE.fullmatch(descr)
        if match is None:
            raise CorruptError("a numpy array is of a type that does not exist", found=shown(descr))
        kind, digits = match.groups()
        if kind == "O":
            return None
        return int(digits or 0) * (4 if kind == "U" else 1)
    if not isinstance(descr, list):
        raise CorruptError("a numpy array is of a type that does not exist", found=type(descr).__name__)
    sizes: list[int | None] = []
    for field in descr:
        if not isinstance(field, tuple) or not 2 <= len(field) <= 3:
            raise CorruptError("a field of a numpy structure has no name and type")
        inner = itemsize_of(field[1])
        sizes.append(None if inner is None else inner * _repeats(field[2] if len(field) == 3 else ()))
    return None if None in sizes else sum(filter(None, sizes))


def _repeats(shape: object) -> int:
    """Elements of one field of a structure that is an array itself."""
    extents = (shape,) if type(shape) is int else shape
    if not isinstance(extents, tuple) or not all(type(extent) is int and 0 <= extent < _MOST for extent in extents):
        raise CorruptError("a field of a numpy structure has no shape")
    *_, count = accumulate(extents, mul, initial=1)
    if count >= _MOST:
        raise CorruptError("a field of a numpy structure has more elements than numpy can count")
    return count


class _Reader:
    """Reads one Python literal, from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def whole(self) -> object:
        """The literal that the text is, with nothing but space after it."""
        value = self._value(self._next(), 0)
        if self._text[self._at :].strip():
            raise self._broken()
        return value

    def _broken(self) -> CorruptError:
        return CorruptError(
            "the header of a numpy array is broken",
            where=f"character {self._at:,} of it",
            found=shown(self._text[self._at : self._at + 60]),
        )

    def _next(self) -> re.Match[str]:
        match = _TOKEN.match(self._text, self._at)
        if match is None:
            raise self._broken()
        self._at = match.end()
        return match

    def _value(self, token: re.Match[str], depth: int) -> object:
        if token["text"] is not None:
            return _ESCAPE.sub(_unescaped, token["text"][1:-1])
        if token["number"] is not None:
            return int(token["number"])
        if token["word"] is not None:
            return _WORDS[token["word"]]
        if token["sign"] not in _CLOSING:
            raise self._broken()
        if depth == _DEEPEST:
            raise LimitError("the header of a numpy array has too many brackets in each other")
        if token["sign"] == "{":
            return self._pairs(depth + 1)
        items, has_comma = self._items(_CLOSING[token["sign"]], depth + 1)
        if token["sign"] == "[":
            return items
        return tuple(items) if has_comma or len(items) != 1 else items[0]  # (3) is 3

    def _items(self, closing: str, depth: int) -> tuple[list[object], bool]:
        """What stands between brackets, and whether there was a comma."""
        items: list[object] = []
        has_comma = False
        while (token := self._next())["sign"] != closing:
            items.append(self._value(token, depth))
            token = self._next()
            if token["sign"] == closing:
                return items, has_comma
            if token["sign"] != ",":
                raise self._broken()
            has_comma = True
        if has_comma != bool(items):
            raise self._broken()
        return items, has_comma

    def _pairs(self, depth: int) -> dict[str, object]:
        pairs: dict[str, object] = {}
        while (token := self._next())["sign"] != "}":
            key = self._value(token, depth)
            if not isinstance(key, str) or self._next()["sign"] != ":":
                raise self._broken()
            if key in pairs:
                raise AmbiguousError("the header of a numpy array says a thing twice", found=shown(key))
            pairs[key] = self._value(self._next(), depth)
            token = self._next()
            if token["sign"] == "}":
                break
            if token["sign"] != ",":
                raise self._broken()
        return pairs


def _unescaped(match: re.Match[str]) -> str:
    """The character of one escape; what is none stays as it is, as in Python."""
    said = match[1]
    if len(said) == 1:
        return _SHORT.get(said) or (said if said in "\\'\"" else match[0])
    code = int(said[1:], 16)
    return chr(code) if code < 0x110000 else match[0]
