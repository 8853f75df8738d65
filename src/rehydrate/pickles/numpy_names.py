"""Names of numpy's that stand for arrays, scalars and element types, and what they give without numpy.

    _reconstruct(ndarray, (0,), b"b"), then BUILD (version, shape, dtype, is_fortran, bytes); a list for objects
    _frombuffer(bytes, dtype, shape, "C" or "F")        protocol 5
    scalar(dtype, bytes)
    dtype("f4", False, True), then BUILD (3, "<", …)    the order: < > | or = (not told)

An array of numbers that torch has, too, becomes a reference on the bytes where they are, of the trait `array`: nothing
is copied. A scalar becomes Python's number of the same value, an array of text or of objects nested lists, an element
type one of ours. Structures, times, long doubles, masked arrays and subclasses of other packages stay records, with
everything that the file says of them. Sources: `array_reduce` and `array_setstate` in numpy's `methods.c`,
`arraydescr_reduce` in `descriptor.c`. This file does not import numpy.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from itertools import accumulate
from operator import mul
from typing import Any, TypeGuard

from rehydrate.checkpoint.record import Record
from rehydrate.checkpoint.tensor import Piece, Storage, TensorRef, Window, one_piece, row_major
from rehydrate.dtypes import BY_NAME, DType, dtype_of_typestring
from rehydrate.limits import Limits
from rehydrate.pickles.python_names import raw_bytes
from rehydrate.pickles.results import UNFIT, Constructor, Costly, Growing, Name
from rehydrate.storage.source import MemorySource

__all__ = [
    "ARRAY",
    "CONSTRUCTORS",
    "array_from",
    "array_of",
    "bytes_of_element",
    "element_of",
    "grown",
    "is_plain",
    "is_shape",
    "nested",
]

ARRAY = frozenset({"array"})
"""The trait of numpy's arrays."""

_NUMBERS_END = 1 << 63
"""numpy's extents and counts are 64-bit."""
_LETTERS = {
    "float16": "e", "float32": "f", "float64": "d", "int8": "b", "int16": "h", "int32": "i", "int64": "q",
    "uint8": "B", "uint16": "H", "uint32": "I", "uint64": "Q", "bool": "?", "complex64": "ff", "complex128": "dd",
}  # fmt: skip
"""struct's code of each element type that a scalar can have."""
_ARRAYS = frozenset(
    {
        ("numpy", "ndarray"), ("numpy", "memmap"), ("numpy.core.memmap", "memmap"), ("numpy._core.memmap", "memmap"),
        ("numpy", "matrix"), ("numpy.matrixlib.defmatrix", "matrix"), ("numpy.core.defmatrix", "matrix"),
    }
)  # fmt: skip
"""Classes that are an array of numbers and nothing more."""
_MODULES = (
    "numpy.core.multiarray", "numpy._core.multiarray", "numpy.core._multiarray_umath", "numpy._core._multiarray_umath",
)  # fmt: skip

_LONGEST_CODE = 20
"""Characters of a type's code: a letter, and bytes in decimal."""
_HOLDS_OBJECTS = 1
"""numpy's flag of a structure with objects in it."""
_LAST_CHARACTER = 0x10FFFF
_LIST, _TEXT = 8, 7
"""Values that a list of its own takes the memory of, and a short text."""

_Text = tuple[str, str, int]
"""`U` or `S`, the byte order, and the bytes of one element; `O`, and nothing, for objects."""


def element_of(dtype: object) -> tuple[DType, bool] | _Text | None:
    """What an array's elements are: numbers and whether big-endian, text, objects; None for anything else."""
    if isinstance(dtype, DType):
        return dtype, False
    if not isinstance(dtype, Record) or dtype.path != "numpy.dtype" or not dtype.args:
        return None
    code, state = dtype.args[0], dtype.state
    order = state[1] if isinstance(state, tuple) and len(state) > 1 else "|"
    if isinstance(code, Record) and code.module == "ml_dtypes" and code.args is None:
        known = BY_NAME.get(code.name)
        return None if known is None or order == ">" else (known, False)
    if type(code) is not str or type(order) is not str or not 0 < len(code) <= _LONGEST_CODE:
        return None
    if code[0] == "O":
        return "O", "", 0
    if code[0] in "US":
        if not (code[1:].isascii() and code[1:].isdecimal()):
            return None
        return code[0], order, int(code[1:]) * (4 if code[0] == "U" else 1)
    return dtype_of_typestring((">" if order == ">" else "<") + code)


