"""All rules that there are, and rules from plain data: what a mapping file holds.

The rules themselves are in `renaming` (names), `reshaping` (one tensor at a time), `regrouping` and `stacking` (several
that are one elsewhere).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any

from rehydrate.errors import CorruptError
from rehydrate.matching.rules.regrouping import Chunk, Concat
from rehydrate.matching.rules.renaming import Drop, Prefix, Rename, Renames
from rehydrate.matching.rules.reshaping import Cast, Interpolate, Pad, Permute, Reshape, Slice, Transpose
from rehydrate.matching.rules.rule import Rule
from rehydrate.matching.rules.stacking import Stack, Unstack
from rehydrate.text import nearest, shown

__all__ = [
    "KINDS", "Cast", "Chunk", "Concat", "Drop", "Interpolate", "Pad", "Permute", "Prefix", "Rename", "Renames",
    "Reshape", "Slice", "Stack", "Transpose", "Unstack", "rule_from",
]  # fmt: skip

KINDS: Mapping[str, type[Any]] = {
    kind.__name__.lower(): kind
    for kind in (
        Rename, Renames, Prefix, Drop, Transpose, Permute, Reshape, Chunk, Concat, Stack, Unstack, Slice, Pad,
        Interpolate, Cast,
    )
}  # fmt: skip
"""Each rule by what plain data calls it."""


def rule_from(data: Mapping[str, Any]) -> Rule:
    """The rule that `to_dict()` gave as plain data.

    >>> rule_from({"rule": "rename", "old": "norm.{i}.*", "new": "norm{i}.*"})
    Rename(old='norm.{i}.*', new='norm{i}.*', regex=False)

    Raises `CorruptError` for a rule that is not known, a field that is missing, too many, or makes no sense.
    """
    name = data.get("rule")
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        near = nearest(name, KINDS) if isinstance(name, str) else None
        hint = f"did you mean {near!r}?" if near else f"rules are {', '.join(KINDS)}"
        raise CorruptError("this is no rule", found=f"rule = {shown(name, 60)}", hint=hint)
    wanted = {field.name: field.default is MISSING for field in fields(kind)}
    given = {key: value for key, value in data.items() if key != "rule"}
    strange = [key for key in given if key not in wanted]
    missing = [key for key, is_needed in wanted.items() if is_needed and key not in given]
    if strange or missing:
        raise CorruptError(
            f"the rule {name} has no {shown(strange[0])!r}" if strange else f"the rule {name} needs {missing[0]!r}",
            found=", ".join(shown(key) for key in given) or "nothing",
            hint=f"it is made of {', '.join(wanted)}",
        )
    rule: Rule
    try:
        rule = kind(**{key: _reader(kind, key)(value) for key, value in given.items()})
    except ValueError as error:
        raise CorruptError(f"the rule {name} makes no sense: {error}") from None
    return rule


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{shown(value, 60)} is no text")
    return value


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{shown(value, 60)} is no whole number")
    return value


def _fill(value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ValueError(f"{shown(value, 60)} is no number")
    return value


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{shown(value, 60)} is neither true nor false")
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{shown(value, 60)} is no list of names")
    return tuple(_text(each) for each in value)


def _numbers(value: object) -> tuple[int, ...]:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{shown(value, 60)} is no list of whole numbers")
    return tuple(_number(each) for each in value)


def _pairs(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{shown(value, 60)} is no table of names")
    return {_text(old): _text(new) for old, new in value.items()}


def _reader(kind: type[Any], field: str) -> Callable[[object], object]:
    if kind is Chunk and field == "into":
        return _texts
    return _pairs if kind is Renames and field == "names" else _FIELDS[field]


_FIELDS: Mapping[str, Callable[[object], object]] = {
    "old": _text, "new": _text, "glob": _text, "remove": _text, "add": _text, "dtype": _text,
    "regex": _switch,
    "order": _numbers, "shape": _numbers, "sizes": _numbers, "grid": _numbers, "onto": _numbers,
    "axis": _number, "start": _number, "stop": _number, "length": _number, "kept": _number,
    "fill": _fill,
    "into": _text, "names": _texts,
}  # fmt: skip
"""What each field of a rule is read by, but for two that are otherwise in one rule."""
