"""Values: tensors as a model wants them, made of those that a file has, and not computed yet.

Whatever only looks at a file's bytes in another way (a transposed matrix, a third of a fused projection, some rows)
stays a `TensorRef` with another window, and costs nothing. What needs numbers that the file does not hold as they are
is a `Derived`: from which values, how, and what comes out. Nothing here reads or computes; `placing.deriving` does.

Each function raises `ValueError` in a sentence where the shapes do not allow it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rehydrate.checkpoint.tensor import TensorRef, row_major
from rehydrate.dtypes import DType
from rehydrate.text import dimensions

__all__ = [
    "Cast", "Derived", "How", "Interpolated", "Joined", "Padded", "Permuted", "Repeated", "Reshaped", "Sliced",
    "Summed", "Value", "cast", "interpolated", "joined", "padded", "permuted", "repeated", "reshaped", "sliced",
    "stacked", "summed",
]  # fmt: skip


_WITH_FRACTIONS = ("float", "complex")


@dataclass(frozen=True, slots=True)
class Permuted:
    """The dimensions in another order, as of `torch.permute`."""

    order: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reshaped:
    """The same elements, last dimension fastest, in the shape of the result."""


@dataclass(frozen=True, slots=True)
class Sliced:
    """A run along one dimension."""

    axis: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Joined:
    """One behind the other along a dimension that they have, as of `torch.cat`."""

    axis: int


@dataclass(frozen=True, slots=True)
class Padded:
    """Followed along one dimension by copies of one number until the result's shape is reached."""

    axis: int
    fill: float


@dataclass(frozen=True, slots=True)
class Interpolated:
    """Resampled along the dimensions that differ, bicubic for two and linear for one.

    `grid` has the extents that the elements along `axis` behind the first `kept` are laid out in, and `onto` those that
    they are resampled to: position embeddings of a picture. Without a grid, the dimensions themselves are resampled.
    """

    axis: int
    kept: int
    grid: tuple[int, ...]
    onto: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Summed:
    """Groups of equal length along a dimension added up into one: `groups` of them remain."""

    axis: int
    groups: int


@dataclass(frozen=True, slots=True)
class Repeated:
    """Repeated along a dimension up to the result's extent, scaled by old / new so that sums stay the same."""

    axis: int


@dataclass(frozen=True, slots=True)
class Cast:
    """Of another dtype."""


How = Permuted | Reshaped | Sliced | Joined | Padded | Interpolated | Summed | Repeated | Cast


