"""References → numpy arrays. Loads numpy and ml_dtypes; imported only when an array is asked for.

An array made here owns its memory. Nothing is ever a view of a file.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy

from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.dtypes import DType
from rehydrate.errors import LimitError
from rehydrate.text import dimensions, shown, size

__all__ = ["array_dtype", "read_array", "read_elements"]

Array = numpy.ndarray[Any, Any]

MOST_EXPANDED = 1 << 30
"""Bytes that an expanded tensor (stride 0) may grow to when the storage behind it is smaller: a file of a kilobyte
can describe a tensor of exabytes, and somebody who means it can expand it again."""


def array_dtype(dtype: DType) -> numpy.dtype[Any]:
    """The numpy dtype of the same elements; complex32 has none and gives a pair of float16."""
    found: numpy.dtype[Any]
    if dtype.array is None:
        found = numpy.dtype((numpy.float16, (2,)))
    elif dtype.array.startswith("ml_dtypes."):
        found = numpy.dtype(getattr(ml_dtypes, dtype.array.removeprefix("ml_dtypes.")))
    else:
        found = numpy.dtype(dtype.array)
    return found


def read_array(ref: TensorRef) -> Array:
    """The elements of `ref`, in an array of their own; complex32 widened, lazy conjugates and negatives carried out."""
    array = read_elements(ref)
    if ref.dtype.name == "complex32":
        wide = numpy.empty(ref.shape, numpy.complex64)  # not a + 1j * b: that turns infinities into NaN
        wide.real, wide.imag = array[..., 0], array[..., 1]
        array = wide
    if "conj" in ref.traits:
        numpy.conj(array, out=array)
    if "neg" in ref.traits:
        numpy.negative(array, out=array)
    return array


def read_elements(ref: TensorRef) -> Array:
    """The elements of `ref` bit by bit, contiguous, in an array of their own; complex32 as pairs of float16."""
    if ref.nbytes > MOST_EXPANDED and ref.nbytes > ref.storage.held:
        raise LimitError(
            f"this tensor would take {size(ref.nbytes)} once written out",
            where=f"{shown(ref.name)} {dimensions(ref.shape)}",
            found=f"a storage of {size(ref.storage.nbytes)}",
            hint="read a part of it: ref[0:10].numpy()",
        )
    element = array_dtype(ref.dtype)
    if ref.numel == 0:
        return _empty(ref, element)
    width = ref.dtype.itemsize
    data, coding = ref.storage.read(ref.offset * width, ref.window.extent * width)
    flat = numpy.frombuffer(data, element.base)
    if coding == "big-endian":
        flat = flat.byteswap()
    inner = numpy.dtype(element.base).itemsize
    window = numpy.ndarray(
        (*ref.shape, *element.shape),
        element.base,
        flat,
        0,
        (*(stride * width for stride in ref.strides), *((inner,) if element.shape else ())),
    )
    return window.copy()


def _empty(ref: TensorRef, element: numpy.dtype[Any]) -> Array:
    """An array without elements; numpy multiplies its other extents all the same."""
    try:
        return numpy.empty((*ref.shape, *element.shape), element.base)
    except ValueError as error:
        raise LimitError(
            "numpy has no array of this shape, although it would be empty",
            where=f"{shown(ref.name)} {dimensions(ref.shape)}",
        ) from error
