"""A saved optimizer into one that exists: prepared here, and only touched once every tensor has been filled.

What each parameter gets is found out in `layout`, what its tensors become in `states`, and what is done about options
(`lr`, `betas`, …) in `options`. A state of another optimizer is refused.

An optimizer with loading code or loading hooks of its own is not for here: `several` gives it to those.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.optim import Optimizer

from rehydrate.errors import MismatchError, RebuildError
from rehydrate.matching.match import Match
from rehydrate.placing.moving.filling import Filled
from rehydrate.placing.moving.plan import Job
from rehydrate.placing.optimizers.layout import (
    Assignment,
    Entry,
    Ordered,
    SavedState,
    assign,
    saved_state,
)
from rehydrate.placing.optimizers.options import Options, options_for
from rehydrate.placing.optimizers.states import STEP, Goal, States
from rehydrate.placing.prepared import Prepared
from rehydrate.placing.records import real_or_refused
from rehydrate.text import counted, listed, shown

__all__ = ["follow_parameters", "has_own_loading", "prepare_optimizer"]

_LISTED = 6

_KEEPS: Mapping[str, tuple[str, ...]] = {
    "ASGD": ("step", "eta", "mu", "ax"),
    "Adadelta": ("step", "square_avg", "acc_delta"),
    "Adagrad": ("step", "sum"),
    "Adam": ("step", "exp_avg", "exp_avg_sq"),
    "AdamW": ("step", "exp_avg", "exp_avg_sq"),
    "Adamax": ("step", "exp_avg", "exp_inf"),
    "NAdam": ("step", "mu_product", "exp_avg", "exp_avg_sq"),
    "RAdam": ("step", "exp_avg", "exp_avg_sq"),
    "RMSprop": ("step", "square_avg"),
    "Rprop": ("step", "prev", "step_size"),
    "SparseAdam": ("step", "exp_avg", "exp_avg_sq"),
}
"""What torch's optimizers cannot take a step without, once a parameter has a state."""
_SGD = "momentum_buffer"
_OPTIONS = frozenset(
    {
        "alpha", "beta2_decay", "betas", "d", "dampening", "eps", "etas", "initial_accumulator_value", "lambd",
        "lr_decay", "max_eval", "momentum", "momentum_decay", "ns_steps", "rho", "step_sizes", "t0",
    }
)  # fmt: skip
"""Options that some of torch's optimizers have and others have not."""
_ANOTHER = "make the optimizer that was saved; rh.load_into(model, …) leaves it aside"


def has_own_loading(optimizer: Optimizer) -> bool:
    """Whether an optimizer loads in another way than torch's do."""
    hooks = ("_optimizer_load_state_dict_pre_hooks", "_optimizer_load_state_dict_post_hooks")
    return type(optimizer).load_state_dict is not Optimizer.load_state_dict or any(
        vars(optimizer).get(name) for name in hooks
    )


def prepare_optimizer(
    optimizer: Optimizer,
    part: object,
    attributes: Mapping[int, object],
    *,
    where: str,
    names: Mapping[int, str] | None = None,
    order: Sequence[Ordered] = (),
    remade: Collection[str] = (),
) -> Prepared:
    """Check a saved optimizer against one that exists, and prepare filling it.

    `part` is inert, `attributes` are its checkpoint's, and `where` is what the file calls it. `names` are those of the
    parameters by `id`, where their model is known; `order` has the model's parameters as they lie in the same file, and
    `remade` the names of those that are made of something else there: a state made for that is not theirs.
    Raises `MismatchError` where the state is another optimizer's, or it cannot be told what belongs to which parameter,
    or shapes differ; `RebuildError` for what cannot be built.
    """
    saved = saved_state(part, where)
    live = _entries(optimizer, names or {})
    entries = [entry for group in live for entry in group]
    assignment = _without(assign(saved, live, order, type(optimizer).__name__), entries, remade)
    _check_options(optimizer, saved)
    _check_kept(optimizer, saved, assignment)
    options = options_for(optimizer, saved, assignment, attributes)
    build = States(attributes, assignment)
    states: dict[Any, dict[object, object]] = {}
    held = [(group, parameter) for group in optimizer.param_groups for parameter in group["params"]]
    for at, ((group, parameter), key) in enumerate(zip(held, assignment.keys, strict=True)):
        own = optimizer.state.get(parameter, {})
        if key is None:  # the file has none for it: its state is its own
            if own:
                states[parameter] = dict(own)
        elif saved.states.get(key):
            goal = Goal(parameter, entries[at].name or f"[{at}]", bool(group.get("fused") or group.get("capturable")))
            build.check_factors(goal, saved, key)
            states[parameter] = build.state_of(goal, saved.states[key], own if isinstance(own, dict) else {})
    for name, value in saved.beside.items():
        states[name] = real_or_refused(value, attributes, f"{where}.state.{name}")
    options.check(states)
    match = Match(
        type(optimizer).__name__,
        tuple(build.pairs),
        mismatched=tuple(build.mismatched),
        told=(*_told(saved, assignment, entries, remade), *options.told),
    )
    _check_shapes(match)
    return _prepared(optimizer, tuple(build.jobs), states, options, match)


