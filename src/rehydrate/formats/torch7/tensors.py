"""Tensors and storages of Torch7: which classes they are, and what those write of themselves.

    torch.*Tensor     int dimensions, longs: sizes, strides, one long: 1 + the offset into the storage; a storage or nil
    torch.*Storage    long count, the elements

Half, Cuda and Cl (OpenCL) tensors are written as those of the processor are. A tensor without dimensions is one without
elements: Torch7 has no scalars. Everything is held against the storage before a reference is made. Source:
`generic/Tensor.c` and `generic/Storage.c` of torch7 and cutorch.
"""

from __future__ import annotations

import re

from rehydrate.checkpoint.tensor import Storage, TensorRef, Window, row_major
from rehydrate.dtypes import BY_NAME, DType
from rehydrate.errors import CorruptError
from rehydrate.formats.torch7.encodings import Encoding
from rehydrate.limits import Limits
from rehydrate.pickles.torch_names import nowhere
from rehydrate.text import dimensions

__all__ = ["as_tensor", "read_storage", "read_window", "stem_of", "tensor_on"]

_ELEMENTS = {
    "Byte": "uint8", "Char": "int8", "Short": "int16", "Int": "int32", "Float": "float32", "Double": "float64",
    "Half": "float16", "Cuda": "float32", "CudaByte": "uint8", "CudaChar": "int8", "CudaShort": "int16",
    "CudaInt": "int32", "CudaDouble": "float64", "CudaHalf": "float16", "Cl": "float32",
}  # fmt: skip
"""Stem of the class → element type. The elements of longs are as wide as the file's longs."""
_LONGS = ("Long", "CudaLong")
_CLASS = re.compile(r"torch\.(\w{2,10})(Tensor|Storage)")


def stem_of(name: str) -> tuple[str, bool] | None:
    """`Float` of `torch.FloatTensor` and whether it is a tensor; None for a class that is neither tensor nor storage.

    >>> stem_of("torch.CudaHalfStorage"), stem_of("nn.Linear")
    (('CudaHalf', False), None)
    """
    match = _CLASS.fullmatch(name)
    if match is None or (match[1] not in _ELEMENTS and match[1] not in _LONGS):
        return None
    return match[1], match[2] == "Tensor"


def read_window(encoding: Encoding, stem: str, limits: Limits) -> Window:
    """What a tensor says of itself; its storage follows."""
    dtype = _element(encoding, stem)
    count = encoding.integer()
    if not 0 <= count <= limits.dimensions:
        raise CorruptError("a tensor cannot have so many dimensions", where=_place(encoding), found=f"{count:,}")
    shape, strides = encoding.longs(count), encoding.longs(count)
    (offset,) = encoding.longs(1)
    if min((*shape, *strides), default=0) < 0:
        raise CorruptError(
            "a tensor cannot have these sizes",
            where=_place(encoding),
            found=f"sizes {dimensions(shape)}, strides {dimensions(strides)}",
        )
    if offset < 1:
        raise CorruptError("a tensor begins before its storage", where=_place(encoding), found=f"offset {offset:,}")
    return Window(dtype, shape, strides, offset - 1) if count else Window(dtype, (0,), (1,), offset - 1)


def tensor_on(window: Window, storage: object, encoding: Encoding) -> TensorRef:
    """The tensor that this window shows of whatever stands where its storage must."""
    if storage is None:
        storage = Storage("", window.dtype, 0, "cpu", nowhere)
    if type(storage) is not Storage or storage.dtype is not window.dtype:
        raise CorruptError("a tensor's storage is none, or one of another type", where=_place(encoding))
    if window.reach > storage.nbytes:
        raise CorruptError(
            "a tensor reaches beyond its storage",
            where=_place(encoding),
            found=f"{window.reach:,} bytes; the storage has {storage.nbytes:,}",
        )
    return TensorRef("", window, storage)


def read_storage(encoding: Encoding, stem: str, index: int) -> Storage:
    """A storage, whose elements are stepped over."""
    dtype = _element(encoding, stem)
    (count,) = encoding.longs(1)
    if count < 0:
        raise CorruptError("a storage cannot have so many elements", where=_place(encoding), found=f"{count:,}")
    at = encoding.at
    find, entry = encoding.elements(dtype, count)
    location = "cuda" if stem.startswith("Cuda") else "cpu"
    return Storage(str(index), dtype, count * dtype.itemsize, location, find, entry, at)


def as_tensor(storage: Storage) -> TensorRef:
    """All of a storage, as a tensor of one dimension: what it is where it stands alone, such as a list of sizes."""
    shape = (storage.nbytes // storage.dtype.itemsize,)
    return TensorRef("", Window(storage.dtype, shape, row_major(shape)), storage)


def _element(encoding: Encoding, stem: str) -> DType:
    return BY_NAME[f"int{8 * encoding.long}" if stem in _LONGS else _ELEMENTS[stem]]


def _place(encoding: Encoding) -> str:
    return f"byte {encoding.at:,}"
