"""Heads: when all of a network fits but its last layer, that is said by the layer's name and its classes.

It is the difference that fine-tuning starts from. Told from names and shapes alone: a layer whose outputs differ in
number and that nothing follows, for all else fits. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from rehydrate.matching.computed import COUNTER
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
    # Files from before torch 0.4.1 lack the counters of batch norms, which says nothing about the network.
    targets = {name: target for name, target in found.targets.items() if not name.endswith(COUNTER)}
    if len(found.mismatched) + len(targets) > _TENSORS or len(found.sources) > _TENSORS:
        return ""
    if found.mismatched and not targets and not found.sources:
        return _resized(found)
    if not found.mismatched and (targets or found.sources):
        return _replaced(found, targets, [name for name in order if not name.endswith(COUNTER)])
    return ""


def _is_smaller_part(found: Found, rest: int) -> bool:
    return len(found.pairs) >= _FILLED * rest


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
    else:
        noun, what = "the head", "classes"
    sizes = ", ".join(f"{one} → {other}" for one, other in sorted(changes)[:_LAYERS])
    return f"{noun}: {', '.join(shown(layer, 60) for layer in layers)}, {sizes} {what}"


def _replaced(found: Found, targets: Mapping[str, Target], order: Sequence[str]) -> str:
    """Another layer in its place: `the head: fc (1000 classes) in the file, classifier (3 classes) in the model`."""
    here, there = _layers(found.sources), _layers(targets)
    if not _is_smaller_part(found, max(len(targets), len(found.sources))):
        return ""
    if len(here) > _LAYERS or len(there) > _LAYERS or not set(here).isdisjoint(there):
        return ""
    if any(names and all(len(one.shape) < 2 for one in names.values()) for names in (found.sources, targets)):
        return ""
    is_head = _are_heads(there, targets) and _are_heads(here, found.sources)
    if not is_head and not (there and list(targets) == list(order[-len(targets) :])):
        return ""
    sides = []
    if here:
        sides.append(f"{_named(here, found.sources.values())} in the file")
    if there:
        sides.append(f"{_named(there, targets.values())} in the model")
    alone = "" if here and there else ", none in the model" if here else ", none in the file"
    return f"the head: {', '.join(sides)}{alone}"


def _are_heads(layers: Sequence[str], names: Collection[str]) -> bool:
    return not names or all(not _WORDS.isdisjoint(layer.lower().split(".")) for layer in layers)


def _named(layers: Sequence[str], tensors: Collection[Target | Value]) -> str:
    last = [tensor.shape[0] for tensor in tensors if tensor.shape]
    what = "classes" if _are_heads(layers, layers) else "outputs"
    classes = f" ({last[-1]} {what})" if last else ""
    return ", ".join(shown(layer, 60) for layer in layers) + classes


def _layers(names: Collection[str]) -> list[str]:
    """The modules that tensors are in, in order; of a module's own parameter its name."""
    return list(dict.fromkeys(name.rpartition(".")[0] or name for name in names))
