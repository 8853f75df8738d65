"""A file against a model, with nothing moved: the match that a load would begin with.

Either side may be a model, a state dict, or a file. No tensor is read, and the model is not touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.tensor import Storage, TensorRef, Window
from rehydrate.checkpoint.weights import Weights, find_weights
from rehydrate.collector import collector_paused
from rehydrate.formats.opening import opened
from rehydrate.matching.match import Match, Target, match_weights, named_alike
from rehydrate.pickles.torch_names import nowhere
from rehydrate.placing.dtypes import dtype_of
from rehydrate.placing.foreseen import refusals
from rehydrate.placing.rehearsal import has_own_way
from rehydrate.placing.targets import every_tensor, saved_tensors, targets_of, without_old_counters, without_ties
from rehydrate.placing.terms import Terms
from rehydrate.storage.source import Where

__all__ = ["Given", "Held", "held_against", "match"]

Given = Where | Checkpoint | nn.Module | Mapping[str, object]
"""What has named tensors: a file, an opened one, a model, a state dict."""


def match(where: Given, model: Given, terms: Terms) -> Match:
    """Hold the tensors of `where` against those of `model`; see `rehydrate.match`."""
    with collector_paused():
        weights = _weights(where, terms.which)
        if not isinstance(model, nn.Module):
            wanted = _weights(model, None)
            targets = [
                Target(name, ref.shape, ref.dtype.name, ref.dtype.kind == "float") for name, ref in wanted.items()
            ]
            weights = named_alike(weights, list(wanted))
            return match_weights(weights, targets, "the other file", rules=terms.rules, allow=terms.allow)
        held = held_against(model, weights, terms)
        found = held.without_what_is_there()
        told = list(found.told)
        if held.is_special:
            kind = type(model).__name__
            told.append(f"the model loads by code of its own, which has the last word ({kind}.load_state_dict)")
        complaints = tuple(refusals(model, held.present, found, kinds=not held.is_special)) if found else ()
        return replace(found, told=tuple(told), complaints=complaints)


@dataclass(frozen=True, slots=True)
class Held:
    """A model and what a file has for it, held against each other by names and shapes."""

    model: nn.Module
    is_special: bool
    """Whether the model has loading code of its own."""
    present: Mapping[str, torch.Tensor]
    weights: Weights
    """By the names that the model has, where it is wrapped as the file is."""
    match: Match

    def without_what_is_there(self) -> Match:
        """The match without what is missing and need not be in a file: old counters, second names of one tensor."""
        return without_ties(without_old_counters(self.model, self.match, self.weights), self.present)


def held_against(model: nn.Module, weights: Weights, terms: Terms) -> Held:
    """What a load begins with, and what `rh.match` says."""
    is_special = has_own_way(model)
    present = every_tensor(model) if is_special else saved_tensors(model)
    weights = named_alike(weights, list(present))
    found = match_weights(weights, targets_of(present), type(model).__name__, rules=terms.rules, allow=terms.allow)
    return Held(model, is_special, present, weights, found)


def _weights(given: Given, which: str | None) -> Weights:
    if isinstance(given, nn.Module):
        return find_weights(_described(saved_tensors(given)), {}, which)
    if isinstance(given, Mapping) and not isinstance(given, Checkpoint):
        return find_weights(_described(given), {}, which)
    with opened(given) as checkpoint:
        return checkpoint.weights(which)


def _described(tensors: Mapping[str, object]) -> dict[str, TensorRef]:
    """References without bytes: names, shapes and dtypes are all that is looked at."""
    described: dict[str, TensorRef] = {}
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            continue
        dtype = dtype_of(tensor.dtype)
        window = Window(dtype, tuple(tensor.shape), tuple(tensor.stride()))
        described[name] = TensorRef(name, window, Storage(name, dtype, window.reach, "cpu", nowhere))
    return described
