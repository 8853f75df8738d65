"""The report of a match: a screenful that is read from the end. Makes text and decides nothing.

Three lines of totals; what was taken off, found, and forgiven; which names went where, in rows that fold numbers; what
is wrong, in the words that torch uses, so that people find them again; and last the verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from rehydrate.matching.pairs import Pair
from rehydrate.text import counted, dimensions, listed, nearest, shown

if TYPE_CHECKING:
    from rehydrate.matching.match import Match

__all__ = ["advice", "problems", "report", "totals", "verdict", "wrong_counts"]

_LISTED = 10
"""Names of each kind that a message shows; there may be ten thousand."""
_ALLOWED = 3
_ROWS = 12
_SENTENCES = 12
_WIDEST = 46
"""Columns of a name in a row."""
_LINE = 98
"""Columns of a line; one that is a single long name has more."""
_GUESSED = 500
"""Names that are looked through for the one that was meant, of those that agree in the last component or before it."""


def report(match: Match) -> str:
    """The whole text."""
    first, *rest = _totals(match)
    told = [*rest, *_sentences(match)]
    lines = [*_wrapped(told), *(f"  {row}" for row in _rows(match)), *_wrapped([*problems(match), *_tries(match)])]
    return "\n".join([first, *lines, verdict(match)])


def _tries(match: Match) -> list[str]:
    return [f"try: {shown(hint, 400)}" for hint in match.hints[:_LISTED]]


def _wrapped(sentences: Iterable[str]) -> Iterator[str]:
    for sentence in sentences:
        yield from wrap(
            sentence,
            _LINE,
            initial_indent="  ",
            subsequent_indent="    ",
            break_long_words=False,
            break_on_hyphens=False,
        )


def totals(match: Match) -> str:
    """How much of the model is filled, in one line."""
    fit = f"{len(match.pairs):,} of {counted(match.tensors, 'tensor')} fit"
    return f"{match.model}: {fit}, {_percent(match.coverage)} of its parameters"


def _totals(match: Match) -> Iterator[str]:
    yield totals(match)
    if match.in_file:
        yield f"{match.used:,} of {counted(match.in_file, 'tensor')} of the file are used"
    missing, unexpected, mismatched = map(len, (match.missing, match.unexpected, match.mismatched))
    yield f"{missing:,} missing, {unexpected:,} unexpected, {mismatched:,} of another size"


def _percent(part: float) -> str:
    text = f"{100 * part:.4g}"
    if text == "100" and part < 1:
        return "99.99 %"
    return f"{text} %"


def _sentences(match: Match) -> Iterator[str]:
    every = [*match.told, *match.allowed]
    yield from (shown(sentence, 400) for sentence in every[:_SENTENCES])
    if len(every) > _SENTENCES:
        yield f"and {counted(len(every) - _SENTENCES, 'sentence')} more"


def _rows(match: Match) -> Iterator[str]:
    """Which names went where, by rule."""
    by_rule: dict[str, list[Pair]] = {}
    for pair in match.pairs:
        by_rule.setdefault(pair.rule, []).append(pair)
    rows = [row for rule, pairs in by_rule.items() for row in _section(rule, pairs)]
    width = min(max((len(row[0]) for row in rows), default=0), _WIDEST)
    for name, rule, count in rows:
        end = f"  {count}" if count else ""
        room = _LINE - 4 - max(width, len(name)) - len(end)
        yield f"{name:<{width}}  {shown(rule, room)}{end}"


def _section(rule: str, pairs: Sequence[Pair]) -> Iterator[tuple[str, str, str]]:
    """Rows of one rule: a folded name, the rule, how many tensors."""
    groups = list(grouped(pair.target.name for pair in pairs))
    for text, count in groups[:_ROWS]:
        yield shown(text, _WIDEST), rule, counted(count, "tensor") if count > 1 else ""
    if len(groups) > _ROWS:
        rest = sum(count for _, count in groups[_ROWS:])
        yield f"and {counted(rest, 'tensor')} more", rule, ""


def problems(match: Match) -> list[str]:
    """Counts first, then names and shapes, in the words that torch uses."""
    lines: list[str] = []
    if match.missing:
        lines.append(_keys("Missing", [one.name for one in match.missing], [one.name for one in match.unexpected]))
    if match.unexpected:
        lines.append(_keys("Unexpected", [one.name for one in match.unexpected], [one.name for one in match.missing]))
    for wrong in match.mismatched[:_LISTED]:
        hint = f" ({shown(wrong.hint, 200)})" if wrong.hint else ""
        lines.append(
            f"size mismatch for {shown(wrong.target.name)}: the checkpoint has {dimensions(wrong.source.shape)}, "
            f"the model {dimensions(wrong.target.shape)}{hint}"
        )
    if len(match.mismatched) > _LISTED:
        lines.append(f"and {len(match.mismatched) - _LISTED:,} more of other sizes")
    lines.extend(shown(complaint, 400) for complaint in match.complaints[:_LISTED])
    if len(match.complaints) > _LISTED:
        lines.append(f"and {len(match.complaints) - _LISTED:,} more complaints")
    return lines


def wrong_counts(match: Match) -> str:
    """What is wrong, in numbers: `1 missing, 2 of another size`."""
    kinds = (
        (match.missing, "missing"), (match.unexpected, "unexpected"), (match.mismatched, "of another size"),
        (match.complaints, "refused by the model"),
    )  # fmt: skip
    counts = [f"{len(group):,} {what}" for group, what in kinds if group]
    if not (counts or match.is_covered):
        counts.append(f"only {_percent(match.coverage)} of the parameters would be filled")
    return ", ".join(counts)


def verdict(match: Match) -> str:
    """The answer, in one line."""
    noun, _, head = match.head.partition(": ")
    if not match:
        return f"does not fit: {wrong_counts(match)}" + (f"; only {noun} differs: {head}" if head else "")
    if head and (match.kept or match.aside) and not match.resized:
        return f"everything fits but {noun}: {head}"
    forgiven = [
        f"{counted(count, 'tensor')} {what}"
        for count, what in (
            (match.resized, "brought to another size"),
            (len(match.kept) - len(match.reinitialised), "of the model kept"),
            (len(match.reinitialised), "of the model initialised anew"),
            (len(match.aside), "of the file left aside"),
        )
        if count
    ]
    return "everything fits" + (f" but what was allowed: {', '.join(forgiven)}" if forgiven else "")


def advice(match: Match) -> str:
    """What to try."""
    if match.hints:
        return "; ".join(shown(hint, 400) for hint in match.hints[:_LISTED])
    if not match.pairs and not match.mismatched:
        return "no name fits: this is a checkpoint of another model, or another part of this file is meant (which=)"
    if match.mismatched and not match.missing and not match.unexpected:
        layers = listed([repr(f"{shown(layer, 60)}.*") for layer in _layers(match)], _ALLOWED)
        keep = f", or keep the model's own: allow=Allow(mismatched=[{layers}])" if match.head else ""
        return f"build the model with the sizes of the checkpoint{keep}"
    if not wrong_names(match) and not match.is_covered:
        return f"what was allowed is nearly all; Allow(coverage={_floor_below(match.coverage)}) takes so little, if it is meant"
    return "compare the two lists: `rehydrate FILE` shows what the file holds"


def wrong_names(match: Match) -> bool:
    """Whether any tensor is in the way, and not the coverage alone."""
    return bool(match.missing or match.unexpected or match.mismatched or match.complaints)


def _floor_below(part: float) -> float:
    """The next lower hundredth."""
    return int(part * 100) / 100


def _layers(match: Match) -> list[str]:
    return list(dict.fromkeys(wrong.target.name.rpartition(".")[0] or wrong.target.name for wrong in match.mismatched))


def _keys(what: str, names: Sequence[str], others: Sequence[str]) -> str:
    near = _Near(others)
    some = [near.with_guess(name) for name in names[:_LISTED]]
    more = f" and {len(names) - len(some):,} more" if len(names) > len(some) else ""
    return f"{what} key(s) in state_dict: {len(names):,}: {', '.join(some)}{more}"


class _Near:
    """Names by what they share with others, so that a guess looks at a few and not at all of them."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._by: dict[tuple[int, str], list[str]] = {}
        for name in names if len(names) > _GUESSED else ():
            parent, _, leaf = name.rpartition(".")
            for key in ((0, parent), (1, leaf)):
                self._by.setdefault(key, []).append(name)

    def with_guess(self, name: str) -> str:
        """A name in quotes, and what may have been meant."""
        parent, _, leaf = name.rpartition(".")
        some: Iterable[str] = self._names
        if self._by:
            some = dict.fromkeys(
                other for key in ((0, parent), (1, leaf)) for other in self._by.get(key, ())[:_GUESSED]
            )
        guess = nearest(name, some)
        return f'"{shown(name)}"' + (f" (did you mean {shown(guess)}?)" if guess else "")


def grouped(names: Iterable[str]) -> Iterator[tuple[str, int]]:
    yield from ((name, 1) for name in names)
