"""Building a model from a class, a factory or an instance, and filling it from a checkpoint.

The code that runs is the caller's own, given as an object. Nothing is imported because a file named it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.errors import RebuildError
from rehydrate.matching.allow import Allow
from rehydrate.placing.devices import Device, resolve
from rehydrate.placing.fresh.fresh import Fresh, build_fresh
from rehydrate.placing.into import load_on_terms
from rehydrate.placing.terms import Rules, terms_of
from rehydrate.storage.source import Where

__all__ = ["load_model"]

_LOG = logging.getLogger("rehydrate")


def load_model(
    where: Where | Checkpoint,
    model: Callable[..., nn.Module] | nn.Module,
    *,
    args: Sequence[object] = (),
    kwargs: Mapping[str, object] | None = None,
    device: Device | None = None,
    dtype: torch.dtype | None = None,
    which: str | None = None,
    rules: Rules = (),
    allow: Allow | None = None,
    mapped: bool = False,
) -> nn.Module:
    """Build and fill a model; see `rehydrate.load_model`."""
    terms = terms_of(which, rules, allow, dtype)
    if device is not None:
        resolve(device)  # before anything is built: a device that is not there is known at once
    if isinstance(model, nn.Module) and (args or kwargs):
        raise TypeError("args= and kwargs= are for a class or a factory, and this model is already built")
    built, fresh = (model, None) if isinstance(model, nn.Module) else _built(model, args, kwargs or {})
    try:
        match = load_on_terms(built, where, replace(terms, fresh=fresh), device=device, mapped=mapped)
    except BaseException:
        if fresh is not None:
            fresh.fill_all()  # whoever else has this model has a whole one
        raise
    built.eval()
    told = [sentence for sentence in match.told if "training mode" not in sentence]
    _LOG.info(
        "%s: %d tensors loaded%s; now in eval() mode, call .train() to train it",
        match.model,
        len(match.pairs),
        "".join(f"; {sentence}" for sentence in told),
    )
    return built


def _built(
    model: Callable[..., nn.Module], args: Sequence[object], kwargs: Mapping[str, object]
) -> tuple[nn.Module, Fresh]:
    """What the caller's constructor gives. Memory that a checkpoint may be about to fill is left alone."""
    if not callable(model):
        raise TypeError(f"expected a class, a factory or a module, got {type(model).__name__}")
    if isinstance(args, str) or not isinstance(args, Sequence):
        raise TypeError(f"args= is a tuple, as in args=(784, 10); got {type(args).__name__}")
    fresh = build_fresh(lambda: model(*args, **kwargs))
    if not isinstance(fresh.made, nn.Module):
        name = getattr(model, "__name__", type(model).__name__)
        raise RebuildError(f"{name} gave a {type(fresh.made).__name__}, not a torch.nn.Module")
    return fresh.made, fresh
