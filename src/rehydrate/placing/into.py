"""Putting a checkpoint into a model, or into several objects: all of it, or nothing.

Everything that can be wrong (names, shapes, dtypes, an unreadable file, a device that is not there) is found while the
model is still as it was (`preparing`). Then `filling` moves the bytes into the parameters that exist, so an optimizer
that was made before still holds them; only tensors on the meta device, which have no memory, are replaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import nn

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.collector import collector_paused
from rehydrate.formats.opening import opened
from rehydrate.matching.allow import Allow
from rehydrate.matching.match import Match
from rehydrate.placing.devices import CPU, Device, resolve
from rehydrate.placing.moving.filling import fill
from rehydrate.placing.preparing import prepare_module
from rehydrate.placing.ranks import ranks_told
from rehydrate.placing.several import load_several
from rehydrate.placing.terms import Rules, Terms, terms_of
from rehydrate.storage.source import Where

__all__ = ["load_into", "load_on_terms"]


def load_into(
    model: nn.Module | Mapping[str, object],
    where: Where | Checkpoint,
    *,
    device: Device | None = None,
    dtype: torch.dtype | None = None,
    which: str | None = None,
    rules: Rules = (),
    allow: Allow | None = None,
    mapped: bool = True,
) -> Match:
    """Put a checkpoint into `model`; see `rehydrate.load_into`."""
    terms = terms_of(which, rules, allow, dtype)
    if isinstance(model, Mapping):
        return load_several(model, where, terms, device=device, mapped=mapped)
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected a torch.nn.Module, got {type(model).__name__}; a class is built by load_model")
    return load_on_terms(model, where, terms, device=device, mapped=mapped)


def load_on_terms(
    model: nn.Module, where: Where | Checkpoint, terms: Terms, *, device: Device | None, mapped: bool
) -> Match:
    """The same for one model."""
    goal = None if device is None else resolve(device)
    real = CPU if goal is None else goal
    matches: list[Match] = []
    with collector_paused(), opened(where) as checkpoint:
        prepared = prepare_module(model, checkpoint, terms, real)
        filled = fill(
            prepared.jobs,
            goal=real,
            mapped=mapped,
            before=prepared.before,
            after=lambda filled: matches.append(prepared.after(filled)),
        )
    if goal is not None:
        model.to(goal)
    (match,) = matches
    return replace(match, told=(*match.told, *filled.told, *ranks_told()))
