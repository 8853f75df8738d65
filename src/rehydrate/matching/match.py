"""Match: which tensor of a checkpoint goes to which tensor of a model, and what does not fit.

Pure: it looks at names, shapes and dtypes and moves nothing. Rules that the caller gives come first (`rule`); what is
left finds itself (`matcher`); then what the caller allows is forgiven (`allow`), and nothing else is. A match prints
itself (`report`), is false while anything is wrong, and knows the rules that it comes to, so that a file keeps them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.checkpoint.weights import Weights
from rehydrate.checkpoint.wrappers import front
from rehydrate.errors import MismatchError
from rehydrate.matching.allow import Allow, forgive, is_idle
from rehydrate.matching.heads import head_of
from rehydrate.matching.matcher import Found, find
from rehydrate.matching.pairs import Mismatch, Pair, Target, elements
from rehydrate.matching.report import advice, problems, report, totals, verdict, wrong_counts
from rehydrate.matching.rules.mapping import save_rules
from rehydrate.matching.rules.rule import Rule, apply_rules
from rehydrate.matching.values import Value
from rehydrate.matching.writing import found_rules

__all__ = ["Match", "Mismatch", "Pair", "Target", "forgiven", "match_weights", "named_alike", "wrapper_prefix"]


@dataclass(frozen=True, slots=True, repr=False)
class Match:
    """What goes where. True when everything fits; prints itself; `raise_if_bad` for those who want an exception."""

    model: str
    """The class of the model."""
    pairs: tuple[Pair, ...]
    missing: tuple[Target, ...] = ()
    """Tensors of the model that the checkpoint lacks."""
    unexpected: tuple[Value, ...] = ()
    """Tensors of the checkpoint that the model lacks."""
    mismatched: tuple[Mismatch, ...] = ()
    complaints: tuple[str, ...] = ()
    """What the model's own loading code said against it, in its words."""
    told: tuple[str, ...] = ()
    """What was taken off or changed on the way, and what to know afterwards: sentences."""
    kept: tuple[Target, ...] = ()
    """Tensors of the model that keep their own values because that was allowed."""
    reinitialised: tuple[str, ...] = ()
    """Names of those among them whose modules are to be initialised anew."""
    aside: tuple[Value, ...] = ()
    """Tensors of the checkpoint that are left aside because that was allowed."""
    computed: tuple[Target, ...] = ()
    """Buffers that the model's constructor computes and that keep its values: the checkpoint has none that fit."""
    ignored: tuple[Value, ...] = ()
    """Tensors of the checkpoint that hold nothing for a model: such buffers, and an optimizer's."""
    resized: int = 0
    """How many of `pairs` are of another size than the checkpoint's, because that was allowed."""
    allowed: tuple[str, ...] = ()
    """Each pattern of `Allow`, and what it forgave: sentences."""
    floor: float = 0.0
    """The part of the parameters below which a match is false whatever was allowed."""
    head: str = ""
    """What differs, in words, if it is the head and nothing else."""
    hints: tuple[str, ...] = ()
    """What to try: sentences."""
    in_file: int = 0
    """Tensors of the checkpoint."""
    used: int = 0
    """Tensors of the checkpoint that the model gets something of."""
    find_rules: Callable[[], tuple[Rule, ...]] = field(default=tuple, compare=False)
    """Gives `rules`; most loads never ask for them."""

    def __bool__(self) -> bool:
        return self.is_covered and not (self.missing or self.unexpected or self.mismatched or self.complaints)

    @property
    def coverage(self) -> float:
        """The part of the model's parameters, by elements, that the checkpoint fills; 1.0 for a model without any."""
        filled = sum(pair.filled for pair in self.pairs if pair.target.is_parameter)
        every = (
            elements(pair.target for pair in self.pairs)
            + elements(self.missing)
            + elements(wrong.target for wrong in self.mismatched)
            + elements(self.kept)
            + elements(self.computed)
        )
        return filled / every if every else 1.0

    @property
    def rules(self) -> tuple[Rule, ...]:
        """What, applied to the checkpoint's weights with `apply_rules`, gives the names and shapes of the model; what
        was allowed is not in them.
        """
        return self.find_rules()

    @property
    def tensors(self) -> int:
        """How many tensors the model has."""
        return sum(map(len, (self.pairs, self.missing, self.mismatched, self.kept, self.computed)))

    @property
    def is_covered(self) -> bool:
        """Whether as much of the parameters is filled as must be."""
        return not self.floor or self.coverage >= self.floor

    def __str__(self) -> str:
        return report(self)

    def __repr__(self) -> str:
        return f"<Match {totals(self)}; {verdict(self)}>"

    def __rich_repr__(self) -> Iterator[tuple[str, object]]:
        yield "model", self.model
        yield "fit", f"{len(self.pairs)} of {self.tensors}"
        yield "coverage", self.coverage
        yield "verdict", verdict(self)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, for JSON."""
        return {
            "ok": bool(self),
            "verdict": verdict(self),
            "model": self.model,
            "coverage": self.coverage,
            "floor": self.floor,
            "file": {"tensors": self.in_file, "used": self.used},
            "pairs": [_pair_as_dict(pair) for pair in self.pairs],
            "missing": [_as_dict(target) for target in self.missing],
            "unexpected": [_as_dict(value) for value in self.unexpected],
            "mismatched": [
                {
                    "name": wrong.target.name,
                    "model": list(wrong.target.shape),
                    "checkpoint": list(wrong.source.shape),
                    "hint": wrong.hint,
                }
                for wrong in self.mismatched
            ],
            "kept": [_as_dict(target) for target in self.kept],
            "reinitialised": list(self.reinitialised),
            "aside": [_as_dict(value) for value in self.aside],
            "computed": [_as_dict(target) for target in self.computed],
            "ignored": [_as_dict(value) for value in self.ignored],
            "complaints": list(self.complaints),
            "told": list(self.told),
            "allowed": list(self.allowed),
            "hints": list(self.hints),
            "rules": [rule.to_dict() for rule in self.rules],
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `rules` as a small mapping file, whole or not at all; `rules=path` gives it back to a load.

        What was allowed is not in it. Raises `SaveError`.
        """
        save_rules(self.rules, path)

    def raise_if_bad(self) -> None:
        """Raise `MismatchError` unless everything fits."""
        if self:
            return
        raise MismatchError(
            f"the checkpoint does not fit {self.model}: {wrong_counts(self)} (Error(s) in loading state_dict)",
            found="\n".join(
                [*problems(self), *(text for text in self.allowed if is_idle(text) and "['*']" not in text)]
            ),
            hint=advice(self),
        )


