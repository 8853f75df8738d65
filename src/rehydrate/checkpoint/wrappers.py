"""Wrappers: what training puts around a model, and so before or into the names of its tensors.

    module.                        DataParallel and DistributedDataParallel, DeepSpeed, AveragedModel
    _module.                       Opacus
    model.                         a LightningModule that holds the model, in a file that Lightning wrote
    _orig_mod.                     torch.compile
    _fsdp_wrapped_module.          FullyShardedDataParallel; `_fpw_module.` inside it until torch 1.12
    _checkpoint_wrapped_module.    activation checkpointing
    _forward_module.               Lightning's strategies

Only whole components of dotted names come off. Those that begin with an underscore and say whose they are come off
wherever they stand, because nobody calls a layer so; the others only where every name begins with them. Inside a name,
`module` comes off where it is all that a named part has and a network lies below it: `features.module.0.weight`. Of a
pickled module the classes are known, and nothing is concluded from names. Where two names would become one, nothing
comes off. Every step is told in a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rehydrate.checkpoint.modules import COUNTER
from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.text import counted, listed, shown

__all__ = ["Unwrapped", "front", "unwrap", "words_of"]

_ANYWHERE: Mapping[str, str] = {
    "_orig_mod": "torch.compile",
    "_fsdp_wrapped_module": "FullyShardedDataParallel",
    "_fpw_module": "FullyShardedDataParallel",
    "_checkpoint_wrapped_module": "activation checkpointing",
    "_forward_module": "Lightning",
}
"""Components that no model has of itself, and who puts them there."""

_FRONT: Mapping[str, str] = {"module": "DataParallel", "_module": "Opacus"}
"""Components that a model could have of itself: they come off only where every name begins with them."""

_LIGHTNING = "model"
"""How a LightningModule calls the model that it trains; it comes off once, and only in Lightning's own files."""

_LOSSES = frozenset(
    {
        "loss", "losses", "criterion", "criteria", "objective", "metric", "metrics", "acc", "accuracy", "auroc", "auc",
        "confmat", "iou", "perplexity",
    }
)  # fmt: skip
"""Words in the names of what stands beside a LightningModule's model: they are no part of it."""

_INNER = "module"
"""What is taken out of the inside of names, too, where it is safe."""

_WORDS = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")
_LONGEST = max(map(len, (*_FRONT, *_ANYWHERE))) + 1
_DEEPEST = 8
"""Components before an inner wrapper; a name may have a million."""
_KEY = 100
"""Letters of a key that are looked at for words."""
_LISTED = 4


@dataclass(frozen=True, slots=True)
class Unwrapped:
    """Names without wrappers."""

    names: Mapping[str, str]
    """The name in the file → the name that the model has for it; empty where nothing came off."""
    removed: tuple[str, ...] = ()
    """What came off, in sentences."""
    left_out: frozenset[str] = frozenset()
    """Names in the file of what is the wrapper's own."""


def words_of(text: str) -> list[str]:
    """The words that a key is made of, in small letters.

    >>> words_of("netG"), words_of("model_ema"), words_of("EMACallback"), words_of("conv2d_1")
    (['net', 'g'], ['model', 'ema'], ['ema', 'callback'], ['conv2d', '1'])
    """
    return [word.lower() for word in _WORDS.findall(text[:_KEY])]


def unwrap(
    tensors: Mapping[str, TensorRef],
    others: Iterable[str] = (),
    *,
    known: Mapping[str, str] | None = None,
    is_lightning: bool = False,
) -> Unwrapped:
    """Take wrappers off the names of `tensors`, and the same off `others`, which are names in the same file.

    `known` has names without those wrappers whose classes are known; nothing is then concluded from names that a model
    could have of itself.
    """
    work = _Work({name: name for name in tensors}, {name: name for name in others})
    text = "\n".join(tensors)
    if known is not None:
        _take_known(work, known)
    else:
        _take_front(work, is_lightning)
    if any(mark in text for mark in _ANYWHERE):
        _take_marks(work)
        if known is None:
            _take_front(work, is_lightning=False)
    if known is None and f".{_INNER}." in text:
        _take_inner(work)
    is_changed = bool(work.left_out) or any(name != own for name, own in work.own.items())
    names = {**work.others, **work.own} if is_changed else {}
    return Unwrapped(names, tuple(work.removed), frozenset(work.left_out))


