"""The tensors of a model that a checkpoint fills, and those that it may leave as they are. Changes no module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from rehydrate.checkpoint.weights import Weights
from rehydrate.dtypes import BY_NAME
from rehydrate.errors import MismatchError
from rehydrate.matching.match import Match, Target, wrapper_prefix
from rehydrate.placing.dtypes import dtype_of
from rehydrate.text import counted, listed, shown

__all__ = ["check_kinds", "every_tensor", "saved_tensors", "targets_of", "without_old_counters", "without_ties"]

_COUNTER = "num_batches_tracked"
_COUNTED_SINCE = 2
"""The version of batch norm's layout that has a counter; torch fills it in where a checkpoint is older."""


def saved_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """What `model.state_dict()` gives, but the tensors themselves and nothing else."""
    return {name: value for name, value in model.state_dict(keep_vars=True).items() if isinstance(value, torch.Tensor)}


def every_tensor(model: nn.Module) -> dict[str, torch.Tensor]:
    """All parameters and buffers by name, whatever the model's `state_dict()` makes of them."""
    return dict([*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)])


def targets_of(tensors: Mapping[str, torch.Tensor], weights: Weights) -> list[Target]:
    """The same as targets of a match. A lazy one has whatever shape it is given."""
    targets: list[Target] = []
    for name, tensor in tensors.items():
        source = weights.tensors.get(name) if nn.parameter.is_lazy(tensor) else None
        shape = tuple(tensor.shape) if not nn.parameter.is_lazy(tensor) else source.shape if source is not None else ()
        targets.append(Target(name, shape, str(dtype_of(tensor.dtype)), isinstance(tensor, nn.Parameter)))
    return targets


def without_old_counters(model: nn.Module, match: Match, weights: Weights) -> Match:
    """The match without the missing counters of batch norms where the checkpoint is of a layout that had none."""
    prefix = wrapper_prefix([target.name for target in (*(p.target for p in match.pairs), *match.missing)], weights)
    forgiven = {target.name for target in match.missing if _is_younger(model, target.name, weights.versions, prefix)}
    if not forgiven:
        return match
    told = (
        f"{counted(len(forgiven), 'counter')} ({_COUNTER}) left as they are: checkpoints from before torch 0.4.1, "
        "and those without layout versions, have none"
    )
    missing = tuple(target for target in match.missing if target.name not in forgiven)
    return replace(match, missing=missing, told=(*match.told, told))


def without_ties(match: Match, present: Mapping[str, torch.Tensor]) -> Match:
    """The match without missing tensors that are filled under another name: one parameter in two places of a model.

    Files that keep each tensor once (safetensors, `save_model`) have one of its names.
    """
    filled = {id(present[pair.target.name]): pair.target.name for pair in match.pairs if not pair.part}
    left = [target.name for target in (*match.missing, *match.kept) if id(present[target.name]) in filled]
    if not left:
        return match
    each = listed([f"{shown(name)} is {shown(filled[id(present[name])])}" for name in left], 4)
    return replace(
        match,
        missing=tuple(target for target in match.missing if target.name not in left),
        kept=tuple(target for target in match.kept if target.name not in left),
        told=(*match.told, f"{counted(len(left), 'tensor')} filled under another name: {each}"),
    )


def _is_younger(model: nn.Module, name: str, versions: Mapping[str, object], prefix: str) -> bool:
    """Whether a tensor is the counter of a batch norm that the checkpoint knows in an older layout."""
    path, _, leaf = name.rpartition(".")
    module = model.get_submodule(path) if leaf == _COUNTER else None
    if not isinstance(module, _NormBase) or not module.track_running_stats:
        return False
    layout = versions.get(path.removeprefix(prefix) if prefix else path)
    version = layout.get("version") if isinstance(layout, Mapping) else None
    return type(version) is not int or version < _COUNTED_SINCE


def check_kinds(name: str, source: str, wanted: str) -> None:
    """Values are cast to the model's dtype, but never so that they stop being what they were."""
    kinds = BY_NAME[source].kind, BY_NAME[wanted].kind
    if source == wanted or (kinds[0] not in ("quantized", "bits") and kinds != ("complex", kinds[1])):
        return
    if kinds == ("complex", "complex"):
        return
    raise MismatchError(
        f"{shown(name)} holds {source} values, and the model's {wanted} cannot",
        hint="load it with rh.load and convert it by hand",
    )
