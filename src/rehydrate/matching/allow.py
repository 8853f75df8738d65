"""Allow: what a caller forgives on purpose, and what then becomes of it.

Nothing is forgiven that was not named, every pattern says how often it was used and whether it was used at all, and a
floor on what is filled (`coverage`) holds even where everything was forgiven: that is where a load that fills nothing
is an error instead of a model of random numbers. Tensors of another size become what `how` says; those whose shape has
a well-known meaning (`adapting`) are brought into the model's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from rehydrate.matching.adapting import adapted
from rehydrate.matching.matcher import Found
from rehydrate.matching.pairs import Mismatch, Pair, Target
from rehydrate.matching.rules.patterns import found_in, pattern
from rehydrate.matching.values import Value, sliced
from rehydrate.text import counted, listed, shown

__all__ = ["Allow", "Forgiven", "How", "forgive", "is_idle"]

How = Literal["keep", "slice", "pad", "reinit"]
Patterns = str | Sequence[str]

_LISTED = 3
_IDLE = " forgave nothing"
_KINDS = ("missing", "unexpected", "mismatched")


@dataclass(frozen=True, slots=True)
class Allow:
    """What may differ between a file and a model.

    `missing` names tensors of the model that the file may lack: they keep their values. `unexpected` names tensors of
    the file that the model may lack: they are left aside. `mismatched` names tensors of the model that the file may
    have in another size. Each is a pattern or several, as rules have them: `*` is any characters, dots too.

    `how` says what becomes of a tensor of another size:

    - `keep`: the model's values stay.
    - `slice`: the file's is larger, and its first rows and columns are taken.
    - `pad`: the model's is larger; the file's values fill its first rows and columns, and the rest keeps the model's.
    - `reinit`: the module is initialised anew (`reset_parameters`).

    With `slice` and `pad` a convolution for other input channels is summed or repeated, and position embeddings of
    another grid are interpolated: their first rows would mean something else.

    `coverage` is the part of the model's parameters, by elements, that must be filled whatever is allowed.

    Raises `ValueError` for a `how` that there is not, a coverage that is no part of one, and a pattern that is none.

    >>> Allow(mismatched="fc.*", how="slice").how
    'slice'
    """

    missing: Patterns = ()
    unexpected: Patterns = ()
    mismatched: Patterns = ()
    how: How = "keep"
    coverage: float = 0.5

    def __post_init__(self) -> None:
        if self.how not in get_args(How):
            known = ", ".join(map(repr, get_args(How)))
            raise ValueError(f"how= is one of {known}; got {self.how!r}")
        is_number = isinstance(self.coverage, (int, float)) and not isinstance(self.coverage, bool)
        if not is_number or not 0 <= self.coverage <= 1:
            raise ValueError(f"coverage= is a part of one, from 0 to 1; got {self.coverage!r}")
        for kind, patterns in zip(_KINDS, (self.missing, self.unexpected, self.mismatched), strict=True):
            several = patterns if isinstance(patterns, Collection) else [patterns]
            if not isinstance(patterns, str) and not all(isinstance(each, str) for each in several):
                raise TypeError(f"{kind}= is a pattern or several, as strings; got {patterns!r}")
            for each in [patterns] if isinstance(patterns, str) else patterns:
                pattern(each)


@dataclass(slots=True)
class Forgiven:
    """What is left after an `Allow`."""

    pairs: dict[str, Pair] = field(default_factory=dict)
    """Tensors of another size that are filled none the less, by the model's names without its wrappers."""
    kept: list[Target] = field(default_factory=list)
    resized_kept: int = 0
    """How many of `kept` are of another size in the file."""
    reinitialised: list[str] = field(default_factory=list)
    aside: dict[str, Value] = field(default_factory=dict)
    allowed: list[str] = field(default_factory=list)
    """Which pattern forgave what: sentences."""
    told: list[str] = field(default_factory=list)
    """What became of tensors of another size: sentences."""


def forgive(found: Found, allow: Allow, wrapper: str = "") -> Forgiven:
    """Take out of `found` what is allowed, and say what becomes of it.

    `wrapper` is what wrappers put before each of a model's names; patterns may have it or not.
    """
    forgiven = Forgiven()
    chosen = _Chosen(forgiven, wrapper)
    for name in chosen.of("missing", allow.missing, {name: target.name for name, target in found.targets.items()}):
        forgiven.kept.append(found.targets.pop(name))
    for name in chosen.of("unexpected", allow.unexpected, {name: name for name in found.sources}):
        forgiven.aside[name] = found.sources.pop(name)
    for name in chosen.of(
        "mismatched", allow.mismatched, {name: wrong.target.name for name, wrong in found.mismatched.items()}
    ):
        _settle(name, found, forgiven, allow.how)
    forgiven.told += _became(forgiven, allow.how)
    return forgiven


