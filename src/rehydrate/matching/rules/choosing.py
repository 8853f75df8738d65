"""Many patterns at once: for each name the first that means it.

Names are not held against every pattern. Patterns without a sign are looked up by the name, those of letters and
numbers by its letters and the numbers that they want; only patterns with other signs are tried one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rehydrate.matching.rules.patterns import Captured, Pattern, apart, pattern, template

__all__ = ["new_names"]

ByNumbers = dict[tuple[int, ...], dict[tuple[str, ...], list[int]]]
"""Which of a name's numbers must be certain ones, which ones, and the patterns that want that."""


def new_names(
    names: Iterable[str], pairs: Sequence[tuple[str, str]]
) -> tuple[dict[str, str], dict[str, str], set[int]]:
    """New names of those that a pattern means, what is wrong with the others, and which patterns came first for none.

    >>> new_names(["a.1", "a.2", "b"], [("a.1", "x"), ("a.{i}", "y{i - 1}"), ("c", "d")])
    ({'a.1': 'x', 'a.2': 'y1'}, {}, {2})
    """
    given: dict[str, str] = {}
    wrong: dict[str, str] = {}
    idle = set(range(len(pairs)))
    for name, at, captured in _firsts(names, [pattern(old) for old, _ in pairs]):
        idle.discard(at)
        try:
            given[name] = template(pairs[at][1]).fill(captured)
        except ValueError as error:
            wrong[name] = str(error)
    return given, wrong, idle


def _firsts(names: Iterable[str], patterns: Sequence[Pattern]) -> Iterator[tuple[str, int, Captured]]:
    by_name: dict[str, int] = {}
    by_letters: dict[str, ByNumbers] = {}
    others: list[int] = []
    for at, each in enumerate(patterns):
        if each.literal is not None:
            by_name.setdefault(each.literal, at)
        elif each.skeleton is not None:
            wanted = tuple(place for place, run in enumerate(each.runs) if run)
            by_numbers = by_letters.setdefault(each.skeleton, {}).setdefault(wanted, {})
            by_numbers.setdefault(tuple(each.runs[place] for place in wanted), []).append(at)
        else:
            others.append(at)
    for name in names:
        best = by_name.get(name, len(patterns))
        captured = Captured()
        for among in (*(_of_numbers(by_letters, name) if by_letters else ()), others):
            for at in among:
                found = patterns[at].match(name) if at < best else None
                if found is not None:
                    best, captured = at, found
                if at >= best:
                    break
        if best < len(patterns):
            yield name, best, captured


def _of_numbers(by_letters: dict[str, ByNumbers], name: str) -> Iterator[list[int]]:
    letters, runs = apart(name)
    for wanted, by_numbers in by_letters.get(letters, {}).items():
        yield by_numbers.get(tuple(runs[place] for place in wanted), [])
