"""The matcher: which tensor of a file goes to which tensor of a model, found by names and shapes.

What has one name and one shape belongs together, and nothing that follows touches it. Of what is left over on both
sides, in this order: names that are one by a known rename (`known`), names that differ by a prefix (`prefixes`), and
three tensors that are one (`fused`). Each applies only where it is one to one and the shapes fit; what then has one
name and two shapes is a mismatch. Last, buffers that a constructor computes (`computed`) are told and not missed.

Nothing is forgiven here (`allow`), and no bytes move. Linear in the number of names.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.matching.computed import COUNTER, computed, reason
from rehydrate.matching.fused import fusions
from rehydrate.matching.known import Known, common_names, is_kernel, is_slot, words
from rehydrate.matching.pairs import Mismatch, Pair, Target
from rehydrate.matching.prefixes import Rivals, Shift, find_shift, proposal
from rehydrate.matching.rules.patterns import escaped
from rehydrate.matching.values import Value, permuted, reshaped
from rehydrate.text import counted, listed, shown

__all__ = ["Found", "find"]

_COMPONENT = re.compile(r"[^./]*[./]")
_LONGEST_FRONT = 1000
_ROUNDS = 8
"""Prefixes that are taken off one file."""
_LISTED = 4

_KERNELS: Mapping[int, tuple[int, ...]] = {2: (1, 0), 3: (2, 1, 0), 4: (3, 2, 0, 1), 5: (4, 3, 0, 1, 2)}
"""TensorFlow's order of a kernel's dimensions (space, in, out) → torch's (out, in, space)."""


@dataclass(slots=True)
class Found:
    """What belongs together, and what is left over; by the names that the model has without its own wrappers."""

    sources: dict[str, Value]
    """Of the file, left over."""
    targets: dict[str, Target]
    """Of the model, left over."""
    pairs: dict[str, Pair] = field(default_factory=dict)
    mismatched: dict[str, Mismatch] = field(default_factory=dict)
    kept: list[Target] = field(default_factory=list)
    """Keep the model's own values."""
    aside: dict[str, Value] = field(default_factory=dict)
    """Of the file, and of no use for the model."""
    renamed: dict[str, str] = field(default_factory=dict)
    """A name of the file → the name that the model has for it, where they differ."""
    permuted: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """A name of the file → the order that its tensor's dimensions were brought into."""
    fused: list[tuple[tuple[str, ...], tuple[str, ...]]] = field(default_factory=list)
    """Names of the file and of the model: one and three, or three and one."""
    told: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)


def find(sources: Mapping[str, Value], targets: Mapping[str, Target]) -> Found:
    """Hold the tensors of a file against those of a model."""
    found = Found(dict(sources), dict(targets))
    _by_name(found)
    _leave_slots(found)
    if found.sources and found.targets:
        _by_likeness(found)
    _leave_computed(found)
    _hint_at_squares(found)
    return found


def _hint_at_squares(found: Found) -> None:
    """Beside matrices that are the other way round, square ones fit by shape whichever way they are."""
    if not any(wrong.hint for wrong in found.mismatched.values()):
        return
    # The same layer in every block, `h.0.attn.c_attn`, says what kind of file it is: ask those that are blocks of it.
    kinds = {name.split(".", 1)[0] for name, wrong in found.mismatched.items() if wrong.hint}
    square = [
        name
        for name, pair in found.pairs.items()
        if pair.rule == "by name" and _is_square(pair.target) and name.split(".", 1)[0] in kinds
    ]
    if square:
        what = f"{counted(len(square), 'square tensor')} beside them may be the other way round, too"
        names = listed([shown(name, 60) for name in square], _LISTED)
        found.hints.append(f"{what}, which no shape tells: {names}")


def _is_square(target: Target) -> bool:
    return target.is_parameter and len(target.shape) == 2 and target.shape[0] == target.shape[1] > 1


def _by_name(found: Found) -> None:
    for name in list(found.targets) if found.sources else ():
        source = found.sources.get(name)
        if source is None:
            continue
        target = found.targets.pop(name)
        del found.sources[name]
        value = source if target.takes(source.shape) else _number(source, target)
        if value is not None:
            found.pairs[name] = Pair(target.given(value.shape), value)
        else:
            found.mismatched[name] = Mismatch(target, source, _turned(source, target))


def _number(source: Value, target: Target) -> Value | None:
    """A number, as torch 0.3 had it: a vector of one."""
    if (source.shape, target.shape) != ((1,), ()):
        return None
    return source[0] if isinstance(source, TensorRef) else reshaped(source, ())


def _turned(source: Value, target: Target) -> str:
    """What to try where the one is the other's transposed; nothing is turned because shapes happen to allow it."""
    if len(target.shape) != 2 or source.shape != target.shape[::-1]:
        return ""
    return f"the other way round; rules=[Transpose({shown(target.name, 60)!r})] turns it"


def _leave_slots(found: Found) -> None:
    slots = [name for name in found.sources if is_slot(name)]
    for name in slots:
        found.aside[name] = found.sources.pop(name)
    if slots:
        found.told.append(
            f"left aside, being an optimizer's: {counted(len(slots), 'tensor')} such as {shown(slots[0])}"
        )


