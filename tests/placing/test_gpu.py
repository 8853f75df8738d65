"""The note's three cases on a real accelerator: from there to here, from here to there, and from there to there."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from torch import nn

import rehydrate as rh

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and torch.cuda sees none"),
]


class TheModelClass(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
        self.tied = nn.Linear(4, 8)
        self.tied.weight = self.layers[0].weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


@pytest.fixture
def theirs() -> nn.Module:
    torch.manual_seed(0)
    return TheModelClass().cuda().eval()


@pytest.fixture
def path(theirs: nn.Module, tmp_path: Path) -> Path:
    torch.save(theirs.state_dict(), tmp_path / "gpu.pth")
    return tmp_path / "gpu.pth"


def assert_same(one: nn.Module, other: nn.Module) -> None:
    for (name, mine), value in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(mine.cpu(), value.cpu()), name


def test_saved_on_a_gpu_and_loaded_on_the_cpu(theirs: nn.Module, path: Path) -> None:
    with rh.open(path) as checkpoint:
        assert checkpoint.facts["saved_on"] == ("cuda:0",)
    model = TheModelClass()
    rh.load_into(model, path)
    assert {tensor.device.type for tensor in model.parameters()} == {"cpu"}
    assert_same(model, theirs)
    loaded = rh.load(path, map_location=torch.device("cpu"))
    assert isinstance(loaded, dict)
    assert not loaded["tied.weight"].is_cuda


@pytest.mark.parametrize("device", ["cuda", "cuda:0", torch.device("cuda"), 0, "auto"])
def test_saved_on_the_cpu_and_loaded_on_a_gpu(theirs: nn.Module, tmp_path: Path, device: str) -> None:
    torch.save(TheModelClass().state_dict(), tmp_path / "cpu.pth")
    torch.save({name: value.cpu() for name, value in theirs.state_dict().items()}, tmp_path / "cpu.pth")
    model = rh.load_model(tmp_path / "cpu.pth", TheModelClass, device=device)
    assert {tensor.device for tensor in (*model.parameters(), *model.buffers())} == {torch.device("cuda", 0)}
    assert_same(model, theirs)
    x = torch.rand(5, 4)
    assert torch.equal(model(rh.to_device(x, model)), theirs(x.cuda()))


def test_saved_and_loaded_on_a_gpu(theirs: nn.Module, path: Path) -> None:
    model = TheModelClass().cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rh.load_into(model, path)
    assert_same(model, theirs)
    assert optimizer.param_groups[0]["params"][0] is model.layers[0].weight
    loaded = rh.load(path, map_location="cuda:0")
    assert isinstance(loaded, dict)
    assert loaded["layers.0.weight"].is_cuda
    assert loaded["layers.0.weight"].data_ptr() == loaded["tied.weight"].data_ptr()


def test_what_is_saved_from_a_gpu_is_read_back_there_by_torch(theirs: nn.Module, tmp_path: Path) -> None:
    rh.save(theirs, tmp_path / "mine.pth")
    there = torch.load(tmp_path / "mine.pth", weights_only=True)
    assert all(torch.equal(there[name], value) and there[name].is_cuda for name, value in theirs.state_dict().items())


def test_a_gpu_that_is_not_there_is_an_error_that_names_those_that_are(path: Path) -> None:
    with pytest.raises(rh.DeviceError, match="cuda:0"):
        rh.load(path, device="cuda:99")


def test_bytes_are_the_same_on_both_sides(path: Path) -> None:
    here, there = rh.load(path), rh.load(path, device="cuda")
    assert isinstance(here, dict)
    assert isinstance(there, dict)
    buffer = io.BytesIO(path.read_bytes())
    theirs = torch.load(buffer, weights_only=True)
    for name, value in theirs.items():
        assert torch.equal(there[name], value)
        assert torch.equal(here[name], value.cpu())
