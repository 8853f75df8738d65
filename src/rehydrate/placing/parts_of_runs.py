"""Which part of a file an object is meant to get: by its key, or by the other names that trainers give such a part.

A name that is not the one that was asked for is taken only where there is one such part, and told. Changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import nn
from torch.optim import Optimizer

from rehydrate.checkpoint.candidates import is_optimizer, may_hold
from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.tree import children, spelled
from rehydrate.checkpoint.weights import find_models
from rehydrate.errors import AmbiguousError, NoSuchTensorError
from rehydrate.text import listed, nearest, shown

__all__ = ["Found", "found_parts", "left_told"]

_FAMILIES = (
    ("model", "state_dict", "model_state_dict", "model_state", "net", "net_state_dict", "network", "module", "weights"),
    ("optimizer", "optimizer_state_dict", "optim", "opt", "optimizer_state", "optim_state_dict", "optimizer_states"),
    (
        "scheduler", "lr_scheduler", "scheduler_state_dict", "lr_scheduler_state_dict", "sched", "scheduler_state",
        "lr_schedulers", "schedule",
    ),
    ("scaler", "grad_scaler", "amp_scaler", "scaler_state_dict", "loss_scaler", "amp"),
    ("ema", "model_ema", "state_dict_ema", "ema_state_dict", "ema_model"),
)  # fmt: skip
"""Names that trainers give the same thing."""
_ENDINGS = ("", "_state_dict", "_state", "_dict")
_DEEPEST = 6
_VISITED = 100_000
_LISTED = 6


@dataclass(frozen=True, slots=True)
class Found:
    """A part of a file."""

    name: str
    """As the tree spells it; empty for the file's only model."""
    value: object
    told: tuple[str, ...] = ()

    @property
    def which(self) -> str | None:
        """What finds it again where it is a model."""
        return self.name or None


def found_parts(objects: Mapping[str, object], checkpoint: Checkpoint) -> dict[str, Found]:
    """The part for each object.

    Raises `NoSuchTensorError` where there is none, and `AmbiguousError` where there are several, or one for two.
    """
    exact = {key: _at(checkpoint.tree, key) for key in objects}
    taken = {key for key, value in exact.items() if value is not None}
    parts: dict[str, Found] = {}
    for key, value in objects.items():
        found = exact[key]
        parts[key] = Found(key, found) if found is not None else _otherwise(key, value, objects, checkpoint, taken)
    owners: dict[str, str] = {}
    for key, part in parts.items():
        other = owners.setdefault(part.name, key)
        if other != key:
            what = f"{shown(part.name)!r}" if part.name else "the only model"
            raise AmbiguousError(
                f"{shown(other)!r} and {shown(key)!r} would both be filled from {what} of this file",
                hint="name the objects as the file names its parts",
            )
    return parts


def left_told(parts: Mapping[str, Found], checkpoint: Checkpoint) -> Iterator[str]:
    """What of the file nobody asked for."""
    tree = checkpoint.tree
    used = [part.name for part in parts.values()]
    if not isinstance(tree, dict) or not all(
        used
    ):  # what lies in a model's own dictionary is told where that is filled
        return
    left = [key for key in tree if isinstance(key, str) and not any(map(_is_in(key), used))]
    if left:
        first = next((key for key in left if shown(key) == key), None)
        hint = f"; rh.open(where).tree[{first!r}] reads them" if first is not None else ""
        yield f"in the file and not asked for: {listed([shown(key) for key in left], _LISTED)}{hint}"


def _is_in(key: str) -> Callable[[str], bool]:
    return lambda name: name == key or name.startswith((f"{key}.", f"{key}["))


def _at(tree: object, key: str) -> object:
    """The part whose path is spelled `key`; None where there is none."""
    if isinstance(tree, Mapping) and tree.get(key) is not None:
        return tree[key]
    level: list[tuple[tuple[object, ...], object]] = [((), tree)]
    visited = 0
    for _ in range(_DEEPEST):
        below: list[tuple[tuple[object, ...], object]] = []
        for path, part in level:
            for step, child in children(part):
                visited += 1
                if visited > _VISITED:
                    return None
                name = spelled((*path, step))
                if name == key:
                    return child
                if key.startswith(name) and may_hold(child):
                    below.append(((*path, step), child))
        level = below
    return None


def _otherwise(
    key: str, value: object, objects: Mapping[str, object], checkpoint: Checkpoint, taken: set[str]
) -> Found:
    """A part by another of its usual names, or the only one of its kind."""
    tree = checkpoint.tree
    entries = {name: part for name, part in children(tree) if isinstance(name, str)} if may_hold(tree) else {}
    names = [name for name in _synonyms(key) if entries.get(name) is not None and name not in taken]
    if len(names) > 1:
        raise _several(key, names)
    if names:
        return _opened(key, names[0], entries[names[0]])
    if isinstance(value, nn.Module) and sum(isinstance(other, nn.Module) for other in objects.values()) == 1:
        weights = checkpoint.weights()  # raises where there is none, or several
        place = spelled(weights.path)
        return Found(place, None, (f"the file has no {shown(key)!r}; its only model was taken for it",))
    if isinstance(value, Optimizer) and sum(isinstance(other, Optimizer) for other in objects.values()) == 1:
        own = [name for name, part in entries.items() if is_optimizer(part) and name not in taken]
        if len(own) > 1:
            raise _several(key, own)
        if own:
            return _opened(key, own[0], entries[own[0]])
    raise _nothing(key, entries, checkpoint)


def _synonyms(key: str) -> list[str]:
    """Other names for what `key` names."""
    stem = next((key.removesuffix(ending) for ending in _ENDINGS[1:] if key.endswith(ending)), key)
    names = [stem + ending for ending in _ENDINGS]
    for family in _FAMILIES:
        if key.lower() in family:
            names += family
    return [name for name in dict.fromkeys(names) if name != key]


def _opened(key: str, name: str, part: object) -> Found:
    """A part by its name; the one entry of a list, as Lightning keeps optimizers."""
    if isinstance(part, (list, tuple)):
        if len(part) != 1:
            raise _several(key, [f"{name}[{at}]" for at in range(min(len(part), _LISTED))])
        name, part = f"{name}[0]", part[0]
    return Found(name, part, (f"{shown(key)!r} was filled from {shown(name)!r} of the file",))


def _several(key: str, names: list[str]) -> AmbiguousError:
    return AmbiguousError(
        f"{shown(key)!r} could be filled from several parts of this file",
        found=listed([repr(shown(name)) for name in names], _LISTED),
        hint="name the object as the file names its part",
    )


def _nothing(key: str, entries: Mapping[str, object], checkpoint: Checkpoint) -> NoSuchTensorError:
    names = list(dict.fromkeys([*(name for name, part in entries.items() if part is not None)]))
    names += [name for name in find_models(checkpoint.tree) if name and name not in entries]
    near = nearest(key, names)
    return NoSuchTensorError(
        f"this file has nothing for {shown(key)!r}: None was saved"
        if key in entries
        else f"this file has no part for {shown(key)!r}",
        where=shown(checkpoint.source.name),
        found=listed([repr(shown(name)) for name in names]) if names else "no parts with names",
        hint=f"did you mean {shown(near)!r}?" if near else "",
    )
