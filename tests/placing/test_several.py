"""Several objects from one file: a model, its optimizer, its schedule; all of them or none."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn, optim
from torch.optim import lr_scheduler, swa_utils

import rehydrate as rh
from rehydrate.placing import own_way
from rehydrate.placing.moving import undo


def saved(obj: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(obj, buffer)
    return buffer.getvalue()


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def bits(value: Any) -> object:
    """A state to compare: its tensors to the bit."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.detach().flatten().view(torch.uint8).tolist()
    if isinstance(value, dict):
        return {key: bits(item) for key, item in value.items()}
    return [bits(item) for item in value] if isinstance(value, (list, tuple)) else value


class Run:
    """Everything that a training loop holds."""

    def __init__(self, seed: int, schedule: Callable[[Any], Any] = lambda opt: lr_scheduler.StepLR(opt, 2)) -> None:
        self.model = network(seed)
        self.optimizer = optim.AdamW(self.model.parameters(), lr=0.01)
        self.scheduler = schedule(self.optimizer)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**seed)

    def train(self, steps: int) -> None:
        for _ in range(steps):
            self.optimizer.zero_grad()
            (self.model(torch.ones(5, 3)) ** 2).sum().backward()
            self.optimizer.step()
            if isinstance(self.scheduler, lr_scheduler.ReduceLROnPlateau):
                self.scheduler.step(1.0)
            else:
                self.scheduler.step()

    def state(self) -> dict[str, Any]:
        return {name: value.state_dict() for name, value in vars(self).items()}

    def objects(self) -> dict[str, object]:
        return dict(vars(self))


