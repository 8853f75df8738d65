"""TensorRef: a tensor that has not been read yet.

A storage is a run of elements' bytes, made of pieces that lie somewhere in a source. A tensor reference is a strided
window on a storage, exactly as in torch: dtype, shape, strides and an offset, the last two counted in elements. Two
references share memory when their `storage` is the same object; a checkpoint makes one for each (source, key).

Nothing is read until `.numpy()`, `.torch()` or the placing floor asks. This file knows no format; torch and numpy are
loaded only when a tensor is asked to become one of theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from operator import index as index_of
from types import EllipsisType
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex

from rehydrate.dtypes import DType
from rehydrate.errors import RebuildError
from rehydrate.storage.source import Source
from rehydrate.text import dimensions, shown

if TYPE_CHECKING:
    import numpy
    import torch

__all__ = ["NO_TRAITS", "Piece", "Storage", "StorageView", "TensorRef", "Window", "one_piece", "row_major"]

Part = SupportsIndex | slice | EllipsisType
"""What chooses along one dimension."""


class Piece(NamedTuple):
    """Some bytes of a storage, where they lie, and how they are coded there."""

    source: Source
    start: int
    length: int
    at: int = 0
    """The first byte of the storage that this piece holds."""
    coding: str = "raw"
    """`raw`: as they are in memory. `big-endian`: each element the other way round."""


def one_piece(entry: tuple[Any, ...]) -> tuple[Piece, ...]:
    """The pieces of a storage that lies in one: `entry` is that piece, or what it is made of, for a file has many."""
    return (Piece(*entry),)


# A file has one Storage and one TensorRef for every tensor. They are not frozen because a frozen dataclass takes twice
# as long to make; nothing changes them, and nothing may.


@dataclass(slots=True, eq=False)
class Storage:
    """What torch calls a storage: elements' bytes that several tensors may look at."""

    key: str
    """Its name in the file. With the source it is the storage's identity."""
    dtype: DType
    """The element type of torch's typed storages; uint8 for untyped bytes, as torch reads them."""
    nbytes: int
    location: str
    """Where it lived when it was saved: `cpu`, `cuda:0`, `mps`, ...; it never decides where it goes."""
    find: Callable[[Any], tuple[Piece, ...]] = field(repr=False)
    """Finds the pieces of `entry`. Called when bytes are wanted and not before: opening must not walk a file.

    No method of an object that has the storage in a table: that is a circle, and the storages of a file that is closed
    would wait for the collector.
    """
    entry: Any = field(default=None, repr=False)
    """Whatever the format knows the bytes by; only `find` looks at it."""
    order: int = 0
    """Roughly where it lies in its source. Storages located in this order are located in one pass forward."""

    def locate(self) -> tuple[Piece, ...]:
        """The pieces, in the order of their `at`; none for a storage that was saved without data.

        Together they are the whole storage. All have one coding.
        """
        return self.find(self.entry)

    @property
    def held(self) -> int:
        """Bytes, from the first, that are in the file without a gap: all, unless it was cut."""
        held = 0
        for piece in self.locate():
            there = min(piece.length, piece.source.size - piece.start)
            if piece.at != held or there < piece.length:
                return held + (max(there, 0) if piece.at == held else 0)
            held += piece.length
        return held

    def read(self, start: int, length: int) -> tuple[bytes, str]:
        """`length` bytes from `start`, and their coding."""
        found: list[bytes] = []
        coding = "raw"
        end = start + length
        for piece in self.locate():
            if piece.at <= start < piece.at + piece.length and start < end:
                count = min(end, piece.at + piece.length) - start
                found.append(piece.source.read(piece.start + start - piece.at, count))
                coding = piece.coding
                start += count
        if start == end:
            return found[0] if len(found) == 1 else b"".join(found), coding
        raise RebuildError(
            "this tensor has no data in the file",
            where=f"storage {shown(self.key)}",
            hint="it was saved from the meta device: only its shape and dtype were kept",
        )


@dataclass(slots=True, eq=False)
class StorageView(Storage):
    """A run of another storage that torch's oldest files name as if it were a storage of its own.

    A tensor on it becomes a tensor on the whole, so that what shared memory still does.
    """

    whole: Storage = field(kw_only=True)
    shift: int = field(kw_only=True)
    """Bytes of the whole before its first."""