@dataclass(slots=True)
class _Likeness:
    """What is left over on both sides, by names under which it may come to agree."""

    sources: dict[str, str]
    """What a tensor of the file is called by now → what the file calls it."""
    targets: dict[str, str]
    """The common name of a tensor of the model → the model's name."""
    known_of: dict[str, tuple[Known, ...]]
    """The file's name → what is known about it."""
    known_to: dict[str, tuple[Known, ...]]
    shifts: dict[str, list[Shift]] = field(default_factory=dict)
    """The file's name → the prefixes that changed it."""


def _by_likeness(found: Found) -> None:
    names = {name: name for name in found.sources}, {name: name for name in found.targets}
    likeness = _Likeness(*names, known_of={}, known_to={})
    _by_prefix(found, likeness)  # most files need no more, and every name that is paired here costs nothing below
    if found.sources and found.targets:
        found.hints.clear()  # what would fit alike by names as they are need not do so by common ones
        _make_common(likeness)
        _pair_alike(found, likeness)
        _by_prefix(found, likeness)
        _by_fusion(found, likeness)
        _note_other_sizes(found, likeness)
        _propose_prefix(found, likeness)
    rules = Counter(pair.rule for pair in found.pairs.values())
    del rules["by name"]
    sure = {pair.rule: pair.sure for pair in found.pairs.values()}
    found.told += [f"found for {counted(n, 'tensor')} ({sure[rule]}): {rule}" for rule, n in rules.items()]


def _make_common(likeness: _Likeness) -> None:
    """Give every name that is left over its common form."""
    here, there = common_names(likeness.sources), common_names(likeness.targets)
    likeness.known_of = {name: here[now][1] for now, name in likeness.sources.items()}
    likeness.known_to = {name: there[now][1] for now, name in likeness.targets.items()}
    likeness.sources = _unique((here[now][0], name) for now, name in likeness.sources.items())
    likeness.targets = _unique((there[now][0], name) for now, name in likeness.targets.items())


