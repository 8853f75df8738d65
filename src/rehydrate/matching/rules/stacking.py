"""Rules about several tensors that are one elsewhere, counted by a number: stack and unstack.

Some models keep the weights of all their layers, or of all experts, in one tensor with a dimension more. Taking it
apart costs nothing: parts are windows on the whole. A stack that lacks a layer is refused, by the names it lacks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.matching.rules.changing import (
    Changes,
    PlainRule,
    axis_of,
    parted,
    refuse,
    refuse_shapes,
    replaced,
    turned,
)
from rehydrate.matching.rules.patterns import Captured, check_fills, found_in, template
from rehydrate.matching.rules.rule import Applied
from rehydrate.matching.values import Value, reshaped, sliced, stacked
from rehydrate.text import counted, dimensions, shown

__all__ = ["Stack", "Unstack"]

_MOST = 100_000
"""Tensors that one is unstacked into; a file may claim any extent for a tensor without elements."""
_MISSING = 5
"""Names that are listed for each stack that is not complete."""


@dataclass(frozen=True, slots=True)
class Stack(PlainRule):
    """Tensors of one shape along a new dimension: the weights of all layers, or all experts, as one.

    The number that `glob` has and `into` lacks counts the new dimension, from 0; `{i + 1}` is for names that count
    from 1.

    >>> print(Stack("h.{i}.mlp.*", "h.mlp.*"))
    stack h.{i}.mlp.* as h.mlp.* along dimension 0
    """

    glob: str
    into: str
    axis: int = 0

    def __post_init__(self) -> None:
        check_fills(self.into, self.glob)
        template(self.glob)
        _counting(self.glob, self.into)

    def apply(self, values: Mapping[str, Value]) -> Applied:
        """All tensors, in the place of the first of each stack the whole.

        `MismatchError` where one of a stack is missing, has another shape, or where two tensors would have one name.
        """
        number = _counting(self.glob, self.into)
        stacks: dict[Captured, dict[int, str]] = {}
        twice: dict[str, str] = {}
        met = 0
        for name, captured in found_in(values, self.glob):
            met += 1
            at = int(dict(captured.numbers)[number])
            other = stacks.setdefault(captured.without(number), {}).setdefault(at, name)
            if other != name:
                twice[name] = f"{shown(name)} and {shown(other)} are both number {at}"
        if twice:
            refuse(f"{counted(len(twice), 'tensor')} would be the same part", self, twice.values(), len(twice))
        self._check_complete(stacks, number)
        changes: Changes = {}
        wrong: dict[str, str] = {}
        for captured, layers in stacks.items():
            first, *others = layers.values()
            try:
                whole = template(self.into).fill(captured)
                parts = [values[layers[at]] for at in range(len(layers))]
                changes[first] = ((whole, stacked(parts, axis_of(parts[0], self.axis, 1), whole)),)
                changes.update(dict.fromkeys(others, ()))
            except ValueError as error:
                wrong[first] = str(error)
        if wrong:
            refuse_shapes(self, wrong, len(stacks), noun="stack")
        return replaced(self, values, changes, met)

    def _check_complete(self, stacks: Mapping[Captured, Mapping[int, str]], number: str) -> None:
        """Refuse stacks that lack a tensor between the first and the last, or do not begin at 0."""
        broken: list[str] = []
        begins_late = False
        for captured, layers in stacks.items():
            count = max(layers) + 1 - len(layers)
            if count:
                begins_late = begins_late or 0 not in layers
                gaps = [at for at in range(len(layers) + _MISSING) if at not in layers and at < max(layers)][:_MISSING]
                names = [shown(template(self.glob).fill(captured.also(number, at))) for at in gaps]
                more = f" and {count - len(gaps):,} more" if count > len(gaps) else ""
                broken.append(f"{', '.join(names)}{more} missing before {shown(layers[max(layers)])}")
        if broken:
            what = f"{len(broken):,} of {counted(len(stacks), 'stack')} of tensors are not complete"
            hint = f"write {{{number} + 1}} where names count from 1" if begins_late else ""
            refuse(what, self, iter(broken), len(broken), hint)

    def reversed(self) -> Unstack:
        """The stack taken apart again. `ValueError` where its name does not say whose parts are whose."""
        return turned(self, lambda: Unstack(self.into, self.glob, self.axis))

    def __str__(self) -> str:
        return f"stack {shown(self.glob)} as {shown(self.into)} along dimension {self.axis}"


@dataclass(frozen=True, slots=True)
class Unstack(PlainRule):
    """A tensor taken apart along a dimension that then is gone: one weight of all layers as one of each.

    The number that `into` has and `glob` lacks counts the parts, from 0; `{i + 1}` counts from 1. Nothing is copied or
    computed.

    >>> print(Unstack("h.mlp.*", "h.{i}.mlp.*"))
    take h.mlp.* apart into h.{i}.mlp.* along dimension 0
    """

    glob: str
    into: str
    axis: int = 0

    def __post_init__(self) -> None:
        check_fills(self.into, self.glob, counting=_counting(self.into, self.glob))

    def apply(self, values: Mapping[str, Value]) -> Applied:
        """All tensors, in the place of each that is meant its parts.

        `MismatchError` where one has no such dimension, or where two tensors would have one name.
        """
        number = _counting(self.into, self.glob)

        def parts_of(name: str, captured: Captured) -> Sequence[tuple[str, Value]]:
            parts = self._parts(values[name])
            names = [template(self.into).fill(captured.also(number, at)) for at in range(len(parts))]
            return tuple(zip(names, parts, strict=True))

        return parted(self, self.glob, values, parts_of)

    def _parts(self, value: Value) -> list[Value]:
        axis = axis_of(value, self.axis)
        if value.shape[axis] > _MOST:
            raise ValueError(f"{dimensions(value.shape)} would be more than {_MOST:,} tensors")
        shape = (*value.shape[:axis], *value.shape[axis + 1 :])
        if isinstance(value, TensorRef):
            return [value[(*(slice(None),) * axis, at)] for at in range(value.shape[axis])]
        return [reshaped(sliced(value, axis, at, at + 1), shape) for at in range(value.shape[axis])]

    def reversed(self) -> Stack:
        """The parts stacked again. `ValueError` where their names do not say whose parts they are."""
        return turned(self, lambda: Stack(self.into, self.glob, self.axis))

    def __str__(self) -> str:
        return f"take {shown(self.glob)} apart into {shown(self.into)} along dimension {self.axis}"


def _counting(many: str, one: str) -> str:
    """The number that counts the parts: the one that is in their names and not in that of the whole."""
    numbers = sorted(template(many).signs.numbers - template(one).signs.numbers)
    if len(numbers) != 1:
        needs = f"{shown(many)!r} needs one number that {shown(one)!r} lacks, to count by, such as {{i}}"
        raise ValueError(f"{needs}; it has {len(numbers)}")
    return numbers[0]
