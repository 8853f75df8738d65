"""The report of a match: a screenful that is read from the end. Makes text and decides nothing.

Three lines of totals; what was taken off, found, and forgiven; which names went where, in rows that fold numbers; what
is wrong, in the words that torch uses, so that people find them again; and last the verdict.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from rehydrate.matching.computed import COUNTER
from rehydrate.matching.pairs import Pair, Target
from rehydrate.matching.rules.folding import grouped
from rehydrate.matching.rules.patterns import apart, escaped
from rehydrate.matching.values import Value
from rehydrate.text import counted, dimensions, nearest, shown

if TYPE_CHECKING:
    from rehydrate.matching.match import Match

__all__ = ["advice", "problems", "report", "totals", "verdict", "wrong_counts"]

_LISTED = 10
"""Names of each kind that a message shows; there may be ten thousand."""
_ALLOWED = 3
"""Patterns of each kind that are proposed."""
_DEEPEST = 8
"""Components that such a pattern begins with; a name may have a million."""
_ROWS = 12
_SENTENCES = 12
_RULE = 32
"""Columns that a rule has in a row, at least."""
_LINE = 98
"""Columns of a line; one that is a single long name has more."""
_ADAPTER = ".lora_"
_RUNS = re.compile("([0-9]+)")
_DIGITS = 9
"""Digits of a layer's number."""
_GUESSES = 3
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
        yield f"{match.used:,} of {counted(match.in_file, 'tensor')} of the file used"
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
    for rule, pairs in by_rule.items():
        yield from _section(rule, pairs)


def _section(rule: str, pairs: Sequence[Pair]) -> Iterator[str]:
    """Rows of one rule: a folded name, the rule, how many tensors."""
    groups = grouped(pair.target.name for pair in pairs)
    rows = [(text, counted(count, "tensor") if count > 1 else "") for text, count in groups[:_ROWS]]
    if len(groups) > _ROWS:
        rows.append((f"and {counted(sum(count for _, count in groups[_ROWS:]), 'tensor')} more", ""))
    room = _LINE - 6 - max(len(count) for _, count in rows)
    words = shown(rule, max(_RULE, room - max(len(text) for text, _ in rows)))
    names = [shown(text, room - len(words)) for text, _ in rows]
    width = max(map(len, names))
    for name, (_, count) in zip(names, rows, strict=True):
        yield f"{name:<{width}}  {words}  {count}".rstrip()


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
    if match.unexpected and all(_ADAPTER in value.name for value in match.unexpected):
        return "these are adapters of LoRA, which belong beside the weights of a model: into one that peft has made"
    if not match.pairs and not match.mismatched:
        return "no name fits: this is a checkpoint of another model, or another part of this file is meant (which=)"
    if not _is_in_the_way(match) and not match.is_covered:
        floor = int(match.coverage * 100) / 100
        return f"most of it would keep its own values; if that is meant, Allow(coverage={floor}) takes so little"
    if match.head and not match.complaints:
        return _advice_on_head(match)
    if match.mismatched and not match.missing and not match.unexpected:
        return "build the model with the sizes of the checkpoint"
    return f"compare the two lists: `rehydrate FILE` shows what the file holds{_advice_on_rest(match)}"


def _advice_on_rest(match: Match) -> str:
    """What to write where the rest of the model is meant to keep its own, if that is little to write."""
    if match.complaints or not match.is_covered:
        return ""
    taken = [pair.target.name for pair in match.pairs]
    used = [pair.source.name for pair in match.pairs]
    kinds = (
        ("missing", _apart_from(taken, [target.name for target in match.missing])),
        ("unexpected", _apart_from(used, [value.name for value in match.unexpected])),
        ("mismatched", _apart_from(taken, [wrong.target.name for wrong in match.mismatched])),
    )
    globs = [glob for _, each in kinds for glob in each]
    if any(len(each) > _ALLOWED for _, each in kinds) or any(shown(glob, 60) != glob for glob in globs):
        return ""
    return f"; if what differs is meant to, allow={_allow(kinds)}"


def _allow(kinds: Iterable[tuple[str, Sequence[str]]]) -> str:
    """`Allow(missing=['fc.*'])`, of patterns."""
    return f"Allow({', '.join(f'{kind}={list(globs)!r}' for kind, globs in kinds if globs)})"


