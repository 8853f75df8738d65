"""Base-model prefixes: what stands before all names of a part on one side, and before none on the other.

A classifier calls its network `backbone.`, a detector `backbone.body.`, a language model `bert.`; who saved the network
alone has none of it. The prefix is learned from the names: for every name that is left over, the longest run of whole
components at its end that is a name of the other side votes for what stands before it. Nothing is taken for granted
about words, but where both sides have a prefix of their own, one must be a word that says no more than "the model":
`student.` may be `net.`, and an `encoder.` is no `decoder.`.

Where two parts would fit one model equally well (`encoder_q.` and `encoder_k.`), neither is chosen. Linear in the
number of names, whatever they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rehydrate.text import shown

__all__ = ["Rivals", "Shift", "find_shift", "proposal"]

_DEEPEST = 8
"""Components of a prefix; a name may have a million."""
_TRIED = 12
"""Prefixes that are held against all names, of those with the most votes."""
_ENOUGH = 0.5
"""Of the names that could agree, as many must."""
_PART = 0.9
"""Or of the part that has the prefix, this much, if it has a few tensors at least."""
_FEW = 4
_NEARLY = 0.6
"""Of the names that could agree, as many make it certain."""
_RIVAL = 0.5
"""Of what the best prefix fits, another one that claims the same must fit less than this."""

_NOTHING_SAID = frozenset(
    {"model", "net", "network", "backbone", "base_model", "base", "body", "trunk", "module", "feature_extractor"}
)  # fmt: skip
"""Words for a model inside another that do not say which."""

Fits = Callable[[str, str], bool]
"""Whether the tensor of a file and the tensor of a model, by their names, have one shape."""


@dataclass(frozen=True, slots=True)
class Shift:
    """A prefix that comes off a file's names, and one that is put before them."""

    remove: str
    add: str
    names: Mapping[str, str]
    """A name on the file's side → the name on the model's side."""
    fit: int
    """How many of these have one shape."""
    sure: str

    def __str__(self) -> str:
        if self.remove and self.add:
            return f"prefix {shown(self.remove, 60)!r} for {shown(self.add, 60)!r}"
        where = "taken off" if self.remove else "put before"
        return f"prefix {shown(self.remove or self.add, 60)!r} {where}"

    def renamed(self, name: str) -> str:
        """Any name of the file with the other prefix."""
        return self.add + name[len(self.remove) :] if name.startswith(self.remove) else name


@dataclass(frozen=True, slots=True)
class Rivals:
    """Prefixes between which nobody but the caller can choose."""

    choices: tuple[Shift, ...]

    def __str__(self) -> str:
        first = self.choices[0]
        whose = "parts of the file fit this model" if first.remove else "parts of the model could take this file"
        word = "remove" if first.remove else "add"
        names = [shown(choice.remove or choice.add, 60) for choice in self.choices]
        others = ", ".join(repr(f"{name}*") for name in names[1:])
        kind = "unexpected" if first.remove else "missing"
        return (
            f"{len(names)} {whose} equally well: {', '.join(map(repr, names))}; choose one, as with "
            f"rules=[Prefix({word}={names[0]!r})], allow=Allow({kind}=[{others}])"
        )


def find_shift(sources: Sequence[str], targets: Sequence[str], fits: Fits) -> Shift | Rivals | None:
    """The prefix that makes most of `sources`, which are left over of a file, names of `targets`.

    >>> shift = find_shift(["bert.a.w", "bert.b.w", "head.w"], ["a.w", "b.w"], lambda source, target: True)
    >>> str(shift), shift.names
    ("prefix 'bert.' taken off", {'bert.a.w': 'a.w', 'bert.b.w': 'b.w'})
    """
    wanted = dict.fromkeys(targets)
    votes = _votes(dict.fromkeys(sources), wanted)
    tried = [_shift(remove, add, sources, wanted, fits) for (remove, add), _ in votes.most_common(_TRIED)]
    tried.sort(key=lambda shift: (-shift.fit, len(shift.remove) + len(shift.add)))
    best = tried[0] if tried else None
    if best is None or not best.fit:
        return None
    of_part = sum(name.startswith(best.remove) for name in sources)
    most = min(len(sources), len(targets))
    is_part = best.fit >= max(_PART * of_part, _FEW) or best.fit >= max(_PART * _with(best.add, targets), _FEW)
    if best.fit < _ENOUGH * most and not is_part:
        return None
    rivals = [shift for shift in tried[1:] if shift.fit >= _RIVAL * best.fit and _contests(shift, best)]
    if rivals:
        return Rivals((best, *rivals))
    return best


def proposal(sources: Sequence[str], targets: Sequence[str], fits: Fits) -> Shift | None:
    """One prefix for another where both say something: `bert.` for `roberta.`. To be proposed, and not to be done."""
    votes = _votes_for_two(sources, targets, lambda one, other: one != other)
    for (remove, add), count in votes.most_common(1):
        shift = _shift(remove, add, sources, dict.fromkeys(targets), fits)
        if shift.fit >= max(_FEW, _ENOUGH * min(len(sources), len(targets))) and shift.fit >= _PART * count:
            return shift
    return None


def _votes(sources: Mapping[str, None], targets: Mapping[str, None]) -> Counter[tuple[str, str]]:
    votes: Counter[tuple[str, str]] = Counter()
    for name in sources:
        for at in _cuts(name):
            if name[at:] in targets:
                votes[name[:at], ""] += 1
                break
    for name in targets:
        for at in _cuts(name):
            if name[at:] in sources:
                votes["", name[:at]] += 1
                break
    return votes + _votes_for_two(sources, targets, lambda one, other: _says_nothing(one) or _says_nothing(other))


def _votes_for_two(
    sources: Iterable[str], targets: Iterable[str], may_be: Callable[[str, str], bool]
) -> Counter[tuple[str, str]]:
    """Votes for a prefix in the place of another."""
    votes: Counter[tuple[str, str]] = Counter()
    ends: dict[str, str | None] = {}
    for name in targets:
        for at in _cuts(name):
            ends[name[at:]] = None if name[at:] in ends else name[:at]
    for name in sources:
        for at in _cuts(name):
            add = ends.get(name[at:])
            if add and may_be(name[:at], add):
                votes[name[:at], add] += 1
                break
    return votes


def _cuts(name: str) -> Iterator[int]:
    """Where whole components end, from the front; never behind the last."""
    at = 0
    for _ in range(_DEEPEST):
        at = name.find(".", at) + 1
        if not at:
            return
        yield at


def _says_nothing(prefix: str) -> bool:
    return _NOTHING_SAID.issuperset(prefix[:-1].split("."))


def _with(prefix: str, names: Sequence[str]) -> int:
    return sum(name.startswith(prefix) for name in names)


def _shift(remove: str, add: str, sources: Sequence[str], targets: Mapping[str, None], fits: Fits) -> Shift:
    at = len(remove)
    names = {name: new for name in sources if name.startswith(remove) and (new := add + name[at:]) in targets}
    fit = sum(fits(source, target) for source, target in names.items())
    nearly = 2 * fit >= len(names) >= _NEARLY * min(len(sources), len(targets))
    return Shift(remove, add, names, fit, "certain" if nearly else "likely")


def _contests(shift: Shift, best: Shift) -> bool:
    """Whether half of what the best prefix pairs would be paired otherwise."""
    target_of, source_of = best.names, {target: source for source, target in best.names.items()}
    other = sum(
        target_of.get(source, target) != target or source_of.get(target, source) != source
        for source, target in shift.names.items()
    )
    return other >= _RIVAL * best.fit
