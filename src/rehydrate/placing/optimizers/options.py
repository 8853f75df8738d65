"""What becomes of an optimizer's options: the file's, where its groups are the same ones, else the optimizer's own.

Options that only say how it is computed here stay the optimizer's in any case: a file from a GPU would ask for kernels
that this machine may not have. Nothing here changes an optimizer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import Optimizer

from rehydrate.checkpoint.record import brief
from rehydrate.errors import MismatchError, RebuildError
from rehydrate.placing.optimizers.layout import Assignment, SavedState
from rehydrate.placing.records import is_same, number_of, real_or_refused
from rehydrate.text import listed, shown

__all__ = ["Options", "options_for"]

_HERE = ("foreach", "fused", "capturable", "differentiable")
"""How it is computed, not what."""
_NEEDS = {"amsgrad": "max_exp_avg_sq", "centered": "grad_avg"}
"""Options of torch's optimizers, and what a state must then have."""
_LISTED = 6


@dataclass(frozen=True, slots=True)
class Options:
    """What each of an optimizer's groups is to be given."""

    groups: tuple[Mapping[str, Any], ...]
    """The groups as they are."""
    values: tuple[dict[str, Any], ...]
    told: tuple[str, ...]
    kind: type

    def check(self, states: Mapping[Any, Mapping[object, object]]) -> None:
        """Raise `MismatchError` where an option that will be on needs what a state does not have."""
        for group, values in zip(self.groups, self.values, strict=True):
            after = {**group, **values}
            needs = {option: slot for option, slot in _NEEDS.items() if after.get(option)}
            if self.kind is torch.optim.RMSprop and after.get("momentum"):
                needs["momentum"] = "momentum_buffer"
            for option, slot in needs.items():
                if any(states.get(p) and slot not in states[p] for p in group["params"]):
                    raise MismatchError(
                        f"this {self.kind.__name__} was made with {option}={after[option]!r}, and the states in the "
                        f"file have no {slot}",
                        hint=f"make the optimizer with the {option} that it was saved with",
                    )


def options_for(
    optimizer: Optimizer, saved: SavedState, assignment: Assignment, attributes: Mapping[int, object]
) -> Options:
    """Decide about the options of every group."""
    groups = optimizer.param_groups
    sources = _sources(groups, saved, assignment)
    real = [_real(group.values, attributes, at) for at, group in enumerate(saved.groups)]
    chosen = _chosen(sources, real, is_flat=saved.is_flat)
    if chosen is None:
        others = tuple(_others_told(groups, sources, real))
        return Options(tuple(groups), tuple({} for _ in groups), others, type(optimizer))
    values = [_taken(group, real[at]) if at is not None else {} for group, at in zip(groups, chosen, strict=True)]
    if not any("param_names" in group for group in groups):
        names = _names(groups, saved, assignment)
        for taken, given in zip(values, names, strict=True) if names else ():
            taken["param_names"] = given
    told = [*_taken_told(groups, values), *_here_told(groups, chosen, real)]
    return Options(tuple(groups), tuple(values), tuple(told), type(optimizer))


def _sources(groups: Sequence[Mapping[str, Any]], saved: SavedState, assignment: Assignment) -> list[list[int]]:
    """For each group of the optimizer the groups of the file that its parameters were in, each once."""
    place = {key: at for at, group in enumerate(saved.groups) for key in group.keys}
    keys = iter(assignment.keys)
    sources = []
    for group in groups:
        own = [next(keys) for _ in group["params"]]
        sources.append(list(dict.fromkeys(place[key] for key in own if key is not None)))
    return sources


def _chosen(sources: list[list[int]], real: list[dict[str, Any]], *, is_flat: bool) -> list[int | None] | None:
    """Which group of the file each group's options come from; None where the groups are cut in another way."""
    if is_flat:
        if all(is_same(real[at], real[source[0]]) for source in sources for at in source):
            return [source[0] if source else None for source in sources]
        return None
    single = [source[0] for source in sources if len(source) == 1]
    if any(len(source) > 1 for source in sources) or len(set(single)) < len(single):
        return None
    return [source[0] if source else None for source in sources]


def _real(values: Mapping[str, object], attributes: Mapping[int, object], at: int) -> dict[str, Any]:
    """A group's options, without those that nobody could build."""
    real: dict[str, Any] = {}
    for key, value in values.items():
        try:
            real[key] = real_or_refused(value, attributes, f"param_groups[{at}].{key}")
        except RebuildError:
            continue
    return real


def _taken(group: Mapping[str, Any], real: Mapping[str, Any]) -> dict[str, Any]:
    """What a group is given of the file's options, in the form that it has them."""
    return {key: _as_is(value, group.get(key)) for key, value in real.items() if not _stays(key, group)}


def _stays(key: str, group: Mapping[str, Any]) -> bool:
    return key in _HERE or (key == "name" and key in group)


def _as_is(value: Any, own: Any) -> Any:
    if isinstance(value, list) and isinstance(own, tuple):  # of a file whose format has no tuples
        return tuple(value)
    if isinstance(value, torch.Tensor) and not isinstance(own, torch.Tensor) and value.numel() == 1 and own is not None:
        return value.item()
    if isinstance(value, torch.Tensor) and isinstance(own, torch.Tensor):
        return value.detach().to(own.device)
    if isinstance(own, torch.Tensor) and type(value) in (int, float):  # compiled steps read it there
        return torch.full_like(own, value)
    return value


def _names(groups: Sequence[Mapping[str, Any]], saved: SavedState, assignment: Assignment) -> list[list[str]] | None:
    """The file's names for the parameters of each group, where it has one for each."""
    if not saved.names or any(key is None for key in assignment.keys):
        return None
    keys = iter(assignment.keys)
    return [[saved.names[next(keys)] for _ in group["params"]] for group in groups]


def _taken_told(groups: Sequence[Mapping[str, Any]], values: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Options that are other ones now."""
    changes: dict[str, None] = {}
    for group, taken in zip(groups, values, strict=True):
        for key, value in taken.items():
            if key in group and key != "param_names" and not is_same(group[key], value):
                changes[f"{shown(key)} {_text(group[key])} → {_text(value)}"] = None
    if changes:
        yield f"options taken from the file: {listed(list(changes), _LISTED)}"


def _here_told(
    groups: Sequence[Mapping[str, Any]], chosen: Sequence[int | None], real: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """How it was computed there, and is not here."""
    others: dict[str, None] = {}
    for group, at in zip(groups, chosen, strict=True):
        saved = real[at] if at is not None else {}
        for key in _HERE:
            if key in saved and bool(saved[key]) != bool(group.get(key)):
                others[f"{key}={_text(group.get(key))} (the file has {_text(saved[key])})"] = None
    if others:
        yield f"it goes on computing as it was made to: {listed(list(others), _LISTED)}"


def _others_told(
    groups: Sequence[Mapping[str, Any]], sources: Sequence[Sequence[int]], real: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """Options that differ where the optimizer keeps its own."""
    yield "the file's parameter groups are other ones: the optimizer keeps its own options"
    others: dict[str, None] = {}
    for group, source in zip(groups, sources, strict=True):
        for at in source:
            for key, value in real[at].items():
                if key in group and not _stays(key, group) and not is_same(group[key], value):
                    others[f"{shown(key)} {_text(value)} (here {_text(group[key])})"] = None
    if others:
        yield f"other in the file: {listed(list(others), _LISTED)}"


def _text(value: object) -> str:
    return brief(number_of(value))
