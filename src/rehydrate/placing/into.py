"""Putting a checkpoint into a model: all of it, or nothing.

Everything that can be wrong (names, shapes, dtypes, an unreadable file, a device that is not there) is found while the
model is still as it was. Then `filling` moves the bytes into the parameters that exist, so an optimizer that was made
before still holds them; only tensors on the meta device, which have no memory, are replaced.

A model that loads in a way of its own is given what its `load_state_dict` would make of the checkpoint: `rehearsal`.
For that everything is read first; what would be written is then copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import nn

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.checkpoint.tree import spelled, tensors_under
from rehydrate.checkpoint.weights import Weights
from rehydrate.collector import collector_paused
from rehydrate.errors import RebuildError
from rehydrate.formats.opening import open_checkpoint
from rehydrate.matching.match import Match, match_weights, named_alike, wrapper_prefix
from rehydrate.placing.beside import has_composites, holds_tensors, values_beside
from rehydrate.placing.devices import CPU, Device, resolve
from rehydrate.placing.dtypes import dtype_of
from rehydrate.placing.filling import Job, fill
from rehydrate.placing.rehearsal import has_own_way, match_of, rehearse
from rehydrate.placing.targets import check_kinds, every_tensor, saved_tensors, targets_of, without_old_counters
from rehydrate.placing.tensors import Storages
from rehydrate.placing.undo import Undo, all_or_nothing, copy_values
from rehydrate.placing.values import real_values
from rehydrate.storage.source import Where
from rehydrate.text import counted, listed, shown

__all__ = ["load_into"]

_Copy = tuple[str, torch.Tensor, torch.Tensor]
"""A tensor of the model, by name, and what goes into it."""


def load_into(
    model: nn.Module,
    where: Where | Checkpoint,
    *,
    device: Device | None = None,
    which: str | None = None,
    mapped: bool = True,
) -> Match:
    """Put a checkpoint into `model`; see `rehydrate.load_into`."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected a torch.nn.Module, got {type(model).__name__}; a class is built by load_model")
    goal = None if device is None else resolve(device)
    with collector_paused():
        checkpoint = open_checkpoint(where)
        try:
            incoming = _incoming(model, checkpoint, which)
            match = _put(model, incoming, CPU if goal is None else goal, mapped)
        finally:
            if checkpoint is not where:
                checkpoint.close()
    if goal is not None:
        model.to(goal)
    return replace(match, told=(*match.told, *_afterwards(model, match, incoming)))


@dataclass(frozen=True, slots=True)
class _Incoming:
    """What a checkpoint has for a model."""

    weights: Weights
    match: Match
    beside: Mapping[str, object]
    """What is no tensor, inert."""
    tensors: Mapping[str, torch.Tensor] | None = None
    """For a model that has a way of its own: the tensors of the checkpoint by its names, read and on the CPU."""
    real: Mapping[str, object] | None = None
    """For such a model: `beside`, real."""


def _incoming(model: nn.Module, checkpoint: Checkpoint, which: str | None) -> _Incoming:
    """Match; raises before anything is touched."""
    is_special = has_own_way(model)
    present = every_tensor(model) if is_special else saved_tensors(model)
    weights = named_alike(checkpoint.weights(which), list(present))
    beside = values_beside(checkpoint, weights)
    match = match_weights(weights, targets_of(present, weights), type(model).__name__)
    if is_special or has_composites(beside):
        inside = {spelled((name, *path)) for name, value in beside.items() for path, _ in tensors_under(value)}
        tensors = _read({name: ref for name, ref in weights.items() if name not in inside})
        real = cast("dict[str, object]", real_values(beside, checkpoint.attributes))
        return _Incoming(weights, match, beside, tensors, real)
    match = without_old_counters(model, match, weights)
    match.raise_if_bad()
    return _Incoming(weights, match, beside)


def _read(wanted: Mapping[str, TensorRef]) -> dict[str, torch.Tensor]:
    """Every tensor that is wanted, on the CPU."""
    nowhere = [ref.name for ref in wanted.values() if ref.storage.location == "meta"]
    if nowhere:
        raise RebuildError(
            f"{counted(len(nowhere), 'tensor')} of this checkpoint were saved from the meta device, without data",
            found=listed([shown(name) for name in nowhere]),
        )
    storages = Storages([ref.storage for ref in wanted.values()], lambda saved: CPU)
    tensors = storages.tensors(wanted.values())
    return {name: tensor.detach() for name, tensor in zip(wanted, tensors, strict=True)}


