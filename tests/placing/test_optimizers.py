"""Optimizer states: a run that was loaded goes on as the one that was saved, to the bit, whatever has changed since."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn, optim
from torch.optim import Optimizer

import rehydrate as rh
from rehydrate.placing.moving.filling import fill
from rehydrate.placing.optimizers.layout import interleaved
from rehydrate.placing.optimizers.optimizer import prepare_optimizer
from tests.effort import tried

Parameters = Iterable[Any]
Make = Callable[[Parameters], Optimizer]


def saved(obj: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(obj, buffer)
    return buffer.getvalue()


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 4), nn.Linear(4, 2))


def train(model: nn.Module, optimizer: Optimizer, steps: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        inputs = torch.randn(5, 3, generator=generator)

        def loss() -> float:
            optimizer.zero_grad()
            value = (model(inputs) ** 2).sum()  # noqa: B023
            value.backward()
            return float(value.detach())

        optimizer.step(loss)


def assert_same(one: nn.Module, other: nn.Module) -> None:
    for (name, mine), theirs in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs), name


def file_of(model: nn.Module, optimizer: Optimizer) -> bytes:
    return saved({"model": model.state_dict(), "optimizer": optimizer.state_dict()})


OPTIMIZERS: dict[str, Make] = {
    "Adam": optim.Adam,
    "Adam, foreach": lambda p: optim.Adam(p, foreach=True),
    "Adam, fused": lambda p: optim.Adam(p, fused=True),
    "Adam, amsgrad": lambda p: optim.Adam(p, amsgrad=True),
    "AdamW": lambda p: optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "AdamW, lr a tensor": lambda p: optim.AdamW(p, lr=torch.tensor(0.01), foreach=False),
    "SGD": lambda p: optim.SGD(p, lr=0.1),
    "SGD, momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "SGD, foreach": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, foreach=True),
    "Adagrad": optim.Adagrad,
    "Adadelta": optim.Adadelta,
    "Adamax": optim.Adamax,
    "NAdam": optim.NAdam,
    "RAdam": optim.RAdam,
    "ASGD": optim.ASGD,
    "Rprop": optim.Rprop,
    "RMSprop": lambda p: optim.RMSprop(p, momentum=0.9, centered=True),
    "Adafactor": optim.Adafactor,
    "LBFGS": lambda p: optim.LBFGS(p, max_iter=4),
    "LBFGS, line search": lambda p: optim.LBFGS(p, max_iter=4, line_search_fn="strong_wolfe"),
}


@pytest.mark.parametrize("is_stepped", [False, True], ids=["fresh", "stepped before"])
@pytest.mark.parametrize("is_named", [False, True], ids=["unnamed", "named"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_goes_on_as_if_it_had_never_been_interrupted(name: str, is_named: bool, is_stepped: bool) -> None:
    def make(model: nn.Module) -> Optimizer:
        return OPTIMIZERS[name](model.named_parameters() if is_named else model.parameters())

    model = network()
    optimizer = make(model)
    train(model, optimizer, 3, seed=1)
    file = file_of(model, optimizer)

    ours = network(1)
    mine = make(ours)
    if is_stepped:
        train(ours, mine, 2, seed=2)
    match = rh.load_into({"model": ours, "optimizer": mine}, file)
    assert match
    theirs = network(2)  # torch itself
    its = make(theirs)
    plain = torch.load(io.BytesIO(file), weights_only=False)
    theirs.load_state_dict(plain["model"])
    its.load_state_dict(plain["optimizer"])

    for each, stepping in ((model, optimizer), (ours, mine), (theirs, its)):
        train(each, stepping, 2, seed=3)
    assert_same(ours, model)
    assert_same(ours, theirs)
    assert ("by order and shape" in str(match)) is (not is_named and name != "SGD")  # which has no states


@pytest.mark.parametrize("make", [optim.Adam, optim.Adagrad, optim.Adafactor, OPTIMIZERS["SGD, momentum"]])
def test_tensors_that_an_optimizer_has_are_filled_where_they_are(make: Make) -> None:
    model, ours = network(), network(1)
    optimizer, mine = make(model.parameters()), make(ours.parameters())
    train(model, optimizer, 3, seed=1)
    train(ours, mine, 2, seed=2)
    before = [(value, value.data_ptr()) for state in mine.state.values() for value in state.values()]
    groups = [*mine.param_groups]
    rh.load_into({"model": ours, "optimizer": mine}, file_of(model, optimizer))
    after = [value for state in mine.state.values() for value in state.values()]
    assert [(id(value), at) for value, at in before] == [(id(value), value.data_ptr()) for value in after]
    assert all(one is other for one, other in zip(groups, mine.param_groups, strict=True))
    for (parameter, state), saved_state in zip(mine.state.items(), optimizer.state.values(), strict=True):
        assert any(parameter is own for own in ours.parameters())
        assert all(torch.equal(state[slot], saved_state[slot]) for slot in saved_state)


# --- which state belongs to which parameter ----------------------------------------------------------------------


def split(model: nn.Module) -> list[dict[str, Any]]:
    """What everybody's training script does."""
    every = list(model.parameters())
    return [
        {"params": [parameter for parameter in every if parameter.dim() > 1], "weight_decay": 0.1},
        {"params": [parameter for parameter in every if parameter.dim() <= 1], "weight_decay": 0.0},
    ]


