"""Models that load in a way of their own: all is read, their code is rehearsed, and what it would write is copied.

Hooks, extra state, packed weights and layouts of older versions are the model's business. Its `load_state_dict` is run
over real values with every copy noted instead of done (`rehearsal`); what it changes besides is undone if anything
fails afterwards.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import cast

import torch
from torch import nn

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.tree import spelled, tensors_under
from rehydrate.checkpoint.weights import Weights
from rehydrate.errors import RebuildError
from rehydrate.matching.match import Match, Pair, Target, forgiven, wrapper_prefix
from rehydrate.matching.rules.rule import apply_rules
from rehydrate.matching.values import Value
from rehydrate.placing.afterwards import replace_tensors, told_after
from rehydrate.placing.beside import holds_tensors
from rehydrate.placing.devices import CPU
from rehydrate.placing.dtypes import dtype_of
from rehydrate.placing.moving.deriving import derived
from rehydrate.placing.moving.filling import Filled
from rehydrate.placing.moving.located import refs_of
from rehydrate.placing.moving.undo import Undo, Undoing, all_or_nothing, copy_values
from rehydrate.placing.prepared import Prepared
from rehydrate.placing.rehearsal import match_of, rehearse
from rehydrate.placing.targets import check_kinds, every_tensor, targets_of
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
    inside = {spelled((name, *path)) for name, value in beside.items() for path, _ in tensors_under(value)}
    ways = [_as_in_file(weights, match, terms, prefix, inside)]
    if match.rules != terms.rules:
        ways.append(_as_found(match, prefix, inside))
    read = _read({id(value): value for values in ways for value in values.values()})
    parts = {id(pair.source): pair for pair in match.pairs if pair.part}
    read |= {key: _filled(every[pair.target.name], pair, read[key]) for key, pair in parts.items() if key in read}
    real = cast("dict[str, object]", real_values(beside, checkpoint.attributes))
    others = {prefix + name: value for name, value in real.items()}
    # What is no tensor is not missed by anybody; a model that wants it has taken it.
    idle = {prefix + name for name, value in beside.items() if not holds_tensors(value)}

    def rehearsed(values: Mapping[str, Value]) -> tuple[Match, list[_Copy]]:
        state = {**{name: read[id(value)] for name, value in values.items()}, **others}
        rehearsal = rehearse(model, state, _under(prefix, weights.versions))
        rehearsal.unexpected = [name for name in rehearsal.unexpected if name not in idle]
        every = every_tensor(model)
        targets = {id(every[target.name]): target for target in targets_of(every, weights)}
        refs = {id(read[id(value)]): value.named(name) for name, value in values.items()}
        return forgiven(match_of(rehearsal, match, targets, refs), match, terms.allow), _named(
            rehearsal.copies, targets
        )

    written: list[str] = []
    chosen: list[tuple[Match, list[_Copy]]] = []

    def before() -> Undoing:
        undo = Undo(model, written=written)
        with all_or_nothing((undo,)):
            found, copies = rehearsed(ways[0])
            if not found and len(ways) > 1:
                undo.put_back()
                other, its_copies = rehearsed(ways[1])
                if other:
                    found, copies = other, its_copies
            found.raise_if_bad()
            _check_real(model, [tensor for _, tensor, _ in copies])
        chosen.append((found, copies))
        return undo

    def after(filled: Filled) -> Match:
        ((found, copies),) = chosen
        _write(model, copies, goal, written)
        if terms.dtype is not None:
            model.to(terms.dtype)
        own = f"loaded as the model's own code does it ({type(model).__name__}.load_state_dict)"
        return replace(found, told=(*found.told, own, *told_after(model, found, terms.dtype)))

    return Prepared(match, before, after)


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
    nowhere = [ref.name for ref in refs if ref.storage.location == "meta"]
    if nowhere:
        raise RebuildError(
            f"{counted(len(nowhere), 'tensor')} of this checkpoint were saved from the meta device, without data",
            found=listed([shown(name) for name in nowhere]),
        )
    storages = Storages([ref.storage for ref in refs], lambda saved: CPU)
    made = {id(ref): tensor.detach() for ref, tensor in zip(refs, storages.tensors(refs), strict=True)}
    return {key: derived(value, lambda ref: made[id(ref)]) for key, value in values.items()}


def _filled(own: torch.Tensor, pair: Pair, value: torch.Tensor) -> torch.Tensor:
    """The model's own values with a part of them replaced."""
    whole = own.detach().clone()
    whole[tuple(slice(first, end) for first, end in pair.part)] = value.to(whole.device, whole.dtype)
    return whole


def _named(copies: Iterable[tuple[torch.Tensor, torch.Tensor]], targets: Mapping[int, Target]) -> list[_Copy]:
    """Copies with their names; only those that keep values what they are."""
    named: list[_Copy] = []
    for tensor, value in copies:
        target = targets.get(id(tensor))
        name = "a tensor" if target is None else target.name
        check_kinds(name, dtype_of(value.dtype).name, dtype_of(tensor.dtype).name)
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
            made = value.to(device=goal, dtype=tensor.dtype, copy=True)
            is_parameter = isinstance(tensor, nn.Parameter)
            fresh[id(tensor)] = nn.Parameter(made, tensor.requires_grad) if is_parameter else made
    for name, tensor, value in copies:
        if nn.parameter.is_lazy(tensor):
            tensor.materialize(value.shape)
        if not tensor.is_meta:
            written.append(name)
            copy_values(tensor, value)
    replace_tensors(model, fresh)


def _under(prefix: str, versions: Mapping[str, object]) -> dict[str, object]:
    """torch's `_metadata` for names with a prefix."""
    known = {name: version for name, version in versions.items() if isinstance(version, dict)}
    return {(prefix + name).removesuffix("." if not name else ""): version for name, version in known.items()}
