"""The 18 networks of pytorch-playground, whose layers it regrouped, and torchvision's of the same layers: both ways.

A network of its has `layer1.0.group1.conv1.weight` where torchvision's has `layer1.0.conv1.weight`. Names and shapes of
all 18 lie beside the test data; a few of each kind are here.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

import rehydrate as rh

NAMES = (
    "mnist", "svhn", "cifar10", "cifar100", "stl10", "alexnet", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn", "resnet18",
    "resnet34", "resnet50", "resnet101", "resnet152", "squeezenet_v0", "squeezenet_v1", "inception_v3",
)  # fmt: skip
REGROUPED = {name for name in NAMES if name.startswith(("resnet", "squeezenet", "inception"))}

Shapes = Mapping[str, tuple[int, ...]]

SAMPLES: dict[str, Shapes] = {
    "resnet": {
        "group1.conv1.weight": (8, 3, 7, 7),
        "group1.bn1.weight": (8,),
        "group1.bn1.bias": (8,),
        "group1.bn1.running_mean": (8,),
        "group1.bn1.running_var": (8,),
        **{
            f"layer{stage}.{block}.group1.{leaf}": shape
            for stage in (1, 2)
            for block in range(12)
            for leaf, shape in {
                "conv1.weight": (8, 8, 3, 3), "bn1.weight": (8,), "bn1.bias": (8,), "bn1.running_mean": (8,),
                "bn1.running_var": (8,), "conv2.weight": (8, 8, 3, 3),
            }.items()
        },
        "layer2.0.downsample.0.weight": (8, 8, 1, 1),
        "group2.fc.weight": (10, 8),
        "group2.fc.bias": (10,),
    },
    "squeezenet": {
        "features.0.weight": (8, 3, 3, 3),
        "features.0.bias": (8,),
        "features.3.group1.squeeze.weight": (4, 8, 1, 1),
        "features.3.group1.squeeze.bias": (4,),
        "features.3.group2.expand1x1.weight": (8, 4, 1, 1),
        "features.3.group2.expand1x1.bias": (8,),
        "features.3.group3.expand3x3.weight": (8, 4, 3, 3),
        "features.3.group3.expand3x3.bias": (8,),
        "classifier.1.weight": (10, 8, 1, 1),
    },
    "inception": {
        "Conv2d_1a_3x3.group1.conv.weight": (8, 3, 3, 3),
        "Conv2d_1a_3x3.group1.bn.weight": (8,),
        "Conv2d_1a_3x3.group1.bn.bias": (8,),
        "Conv2d_1a_3x3.group1.bn.running_mean": (8,),
        "Conv2d_1a_3x3.group1.bn.running_var": (8,),
        "Mixed_5b.branch1x1.group1.conv.weight": (8, 8, 1, 1),
        "AuxLogits.conv0.group1.conv.weight": (8, 8, 1, 1),
        "AuxLogits.group1.fc.weight": (10, 8),
        "group1.fc.weight": (10, 8),
        "group1.fc.bias": (10,),
    },
}  # fmt: skip


@cache
def _described(folder: Path) -> dict[str, Shapes]:
    described = json.loads((folder / "zoo-shapes.json").read_text())
    return {name: {key: tuple(shape) for key, shape in described[name]["keys"].items()} for name in NAMES}


@pytest.fixture(params=[*SAMPLES, *NAMES])
def theirs(request: pytest.FixtureRequest) -> Shapes:
    """The tensors of one network by the playground's names."""
    if request.param in SAMPLES:
        return SAMPLES[request.param]
    folder = request.getfixturevalue("test_data").parent / "notes"
    if not (folder / "zoo-shapes.json").is_file():
        pytest.skip("there is no notes/zoo-shapes.json beside the folder that REHYDRATE_TEST_DATA names")
    shapes = _described(folder)[request.param]
    assert (request.param in REGROUPED) == any("group" in name for name in shapes)
    return shapes


def ungrouped(shapes: Shapes) -> Shapes:
    """The same by torchvision's names."""
    renamed = {re.sub(r"group\d+\.", "", name): shape for name, shape in shapes.items()}
    assert len(renamed) == len(shapes)
    return renamed


def state(shapes: Shapes) -> dict[str, torch.Tensor]:
    """Tensors of these shapes, each full of a number of its own; they take no memory. With counters, as torch saves."""
    made = {
        name: torch.tensor(float(at), dtype=torch.float16).expand(shape)
        for at, (name, shape) in enumerate(shapes.items(), 1)
    }
    means = [name for name in shapes if name.endswith("running_mean")]
    counters = {name.replace("running_mean", "num_batches_tracked"): at for at, name in enumerate(means, 9000)}
    return made | {name: torch.tensor(at) for name, at in counters.items()}


def tree(shapes: Shapes) -> nn.Module:
    """Modules with parameters and buffers of these names and shapes, in half precision: the largest has 144 million."""
    root = nn.Module()
    for name, value in state(shapes).items():
        *path, leaf = name.split(".")
        module = root
        for step in path:
            if step not in module._modules:
                module.add_module(step, nn.Module())
            module = module.get_submodule(step)
        empty = torch.zeros(value.shape, dtype=value.dtype)
        if leaf.startswith(("running_", "num_batches")):
            module.register_buffer(leaf, empty)
        else:
            module.register_parameter(leaf, nn.Parameter(empty))
    return root


def saved(obj: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(obj, buffer)
    return buffer.getvalue()


def assert_holds(model: nn.Module, shapes: Shapes) -> None:
    """Every tensor has the number that belongs to its name."""
    wanted = state(shapes)
    held = model.state_dict()
    assert held.keys() == wanted.keys()
    for name, value in wanted.items():
        assert held[name].shape == value.shape
        low, high = torch.aminmax(held[name].view(torch.int16) if held[name].dim() else held[name])
        assert low == high == value.flatten()[:1].contiguous().view(low.dtype).item(), name


def test_a_network_goes_from_the_playgrounds_names_to_torchvisions_and_back(theirs: Shapes) -> None:
    ours = ungrouped(theirs)
    is_regrouped = ours.keys() != theirs.keys()
    for file, model in ((theirs, ours), (ours, theirs)):
        built = tree(model)
        match = rh.load_into(built, saved({"state_dict": {f"module.{n}": value for n, value in state(file).items()}}))
        assert_holds(built, model)
        assert len(match.pairs) == len(state(theirs))
        assert any("group" in sentence for sentence in match.told) == is_regrouped
