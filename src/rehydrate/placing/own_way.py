"""Models that load in a way of their own: all is read, their code is rehearsed, and what it would write is copied.

Hooks, extra state, packed weights and layouts of older versions are the model's business. Its `load_state_dict` is run
over real values with every copy noted instead of done (`rehearsal`); what it changes besides is undone if anything
fails afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import nn

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.tree import spelled, tensors_under
from rehydrate.checkpoint.weights import Weights
from rehydrate.errors import MismatchError, RebuildError
from rehydrate.matching.match import Match, Pair, Target, forgiven, wrapper_prefix
from rehydrate.matching.rules.renaming import Prefix, Rename, Renames
from rehydrate.matching.rules.rule import Rule, apply_rules
from rehydrate.matching.values import Value
from rehydrate.placing.afterwards import cast_floating, like, replace_tensors, told_after
from rehydrate.placing.beside import holds_tensors
from rehydrate.placing.devices import CPU
from rehydrate.placing.dtypes import dtype_of
from rehydrate.placing.foreseen import modules_anew, nothing_behind
from rehydrate.placing.moving.deriving import derived
from rehydrate.placing.moving.filling import Filled
from rehydrate.placing.moving.located import refs_of, refuse_without_data
from rehydrate.placing.moving.undo import Kept, Together, Undo, Undoing, all_or_nothing, copy_values
from rehydrate.placing.prepared import Prepared
from rehydrate.placing.rehearsal import match_of, rehearse
from rehydrate.placing.targets import check_kinds, every_tensor, targets_of, versions_of, without_ties
from rehydrate.placing.tensors import Storages
from rehydrate.placing.terms import Terms
from rehydrate.placing.values import real_values
from rehydrate.text import counted, listed, shown

__all__ = ["prepare_own_way"]

_Copy = tuple[str, torch.Tensor, torch.Tensor]
"""A tensor of the model, by name, and what goes into it."""


def prepare_own_way(
    model: nn.Module,
    checkpoint: Checkpoint,
    weights: Weights,
    beside: Mapping[str, object],
    match: Match,
    terms: Terms,
    goal: torch.device,
) -> Prepared:
    """Read everything; the model's code has its say when all other checks are done.

    `match` is what names and shapes alone come to. The model is given the names of the file, for its code may know
    them; where it does not, those that were found. What is missing and what is not wanted is for the model to say.
    """
    every = every_tensor(model)
    prefix = wrapper_prefix(list(every), weights)
    anew = modules_anew(model, match).values()
    inside = {spelled((name, *path)) for name, value in beside.items() for path, _ in tensors_under(value)}
    others = cast("dict[str, object]", real_values(beside, checkpoint.attributes))
    # What is no tensor is not missed by anybody; a model that wants it has taken it.
    idle = {name for name, value in beside.items() if not holds_tensors(value)}
    ways = [_Way(_as_in_file(weights, match, terms, prefix, inside), _renamed(beside, terms.rules, prefix))]
    if match.rules != terms.rules:
        ways.append(_Way(_as_found(match, prefix, inside), _renamed(beside, match.rules, prefix)))
    read = _read({id(value): value for way in ways for value in way.values.values()})
    parts = {id(pair.source): pair for pair in match.pairs if pair.part}
    read |= {key: _filled(every[pair.target.name], pair, read[key]) for key, pair in parts.items() if key in read}
    found_of = {id(read[id(pair.source)]): pair for pair in match.pairs if id(pair.source) in read}
    versions = {name: each for name, each in versions_of(match, weights).items() if isinstance(each, dict)}

    def rehearsed(way: _Way) -> tuple[Match, list[_Copy]]:
        state = {name: read[id(value)] for name, value in way.values.items()}
        rehearsal = rehearse(model, state | {way.names[name]: value for name, value in others.items()}, versions)
        left = {way.names[name] for name in idle}
        rehearsal.unexpected = [name for name in rehearsal.unexpected if name not in left]
        every = every_tensor(model)
        targets: dict[int, Target] = {}
        missing = set(rehearsal.missing)
        for target in targets_of(every):  # of two names of one tensor, the one that the file has
            key = id(every[target.name])
            if key not in targets or targets[key].name in missing:
                targets[key] = target
        refs = {id(read[id(value)]): value.named(name) for name, value in way.values.items()}
        came_of = match_of(rehearsal, match, targets, refs, found_of)
        named = {name: every.get(name, torch.empty(0)) for name in [target.name for target in came_of.missing]}
        came_of = without_ties(forgiven(came_of, match, terms.allow, prefix), every | named)
        return came_of, _named(rehearsal.copies, targets)

    written: list[str] = []
    chosen: list[tuple[Match, list[_Copy]]] = []

    def before() -> Undoing:
        undo = Undo(model, written=written)
        changed = [tensor for module in anew for tensor in (*module.parameters(), *module.buffers())]
        whole = Together((undo, Kept(changed, written=written)))
        with all_or_nothing((whole,)):
            found, copies = _best(ways, rehearsed, undo)
            found.raise_if_bad()
            _check_real(model, [tensor for _, tensor, _ in copies])
        chosen.append((found, copies))
        return whole

    def after(filled: Filled) -> Match:
        ((found, copies),) = chosen
        for module in anew:
            written.extend(match.reinitialised)
            module.reset_parameters()  # type: ignore[operator]
        _write(model, copies, goal, written)
        if terms.dtype is not None:
            cast_floating(model, terms.dtype)
        own = f"loaded as the model's own code does it ({type(model).__name__}.load_state_dict)"
        told = (*found.told, *nothing_behind(match, every), own, *told_after(model, found, terms.dtype))
        return replace(found, told=told)

    return Prepared(match, before, after)


@dataclass(frozen=True, slots=True)
class _Way:
    """A state dict that the model's code may be given."""

    values: dict[str, Value]
    names: dict[str, str]
    """What is no tensor: its name in the file → the name here."""