NO_TRAITS: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Window:
    """How a tensor looks at its storage. Tensors of one layer's kind share theirs: a file has few."""

    dtype: DType
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    """Elements between neighbours along each dimension."""
    offset: int = 0
    """Elements of the storage before the first one."""
    traits: frozenset[str] = NO_TRAITS
    """Any of `parameter`, `requires_grad`, `conj`, `neg`, as torch keeps them beside a tensor's bytes; `array` for one
    of numpy's in a pickle."""

    @property
    def extent(self) -> int:
        """Elements of the storage from the first to the last that it shows."""
        last = 0
        for extent, stride in zip(self.shape, self.strides, strict=True):
            if extent == 0:
                return 0
            last += (extent - 1) * stride
        return last + 1

    @property
    def reach(self) -> int:
        """Bytes that a storage must have for every element to lie in it."""
        extent = self.extent
        return -(-(self.offset + extent) // self.dtype.per_byte) * self.dtype.itemsize if extent else 0

    @property
    def is_row_major(self) -> bool:
        """Whether the elements lie side by side, the last dimension fastest."""
        return self.strides == row_major(self.shape)


@dataclass(slots=True, eq=False)
class TensorRef:
    """A window on a storage, with the name it has in its checkpoint.

    >>> import rehydrate as rh, io, torch
    >>> buffer = io.BytesIO(); torch.save({"fc.weight": torch.arange(6.0).reshape(2, 3)}, buffer)
    >>> with rh.open(buffer) as checkpoint:
    ...     ref = checkpoint["fc.weight"]
    ...     print(ref.shape, ref.dtype, ref[1].numpy())
    (2, 3) float32 [3. 4. 5.]
    """

    name: str
    window: Window
    storage: Storage

    @property
    def dtype(self) -> DType:
        """The element type."""
        return self.window.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """The extents."""
        return self.window.shape

    @property
    def strides(self) -> tuple[int, ...]:
        """Elements between neighbours along each dimension."""
        return self.window.strides

    @property
    def offset(self) -> int:
        """Elements of the storage before the first one."""
        return self.window.offset

    @property
    def traits(self) -> frozenset[str]:
        """What torch keeps beside the bytes; see `Window.traits`."""
        return self.window.traits

    @property
    def numel(self) -> int:
        """How many elements there are."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all elements; what a contiguous copy takes."""
        return self.numel * self.dtype.itemsize

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """Where the storage's bytes lie."""
        return self.storage.locate()

    @property
    def is_whole(self) -> bool:
        """Whether every byte that it shows is in the file; some are not where the file was cut."""
        reach = self.window.reach
        return not reach or self.storage.held >= reach

    def numpy(self) -> numpy.ndarray[Any, Any]:
        """An array of its own: writable, contiguous, valid after the checkpoint is closed.

        bfloat16 and float8 come as `ml_dtypes`; complex32, which numpy lacks, is widened to complex64; quantised
        tensors give their integers. Raises `LimitError` for an expanded tensor that would not fit any file.
        """
        from rehydrate.checkpoint.arrays import read_array

        return read_array(self)

    def torch(self, *, device: str | torch.device | None = None) -> torch.Tensor:
        """A torch tensor of its own, on `device` (the CPU when None).

        Raises `RebuildError` for what cannot stand alone: a quantised tensor, or one of the meta device.
        """
        import torch

        from rehydrate.checkpoint.arrays import read_elements

        if self.storage.location == "meta" or self.dtype.kind == "quantized":
            raise RebuildError(
                f"{shown(self.name) or 'this tensor'} cannot stand alone",
                found=f"a {self.dtype} tensor saved on {shown(self.storage.location)}",
                hint="rh.load(...) builds it with what belongs to it",
            )
        raw = torch.from_numpy(read_elements(self).reshape(-1).view("uint8"))
        dtype = getattr(torch, self.dtype.name)
        tensor = raw.view(dtype) if raw.numel() else torch.empty(0, dtype=dtype)
        tensor = tensor.reshape(self.shape)
        if "conj" in self.traits:
            tensor = tensor.conj().resolve_conj()
        if "neg" in self.traits:
            tensor = torch._neg_view(tensor).resolve_neg()
        return tensor.to(device)

    def named(self, name: str) -> TensorRef:
        """The same tensor under a name."""
        return TensorRef(name, self.window, self.storage)

    def __getitem__(self, index: Part | tuple[Part, ...]) -> TensorRef:
        """A part of it, by basic indexing: integers, slices with a positive step, and one `...`.

        Reading the result reads only the bytes from its first to its last element.
        """
        shape, strides, offset = _indexed(self, index if isinstance(index, tuple) else (index,))
        window = replace(self.window, shape=shape, strides=strides, offset=offset)
        return TensorRef(self.name, window, self.storage)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a 0-d tensor")
        return self.shape[0]

    def __repr__(self) -> str:
        name = f"{shown(self.name)} " if self.name else ""
        return f"<{name}{self.dtype} {dimensions(self.shape)}>"


def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of a contiguous tensor.

    >>> row_major((2, 3, 4))
    (12, 4, 1)
    """
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * max(shape[axis + 1], 1)
    return tuple(strides)


def _indexed(ref: TensorRef, index: tuple[object, ...]) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    at = next((at for at, chosen in enumerate(index) if chosen is Ellipsis), None)
    if at is not None:
        fill = len(ref.shape) - (len(index) - 1)
        index = (*index[:at], *(slice(None),) * fill, *index[at + 1 :])
    if len(index) > len(ref.shape):
        raise IndexError(f"too many indices for a tensor of {len(ref.shape)} dimensions")
    shape: list[int] = []
    strides: list[int] = []
    offset = ref.offset
    for axis, (extent, stride) in enumerate(zip(ref.shape, ref.strides, strict=True)):
        chosen = index[axis] if axis < len(index) else slice(None)
        if isinstance(chosen, slice):
            start, stop, step = chosen.indices(extent)
            if step < 1:
                raise ValueError("a slice of a tensor reference needs a positive step")
            shape.append(len(range(start, stop, step)))
            strides.append(stride * step)
            offset += stride * start if shape[-1] else 0
        else:
            if not isinstance(chosen, SupportsIndex) or isinstance(chosen, bool):
                raise TypeError(f"a tensor reference is indexed by integers and slices, not {type(chosen).__name__}")
            number = index_of(chosen)
            if not -extent <= number < extent:
                raise IndexError(f"index {number} is out of range for dimension {axis} of size {extent}")
            offset += stride * (number % extent)
    return tuple(shape), tuple(strides), offset
