"""TorchScript archives of all ages, against torch's own loader; and the real ones, where there are some."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import rehydrate as rh
from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.record import Record
from rehydrate.errors import AmbiguousError, CorruptError

from ..effort import tried

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*(torch.jit|Lite Interpreter):DeprecationWarning", "ignore:ComplexHalf:UserWarning"
)


class Inner(nn.Module):
    """Everything that an attribute can be."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 3)
        self.register_buffer("buffer", torch.arange(3.0))
        self.register_buffer("transient", torch.ones(2), persistent=False)
        self.tensor = torch.full((2, 2), 2.0)
        self.tensors: list[torch.Tensor] = [torch.zeros(2), torch.ones(3)]
        self.named: dict[str, torch.Tensor] = {"a": torch.ones(1)}
        self.integers, self.floats, self.flags, self.word = [1, 2], [1.5], [True], "x"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.linear(x @ self.tensor) + self.buffer + self.tensors[0].sum() + self.named["a"]
        return x + len(self.integers) + len(self.floats) + len(self.flags)


class Net(nn.Module):
    """A module with tensors of many kinds, one of them in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2))
        self.inner = Inner()
        self.again = self.inner
        self.scale = nn.Parameter(torch.full((2,), 0.5, dtype=torch.bfloat16))
        self.list = nn.ParameterList([nn.Parameter(torch.ones(2))])
        self.register_parameter("missing", None)
        self.register_buffer("eight", torch.ones(4).to(torch.float8_e4m3fn))
        self.register_buffer("unsigned", torch.arange(4).to(torch.uint16))
        self.register_buffer("complex", torch.full((2,), 1 + 2j))
        self.register_buffer("turned", torch.arange(6.0).reshape(2, 3).t()[1:])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) + self.scale.float().sum()


class Plain(nn.Module):
    """What tracing follows without a branch."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x) * 2


def saved(program: torch.jit.ScriptModule) -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(program, buffer)
    return buffer.getvalue()


def scripted(module: nn.Module) -> bytes:
    return saved(torch.jit.script(module.eval()))


def traced() -> bytes:
    return saved(torch.jit.trace(Plain().eval(), torch.ones(2, 3)))


def for_phones(module: nn.Module) -> bytes:
    data: bytes = torch.jit.script(module.eval())._save_to_buffer_for_lite_interpreter()
    return data


def frozen() -> torch.jit.ScriptModule:
    return torch.jit.freeze(torch.jit.script(Plain().eval()))


