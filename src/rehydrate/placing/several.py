"""Several objects filled from one file: a model, its optimizer, a schedule; all of them or none.

Everything is found, checked and prepared before anything is touched, and what was touched is put back where a later
one fails. Models are filled as `into` fills one; optimizers by `optimizers`, with the names and the order that their
models have in the same file; whatever else has a `load_state_dict` is given plain data, and a copy of its own state is
kept until all is done.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.checkpoint.weights import Weights
from rehydrate.collector import collector_paused
from rehydrate.errors import MismatchError, RehydrateError
from rehydrate.formats.opening import opened
from rehydrate.matching.match import Match, Pair, Target
from rehydrate.placing.devices import CPU, Device, resolve
from rehydrate.placing.moving.filling import Filled, fill
from rehydrate.placing.moving.undo import taken_together
from rehydrate.placing.optimizers.layout import Ordered
from rehydrate.placing.optimizers.optimizer import follow_parameters, has_own_loading, prepare_optimizer
from rehydrate.placing.parts_of_runs import Found, found_parts, left_told
from rehydrate.placing.prepared import Prepared
from rehydrate.placing.preparing import prepare_module
from rehydrate.placing.ranks import ranks_told
from rehydrate.placing.records import is_plain, is_same, real_or_refused
from rehydrate.placing.terms import Terms
from rehydrate.storage.source import Where
from rehydrate.text import shown

__all__ = ["load_several"]

_CONTAINERS = (dict, list, tuple, set, frozenset)


def load_several(
    objects: Mapping[str, object],
    where: Where | Checkpoint,
    terms: Terms,
    *,
    device: Device | None = None,
    mapped: bool = True,
) -> Match:
    """Fill every object from the part of the file that its key names, or none of them.

    Keys are those of the file; where it has no such part, its other usual names are tried, and that is told. Gives one
    match, in which every name begins with its object's key. Raises what filling each of them raises, `TypeError` for
    what cannot be filled, `NoSuchTensorError` and `AmbiguousError` where a part cannot be told.
    """
    _check_kinds(objects, terms)
    goal = None if device is None else resolve(device)
    with collector_paused(), opened(where) as checkpoint:
        parts = found_parts(objects, checkpoint)
        prepared = _prepared(objects, parts, checkpoint, terms, CPU if goal is None else goal)
        matches, filled = _done(objects, prepared, CPU if goal is None else goal, mapped)
        left = left_told(parts, checkpoint)
    if goal is not None:
        _move(objects, goal)
    told = [sentence for part in parts.values() for sentence in part.told]
    return _together(objects, matches, [*told, *filled.told, *left, *ranks_told()])


def _check_kinds(objects: Mapping[str, object], terms: Terms) -> None:
    """Refuse what nothing can be put into, before a file is looked at."""
    if not isinstance(objects, Mapping) or not objects:
        raise TypeError("expected a dictionary of objects to fill, such as {'model': model, 'optimizer': optimizer}")
    for key, value in objects.items():
        if not isinstance(key, str):
            raise TypeError(f"objects are named as the file names them, by strings; got {shown(repr(key))}")
        if isinstance(value, type):
            raise TypeError(f"{shown(key)!r} is a class; build it first")
        if not callable(getattr(value, "load_state_dict", None)):
            what = type(value).__name__
            raise TypeError(
                f"{shown(key)!r} is a {what} and cannot be filled; rh.open(where).tree[{key!r}] reads what the file has"
                if is_plain(value) or isinstance(value, _CONTAINERS)
                else f"{shown(key)!r} is a {what}, which has no load_state_dict"
            )
    if terms.which is not None:
        raise TypeError("which= is for one model; of several objects, each key names its part")
    if len({id(value) for value in objects.values()}) < len(objects):
        raise TypeError("the same object is to be filled twice")


# --- preparing ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Known:
    """The models that are filled along, for the optimizers that hold their parameters."""

    names: Mapping[int, tuple[str, str]]
    """Of each parameter, by `id`: its model's key, and its name there."""
    orders: Mapping[str, tuple[Ordered, ...]]
    """Of each model its parameters as they lie in the file."""
    remade: Mapping[str, frozenset[str]]
    """Of each model the names of parameters that are made of something else than one tensor of the file as it is."""


