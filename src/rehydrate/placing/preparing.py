"""A model and a part of a checkpoint, held against each other: what would be done, checked, and nothing of it done.

Everything that can be wrong about names, shapes and dtypes is found here. What is to be changed besides tensors that
exist (tensors of the meta device, layers that begin anew, dtypes) is prepared for `filling`, which does it between its
checks and its end. Models with loading code of their own go another way: `own_way`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import nn

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.matching.match import Match, Pair
from rehydrate.placing.afterwards import cast_floating, like, replace_tensors, told_after
from rehydrate.placing.beside import has_composites, values_beside
from rehydrate.placing.comparing import held_against
from rehydrate.placing.devices import CPU
from rehydrate.placing.foreseen import counters_on_meta, left_on_meta, modules_anew, nothing_behind
from rehydrate.placing.fresh.buffers import initialise_buffers
from rehydrate.placing.moving.filling import Filled
from rehydrate.placing.moving.plan import Job
from rehydrate.placing.moving.undo import Kept, Together, Undo, Undoing, all_or_nothing
from rehydrate.placing.own_way import prepare_own_way
from rehydrate.placing.prepared import Prepared
from rehydrate.placing.targets import every_tensor
from rehydrate.placing.terms import Terms
from rehydrate.text import counted, listed, shown

__all__ = ["prepare_module"]

META = torch.device("meta")


def prepare_module(model: nn.Module, checkpoint: Checkpoint, terms: Terms, goal: torch.device = CPU) -> Prepared:
    """Hold a checkpoint against a model; `goal` is where tensors of the meta device become real.

    Raises `MismatchError` where they do not fit on these terms, `RebuildError` where something of the model cannot be
    made real, `AmbiguousError` and `NoSuchTensorError`.
    """
    held = held_against(model, checkpoint.weights(terms.which), terms)
    beside = values_beside(checkpoint, held.weights)
    if held.is_special or has_composites(beside):
        return prepare_own_way(model, checkpoint, held.weights, beside, held.match, terms, goal)
    match = held.without_what_is_there()
    match.raise_if_bad()
    changes = _Changes(model, held.present, match, terms, goal)

    def after(filled: Filled) -> Match:
        changes.finish(filled)
        told = [*match.told, *changes.told]
        if beside:
            told.append(f"left aside, being no tensors: {listed([shown(name) for name in beside], 4)}")
        return replace(match, told=(*told, *told_after(model, match, terms.dtype)))

    return Prepared(match, changes.begin, after, changes.jobs)


class _Changes:
    """What is done to a model beside filling its tensors: before the first byte, and when all are written."""

    def __init__(
        self, model: nn.Module, present: Mapping[str, torch.Tensor], match: Match, terms: Terms, goal: torch.device
    ) -> None:
        self.told: list[str] = []
        self._model, self._terms, self._goal = model, terms, goal
        self._recast: list[tuple[torch.Tensor, torch.Tensor]] = []
        """Tensors of the meta device that are filled instead of the model's, which take their memory in the end."""
        own = {pair.target.name: present[pair.target.name] for pair in match.pairs}
        self.told += nothing_behind(match, present)
        self._counters = counters_on_meta(present, match)
        self._every = every_tensor(model)
        self._buffers = left_on_meta(self._every, [*own.values(), *self._counters])
        self._anew = modules_anew(model, match)
        fresh = terms.fresh.ids if terms.fresh is not None else frozenset()
        self.jobs = tuple(
            Job(name, self._filled_for(tensor, pair), pair.source, pair.part, is_fresh=id(tensor) in fresh)
            for pair, (name, tensor) in zip(match.pairs, own.items(), strict=True)
        )

    def _filled_for(self, tensor: torch.Tensor, pair: Pair) -> torch.Tensor:
        """The tensor itself, or one of the dtype that it shall have, so that values are cast once and not twice."""
        dtype = self._terms.dtype
        is_plain = type(tensor) in (torch.Tensor, nn.Parameter) and tensor.device in (CPU, META)
        if dtype is None or tensor.dtype == dtype or not tensor.is_floating_point() or pair.part or not is_plain:
            return tensor
        made = torch.empty_like(tensor, dtype=dtype, device=META, requires_grad=False)
        self._recast.append((made, tensor))
        return made

    def begin(self) -> Undoing:
        """What may fail without a byte having been written."""
        terms, model = self._terms, self._model
        anew = self._anew.values()
        changed = [tensor for module in anew for tensor in (*module.parameters(), *module.buffers())]
        floats = [each for each in self._every.values() if each.is_floating_point() and not each.is_meta]
        moved = floats if terms.dtype is not None else []
        written: list[str] = []
        undo = Together((Undo(model, values=False), Kept(changed, moved, written=written)))
        with all_or_nothing((undo,)):
            if terms.fresh is not None:  # before anything else is written: what was put off is done in its order
                whole = {job.name for job in self.jobs if not job.part}
                terms.fresh.fill(tensor for name, tensor in self._every.items() if name not in whole)
            if self._buffers:
                ways = initialise_buffers(model, self._buffers, self._goal)
                by = listed(list(dict.fromkeys(ways.values())), 4)
                self.told.append(f"{counted(len(ways), 'buffer')} that no file holds set by {by}")
            for path, module in self._anew.items():
                written += [f"{path}.{name}".lstrip(".") for name in module.state_dict()]
                module.reset_parameters()  # type: ignore[operator]
        return undo

    def finish(self, filled: Filled) -> None:
        """Real tensors for those of the meta device, and the wanted dtype for all others."""
        made = {id(tensor): torch.zeros_like(tensor, device=self._goal) for tensor in self._counters} | filled.fresh
        for stand_in, tensor in self._recast:
            real = made.pop(id(stand_in))
            if not tensor.is_meta:
                tensor.data = real
            else:
                made[id(tensor)] = like(tensor, real)
        replace_tensors(self._model, made)
        if self._terms.dtype is not None:
            cast_floating(self._model, self._terms.dtype)