class Photograph:
    """What a run was, to the bit: its objects, where their memory is, and what is in it."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.seen = self.look()

    def look(self) -> tuple[object, list[tuple[int, int]], list[int]]:
        tensors = [*self.run.model.parameters(), *self.run.model.buffers()]
        tensors += [value for state in self.run.optimizer.state.values() for value in state.values()]
        groups = [id(group) for group in self.run.optimizer.param_groups]
        return bits(self.run.state()), [(id(tensor), tensor.data_ptr()) for tensor in tensors], groups

    def assert_still_true(self) -> None:
        assert self.look() == self.seen


SCHEDULES: dict[str, Callable[[Any], Any]] = {
    "StepLR": lambda optimizer: lr_scheduler.StepLR(optimizer, 2),
    "MultiStepLR": lambda optimizer: lr_scheduler.MultiStepLR(optimizer, [1, 2, 2, 5]),
    "CosineAnnealingLR": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, 9),
    "OneCycleLR": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=20),
    "ReduceLROnPlateau": lambda optimizer: lr_scheduler.ReduceLROnPlateau(optimizer, patience=1),
    "SequentialLR": lambda optimizer: lr_scheduler.SequentialLR(
        optimizer, [lr_scheduler.LinearLR(optimizer), lr_scheduler.ExponentialLR(optimizer, 0.9)], milestones=[3]
    ),
    "LambdaLR": lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.9**epoch),
}


@pytest.mark.filterwarnings("ignore:.*EPOCH_DEPRECATION.*|.*epoch parameter in.*")
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_run_goes_on_as_if_it_had_never_been_interrupted(name: str) -> None:
    run, other = Run(3, SCHEDULES[name]), Run(4, SCHEDULES[name])
    run.train(4)
    other.train(1)
    match = rh.load_into(other.objects(), saved({**run.state(), "epoch": 7, "args": {"lr": 0.1}}))
    assert match
    assert match.coverage == 1
    for _ in range(3):
        run.train(1)
        other.train(1)
        assert bits(run.state()) == bits(other.state())
    assert "in the file and not asked for: epoch, args; rh.open(where).tree['epoch'] reads them" in str(match)


def test_one_match_tells_of_all() -> None:
    run, other = Run(3), Run(4)
    run.train(2)
    match = rh.load_into(other.objects(), saved(run.state()))
    assert str(match).splitlines()[0] == (
        "model (Sequential), optimizer (AdamW), scheduler (StepLR), scaler (GradScaler): "
        "27 of 27 tensors fit, 100 % of its parameters"
    )
    names = [pair.target.name for pair in match.pairs]
    assert "model.0.weight" in names
    assert "optimizer.0.weight.exp_avg" in names
    assert match.to_dict()["ok"]


# --- all or none -------------------------------------------------------------------------------------------------


def without(key: str) -> Callable[[dict[str, Any]], object]:
    return lambda state: state["model"].pop(key)


def change(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda state: state.update(changes)


FAULTS: dict[str, tuple[Callable[[dict[str, Any]], object], type[Exception]]] = {
    "a tensor of the model is missing": (without("2.bias"), rh.MismatchError),
    "the model has another shape": (lambda state: state["model"].update({"2.bias": torch.ones(3)}), rh.MismatchError),
    "a state has another shape": (
        lambda state: state["optimizer"]["state"][5].update(exp_avg=torch.ones(3)), rh.MismatchError,
    ),
    "the optimizer has other groups": (
        lambda state: state["optimizer"]["param_groups"][0]["params"].pop(), rh.MismatchError,
    ),
    "the optimizer is another one": (
        lambda state: state.update(optimizer=optim.SGD(network().parameters(), lr=1).state_dict()), rh.MismatchError,
    ),
    "the scaler refuses its state": (change(scaler={}), rh.MismatchError),
    "the schedule needs code": (change(scheduler={"last_epoch": io.StringIO}), rh.RebuildError),
    "the schedule is no dictionary": (change(scheduler=[3, 4]), rh.MismatchError),
    "there is no schedule": (change(scheduler=None), rh.NoSuchTensorError),
}  # fmt: skip


@pytest.mark.parametrize("is_stepped", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_is_wrong_with_one_leaves_all_as_they_were(fault: str, is_stepped: bool) -> None:
    break_it, error = FAULTS[fault]
    run, other = Run(3), Run(4)
    run.train(3)
    other.train(2 if is_stepped else 0)
    state = copy.deepcopy(run.state())
    break_it(state)
    photograph = Photograph(other)
    with pytest.raises(error):
        rh.load_into(other.objects(), saved(state))
    photograph.assert_still_true()
    other.train(1)


@pytest.mark.parametrize("refused", ["model", "optimizer", "scheduler", "scaler"])
@pytest.mark.parametrize("error", [RuntimeError, MemoryError, KeyboardInterrupt])
def test_whatever_fails_while_one_is_finished_leaves_all_as_they_were(
    refused: str, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, other = Run(3), Run(4)
    run.train(3)
    other.train(2)
    file = saved(run.state())
    photograph = Photograph(other)
    if refused == "model":
        target = "rehydrate.placing.preparing.replace_tensors"
        monkeypatch.setattr(target, lambda *args: (_ for _ in ()).throw(error("no")))
    elif refused == "optimizer":
        monkeypatch.setattr(optim.AdamW, "__setstate__", lambda self, state: (_ for _ in ()).throw(error("no")))
    else:
        kind = type(other.objects()[refused])
        real = kind.load_state_dict
        calls: list[int] = []

        def load_state_dict(self: Any, state: Any) -> None:
            calls.append(1)
            real(self, state)
            if len(calls) == 1:  # to go back is allowed
                raise error("no")

        monkeypatch.setattr(kind, "load_state_dict", load_state_dict)
    is_wrapped = refused != "model" and issubclass(error, Exception)
    with pytest.raises(rh.MismatchError if is_wrapped else error):
        rh.load_into(other.objects(), file)
    monkeypatch.undo()
    photograph.assert_still_true()


def test_a_file_that_ends_early_leaves_all_as_they_were() -> None:
    run, other = Run(3), Run(4)
    run.train(3)
    other.train(2)
    file = saved(run.state())
    photograph = Photograph(other)
    for length in range(100, len(file), len(file) // 7):
        with pytest.raises(rh.RehydrateError):
            rh.load_into(other.objects(), file[:length])
        photograph.assert_still_true()


def test_a_read_that_fails_at_any_point_leaves_all_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    run, other = Run(3), Run(4)
    run.train(3)
    other.train(2)
    photograph = Photograph(other)
    with rh.open(saved(run.state())) as checkpoint:
        kind = type(checkpoint.source)
        for name in ("fill", "read"):
            real = getattr(kind, name)
            for fails_at in range(3):
                calls: list[int] = []

                def failing(
                    self: Any, *args: Any, real: Any = real, at: int = fails_at, calls: list[int] = calls
                ) -> Any:
                    calls.append(1)
                    if len(calls) == at + 1:
                        raise OSError("the disk is gone")
                    return real(self, *args)

                monkeypatch.setattr(kind, name, failing)
                try:
                    rh.load_into(other.objects(), checkpoint)
                except OSError:
                    photograph.assert_still_true()
                else:
                    assert len(calls) <= fails_at
                    photograph = Photograph(other)
                monkeypatch.undo()


# --- which part is meant -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        {
            "model": "state_dict",
            "optimizer": "optimizer_state_dict",
            "scheduler": "lr_scheduler",
            "scaler": "amp_scaler",
        },
        {
            "model": "model_state_dict",
            "optimizer": "optim",
            "scheduler": "scheduler_state_dict",
            "scaler": "grad_scaler",
        },
        {"model": "net", "optimizer": "opt", "scheduler": "sched", "scaler": "scaler_state_dict"},
        {"model": "my_network_v2", "optimizer": "adam_w", "scheduler": "scheduler", "scaler": "scaler"},
    ],
)
def test_usual_names_of_a_part_are_found_and_told(names: dict[str, str]) -> None:
    run, other = Run(3), Run(4)
    run.train(2)
    match = rh.load_into(other.objects(), saved({names[key]: value for key, value in run.state().items()}))
    assert bits(run.state()) == bits(other.state())
    for key, name in names.items():
        if name != key and name != "my_network_v2":
            assert f"{key!r} was filled from {name!r} of the file" in str(match)
    if names["model"] == "my_network_v2":
        assert "the file has no model; its only model was taken for it" in str(match).replace("'", "")


def test_a_key_may_be_a_path_and_a_lightning_file_has_lists() -> None:
    run = Run(3)
    run.train(2)
    state = run.state()
    file = saved({
        "state_dict": state["model"], "optimizer_states": [state["optimizer"]], "lr_schedulers": [state["scheduler"]],
        "pytorch-lightning_version": "2.0",
    })  # fmt: skip
    for keys in (("state_dict", "optimizer_states[0]", "lr_schedulers[0]"), ("model", "optimizer", "scheduler")):
        other = Run(4)
        rh.load_into(dict(zip(keys, (other.model, other.optimizer, other.scheduler), strict=True)), file)
        assert bits([other.model.state_dict(), other.optimizer.state_dict(), other.scheduler.state_dict()]) == bits(
            [state["model"], state["optimizer"], state["scheduler"]]
        )


def test_a_pair_of_models_and_optimizers_is_filled_by_their_names() -> None:
    pairs = {}
    for seed in (1, 2):
        nets = network(seed), network(seed + 5)
        opts = [optim.Adam(net.parameters(), lr=0.1 * seed) for net in nets]
        for net, opt in zip(nets, opts, strict=True):
            net(torch.rand(4, 3)).sum().backward()
            opt.step()
        pairs[seed] = {"netG": nets[0], "netD": nets[1], "optG": opts[0], "optD": opts[1]}
    file = saved({key: value.state_dict() for key, value in pairs[1].items()})
    rh.load_into(pairs[2], file)
    for key, value in pairs[2].items():
        assert bits(value.state_dict()) == bits(pairs[1][key].state_dict()), key
    with pytest.raises(rh.AmbiguousError, match="there are 2 models"):
        rh.load_into({"model": network()}, file)


def test_one_optimizer_over_two_models_is_matched_by_name_and_order() -> None:
    def chain(one: nn.Module, other: nn.Module) -> Any:
        return optim.Adam([*one.parameters(), *other.parameters()])

    nets, ours = (network(1), nn.Linear(2, 5)), (network(2), nn.Linear(2, 5))
    optimizer, mine = chain(*nets), optim.Adam([{"params": ours[1].parameters()}, {"params": ours[0].parameters()}])
    nets[1](nets[0](torch.rand(4, 3))).sum().backward()
    optimizer.step()
    file = saved({"body": nets[0].state_dict(), "head": nets[1].state_dict(), "optimizer": optimizer.state_dict()})
    match = rh.load_into({"body": ours[0], "head": ours[1], "optimizer": mine}, file)
    assert "by the model's order and shape" in str(match)
    for net, our in zip(nets, ours, strict=True):
        for one, other in zip(net.parameters(), our.parameters(), strict=True):
            assert torch.equal(optimizer.state[one]["exp_avg"], mine.state[other]["exp_avg"])


def test_an_averaged_model_is_a_model() -> None:
    run = Run(3)
    average, other = swa_utils.AveragedModel(run.model), swa_utils.AveragedModel(network(4))
    average.update_parameters(network(5))
    model = network(6)
    file = saved({"model": run.model.state_dict(), "ema": average.state_dict()})
    rh.load_into({"model": model, "ema": other}, file)
    assert bits(other.state_dict()) == bits(average.state_dict())
    assert bits(model.state_dict()) == bits(run.model.state_dict())


class Versioned(nn.Linear):
    """Loads in a way of its own."""

    version = 1

    def get_extra_state(self) -> object:
        return {"version": self.version}

    def set_extra_state(self, state: Any) -> None:
        self.version = state["version"]


def test_a_model_with_loading_code_of_its_own_is_filled_along_or_left_along() -> None:
    model, ours = Versioned(3, 2), Versioned(3, 2)
    model.version = 9
    file = {"model": model.state_dict(), "scaler": torch.amp.GradScaler("cpu").state_dict()}
    before = bits(ours.state_dict())
    with pytest.raises(rh.MismatchError):
        rh.load_into({"model": ours, "scaler": torch.amp.GradScaler("cpu")}, saved({**file, "scaler": {}}))
    assert bits(ours.state_dict()) == before
    match = rh.load_into({"model": ours, "scaler": torch.amp.GradScaler("cpu")}, saved(file))
    assert ours.version == 9
    assert torch.equal(ours.weight, model.weight)
    assert "loaded as the model's own code does it" in str(match)


class Refusing(nn.Linear):
    """Loads in a way of its own, and says no when it has."""

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        super().load_state_dict(*args, **kwargs)
        raise RuntimeError("not this one")


@pytest.mark.parametrize("other", [nn.Linear, Versioned])
def test_a_model_that_refuses_is_asked_before_the_others_are_written_to_however_large(
    other: type[nn.Linear], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undo, "UNDO", 0)  # nothing could be put back
    models = {"first": other(3, 2), "second": Refusing(3, 2)}
    data = saved({"first": other(3, 2).state_dict(), "second": nn.Linear(3, 2).state_dict()})
    before = bits({name: model.state_dict() for name, model in models.items()})
    with pytest.raises(rh.MismatchError, match="not this one"):
        rh.load_into(models, data)
    assert bits({name: model.state_dict() for name, model in models.items()}) == before


def test_a_model_that_loads_by_itself_is_named_when_it_cannot_be_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    class Torn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.zeros(2))
            self._register_load_state_dict_pre_hook(lambda *args: None)

    copied: list[torch.Tensor] = []

    def copy_values(tensor: torch.Tensor, value: torch.Tensor) -> None:
        copied.append(tensor.copy_(value))
        if len(copied) == 3:
            raise RuntimeError("CUDA error")

    monkeypatch.setattr(undo, "UNDO", 0)
    monkeypatch.setattr(own_way, "copy_values", copy_values)
    data = saved({"first": Versioned(3, 2).state_dict(), "second": Torn().state_dict()})
    with pytest.raises(rh.TornLoadError, match=r"3 tensors had been written[\s\S]*CUDA error") as caught:
        rh.load_into({"first": Versioned(3, 2), "second": Torn()}, data)
    assert {"weight", "bias", "scale"} == set(
        str(caught.value).partition("what was written: ")[2].split("\n")[0].split(", ")
    )


def test_layers_that_began_anew_are_put_back_where_another_object_cannot_begin() -> None:
    class Helpless(nn.Linear):
        is_built = False

        def reset_parameters(self) -> None:
            if self.is_built:
                raise RuntimeError("cannot")
            super().reset_parameters()
            self.is_built = True

    models = {"first": nn.Sequential(nn.Linear(9, 9), nn.Linear(9, 2)), "second": nn.Sequential(Helpless(9, 2))}
    files = {"first": nn.Sequential(nn.Linear(9, 9), nn.Linear(9, 3)), "second": nn.Sequential(nn.Linear(9, 3))}
    before = bits({name: model.state_dict() for name, model in models.items()})
    with pytest.raises(RuntimeError, match="cannot"):
        rh.load_into(
            models,
            saved({name: model.state_dict() for name, model in files.items()}),
            allow=rh.Allow(mismatched="*", how="reinit", coverage=0.0),
        )
    assert bits({name: model.state_dict() for name, model in models.items()}) == before


def test_states_of_an_optimizer_do_not_live_by_the_file_that_a_run_saves_over(tmp_path: Path) -> None:
    path, run = tmp_path / "last.pth", Run(3)
    run.train(2)
    path.write_bytes(saved(run.state()))
    again = Run(4)
    match = rh.load_into(again.objects(), path)
    with path.open("r+b") as file:  # in place, as torch.save does it
        file.write(bytes(path.stat().st_size))
    assert bits(again.state()) == bits(run.state())
    assert "mapped" not in str(match)


def test_a_meta_model_becomes_real_beside_a_schedule() -> None:
    run, other = Run(3), Run(4)
    run.train(1)
    with torch.device("meta"):
        model = network()
    rh.load_into({"model": model, "scheduler": other.scheduler}, saved(run.state()))
    assert bits(model.state_dict()) == bits(run.model.state_dict())


# --- what cannot be filled ---------------------------------------------------------------------------------------


def test_a_part_that_is_not_there_is_an_error_with_what_was_meant() -> None:
    run = Run(3)
    with pytest.raises(rh.NoSuchTensorError, match="no part for 'schedulr'") as caught:
        rh.load_into({"model": run.model, "schedulr": run.scheduler}, saved(run.state()))
    assert "did you mean 'scheduler'?" in str(caught.value)
    with pytest.raises(rh.NoSuchTensorError, match="nothing for 'scheduler': None was saved"):
        rh.load_into({"scheduler": run.scheduler}, saved({**run.state(), "scheduler": None}))


def test_one_part_is_not_given_to_two_objects() -> None:
    with pytest.raises(rh.AmbiguousError, match="'model' and 'net' would both be filled from 'state_dict'"):
        rh.load_into({"model": network(), "net": network()}, saved({"state_dict": network().state_dict()}))
    both = {"optimizer_state_dict": Run(1).optimizer.state_dict(), "optim": Run(1).optimizer.state_dict()}
    with pytest.raises(rh.AmbiguousError, match="'optimizer' could be filled from several parts") as caught:
        rh.load_into({"optimizer": Run(2).optimizer}, saved({"model": network().state_dict(), **both}))
    assert "'optimizer_state_dict', 'optim'" in str(caught.value)


@pytest.mark.parametrize(
    ("objects", "text"),
    [
        ({"epoch": 3}, r"rh\.open\(where\)\.tree\['epoch'\] reads what the file has"),
        ({"args": {"lr": 1}}, "'args' is a dict and cannot be filled"),
        ({"model": nn.Linear}, "'model' is a class; build it first"),
        ({"thing": object()}, "has no load_state_dict"),
        ({}, "expected a dictionary of objects"),
        ({3: network()}, "by strings"),
    ],
)
def test_what_cannot_be_filled_is_a_type_error_that_says_what_to_do(objects: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        rh.load_into(objects, saved(Run(1).state()))
    model = network()
    with pytest.raises(TypeError, match="filled twice"):
        rh.load_into({"a": model, "b": model}, saved(Run(1).state()))


def test_an_error_says_which_of_the_objects_it_is_about() -> None:
    run, other = Run(3), Run(4)
    with pytest.raises(rh.MismatchError) as caught:
        rh.load_into({"model": nn.Linear(3, 2), "optimizer": other.optimizer}, saved(run.state()))
    assert caught.value.where == "model"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_states_follow_the_model_to_its_device() -> None:
    run, other = Run(3), Run(4)
    run.train(2)
    rh.load_into(other.objects(), saved(run.state()), device="cuda")
    state = other.optimizer.state[other.model[0].weight]
    assert state["exp_avg"].is_cuda
    assert not state["step"].is_cuda