def adamw(parameters: Parameters, **options: Any) -> Optimizer:
    return optim.AdamW(parameters, **{"lr": 0.01, **options})


LAYOUTS: dict[str, Callable[[nn.Module], Optimizer]] = {
    "one group": lambda model: adamw(model.parameters()),
    "decay apart": lambda model: adamw(split(model)),
    "reversed": lambda model: adamw(list(model.parameters())[::-1]),
    "named": lambda model: adamw(model.named_parameters()),
    "named, reversed": lambda model: adamw(list(model.named_parameters())[::-1]),
    "param_groups": lambda model: adamw(rh.param_groups(model, {"3.*": {"lr": 0.1}, "*": {}}, weight_decay=0.05)),
}


def states(model: nn.Module, optimizer: Optimizer) -> dict[str, dict[str, torch.Tensor]]:
    return {name: dict(optimizer.state.get(parameter, {})) for name, parameter in model.named_parameters()}


def assert_same_states(one: dict[str, dict[str, torch.Tensor]], other: dict[str, dict[str, torch.Tensor]]) -> None:
    for name, state in one.items():
        assert state.keys() == other[name].keys(), name
        assert all(torch.equal(value, other[name][slot]) for slot, value in state.items()), name


@pytest.mark.parametrize("there", LAYOUTS)
@pytest.mark.parametrize("here", LAYOUTS)
def test_states_reach_their_parameters_or_are_refused_whatever_the_groups(there: str, here: str) -> None:
    model, ours = network(), network(1)
    optimizer, mine = LAYOUTS[there](model), LAYOUTS[here](ours)
    train(model, optimizer, 3, seed=1)
    file = file_of(model, optimizer)
    if there == "reversed" and not here.endswith("reversed"):
        # The file has no names, and its order is no model's: shapes show it.
        with pytest.raises(rh.MismatchError, match=r"another size|cannot be told"):
            rh.load_into({"model": ours, "optimizer": mine}, file)
        assert not mine.state
        return
    match = rh.load_into({"model": ours, "optimizer": mine}, file)
    assert_same_states(states(model, optimizer), states(ours, mine))
    train(ours, mine, 1, seed=2)
    if there == here:
        train(model, optimizer, 1, seed=2)
        assert_same(model, ours)
    is_cut_otherwise = len(optimizer.param_groups) != len(mine.param_groups)
    assert ("the optimizer keeps its own options" in str(match)) is is_cut_otherwise


def test_a_changed_layout_keeps_the_optimizers_options_and_tells_the_files() -> None:
    model, ours = network(), network(1)
    optimizer, mine = adamw(model.parameters(), lr=0.5), adamw(split(ours), lr=0.25)
    train(model, optimizer, 1, seed=1)
    match = rh.load_into({"model": ours, "optimizer": mine}, file_of(model, optimizer))
    assert [group["lr"] for group in mine.param_groups] == [0.25, 0.25]
    assert [group["weight_decay"] for group in mine.param_groups] == [0.1, 0.0]
    assert "lr 0.5 (here 0.25)" in str(match)
    assert "weight_decay 0.01 (here 0.1)" in str(match)


