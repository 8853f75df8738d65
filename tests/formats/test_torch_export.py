"""Exported programs, against `torch.export.load`."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.export.pt2_archive._package import package_pt2

import rehydrate as rh
from rehydrate.errors import AmbiguousError, NotACheckpointError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")


class Net(nn.Module):
    """Tied parameters, views of a larger storage, and what is no part of a state dict."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 3)
        self.tied = self.linear.bias
        self.register_buffer("view", torch.arange(12.0).reshape(3, 4).t()[1:])
        self.register_buffer("short", torch.ones(3, dtype=torch.bfloat16))
        self.register_buffer("count", torch.tensor(3))
        self.register_buffer("transient", torch.ones(3), persistent=False)
        self.plain = torch.arange(3.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.linear(x) + self.view.sum() + self.short + self.count + self.transient + self.plain
        return x + torch.tensor([1.0, 2.0, 3.0])


class One(nn.Module):
    """A state dict of one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((2,), 3.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale


def exported(module: nn.Module) -> torch.export.ExportedProgram:
    return torch.export.export(module.eval(), (torch.ones(1, 2),))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "net.pt2"
    torch.export.save(exported(Net()), path)
    return path


def assert_holds(path: Path | bytes, program: torch.export.ExportedProgram) -> None:
    with rh.open(path) as checkpoint:
        assert checkpoint.format == "torch-export"
        weights = checkpoint.weights()
        assert set(weights) == set(program.state_dict)
        for name, tensor in program.state_dict.items():
            ref = weights[name]
            assert (ref.shape, ref.strides, str(ref.dtype)) == (tensor.shape, tensor.stride(), str(tensor.dtype)[6:])
            assert torch.equal(ref.torch(), tensor)
        for name, tensor in program.constants.items():
            assert torch.equal(checkpoint["constants", name].torch(), tensor)


def test_weights_are_the_state_dict_of_the_program_and_constants_are_beside_it(archive: Path) -> None:
    assert_holds(archive, torch.export.load(archive))


def test_parameters_that_are_tied_share_their_memory_and_are_parameters(archive: Path) -> None:
    with rh.open(archive) as checkpoint:
        weights = checkpoint.weights()
        assert weights["tied"].storage is weights["linear.bias"].storage
        assert weights["tied"].traits == {"parameter", "requires_grad"}
        assert not weights["view"].traits


def test_the_inputs_that_it_was_exported_with_are_there_and_their_pickle_is_traced(archive: Path) -> None:
    with rh.open(archive) as checkpoint:
        assert checkpoint["example_inputs[0][0]"].numpy().tolist() == [[1.0, 1.0]]
        assert ["sample_inputs" in trace.where for trace in checkpoint.traces] == [True]
        assert checkpoint.facts["programs"] == ("model",)
        assert checkpoint.facts["code"] == ("net/models/model.json",)


def test_a_program_of_one_tensor_has_a_model(tmp_path: Path) -> None:
    torch.export.save(exported(One()), tmp_path / "one.pt2")
    with rh.open(tmp_path / "one.pt2") as checkpoint:
        assert list(checkpoint.weights()) == ["scale"]


def test_a_program_fills_the_module_that_it_was_made_from(archive: Path) -> None:
    other = Net()
    rh.load_into(other, archive)
    assert torch.equal(other.linear.weight, torch.export.load(archive).state_dict["linear.weight"])


def test_several_programs_in_one_archive_are_several_models(tmp_path: Path) -> None:
    path = tmp_path / "two.pt2"
    package_pt2(path, exported_programs={"a": exported(Net()), "b": exported(Net())})
    with rh.open(path) as checkpoint:
        assert checkpoint.facts["programs"] == ("a", "b")
        with pytest.raises(AmbiguousError, match="2 models"):
            checkpoint.weights()
        assert "linear.weight" in checkpoint.weights("b.state_dict")


def test_the_layout_of_before_torch_2_7_is_a_zip_of_files_of_torch_save() -> None:
    program = exported(Net())
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("version", "8.2")
        file.writestr("serialized_exported_program.json", "{}")
        for name, value in (("state_dict", program.state_dict), ("constants", program.constants)):
            part = io.BytesIO()
            torch.save(dict(value), part)
            file.writestr(f"serialized_{name}.pt", part.getvalue())
        file.writestr("serialized_example_inputs.pt", b"")
    assert_holds(out.getvalue(), program)


def test_a_weight_of_a_subclass_is_pickled_and_still_a_weight(tmp_path: Path, archive: Path) -> None:
    part = io.BytesIO()
    torch.save(torch.full((3,), 7.0), part)
    path = tmp_path / "net.pt2"
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("model_weights_config.json"):
                content = content.replace(b'"use_pickle": false', b'"use_pickle": true', 1)
            new.writestr(name, part.getvalue() if name.endswith("/weight_0") else content)
    with rh.open(path) as checkpoint:
        assert checkpoint.weights()["tied"].numpy().tolist() == [7.0] * 3


def test_compiled_code_without_its_program_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "net.pt2", "w") as file:
        file.writestr("net/archive_format", "pt2")
        file.writestr("net/data/aotinductor/model/net.so", b"\x7fELF")
    with pytest.raises(NotACheckpointError, match="compiled code"):
        rh.open(tmp_path / "net.pt2")


@pytest.mark.parametrize("identifier", [b"ET12", b"FT01"])
def test_an_executorch_program_is_named(identifier: bytes) -> None:
    with pytest.raises(NotACheckpointError, match="ExecuTorch"):
        rh.open(b"\x30\0\0\0" + identifier + bytes(100))
