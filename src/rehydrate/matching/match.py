"""Match: which tensor of a checkpoint goes to which tensor of a model, and what does not fit.

Pure: it looks at names, shapes and dtypes and moves nothing. A name that is missing on one side or has another shape
makes the match false; nothing is ever forgiven in silence. Names that differ only by a wrapper on the model's side
(`module.` of DataParallel) are paired, and the match says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.checkpoint.weights import Weights
from rehydrate.checkpoint.wrappers import front
from rehydrate.errors import MismatchError
from rehydrate.matching.values import Value
from rehydrate.text import counted, dimensions, nearest, shown

__all__ = ["Match", "Mismatch", "Pair", "Target", "match_weights", "named_alike", "wrapper_prefix"]

_LISTED = 10
"""Names of each kind that a message shows; there may be ten thousand."""


@dataclass(frozen=True, slots=True)
class Target:
    """A tensor that a model has: what `state_dict()` calls it, its shape, and whether it is learned."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    is_parameter: bool


@dataclass(frozen=True, slots=True)
class Pair:
    """A tensor of the model and what it gets of the checkpoint."""

    target: Target
    source: Value
    """A tensor of the file, or what is made of some."""
    rule: str = "by name"
    """How the two were found to belong together, in a few words."""
    sure: str = "certain"
    """`certain`: the names say so. `likely`: names and shapes suggest it."""
    part: tuple[tuple[int, int], ...] = ()
    """What of the target is filled: for each dimension the first and the one behind the last; () for all of it."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Two tensors of one name that do not have one shape."""

    target: Target
    source: TensorRef