def match_weights(
    weights: Weights,
    targets: Sequence[Target],
    model: str,
    *,
    rules: Sequence[Rule] = (),
    allow: Allow = Allow(),  # noqa: B008 - frozen
) -> Match:
    """Hold a checkpoint's weights against a model's tensors.

    `rules` change the weights' names and shapes first; what they leave is found by itself. `model` is what reports
    call the model. Raises `MismatchError` where a rule cannot be applied.

    >>> import io, torch, rehydrate as rh
    >>> buffer = io.BytesIO(); torch.save({"net.weight": torch.zeros(3, 2), "net.bias": torch.zeros(3)}, buffer)
    >>> targets = [Target("weight", (3, 2), "float32", True), Target("bias", (3,), "float32", True)]
    >>> print(match_weights(rh.open(buffer).weights(), targets, "Linear"))
    Linear: 2 of 2 tensors fit, 100 % of its parameters
      2 of 2 tensors of the file used
      0 missing, 0 unexpected, 0 of another size
      found for 2 tensors (certain): prefix 'net.' taken off
      weight  prefix 'net.' taken off
      bias    prefix 'net.' taken off
    everything fits
    """
    told = list(weights.removed)
    values: Mapping[str, Value] = weights.tensors
    if rules:
        applied = apply_rules(values, rules)
        values = applied.values
        told += applied.told
    prefix = wrapper_prefix([target.name for target in targets], values)
    if prefix:
        told.append(f"the model is wrapped; its prefix {prefix!r} was put before every name")
    by_name = {target.name.removeprefix(prefix): target for target in targets}
    found = find(values, by_name)
    told += found.told
    head = head_of(found, list(by_name))
    forgiven = forgive(found, allow, front([target.name for target in targets]))
    told += forgiven.told
    pairs = found.pairs | forgiven.pairs
    is_changed = len(found.pairs) != len(pairs) or bool(found.renamed)
    ordered = [pair for name in by_name if (pair := pairs.get(name))] if is_changed else pairs.values()
    return Match(
        model=model,
        pairs=tuple(ordered),
        missing=tuple(found.targets.values()),
        unexpected=_named(found.sources),
        mismatched=tuple(found.mismatched.values()),
        told=tuple(told),
        kept=tuple(forgiven.kept),
        reinitialised=tuple(forgiven.reinitialised),
        aside=_named(forgiven.aside),
        computed=tuple(found.kept),
        ignored=_named(found.aside),
        resized=len(forgiven.pairs),
        allowed=tuple(forgiven.allowed),
        find_rules=cache(lambda: (*rules, *found_rules(values, by_name, found))),
        floor=allow.coverage,
        head=head,
        hints=tuple(found.hints),
        in_file=len(weights.tensors),
        used=_used(weights, pairs.values()),
    )