def rewritten(archive: bytes, change: Callable[[str, bytes], bytes], **more: bytes) -> bytes:
    """The archive with each member changed, stored, and with more of them."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            if name.rpartition("/")[2] not in more:
                new.writestr(name, change(name, old.read(name)))
        folder = old.namelist()[0].split("/", 1)[0]
        for name, content in more.items():
            new.writestr(f"{folder}/{name}", content)
    return out.getvalue()


def assert_same(ours: Mapping[str, rh.TensorRef], theirs: Mapping[str, torch.Tensor]) -> None:
    assert list(ours) == list(theirs)
    for name, tensor in theirs.items():
        ref = ours[name]
        assert (str(ref.dtype), ref.shape, ref.strides) == (str(tensor.dtype)[6:], tuple(tensor.shape), tensor.stride())
        raw = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
        assert torch.equal(ref.torch().reshape(-1).view(torch.uint8), raw), name


@pytest.mark.parametrize(
    "make", [lambda: scripted(Net()), lambda: scripted(Plain()), traced, lambda: for_phones(Net())],
    ids=["scripted", "with constants", "traced", "for phones"],
)  # fmt: skip
def test_weights_are_what_the_loaded_program_gives_as_its_state_dict(make: Callable[[], bytes]) -> None:
    archive = make()
    with rh.open(archive) as checkpoint:
        assert checkpoint.format == "torchscript"
        assert_same(checkpoint.weights(), torch.jit.load(io.BytesIO(archive)).state_dict())


@given(
    st.lists(st.sampled_from([torch.float32, torch.float64, torch.int64, torch.bool, torch.float16]), max_size=4),
    st.lists(st.integers(1, 3), max_size=3),
    st.randoms(use_true_random=False),
)
@tried(15)
def test_any_tensors_are_the_same_as_torch_loads(dtypes: list[torch.dtype], shape: list[int], random: object) -> None:
    net = Plain()
    for number, dtype in enumerate(dtypes):
        whole = (torch.rand(*shape, 4) * 9).to(dtype)
        view = whole.transpose(0, -1)[random.randrange(4) :]  # type: ignore[attr-defined]
        net.register_buffer(f"b{number}", view)
    archive = scripted(net)
    with rh.open(archive) as checkpoint:
        assert_same(checkpoint.weights(), torch.jit.load(io.BytesIO(archive)).state_dict())


def test_every_tensor_of_an_attribute_has_a_name_and_plain_attributes_are_plain() -> None:
    with rh.open(scripted(Net())) as checkpoint:
        assert {"inner.tensor", "inner.tensors[1]", "inner.named.a", "inner.transient"} <= set(checkpoint)
        assert not {"inner.tensor", "inner.tensors[1]"} & set(checkpoint.weights())
        inner = checkpoint.tree.state["inner"]  # type: ignore[attr-defined]
        assert isinstance(inner, Record)
        assert (inner.module, inner.args) == ("__torch__.tests.formats.test_torchscript", ())
        plain = {name: inner.state[name] for name in ("integers", "floats", "flags", "word", "training")}
        assert plain == {"integers": [1, 2], "floats": [1.5], "flags": [True], "word": "x", "training": False}


def test_what_the_classes_declare_to_be_a_parameter_is_one() -> None:
    with rh.open(scripted(Net())) as checkpoint:
        weights = checkpoint.weights()
        marked = [name for name in weights if "parameter" in weights[name].traits]
        assert marked == [name for name in weights if name in dict(Net().named_parameters(remove_duplicate=False))]
        assert weights["scale"].traits == {"parameter", "requires_grad"}


def test_one_module_in_two_places_shares_its_memory() -> None:
    with rh.open(scripted(Net())) as checkpoint:
        weights = checkpoint.weights()
        assert weights["inner.linear.weight"].storage is weights["again.linear.weight"].storage


@pytest.mark.parametrize("make", [saved, lambda program: program._save_to_buffer_for_lite_interpreter()])
def test_a_frozen_program_has_its_weights_among_its_constants(make: Callable[[torch.jit.ScriptModule], bytes]) -> None:
    program = frozen()
    with rh.open(make(program)) as checkpoint:
        constants = [name for name in checkpoint if name.startswith("CONSTANTS.c")]
        assert constants == list(checkpoint) == list(checkpoint.weights())
        values = {checkpoint[name].numpy().tobytes() for name in constants}
        assert {node.t("value").numpy().tobytes() for node in program.graph.nodes() if node.hasAttribute("value")
                and node.kindOf("value") == "t"} <= values  # fmt: skip


def test_programs_of_before_torch_1_5_do_not_say_what_a_buffer_is_and_every_tensor_is_one() -> None:
    old = rewritten(scripted(Net()), lambda name, data: re.sub(rb"  __buffers__ = .*\n", b"", data))
    with rh.open(old) as checkpoint:
        extra = {"inner.tensor", "again.tensor"}
        assert set(checkpoint.weights()) == set(torch.jit.script(Net()).state_dict()) | extra


def test_a_program_loads_into_the_module_that_it_was_made_from(tmp_path: Path) -> None:
    path, net, other = tmp_path / "net.pt", Plain(), Plain()
    path.write_bytes(scripted(net))
    rh.load_into(other, path)
    assert all(
        torch.equal(one, two) for one, two in zip(net.state_dict().values(), other.state_dict().values(), strict=True)
    )


def test_a_program_of_a_big_endian_machine_has_the_same_values() -> None:
    def swapped(name: str, data: bytes) -> bytes:
        return numpy.frombuffer(data, "f4").byteswap().tobytes() if "/data/" in name and len(data) != 8 else data[::-1]

    archive = scripted(nn.Sequential(nn.Linear(3, 5)))
    turned = rewritten(archive, lambda name, data: swapped(name, data) if "/data/" in name else data, byteorder=b"big")
    with rh.open(turned) as checkpoint, rh.open(archive) as honest:
        assert checkpoint.facts["byteorder"] == "big"
        for name in ("0.weight", "0.bias"):
            assert checkpoint[name].numpy().tolist() == honest[name].numpy().tolist()


def test_the_facts_say_what_is_program_and_every_pickle_is_traced() -> None:
    with rh.open(for_phones(Net())) as checkpoint:
        facts = checkpoint.facts
        assert facts["writer"].startswith("torch.jit.save (file version ")  # type: ignore[attr-defined]
        assert type(facts["bytecode"]) is int
        code = facts["code"]
        assert isinstance(code, tuple)
        assert any(name.endswith("/bytecode.pkl") for name in code)
        assert any(name.endswith("/code/__torch__/tests/formats/test_torchscript.py") for name in code)
        assert (facts["imports"], facts["calls"]) == ((), ())
        assert {trace.where.rpartition("/")[2] for trace in checkpoint.traces} >= {
            "data.pkl",
            "constants.pkl",
            "bytecode.pkl",
        }


def test_a_state_dict_with_a_stray_constants_pkl_is_neither(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "w.pt")
    dressed = rewritten((tmp_path / "w.pt").read_bytes(), lambda name, data: data, **{"constants.pkl": b"\x80\2)."})
    with pytest.raises(AmbiguousError, match="program beside"):
        rh.open(dressed)


def model_json(model: object, tensors: dict[str, bytes], attributes: bytes | None = None) -> bytes:
    """An archive as torch 1.0 to 1.2 wrote it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("net/version", "1\n")
        file.writestr("net/code/net.py", "op_version_set = 0\n")
        for name, content in tensors.items():
            file.writestr(f"net/tensors/{name}", content)
        if attributes is not None:
            file.writestr("net/attributes.pkl", attributes)
        file.writestr("net/model.json", json.dumps(model))
    return out.getvalue()