def test_the_same_layout_takes_the_files_options_and_tells_what_changed() -> None:
    model, ours = network(), network(1)
    optimizer, mine = adamw(split(model), lr=0.5), adamw(split(ours), lr=0.25)
    optim.lr_scheduler.StepLR(optimizer, 3)
    match = rh.load_into({"optimizer": mine}, saved({"optimizer": optimizer.state_dict()}))
    assert [group["lr"] for group in mine.param_groups] == [0.5, 0.5]
    assert [group["initial_lr"] for group in mine.param_groups] == [0.5, 0.5]
    assert "options taken from the file: lr 0.25 → 0.5" in str(match)


def test_groups_in_another_order_get_their_own_options_by_name() -> None:
    model, ours = network(), network(1)
    optimizer = adamw(rh.param_groups(model, {"3.*": {"lr": 0.1}, "*": {"lr": 0.2}}))
    mine = adamw(rh.param_groups(ours, {"[0-2].*": {"lr": 7}, "*": {"lr": 8}}))
    train(model, optimizer, 1, seed=1)
    rh.load_into({"model": ours, "optimizer": mine}, file_of(model, optimizer))
    assert [group["lr"] for group in mine.param_groups] == [0.2, 0.1]
    assert [group["name"] for group in mine.param_groups] == ["[0-2].*", "*"]
    assert_same_states(states(model, optimizer), states(ours, mine))


def test_equal_shapes_in_a_changed_layout_are_refused_and_never_guessed() -> None:
    model, ours = network(), network(1)
    halves = [{"params": [*model[0].parameters(), *model[2].parameters()]},
              {"params": [*model[1].parameters(), *model[3].parameters()]}]  # fmt: skip
    optimizer, mine = adamw(halves), adamw(ours.parameters())
    train(model, optimizer, 1, seed=1)
    with pytest.raises(rh.MismatchError, match="it cannot be told which state of the file belongs") as caught:
        rh.load_into({"model": ours, "optimizer": mine}, file_of(model, optimizer))
    assert "loaded state dict has a different number of parameter groups" in str(caught.value)
    assert "groups of 4, 4, the optimizer 8 in groups of 8" in str(caught.value)
    assert not mine.state


