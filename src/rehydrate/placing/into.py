"""Putting a checkpoint into a model: all of it, or nothing.

Everything that can be wrong (names, shapes, dtypes, an unreadable file, a device that is not there) is found while the
model is still as it was. Then values are copied into the parameters that exist, so an optimizer that was made before
still holds them; only tensors on the meta device, which have no memory to copy into, are replaced. Should copying
itself fail, what was overwritten is put back from an undo copy; past `UNDO`, `TornLoadError` names what was written.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

import torch
from torch import nn

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.weights import Weights
from rehydrate.errors import MismatchError, RebuildError, TornLoadError
from rehydrate.formats.opening import open_checkpoint
from rehydrate.matching.match import Match, Target, match_weights
from rehydrate.placing.devices import CPU, Device, resolve
from rehydrate.placing.dtypes import dtype_of
from rehydrate.placing.tensors import Storages
from rehydrate.storage.source import Where
from rehydrate.text import counted, listed, shown

__all__ = ["load_into", "targets_of"]

UNDO = 64 << 20
"""Bytes of a model up to which a copy is kept while it is overwritten. Past it, memory would be three times the model;
by then every byte has been read and checked, and copying has little left to fail of."""


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
    goal = None if device is None else resolve(device)
    checkpoint = open_checkpoint(where)
    try:
        weights = checkpoint.weights(which)
        match = match_weights(weights, targets_of(model), type(model).__name__)
        match.raise_if_bad()
        _check_kinds(match)
        incoming = _read(match)
    finally:
        if checkpoint is not where:
            checkpoint.close()
    _check_buffers(model)
    _Writing(model, incoming, CPU if goal is None else goal).run()
    if goal is not None:
        model.to(goal)
    return replace(match, told=(*match.told, *_afterwards(model, match, weights)))


def targets_of(model: nn.Module) -> list[Target]:
    """The tensors that `model.state_dict()` has, in its order."""
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    return [
        Target(name, tuple(tensor.shape), str(dtype_of(tensor.dtype)), name in parameters)
        for name, tensor in _tensors_of(model).items()
    ]


def _tensors_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """The parameters and buffers themselves, by the names of `state_dict()`; extra state is not a tensor of ours."""
    every = dict(
        chain(
            model.named_parameters(remove_duplicate=False),
            model.named_buffers(remove_duplicate=False),
        )
    )
    return {name: every[name] for name in model.state_dict(keep_vars=True) if name in every}


def _check_kinds(match: Match) -> None:
    """Values are cast to the model's dtype, but never so that they stop being what they were."""
    for pair in match.pairs:
        kind, wanted = pair.source.dtype.kind, pair.target.dtype
        is_complex = wanted.startswith("complex")
        if kind == "quantized" or (kind == "complex" and not is_complex):
            raise MismatchError(
                f"{shown(pair.target.name)} holds {pair.source.dtype} values, and the model's {wanted} cannot",
                hint="load it with rh.load and convert it by hand",
            )


def _read(match: Match) -> dict[str, torch.Tensor]:
    """Every tensor of the checkpoint that is wanted, on the CPU, by its name in the model."""
    nowhere = [pair.source.name for pair in match.pairs if pair.source.storage.location == "meta"]
    if nowhere:
        raise RebuildError(
            f"{counted(len(nowhere), 'tensor')} of this checkpoint were saved from the meta device, without data",
            found=listed([shown(name) for name in nowhere]),
        )
    storages = Storages([pair.source.storage for pair in match.pairs], lambda saved: CPU)
    return {pair.target.name: storages.tensor(pair.source).detach() for pair in match.pairs}


def _check_buffers(model: nn.Module) -> None:
    """A model on the meta device must have nothing there that no checkpoint can fill."""
    saved = set(_tensors_of(model))
    left = [name for name, buffer in model.named_buffers() if buffer.is_meta and name not in saved]
    if left:
        raise RebuildError(
            f"the model is on the meta device, and no checkpoint holds {counted(len(left), 'buffer')} of it",
            found=listed(left),
            hint="build the model on the CPU",
        )


class _Writing:
    """The one place that touches a model."""

    def __init__(self, model: nn.Module, incoming: dict[str, torch.Tensor], goal: torch.device) -> None:
        self._model = model
        self._incoming = incoming
        self._goal = goal
        self._present = {name: tensor for name, tensor in _tensors_of(model).items() if name in incoming}
        self._written: list[str] = []
        self._replaced: list[tuple[nn.Module, str, torch.Tensor]] = []
        nbytes = sum(tensor.nbytes for tensor in self._present.values() if not tensor.is_meta)
        self._old: dict[str, torch.Tensor] = {}
        self._can_undo = nbytes <= UNDO

    @torch.no_grad()
    def run(self) -> None:
        """Copy everything, or leave the model as it was."""
        fresh = dict(self._replacements())
        if self._can_undo:
            self._old = {name: tensor.clone() for name, tensor in self._present.items() if not tensor.is_meta}
        try:
            for name, tensor in self._present.items():
                if tensor.is_meta:
                    self._replace(name, fresh[id(tensor)])
                else:
                    self._written.append(name)
                    tensor.copy_(self._incoming[name])
        except BaseException as error:
            self._undo(error)
            raise

    def _replacements(self) -> Iterator[tuple[int, torch.Tensor]]:
        """Real tensors for those on the meta device, one for each, however many names it has."""
        for name, tensor in self._present.items():
            if tensor.is_meta:
                made = self._incoming[name].to(device=self._goal, dtype=tensor.dtype, copy=True)
                is_parameter = isinstance(tensor, nn.Parameter)
                yield id(tensor), nn.Parameter(made, tensor.requires_grad) if is_parameter else made

    def _replace(self, name: str, tensor: torch.Tensor) -> None:
        path, _, leaf = name.rpartition(".")
        owner = self._model.get_submodule(path)
        table = owner._parameters if leaf in owner._parameters else owner._buffers
        self._replaced.append((owner, leaf, table[leaf]))  # type: ignore[arg-type]
        table[leaf] = tensor  # type: ignore[assignment]

    def _undo(self, error: BaseException) -> None:
        for owner, leaf, tensor in self._replaced:
            table = owner._parameters if leaf in owner._parameters else owner._buffers
            table[leaf] = tensor  # type: ignore[assignment]
        if self._can_undo:
            for name in self._written:
                self._present[name].copy_(self._old[name])
        elif self._written:
            raise TornLoadError(
                f"the load failed after {counted(len(self._written), 'tensor')} had been written",
                found=listed([shown(name) for name in self._written]),
                hint="load it again, or build the model anew",
            ) from error


def _afterwards(model: nn.Module, match: Match, weights: Weights) -> Iterator[str]:
    """What somebody should know now."""
    cast = [pair for pair in match.pairs if pair.source.dtype.name != pair.target.dtype]
    if cast:
        first = cast[0]
        yield f"{counted(len(cast), 'tensor')} cast, such as {first.source.dtype} to {first.target.dtype}"
    if model.training:
        yield "the model is in training mode; call .eval() before predicting"
