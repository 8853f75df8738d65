"""Layers in layers: a model whose names are levels of dictionaries instead of words with dots between.

    {"conv1": {"weight": …, "bias": …}, "fc": {"weight": …, "bias": …}}

Keras, flax and Megatron save so; Keras 3 numbers the tensors of a layer. It is one model, and two state dicts side by
side are two: what tells them apart is that names in layers have no dots, and that a layer is a few tensors and nothing
else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.checkpoint.wrappers import words_of

__all__ = ["Nesting"]

_DEEPEST = 16
"""Levels of layers; flax's transformers have eight."""
_WEIGHTS = frozenset({"weight", "weights", "kernel", "embedding", "embeddings", "w", "filter", "filters"})
"""What a layer calls its matrix. Curves, statistics and images have other names."""
_NUMBERED = "vars"
"""Where a layer of Keras 3 has its weights, under their numbers."""
_MODELS = frozenset({"checkpoint", "model", "model_state_dict", "params", "state_dict", "weights"})
"""What a whole model is called, and a layer is not."""
_APART = frozenset(
    {
        "averaged", "criterion", "discriminator", "ema", "generator", "loss", "opt", "optim", "optimizer", "state",
        "student", "swa", "target", "teacher",
    }
)  # fmt: skip
"""Words in the name of what stands beside a model and is none of its layers."""
_GAN = frozenset({"d", "g", "netd", "netg"})
"""The same, as whole names."""


class _Layer(NamedTuple):
    """What is known of a dictionary and all below it."""

    is_pure: bool = False
    """Whether there are tensors and layers only, under the names of such."""
    is_weighty: bool = False
    """Whether there is a matrix called as matrices are."""
    is_leaf: bool = False
    """Whether there are tensors directly in it."""
    height: int = 1


class Nesting:
    """Answers for the dictionaries of one tree. Each is looked at once, however many others hold it."""

    def __init__(self) -> None:
        self._known: dict[int, _Layer] = {}

    def is_model(self, part: Mapping[str, object]) -> bool:
        """Whether the dictionaries in a dictionary are the layers of one model."""
        language = part.get("language_model")
        if isinstance(language, dict) and isinstance(language.get("embedding"), dict):  # Megatron mixes dots and levels
            return True
        layers = [child for child in part.values() if isinstance(child, dict)]
        if len(layers) < 2:
            return False
        found = self._layer(part)
        if not found.is_pure or not found.is_weighty:
            return False
        return sum(map(bool, layers)) > 1 or found.height > 2  # one layer of several: it has to look like Keras

    def _layer(self, root: Mapping[str, object]) -> _Layer:
        known = self._known
        if id(root) in known:
            return known[id(root)]
        known[id(root)] = _Layer()  # what holds itself is not made of layers
        stack = [(root, iter(root.values()))] if _could_be(root) else []
        while stack:
            layer, inside = stack[-1]
            for child in inside:
                if isinstance(child, dict) and id(child) not in known:
                    known[id(child)] = _Layer()
                    if _could_be(child):
                        stack.append((child, iter(child.values())))
                        break
            else:
                stack.pop()
                known[id(layer)] = self._judged(layer)
        return known[id(root)]

    def _judged(self, layer: Mapping[str, object]) -> _Layer:
        """A dictionary that could be a layer and whose inner ones are known."""
        is_weighty = is_leaf = False
        height = 1
        for key, value in layer.items():
            if isinstance(value, TensorRef):
                is_leaf = True
                is_weighty = is_weighty or (len(value.shape) > 1 and key.lower().partition(":")[0] in _WEIGHTS)
            elif isinstance(value, dict):
                inner = self._known[id(value)]
                if not inner.is_pure or (inner.is_leaf and key in _MODELS):
                    return _Layer()
                is_weighty = is_weighty or inner.is_weighty or (key == _NUMBERED and _has_matrix(value))
                height = max(height, inner.height + 1)
        return _Layer(height <= _DEEPEST, is_weighty, is_leaf, height)


def _has_matrix(numbered: Mapping[str, object]) -> bool:
    return any(
        isinstance(value, TensorRef) and len(value.shape) > 1 and key.isdecimal() for key, value in numbered.items()
    )


def _could_be(layer: Mapping[Any, object]) -> bool:
    """Whether there are tensors and dictionaries only, under the names that layers have."""
    for key, value in layer.items():
        if not isinstance(key, str):
            return False
        if isinstance(value, TensorRef):
            if "." in key:
                return False
        elif isinstance(value, dict):
            if key.lower() in _GAN or not _APART.isdisjoint(words_of(key)):
                return False
        elif value is not None:
            return False
    return True