def test_wrong_shapes_are_an_error_that_names_parameter_and_shapes() -> None:
    small, model = nn.Linear(2, 4), nn.Linear(3, 4)
    optimizer, mine = adamw(small.parameters()), adamw(model.parameters())
    small(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    file = saved({"optimizer": optimizer.state_dict()})
    plain = adamw(nn.Linear(3, 4).parameters())
    plain.load_state_dict(torch.load(io.BytesIO(file))["optimizer"])  # torch takes it
    with pytest.raises(rh.MismatchError, match="does not fit AdamW: 2 of another size") as caught:
        rh.load_into({"optimizer": mine}, file)
    assert r"size mismatch for [0].exp_avg: the checkpoint has [4, 2], the model [4, 3]" in str(caught.value)
    assert "the order in which they were saved" in str(caught.value)


def test_rows_and_columns_of_another_matrix_are_an_error_too() -> None:
    one, other = nn.Linear(2, 4, bias=False), nn.Linear(3, 4, bias=False)
    optimizer, mine = optim.Adafactor(one.parameters()), optim.Adafactor(other.parameters())
    one(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    with pytest.raises(rh.MismatchError, match="in rows and columns"):
        rh.load_into({"optimizer": mine}, saved({"optimizer": optimizer.state_dict()}))


def test_names_are_matched_through_wrappers_on_either_side() -> None:
    model = network()
    wrapped = nn.DataParallel(network(1))
    for there, here in ((model, wrapped), (wrapped, model)):
        optimizer = adamw(list(there.named_parameters())[::-1])
        mine = adamw(here.named_parameters())
        train(there, optimizer, 1, seed=1)
        match = rh.load_into({"model": here, "optimizer": mine}, file_of(there, optimizer))
        assert "by name" in str(match)
        for one, other in zip(states(there, optimizer).values(), states(here, mine).values(), strict=True):
            assert torch.equal(one["exp_avg"], other["exp_avg"])


def test_frozen_parameters_that_are_trained_now_begin_anew_and_that_is_said() -> None:
    for parameters in (
        lambda net: net.parameters(),
        lambda net: [(n, p) for n, p in net.named_parameters() if p.requires_grad],
    ):
        model, ours = network(), network(1)
        model[0].requires_grad_(False)
        optimizer = adamw(parameters(model))
        mine = adamw(parameters(ours))
        train(model, optimizer, 2, seed=1)
        train(ours, mine, 1, seed=2)
        match = rh.load_into({"model": ours, "optimizer": mine}, file_of(model, optimizer))
        assert "0.weight, 0.bias" in str(match)
        assert mine.state[ours[3].weight]["step"] == 2
        train(ours, mine, 1, seed=3)


def test_an_optimizer_of_fewer_parameters_gets_theirs_and_tells_of_the_others() -> None:
    model, ours = network(), network(1)
    optimizer, mine = adamw(model.parameters()), adamw(ours[3].parameters())
    train(model, optimizer, 2, seed=1)
    match = rh.load_into({"model": ours, "optimizer": mine}, file_of(model, optimizer))
    assert torch.equal(mine.state[ours[3].weight]["exp_avg"], optimizer.state[model[3].weight]["exp_avg"])
    assert "states of parameters that this optimizer does not hold" in str(match)


def test_a_parameter_that_is_made_of_something_else_does_not_get_the_state_of_that() -> None:
    """A square matrix that was turned on its way has the shape of its old momentum, and is no less another one."""
    model, ours = network(), network(1)
    optimizer, mine = adamw(model.named_parameters()), adamw(ours.named_parameters())
    train(model, optimizer, 1, seed=1)
    state = optimizer.state_dict()
    with rh.open(saved(state)) as checkpoint:
        prepared = prepare_optimizer(mine, checkpoint.tree, {}, where="optimizer", remade={"2.weight"})
        fill(prepared.jobs, after=prepared.after)
    assert ours[2].weight not in mine.state
    assert torch.equal(mine.state[ours[2].bias]["exp_avg"], optimizer.state[model[2].bias]["exp_avg"])
    assert "made of something else in the file, so their states are left as they are: 2.weight" in str(prepared.match)


# --- other optimizers, other files -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "here"),
    [("Adam", "SGD"), ("SGD, momentum", "Adam"), ("SGD", "Adam"), ("Adam", "Adafactor"), ("RMSprop", "Adam"),
     ("Adagrad", "Adam"), ("Adam", "NAdam"), ("Adam", "LBFGS"), ("LBFGS", "SGD")],
)  # fmt: skip
def test_the_state_of_another_optimizer_is_refused(there: str, here: str) -> None:
    model, ours = network(), network(1)
    optimizer, mine = OPTIMIZERS[there](model.parameters()), OPTIMIZERS[here](ours.parameters())
    train(model, optimizer, 1, seed=1)
    before = saved(mine.state_dict())
    with pytest.raises(rh.MismatchError, match="the state of another optimizer than"):
        rh.load_into({"model": ours, "optimizer": mine}, file_of(model, optimizer))
    assert saved(mine.state_dict()) == before


def test_an_option_that_needs_what_the_file_lacks_is_refused() -> None:
    model, ours = network(), network(1)
    optimizer, mine = adamw(model.parameters()), adamw(split(ours), amsgrad=True)
    train(model, optimizer, 1, seed=1)
    with pytest.raises(rh.MismatchError, match="amsgrad=True, and the states in the file have no max_exp_avg_sq"):
        rh.load_into({"model": ours, "optimizer": mine}, file_of(model, optimizer))


@pytest.mark.parametrize("is_fused", [False, True])
def test_steps_become_what_the_optimizer_here_needs(is_fused: bool) -> None:
    """Old files have numbers; fused kernels want float32 beside the parameter; how it was computed stays there."""
    model = network()
    optimizer = optim.Adam(model.parameters(), fused=not is_fused)
    train(model, optimizer, 2, seed=1)
    for kind in (int, float, lambda step: torch.tensor(step, dtype=torch.float64), lambda step: torch.tensor(step)):
        state = optimizer.state_dict()
        state["state"] = {key: {**own, "step": kind(2)} for key, own in state["state"].items()}
        for is_stepped in (False, True):
            ours = network(1)
            mine = optim.Adam(ours.parameters(), fused=is_fused)
            if is_stepped:
                train(ours, mine, 1, seed=4)
            match = rh.load_into({"optimizer": mine}, saved({"optimizer": state}))
            assert mine.param_groups[0]["fused"] is is_fused
            assert "it goes on computing as it was made to: fused=" in str(match)
            steps = [own["step"] for own in mine.state.values()]
            assert all(isinstance(step, torch.Tensor) and step == 2 for step in steps)
            assert not is_fused or all(step.dtype == torch.float32 for step in steps)
            train(ours, mine, 1, seed=2)
            assert all(own["step"] == 3 for own in mine.state.values())


def test_floating_state_becomes_what_its_parameter_is_and_counters_do_not() -> None:
    model = nn.Linear(3, 2)
    optimizer = adamw(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    half = nn.Linear(3, 2).bfloat16()
    mine = adamw(half.parameters())
    rh.load_into({"optimizer": mine}, saved({"optimizer": optimizer.state_dict()}))
    state = mine.state[half.weight]
    assert state["exp_avg"].dtype == torch.bfloat16
    assert state["step"].dtype == torch.float32
    assert torch.equal(state["exp_avg"], optimizer.state[model.weight]["exp_avg"].bfloat16())


def test_names_as_keys_are_understood_nested_and_flat() -> None:
    """As torch.distributed's state dicts have them."""
    model, ours = network(), network(1)
    optimizer = adamw(model.parameters(), lr=0.5)
    train(model, optimizer, 2, seed=1)
    names = [name for name, _ in model.named_parameters()]
    own = {name: optimizer.state[parameter] for name, parameter in model.named_parameters()}
    options = {key: value for key, value in optimizer.param_groups[0].items() if key != "params"}
    nested = {"state": own, "param_groups": [{**options, "params": names}]}
    flat = {f"state.{name}.{slot}": value for name, state in own.items() for slot, value in state.items()}
    flat |= {f"param_groups.{name}.{key}": value for name in names for key, value in options.items()}
    for state in (nested, flat):
        mine = adamw(list(ours.parameters())[::-1])
        match = rh.load_into(
            {"model": ours, "optimizer": mine}, saved({"model": model.state_dict(), "optimizer": state})
        )
        assert "by name" in str(match)
        assert mine.param_groups[0]["lr"] == 0.5
        assert_same_states(states(model, optimizer), states(ours, mine))


@pytest.mark.parametrize("spell", [str, int])
def test_keys_that_a_format_has_spelled_are_numbers_again(spell: Callable[[int], object]) -> None:
    """A checkpoint of torch.distributed has the keys of an optimizer's own state dict as strings."""
    model, ours = network(), network(1)
    optimizer, mine = adamw(model.parameters()), adamw(ours.parameters())
    train(model, optimizer, 2, seed=1)
    state = optimizer.state_dict()
    state["state"] = {spell(key): value for key, value in state["state"].items()}
    match = rh.load_into({"optimizer": mine}, saved({"optimizer": state}))
    assert_same_states(states(model, optimizer), states(ours, mine))
    assert "states given to 8 of 8 parameters" in str(match)


def test_states_of_no_parameter_are_an_error() -> None:
    mine = adamw(nn.Linear(3, 2).parameters())
    state = {"state": {7: {"step": 1}}, "param_groups": [{"params": [0, 1]}]}
    with pytest.raises(rh.MismatchError, match="belong to no parameter of its groups"):
        rh.load_into({"optimizer": mine}, saved({"optimizer": state}))


def test_an_optimizer_that_was_never_stepped_gives_its_options_and_says_so() -> None:
    optimizer, mine = adamw(network().parameters(), lr=0.5), adamw(network().parameters())
    match = rh.load_into({"optimizer": mine}, saved({"optimizer": optimizer.state_dict()}))
    assert "no parameter has a state in the file; only options were loaded" in str(match)
    assert mine.param_groups[0]["lr"] == 0.5


def test_a_pickled_optimizer_is_read_as_its_state() -> None:
    model, ours = network(), network(1)
    optimizer, mine = (
        optim.SGD(model.parameters(), lr=0.3, momentum=0.9),
        optim.SGD(ours.parameters(), lr=0.1, momentum=0.9),
    )
    train(model, optimizer, 2, seed=1)
    rh.load_into({"model": ours, "optimizer": mine}, saved({"model": model.state_dict(), "optimizer": optimizer}))
    assert_same_states(states(model, optimizer), states(ours, mine))
    assert mine.param_groups[0]["lr"] == 0.3


class Nested(Optimizer):
    """Somebody's own: state of every kind, in every kind of nest, and some that is no parameter's."""

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters, {"lr": 1.0})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                state["count"] = state.get("count", 0) + 1
                state["nest"] = {"pair": (torch.rand(2), None), "list": [torch.arange(3), "word", 0.5]}
                state["mask"] = torch.rand(parameter.shape) > 0.5
        self.state["shared"] = {"seen": torch.tensor(3)}  # type: ignore[index]


def test_state_of_any_nesting_comes_back() -> None:
    model, ours = network(), network(1)
    optimizer, mine = Nested(model.parameters()), Nested(ours.parameters())
    optimizer.step()
    rh.load_into({"optimizer": mine}, saved({"optimizer": optimizer.state_dict()}))
    for one, other in zip(optimizer.param_groups[0]["params"], mine.param_groups[0]["params"], strict=True):
        there, here = optimizer.state[one], mine.state[other]
        assert here["count"] == 1
        assert here["nest"]["pair"][1] is None
        assert here["nest"]["list"][1:] == ["word", 0.5]
        assert here["nest"]["list"][0].dtype == torch.int64
        assert torch.equal(here["nest"]["pair"][0], there["nest"]["pair"][0])
        assert here["mask"].dtype == torch.bool
        assert torch.equal(here["mask"], there["mask"])
    assert mine.state["shared"] == {"seen": torch.tensor(3)}  # type: ignore[index]


class Own(optim.SGD):
    """Loads in a way of its own."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict["inner"])

    def state_dict(self) -> dict[str, Any]:
        return {"inner": super().state_dict()}


def test_an_optimizer_with_loading_code_of_its_own_is_given_real_data() -> None:
    model, ours = network(), network(1)
    optimizer, mine = Own(model.parameters(), lr=0.3, momentum=0.9), Own(ours.parameters(), lr=0.1, momentum=0.9)
    train(model, optimizer, 2, seed=1)
    rh.load_into({"model": ours, "optimizer": mine}, file_of(model, optimizer))
    assert_same_states(states(model, optimizer), states(ours, mine))
    hooked = optim.SGD(network().parameters(), lr=1.0, momentum=0.9)
    seen: list[object] = []
    hooked.register_load_state_dict_post_hook(lambda optimizer: seen.append(optimizer))
    rh.load_into({"optimizer": hooked}, saved({"optimizer": optimizer.state_dict()["inner"]}))
    assert seen == [hooked]
    assert hooked.param_groups[0]["lr"] == 0.3


def test_what_is_no_optimizers_state_is_refused() -> None:
    mine = adamw(network().parameters())
    for state, found in (({"epoch": 3}, "a dictionary with epoch"), ({}, "an empty dictionary"), ([1], "a list")):
        with pytest.raises(rh.MismatchError, match="'optimizer' is not the state of an optimizer") as caught:
            rh.load_into({"optimizer": mine}, saved({"optimizer": state, "model": network().state_dict()}))
        assert found in str(caught.value)


@pytest.mark.parametrize(
    "groups",
    [[{"lr": 1}], [3], [{"params": 7}], [{"params": [[1]]}], [{"params": [0, 0]}], [{"params": [0]}, {"params": [0]}]],
)
def test_groups_that_are_none_are_refused(groups: list[object]) -> None:
    mine = adamw(nn.Linear(3, 2).parameters())
    with pytest.raises(rh.MismatchError):
        rh.load_into({"optimizer": mine}, saved({"optimizer": {"state": {}, "param_groups": groups}}))


def test_a_state_with_something_unbuildable_is_refused_with_its_place() -> None:
    mine = adamw(nn.Linear(3, 2).parameters())
    state = mine.state_dict()
    slots = {"step": 1, "exp_avg": torch.ones(2, 3), "exp_avg_sq": torch.ones(2, 3), "odd": io.StringIO}
    state["state"] = {0: slots}
    with pytest.raises(rh.RebuildError, match=r"\[0\]\.odd"):
        rh.load_into({"optimizer": mine}, saved({"optimizer": state}))
    assert not mine.state


def test_an_optimizer_over_meta_parameters_is_refused_before_the_model_is_filled() -> None:
    with torch.device("meta"):
        ours = network()
    model = network()
    optimizer, mine = adamw(model.parameters()), adamw(ours.parameters())
    train(model, optimizer, 1, seed=1)
    with pytest.raises(rh.RebuildError, match="8 parameters of this AdamW are on the meta device"):
        rh.load_into({"model": ours, "optimizer": mine}, file_of(model, optimizer))
    assert all(parameter.is_meta for parameter in ours.parameters())


ODD = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from(["step", "a.b", "exp_avg", "\x1b[31m"])),
    lambda inside: st.one_of(
        st.lists(inside, max_size=3),
        st.dictionaries(
            st.sampled_from(["step", "exp_avg", "exp_avg_sq", "params", "lr", 0, 1, "0"]), inside, max_size=3
        ),
    ),
    max_leaves=8,
)


@tried(100)
@given(
    states_there=st.one_of(ODD, st.dictionaries(st.sampled_from([0, 1, "0", "weight"]), ODD, max_size=3)),
    groups=st.one_of(ODD, st.lists(st.fixed_dictionaries({"params": ODD}, optional={"lr": ODD, "param_names": ODD}))),
)
def test_an_odd_file_is_refused_in_words_or_loaded_and_changes_nothing_else(states_there: Any, groups: Any) -> None:
    mine = adamw(nn.Linear(3, 2).named_parameters())
    before = repr(mine.state_dict())
    try:
        rh.load_into({"optimizer": mine}, saved({"optimizer": {"state": states_there, "param_groups": groups}}))
        said = ""
    except rh.RehydrateError as error:
        said = str(error)
    assert "\x1b" not in said
    assert not said or repr(mine.state_dict()) == before


# --- the one way to cut an order ---------------------------------------------------------------------------------


def every_cut(whole: list[Any], parts: list[list[Any]]) -> list[list[tuple[int, int]]]:
    """By trying all."""
    labels = [part for part, items in enumerate(parts) for _ in items]
    found = []
    for order in set(itertools.permutations(labels)):
        counts = [0] * len(parts)
        cut = []
        for shape, part in zip(whole, order, strict=True):
            if shape is not None and parts[part][counts[part]] not in (None, shape):
                break
            cut.append((part, counts[part]))
            counts[part] += 1
        else:
            found.append(cut)
    return found


@tried(100)
@given(data=st.data())
def test_an_order_is_cut_in_the_one_way_there_is_or_not_at_all(data: st.DataObject) -> None:
    shapes = st.sampled_from([(1,), (2,), (3,), (4,)])
    parts = data.draw(st.lists(st.lists(shapes, max_size=3), min_size=1, max_size=3))
    order = data.draw(st.permutations([part for part, items in enumerate(parts) for _ in items]))
    left = [iter(items) for items in parts]
    whole = [next(left[part]) for part in order]
    if whole and data.draw(st.booleans()):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.one_of(st.none(), shapes))
    cuts = every_cut(whole, parts)
    assert interleaved(whole, parts) == (cuts[0] if len(cuts) == 1 else None)
