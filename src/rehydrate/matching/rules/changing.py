"""What all rules do alike: take some tensors out, put others in their place, and say what came of it.

A rule only says what becomes of each tensor that it met. Here all tensors are put together again in their old order,
and what cannot be is refused in one error for all of them: counts first, then names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, ClassVar, NoReturn, TypeVar

from rehydrate.errors import MismatchError
from rehydrate.matching.rules.patterns import Captured, found_in
from rehydrate.matching.rules.rule import Applied, Rule
from rehydrate.matching.values import Value
from rehydrate.text import counted, listed, shown

__all__ = [
    "Changes",
    "PlainRule",
    "axis_of",
    "changed",
    "parted",
    "refuse",
    "refuse_shapes",
    "replaced",
    "told_of",
    "turned",
]

_LISTED = 5
Changes = dict[str, Sequence[tuple[str, Value]]]
"""A tensor's name → what stands in its place, by the new names."""
AnyRule = TypeVar("AnyRule", bound=Rule)


class PlainRule:
    """What a rule has when it is no more than its fields."""

    __slots__ = ()
    lost: ClassVar[str] = ""
    """Why it cannot be undone."""

    def reversed(self) -> Rule:
        """Raises `ValueError`: what this rule takes away is gone."""
        raise ValueError(f"{self} cannot be turned round: {self.lost}")

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, for TOML; what is as it would be anyway is left out."""
        found: dict[str, Any] = {"rule": type(self).__name__.lower()}
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if value != field.default:
                found[field.name] = _plain(value)
        return found


def _plain(value: object) -> object:
    if isinstance(value, (str, int, float)):
        return value
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, Sequence) else str(value).removeprefix("torch.")


def replaced(rule: object, values: Mapping[str, Value], changes: Changes, met: int) -> Applied:
    """All tensors, with others in the place of those that `changes` names.

    Raises `MismatchError` where two would have one name.
    """
    found: dict[str, Value] = {}
    came_from: dict[str, str] = {}
    several: dict[str, list[str]] = {}
    for name, value in values.items():
        for new, what in changes.get(name, ((name, value),)):
            if new in found:
                several.setdefault(new, [came_from[new]]).append(name)
            else:
                found[new], came_from[new] = what, name
    if several:
        lines = (f"{shown(new)}: {listed([shown(old) for old in names], _LISTED)}" for new, names in several.items())
        refuse(f"{counted(len(several), 'name')} would be had by several tensors", rule, lines, len(several))
    return Applied(found, (told_of(rule, met),))


def changed(
    rule: object, glob: str, values: Mapping[str, Value], change: Callable[[Value], Value], *, hint: str = ""
) -> Applied:
    """Each tensor that a pattern means, made into another of the same name. `ValueError` is collected and refused."""
    return parted(rule, glob, values, lambda name, _: ((name, change(values[name])),), hint=hint)


def parted(
    rule: object,
    glob: str,
    values: Mapping[str, Value],
    parts_of: Callable[[str, Captured], Sequence[tuple[str, Value]]],
    *,
    hint: str = "",
) -> Applied:
    """Each tensor that a pattern means, with others in its place. `ValueError` is collected and refused.

    `parts_of` is given its name and what the pattern's signs stood for in it.
    """
    changes: Changes = {}
    wrong: dict[str, str] = {}
    met = 0
    for name, captured in found_in(values, glob):
        met += 1
        try:
            changes[name] = parts_of(name, captured)
        except ValueError as error:
            wrong[name] = str(error)
    if wrong:
        refuse_shapes(rule, wrong, met, hint=hint)
    return replaced(rule, values, changes, met)


def refuse_shapes(
    rule: object, wrong: Mapping[str, str], met: int, *, noun: str = "tensor", hint: str = ""
) -> NoReturn:
    """Raise `MismatchError` for tensors, or sets of them, that a rule does not fit, with a sentence for each."""
    what = f"{len(wrong):,} of {counted(met, noun)}" if met != len(wrong) else counted(met, noun)
    listing = (f"{shown(name)}: {sentence}" for name, sentence in wrong.items())
    refuse(f"a rule does not fit {what} that it means", rule, listing, len(wrong), hint)


def refuse(what: str, rule: object, lines: Iterable[str], count: int, hint: str = "") -> NoReturn:
    """Raise `MismatchError` with the first few lines of many."""
    first = [line for _, line in zip(range(_LISTED), lines, strict=False)]
    if count > len(first):
        first.append(f"and {count - len(first):,} more")
    raise MismatchError(what, where=f"the rule: {rule}", found="\n".join(first), hint=hint)


def told_of(rule: object, met: int) -> str:
    """The sentence about a rule that was applied."""
    return f"{rule}: {counted(met, 'tensor')}" if met else f"{rule} met no tensor"


def turned(rule: object, undoing: Callable[[], AnyRule]) -> AnyRule:
    """The rule that undoes another. `ValueError`, saying why, where there can be none."""
    try:
        return undoing()
    except ValueError as error:
        raise ValueError(f"{rule} cannot be turned round: {error}") from None


def axis_of(value: Value, axis: int, more: int = 0) -> int:
    """A dimension counted from the first; negative ones are counted from the last, as torch does it."""
    extents = len(value.shape) + more
    if not -extents <= axis < extents:
        raise ValueError(f"a tensor of {counted(len(value.shape), 'dimension')} has no dimension {axis}")
    return axis % extents