def tensor_json(dims: list[int], strides: list[int], key: str = "0", *, offset: int = 0) -> dict[str, object]:
    return {
        "dims": [str(extent) for extent in dims], "strides": [str(stride) for stride in strides], "offset": str(offset),
        "dataType": "FLOAT", "data": {"key": f"tensors/{key}"}, "requiresGrad": True, "device": "cuda:0",
    }  # fmt: skip


def test_a_model_json_gives_parameters_and_buffers_of_nested_modules() -> None:
    numbers = numpy.arange(12, dtype="f4")
    model = {
        "mainModule": {
            "name": "Net",
            "parameters": [{"name": "scale", "tensorId": "2"}],
            "submodules": [{
                "name": "conv", "parameters": [
                    {"name": "weight", "tensorId": "0", "isBuffer": False},
                    {"name": "running_mean", "tensorId": "1", "isBuffer": True},
                ],
            }],
            "attributes": [
                {"name": "sizes", "type": "int[]", "id": "0"}, {"name": "table", "type": "Tensor", "id": "1"},
            ],
        },
        "tensors": [tensor_json([4, 3], [1, 4]), tensor_json([3], [2], offset=1), tensor_json([], [])],
        "producerVersion": "1.2",
    }  # fmt: skip
    attributes = (
        b"\x80\2(ctorch.jit._pickle\nbuild_intlist\n(](K\1K\2etRctorch.jit._pickle\nbuild_tensor_from_id\n(K\1tRt."
    )
    with rh.open(model_json(model, {"0": numbers.tobytes()}, attributes)) as checkpoint:
        assert checkpoint.format == "torchscript"
        assert checkpoint.facts["producer"] == "1.2"
        assert checkpoint.facts["saved_on"] == ("cuda:0",)
        weights = checkpoint.weights()
        assert list(weights) == ["scale", "table", "conv.weight", "conv.running_mean"]
        assert weights["conv.weight"].numpy().tolist() == numbers.reshape(3, 4).T.tolist()
        assert weights["conv.running_mean"].numpy().tolist() == [1.0, 3.0, 5.0]
        assert weights["scale"].shape == ()
        assert weights["scale"].storage is weights["conv.weight"].storage
        assert checkpoint.tree.state["sizes"] == [1, 2]  # type: ignore[attr-defined]


def test_a_model_json_whose_tensor_leads_out_of_its_storage_is_broken() -> None:
    model = {"mainModule": {"parameters": [{"name": "w", "tensorId": "0"}]}, "tensors": [tensor_json([4], [1])]}
    with pytest.raises(CorruptError, match="out of bounds"):
        rh.open(model_json(model, {"0": bytes(12)}))


def programs(folder: Path) -> list[Path]:
    entries = json.loads((folder / "index.json").read_text("utf-8"))
    return [folder / entry["path"] for entry in entries if entry["kind"].startswith("TorchScript")]


def test_every_real_program_opens_and_every_tensor_of_it_can_be_read(test_data: Path) -> None:
    paths = programs(test_data / "checkpoints")
    assert len(paths) >= 65
    for path in paths:
        with rh.open(path) as checkpoint:
            assert checkpoint.format == "torchscript", path
            assert checkpoint.facts["code"], path
            for name in checkpoint:
                array = checkpoint[name].numpy()
                assert array.shape == checkpoint[name].shape
            if len(checkpoint):
                assert set(checkpoint.weights()) <= set(checkpoint)


def contents(checkpoint: Checkpoint) -> set[tuple[str, tuple[int, ...], bytes]]:
    """The tensors of a file that have dimensions, whatever they are called."""
    refs = [checkpoint[name] for name in checkpoint]
    return {(str(ref.dtype), ref.shape, ref.numpy().tobytes()) for ref in refs if ref.shape}


def test_real_quantised_programs_hold_the_tensors_of_the_state_dicts_beside_them(test_data: Path) -> None:
    compared = 0
    for path in programs(test_data / "checkpoints"):
        stem = re.sub(r"\.(scripted|traced)\.pt$", "", path.name)
        beside = path.with_name(stem + ".state_dict.pt")
        if stem == path.name or not beside.exists():
            continue
        with rh.open(path) as program, rh.open(beside) as state_dict:
            assert contents(state_dict) <= contents(program), path
        compared += 1
    assert compared >= 20