def _apart_from(others: Iterable[str], names: Sequence[str]) -> list[str]:
    """The few patterns that mean these names and none of the others."""
    if not names:
        return []
    fronts = {front for name in others for front in _fronts(name)}
    globs: dict[str, None] = {}
    for name in names:
        front = next((front for front in _fronts(name) if front not in fronts), None)
        globs[escaped(name) if front is None else f"{escaped(front)}*"] = None
    return list(globs)


def _fronts(name: str) -> Iterator[str]:
    """What a name begins with, in whole components."""
    at = 0
    for _ in range(_DEEPEST):
        at = name.find(".", at) + 1
        if not at:
            return
        yield name[:at]


def _advice_on_head(match: Match) -> str:
    """What to write for the layers that differ."""
    missing = _layers(target.name for target in match.missing if not target.name.endswith(COUNTER))
    unexpected = _layers(value.name for value in match.unexpected)
    mismatched = _layers(wrong.target.name for wrong in match.mismatched)
    if len(missing) == len(unexpected) == 1 and _shapes(match.missing) == _shapes(match.unexpected):
        moved = _moved(match)
        if moved:
            return f"layers between the two have the same names, so all may be counted otherwise: rules=[{moved}]"
        return f"the two have one shape: rules=[Rename({unexpected[0]!r}, {missing[0]!r})]"
    allow = _allow((("missing", missing), ("unexpected", unexpected), ("mismatched", mismatched)))
    start = "build the model with the sizes of the checkpoint, or keep" if mismatched else "keep"
    return f"{start} the model's own: allow={allow}"


def _moved(match: Match) -> str:
    """The rename that counts all layers otherwise, if `a.0` is left of `a.0 ... a.3` and the model lacks `a.4`."""
    old, new = match.unexpected[0].name, match.missing[0].name
    letters, runs = apart(old)
    other_letters, other_runs = apart(new)
    places = [at for at, (one, other) in enumerate(zip(runs, other_runs, strict=False)) if one != other]
    if letters != other_letters or len(places) != 1 or max(map(len, (*runs, *other_runs))) > _DIGITS:
        return ""
    at = places[0]
    first, last = sorted((int(runs[at]), int(other_runs[at])))
    between = str(first + 1)
    alike = [*runs[:at], between, *runs[at + 1 :]]
    if first + 1 == last or not any(apart(pair.target.name) == (letters, alike) for pair in match.pairs):
        return ""
    pieces = _RUNS.split(old)
    front, back = (escaped("".join(part)) for part in (pieces[: 2 * at + 1], pieces[2 * at + 2 :]))
    sign = "+" if int(runs[at]) == first else "-"
    back = f"{back.rpartition('.')[0]}.*" if "." in back else back
    return f"Rename({front + '{i}' + back!r}, {front + '{i ' + sign + ' 1}' + back!r})"


def _shapes(tensors: Sequence[Target | Value]) -> list[tuple[str, tuple[int, ...]]]:
    """Last components and shapes."""
    return sorted((one.name.rpartition(".")[2], one.shape) for one in tensors)


def _is_in_the_way(match: Match) -> bool:
    """Whether any tensor is in the way, and not the coverage alone."""
    return bool(match.missing or match.unexpected or match.mismatched or match.complaints)


def _layers(names: Iterable[str]) -> list[str]:
    """Patterns of the modules that tensors are in; of a tensor in none, its name."""
    layers = ((name.rpartition(".")[0], name) for name in names)
    return list(dict.fromkeys(f"{escaped(shown(layer, 60))}.*" if layer else escaped(name) for layer, name in layers))


def _keys(what: str, names: Sequence[str], others: Sequence[str]) -> str:
    near = _Near(others)
    # Of many names the first few show what is meant; of a few, each may be misspelled.
    guessed = _LISTED if len(names) <= _LISTED else _GUESSES
    some = [near.with_guess(name) if at < guessed else _quoted(name) for at, name in enumerate(names[:_LISTED])]
    more = f" and {len(names) - len(some):,} more" if len(names) > len(some) else ""
    return f"{what} key(s) in state_dict: {len(names):,}: {', '.join(some)}{more}"


def _quoted(name: str) -> str:
    return f'"{shown(name)}"'


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
        return _quoted(name) + (f" (did you mean {shown(guess)}?)" if guess else "")