def bytes_of_element(dtype: object) -> int | None:
    """Bytes of one element where arrays are written as they are in memory; 0 for objects, None for no type at all."""
    element = element_of(dtype)
    if element is not None:
        return element[0].itemsize if len(element) == 2 else element[2]
    if not isinstance(dtype, Record) or dtype.path != "numpy.dtype" or not dtype.args:
        return None
    code, state = dtype.args[0], dtype.state
    if type(code) is not str or not code[1:].isascii() or not code[1:].isdecimal() or len(code) > _LONGEST_CODE:
        return None
    flags = state[7] if isinstance(state, tuple) and len(state) > 7 else 0
    return 0 if isinstance(flags, int) and flags & _HOLDS_OBJECTS else int(code[1:])


def is_shape(shape: object) -> TypeGuard[tuple[int, ...]]:
    """Whether this is a tuple of extents that can be multiplied."""
    return (
        isinstance(shape, tuple)
        and len(shape) <= Limits().dimensions
        and all(type(extent) is int and 0 <= extent < _NUMBERS_END for extent in shape)
        and all(product < _NUMBERS_END for product in accumulate(shape, mul))
    )


def array_of(dtype: DType, shape: tuple[int, ...], *, is_fortran: bool, piece: Piece) -> TensorRef:
    """The reference for an array whose bytes are this piece, all of them."""
    return _reference(dtype, shape, is_fortran, one_piece, piece, piece.length)


def _reference(
    dtype: DType, shape: tuple[int, ...], is_fortran: bool, find: Callable[[Any], tuple[Piece, ...]],
    entry: object, nbytes: int,
) -> TensorRef:  # fmt: skip
    strides = row_major(shape[::-1])[::-1] if is_fortran else row_major(shape)
    return TensorRef("", Window(dtype, shape, strides, 0, ARRAY), Storage("", dtype, nbytes, "cpu", find, entry))


def _in_memory(entry: tuple[bytes | bytearray, str]) -> tuple[Piece, ...]:
    """The bytes of a pickle, which are in memory as long as somebody refers to the array."""
    data, coding = entry
    return (Piece(MemorySource(data), 0, len(data), 0, coding),)


def array_from(dtype: object, shape: object, is_fortran: object, data: object) -> object:
    """An array from what it was saved as: a reference, `Costly` lists, or `UNFIT`."""
    element = element_of(dtype)
    if element is None or not is_shape(shape) or is_fortran not in (True, False):
        return UNFIT
    if len(element) == 3:
        return _list(element, shape, bool(is_fortran), data)
    if isinstance(data, str):
        return Costly(len(data), lambda: _numbers(*element, shape, bool(is_fortran), data))
    return _numbers(*element, shape, bool(is_fortran), data)


def _numbers(dtype: DType, is_big: bool, shape: tuple[int, ...], is_fortran: bool, data: object) -> object:
    raw = raw_bytes(data, math.prod(shape) * dtype.itemsize)
    if raw is None:
        return UNFIT
    entry = raw, "big-endian" if is_big and dtype.itemsize > 1 else "raw"
    return _reference(dtype, shape, is_fortran, _in_memory, entry, len(raw))


def _list(element: _Text, shape: tuple[int, ...], is_fortran: bool, data: object) -> object:
    """Text and objects, in lists of lists."""
    numel, (letter, order, width) = math.prod(shape), element
    if letter == "O":
        if type(data) is not list or len(data) != numel:
            return UNFIT
    else:
        data = raw_bytes(data, numel * width)
        if data is None or not width:
            return UNFIT
    lists = sum(accumulate(shape[:-1], mul))
    weight = numel if letter == "O" else numel * _TEXT
    return Costly(_LIST * lists + weight, lambda: nested(_elements(letter, order, width, data), shape, is_fortran))