def _best(
    ways: Sequence[_Way], rehearsed: Callable[[_Way], tuple[Match, list[_Copy]]], undo: Undo
) -> tuple[Match, list[_Copy]]:
    """The names of the file if the model's code takes all of them; else those that more comes of."""
    first = rehearsed(ways[0])
    if len(ways) == 1 or (first[0] and not (first[0].kept or first[0].aside)):
        return first
    undo.put_back()
    other = rehearsed(ways[1])
    if _worth(other[0]) > _worth(first[0]):
        return other
    undo.put_back()
    return rehearsed(ways[0])


def _worth(match: Match) -> tuple[bool, float, int]:
    wrong = len(match.missing) + len(match.unexpected) + len(match.mismatched) + len(match.complaints)
    return bool(match), match.coverage, -wrong


def _renamed(names: Iterable[str], rules: Iterable[Rule], prefix: str) -> dict[str, str]:
    """What is no tensor, by the names that rules about names give it."""
    now: Any = {name: name for name in names}
    for rule in rules:
        if isinstance(rule, (Prefix, Rename, Renames)):
            now = rule.apply(now).values
    return {old: new if new != old and new.startswith(prefix) else prefix + new for new, old in now.items()}


def _as_in_file(weights: Weights, match: Match, terms: Terms, prefix: str, inside: Collection[str]) -> dict[str, Value]:
    """The names of the file, or those that the caller's rules give; tensors of another size as was allowed."""
    values = apply_rules(weights.tensors, terms.rules).values
    made = {pair.target.name: pair.source for pair in match.pairs}
    kept = {target.name for target in match.kept}
    named = {prefix + name: value for name, value in values.items() if name not in inside}
    return {name: made.get(name, value) for name, value in named.items() if name not in kept}


def _as_found(match: Match, prefix: str, inside: Collection[str]) -> dict[str, Value]:
    """The names of the model; what has no place keeps its own."""
    left = [*match.unexpected, *match.ignored, *(wrong.source for wrong in match.mismatched)]
    values = {prefix + value.name: value for value in left if value.name not in inside}
    return values | {pair.target.name: pair.source for pair in match.pairs if pair.source.name not in inside}


def _read(values: Mapping[int, Value]) -> dict[int, torch.Tensor]:
    """Every tensor that is wanted, by the `id` of its value, on the CPU."""
    refs = list({id(ref): ref for value in values.values() for ref in refs_of(value)}.values())
    refuse_without_data([ref.name for ref in refs if ref.storage.location == "meta"])
    storages = Storages([ref.storage for ref in refs], lambda saved: CPU)
    made = {id(ref): tensor.detach() for ref, tensor in zip(refs, storages.tensors(refs), strict=True)}
    return {key: derived(value, lambda ref: made[id(ref)]) for key, value in values.items()}


def _filled(own: torch.Tensor, pair: Pair, value: torch.Tensor) -> torch.Tensor:
    """The model's own values with a part of them replaced."""
    whole = torch.zeros(own.shape, dtype=own.dtype) if own.is_meta else own.detach().clone()
    whole[tuple(slice(first, end) for first, end in pair.part)] = value.to(whole.device, whole.dtype)
    return whole


def _named(copies: Iterable[tuple[torch.Tensor, torch.Tensor]], targets: Mapping[int, Target]) -> list[_Copy]:
    """Copies with their names; only those that keep values what they are."""
    named: list[_Copy] = []
    for tensor, value in copies:
        target = targets.get(id(tensor))
        name = "a tensor" if target is None else target.name
        check_kinds(name, dtype_of(value.dtype).name, dtype_of(tensor.dtype).name)
        if value.layout != tensor.layout:
            raise MismatchError(
                f"{shown(name)} is {value.layout} in the file, and {tensor.layout} in the model",
                hint="load it with rh.load, and give load_state_dict what .to_dense() makes of it",
            )
        named.append((name, tensor, value))
    return named


def _check_real(model: nn.Module, filled: Iterable[torch.Tensor]) -> None:
    """A model on the meta device must have nothing there that is not filled."""
    known = {id(tensor) for tensor in filled}
    left = [name for name, tensor in every_tensor(model).items() if tensor.is_meta and id(tensor) not in known]
    if left:
        raise RebuildError(
            f"the model is on the meta device, and no checkpoint holds {counted(len(left), 'tensor')} of it",
            found=listed([shown(name) for name in left]),
            hint="build the model on the CPU",
        )


@torch.no_grad()
def _write(model: nn.Module, copies: list[_Copy], goal: torch.device, written: list[str]) -> None:
    """Copy everything; `written` grows with every tensor that is begun."""
    fresh: dict[int, torch.Tensor] = {}
    for _, tensor, value in copies:
        if tensor.is_meta:
            fresh[id(tensor)] = like(tensor, value.to(device=goal, dtype=tensor.dtype, copy=True))
    for name, tensor, value in copies:
        if nn.parameter.is_lazy(tensor):
            tensor.materialize(value.shape)
        if not tensor.is_meta:
            written.append(name)
            copy_values(tensor, value)
    replace_tensors(model, fresh)
