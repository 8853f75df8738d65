"""What was found, as rules: few, readable, and exact for the file that they were found for.

A match that is saved becomes a mapping that somebody can read, change, and use again. Layers that differ in their
numbers become one rule with `{i}`; every pattern that is made here is tried on all names of the file, and where it
would take more than it should, the names are listed instead. Finds nothing itself and applies nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rehydrate.matching.matcher import Found
from rehydrate.matching.pairs import Target
from rehydrate.matching.rules.folding import rename_rules
from rehydrate.matching.rules.patterns import escaped, found_in
from rehydrate.matching.rules.regrouping import Chunk, Concat
from rehydrate.matching.rules.reshaping import Permute
from rehydrate.matching.rules.rule import Rule
from rehydrate.matching.values import Value

__all__ = ["found_rules"]

_NUMBER = re.compile(r"(?<![0-9])(0|[1-9][0-9]{0,8})(?![0-9])")
_LETTERS = "ijklmnop"


def found_rules(values: Mapping[str, Value], targets: Mapping[str, Target], found: Found) -> tuple[Rule, ...]:
    """The rules that give the tensors of a file, `values`, the names of a model, and the shapes of fused ones.

    `targets` are those of the model by the names that `found` has for them.
    """
    full = {name: target.name for name, target in targets.items()}
    names = {name: full.get(found.renamed.get(name, name), name) for name in values}
    if not found.fused and not found.permuted and all(name == new for name, new in names.items()):
        return ()
    rules: list[Rule] = [*_permutes(values, found.permuted), *_fusions(values, full, targets, found)]
    for sources, wanted in found.fused:
        for name in sources:
            del names[name]
        names |= {full[name]: full[name] for name in wanted}
    return (*rules, *rename_rules(names.items()))


def _permutes(values: Mapping[str, Value], orders: Mapping[str, tuple[int, ...]]) -> Iterator[Rule]:
    by_order: dict[tuple[int, ...], list[str]] = {}
    for name, order in orders.items():
        by_order.setdefault(order, []).append(name)
    for order, names in by_order.items():
        yield from (Permute(glob, order) for glob in _globs(values, names))


def _globs(values: Mapping[str, Value], names: Sequence[str]) -> list[str]:
    """One pattern for tensors that end alike, if it takes no others; else their names."""
    end = re.split(r"[./]", names[0])[-1]
    glob = f"*{escaped(end)}"
    return [glob] if {name for name, _ in found_in(values, glob)} == set(names) else list(map(escaped, names))


def _fusions(
    values: Mapping[str, Value], full: Mapping[str, str], targets: Mapping[str, Target], found: Found
) -> Iterator[Rule]:
    """Each kind of three that are one, layers folded."""
    kinds: dict[
        tuple[tuple[str, ...], tuple[str, ...], tuple[int, ...]], list[tuple[tuple[str, ...], tuple[str, ...]]]
    ] = {}
    for sources, wanted in found.fused:
        new = tuple(full[name] for name in wanted)
        sizes = tuple(targets[name].shape[0] for name in wanted) if len(wanted) > 1 else ()
        sizes = sizes or tuple(values[name].shape[0] for name in sources)
        kinds.setdefault((*_folded(sources, new), sizes), []).append((sources, new))
    for (old, new, sizes), members in kinds.items():
        parts = sizes if len(set(sizes)) > 1 else None
        is_exact = all(
            {name for name, _ in found_in(values, glob)} == {sources[at] for sources, _ in members}
            for at, glob in enumerate(old)
        )
        for sources, wanted in [(old, new)] if is_exact else [_spelled(*member) for member in members]:
            if len(sources) == 1:
                yield Chunk(sources[0], wanted, 0, parts)
            else:
                yield Concat(sources, wanted[0], 0, parts)


def _folded(sources: tuple[str, ...], wanted: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names with letters for their numbers, where all have the same numbers in one order."""
    numbers = [_NUMBER.findall(name) for name in (*sources, *wanted)]
    if not numbers[0] or len(numbers[0]) > len(_LETTERS) or any(other != numbers[0] for other in numbers):
        return _spelled(sources, wanted)
    return tuple(map(_lettered, sources)), tuple(map(_lettered, wanted))


def _lettered(name: str) -> str:
    letters = iter(_LETTERS)
    pieces = _NUMBER.split(name)
    return "".join(f"{{{next(letters)}}}" if at % 2 else escaped(piece) for at, piece in enumerate(pieces))


def _spelled(sources: Iterable[str], wanted: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(map(escaped, sources)), tuple(map(escaped, wanted))