def _without(assignment: Assignment, entries: Sequence[Entry], remade: Collection[str]) -> Assignment:
    """Without the states of parameters that are something else here."""
    pairs = zip(assignment.keys, entries, strict=True)
    return replace(assignment, keys=tuple(None if entry.name in remade else key for key, entry in pairs))


def _check_shapes(match: Match) -> None:
    """Torch takes states of any shape, and goes wrong in silence."""
    try:
        match.raise_if_bad()
    except MismatchError as error:
        error.hint = (
            "these are the states of other parameters: make the optimizer with its parameters in the order in which "
            "they were saved, of the model that was saved"
        )
        raise


def _prepared(
    optimizer: Optimizer, jobs: tuple[Job, ...], states: dict[Any, dict[object, object]], options: Options, match: Match
) -> Prepared:
    def after(filled: Filled) -> Match:
        state, groups = optimizer.state, optimizer.param_groups
        state.clear()
        state.update(states)
        for group, values in zip(groups, options.values, strict=True):
            group.update(values)
        try:  # steps of old files become tensors here
            optimizer.__setstate__({"state": state, "param_groups": groups})
        except Exception as error:
            raise MismatchError(
                f"{type(optimizer).__name__} does not take the states of the file",
                found=f"{type(error).__name__}: {shown(str(error), 300)}",
            ) from error
        return match

    return Prepared(match, lambda: _AsItWas(optimizer), after, jobs)


class _AsItWas:
    """An optimizer's groups and what its states hold; not what is in their tensors."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._attributes = dict(optimizer.__dict__)
        self._state = dict(optimizer.state)
        self._groups = [(group, dict(group)) for group in optimizer.param_groups]

    def put_back(self) -> Sequence[str]:
        """Make it that again."""
        self._optimizer.__dict__.clear()
        self._optimizer.__dict__.update(self._attributes)
        self._optimizer.state.clear()
        self._optimizer.state.update(self._state)
        for group, content in self._groups:
            group.clear()
            group.update(content)
        return ()


def _entries(optimizer: Optimizer, names: Mapping[int, str]) -> list[list[Entry]]:
    """The parameters that an optimizer holds, by their model's names, or by those that it was made with."""
    live: list[list[Entry]] = []
    meta = 0
    for group in optimizer.param_groups:
        given = group.get("param_names") or ()
        parameters = group["params"]
        own = given if len(given) == len(parameters) else [None] * len(parameters)
        live.append([Entry(names.get(id(p), name), tuple(p.shape)) for p, name in zip(parameters, own, strict=True)])
        meta += sum(parameter.is_meta for parameter in parameters)
    if meta:
        raise RebuildError(
            f"{counted(meta, 'parameter')} of this {type(optimizer).__name__} are on the meta device, and loading puts "
            "others in their place",
            hint="fill the model first, make the optimizer then, and load it after that",
        )
    return live


