"""Archives of parts: agents of Stable-Baselines, models of skops, packages of torch.package."""

from __future__ import annotations

import base64
import io
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import nn
from torch.package import PackageExporter, PackageImporter

import rehydrate as rh
from rehydrate.checkpoint.record import Record
from rehydrate.errors import CorruptError

from .test_zip_container import pth, zipped


def policy() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


def agent(**serialized: object) -> dict[str, bytes]:
    """The members of what `PPO.save` writes."""
    net = policy()
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    data: dict[str, object] = {"gamma": 0.99, "n_steps": 2048, "tensorboard_log": None}
    for name, value in serialized.items():
        coded = base64.b64encode(pickle.dumps(value)).decode()
        data[name] = {":type:": str(type(value)), ":serialized:": coded}
    return {
        "data": json.dumps(data, indent=4).encode(),
        "policy.pth": pth(net.state_dict()),
        "policy.optimizer.pth": pth(optimizer.state_dict()),
        "pytorch_variables.pth": pth({"log_ent_coef": torch.zeros(1)}),
        "_stable_baselines3_version": b"1.8.0",
        "system_info.txt": b"OS: Linux\n",
    }


def test_an_agent_is_opened_as_its_parts() -> None:
    with rh.open(zipped(agent(), method=zipfile.ZIP_STORED)) as checkpoint:
        assert checkpoint.format == "stable-baselines3"
        assert set(checkpoint.tree) == {"data", "policy", "policy.optimizer", "pytorch_variables"}  # type: ignore[call-overload]
        assert checkpoint.facts["writer"] == "stable-baselines3 1.8.0"
        assert checkpoint.tree["data"]["n_steps"] == 2048  # type: ignore[index]
        assert checkpoint["policy.0.weight"].shape == (8, 4)


def test_the_weights_of_an_agent_are_its_policy() -> None:
    with rh.open(zipped(agent())) as checkpoint:
        weights = checkpoint.weights()
        assert list(weights) == list(policy().state_dict())
        assert weights.path == ("policy",)
        rh.load_into(net := policy(), checkpoint)
        assert torch.equal(net[0].weight, torch.from_numpy(weights["0.weight"].numpy()))


def test_pickles_inside_the_data_are_read_and_not_run() -> None:
    with rh.open(zipped(agent(policy_class=os.getcwd, noise=[1, 2]))) as checkpoint:
        assert checkpoint.facts["imports"] == (f"{os.getcwd.__module__}.getcwd",)
        assert [trace.where for trace in checkpoint.traces if trace.where.startswith("data/")] == [
            "data/policy_class", "data/noise",
        ]  # fmt: skip
        shown = checkpoint.tree["data"]["noise"]  # type: ignore[index]
        assert shown[":serialized:"] == base64.b64encode(pickle.dumps([1, 2])).decode()


def test_what_is_no_pickle_where_one_should_be_is_an_error() -> None:
    data = json.dumps({"policy_class": {":type:": "x", ":serialized:": "!"}}).encode()
    with pytest.raises(CorruptError, match="base64"):
        rh.open(zipped({**agent(), "data": data}))


def test_an_agent_of_the_older_stable_baselines_has_an_npz_inside() -> None:
    arrays = io.BytesIO()
    numpy.savez(arrays, **{"model/pi/w:0": numpy.ones((4, 2), "f4"), "model/pi/b:0": numpy.ones(2, "f4")})
    names = json.dumps(["model/pi/w:0", "model/pi/b:0"]).encode()
    files = {"data": b'{"gamma": 0.99}', "parameter_list": names, "parameters": arrays.getvalue()}
    with rh.open(zipped(files)) as checkpoint:
        assert checkpoint.format == "stable-baselines"
        assert set(checkpoint.weights()) == {"model/pi/w:0", "model/pi/b:0"}


def test_a_model_of_skops_shows_its_schema_and_its_arrays() -> None:
    array = io.BytesIO()
    numpy.save(array, numpy.arange(3.0))
    schema = {"__class__": "LogisticRegression", "content": {"coef_": {"file": "140.npy"}}}
    with rh.open(zipped({"schema.json": json.dumps(schema).encode(), "140.npy": array.getvalue()})) as checkpoint:
        assert checkpoint.format == "skops"
        assert checkpoint["140"].numpy().tolist() == [0.0, 1.0, 2.0]
        assert checkpoint.tree["schema"] == schema  # type: ignore[index]


def test_a_schema_beside_a_checkpoint_makes_no_parts_of_it() -> None:
    with rh.open(zipped({"schema.json": b"{}", "net.pth": pth({"w": torch.ones(2)})})) as checkpoint:
        assert checkpoint.format == "zip+torch-zip"


class Net(nn.Module):
    """What is packaged, source and all."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x)


SOURCE = "import torch.nn as nn\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    path = tmp_path / "net.pt"
    with PackageExporter(path) as exporter:
        exporter.save_source_string("layers", SOURCE)
        exporter.extern(["torch.**"])
        exporter.save_pickle("model", "net.pkl", nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)))
        exporter.save_pickle("model", "scale.pkl", {"scale": torch.ones(2), "epoch": 3})
        exporter.save_text("model", "notes.txt", "hello")
    return path


@pytest.mark.filterwarnings("ignore:TypedStorage:UserWarning")
def test_a_package_gives_what_was_pickled_in_it(package: Path) -> None:
    net = PackageImporter(package).load_pickle("model", "net.pkl")
    with rh.open(package) as checkpoint:
        assert checkpoint.format == "torch-package"
        tree = checkpoint.tree
        assert isinstance(tree, dict)
        assert set(tree) == {"model/net.pkl", "model/scale.pkl"}
        assert isinstance(tree["model/net.pkl"], Record)
        assert tree["model/scale.pkl"]["epoch"] == 3
        assert "net/layers.py" in checkpoint.facts["code"]  # type: ignore[operator]
        weights = checkpoint.weights("model/net.pkl")
        assert list(weights) == list(net.state_dict())
        assert all(torch.equal(weights[name].torch(), tensor) for name, tensor in net.state_dict().items())


def scripted_package(path: Path) -> nn.Module:
    net = Net()
    with PackageExporter(path) as exporter:
        exporter.save_pickle("model", "net.pkl", torch.jit.script(net))
    return net


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:TypedStorage:UserWarning")
def test_a_scripted_module_in_a_package_has_its_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.package.package_exporter._gate_torchscript_serialization", False)
    net = scripted_package(tmp_path / "net.pt")
    with rh.open(tmp_path / "net.pt") as checkpoint:
        (name,) = [name for name in checkpoint if name.endswith("fc.weight")]
        assert torch.equal(checkpoint[name].torch(), net.fc.weight)
        assert "torch.jit._script.unpackage_script_module" in checkpoint.facts["calls"]  # type: ignore[operator]


def test_numbers_that_only_python_writes_in_json_are_numbers_in_the_data_of_an_agent() -> None:
    parts = agent()
    data = json.loads(parts["data"]) | {"best": float("-inf"), "mean": float("nan"), "name": "\ud800"}
    tree: Any = rh.open(zipped(parts | {"data": json.dumps(data).encode()})).tree
    assert tree["data"]["best"] == float("-inf")
    assert tree["data"]["mean"] != tree["data"]["mean"]