def _elements(letter: str, order: str, width: int, data: object) -> list[object] | None:
    if isinstance(data, list):
        return data
    raw = bytes(data)  # type: ignore[call-overload]
    if letter == "S":
        return [raw[at : at + width].rstrip(b"\0") for at in range(0, len(raw), width)]
    codes = struct.unpack(f"{'>' if order == '>' else '<'}{len(raw) // 4}I", raw)  # `decode` would import the codec
    if max(codes, default=0) > _LAST_CHARACTER:
        return None
    text = "".join(map(chr, codes))
    return [text[at : at + width // 4].rstrip("\0") for at in range(0, len(text), width // 4)]


def nested(flat: list[object] | None, shape: tuple[int, ...], is_fortran: bool = False) -> object:
    """Values in lists as the shape says; one without dimensions is itself."""
    if flat is None:
        return UNFIT
    if is_fortran:
        order = [0]
        for extent, stride in zip(shape, row_major(shape[::-1])[::-1], strict=True):
            order = [first + at * stride for first in order for at in range(extent)]
        flat = [flat[at] for at in order]
    for axis in range(len(shape) - 1, 0, -1):
        extent, outer = shape[axis], math.prod(shape[:axis])
        flat = [flat[at * extent : (at + 1) * extent] for at in range(outer)]
    return list(flat) if shape else flat[0]


def _reconstruct(name: Name) -> Constructor:
    def construct(args: tuple[object, ...]) -> object:
        kind = args[0] if len(args) == 3 else None
        if not isinstance(kind, Record) or kind.args is not None or (kind.module, kind.name) not in _ARRAYS:
            return UNFIT
        return Growing(Record(*name, args), _grown)

    return construct


def _grown(made: object, state: object) -> object:
    return grown(state)


def grown(state: object) -> object:
    """`array_setstate`: with a version in front since numpy 1.0."""
    if not isinstance(state, tuple) or len(state) not in (4, 5):
        return UNFIT
    shape, dtype, is_fortran, data = state[-4:]
    return array_from(dtype, shape, is_fortran, data)


def _from_buffer(args: tuple[object, ...]) -> object:
    if len(args) != 4 or args[3] not in ("C", "F"):
        return UNFIT
    return array_from(args[1], args[2], args[3] == "F", args[0])


def _scalar(args: tuple[object, ...]) -> object:
    """The number itself. numpy pickles one of objects, too; that is never an honest file."""
    element = element_of(args[0]) if len(args) == 2 else None
    if element is None:
        return UNFIT
    if len(element) == 3:
        letter, order, width = element
        raw = raw_bytes(args[1], width)
        if raw is None or not width or letter == "O":
            return UNFIT
        return Costly(width >> 4, lambda: nested(_elements(letter, order, width, raw), ()))
    dtype, is_big = element
    letters, raw = _LETTERS.get(dtype.name), raw_bytes(args[1], dtype.itemsize)
    if letters is None or raw is None:
        return UNFIT
    numbers = struct.unpack((">" if is_big else "<") + letters, raw)
    return complex(*numbers) if len(numbers) == 2 else numbers[0]


def _dtype(args: tuple[object, ...]) -> object:
    """The type as a record until its byte order is known; native ones then become ours."""
    is_code = bool(args) and isinstance(args[0], (str, Record))
    return Growing(Record("numpy", "dtype", args), _grown_dtype) if is_code else UNFIT


def _grown_dtype(made: Record, state: object) -> object:
    element = element_of(Record("numpy", "dtype", made.args, state=state))
    return element[0] if element is not None and len(element) == 2 and not element[1] else UNFIT


def is_plain(call: Record) -> bool:
    """Whether a call that stayed a record makes data all the same: a type that torch lacks, an array or a number of it.

    A number of objects is none: numpy unpickles its bytes.
    """
    args = call.args or ()
    if call.path == "numpy.dtype":
        code = args[0] if args else None
        is_known = isinstance(code, str) or (isinstance(code, Record) and code.args is None)
        return is_known and not call.kwargs and all(type(flag) in (bool, int) for flag in args[1:])
    if call.name == "_frombuffer" and len(args) == 4:
        return bool(bytes_of_element(args[1])) and is_shape(args[2]) and args[3] in ("C", "F") and not call.kwargs
    if call.module not in _MODULES or call.kwargs or len(args) != (2 if call.name == "scalar" else 3):
        return False
    if call.name == "scalar":
        return bool(bytes_of_element(args[0])) and raw_bytes(args[1], bytes_of_element(args[0]) or 0) is not None
    kind = args[0]
    return isinstance(kind, Record) and kind.args is None and (kind.module, kind.name) in _ARRAYS and is_shape(args[1])


CONSTRUCTORS: Mapping[Name, Constructor] = {
    **{(module, "_reconstruct"): _reconstruct((module, "_reconstruct")) for module in _MODULES},
    **{(module, "scalar"): _scalar for module in _MODULES},
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("numpy", "dtype"): _dtype,
}
"""(module, name) → the function that makes the value."""
