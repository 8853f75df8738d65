"""What lies in a state dict beside its tensors: extra state, packed weights, counters, words.

The tensors of a checkpoint are found by `checkpoint.weights`; here is the rest of the dictionary that they were found
in, under the names that a model knows. Nothing here looks at a model.
"""

from __future__ import annotations

from collections.abc import Mapping

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.nested import Nesting
from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.checkpoint.tree import tensors_under, value_at
from rehydrate.checkpoint.weights import Weights
from rehydrate.placing.values import is_composite

__all__ = ["has_composites", "holds_tensors", "values_beside"]


def values_beside(checkpoint: Checkpoint, weights: Weights) -> dict[str, object]:
    """Name → value, inert, of everything that is no tensor by itself; nothing for a pickled module."""
    part = value_at(checkpoint.tree, weights.path)
    if not isinstance(part, dict) or Nesting().is_model(part):
        return {}
    return {
        weights.renamed.get(name, name): value
        for name, value in part.items()
        if isinstance(name, str) and not isinstance(value, TensorRef)
    }


def has_composites(beside: Mapping[str, object]) -> bool:
    """Whether there are tensors of torch's among the values that are more than a window on a storage: sparse ones."""
    return any(is_composite(value) and holds_tensors(value) for value in beside.values())


def holds_tensors(value: object) -> bool:
    """Whether there is a tensor somewhere inside a value."""
    return next(tensors_under(value), None) is not None