def _check_options(optimizer: Optimizer, saved: SavedState) -> None:
    """Refuse the options of another optimizer; one that was never stepped has nothing else to tell by."""
    has = {option for group in saved.groups for option in group.values}
    lacks = [
        name for name, value in optimizer.defaults.items() if type(value) in (int, float, tuple) and name not in has
    ]
    alien = sorted(has & _OPTIONS - optimizer.defaults.keys())
    if has and lacks and alien:
        name = type(optimizer).__name__
        raise MismatchError(
            f"this is the state of another optimizer than {name}",
            found=f"{name} has {listed(lacks, _LISTED)}; the file has {listed(alien, _LISTED)}",
            hint=_ANOTHER,
        )


def _check_kept(optimizer: Optimizer, saved: SavedState, assignment: Assignment) -> None:
    """Refuse the state of another optimizer: torch would take it, and fail or go wrong at the next step."""
    chosen = [saved.states[key] for key in assignment.keys if key is not None and saved.states.get(key)]
    has = {slot for state in chosen for slot in state}
    every = set.intersection(*map(set, chosen)) if chosen else set()
    kind = type(optimizer)
    is_torchs = kind.__module__.split(".")[:2] == ["torch", "optim"]
    own = {slot for state in optimizer.state.values() if isinstance(state, dict) for slot in state}
    if is_torchs and kind.__name__ in _KEEPS:
        keeps: Sequence[object] = _KEEPS[kind.__name__]
        is_wrong = bool(chosen) and not every.issuperset(keeps)
    elif is_torchs and kind.__name__ == "SGD":
        keeps, is_wrong = (_SGD,), bool(has - {_SGD})
    else:
        keeps, is_wrong = sorted(map(str, own)), bool(own and has) and own.isdisjoint(has)
    if is_wrong:
        raise MismatchError(
            f"this is the state of another optimizer than {kind.__name__}",
            found=f"{kind.__name__} keeps {listed([shown(slot) for slot in keeps], _LISTED)}; the file has "
            f"{listed(sorted(shown(slot) for slot in has), _LISTED)}",
            hint=_ANOTHER,
        )


def _told(
    saved: SavedState, assignment: Assignment, entries: Sequence[Entry], remade: Collection[str]
) -> Iterator[str]:
    """How states were given out, and who got none."""
    used = {key for key in assignment.keys if key is not None}
    given = sum(bool(saved.states.get(key)) for key in used)
    yield (
        f"states given to {given:,} of {counted(len(entries), 'parameter')} {assignment.rule}"
        if given
        else ("no parameter has a state in the file; only options were loaded")
    )
    if assignment.rule != "by name" and given:
        yield "the file does not know the parameters' names: an optimizer made of named_parameters() saves them"
    named = [
        (entry.name or f"[{at}]", key) for at, (entry, key) in enumerate(zip(entries, assignment.keys, strict=True))
    ]
    others = [shown(name) for name, _ in named if name in remade]
    if others:
        yield f"made of something else in the file, so their states are left as they are: {listed(others, _LISTED)}"
    unknown = [shown(name) for name, key in named if key is None and name not in remade]
    if unknown:
        yield f"not in the file, and left as they are: {listed(unknown, _LISTED)}"
    new = [shown(name) for name, key in named if key is not None and not saved.states.get(key)]
    if new and any(saved.states.values()):
        yield f"without a state in the file, so they begin anew: {listed(new, _LISTED)}"
    idle = [saved.names.get(key, key) for key in saved.keys if key not in used and saved.states.get(key)]
    if idle:
        names = listed([shown(name) for name in idle], _LISTED)
        yield f"states of parameters that this optimizer does not hold, left: {names}"


def follow_parameters(optimizer: Optimizer) -> None:
    """Bring an optimizer's state to where its parameters have been moved."""
    for group in optimizer.param_groups:
        own_step = bool(group.get("fused") or group.get("capturable"))
        for parameter in group["params"]:
            if parameter in optimizer.state:
                optimizer.state[parameter] = _moved(optimizer.state[parameter], parameter.device, own_step)


def _moved(value: Any, device: torch.device, own_step: bool, key: object = None) -> Any:
    if isinstance(value, torch.Tensor):
        return value if key == STEP and not own_step else value.to(device)
    if isinstance(value, dict):
        return {name: _moved(item, device, own_step, name) for name, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_moved(item, device, own_step) for item in value)
    return value
