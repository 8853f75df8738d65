"""Rule: what changes the names and shapes of a file's tensors into those of a model.

A rule gets every tensor by its name and gives every tensor by its new name; it moves no bytes and knows no model. The
rules themselves are in `rules`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from rehydrate.matching.values import Value

__all__ = ["Applied", "Rule", "apply_rules"]


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of a rule, or of several."""

    values: Mapping[str, Value]
    told: tuple[str, ...] = ()
    """What was done to how many tensors: a sentence for each rule, also for one that met nothing."""


class Rule(Protocol):
    """A frozen dataclass whose text says what it does."""

    def apply(self, values: Mapping[str, Value]) -> Applied:
        """All tensors by their new names, in their old order.

        Raises `MismatchError` where two would have one name, or a shape does not allow what the rule says.
        """

    def reversed(self) -> Rule:
        """The rule that undoes this one. Raises `ValueError`, saying why, where what it takes away is gone."""

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, for TOML: `{"rule": "rename", "old": …, "new": …}`."""


def apply_rules(values: Mapping[str, Value], rules: Iterable[Rule]) -> Applied:
    """Each rule on what the one before gave."""
    told: list[str] = []
    for rule in rules:
        applied = rule.apply(values)
        values = applied.values
        told += applied.told
    return Applied(values, tuple(told))
