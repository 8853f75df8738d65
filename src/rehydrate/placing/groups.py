"""Parameter groups: options for parts of a model by glob, ready for any optimizer of torch's.

Every parameter that is trained is in exactly one group, that of the first glob which meets one of its names; a
parameter that no glob meets, and a glob that gets nothing, are errors. Nothing here changes a model.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from rehydrate.errors import MismatchError
from rehydrate.placing.learned import Learned, folded, globs_of, learned_of, meets, numbers_in, refuse_idle
from rehydrate.text import counted, listed, shown

__all__ = ["ParamGroups", "param_groups"]

_log = logging.getLogger("rehydrate")
_LISTED = 6
_RESERVED = ("params", "param_names")
_NO_DECAY = "no decay"
"""What is added to the name of the half of a group whose weights do not decay."""


class ParamGroups(list[dict[str, Any]]):
    """A list of parameter groups that prints what went where: `told` has the same in sentences."""

    def __init__(self, groups: Iterable[dict[str, Any]], told: Sequence[str]) -> None:
        super().__init__(groups)
        self.told = tuple(told)

    def __str__(self) -> str:
        return "\n".join(self.told)

    def __repr__(self) -> str:
        return f"<ParamGroups {self.told[0] if self.told else ''}>"


def param_groups(
    model: nn.Module,
    patterns: Mapping[str, Mapping[str, Any]],
    *,
    weight_decay: float | None = None,
    no_decay: str | Iterable[str] | None = None,
) -> ParamGroups:
    """See `rehydrate.param_groups`."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected a torch.nn.Module, got {type(model).__name__}")
    options = _options(patterns)
    every = learned_of(model)
    spared = None if no_decay is None else globs_of(no_decay, "no_decay")
    refuse_idle((*options, *(spared or ())), every, model, "the pattern")
    chosen = _sorted_out(every, options, model)
    groups: list[dict[str, Any]] = []
    for glob, members in chosen.items():
        groups += _split(glob, dict(options[glob]), members, weight_decay, spared)
    frozen = [learned for learned in every if not learned.parameter.requires_grad]
    made = ParamGroups(groups, [*_told(model, groups), *_frozen_told(frozen, len(every))])
    _log.info("%s", made)
    return made


def _options(patterns: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    if not isinstance(patterns, Mapping):
        raise TypeError(f"expected a dictionary of globs and options, got {type(patterns).__name__}")
    globs_of(patterns, "param_groups")
    options = {glob: dict(_given(value, glob)) for glob, value in patterns.items()}
    for glob, given in options.items():
        reserved = [key for key in _RESERVED if key in given]
        if reserved:
            raise ValueError(f"{reserved[0]!r} of {shown(glob)!r} is what param_groups finds out")
    return options


def _given(value: object, glob: str) -> Mapping[str, object]:
    """What somebody gave for a glob, if it is a dictionary."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{shown(glob)!r} takes a dictionary such as {{'lr': 1e-3}}, not {type(value).__name__}")
    return value


def _sorted_out(every: Sequence[Learned], options: Mapping[str, object], model: nn.Module) -> dict[str, list[Learned]]:
    """The trained parameters of each glob, in the model's order."""
    chosen: dict[str, list[Learned]] = {glob: [] for glob in options}
    winners: dict[int, str] = {}
    homeless: list[str] = []
    for learned in every:
        glob = next((glob for glob in options if meets(glob, learned.spellings)), None)
        if glob is not None:
            winners[id(learned)] = glob
        if not learned.parameter.requires_grad:
            continue
        if glob is None:
            homeless.append(learned.name)
        else:
            chosen[glob].append(learned)
    if homeless:
        raise MismatchError(
            f"{counted(len(homeless), 'parameter')} of {type(model).__name__} "
            f"{'is' if len(homeless) == 1 else 'are'} met by no pattern",
            found=folded(homeless),
            hint='a last pattern "*" takes all that are left; rh.freeze leaves some out',
        )
    _refuse_hidden(every, options, winners)
    if not any(chosen.values()):
        raise MismatchError(
            f"no parameter of {type(model).__name__} is trained: there is nothing to give to an optimizer",
            hint="requires_grad_(True) on those that are to be trained, or rh.freeze(model, except_=[...])",
        )
    return chosen


def _refuse_hidden(every: Sequence[Learned], options: Mapping[str, object], winners: Mapping[int, str]) -> None:
    """A glob whose every parameter went to one before it would silently have no effect."""
    used = set(winners.values())
    for glob in options:
        if glob in used:
            continue
        takers = dict.fromkeys(winners[id(learned)] for learned in every if meets(glob, learned.spellings))
        names = listed([repr(shown(taker)) for taker in takers], _LISTED)
        raise MismatchError(
            f"the pattern {shown(glob)!r} gets no parameter: all that it meets went to {names} before it",
            hint="the first pattern that meets a name has it: put the narrow ones first",
        )


def _split(
    glob: str,
    options: dict[str, Any],
    members: Sequence[Learned],
    weight_decay: float | None,
    spared: tuple[str, ...] | None,
) -> list[dict[str, Any]]:
    """The groups of one glob: one, or those whose weights decay and those whose do not."""
    if weight_decay is not None:
        options.setdefault("weight_decay", weight_decay)
    is_split = (weight_decay is not None or spared is not None) and options.get("weight_decay", 1) != 0
    light = {id(learned) for learned in members if is_split and _is_spared(learned, spared)}
    groups: list[dict[str, Any]] = []
    for is_light in (False, True):
        inside = [learned for learned in members if (id(learned) in light) is is_light]
        if not inside:
            continue
        group = {
            "params": [learned.parameter for learned in inside],
            "param_names": [learned.name for learned in inside],
            **options,
        }
        name = str(options.get("name", glob))
        group["name"] = f"{name} ({_NO_DECAY})" if is_light else name
        if is_light:
            group["weight_decay"] = 0.0
        groups.append(group)
    return groups


def _is_spared(learned: Learned, spared: tuple[str, ...] | None) -> bool:
    """Whether a parameter's weights do not decay: biases and what has one dimension, unless somebody named others."""
    if spared is not None:
        return any(meets(glob, learned.spellings) for glob in spared)
    return learned.parameter.dim() <= 1 or any(name.rpartition(".")[2] == "bias" for name in learned.names)


def _told(model: nn.Module, groups: Sequence[Mapping[str, Any]]) -> list[str]:
    count = sum(len(group["params"]) for group in groups)
    lines = [f"{type(model).__name__}: {counted(count, 'parameter')} in {counted(len(groups), 'group')}, each in one"]
    for group in groups:
        given = [f"{key}={value!r}" for key, value in group.items() if key not in (*_RESERVED, "name")]
        numbers = counted(numbers_in(group["params"]), "number")
        lines.append(
            f"  {shown(group['name'])}: {counted(len(group['params']), 'parameter')}, {numbers}"
            + (f"; {shown(', '.join(given))}" if given else "")
            + f": {folded(group['param_names'])}"
        )
    return lines


def _frozen_told(frozen: Sequence[Learned], count: int) -> list[str]:
    if not frozen:
        return []
    return [f"  left out, being frozen: {len(frozen):,} of {count:,}: {folded([learned.name for learned in frozen])}"]
