"""The tensors of a model that a checkpoint fills, and those that it may leave as they are. Changes no module."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.checkpoint.weights import Weights
from rehydrate.dtypes import BY_NAME
from rehydrate.errors import MismatchError
from rehydrate.matching.computed import COUNTER
from rehydrate.matching.match import Match, Pair, Target, wrapper_prefix
from rehydrate.matching.values import Value
from rehydrate.placing.dtypes import dtype_of
from rehydrate.text import counted, listed, shown

__all__ = [
    "check_kinds", "every_tensor", "saved_tensors", "targets_of", "versions_of", "without_old_counters", "without_ties",
]  # fmt: skip

_COUNTED_SINCE = 2
"""The version of batch norm's layout that has a counter; torch fills it in where a checkpoint is older."""


def saved_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """What `model.state_dict()` gives, but the tensors themselves and nothing else."""
    return {name: value for name, value in model.state_dict(keep_vars=True).items() if isinstance(value, torch.Tensor)}


def every_tensor(model: nn.Module) -> dict[str, torch.Tensor]:
    """All parameters and buffers by name, whatever the model's `state_dict()` makes of them."""
    return dict([*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)])


def targets_of(tensors: Mapping[str, torch.Tensor]) -> list[Target]:
    """The same as targets of a match."""
    targets: list[Target] = []
    for name, tensor in tensors.items():
        is_lazy = nn.parameter.is_lazy(tensor)
        shape = () if is_lazy else tuple(tensor.shape)
        targets.append(Target(name, shape, str(dtype_of(tensor.dtype)), isinstance(tensor, nn.Parameter), is_lazy))
    return targets


def without_old_counters(model: nn.Module, match: Match, weights: Weights) -> Match:
    """The match without the missing counters of batch norms where the checkpoint is of a layout that had none."""
    counters = [target.name for target in match.missing if target.name.endswith(COUNTER)]
    versions = versions_of(match, weights) if counters else {}
    forgiven = {name for name in counters if _is_younger(model, name, versions)}
    if not forgiven:
        return match
    told = (
        f"{counted(len(forgiven), 'counter')} ({COUNTER}) left as they are: checkpoints from before torch 0.4.1, "
        "and those without layout versions, have none"
    )
    missing = tuple(target for target in match.missing if target.name not in forgiven)
    return replace(match, missing=missing, told=(*match.told, told))


def versions_of(match: Match, weights: Weights) -> dict[str, object]:
    """torch's `_metadata` by the names that the model has for its modules."""
    names = [target.name for target in (*(pair.target for pair in match.pairs), *match.missing)]
    prefix = wrapper_prefix(names, weights)
    versions = {(prefix + name).removesuffix("" if name else "."): each for name, each in weights.versions.items()}
    found: dict[str, object] = {}
    for pair in match.pairs if weights.versions else ():
        here, there = pair.source.name.split(".")[:-1], pair.target.name.split(".")[:-1]
        while (module := ".".join(there)) not in found:
            found[module] = weights.versions.get(".".join(here))
            if not here or not there or here.pop() != there.pop():  # what contains both is called alike, up to prefixes
                break
    return versions | {name: version for name, version in found.items() if version is not None}


def without_ties(match: Match, present: Mapping[str, torch.Tensor]) -> Match:
    """The match without missing tensors that the model has under another name: one parameter in two places of it.

    Files that keep each tensor once (safetensors, `save_model`) have one of its names.
    """
    told = [*match.told, *_told_of_two(match, present)]
    left: dict[str, str] = {}
    if match.missing or match.kept:
        filled = {id(present[pair.target.name]): pair.target.name for pair in match.pairs}
        settled = {id(present[target.name]): target.name for target in match.kept} | filled
        left = {target.name: settled[key] for target in match.missing if (key := id(present[target.name])) in settled}
        left |= {target.name: filled[key] for target in match.kept if (key := id(present[target.name])) in filled}
    if left:
        each = listed([f"{shown(name)} is {shown(other)}" for name, other in left.items()], 4)
        how = "filled" if all(id(present[name]) in filled for name in left) else "filled or kept"
        told.append(f"{counted(len(left), 'tensor')} {how} under another name: {each}")
    return replace(
        match,
        missing=tuple(target for target in match.missing if target.name not in left),
        kept=tuple(target for target in match.kept if target.name not in left),
        told=tuple(told),
    )


def _told_of_two(match: Match, present: Mapping[str, torch.Tensor]) -> Iterator[str]:
    """One tensor of the model, and two of the file for it: torch says nothing, and takes the last."""
    firsts: dict[int, Pair] = {}
    names: list[str] = []
    for pair in match.pairs:
        first = firsts.setdefault(id(present[pair.target.name]), pair)
        if first is not pair and not _is_same(first.source, pair.source):
            names.append(f"{shown(first.target.name)} and {shown(pair.target.name)}")
    if names:
        yield f"one tensor in the model and two in the file, of which the later is taken: {listed(names, 4)}"


def _is_same(one: Value, other: Value) -> bool:
    """Whether two values are the same bytes of a file."""
    if isinstance(one, TensorRef) and isinstance(other, TensorRef):
        return one.storage is other.storage and one.window == other.window
    return one == other


def _is_younger(model: nn.Module, name: str, versions: Mapping[str, object]) -> bool:
    """Whether a tensor is the counter of a batch norm that the checkpoint knows in an older layout."""
    path, _, leaf = name.rpartition(".")
    module = model.get_submodule(path) if leaf == COUNTER else None
    if not isinstance(module, _NormBase) or not module.track_running_stats:
        return False
    layout = versions.get(path)
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
