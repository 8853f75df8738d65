"""Rules about one tensor at a time: its dimensions in another order or shape, a part of it, more of it, another dtype.

Names stay. Where a rule does not fit one of the tensors that it means, none is changed, and the error lists them.
Dimensions are counted as torch counts them: -1 is the last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rehydrate.dtypes import BY_NAME, DType
from rehydrate.matching.rules.changing import PlainRule, axis_of, changed
from rehydrate.matching.rules.patterns import pattern
from rehydrate.matching.rules.rule import Applied
from rehydrate.matching.values import Value, cast, interpolated, padded, permuted, reshaped, sliced
from rehydrate.text import dimensions, nearest, shown

if TYPE_CHECKING:
    import torch

__all__ = ["Cast", "Interpolate", "Pad", "Permute", "Reshape", "Slice", "Transpose"]


@dataclass(frozen=True, slots=True)
class Transpose(PlainRule):
    """Matrices turned round: the `Conv1D` of GPT-2 and the kernels of Keras are transposed `Linear` weights.

    Only for two dimensions; `Permute` says what is meant for more. Nothing is copied or computed.

    >>> print(Transpose("*.c_attn.weight"))
    transpose *.c_attn.weight
    """

    glob: str

    def __post_init__(self) -> None:
        pattern(self.glob)

    def apply(self, values: Mapping[str, Value]) -> Applied:
        """All tensors, those that are meant transposed. `MismatchError` where one is no matrix."""
        return changed(
            self, self.glob, values, _transposed, hint="Permute(glob, order) is for tensors of other dimensions"
        )

    def reversed(self) -> Transpose:
        """The same: twice is as before."""
        return self

    def __str__(self) -> str:
        return f"transpose {shown(self.glob)}"


@dataclass(frozen=True, slots=True)
class Permute(PlainRule):
    """Dimensions in another order, as of `torch.permute`: `order[0]` is the old dimension that comes first.

    Nothing is copied or computed.

    >>> Permute("conv.weight", (3, 2, 0, 1)).reversed().order
    (2, 3, 1, 0)
    """

    glob: str
    order: tuple[int, ...]

    def __post_init__(self) -> None:
        pattern(self.glob)
        if sorted(_counted_up(self.order)) != list(range(len(self.order))):
            raise ValueError(f"{tuple(self.order)} is no order of {len(self.order)} dimensions")

    def apply(self, values: Mapping[str, Value]) -> Applied:
        """All tensors, those that are meant permuted. `MismatchError` where one has other dimensions."""
        return changed(self, self.glob, values, lambda value: permuted(value, _counted_up(self.order)))

    def reversed(self) -> Permute:
        """The order back."""
        order = _counted_up(self.order)
        return Permute(self.glob, tuple(order.index(axis) for axis in range(len(order))))

    def __str__(self) -> str:
        return f"permute {shown(self.glob)} to {dimensions(self.order)}"


@dataclass(frozen=True, slots=True)
class Reshape(PlainRule):
    """The same elements in another shape, the last dimension fastest; one extent may be -1, and is what is left.

    >>> print(Reshape("*.position_ids", (1, -1)))
    reshape *.position_ids to [1, -1]
    """

    glob: str
    shape: tuple[int, ...]
    lost: ClassVar[str] = "the shape before is not known"

    def __post_init__(self) -> None:
        pattern(self.glob)
        if min(self.shape, default=0) < -1 or list(self.shape).count(-1) > 1:
            raise ValueError(f"{dimensions(self.shape)} is no shape")

    def apply(self, values: Mapping[str, Value]) -> Applied:
        """All tensors, those that are meant in the new shape. `MismatchError` where the elements are not as many."""
        return changed(self, self.glob, values, lambda value: reshaped(value, self.shape))

    def __str__(self) -> str:
        return f"reshape {shown(self.glob)} to {dimensions(self.shape)}"


@dataclass(frozen=True, slots=True)
class Slice(PlainRule):
    """A run along one dimension: the elements from `start` up to `stop`, which None leaves at the end.

    Negative places are counted from the end, as in Python; unlike there, a run that is not all there is refused.
    Nothing is copied or computed.

    >>> print(Slice("embed.weight", 0, 0, 30522))
    take 0...30521 along dimension 0 of embed.weight
    """

    glob: str
    axis: int
    start: int = 0
    stop: int | None = None
    lost: ClassVar[str] = "what it leaves out is gone"

    def __post_init__(self) -> None:
        pattern(self.glob)

    def apply(self, values: Mapping[str, Value]) -> Applied:
        """All tensors, of those that are meant only the run. `MismatchError` where one is too short."""
        return changed(self, self.glob, values, self._part)

    def _part(self, value: Value) -> Value:
        axis = axis_of(value, self.axis)
        extent = value.shape[axis]
        stop = extent if self.stop is None else self.stop
        start, stop = (place + extent if place < 0 else place for place in (self.start, stop))
        return sliced(value, axis, start, stop)

    def __str__(self) -> str:
        if self.start >= 0 and self.stop is not None and self.stop > 0:
            part = f"{self.start}...{self.stop - 1}"
        else:
            part = f"{self.start or ''}:{'' if self.stop is None else self.stop}"
        return f"take {part} along dimension {self.axis} of {shown(self.glob)}"


@dataclass(frozen=True, slots=True)
class Pad(PlainRule):
    """Made longer along one dimension, by a number at the end: a vocabulary that grew.

    >>> print(Pad("embed.weight", 0, 50304))
    pad embed.weight to 50304 along dimension 0 by 0.0
    """

    glob: str
    axis: int
    length: int
    fill: float = 0.0
    lost: ClassVar[str] = "how long it was is not known"

    def __post_init__(self) -> None:
        pattern(self.glob)

    def apply(self, values: Mapping[str, Value]) -> Applied:
        """All tensors, those that are meant padded. `MismatchError` where one is longer already."""
        return changed(self, self.glob, values, self._longer)

    def _longer(self, value: Value) -> Value:
        axis = axis_of(value, self.axis)
        same = value.shape[axis] == self.length
        return value if same else padded(value, axis, self.length, self.fill)

    def __str__(self) -> str:
        return f"pad {shown(self.glob)} to {self.length} along dimension {self.axis} by {self.fill}"


@dataclass(frozen=True, slots=True)
class Interpolate(PlainRule):
    """Resampled: position embeddings of a picture for a picture of another size.

    The elements along `axis` behind the first `kept` (the class token, registers) lie in `grid`, and come to lie in
    `onto`: bicubic for two extents, linear for one. Without `axis` it is the last but one: that of positions both in
    `[1, positions, width]` and in `[positions, width]`.

    >>> print(Interpolate("pos_embed", (14, 14), (24, 24), kept=1))
    interpolate pos_embed from [14, 14] to [24, 24] behind the first 1
    """

    glob: str
    grid: tuple[int, ...]
    onto: tuple[int, ...]
    kept: int = 0
    axis: int = -2
    lost: ClassVar[str] = "resampling back gives other numbers"

    def __post_init__(self) -> None:
        pattern(self.glob)
        if not self.grid or len(self.grid) != len(self.onto) or min(*self.grid, *self.onto) < 1 or self.kept < 0:
            raise ValueError(f"a grid of {dimensions(self.grid)} cannot be resampled to {dimensions(self.onto)}")

    def apply(self, values: Mapping[str, Value]) -> Applied:
        """All tensors, those that are meant resampled. `MismatchError` where one has no such grid."""
        return changed(self, self.glob, values, self._resampled)

    def _resampled(self, value: Value) -> Value:
        axis = axis_of(value, self.axis)
        return interpolated(value, axis=axis, kept=self.kept, grid=tuple(self.grid), onto=tuple(self.onto))

    def __str__(self) -> str:
        behind = f" behind the first {self.kept}" if self.kept else ""
        return f"interpolate {shown(self.glob)} from {dimensions(self.grid)} to {dimensions(self.onto)}{behind}"


@dataclass(frozen=True, slots=True)
class Cast(PlainRule):
    """Of another dtype, named as torch names it: `"float16"`, or `torch.float16` itself.

    As with `module.half()`, a type of floating or complex numbers is for tensors of those: counters and masks stay as
    they are. Any other type is for all tensors that are meant.

    >>> print(Cast("*", "torch.bfloat16"))
    cast * to bfloat16
    """

    glob: str
    dtype: str | torch.dtype
    lost: ClassVar[str] = "the dtype before is not known, nor what was rounded"

    def __post_init__(self) -> None:
        pattern(self.glob)
        _dtype_of(self.dtype)

    def apply(self, values: Mapping[str, Value]) -> Applied:
        """All tensors, those that are meant of the new dtype. `MismatchError` for quantised and packed ones."""
        return changed(self, self.glob, values, self._cast)

    def _cast(self, value: Value) -> Value:
        dtype = _dtype_of(self.dtype)
        if value.dtype.kind in _PACKED and value.dtype != dtype:
            raise ValueError(f"{value.dtype} is no type of numbers that could be cast")
        if value.dtype.kind == "complex" and dtype.kind not in ("complex", "bool"):
            raise ValueError(f"{value.dtype} cannot become {dtype}: its imaginary part would be lost")
        stays = dtype.kind in _FLOATING and value.dtype.kind not in _FLOATING
        return value if stays else cast(value, dtype)

    def __str__(self) -> str:
        return f"cast {shown(self.glob)} to {_dtype_of(self.dtype)}"


_FLOATING = ("float", "complex")
_PACKED = ("quantized", "bits")


def _dtype_of(dtype: object) -> DType:
    name = str(dtype).removeprefix("torch.")
    if name not in BY_NAME or BY_NAME[name].kind in _PACKED:
        near = nearest(name[:100], [each for each in BY_NAME if BY_NAME[each].kind not in _PACKED])
        raise ValueError(f"{shown(name, 40)!r} is no dtype of numbers" + (f"; did you mean {near!r}?" if near else ""))
    return BY_NAME[name]


def _transposed(value: Value) -> Value:
    if len(value.shape) != 2:
        raise ValueError(f"{dimensions(value.shape)} is no matrix")
    return permuted(value, (1, 0))


def _counted_up(order: Sequence[int]) -> tuple[int, ...]:
    """The dimensions of an order counted from the first."""
    return tuple(axis + len(order) if axis < 0 else axis for axis in order)
