"""A model's parameters under all their names, and the globs by which people pick some of them.

A tied parameter is one, with several names. A wrapped model's names count with the wrapper and without it. Globs are
the patterns that rules have: `*` crosses dots, and `{i}` is a number. A glob that meets nothing is an error, because a
typing mistake would freeze what was to be trained. Nothing here changes a model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from rehydrate.checkpoint.wrappers import unwrap
from rehydrate.errors import MismatchError
from rehydrate.matching.rules.patterns import pattern
from rehydrate.text import counted, listed, nearest, shown

__all__ = ["Learned", "folded", "globs_of", "learned_of", "meets", "plain_names", "refuse_idle"]

_LISTED = 6
"""Names that are shown one by one; more are folded into the parts that they lie in."""
_PARTS = 8
"""Parts that are shown."""


@dataclass(frozen=True, slots=True)
class Learned:
    """One parameter of a model."""

    parameter: nn.Parameter
    names: tuple[str, ...]
    """What `named_parameters` calls it; a tied one has several names, the first is the one that torch uses."""
    spellings: tuple[str, ...]
    """Those, and the same without wrappers: what a glob may meet."""

    @property
    def name(self) -> str:
        """The name that torch uses."""
        return self.names[0]


def learned_of(model: nn.Module) -> tuple[Learned, ...]:
    """Every parameter once, in the model's order.

    Raises `MismatchError` for a lazy one, whose shape nobody knows yet.
    """
    named: dict[int, tuple[nn.Parameter, list[str]]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        named.setdefault(id(parameter), (parameter, []))[1].append(name)
    lazy = [names[0] for parameter, names in named.values() if nn.parameter.is_lazy(parameter)]
    if lazy:
        raise MismatchError(
            f"{counted(len(lazy), 'parameter')} of this model have no shape yet",
            found=listed([shown(name) for name in lazy]),
            hint="run the model once, or load a checkpoint into it: lazy layers take their shapes then",
        )
    plain = plain_names([name for _, names in named.values() for name in names])
    return tuple(
        Learned(parameter, tuple(names), tuple(dict.fromkeys([*names, *(plain[name] for name in names)])))
        for parameter, names in named.values()
    )


def plain_names(names: Iterable[str]) -> dict[str, str]:
    """Each name and the same without wrappers.

    >>> plain_names(["module._orig_mod.fc.weight", "module._orig_mod.fc.bias"])
    {'module._orig_mod.fc.weight': 'fc.weight', 'module._orig_mod.fc.bias': 'fc.bias'}
    """
    own = dict.fromkeys(names)
    found = unwrap(own)  # type: ignore[arg-type]  # it looks at the names only
    return {name: found.names.get(name, name) for name in own}


def globs_of(patterns: str | Iterable[str], what: str) -> tuple[str, ...]:
    """Globs that somebody gave; a string alone is one of them. Raises `ValueError` for one that is no pattern."""
    globs = (patterns,) if isinstance(patterns, str) else tuple(patterns)
    wrong = [glob for glob in globs if not isinstance(glob, str)]
    if wrong:
        raise TypeError(f"{what} takes names with * as strings, not {type(wrong[0]).__name__}")
    for glob in globs:
        pattern(glob)
    return globs


def meets(glob: str, spellings: Iterable[str]) -> bool:
    """Whether one of something's names is what a glob says."""
    wanted = pattern(glob)
    return any(wanted.match(spelling) is not None for spelling in spellings)


def refuse_idle(globs: Iterable[str], every: Sequence[Learned], model: nn.Module, what: str) -> None:
    """Raise `MismatchError` for globs that meet no parameter, with what was meant."""
    idle = [glob for glob in globs if not any(meets(glob, learned.spellings) for learned in every)]
    if not idle:
        return
    spellings = [spelling for learned in every for spelling in learned.spellings]
    raise MismatchError(
        f"{what} {_quoted(idle)} meets no parameter of {type(model).__name__}",
        found=f"its parameters: {folded([learned.spellings[-1] for learned in every])}",
        hint=_meant(idle[0], spellings),
    )


def _meant(glob: str, spellings: Sequence[str]) -> str:
    """What somebody who wrote `glob` may have wanted."""
    if any(spelling.startswith(f"{glob}.") for spelling in spellings):
        return f"did you mean {shown(f'{glob}.*')!r}? A glob has to meet the whole name"
    fixed = glob.rstrip("*").rstrip(".")
    if fixed == glob:
        near = nearest(glob, spellings)
        return f"did you mean {shown(near)!r}?" if near else ""
    depth = fixed.count(".") + 1
    parts = dict.fromkeys(".".join(spelling.split(".")[:depth]) for spelling in spellings)
    near = nearest(fixed.lstrip("*."), parts)
    return f"did you mean {shown(near + glob[len(fixed) :])!r}?" if near else ""


def folded(names: Sequence[str]) -> str:
    """Names for a person: a few as they are, many by the part of the model that they lie in.

    >>> folded(["fc.weight", "fc.bias"]), folded([f"layer1.{i}.weight" for i in range(9)] + ["fc.bias"])
    ('fc.weight, fc.bias', 'layer1.* (9), fc.bias')
    """
    if len(names) <= _LISTED:
        return ", ".join(map(shown, names))
    parts: dict[str, list[str]] = {}
    for name in names:
        parts.setdefault(name.partition(".")[0], []).append(name)
    if len(parts) == 1:
        return listed([shown(name) for name in names], _LISTED)
    texts = [
        shown(inside[0]) if len(inside) == 1 else f"{shown(part)}.* ({len(inside):,})"
        for part, inside in parts.items()
    ]  # fmt: skip
    return listed(texts, _PARTS)


def numbers_in(parameters: Iterable[torch.Tensor]) -> int:
    """How many numbers there are in parameters."""
    return sum(parameter.numel() for parameter in parameters)


def _quoted(globs: Sequence[str]) -> str:
    return listed([repr(shown(glob)) for glob in globs], _LISTED)
