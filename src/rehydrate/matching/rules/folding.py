"""Folding: many names as few lines, for reports and for mapping files.

`grouped` says of which kinds of names there are how many: `layer{1...4}.{0...5}.conv1.weight`. `rename_rules` finds the
few renames that make given old names into given new ones; what comes out is always tried on all of the names, and is
exact whatever they are. Both take a time in proportion to the names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rehydrate.matching.rules.choosing import new_names
from rehydrate.matching.rules.numbering import Kind, numbered
from rehydrate.matching.rules.patterns import escaped
from rehydrate.matching.rules.renaming import Rename, Renames
from rehydrate.matching.rules.widening import widened
from rehydrate.text import shown

__all__ = ["grouped", "rename_rules"]

_RUNS = re.compile(r"([0-9]+)")
_NUMBERS = 32
"""Numbers in a name that is told apart from others; a name with more is taken as it is."""
_REPAIRS = 4
"""How often templates that get in each other's way are put right before names are listed one by one."""
_SHOWN = 6
"""Numbers, or last components, that are shown one by one."""


def grouped(names: Iterable[str]) -> list[tuple[str, int]]:
    """Names that differ in numbers only, or in their last component, as one line each, and how many they are.

    >>> grouped(["fc.weight", "fc.bias", *(f"layer{i}.{j}.conv.weight" for i in (1, 2, 3) for j in (0, 1, 4))])
    [('fc.{weight, bias}', 2), ('layer{1...3}.{0,1,4}.conv.weight', 9)]

    They come in the order in which each kind is met first. Names are given as they are: whoever shows a line to a
    person passes it through `shown`.
    """
    kinds: dict[tuple[str, ...], _Kind] = {}
    for name in names:
        parts = _RUNS.split(name)
        if len(parts) > 2 * _NUMBERS + 1:
            parts = [name]
        numbers = parts[1::2]
        # A number that begins with 0 is alike only with those that are as long: layer_07 and layer_12.
        parts[1::2] = [str(len(run)) if run[0] == "0" and len(run) > 1 else "" for run in numbers]
        kind = kinds.setdefault(tuple(parts), _Kind(parts[::2]))
        kind.count += 1
        for seen, run in zip(kind.seen(len(numbers)), numbers, strict=True):
            seen.add(run)
    return _with_leaves([(kind.text(), kind.count) for kind in kinds.values()])


@dataclass(slots=True)
class _Kind:
    """Names that differ in numbers only."""

    letters: Sequence[str]
    count: int = 0
    numbers: list[set[str]] = field(default_factory=list)

    def seen(self, length: int) -> list[set[str]]:
        if not self.numbers:
            self.numbers = [set() for _ in range(length)]
        return self.numbers

    def text(self) -> str:
        texts = [self.letters[0]]
        for runs, letters in zip(self.numbers, self.letters[1:], strict=True):
            texts += [_extent(runs), letters]
        return "".join(texts)


def _extent(runs: set[str]) -> str:
    """Which numbers there are: {1...4}, {0,2,5}, {0,3,...,99}, or just the one."""
    ordered = sorted(runs, key=lambda run: (len(run), run))
    if len(ordered) == 1:
        return ordered[0]
    first, last = ordered[0], ordered[-1]
    if len(last) <= 18 and int(last) - int(first) + 1 == len(ordered):
        return f"{{{first}...{last}}}"
    if len(ordered) <= _SHOWN:
        return f"{{{','.join(ordered)}}}"
    return f"{{{ordered[0]},{ordered[1]},...,{last}}}"


def _with_leaves(rows: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Rows that differ in their last component only, and are as many, as one."""
    alike: dict[tuple[str, int, bool], list[str]] = {}
    for text, count in rows:
        parent, _, leaf = text.rpartition(".")
        if parent and "}" not in leaf:
            alike.setdefault((parent, count, True), []).append(leaf)
        else:
            alike[text, count, False] = []
    found: list[tuple[str, int]] = []
    for (text, count, _), leaves in alike.items():
        if len(leaves) > 1:
            more = f", and {len(leaves) - _SHOWN:,} more" if len(leaves) > _SHOWN else ""
            found.append((f"{text}.{{{', '.join(leaves[:_SHOWN])}{more}}}", count * len(leaves)))
        else:
            found.append((".".join([text, *leaves]), count))
    return found


def rename_rules(pairs: Iterable[tuple[str, str]]) -> tuple[Rename | Renames, ...]:
    """The few renames that make each old name into its new one, and leave alone those that stay as they are.

    >>> pairs = [(f"norm.{i}.{leaf}", f"norm{i}.{leaf}") for i in (1, 2) for leaf in ("weight", "bias")]
    >>> rename_rules([*pairs, ("fc.weight", "fc.weight")])
    (Rename(old='norm.{i}.*', new='norm{i}.*', regex=False),)

    All are meant at once, so names may change places; the rules are exact for these names, and are a guess at what is
    meant for others. None are needed where nothing changes. Raises `ValueError` where a name is to have two new ones,
    or two names the same.
    """
    wanted = _wanted(pairs)
    if all(old == new for old, new in wanted.items()):
        return ()
    kinds = numbered(wanted)
    table = _checked(wanted, kinds, widened(wanted, kinds))
    if len(table) == 1:
        return tuple(Rename(old, new) for old, new in table.items())
    return (Renames(table),)


def _wanted(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    wanted: dict[str, str] = {}
    for old, new in pairs:
        if wanted.setdefault(old, new) != new:
            raise ValueError(f"{shown(old)} cannot become both {shown(wanted[old])} and {shown(new)}")
    if len(set(wanted.values())) < len(wanted):
        taken: dict[str, str] = {}
        for old, new in wanted.items():
            if taken.setdefault(new, old) != old:
                raise ValueError(f"{shown(taken[new])} and {shown(old)} cannot both become {shown(new)}")
    return wanted


def _checked(wanted: Mapping[str, str], kinds: Sequence[Kind], chosen: list[Kind]) -> dict[str, str]:
    """The chosen templates as a table that is exact: what another takes away from a kind of names gets them back."""
    kind_of = {name: kind for kind in kinds for name in kind.names}
    literal: dict[str, str] = {}
    listed = {kind.old for kind in chosen}
    for _ in range(_REPAIRS):
        table = literal | {
            kind.old: kind.new for kind in sorted(chosen, key=lambda kind: (kind.stars, len(kind.names)))
        }
        given, wrong, _ = new_names(wanted, list(table.items()))
        missed = [old for old, new in wanted.items() if old in wrong or given.get(old, old) != new]
        if not missed:
            return table
        for old in missed:
            kind = kind_of[old]
            if kind.old not in listed:
                listed.add(kind.old)
                chosen.append(kind)
            elif kind.old in table:
                literal[escaped(old)] = escaped(wanted[old])
    return {escaped(old): escaped(new) for old, new in wanted.items() if old != new}