def forgiven(match: Match, plain: Match, allow: Allow, wrapper: str = "") -> Match:
    """A match that a model's own code came to, with what is allowed forgiven.

    `plain` is what names and shapes alone had come to: what was kept, brought to another size, computed or of no use
    there still is. `wrapper` stands before each of the names that the code was given.
    """
    kept = {target.name for target in plain.kept}
    computed = {target.name for target in plain.computed}
    aside, ignored = ({value.name for value in values} for values in (plain.aside, plain.ignored))
    wanted = {target.name: target for target in match.missing if target.name not in kept | computed}
    given = {value.name.removeprefix(wrapper): value for value in match.unexpected}
    found = Found({name: value for name, value in given.items() if name not in aside | ignored}, wanted)
    more = forgive(found, allow, wrapper)
    used = {text.partition(" forgave ")[0]: text for text in plain.allowed if not is_idle(text)}
    allowed = [text for text in more.allowed if not (is_idle(text) and text.partition(" forgave ")[0] in used)]
    left = [*found.sources.values(), *plain.aside, *more.aside.values(), *plain.ignored]
    return replace(
        match,
        missing=tuple(found.targets.values()),
        unexpected=tuple(found.sources.values()),
        kept=(*(target for target in match.missing if target.name in kept), *more.kept),
        reinitialised=plain.reinitialised,
        aside=(*plain.aside, *more.aside.values()),
        computed=tuple(target for target in match.missing if target.name in computed),
        ignored=plain.ignored,
        resized=plain.resized,
        allowed=tuple(dict.fromkeys((*used.values(), *allowed))),
        find_rules=plain.find_rules,
        floor=plain.floor,
        head=plain.head,
        in_file=plain.in_file,
        used=max(plain.in_file - len(left), 0),
    )


def named_alike(weights: Weights, names: Sequence[str]) -> Weights:
    """The weights by the names that a model has: as the file has them where the model is wrapped alike."""
    saved = weights.as_saved
    if saved is None:
        return weights
    prefix = wrapper_prefix(names, weights)
    alike = sum(name in saved.tensors for name in names)
    return saved if alike and alike >= sum(name.removeprefix(prefix) in weights.tensors for name in names) else weights


def wrapper_prefix(names: Sequence[str], weights: Mapping[str, object]) -> str:
    """What wrappers put before each of a model's names, and the checkpoint does not have; empty if there is none.

    >>> wrapper_prefix(["module.fc.weight"], {"fc.weight": None}), wrapper_prefix(["fc.weight"], {"fc.weight": None})
    ('module.', '')
    """
    prefix = front(names)
    return "" if prefix and any(name.startswith(prefix) for name in weights) else prefix


def _used(weights: Weights, pairs: Iterable[Pair]) -> int:
    """Tensors of the file that something is taken of; told by their storages where there are windows on them."""
    refs = [ref for pair in pairs for ref in _refs(pair.source)]
    taken = set(map(id, refs))
    whole = sum(id(ref) in taken for ref in weights.tensors.values())
    if whole == len(taken):
        return whole
    storages = {id(ref.storage) for ref in refs}
    return sum(id(ref.storage) in storages for ref in weights.tensors.values())


def _refs(value: Value) -> tuple[TensorRef, ...]:
    return (value,) if isinstance(value, TensorRef) else value.refs


def _named(values: Mapping[str, Value]) -> tuple[Value, ...]:
    """Tensors by the names that rules gave them."""
    return tuple(value if value.name == name else value.named(name) for name, value in values.items())


def _as_dict(one: Target | Value) -> dict[str, Any]:
    return {"name": one.name, "shape": list(one.shape)}


def _pair_as_dict(pair: Pair) -> dict[str, Any]:
    return {
        "target": pair.target.name,
        "source": pair.source.name,
        "sources": [ref.name for ref in _refs(pair.source)],
        "rule": pair.rule,
        "sure": pair.sure,
        "part": [list(run) for run in pair.part],
    }
