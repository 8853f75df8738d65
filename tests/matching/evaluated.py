"""Values worked out by numpy, and tensors to try rules on: what a rule gives is held against numpy's own functions."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy

import rehydrate as rh
from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.matching.values import Cast, Derived, Joined, Padded, Permuted, Reshaped, Sliced, Value

Array = numpy.ndarray[Any, Any]


def opened(arrays: Mapping[str, Array]) -> rh.Checkpoint:
    """A checkpoint with these tensors."""
    file = io.BytesIO()
    numpy.savez(file, **arrays)
    return rh.open(file.getvalue())


def tensors(*shapes: tuple[str, tuple[int, ...]], dtype: str = "float32") -> dict[str, Array]:
    """Tensors of these names and shapes, no two numbers the same."""
    found: dict[str, Array] = {}
    at = 0
    for name, shape in shapes:
        count = int(numpy.prod(shape))
        found[name] = numpy.arange(at, at + count, dtype=dtype).reshape(shape)
        at += count
    return found


def named(*names: str) -> dict[str, Any]:
    """Tensors of which only the names matter."""
    ref = next(iter(opened({"x": numpy.zeros(2, "float32")}).values()))
    return {name: ref.named(name) for name in names}


def numbers(value: Value) -> Array:
    """The elements of a value, worked out in the plainest way."""
    if isinstance(value, TensorRef):
        return value.numpy()
    sources = [numbers(source) for source in value.sources]
    array: Array = _WAYS[type(value.how)](value, sources)
    assert array.shape == value.shape
    return array


_WAYS: dict[type, Callable[[Derived, list[Array]], Array]] = {
    Joined: lambda value, sources: numpy.concatenate(sources, axis=value.how.axis),
    Permuted: lambda value, sources: numpy.transpose(sources[0], value.how.order),
    Reshaped: lambda value, sources: sources[0].reshape(value.shape),
    Sliced: lambda value, sources: sources[0].take(range(value.how.start, value.how.stop), axis=value.how.axis),
    Padded: lambda value, sources: _padded(value, sources[0]),
    Cast: lambda value, sources: sources[0].astype(value.dtype.name),
}  # type: ignore[dict-item, union-attr]


def _padded(value: Derived, source: Array) -> Array:
    widths = [(0, new - old) for new, old in zip(value.shape, source.shape, strict=True)]
    return numpy.pad(source, widths, constant_values=value.how.fill)  # type: ignore[union-attr]
