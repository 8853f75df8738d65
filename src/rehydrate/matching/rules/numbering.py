"""Names that differ in numbers only, as one template: the first half of folding renames.

Renames are of one kind where old names are alike but for their numbers, new names too, and each number of a new name is
always the same, or always one of the old name's plus the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rehydrate.matching.rules.patterns import escaped, pattern

__all__ = ["LETTERS", "Kind", "numbered"]

LETTERS = "ijklmnopqrstuvwxyz"
"""What numbers are called, in their order."""

_NUMBER = re.compile(r"(?<![0-9])(0|[1-9][0-9]{0,17})(?![0-9])")
_MOST = 12
"""Numbers in a name that are compared with each other; a name with more is taken as it is."""
_LONGEST = 1000
"""Letters of a name that is folded; longer ones are taken as they are."""
_TRIED = 8
"""Ways of counting that are tried for old names that are alike but for their numbers."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Old names that one template means, and what it makes of them."""

    old: str
    new: str
    names: Sequence[str]
    stars: int = 0


@dataclass(frozen=True, slots=True)
class _Rename:
    """One name, taken apart into letters and numbers."""

    old: str
    new: str
    old_letters: tuple[str, ...]
    old_numbers: tuple[int, ...]
    new_letters: tuple[str, ...]
    new_numbers: tuple[int, ...]


Way = tuple[tuple[int | None, int], ...]
"""For each number of the new name: which of the old name's, and what is added; None for one that is always the same."""


def numbered(wanted: Mapping[str, str]) -> list[Kind]:
    """All names, each in one kind; those that stay as they are, too."""
    buckets: dict[tuple[str, ...], list[_Rename]] = {}
    for old, new in wanted.items():
        rename = _apart(old, new)
        buckets.setdefault(rename.old_letters, []).append(rename)
    return [kind for bucket in buckets.values() for kind in _kinds(bucket)]


def _apart(old: str, new: str) -> _Rename:
    before, after = _NUMBER.split(old), _NUMBER.split(new)
    if max(len(old), len(new)) > _LONGEST or max(len(before), len(after)) > 2 * _MOST + 1:
        before, after = [old], [new]
    numbers = tuple(map(int, before[1::2])), tuple(map(int, after[1::2]))
    return _Rename(old, new, tuple(before[::2]), numbers[0], tuple(after[::2]), numbers[1])


def _kinds(bucket: Sequence[_Rename]) -> Iterator[Kind]:
    """Kinds of names whose old ones are alike but for their numbers."""
    left = {rename.old: rename for rename in bucket}
    if len(bucket) > 1:
        groups = sorted(_groups(bucket), key=len, reverse=True)[:_TRIED]
        taken: set[str] = set()
        kept: dict[str, Kind] = {}
        for group in groups:
            if len(group) < 2:
                break
            old, new = _template(group)
            if old in kept:
                continue
            names = {rename.old for rename in group}
            wrong = [rename.old for rename in bucket if rename.old not in names and _means(old, rename.old)]
            # What it wrongly takes from a kind before needs a line of its own; one that is in none has that anyway.
            if len(group) > 1 + sum(1 for name in wrong if name in taken):
                kept[old] = Kind(old, new, [rename.old for rename in group])
                taken |= names
        yield from kept.values()
        left = {old: rename for old, rename in left.items() if old not in taken}
    for rename in left.values():
        yield Kind(escaped(rename.old), escaped(rename.new), [rename.old])


def _means(old: str, name: str) -> bool:
    return pattern(old).match(name) is not None


def _groups(bucket: Sequence[_Rename]) -> list[list[_Rename]]:
    """Renames that are counted alike; those that change nothing are apart from those that do."""
    alike: dict[tuple[tuple[str, ...], bool], list[_Rename]] = {}
    for rename in bucket:
        alike.setdefault((rename.new_letters, rename.old == rename.new), []).append(rename)
    groups: dict[tuple[tuple[str, ...], bool, Way], list[_Rename]] = {}
    for key, renames in alike.items():
        sources = [_source(renames, at) for at in range(len(renames[0].new_numbers))]
        for rename in renames:
            way = tuple(
                (source, number - (0 if source is None else rename.old_numbers[source]))
                for source, number in zip(sources, rename.new_numbers, strict=True)
            )
            groups.setdefault((*key, way), []).append(rename)
    return list(groups.values())


def _source(renames: Sequence[_Rename], at: int) -> int | None:
    """The number of old names that a number of new names follows best; None where it is best said as it is."""
    best: int | None = None
    fewest = len({rename.new_numbers[at] for rename in renames})
    for source in sorted(range(len(renames[0].old_numbers)), key=lambda source: abs(source - at)):
        ways = len({rename.new_numbers[at] - rename.old_numbers[source] for rename in renames})
        if ways < fewest:
            best, fewest = source, ways
    return best


def _template(group: Sequence[_Rename]) -> tuple[str, str]:
    """Old and new template of renames that are counted alike."""
    first = group[0]
    columns = list(zip(*(rename.old_numbers for rename in group), strict=True))
    sources = [_source(group, at) for at in range(len(first.new_numbers))]
    used = {source for source in sources if source is not None}
    letters: dict[int, str] = {}
    olds: list[str] = []
    for at, column in enumerate(columns):
        if len(set(column)) == 1:
            olds.append(str(column[0]))
            continue
        # A number that the new name lacks is told from another one where it can be, so that the way back is known.
        others = [] if at in used else [(it, _shift(columns[it], column)) for it in sorted(used & letters.keys())]
        letter, shift = next(((letters[it], shift) for it, shift in others if shift is not None), ("", 0))
        if not letter:
            letter = letters[at] = LETTERS[len(letters)]
        olds.append(_plus(letter, shift))
    news = [
        str(number) if source is None else _plus(letters[source], number - first.old_numbers[source])
        for source, number in zip(sources, first.new_numbers, strict=True)
    ]  # fmt: skip
    return _woven(first.old_letters, olds), _woven(first.new_letters, news)


def _shift(one: Sequence[int], other: Sequence[int]) -> int | None:
    """What is always added to the one to get the other."""
    shifts = {there - here for here, there in zip(one, other, strict=True)}
    return shifts.pop() if len(shifts) == 1 else None


def _plus(letter: str, shift: int) -> str:
    return f"{{{letter}}}" if not shift else f"{{{letter} {'+' if shift > 0 else '-'} {abs(shift)}}}"


def _woven(letters: Sequence[str], numbers: Sequence[str]) -> str:
    woven = [escaped(letters[0])]
    for number, text in zip(numbers, letters[1:], strict=True):
        woven += [number, escaped(text)]
    return "".join(woven)