def _prepared(
    objects: Mapping[str, object],
    parts: Mapping[str, Found],
    checkpoint: Checkpoint,
    terms: Terms,
    goal: torch.device,
) -> dict[str, Prepared]:
    """Every object, models first: optimizers ask for theirs. Raises before anything is touched."""
    prepared: dict[str, Prepared] = {}
    for key, value in objects.items():
        if isinstance(value, nn.Module):
            own = replace(terms, which=parts[key].which)
            prepared[key] = _named(key, prepare_module, value, checkpoint, own, goal)
    known = _known(objects, prepared, parts, checkpoint)
    for key, value in objects.items():
        part = parts[key]
        if isinstance(value, Optimizer) and not has_own_loading(value):
            about = _about_models(value, known)
            prepared[key] = _named(key, prepare_optimizer, value, part.value, checkpoint.attributes, where=key, **about)
        elif not isinstance(value, nn.Module):
            prepared[key] = _named(key, _prepare_other, value, part.value, checkpoint.attributes, key)
    return prepared


def _named(key: str, prepare: Callable[..., Prepared], *args: Any, **kwargs: Any) -> Prepared:
    """Prepare, and have an error say which of the objects it is about."""
    try:
        return prepare(*args, **kwargs)
    except RehydrateError as error:
        error.where = f"{shown(key)}: {error.where}" if error.where else shown(key)
        raise


def _prepare_other(value: Any, part: object, attributes: Mapping[int, object], key: str) -> Prepared:
    """A schedule, a scaler, anything that has state: real data for it, and its own to go back to."""
    real = real_or_refused(part, attributes, key)
    match = Match(type(value).__name__, ())

    def after(filled: Filled) -> Match:
        try:
            value.load_state_dict(real)
        except Exception as error:
            raise MismatchError(
                f"{type(value).__name__}.load_state_dict does not take what the file has",
                where=shown(key),
                found=f"{type(error).__name__}: {shown(str(error), 300)}",
            ) from error
        return match

    return Prepared(match, lambda: _AsItWas(value, key), after)


class _AsItWas:
    """Something with state, whatever it is: its attributes, and a copy of what it says its state is."""

    def __init__(self, value: Any, key: str) -> None:
        self._value = value
        self._key = key
        self._attributes = dict(getattr(value, "__dict__", {}))
        self._state = copy.deepcopy(value.state_dict()) if callable(getattr(value, "state_dict", None)) else None

    def put_back(self) -> Sequence[str]:
        """Make it that again; somebody's own code may refuse its own state."""
        own = getattr(self._value, "__dict__", {})
        own.clear()
        own.update(self._attributes)
        try:
            if self._state is not None and not is_same(self._value.state_dict(), self._state):
                self._value.load_state_dict(self._state)
        except Exception:  # noqa: BLE001
            return (self._key,)
        return ()


def _known(
    objects: Mapping[str, object], prepared: Mapping[str, Prepared], parts: Mapping[str, Found], checkpoint: Checkpoint
) -> _Known:
    names: dict[int, tuple[str, str]] = {}
    orders: dict[str, tuple[Ordered, ...]] = {}
    remade: dict[str, frozenset[str]] = {}
    if not any(isinstance(value, Optimizer) for value in objects.values()):
        return _Known(names, orders, remade)
    for key, value in objects.items():
        if isinstance(value, nn.Module):
            own = dict(value.named_parameters())
            for name, parameter in own.items():
                names.setdefault(id(parameter), (key, name))
            pairs = [pair for pair in prepared[key].match.pairs if pair.target.name in own]
            orders[key] = _order(pairs, checkpoint.weights(parts[key].which))
            plain = {ordered.name for ordered in orders[key]}
            remade[key] = frozenset(pair.target.name for pair in pairs if pair.target.name not in plain)
    return _Known(names, orders, remade)


