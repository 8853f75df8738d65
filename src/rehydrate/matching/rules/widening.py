"""Renames in which the same components change, as one template with stars: the second half of folding renames.

`a.norm.{i}.weight` and `b.norm.{i}.bias` become `*.norm.{i}.*`. A template with stars may mean more than what it was
made of, so each is tried on all names before it is taken.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from rehydrate.matching.rules.choosing import new_names
from rehydrate.matching.rules.numbering import LETTERS, Kind

__all__ = ["widened"]

_TRIED = 64
"""Templates that are tried, each on all names."""
_MATCHES = 1_000_000
"""Names that are tried altogether."""
_LETTER = re.compile(r"\{([i-z])(?=[ }])")
_NUMBER = re.compile(r"\{[^}]*\}|(?<![0-9])(0|[1-9][0-9]{0,17})(?![0-9])")
_SPARE = LETTERS[:-6:-1]
"""Letters that no kind of names has, for numbers that are the same in all of a kind and others in another."""


@dataclass(frozen=True, slots=True)
class _Change:
    """What a kind of renames changes: the components between a front and a back that stay."""

    kind: Kind
    front: str
    old: str
    new: str
    back: str
    is_counted: bool = False
    """Whether numbers that are always the same in this kind were made into letters."""


def widened(wanted: Mapping[str, str], kinds: Sequence[Kind]) -> list[Kind]:
    """Templates with stars that are worth it, and the kinds that none of them takes."""
    kind_of = {name: kind.old for kind in kinds for name in kind.names}
    sizes = {kind.old: len(kind.names) for kind in kinds if kind.old != kind.new}
    chosen: list[Kind] = []
    done: set[str] = set()
    tries = max(min(_TRIED, _MATCHES // len(wanted)), 2)
    for old, new, members in _candidates([kind for kind in kinds if kind.old in sizes]):
        if sum(member not in done for member in members) < 2:
            continue
        tries -= 1
        if tries < 0:
            break
        given, bad, _ = new_names(wanted, [(old, new)])
        right = [name for name, made in given.items() if wanted[name] == made]
        counts = Counter(kind_of[name] for name in right)
        gained = {each for each, count in counts.items() if count == sizes.get(each) and each not in done}
        lost = {kind_of[name] for name in [*bad, *(name for name, made in given.items() if wanted[name] != made)]}
        # A kind that this takes names from, and that had no line of its own so far, needs one in front of it.
        if len(gained) > 1 + sum(each in done or each not in sizes for each in lost):
            done |= gained
            chosen.append(Kind(old, new, right, old.count("*")))
    return [*chosen, *(kind for kind in kinds if kind.old in sizes and kind.old not in done)]


def _candidates(kinds: Sequence[Kind]) -> list[tuple[str, str, list[str]]]:
    """Templates for kinds in which the same components change, and those kinds; those of many names first."""
    alike: dict[tuple[str, ...], list[_Change]] = {}
    for change in _changes(kinds):
        for key in _keys(change):
            alike.setdefault(key, []).append(change)
    found: dict[tuple[str, str], list[_Change]] = {}
    for changes in alike.values():
        if len(changes) > 1:
            found.setdefault(_template(changes), changes)
    ordered = sorted(found.items(), key=lambda each: _priority(each[1]))
    return [(old, new, [change.kind.old for change in changes]) for (old, new), changes in ordered]


def _priority(changes: Sequence[_Change]) -> tuple[int, bool]:
    """Those of many names first; among equals those that mean fewer others."""
    return -sum(len(change.kind.names) for change in changes), changes[0].is_counted


def _changes(kinds: Sequence[Kind]) -> Iterator[_Change]:
    """What each kind changes, in all the ways to see it that others may have in common with it."""
    for kind in kinds:
        olds, news = kind.old.split("."), kind.new.split(".")
        back = _alike(olds[::-1], news[::-1])
        front = min(_alike(olds, news), len(olds) - back, len(news) - back)
        for more in (0, 1) if front + back == len(olds) else (0,):  # what is put in is told by what it is put before
            tail = max(back - more, 0)
            core = ".".join(olds[front : len(olds) - tail]), ".".join(news[front : len(news) - tail])
            ends = ".".join(olds[:front]), ".".join(olds[len(olds) - tail :])
            if any(ends) and set(_LETTER.findall(core[1])) <= set(_LETTER.findall(core[0])):
                yield _Change(kind, ends[0], *core, ends[1])
                counted = _counted(*core)
                if counted is not None:
                    yield _Change(kind, ends[0], *counted, ends[1], is_counted=True)


def _counted(old: str, new: str) -> tuple[str, str] | None:
    """Both with letters for numbers that are always the same, where those of the new one are among those of the old."""
    numbers = list(dict.fromkeys(found[1] for found in _NUMBER.finditer(old) if found[1]))
    wanted = {found[1] for found in _NUMBER.finditer(new) if found[1]}
    if not numbers or len(numbers) > len(_SPARE) or not wanted <= set(numbers):
        return None
    letters = dict(zip(numbers, _SPARE, strict=False))

    def lettered(text: str) -> str:
        return _NUMBER.sub(lambda found: f"{{{letters[found[1]]}}}" if found[1] else found[0], text)

    return lettered(old), lettered(new)


def _alike(one: Sequence[str], other: Sequence[str]) -> int:
    """Components with which both begin."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _keys(change: _Change) -> dict[tuple[str, ...], None]:
    """What changes must have in common to be one: what changes, with any front and back, or with one of them."""
    core = _renamed(change.old, change.new)
    front, back = _renamed(change.front, "")[0], _renamed(change.back, "")[0]
    widest = bool(front) * "*", bool(back) * "*"
    return dict.fromkeys([(*core, *widest), (*core, front, widest[1]), (*core, widest[0], back)])


def _template(changes: Sequence[_Change]) -> tuple[str, str]:
    """A template that means all of them: what they have in common as it is, and stars for the rest."""
    first = changes[0]
    front = first.front if len({change.front for change in changes}) == 1 else "*"
    back = first.back if len({_renamed(change.back, "") for change in changes}) == 1 else "*"
    old = ".".join(part for part in (front, first.old, back) if part)
    new = ".".join(part for part in (front, first.new, back) if part)
    return _renamed(old, new)


def _renamed(old: str, new: str) -> tuple[str, str]:
    """Two templates with the letters of their numbers in the order in which the first has them."""
    letters: dict[str, str] = {}
    for letter in _LETTER.findall(old):
        letters.setdefault(letter, LETTERS[len(letters)])

    def named(text: str) -> str:
        return _LETTER.sub(lambda found: "{" + letters.get(found[1], found[1]), text)

    return named(old), named(new)
