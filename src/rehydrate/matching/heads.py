"""Heads: when all of a network fits but its last layer, that is said by the layer's name and its classes.

It is the difference that fine-tuning starts from. Told from names and shapes alone: a layer whose outputs differ in
number and that nothing follows, for all else fits. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rehydrate.matching.matcher import Found
from rehydrate.matching.pairs import Target
from rehydrate.matching.values import Value
from rehydrate.text import shown

__all__ = ["head_of"]

_TENSORS = 6
"""Of a head on one side; two or three layers."""
_LAYERS = 3
_FILLED = 2
"""Tensors that fit for each one that does not, at least: a head is the smaller part."""
_WORDS = frozenset(
    {"head", "heads", "fc", "classifier", "linear", "last_linear", "logits", "score", "cls", "lm_head", "out", "output"}
)  # fmt: skip
_ROWS = ("embed", "wte", "wpe", "token", "vocab", "lm_head", "decoder", "predictions")
"""What the names of tensors with a row for each word have in them."""


def head_of(found: Found, order: Sequence[str]) -> str:
    """What the head is, in words, if it is all that differs; else nothing. `order` has the model's names, in order."""
    if len(found.mismatched) + len(found.targets) > _TENSORS or len(found.sources) > _TENSORS:
        return ""
    if found.mismatched and not found.targets and not found.sources:
        return _resized(found)
    if not found.mismatched and (found.targets or found.sources) and _is_smaller_part(found):
        return _replaced(found, order)
    return ""


def _is_smaller_part(found: Found) -> bool:
    return len(found.pairs) >= _FILLED * max(len(found.targets), len(found.sources))


def _resized(found: Found) -> str:
    """One layer of other rows: `the head: fc, 1000 → 3 classes`."""
    layers = _layers(found.mismatched)
    if len(layers) > _LAYERS:
        return ""
    changes: set[tuple[int, int]] = set()
    for wrong in found.mismatched.values():
        here, there = wrong.source.shape, wrong.target.shape
        if not here or not there or here[1:] != there[1:]:
            return ""
        changes.add((here[0], there[0]))
    if all(any(word in layer.lower() for word in _ROWS) for layer in layers):
        noun, what = "the vocabulary", "rows"
    elif _is_smaller_part(found) or len(found.mismatched) <= 2:
        noun, what = "the head", "classes"
    else:
        return ""
    sizes = ", ".join(f"{one} → {other}" for one, other in sorted(changes)[:_LAYERS])
    return f"{noun}: {', '.join(shown(layer, 60) for layer in layers)}, {sizes} {what}"


def _replaced(found: Found, order: Sequence[str]) -> str:
    """Another layer in its place: `the head: fc (1000 classes) in the file, classifier (3 classes) in the model`."""
    here, there = _layers(found.sources), _layers(found.targets)
    if len(here) > _LAYERS or len(there) > _LAYERS:
        return ""
    is_head = _are_heads(there, found.targets) and _are_heads(here, found.sources)
    if not is_head and not (there and list(found.targets) == list(order[-len(found.targets) :])):
        return ""
    sides = []
    if here:
        sides.append(f"{_named(here, found.sources.values())} in the file")
    if there:
        sides.append(f"{_named(there, found.targets.values())} in the model")
    alone = "" if here and there else ", none in the model" if here else ", none in the file"
    return f"the head: {', '.join(sides)}{alone}"


def _are_heads(layers: Sequence[str], names: Collection[str]) -> bool:
    return not names or all(not _WORDS.isdisjoint(layer.lower().split(".")) for layer in layers)


def _named(layers: Sequence[str], tensors: Collection[Target | Value]) -> str:
    last = [tensor.shape[0] for tensor in tensors if tensor.shape]
    classes = f" ({last[-1]} classes)" if last else ""
    return ", ".join(shown(layer, 60) for layer in layers) + classes


def _layers(names: Collection[str]) -> list[str]:
    """The modules that tensors are in, in order; of a module's own parameter its name."""
    return list(dict.fromkeys(name.rpartition(".")[0] or name for name in names))