def _order(pairs: Sequence[Pair], weights: Weights) -> tuple[Ordered, ...]:
    """A model's parameters in the file's order; not those that are something else there: turned, cut, put together."""
    places: dict[tuple[int, int, tuple[int, ...]], tuple[int, str]] = {}
    for at, (name, ref) in enumerate(weights.items()):
        places.setdefault(_memory(ref), (at, name))
    found: dict[int, Ordered] = {}
    for pair in pairs:
        source = pair.source
        if not isinstance(source, TensorRef) or pair.part or _memory(source) not in places:
            continue
        at, name = places[_memory(source)]
        if source.strides == weights[name].strides:
            found[at] = Ordered(name, pair.target.name, pair.target.shape)
    return tuple(found[at] for at in sorted(found))


def _memory(ref: TensorRef) -> tuple[int, int, tuple[int, ...]]:
    """By which a tensor of a file is known, whatever a rule calls it."""
    return id(ref.storage), ref.offset, ref.shape


def _about_models(optimizer: Optimizer, known: _Known) -> dict[str, Any]:
    """What is known of the models whose parameters an optimizer holds; names begin with their model's where there are
    several."""
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    whose = {id(parameter): known.names[id(parameter)] for parameter in held if id(parameter) in known.names}
    keys = [key for key in known.orders if key in {key for key, _ in whose.values()}]
    front = {key: "" if len(keys) == 1 else f"{key}." for key in keys}
    return {
        "names": {identity: front[key] + name for identity, (key, name) in whose.items()},
        "order": [replace(each, name=front[key] + each.name) for key in keys for each in known.orders[key]],
        "remade": {front[key] + name for key in keys for name in known.remade[key]},
    }


# --- doing -------------------------------------------------------------------------------------------------------


def _done(
    objects: Mapping[str, object], prepared: Mapping[str, Prepared], goal: torch.device, mapped: bool
) -> tuple[dict[str, Match], Filled]:
    """The one place that touches the objects. What may refuse is done before what cannot be put back at any size."""
    order = sorted(prepared, key=lambda key: _turn(objects[key], prepared[key]))
    matches: dict[str, Match] = {}

    def after(filled: Filled) -> None:
        for key in order:
            matches[key] = prepared[key].after(filled)

    filled = fill(
        [job for key in order for job in prepared[key].jobs],
        goal=goal,
        mapped=mapped,
        before=lambda: taken_together(prepared[key].before for key in order),
        after=after,
    )
    return matches, filled


def _turn(value: object, prepared: Prepared) -> int:
    """Schedules before optimizers, which have the last word on rates; models that load by code of their own last."""
    if isinstance(value, nn.Module):
        return 2 if prepared.jobs else 3
    return 1 if isinstance(value, Optimizer) else 0


def _move(objects: Mapping[str, object], goal: Any) -> None:
    for value in objects.values():
        if isinstance(value, nn.Module):
            value.to(goal)
    for value in objects.values():
        if isinstance(value, Optimizer):
            follow_parameters(value)


def _together(objects: Mapping[str, object], matches: Mapping[str, Match], told: Sequence[str]) -> Match:
    """One match of all, in which every name begins with its object's key."""
    in_order = [(key, matches[key]) for key in objects]
    return Match(
        model=", ".join(f"{shown(key)} ({match.model})" for key, match in in_order),
        pairs=tuple(replace(pair, target=_under(key, pair.target)) for key, match in in_order for pair in match.pairs),
        told=(*(f"{shown(key)}: {sentence}" for key, match in in_order for sentence in match.told), *told),
        kept=tuple(_under(key, target) for key, match in in_order for target in match.kept),
        reinitialised=tuple(f"{key}.{name}" for key, match in in_order for name in match.reinitialised),
        aside=tuple(value.named(f"{key}.{value.name}") for key, match in in_order for value in match.aside),
        computed=tuple(_under(key, target) for key, match in in_order for target in match.computed),
        ignored=tuple(value.named(f"{key}.{value.name}") for key, match in in_order for value in match.ignored),
        resized=sum(match.resized for _, match in in_order),
        allowed=tuple(f"{shown(key)}: {sentence}" for key, match in in_order for sentence in match.allowed),
    )


def _under(key: str, target: Target) -> Target:
    return replace(target, name=f"{key}.{target.name}")
