"""Numbers that no model means: NaN and infinity, counted in every tensor, a piece at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass

from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.errors import RehydrateError
from rehydrate.text import shown

__all__ = ["Strange", "strange_numbers"]

_STEP = 8 << 20
"""Bytes that are looked at at once; a multiple of every element's size."""


@dataclass(frozen=True, slots=True)
class Strange:
    """How many numbers of a tensor are none, or have no end."""

    tensor: str
    nan: int
    inf: int

    def __str__(self) -> str:
        parts = [f"{number:,} {what}" for number, what in ((self.nan, "NaN"), (self.inf, "infinite")) if number]
        return f"{shown(self.tensor)}: {' and '.join(parts)}"


def strange_numbers(refs: Mapping[str, TensorRef], without: Set[str]) -> tuple[Strange, ...]:
    """The tensors that have any; those in `without`, whose bytes are not all there, and broken ones are left out."""
    found: list[Strange] = []
    for name, ref in refs.items():
        if name in without or ref.dtype.kind not in ("float", "complex") or ref.storage.location == "meta":
            continue
        try:
            nan, inf = _counted(ref)
        except RehydrateError:
            continue  # damage is told elsewhere
        if nan or inf:
            found.append(Strange(name, nan, inf))
    return tuple(found)


def _counted(ref: TensorRef) -> tuple[int, int]:
    import numpy

    nan = inf = 0
    for part in _parts(ref):
        values = part.numpy()
        nan += int(numpy.isnan(values).sum())
        inf += int(numpy.isinf(values).sum())
    return nan, inf


def _parts(ref: TensorRef) -> Iterator[TensorRef]:
    """The tensor in slices of bounded size, along the dimension in which it is spread out most in its storage."""
    if not ref.shape or ref.nbytes <= _STEP:
        yield ref
        return
    axis = max(range(len(ref.shape)), key=lambda axis: ref.strides[axis] if ref.shape[axis] > 1 else -1)
    if ref.strides[axis] == 0:  # nothing is left but dimensions in which all elements are the same one
        yield ref[(0,) * len(ref.shape)]
        return
    extent = ref.shape[axis]
    step = max(extent * _STEP // ref.nbytes, 1)
    before = (slice(None),) * axis
    for at in range(0, extent, step):
        part = ref[(*before, slice(at, at + step) if step > 1 else at)]
        yield from _parts(part) if step == 1 else (part,)
