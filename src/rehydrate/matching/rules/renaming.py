"""Rules about names: rename, many renames at once, prefixes, and what is left out.

No tensor is looked at. Where two would come to have one name, nothing is renamed, and the error lists them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from rehydrate.matching.rules.arithmetic import Expression, parsed
from rehydrate.matching.rules.changing import PlainRule, refuse, replaced, turned
from rehydrate.matching.rules.choosing import new_names
from rehydrate.matching.rules.patterns import check_fills, found_in, pattern
from rehydrate.matching.rules.rule import Applied
from rehydrate.matching.values import Value
from rehydrate.text import counted, shown

__all__ = ["Drop", "Prefix", "Rename", "Renames"]

_BRACES = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True)
class Rename(PlainRule):
    r"""Names that a pattern means, by another name.

    `*` is any characters, dots too, `{i}` a whole number, and `{i + 1}` one that is counted otherwise; stars go over in
    their order. `matching.patterns` has all signs. With `regex`, `old` is looked for anywhere in a name and replaced
    wherever it is found, as of `re.sub`: `\1` and `\g<name>` are what groups found, and `{name + 1}` counts.

    >>> names = dict.fromkeys(["norm.1.weight", "norm.2.weight", "conv.weight"])
    >>> list(Rename("norm.{i}.*", "norm{i}.*").apply(names).values)
    ['norm1.weight', 'norm2.weight', 'conv.weight']
    >>> list(Rename(r"norm\.(?P<at>\d+)", "n{at - 1}", regex=True).apply(names).values)
    ['n0.weight', 'n1.weight', 'conv.weight']

    Raises `ValueError` for a pattern that is none, and for a new name that needs what the old one does not have.
    """

    old: str
    new: str
    regex: bool = False

    def __post_init__(self) -> None:
        if self.regex:
            _replacement(self.old, self.new)
        else:
            check_fills(self.new, self.old)

    def apply(self, values: Mapping[str, Value]) -> Applied:
        """All tensors, those that are meant by their new names. `MismatchError` where two would have one name."""
        if not self.regex:
            return _renamed(self, values, ((self.old, self.new),))
        found, parts = _replacement(self.old, self.new)
        names: dict[str, str] = {}
        wrong: dict[str, str] = {}
        for name in values:
            try:
                new, times = found.subn(lambda match: "".join(_written(part, match) for part in parts), name)
            except ValueError as error:
                wrong[name] = str(error)
            else:
                if times:
                    names[name] = new
        return _given(self, values, names, wrong)

    def reversed(self) -> Rename:
        """The same from `new` to `old`. `ValueError` where `new` does not say all that `old` would need."""
        if self.regex:
            raise ValueError(f"{self} cannot be turned round: it is a regular expression")
        return turned(self, lambda: Rename(self.new, self.old))

    def __str__(self) -> str:
        return f"rename {shown(self.old)} -> {shown(self.new)}" + (" (regular expression)" if self.regex else "")


@dataclass(frozen=True, slots=True)
class Renames(PlainRule):
    """Many renames at once: each name goes by the first pattern that means it, and only by that one.

    So names can change places, and what is more special stands in front of what is more general.

    >>> names = dict.fromkeys(["a.weight", "b.weight", "c.1"])
    >>> list(Renames({"a.*": "b.*", "b.*": "a.*", "c.{i}": "c.{i - 1}"}).apply(names).values)
    ['b.weight', 'a.weight', 'c.0']
    """

    names: Mapping[str, str]
    """Patterns and what becomes of the names that they mean."""

    def __post_init__(self) -> None:
        for old, new in self.names.items():
            check_fills(new, old)

    def apply(self, values: Mapping[str, Value]) -> Applied:
        """All tensors, those that are meant by their new names. `MismatchError` where two would have one name."""
        return _renamed(self, values, tuple(self.names.items()))

    def reversed(self) -> Renames:
        """The same from new names to old ones. `ValueError` where one of them cannot be turned round."""
        names = {new: old for old, new in self.names.items()}
        if len(names) < len(self.names):
            raise ValueError(f"{self} cannot be turned round: several patterns become one")
        return turned(self, lambda: Renames(names))

    def __hash__(self) -> int:
        return hash(tuple(self.names.items()))

    def __str__(self) -> str:
        if len(self.names) != 1:
            return f"rename by {counted(len(self.names), 'pattern')}"
        return "".join(f"rename {shown(old)} -> {shown(new)}" for old, new in self.names.items())


@dataclass(frozen=True, slots=True)
class Prefix(PlainRule):
    """Whole components in front of names: taken off those that have them, or put before all.

    `remove="module"` and `remove="module."` are the same, and `module_list.0` has no such prefix. With both, the one
    takes the place of the other.

    >>> names = dict.fromkeys(["module.fc.weight", "module_list.0.weight"])
    >>> list(Prefix(remove="module.").apply(names).values), list(Prefix(add="net").apply(names).values)[1]
    (['fc.weight', 'module_list.0.weight'], 'net.module_list.0.weight')
    """

    remove: str = ""
    add: str = ""

    def __post_init__(self) -> None:
        if not _front(self.remove) and not _front(self.add):
            raise ValueError("a prefix to remove or one to add is needed")

    def apply(self, values: Mapping[str, Value]) -> Applied:
        """All tensors, with the prefix changed. `MismatchError` where two would have one name."""
        remove, add = _front(self.remove), _front(self.add)
        names = {
            name: add + name[len(remove) :] for name in values if name.startswith(remove) and len(name) > len(remove)
        }
        return _given(self, values, names, {})

    def reversed(self) -> Prefix:
        """The one that is added taken off, and the other way round."""
        return Prefix(self.add, self.remove)

    def __str__(self) -> str:
        remove, add = _front(self.remove), _front(self.add)
        if remove and add:
            return f"prefix {shown(remove)} -> {shown(add)}"
        return f"take prefix {shown(remove)} off" if remove else f"put prefix {shown(add)} before"


@dataclass(frozen=True, slots=True)
class Drop(PlainRule):
    """Tensors that are left out.

    >>> Drop("head.*").apply(dict.fromkeys(["head.0.weight", "fc.weight"])).told
    ('leave out head.*: 1 tensor',)
    """

    glob: str
    lost: ClassVar[str] = "what it leaves out is gone"

    def __post_init__(self) -> None:
        pattern(self.glob)

    def apply(self, values: Mapping[str, Value]) -> Applied:
        """All tensors but those that are meant."""
        dropped: dict[str, Sequence[tuple[str, Value]]] = {name: () for name, _ in found_in(values, self.glob)}
        return replaced(self, values, dropped, len(dropped))

    def __str__(self) -> str:
        return f"leave out {shown(self.glob)}"


def _front(prefix: str) -> str:
    """A prefix with its dot."""
    return prefix and prefix.rstrip(".") + "."


def _renamed(rule: object, values: Mapping[str, Value], pairs: Sequence[tuple[str, str]]) -> Applied:
    """Each tensor by what the first pattern that means its name makes of it."""
    names, wrong, idle = new_names(values, pairs)
    applied = _given(rule, values, names, wrong)
    if not names or not idle or len(pairs) == 1:
        return applied
    first = shown(pairs[min(idle)][0])
    which = first if len(idle) == 1 else f"{counted(len(idle), 'pattern')}, {first} first,"
    return Applied(applied.values, (*applied.told, f"{rule}: {which} met no tensor"))


def _given(rule: object, values: Mapping[str, Value], names: Mapping[str, str], wrong: Mapping[str, str]) -> Applied:
    """All tensors, those that have one by their new names; none may be empty."""
    wrong = {**wrong, **{name: "nothing would be left of this name" for name, new in names.items() if not new}}
    if wrong:
        lines = (f"{shown(name)}: {sentence}" for name, sentence in wrong.items())
        refuse(f"{counted(len(wrong), 'tensor')} would get no name", rule, lines, len(wrong))
    return replaced(rule, values, {old: ((new, values[old]),) for old, new in names.items()}, len(names))


@lru_cache(maxsize=64)
def _replacement(old: str, new: str) -> tuple[re.Pattern[str], tuple[str | Expression, ...]]:
    """A regular expression, and what is put where it is found. `ValueError` where either makes no sense."""
    try:
        found = re.compile(old)
        parts: list[str | Expression] = []
        for at, part in enumerate(_BRACES.split(new)):
            if at % 2:
                parts.append(parsed(part))
            elif part:
                found.sub(part, "")  # a group that is not there is an error here
                parts.append(part)
    except (re.error, IndexError) as error:
        raise ValueError(f"the regular expression {shown(old)!r} -> {shown(new)!r} makes no sense: {error}") from None
    for part in parts:
        if isinstance(part, Expression) and not part.names <= set(found.groupindex):
            name = sorted(part.names - set(found.groupindex))[0]
            raise ValueError(f"{shown(new)!r} needs a group (?P<{shown(name, 40)}>...), which is not in {shown(old)!r}")
    return found, tuple(parts)


def _written(part: str | Expression, match: re.Match[str]) -> str:
    """A part of what takes the place of a match."""
    if isinstance(part, str):
        return match.expand(part)
    if part.is_plain:
        return match[part.text] or ""
    digits = {name: match[name] or "" for name in part.names}
    for name, text in digits.items():
        if not (text.isascii() and text.isdigit() and len(text) <= 18):
            raise ValueError(f"the group {name} found {shown(text, 40)!r}, which is no whole number")
    value = part.value({name: int(text) for name, text in digits.items()})
    if value < 0:
        raise ValueError(f"{{{part.text}}} is {value}")
    return str(value)
