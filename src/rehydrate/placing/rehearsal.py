"""What a model's own loading code would write, found out without writing it.

Most modules load by copying tensors to where they have the same names. Some do more: layouts of older versions are
renamed, quantised weights are packed, extra state is set. For such a model its own `load_state_dict` is run over real
values, and what it would copy into the model's tensors is noted instead of done. What it changes besides is the
caller's to undo.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.modules.lazy import LazyModuleMixin
from torch.overrides import TorchFunctionMode

from rehydrate.checkpoint.tensor import Storage, TensorRef, Window, row_major
from rehydrate.dtypes import BY_NAME
from rehydrate.matching.match import Match, Pair, Target
from rehydrate.matching.values import Value
from rehydrate.pickles.torch_names import nowhere
from rehydrate.placing.dtypes import dtype_of

__all__ = ["Rehearsal", "has_own_way", "match_of", "rehearse"]

_LOADS = (nn.Module, _NormBase, _InstanceNorm)
"""Classes whose `_load_from_state_dict` we know: the counters of batch norms are seen to in `into`."""
_HOOKS = (
    "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks", "_state_dict_hooks", "_state_dict_pre_hooks",
)  # fmt: skip
_VERBS = ("state_dict", "load_state_dict", "get_extra_state", "set_extra_state")


@dataclass(slots=True)
class Rehearsal:
    """What would happen."""

    copies: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)
    """A tensor of the model and the one that would be copied into it."""
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    """Whatever else torch or the model said, in its own words."""


def has_own_way(model: nn.Module) -> bool:
    """Whether any module of the model loads or saves in another way than by names and copies."""
    return any(map(_is_special, model.modules()))


def _is_special(module: nn.Module) -> bool:
    kind = type(module)
    if not any(kind._load_from_state_dict is known._load_from_state_dict for known in _LOADS):
        return True
    if kind._save_to_state_dict not in (nn.Module._save_to_state_dict, LazyModuleMixin._save_to_state_dict):
        return True
    if any(getattr(kind, verb) is not getattr(nn.Module, verb) or verb in vars(module) for verb in _VERBS):
        return True
    hooks = [hook for name in _HOOKS for hook in vars(module).get(name, {}).values()]
    return not all(map(_is_lazy_hook, hooks))


def _is_lazy_hook(hook: Any) -> bool:
    """torch's own, by which a lazy module takes the shape of what is loaded; `into` does that too."""
    inner = getattr(hook, "hook", hook)
    return getattr(inner, "__func__", None) is LazyModuleMixin._lazy_load_hook


def rehearse(model: nn.Module, state: Mapping[str, object], versions: Mapping[str, object]) -> Rehearsal:
    """Run `model.load_state_dict` over `state` with every copy into the model's tensors noted and not done."""
    rehearsal = Rehearsal()
    ordered = OrderedDict(state)
    if versions:
        ordered._metadata = OrderedDict(versions)  # type: ignore[attr-defined]

    def listen(module: nn.Module, keys: Any) -> None:
        rehearsal.missing.extend(keys.missing_keys)
        rehearsal.unexpected.extend(keys.unexpected_keys)

    handle = model.register_load_state_dict_post_hook(listen)  # type: ignore[no-untyped-call]
    try:
        with _Noting(model, rehearsal), warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*copying from a non-meta parameter.*")  # those are replaced
            model.load_state_dict(ordered)
    except Exception as error:  # noqa: BLE001 - the model's own code may raise anything
        text = str(error) if isinstance(error, RuntimeError) else f"{type(error).__name__}: {error}"
        lines = [line.strip() for line in text.splitlines() or [repr(error)]]
        told = ("Error(s) in loading", "Missing key(s)", "Unexpected key(s)")
        rehearsal.complaints = [line for line in lines if line and not line.startswith(told)]
        if not (rehearsal.complaints or rehearsal.missing or rehearsal.unexpected):
            rehearsal.complaints = [repr(error)]
    finally:
        handle.remove()
    return rehearsal


class _Noting(TorchFunctionMode):
    """Notes what is copied into the tensors of a model, and leaves them alone."""

    def __init__(self, model: nn.Module, rehearsal: Rehearsal) -> None:
        super().__init__()
        self._own = {id(tensor) for tensor in chain(model.parameters(), model.buffers())}
        self._rehearsal = rehearsal

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Everything else is done as it is."""
        if func is torch.Tensor.copy_ and id(args[0]) in self._own:
            value = args[1] if len(args) > 1 else kwargs["other"]
            fits = torch.broadcast_shapes(value.shape, args[0].shape) == args[0].shape  # type: ignore[no-untyped-call]
            if not fits:  # the copy would complain too
                raise RuntimeError(f"{tuple(value.shape)} does not fit into {tuple(args[0].shape)}")
            self._rehearsal.copies.append((args[0], value))
            return args[0]
        return func(*args, **(kwargs or {}))


def match_of(
    rehearsal: Rehearsal,
    plain: Match,
    targets: Mapping[int, Target],
    refs: Mapping[int, Value],
    found: Mapping[int, Pair],
) -> Match:
    """The match that a rehearsal comes to.

    `plain` is the match by names alone; `targets`, `refs` and `found` tell what a tensor of the model is, what one that
    was rehearsed with is, and which pair of `plain` that is the source of: by their `id`.
    """
    names = {target.name: target for target in targets.values()}
    copied = {id(tensor): value for tensor, value in rehearsal.copies if id(tensor) in targets}
    pairs = [
        _pair(target, value, refs, found.get(id(value)))
        for key, target in targets.items()
        if (value := copied.get(key)) is not None
    ]
    known = {ref.name: ref for ref in refs.values()}
    return Match(
        model=plain.model,
        pairs=tuple(pairs),
        missing=tuple(names.get(name) or Target(name, (), "", False) for name in rehearsal.missing),
        unexpected=tuple(known[name] if name in known else _described(name) for name in rehearsal.unexpected),
        complaints=tuple(rehearsal.complaints),
        told=plain.told,
    )


def _pair(target: Target, value: torch.Tensor, refs: Mapping[int, Value], found: Pair | None) -> Pair:
    """As names and shapes had found it, where the model's code does that too."""
    if found is not None and found.target.name == target.name:
        return found
    source = refs[id(value)] if id(value) in refs else _described(target.name, value)
    return Pair(target.given(tuple(value.shape)), source)


def _described(name: str, value: torch.Tensor | None = None) -> TensorRef:
    """A reference that stands for a tensor which lies in no file: the model's code made it, or it is not one."""
    shape = tuple(value.shape) if value is not None else ()
    dtype = dtype_of(value.dtype) if value is not None else BY_NAME["uint8"]
    return TensorRef(name, Window(dtype, shape, row_major(shape)), Storage("", dtype, 0, "cpu", nowhere))
