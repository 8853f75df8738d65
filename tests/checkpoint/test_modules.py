"""Modules that are objects in a file (torch's own, TorchScript's, torch7's) are named as their state dict would be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import rehydrate as rh
from rehydrate.checkpoint.tree import names_of, tensors_under
from rehydrate.checkpoint.weights import find_weights

from .kinds import Net, saved


@pytest.fixture
def tensor() -> Any:
    with rh.open(saved(torch.zeros(2, 2))) as checkpoint:
        return checkpoint.tree


def lua(name: str, **state: object) -> rh.Record:
    package, _, kind = name.rpartition(".")
    return rh.Record(package, kind, args=(), state=state)


def names(tree: object) -> list[str]:
    return list(find_weights(tree, {}))


def test_layers_of_torch7_are_counted_from_0_and_have_no_gradients(tensor: Any) -> None:
    rest = {"gradInput": tensor, "output": tensor, "_type": "torch.FloatTensor"}
    conv = lua("nn.SpatialConvolution", weight=tensor, bias=tensor, gradWeight=tensor, gradBias=tensor, **rest)
    norm = lua("nn.BatchNorm", weight=tensor, running_mean=tensor, running_var=tensor, save_mean=tensor, **rest)
    mine = lua("my.Scale", alpha=tensor, gradAlpha=tensor, buffer=tensor, **rest)
    tree = lua(
        "nn.Sequential", modules=[conv, lua("nn.ReLU", **rest), lua("nn.Concat", modules=[norm, mine], **rest)], **rest
    )
    expected = [
        "0.weight", "0.bias", "2.0.weight", "2.0.running_mean", "2.0.running_var", "2.1.alpha",
    ]  # fmt: skip
    assert names(tree) == expected
    assert names({"model": tree, "epoch": 3.0, "optimState": {"dfdx": tensor, "learningRate": 0.1}}) == expected
    assert find_weights({"model": tree}, {}).removed[1] == (
        "names as state_dict() of the torch7 nn.Sequential would give them"
    )


def test_a_torch7_model_that_was_cleaned_is_still_one(tensor: Any) -> None:
    tree = lua("nn.Sequential", modules={1: lua("cudnn.SpatialConvolution", weight=tensor, bias=tensor)})
    assert names(tree) == ["0.weight", "0.bias"]


def test_scripted_modules_have_their_attributes(tensor: Any) -> None:
    conv = rh.Record("__torch__.torch.nn.modules.conv", "Conv2d", args=(), state={"training": True, "weight": tensor})
    tree = rh.Record("__torch__", "Net", args=(), state={"training": False, "scale": tensor, "conv1": conv, "size": 3})
    assert names(tree) == ["scale", "conv1.weight"]
    packed = rh.Record("__torch__.nn.quantized", "Linear", args=(), state=(3, (tensor, None)))
    assert names(packed) == ["state[1][0]"]


def test_parameters_from_before_torch_0_4_are_tensors(tensor: Any) -> None:
    old = rh.Record("torch.nn.parameter", "Parameter", args=(tensor,), state=(True, False, None))
    older = rh.Record("torch.nn.parameter", "Parameter", args=(), state=(tensor, None, True))
    layer = {"_parameters": {"weight": old, "bias": older, "none": None}, "_buffers": {}, "_modules": {}}
    net = {
        "_parameters": {},
        "_buffers": {"mean": tensor},
        "_modules": {"fc": rh.Record("m", "Linear", (), state=layer)},
    }
    assert names(rh.Record("m", "Net", args=(), state=net)) == ["mean", "fc.weight", "fc.bias"]


def test_the_same_layer_in_two_places_has_both_names(tensor: Any) -> None:
    layer = nn.Linear(2, 2)
    net = nn.ModuleDict({"a": layer, "b": nn.Sequential(layer)})
    with rh.open(saved(net)) as checkpoint:
        assert list(checkpoint.weights()) == list(net.state_dict())


def test_buffers_that_are_not_persistent_are_no_weights() -> None:
    net = Net()
    net.register_buffer("mask", torch.ones(3), persistent=False)
    with rh.open(saved(net)) as checkpoint:
        assert list(checkpoint.weights()) == list(Net().state_dict())


def test_modules_that_hold_each_other_are_walked_once() -> None:
    one = rh.Record("m", "A", args=(), state={"_parameters": {}, "_buffers": {}, "_modules": {}})
    other = rh.Record("m", "B", args=(), state={"_parameters": {}, "_buffers": {}, "_modules": {"a": one}})
    one.state["_modules"].update(b=other, again=one)  # type: ignore[index]
    assert list(names_of(path for path, _ in tensors_under(one))) == []
    with pytest.raises(rh.NoSuchTensorError):
        find_weights({"model": one}, {})


def test_modules_that_bring_their_source_along_have_the_names_of_their_attributes(tensor: Any) -> None:
    def persistent(**children: object) -> rh.Record:
        state = {"_parameters": {"const": tensor}, "_buffers": {"w_avg": tensor}, "_modules": children}
        meta = {"type": "class", "version": 6, "module_src": "import torch", "class_name": "G", "state": state}
        return rh.Record("torch_utils.persistence", "_reconstruct_persistent_obj", args=(meta,))

    assert names(persistent(mapping=persistent())) == ["const", "w_avg", "mapping.const", "mapping.w_avg"]
    assert names({"G": persistent(), "augment_pipe": None}) == ["const", "w_avg"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:torch.quantize_per_tensor")
def test_quantised_layers_have_the_tensors_that_their_state_dict_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.quantized, "engine", torch.backends.quantized.supported_engines[-1])
    quantising = torch.ao.quantization
    net: Any = nn.Sequential(quantising.QuantStub(), nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    observers = quantising.QConfig(quantising.MinMaxObserver, quantising.default_weight_observer)  # type: ignore[no-untyped-call]
    net.qconfig = observers
    quantising.prepare(net, inplace=True)(torch.rand(1, 3, 8, 8))  # type: ignore[no-untyped-call]
    quantising.convert(net, inplace=True)  # type: ignore[no-untyped-call]
    for layer in net.modules():
        vars(layer).pop("qconfig", None)
    with rh.open(saved(net)) as checkpoint:
        assert list(checkpoint.weights()) == ["0.scale", "0.zero_point", "1.weight", "1.bias"]
        assert checkpoint["1.weight"].numpy().tolist() == net[1].weight().int_repr().tolist()
    linear = quantising.quantize_dynamic(nn.Sequential(nn.Linear(4, 3)), {nn.Linear})  # type: ignore[no-untyped-call]
    with rh.open(saved(linear)) as checkpoint, rh.open(saved(linear.state_dict())) as beside:
        packed = ["0._packed_params._packed_params[0]", "0._packed_params._packed_params[1]"]
        assert list(checkpoint.weights()) == packed
        assert set(packed) < set(beside.weights())
