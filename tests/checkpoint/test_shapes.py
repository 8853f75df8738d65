"""The shapes of people's checkpoints, one by one: what comes out is the model's own state dict, or a choice."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

import rehydrate as rh

from .kinds import Net, saved
from .shapes import NESTED, ONE_MODEL, PICKLED, SEVERAL_MODELS, Holder, compiled


@pytest.mark.parametrize("shape", ONE_MODEL)
def test_the_model_of_every_shape_is_its_own_state_dict(shape: str) -> None:
    net = Net()
    expected = net.state_dict()
    with rh.open(saved(ONE_MODEL[shape](net))) as checkpoint:
        weights = checkpoint.weights()
        assert list(weights) == list(expected)
        for name, ref in weights.items():
            assert ref.name == name
            assert ref.numpy().tobytes() == expected[name].numpy().tobytes()


@pytest.mark.parametrize("shape", ONE_MODEL)
def test_the_model_of_every_shape_goes_into_a_model(shape: str) -> None:
    net, mine = Net(), Net()
    assert rh.load_into(mine, saved(ONE_MODEL[shape](net)))
    assert all(torch.equal(value, mine.state_dict()[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("shape", [*PICKLED, *NESTED])
def test_a_shape_that_is_found_can_also_be_named(shape: str) -> None:
    with rh.open(saved(ONE_MODEL[shape](Net()))) as checkpoint:
        weights = checkpoint.weights()
        named = [part for part in weights.removed if part.startswith("taken from ")]
        if named:
            assert list(checkpoint.weights(named[0].split("'")[1])) == list(weights)


@pytest.mark.parametrize("shape", SEVERAL_MODELS)
def test_no_shape_of_several_models_is_chosen_from_in_silence(shape: str) -> None:
    make, names = SEVERAL_MODELS[shape]
    net = Net()
    with rh.open(saved(make(net))) as checkpoint:
        with pytest.raises(rh.AmbiguousError, match="models in this file") as caught:
            checkpoint.weights()
        listed = [line.split("'")[1] for line in caught.value.found.splitlines()]
        assert tuple(listed) == names or not names
        for name in listed:
            assert checkpoint.weights(name)
        first = checkpoint.weights(listed[0])
        assert torch.equal(first["fc.weight"].torch(), net.fc.weight)


def test_of_raw_and_averaged_weights_the_average_is_pointed_out() -> None:
    make, _ = SEVERAL_MODELS["raw and average"]
    with rh.open(saved(make(Net()))) as checkpoint, pytest.raises(rh.AmbiguousError) as caught:
        checkpoint.weights()
    assert caught.value.hint == "choose one: which='model'; 'ema' is an average over training, by its name"


def test_versions_follow_the_names() -> None:
    for wrapped in (nn.DataParallel(Net()), compiled(Net()), nn.DataParallel(nn.DataParallel(Net()))):
        with rh.open(saved(wrapped.state_dict())) as checkpoint:  # type: ignore[attr-defined]
            weights = checkpoint.weights()
        assert weights.versions == Net().state_dict()._metadata  # type: ignore[attr-defined]
    layered = Net()
    layered.norm = compiled(layered.norm)  # type: ignore[assignment]
    with rh.open(saved(layered.state_dict())) as checkpoint:
        assert checkpoint.weights().versions["norm"] == {"version": 2}


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        compiled,
        torch.optim.swa_utils.AveragedModel,
        lambda net: nn.DataParallel(compiled(net)),
    ],
    ids=["DataParallel", "compile", "AveragedModel", "both"],
)
def test_a_model_that_is_wrapped_alike_gets_everything_back(wrap: object) -> None:
    net = Net()
    data = saved(wrap(net).state_dict())  # type: ignore[operator]
    other = wrap(Net())  # type: ignore[operator]
    assert rh.load_into(other, data)
    assert torch.equal(next(value for name, value in other.state_dict().items() if "fc.weight" in name), net.fc.weight)


def test_a_model_in_a_stack_of_wrappers_takes_a_bare_checkpoint() -> None:
    net, stack = Net(), nn.DataParallel(compiled(nn.DataParallel(Net())))
    match = rh.load_into(stack, saved(net.state_dict()))
    assert torch.equal(next(iter(stack.state_dict().values())), net.conv.weight)
    assert "its prefix 'module._orig_mod.module.' was put before every name" in str(match)


class LightningLike(nn.Module):
    """A module that trains a model and keeps a loss beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Net()
        self.criterion = nn.CrossEntropyLoss(torch.ones(3))


def test_lightnings_file_goes_into_the_model_and_into_the_module_around_it() -> None:
    whole = LightningLike()
    data = saved({"state_dict": whole.state_dict(), "pytorch-lightning_version": "2.4.0"})
    assert rh.load_into(Net(), data)
    assert rh.load_into(LightningLike(), data)
    with rh.open(data) as checkpoint:
        assert "left out, being a loss's or a metric's and not the model's: 'criterion.weight'" in str(
            checkpoint.weights()
        )


def test_model_stays_where_lightning_did_not_write_the_file() -> None:
    state = {f"model.{name}": value for name, value in Net().state_dict().items()}
    for obj in (state, {"state_dict": state, "epoch": 3}):
        with rh.open(saved(obj)) as checkpoint:
            assert list(checkpoint.weights()) == list(state)


def test_model_stays_where_a_lightning_module_has_other_layers() -> None:
    state = {f"model.{name}": value for name, value in Net().state_dict().items()} | {"head.weight": torch.zeros(3, 3)}
    with rh.open(saved({"state_dict": state, "pytorch-lightning_version": "2.4.0"})) as checkpoint:
        assert list(checkpoint.weights()) == list(state)


