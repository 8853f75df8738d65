"""Putting a checkpoint into a model: all of it, or nothing.

Everything that can be wrong (names, shapes, dtypes, an unreadable file, a device that is not there) is found while the
model is still as it was. Then values are copied into the parameters that exist, so an optimizer that was made before
still holds them; only tensors on the meta device, which have no memory to copy into, are replaced. Should copying
itself fail, the model is put back; past `undo.UNDO` bytes, `TornLoadError` names what was written.

A model that loads in a way of its own is given what its `load_state_dict` would make of the checkpoint: `rehearsal`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import nn

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.checkpoint.tree import spelled, tensors_under
from rehydrate.checkpoint.weights import Weights
from rehydrate.collector import collector_paused
from rehydrate.errors import RebuildError, TornLoadError
from rehydrate.formats.opening import open_checkpoint
from rehydrate.matching.match import Match, match_weights, named_alike, wrapper_prefix
from rehydrate.placing.beside import has_composites, holds_tensors, values_beside
from rehydrate.placing.devices import CPU, Device, resolve
from rehydrate.placing.dtypes import dtype_of
from rehydrate.placing.fresh import Fresh
from rehydrate.placing.rehearsal import has_own_way, match_of, rehearse
from rehydrate.placing.targets import check_kinds, every_tensor, saved_tensors, targets_of, without_old_counters
from rehydrate.placing.tensors import Storages
from rehydrate.placing.undo import Undo, copy_values
from rehydrate.placing.values import real_values
from rehydrate.storage.source import Where
from rehydrate.text import counted, listed, shown

__all__ = ["load_fresh", "load_into"]

_Copy = tuple[str, torch.Tensor, torch.Tensor]
"""A tensor of the model, by name, and what goes into it."""


def load_into(
    model: nn.Module,
    where: Where | Checkpoint,
    *,
    device: Device | None = None,
    which: str | None = None,
) -> Match:
    """Put a checkpoint into `model`; see `rehydrate.load_into`."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected a torch.nn.Module, got {type(model).__name__}; a class is built by load_model")
    return load_fresh(model, where, None, device=device, which=which)


def load_fresh(
    model: nn.Module,
    where: Where | Checkpoint,
    fresh: Fresh | None,
    *,
    device: Device | None = None,
    which: str | None = None,
) -> Match:
    """Put a checkpoint into a model that may just have been built, and then lacks what a constructor fills in."""
    goal = None if device is None else resolve(device)
    with collector_paused():
        incoming = _opened(model, where, which)
        if fresh is not None:  # while nothing is loaded yet: what is written down there is done in order
            whole = {pair.target.name for pair in incoming.match.pairs if not pair.part}
            fresh.fill(tensor for name, tensor in every_tensor(model).items() if name not in whole)
        match = _put(model, incoming, CPU if goal is None else goal)
    if goal is not None:
        model.to(goal)
    return replace(match, told=(*match.told, *_afterwards(model, match, incoming)))


@dataclass(frozen=True, slots=True)
class _Incoming:
    """What a checkpoint has for a model, read and on the CPU."""

    weights: Weights
    match: Match
    tensors: Mapping[str, torch.Tensor]
    """By the names of the model; by those of the checkpoint where the model has a way of its own."""
    beside: Mapping[str, object]
    """What is no tensor, inert."""
    real: Mapping[str, object] | None = None
    """The same, real, for a model that has a way of its own."""


def _opened(model: nn.Module, where: Where | Checkpoint, which: str | None) -> _Incoming:
    checkpoint = open_checkpoint(where)
    try:
        return _incoming(model, checkpoint, which)
    finally:
        if checkpoint is not where:
            checkpoint.close()


def _incoming(model: nn.Module, checkpoint: Checkpoint, which: str | None) -> _Incoming:
    """Match and read; raises before anything is touched."""
    is_special = has_own_way(model)
    present = every_tensor(model) if is_special else saved_tensors(model)
    weights = named_alike(checkpoint.weights(which), list(present))
    beside = values_beside(checkpoint, weights)
    match = match_weights(weights, targets_of(present, weights), type(model).__name__)
    if is_special or has_composites(beside):
        inside = {spelled((name, *path)) for name, value in beside.items() for path, _ in tensors_under(value)}
        tensors = _read({name: ref for name, ref in weights.items() if name not in inside})
        real = cast("dict[str, object]", real_values(beside, checkpoint.attributes))
        return _Incoming(weights, match, tensors, beside, real)
    match = without_old_counters(model, match, weights)
    match.raise_if_bad()
    for pair in match.pairs:
        check_kinds(pair.target.name, pair.source.dtype.name, pair.target.dtype)
    return _Incoming(
        weights, match, _read({p.target.name: p.source for p in match.pairs if isinstance(p.source, TensorRef)}), beside
    )


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


def _put(model: nn.Module, incoming: _Incoming, goal: torch.device) -> Match:
    """The one place that touches a model."""
    undo = Undo(model)
    written: list[str] = []
    try:
        if incoming.real is not None:
            match, copies = _rehearsed(model, incoming, incoming.real)
        else:
            match, present = incoming.match, saved_tensors(model)
            copies = [(name, present[name], value) for name, value in incoming.tensors.items()]
            copies += [  # counters that an old checkpoint lacks
                (name, tensor, torch.zeros_like(tensor, device=CPU))
                for name, tensor in present.items()
                if tensor.is_meta and name not in incoming.tensors
            ]
        _check_real(model, copies)
        _write(model, copies, goal, written)
    except BaseException as error:
        _put_back(undo, written, error)
        raise
    return match


def _check_real(model: nn.Module, copies: list[_Copy]) -> None:
    """A model on the meta device must have nothing there that is not filled."""
    filled = {id(tensor) for _, tensor, _ in copies}
    left = [name for name, tensor in every_tensor(model).items() if tensor.is_meta and id(tensor) not in filled]
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
    for module in model.modules() if fresh else ():
        tables: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
        for table in tables:
            table.update({leaf: fresh[id(tensor)] for leaf, tensor in table.items() if id(tensor) in fresh})


def _put_back(undo: Undo, written: list[str], error: BaseException) -> None:
    """The model as it was, or an error that says how far it is from that."""
    try:
        undo.put_back()
        is_torn = bool(written) and not undo.has_values
    except Exception:  # noqa: BLE001 - a device that fails to be written to may fail to be written back to
        is_torn = True
    if not is_torn:
        return
    torn = TornLoadError(
        f"the load failed after {counted(len(written), 'tensor')} had been written",
        found=listed([shown(name) for name in written]),
        hint="load it again, or build the model anew",
    )
    if isinstance(error, Exception):
        raise torn from error
    error.add_note(str(torn))  # somebody wants to stop, and shall


def _rehearsed(model: nn.Module, incoming: _Incoming, real: Mapping[str, object]) -> tuple[Match, list[_Copy]]:
    """What the model's own loading code makes of the checkpoint; raises if it complains."""
    weights = incoming.weights
    every = every_tensor(model)
    prefix = wrapper_prefix(list(every), weights)
    state = {prefix + name: value for name, value in (*incoming.tensors.items(), *real.items())}
    rehearsal = rehearse(model, state, _under(prefix, weights.versions))
    # What is no tensor is not missed by anybody; a model that wants it has taken it.
    idle = {prefix + name for name, value in incoming.beside.items() if not holds_tensors(value)}
    rehearsal.unexpected = [name for name in rehearsal.unexpected if name not in idle]
    targets = {id(every[target.name]): target for target in targets_of(every, weights)}
    refs = {id(value): weights[name].named(prefix + name) for name, value in incoming.tensors.items()}
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