@dataclass(slots=True)
class _Work:
    """Names on their way."""

    own: dict[str, str]
    """The name of a tensor in the file → what is left of it."""
    others: dict[str, str]
    removed: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def taken_out(self, found: Mapping[str, str]) -> bool:
        """Accept new names, unless two would be one."""
        owners: dict[str, str] = {}
        for name, own in self.own.items():
            new = found.get(name, own)
            if new in owners:
                self.removed.append(f"wrappers left in the names: two tensors would both be called {shown(new)!r}")
                return False
            owners[new] = name
        self.own.update(found)
        return True


def front(names: Sequence[str]) -> str:
    """The wrappers that stand before every one of `names`, in a row.

    >>> front(["module._orig_mod.fc.weight", "module._orig_mod.fc.bias"]), front(["module.fc.weight", "fc.bias"])
    ('module._orig_mod.', '')
    """
    at = 0
    while names and (mark := _mark_at(names, at)):
        if not all(name.startswith(mark + ".", at) for name in names):
            break
        at += len(mark) + 1
    return names[0][:at] if at else ""


def _mark_at(names: Sequence[str], at: int, *, is_lightning: bool = False) -> str:
    """A wrapper's component that a few of the names have at a place; what all have is for the caller to see."""
    for name in (names[0], names[len(names) // 2], names[-1]):
        mark, dot, _ = name[at : at + _LONGEST].partition(".")
        if dot and (mark in _FRONT or mark in _ANYWHERE or (is_lightning and mark == _LIGHTNING)):
            return mark
    return ""


def _take_front(work: _Work, is_lightning: bool) -> None:
    """Take off the row of wrappers before every name, and what is a wrapper's own beside them."""
    names = list(work.own.values())
    at = 0
    makers: dict[str, None] = {}
    asides: list[str] = []
    while names and (mark := _mark_at(names, at, is_lightning=is_lightning)):
        rest = [name for name in names if not name.startswith(mark + ".", at)]
        if rest and not _is_aside(mark, rest, at):
            break
        if rest:
            asides += rest
            kept = set(rest)
            names = [name for name in names if name not in kept]
        is_lightning = is_lightning and mark != _LIGHTNING
        averaged = mark == "module" and any(name[at:] == COUNTER for name in rest)
        makers["AveragedModel" if averaged else _FRONT.get(mark) or _ANYWHERE.get(mark) or "Lightning"] = None
        at += len(mark) + 1
    if not at:
        return
    prefix = names[0][:at]
    total = len(work.own)
    sentence = f"prefix {shown(prefix)!r} ({', '.join(makers)}) taken off {len(names):,} of {counted(total, 'name')}"
    work.removed.append(sentence)
    _leave_out(work, asides)
    work.own = {name: own[at:] for name, own in work.own.items()}
    for name, own in work.others.items():
        work.others[name] = "" if prefix.startswith(own + ".") else own.removeprefix(prefix)


def _is_aside(mark: str, rest: list[str], at: int) -> bool:
    """Whether names that do not begin with a wrapper are the wrapper's own."""
    if mark == "module":
        return len(rest) == 1 and rest[0][at:] == COUNTER
    if mark == _LIGHTNING:
        return all("." in name[at:] and not _LOSSES.isdisjoint(words_of(name[at:].split(".")[0])) for name in rest)
    return False


def _leave_out(work: _Work, asides: list[str]) -> None:
    if not asides:
        return
    chosen = set(asides)
    work.left_out += [name for name, own in work.own.items() if own in chosen]
    for name in work.left_out:
        work.own.pop(name, None)
    counters = [name for name in asides if name.rpartition(".")[2] == COUNTER]
    losses = [name for name in asides if name not in counters]
    if counters:
        work.removed.append(f"left out: {shown(counters[0])!r}, AveragedModel's own counter")
    if losses:
        names = listed([repr(shown(name)) for name in losses], _LISTED)
        work.removed.append(f"left out, being a loss's or a metric's and not the model's: {names}")


def _take_marks(work: _Work) -> None:
    """Take unmistakable wrappers out of names, wherever they stand."""
    found: dict[str, str] = {}
    counts: dict[str, int] = {}
    for mark in _ANYWHERE:
        before = len(found)
        changed = 0
        for name, own in work.own.items():
            now = found.get(name, own) if before else own
            if mark in now and (less := _without(mark, now)) != now:
                found[name] = less
                changed += 1
        if changed:
            counts[mark] = changed
    if not found or not work.taken_out(found):
        return
    total = counted(len(work.own), "name")
    work.removed += [f"{mark!r} ({_ANYWHERE[mark]}) taken out of {n:,} of {total}" for mark, n in counts.items()]
    for name, own in work.others.items():
        rest = own + "."
        for mark in counts:
            rest = _without(mark, rest)
        work.others[name] = rest[:-1]


def _without(mark: str, name: str) -> str:
    """A name without a component; its last one stays."""
    while f".{mark}." in name:  # of a row of them, every other one goes at a time
        name = name.replace(f".{mark}.", ".")
    return name.removeprefix(f"{mark}.")


def _take_inner(work: _Work) -> None:
    """Take `module` out of names below a part of the model that DataParallel holds by itself."""
    holders = _inner_holders(work.own.values())
    found: dict[str, str] = {}
    for name, own in work.own.items():
        holder, mark, below = own.partition(f".{_INNER}.")
        if mark and holder in holders:
            found[name] = f"{holder}.{below}"
    if not found or not work.taken_out(found):
        return
    total = counted(len(work.own), "name")
    names = listed([repr(shown(name)) for name in sorted(holders)], _LISTED)
    work.removed.append(f"{_INNER!r} ({_FRONT[_INNER]}) taken out of {len(found):,} of {total}, after {names}")
    for name, own in work.others.items():
        holder, mark, below = (own + ".").partition(f".{_INNER}.")
        if mark and holder in holders:
            work.others[name] = f"{holder}.{below}".removesuffix(".")


def _inner_holders(names: Collection[str]) -> set[str]:
    """The parts of a model that DataParallel holds, as far as names tell it.

    All names below such a part go through `module`, and a network lies there. A single layer, or a part that repeats
    (its name has a number), calls its inside `module` by itself.
    """
    holders: set[str] = set()
    for name in names:
        holder, found, below = name.partition(f".{_INNER}.")
        if found and "." in below and holder.count(".") < _DEEPEST and not any(map(str.isdigit, holder)):
            holders.add(holder)
    for name in names if holders else ():
        at = name.find(".")
        for _ in range(_DEEPEST):
            if at < 0:
                break
            inside = at + len(_INNER) + 2
            if name[:at] in holders and not (name[at + 1 : inside] == f"{_INNER}." and name.find(".", inside) >= 0):
                holders.discard(name[:at])
            at = name.find(".", at + 1)
    return holders


def _take_known(work: _Work, known: Mapping[str, str]) -> None:
    """Take out what the classes of modules tell, and leave out what `known` does not have."""
    found = {name: known[name] for name in work.own if known.get(name, name) != name}
    if not found:
        return
    left_out = [name for name in work.own if name not in known]
    total = counted(len(work.own), "name")
    if not work.taken_out(found):
        return
    work.removed.append(f"wrappers ({_FRONT[_INNER]} or its like, by class) taken out of {len(found):,} of {total}")
    _leave_out(work, [work.own[name] for name in left_out])