@dataclass(frozen=True, slots=True, repr=False)
class Match:
    """What goes where. True when everything fits; prints itself; `raise_if_bad` for those who want an exception."""

    model: str
    """The class of the model."""
    pairs: tuple[Pair, ...]
    missing: tuple[Target, ...] = ()
    """Tensors of the model that the checkpoint lacks."""
    unexpected: tuple[TensorRef, ...] = ()
    """Tensors of the checkpoint that the model lacks."""
    mismatched: tuple[Mismatch, ...] = ()
    complaints: tuple[str, ...] = ()
    """What the model's own loading code said against it, in its words."""
    told: tuple[str, ...] = field(default=())
    """What was taken off or changed on the way, and what to know afterwards: sentences."""

    def __bool__(self) -> bool:
        return not (self.missing or self.unexpected or self.mismatched or self.complaints)

    @property
    def coverage(self) -> float:
        """The part of the model's parameters, by elements, that the checkpoint fills; 1.0 for a model without any."""
        filled = _elements(pair.target for pair in self.pairs)
        every = filled + _elements(self.missing) + _elements(wrong.target for wrong in self.mismatched)
        return filled / every if every else 1.0

    def __str__(self) -> str:
        return "\n".join([self._counts(), *(f"  {sentence}" for sentence in self.told), *self._wrong()])

    def __repr__(self) -> str:
        return f"<Match {self._counts()}>"

    def _counts(self) -> str:
        tensors = len(self.pairs) + len(self.missing) + len(self.mismatched)
        fit = f"{len(self.pairs):,} of {counted(tensors, 'tensor')} fit"
        return f"{self.model}: {fit}, {100 * self.coverage:.4g} % of its parameters"

    def _wrong(self) -> list[str]:
        """Counts first, then names and shapes, in the words that torch uses."""
        lines: list[str] = []
        if self.missing:
            others = [ref.name for ref in self.unexpected]
            names = [_with_guess(target.name, others) for target in self.missing[:_LISTED]]
            lines.append(f"  Missing key(s) in state_dict: {_counted_list(names, len(self.missing))}")
        if self.unexpected:
            others = [target.name for target in self.missing]
            names = [_with_guess(ref.name, others) for ref in self.unexpected[:_LISTED]]
            lines.append(f"  Unexpected key(s) in state_dict: {_counted_list(names, len(self.unexpected))}")
        lines.extend(
            f"  size mismatch for {shown(wrong.target.name)}: the checkpoint has {dimensions(wrong.source.shape)}, "
            f"the model {dimensions(wrong.target.shape)}"
            for wrong in self.mismatched[:_LISTED]
        )
        if len(self.mismatched) > _LISTED:
            lines.append(f"  and {len(self.mismatched) - _LISTED:,} more of other sizes")
        lines.extend(f"  {shown(complaint, 400)}" for complaint in self.complaints[:_LISTED])
        if len(self.complaints) > _LISTED:
            lines.append(f"  and {len(self.complaints) - _LISTED:,} more complaints")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, for JSON."""
        return {
            "ok": bool(self),
            "model": self.model,
            "coverage": self.coverage,
            "pairs": [{"target": pair.target.name, "source": pair.source.name} for pair in self.pairs],
            "missing": [{"name": target.name, "shape": list(target.shape)} for target in self.missing],
            "unexpected": [{"name": ref.name, "shape": list(ref.shape)} for ref in self.unexpected],
            "mismatched": [
                {
                    "name": wrong.target.name,
                    "model": list(wrong.target.shape),
                    "checkpoint": list(wrong.source.shape),
                }
                for wrong in self.mismatched
            ],
            "complaints": list(self.complaints),
            "told": list(self.told),
        }

    def raise_if_bad(self) -> None:
        """Raise `MismatchError` unless everything fits."""
        if self:
            return
        wrong = [
            f"{len(group):,} {what}"
            for group, what in (
                (self.missing, "missing"), (self.unexpected, "unexpected"), (self.mismatched, "of another size"),
                (self.complaints, "refused by the model"),
            )
            if group
        ]  # fmt: skip
        raise MismatchError(
            f"the checkpoint does not fit {self.model}: {', '.join(wrong)} (Error(s) in loading state_dict)",
            found="\n".join(line.strip() for line in self._wrong()),
            hint=_advice(self),
        )


def match_weights(weights: Weights, targets: Sequence[Target], model: str) -> Match:
    """Hold a checkpoint's weights against a model's tensors, by name and shape."""
    told = list(weights.removed)
    prefix = wrapper_prefix([target.name for target in targets], weights)
    by_name = {target.name.removeprefix(prefix): target for target in targets}
    if prefix:
        told.append(f"the model is wrapped; its prefix {prefix!r} was put before every name")
    pairs: list[Pair] = []
    mismatched: list[Mismatch] = []
    for name, target in by_name.items():
        source = weights.tensors.get(name)
        if source is not None and source.shape == target.shape:
            pairs.append(Pair(target, source))
        elif source is not None and (source.shape, target.shape) == ((1,), ()):  # a number, as torch 0.3 had it
            pairs.append(Pair(target, source[0]))
        elif source is not None:
            mismatched.append(Mismatch(target, source))
    return Match(
        model=model,
        pairs=tuple(pairs),
        missing=tuple(target for name, target in by_name.items() if name not in weights.tensors),
        unexpected=tuple(ref for name, ref in weights.tensors.items() if name not in by_name),
        mismatched=tuple(mismatched),
        told=tuple(told),
    )


def named_alike(weights: Weights, names: Sequence[str]) -> Weights:
    """The weights by the names that a model has: as the file has them where the model is wrapped alike."""
    saved = weights.as_saved
    if saved is None:
        return weights
    prefix = wrapper_prefix(names, weights)
    alike = sum(name in saved.tensors for name in names)
    return saved if alike and alike >= sum(name.removeprefix(prefix) in weights.tensors for name in names) else weights


def wrapper_prefix(names: Sequence[str], weights: Mapping[str, TensorRef]) -> str:
    """What wrappers put before each of a model's names, and the checkpoint does not have; empty if there is none.

    >>> wrapper_prefix(["module.fc.weight"], {"fc.weight": None}), wrapper_prefix(["fc.weight"], {"fc.weight": None})
    ('module.', '')
    """
    prefix = front(names)
    return "" if prefix and any(name.startswith(prefix) for name in weights) else prefix


def _elements(targets: object) -> int:
    return sum(math.prod(target.shape) for target in targets if target.is_parameter)  # type: ignore[attr-defined]


def _counted_list(names: list[str], count: int) -> str:
    more = f" and {count - len(names):,} more" if count > len(names) else ""
    return f"{count:,}: {', '.join(names)}{more}"


def _with_guess(name: str, others: Sequence[str]) -> str:
    near = nearest(name, others)
    return f'"{shown(name)}"' + (f" (did you mean {shown(near)}?)" if near else "")


def _advice(match: Match) -> str:
    if not match.pairs and not match.mismatched:
        return "no name fits: this is a checkpoint of another model, or another part of this file is meant (which=)"
    if match.mismatched and not match.missing and not match.unexpected:
        return "build the model with the sizes of the checkpoint"
    return "compare the two lists: `rehydrate FILE` shows what the file holds"
