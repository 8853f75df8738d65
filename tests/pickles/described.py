"""What our own values look like in an outline: records, tensor references, dtypes, and state beside containers."""

from __future__ import annotations

from collections.abc import Mapping

from rehydrate.checkpoint.record import Record
from rehydrate.checkpoint.tensor import Storage, TensorRef
from rehydrate.dtypes import DType

from .outlines import Describe, Parts, outline


def _describe(value: object) -> Parts:
    if isinstance(value, Record):
        args, kwargs = value.args or (), value.kwargs
        label = (value.module, value.name, value.args is None, len(args), sorted(kwargs), len(value.items))
        return label, [*args, *(kwargs[key] for key in sorted(kwargs)), value.state, *value.items]
    if isinstance(value, TensorRef):
        window = value.window
        traits = sorted(window.traits)
        return ("tensor", window.dtype.name, window.shape, window.strides, window.offset, traits), [value.storage]
    if isinstance(value, Storage):
        return ("storage", value.key, value.dtype.name, value.nbytes, value.location, value.order), []
    if isinstance(value, DType):
        return ("dtype", value.name), []
    raise TypeError(f"an outline of {type(value)}")


def outline_of(root: object, attributes: Mapping[int, object] | None = None) -> list[object]:
    """The outline of a tree that rehydrate read, and after it the state that was given to what is in it."""
    describe: Describe = _describe
    if not attributes:
        return outline(root, describe)
    return outline([root, list(attributes.values())], describe)