def _unique(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """First → second, of those whose first is nobody else's."""
    every = list(pairs)
    counts = Counter(first for first, _ in every)
    return {first: second for first, second in every if counts[first] == 1}


def _pair_alike(found: Found, likeness: _Likeness) -> None:
    """Pair all that has one name by now, and shapes that fit."""
    for now in [now for now in likeness.sources if now in likeness.targets]:
        source, target = likeness.sources[now], likeness.targets[now]
        made, order = _made(found, source, target)
        if made is None:
            continue
        del likeness.sources[now], likeness.targets[now]
        rule, sure = _said(likeness, (source,), (target,), ["kernels turned"] if order else [])
        found.pairs[target] = Pair(found.targets.pop(target).given(made.shape), made, rule, sure)
        del found.sources[source]
        found.renamed[source] = target
        if order:
            found.permuted[source] = order


def _made(found: Found, source: str, target: str) -> tuple[Value | None, tuple[int, ...]]:
    """What the target gets of the source, and the order that its dimensions were brought into, if in another."""
    value, wanted = found.sources[source], found.targets[target]
    if is_kernel(source) != is_kernel(target):
        order = _KERNELS.get(len(value.shape), ())
        back = tuple(order.index(axis) for axis in range(len(order)))
        order = order if is_kernel(source) else back
        if order and wanted.takes(tuple(value.shape[axis] for axis in order)):
            return permuted(value, order), order
    return (value, ()) if wanted.takes(value.shape) else (None, ())


def _said(likeness: _Likeness, sources: tuple[str, ...], targets: tuple[str, ...], more: list[str]) -> tuple[str, str]:
    """The rule in words, and how sure it is."""
    text, sure = words(likeness.known_of.get(sources[0], ()), likeness.known_to.get(targets[0], ()))
    shifts = likeness.shifts.get(sources[0], [])
    parts = [*map(str, shifts), *([text] if text and sources != targets else []), *more]
    is_likely = sure == "likely" or any(shift.sure == "likely" for shift in shifts)
    return "; ".join(parts), "likely" if is_likely else "certain"


def _by_prefix(found: Found, likeness: _Likeness) -> None:
    def fits(source: str, target: str) -> bool:
        return _made(found, likeness.sources[source], likeness.targets[target])[0] is not None

    for _ in range(_ROUNDS):
        sources = [now for now in likeness.sources if now not in likeness.targets]
        targets = [name for name in likeness.targets if name not in likeness.sources]
        shift = find_shift(sources, targets, fits)
        if isinstance(shift, Rivals):
            found.hints.append(str(Rivals(tuple(_as_spelled(choice, likeness) for choice in shift.choices))))
        if not isinstance(shift, Shift):
            return
        _apply(shift, likeness)
        _pair_alike(found, likeness)


def _apply(shift: Shift, likeness: _Likeness) -> None:
    """Give every name that has the prefix its new one, where nobody has that."""
    at = len(shift.add)
    told = _as_spelled(shift, likeness)
    inside = {name[at:].partition(".")[0] for name in likeness.targets if name.startswith(shift.add)}
    now_of: dict[str, str] = {}
    for now, name in likeness.sources.items():
        new = shift.renamed(now)
        is_meant = new != now and now not in likeness.targets and new[at:].partition(".")[0] in inside
        if is_meant and new not in likeness.sources and new not in now_of:
            likeness.shifts.setdefault(name, []).append(told)
            now_of[new] = name
        else:
            now_of[now] = name
    likeness.sources = now_of


def _as_spelled(shift: Shift, likeness: _Likeness) -> Shift:
    """The same with the prefixes as the file and the model have them, for whoever reads of it."""
    remove = _front([likeness.sources[now] for now in shift.names], shift.remove)
    add = _front([likeness.targets[now] for now in shift.names.values()], shift.add)
    return replace(shift, remove=remove, add=add)


def _front(names: Iterable[str], prefix: str) -> str:
    """As many components as a prefix has, of all of these names; itself where they do not have the same."""
    count = prefix.count(".")
    if not count or all(name.startswith(prefix) for name in names):
        return prefix
    fronts = {"".join(_COMPONENT.findall(name, 0, _LONGEST_FRONT)[:count]) for name in names}
    return fronts.pop() if len(fronts) == 1 else prefix


def _propose_prefix(found: Found, likeness: _Likeness) -> None:
    """Say it where names agree behind two prefixes that may be of different things."""

    def fits(source: str, target: str) -> bool:
        return _made(found, likeness.sources[source], likeness.targets[target])[0] is not None

    sources = [now for now, name in likeness.sources.items() if name in found.sources]
    targets = [now for now, name in likeness.targets.items() if name in found.targets]
    shift = proposal(sources, targets, fits) if sources and targets and not found.hints else None
    if shift is None:
        return
    told = _as_spelled(shift, likeness)
    old, new = escaped(told.remove), escaped(told.add)
    if shown(old, 60) == old and shown(new, 60) == new:
        what = f"{counted(shift.fit, 'tensor')} behind {old!r} in the file would fit behind {new!r} in the model"
        found.hints.append(f"{what}; if the two are one, rules=[Rename({old + '*'!r}, {new + '*'!r})]")


def _by_fusion(found: Found, likeness: _Likeness) -> None:
    sources = {now: found.sources[name] for now, name in likeness.sources.items()}
    targets = {common: found.targets[name] for common, name in likeness.targets.items()}
    for fusion in fusions(sources, targets):
        given = tuple(likeness.sources.pop(now) for now in fusion.sources)
        wanted = tuple(likeness.targets.pop(common) for common in fusion.targets)
        how = "query, key, value taken apart" if fusion.splits else "query, key, value put together"
        shifts = [str(shift) for shift in likeness.shifts.get(given[0], [])]
        for name, value in zip(wanted, fusion.values, strict=True):
            found.pairs[name] = Pair(found.targets.pop(name), value, "; ".join([*shifts, how]), "likely")
        for name in given:
            del found.sources[name]
        found.fused.append((given, wanted))


def _note_other_sizes(found: Found, likeness: _Likeness) -> None:
    """What has one name by now, and another shape."""
    for now in [now for now in likeness.sources if now in likeness.targets]:
        source, target = likeness.sources[now], likeness.targets[now]
        value, wanted = found.sources.pop(source), found.targets.pop(target)
        found.mismatched[target] = Mismatch(wanted, value, _turned(value, wanted))
        found.renamed[source] = target


def _leave_computed(found: Found) -> None:
    """Buffers that come and go: kept where the file lacks them, left aside where the model does."""
    kept = [
        name
        for name, target in found.targets.items()
        if not target.is_parameter
        and not name.endswith(COUNTER)  # a layout's version says whether a file should have it: for `placing` to see
        and computed(name, target.shape, target.dtype)
    ]
    aside = [name for name, value in found.sources.items() if computed(name, value.shape, value.dtype.name)]
    if aside:  # a counter beside a whole layer that is left over is a part of that layer
        own = set(aside)
        layers = {name.rpartition(".")[0] for name in found.sources if name not in own}
        aside = [name for name in aside if name.rpartition(".")[0] not in layers]
    other = [
        name
        for name, wrong in found.mismatched.items()
        if not wrong.target.is_parameter and computed(name, wrong.target.shape, wrong.target.dtype)
    ]
    found.kept += [found.targets.pop(name) for name in kept]
    found.aside |= {name: found.sources.pop(name) for name in aside}
    for name in other:
        wrong = found.mismatched.pop(name)
        found.kept.append(wrong.target)
        found.aside[wrong.source.name] = wrong.source
    for names, what in (
        (kept, "the model's own kept, the file having none"),
        (aside, "left aside, the model having none"),
        (other, "the model's own kept, the file's having another size"),
    ):
        if names:
            each = dict.fromkeys(f"{name.rpartition('.')[2]} ({reason(name)})" for name in names)
            found.told.append(f"{counted(len(names), 'buffer')} {what}: {listed(list(each), _LISTED)}")