@dataclass(frozen=True, slots=True)
class Derived:
    """A tensor that is computed from others when it is placed."""

    name: str
    """What it is called; where several were put together, the name that a rule gave it."""
    how: How
    sources: tuple[Value, ...]
    shape: tuple[int, ...]
    dtype: DType

    @property
    def numel(self) -> int:
        """How many elements there are."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.numel * self.dtype.itemsize

    @property
    def refs(self) -> tuple[TensorRef, ...]:
        """The tensors of the file that it is made of, each once, in order."""
        found: dict[int, TensorRef] = {}
        for source in self.sources:
            found |= {id(ref): ref for ref in ((source,) if isinstance(source, TensorRef) else source.refs)}
        return tuple(found.values())

    def named(self, name: str) -> Derived:
        """The same tensor under a name."""
        return replace(self, name=name)

    def __repr__(self) -> str:
        return f"<{self.name} {self.dtype} {dimensions(self.shape)}, {type(self.how).__name__.lower()}>"


Value = TensorRef | Derived


def permuted(value: Value, order: Sequence[int]) -> Value:
    """The dimensions in another order; `permuted(value, (1, 0))` is the transposed matrix."""
    if sorted(order) != list(range(len(value.shape))):
        raise ValueError(f"{tuple(order)} is no order of the dimensions of {dimensions(value.shape)}")
    shape = tuple(value.shape[axis] for axis in order)
    if isinstance(value, TensorRef):
        return _seen(value, shape, tuple(value.strides[axis] for axis in order), value.offset)
    return Derived(value.name, Permuted(tuple(order)), (value,), shape, value.dtype)


def reshaped(value: Value, shape: Sequence[int]) -> Value:
    """The same elements in another shape, in which one extent may be -1."""
    known = math.prod(extent for extent in shape if extent != -1)
    full = tuple(value.numel // known if extent == -1 and known else extent for extent in shape)
    if list(shape).count(-1) > 1 or math.prod(full) != value.numel or min(full, default=0) < 0:
        raise ValueError(f"{dimensions(value.shape)} cannot be reshaped to {dimensions(tuple(shape))}")
    if isinstance(value, TensorRef) and value.window.is_row_major:
        return _seen(value, full, row_major(full), value.offset)
    return Derived(value.name, Reshaped(), (value,), full, value.dtype)


def sliced(value: Value, axis: int, start: int, stop: int) -> Value:
    """The elements from `start` up to `stop` along one dimension."""
    _check_axis(value, axis)
    if not 0 <= start <= stop <= value.shape[axis]:
        raise ValueError(f"there are no elements {start} to {stop} along dimension {axis} of {dimensions(value.shape)}")
    if isinstance(value, TensorRef):
        return value[(*(slice(None),) * axis, slice(start, stop))]
    return Derived(value.name, Sliced(axis, start, stop), (value,), _with(value.shape, axis, stop - start), value.dtype)


def joined(values: Sequence[Value], axis: int, name: str) -> Value:
    """Several, one behind the other along `axis`."""
    if not values:
        raise ValueError("there is nothing to put together")
    first = values[0]
    _check_axis(first, axis)
    if any(_with(value.shape, axis, 0) != _with(first.shape, axis, 0) for value in values if _check_axis(value, axis)):
        raise ValueError(f"shapes that differ beside dimension {axis} cannot be put together: {_shapes(values)}")
    if any(value.dtype != first.dtype for value in values):
        raise ValueError(f"{' and '.join(sorted({str(value.dtype) for value in values}))} cannot be put together")
    length = sum(value.shape[axis] for value in values)
    return Derived(name, Joined(axis), tuple(values), _with(first.shape, axis, length), first.dtype)


def stacked(values: Sequence[Value], axis: int, name: str) -> Value:
    """Several of one shape along a new dimension."""
    wide = []
    for value in values:
        if not 0 <= axis <= len(value.shape):
            raise ValueError(f"{dimensions(value.shape)} has no place for a dimension {axis}")
        wide.append(reshaped(value, (*value.shape[:axis], 1, *value.shape[axis:])))
    return joined(wide, axis, name)


def padded(value: Value, axis: int, length: int, fill: float = 0.0) -> Value:
    """Made longer along one dimension by copies of a number."""
    _check_axis(value, axis)
    if length < value.shape[axis]:
        raise ValueError(f"{dimensions(value.shape)} is longer than {length} along dimension {axis}")
    return Derived(value.name, Padded(axis, fill), (value,), _with(value.shape, axis, length), value.dtype)


def interpolated(value: Value, *, axis: int, kept: int = 0, grid: Sequence[int], onto: Sequence[int]) -> Value:
    """Resampled: the elements along `axis` behind the first `kept` lie in `grid`, and come to lie in `onto`."""
    _check_axis(value, axis)
    if value.dtype.kind != "float":
        raise ValueError(f"{value.dtype} numbers cannot be interpolated")
    if not grid or len(grid) != len(onto) or len(grid) > 3 or min(*grid, *onto) < 1:
        raise ValueError(f"a grid of {dimensions(tuple(grid))} cannot be resampled to {dimensions(tuple(onto))}")
    if math.prod(grid) + kept != value.shape[axis]:
        raise ValueError(f"{value.shape[axis]} elements are no {dimensions(tuple(grid))} behind the first {kept}")
    how = Interpolated(axis, kept, tuple(grid), tuple(onto))
    return Derived(value.name, how, (value,), _with(value.shape, axis, math.prod(onto) + kept), value.dtype)


def summed(value: Value, axis: int, groups: int) -> Value:
    """Added up along one dimension, so that `groups` elements of it remain."""
    _check_axis(value, axis)
    if value.dtype.kind not in _WITH_FRACTIONS:  # small whole numbers would run over
        raise ValueError(f"{value.dtype} numbers cannot be added up")
    if groups < 1 or value.shape[axis] % groups:
        raise ValueError(f"{value.shape[axis]} elements cannot be added up in {groups} groups of equal length")
    return Derived(value.name, Summed(axis, groups), (value,), _with(value.shape, axis, groups), value.dtype)


def repeated(value: Value, axis: int, length: int) -> Value:
    """Repeated along one dimension and scaled, so that what sums over it gives the same for repeated input."""
    _check_axis(value, axis)
    if value.dtype.kind not in _WITH_FRACTIONS:
        raise ValueError(f"{value.dtype} numbers cannot be brought to another scale")
    if not value.shape[axis] or length < 1:
        raise ValueError(f"{dimensions(value.shape)} cannot be repeated along dimension {axis}")
    return Derived(value.name, Repeated(axis), (value,), _with(value.shape, axis, length), value.dtype)


def cast(value: Value, dtype: DType) -> Value:
    """Of another dtype."""
    return value if value.dtype == dtype else Derived(value.name, Cast(), (value,), value.shape, dtype)


def _seen(ref: TensorRef, shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> TensorRef:
    """Another window on the same storage."""
    return TensorRef(ref.name, replace(ref.window, shape=shape, strides=strides, offset=offset), ref.storage)


def _check_axis(value: Value, axis: int) -> bool:
    if not 0 <= axis < len(value.shape):
        raise ValueError(f"{dimensions(value.shape)} has no dimension {axis}")
    return True


def _with(shape: tuple[int, ...], axis: int, extent: int) -> tuple[int, ...]:
    return (*shape[:axis], extent, *shape[axis + 1 :])


def _shapes(values: Sequence[Value]) -> str:
    return ", ".join(dimensions(value.shape) for value in values)