def is_idle(sentence: str) -> bool:
    """Whether a sentence of `allowed` is about a pattern that was of no use."""
    return sentence.endswith(_IDLE)


def _became(forgiven: Forgiven, how: How) -> Iterator[str]:
    """What became of tensors of another size, by what was done."""
    same = len(forgiven.reinitialised) if how == "reinit" else forgiven.resized_kept
    if same:
        what = "to be initialised anew" if how == "reinit" else "the model's own values kept"
        yield f"of another size, {counted(same, 'tensor')}: {what}"
    for rule, count in Counter(pair.rule for pair in forgiven.pairs.values()).items():
        yield f"of another size, {counted(count, 'tensor')}: {rule}"


@dataclass(slots=True)
class _Chosen:
    """Names that patterns choose, and the sentences about it."""

    forgiven: Forgiven
    wrapper: str

    def of(self, kind: str, patterns: Patterns, names: dict[str, str]) -> list[str]:
        """The keys of `names` that a pattern chooses by key or by value, or by that without the wrapper."""
        chosen: dict[str, None] = {}
        spellings = {key: {key, name, name.removeprefix(self.wrapper)} for key, name in names.items()}
        spelled = dict.fromkeys(spelling for each in spellings.values() for spelling in each)
        for glob in dict.fromkeys([patterns] if isinstance(patterns, str) else patterns):
            meant = {name for name, _ in found_in(spelled, glob)}
            here = [key for key, each in spellings.items() if not meant.isdisjoint(each)]
            chosen |= dict.fromkeys(here)
            sentence = f"Allow({kind}=[{shown(glob, 60)!r}])"
            if here:
                some = listed([shown(names[key], 60) for key in here], _LISTED)
                self.forgiven.allowed.append(f"{sentence} forgave {counted(len(here), 'tensor')}: {some}")
            else:
                self.forgiven.allowed.append(f"{sentence}{_IDLE}")
        return list(chosen)


def _settle(name: str, found: Found, forgiven: Forgiven, how: How) -> None:
    """What becomes of a tensor of another size."""
    wrong = found.mismatched[name]
    made: Pair | str
    if how in ("keep", "reinit"):
        del found.mismatched[name]
        forgiven.kept.append(wrong.target)
        forgiven.aside[wrong.source.name] = wrong.source
        if how == "reinit":
            forgiven.reinitialised.append(wrong.target.name)
        else:
            forgiven.resized_kept += 1
        return
    known = adapted(wrong.target, wrong.source, may_slice=how == "slice")
    made = known if known is not None else _cut(wrong) if how == "slice" else _filled(wrong)
    if isinstance(made, Pair):
        del found.mismatched[name]
        forgiven.pairs[name] = made
    else:
        found.mismatched[name] = Mismatch(wrong.target, wrong.source, made)


def _cut(wrong: Mismatch) -> Pair | str:
    """The first rows and columns of a larger tensor, or why there are none."""
    value, shape = wrong.source, wrong.target.shape
    if reason := _other_way(wrong.source.shape, shape, "slice", "smaller"):
        return reason
    for axis, extent in enumerate(shape):
        if extent != value.shape[axis]:
            value = sliced(value, axis, 0, extent)
    return Pair(wrong.target, value, f"the first {_differing(shape, wrong.source.shape)}", "likely")


def _filled(wrong: Mismatch) -> Pair | str:
    """A smaller tensor in the first rows and columns of the model's, or why not."""
    here, shape = wrong.source.shape, wrong.target.shape
    if reason := _other_way(shape, here, "pad", "larger"):
        return reason
    rule = f"the first {_differing(here, shape)} filled, the rest the model's own"
    return Pair(wrong.target, wrong.source, rule, "likely", part=tuple((0, extent) for extent in here))


def _other_way(large: Sequence[int], small: Sequence[int], how: str, word: str) -> str:
    """Why one shape does not lie in another, if it does not."""
    if len(large) != len(small):
        return f"how={how!r} cannot change the number of dimensions"
    axes = [axis for axis, (more, less) in enumerate(zip(large, small, strict=True)) if more < less]
    if not axes:
        return ""
    some_fit = any(more > less for more, less in zip(large, small, strict=True))
    both = ", and larger along another" if word == "smaller" and some_fit else ""
    both = ", and smaller along another" if word == "larger" and some_fit else both
    return f"how={how!r} does not help: the checkpoint's is {word} along dimension {axes[0]}{both}"


def _differing(first: Sequence[int], whole: Sequence[int]) -> str:
    """What of a shape is meant: `3 of 1,000 along dimension 0`."""
    return " and ".join(
        f"{one:,} of {other:,} along dimension {axis}"
        for axis, (one, other) in enumerate(zip(first, whole, strict=True))
        if one != other
    )