def _put(model: nn.Module, incoming: _Incoming, goal: torch.device, mapped: bool) -> Match:
    """The one place that touches a model."""
    if incoming.tensors is not None and incoming.real is not None:
        return _put_rehearsed(model, incoming, incoming.tensors, incoming.real, goal)
    present, match = saved_tensors(model), incoming.match
    jobs = [Job(pair.target.name, present[pair.target.name], pair.source, pair.part) for pair in match.pairs]
    named = {job.name for job in jobs}
    # Counters that an old checkpoint lacks begin at nought where the model has none yet.
    counters = [tensor for name, tensor in present.items() if tensor.is_meta and name not in named]
    _check_real(model, [*(job.tensor for job in jobs), *counters])
    made = {id(tensor): torch.zeros_like(tensor, device=goal) for tensor in counters}
    filled = fill(
        jobs,
        goal=goal,
        mapped=mapped,
        before=lambda: Undo(model, values=False),
        after=lambda filled: _replace(model, made | filled.fresh),
    )
    return replace(match, told=(*match.told, *filled.told))


def _put_rehearsed(
    model: nn.Module,
    incoming: _Incoming,
    tensors: Mapping[str, torch.Tensor],
    real: Mapping[str, object],
    goal: torch.device,
) -> Match:
    """The same with what the model's own code made of the checkpoint."""
    undo = Undo(model)
    written: list[str] = []
    with all_or_nothing((undo,), written, has_values=undo.has_values):
        match, copies = _rehearsed(model, incoming, tensors, real)
        _check_real(model, [tensor for _, tensor, _ in copies])
        _write(model, copies, goal, written)
    return match


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
    _replace(model, fresh)


def _replace(model: nn.Module, fresh: Mapping[int, torch.Tensor]) -> None:
    """Put real tensors where those of the meta device were, by their `id`."""
    for module in model.modules() if fresh else ():
        tables: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
        for table in tables:
            table.update({leaf: fresh[id(tensor)] for leaf, tensor in table.items() if id(tensor) in fresh})


def _rehearsed(
    model: nn.Module, incoming: _Incoming, tensors: Mapping[str, torch.Tensor], real: Mapping[str, object]
) -> tuple[Match, list[_Copy]]:
    """What the model's own loading code makes of the checkpoint; raises if it complains."""
    weights = incoming.weights
    every = every_tensor(model)
    prefix = wrapper_prefix(list(every), weights)
    state = {prefix + name: value for name, value in (*tensors.items(), *real.items())}
    rehearsal = rehearse(model, state, _under(prefix, weights.versions))
    # What is no tensor is not missed by anybody; a model that wants it has taken it.
    idle = {prefix + name for name, value in incoming.beside.items() if not holds_tensors(value)}
    rehearsal.unexpected = [name for name in rehearsal.unexpected if name not in idle]
    targets = {id(every[target.name]): target for target in targets_of(every, weights)}
    refs = {id(value): weights[name].named(prefix + name) for name, value in tensors.items()}
    match = match_of(rehearsal, incoming.match, targets, refs)
    match.raise_if_bad()
    names = {key: target.name for key, target in targets.items()}
    copies = [(names.get(id(tensor), "a tensor"), tensor, value) for tensor, value in rehearsal.copies]
    for name, tensor, value in copies:
        check_kinds(name, dtype_of(value.dtype).name, dtype_of(tensor.dtype).name)
    return match, copies


def _under(prefix: str, versions: Mapping[str, object]) -> dict[str, object]:
    """torch's `_metadata` for names with a prefix."""
    known = {name: version for name, version in versions.items() if isinstance(version, dict)}
    return {(prefix + name).removesuffix("." if not name else ""): version for name, version in known.items()}


def _afterwards(model: nn.Module, match: Match, incoming: _Incoming) -> Iterator[str]:
    """What somebody should know now."""
    if incoming.real is not None:
        yield f"loaded as the model's own code does it ({type(model).__name__}.load_state_dict)"
    elif incoming.beside:
        yield f"left aside, being no tensors: {listed([shown(name) for name in incoming.beside], 4)}"
    cast = [pair for pair in match.pairs if pair.source.dtype.name != pair.target.dtype]
    if cast:
        first = cast[0]
        yield f"{counted(len(cast), 'tensor')} cast, such as {first.source.dtype} to {first.target.dtype}"
    if model.training:
        yield "the model is in training mode; call .eval() before predicting"