def test_one_dictionary_of_a_model_and_its_average_stays_one() -> None:
    net = Net().state_dict()
    state = {f"model.diffusion_model.{name}": value for name, value in net.items()}
    state |= {f"model_ema.diffusion_model{name.replace('.', '')}": value for name, value in net.items()}
    with rh.open(saved({"state_dict": state, "pytorch-lightning_version": "1.6.0"})) as checkpoint:
        assert list(checkpoint.weights()) == list(state)


def test_two_encoders_of_one_model_are_one_model() -> None:
    names = [f"encoder_{kind}.{name}" for kind in "qk" for name in Net().state_dict()]
    state = {f"module.{name}": torch.zeros(2, 2) for name in names} | {"module.queue": torch.zeros(4, 9)}
    with rh.open(saved({"arch": "moco", "state_dict": state})) as checkpoint:
        assert list(checkpoint.weights()) == [*names, "queue"]


def test_names_of_adapters_stay() -> None:
    names = [f"base_model.model.layers.{at}.q_proj.lora_{kind}.weight" for at in range(2) for kind in "AB"]
    with rh.open(saved({name: torch.zeros(2, 2) for name in names})) as checkpoint:
        assert list(checkpoint.weights()) == names


def test_megatrons_levels_are_one_model() -> None:
    language = {
        "embedding": {"word_embeddings": {"weight": torch.zeros(4, 2)}},
        "encoder": {"layers.0.weight": torch.zeros(2, 2), "final.bias": torch.zeros(2)},
    }
    with rh.open(saved({"model": {"language_model": language}, "iteration": 3, "args": None})) as checkpoint:
        assert list(checkpoint.weights()) == [
            "language_model.embedding.word_embeddings.weight",
            "language_model.encoder.layers.0.weight",
            "language_model.encoder.final.bias",
        ]


def test_keras_layers_are_one_model_even_where_only_one_has_weights() -> None:
    layers = {"dense_2": {"dense_2": {"kernel:0": torch.zeros(4, 3), "bias:0": torch.zeros(3)}}, "dropout": {}}
    with rh.open(
        saved({"model_weights": layers, "optimizer_weights": {"Variable:0": torch.zeros(4, 3)}})
    ) as checkpoint:
        assert list(checkpoint.weights()) == ["dense_2.dense_2.kernel:0", "dense_2.dense_2.bias:0"]


def test_levels_that_are_curves_are_no_model_beside_one() -> None:
    history = {"train": {"loss": torch.zeros(9), "acc": torch.zeros(9)}, "val": {"loss": torch.zeros(9)}}
    with rh.open(saved({"history": history, "model": Net().state_dict()})) as checkpoint:
        assert list(checkpoint.weights()) == list(Net().state_dict())


def test_what_is_left_aside_is_said() -> None:
    net = Net()
    values = list(net.state_dict().values())
    tree = {"model": net.state_dict(), "likelihood": {"noise.raw": torch.zeros(1)}, "ema": {"shadow_params": values}}
    with rh.open(saved(tree)) as checkpoint:
        assert checkpoint.weights().removed == (
            "taken from 'model'",
            "left aside, being no network: 'likelihood'",
            "'ema.shadow_params' is an average of weights as a list without names; it was not taken",
        )


def test_values_that_are_elsewhere_are_said() -> None:
    flat = {"_fsdp_wrapped_module._flat_param": torch.zeros(90)}
    with rh.open(saved(flat)) as checkpoint:
        assert list(checkpoint.weights()) == ["_flat_param"]
        assert "flat parameter of FSDP" in str(checkpoint.weights())
    empty = {name: torch.empty(0) for name in Net().state_dict()}
    with rh.open(saved({"module": empty, "ds_version": "0.14.0"})) as checkpoint:
        assert "every tensor is empty" in str(checkpoint.weights())


def test_a_scripted_model_has_the_names_of_its_state_dict(tmp_path: Path) -> None:
    net = Net()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would rather have compiled it
        torch.jit.script(net).save(str(tmp_path / "net.pt"))  # type: ignore[no-untyped-call]
    with rh.open(tmp_path / "net.pt") as checkpoint:
        weights = checkpoint.weights()
        assert sorted(weights) == sorted(net.state_dict())
        assert torch.equal(weights["norm.running_var"].torch(), net.norm.running_var)  # type: ignore[arg-type]


def test_a_module_called_module_by_its_own_class_keeps_the_name() -> None:
    net = Holder(module=Net())
    with rh.open(saved({"model": net})) as checkpoint:
        assert list(checkpoint.weights()) == list(net.state_dict())
    inner = Holder(features=nn.DataParallel(Net()), head=Holder(module=nn.Linear(2, 2)))
    with rh.open(saved(inner)) as checkpoint:
        weights = checkpoint.weights()
        assert list(weights) == [
            *(f"features.{name}" for name in Net().state_dict()),
            "head.module.weight",
            "head.module.bias",
        ]
        assert rh.load_into(inner, checkpoint)


def test_weights_print_in_a_line_and_a_few_sentences() -> None:
    buffer = io.BytesIO()
    torch.save({"net": nn.DataParallel(Net()).state_dict()}, buffer)
    with rh.open(buffer) as checkpoint:
        weights = checkpoint.weights()
    assert repr(weights) == "<Weights 9 tensors, 72 numbers from 'net'>"
    assert str(weights) == "9 tensors, 72 numbers\n  " + "\n  ".join(weights.removed)
