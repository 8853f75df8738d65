"""Where a file was saved never decides whether it opens, and map_location means what it means to torch."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import pytest
import torch
from torch import nn

import rehydrate as rh

from .likeness import assert_alike

TAGS = [
    "cuda:0",
    "cuda:3",
    "cuda",
    "mps",
    "mps:0",
    "xla:1",
    "privateuseone:0",
    "npu:0",
    "hpu",
    "meta2",
    "a stranger's tag",
]


def saved(obj: object, monkeypatch: pytest.MonkeyPatch, *tags: str) -> bytes:
    """What torch.save writes where the storages lie on other devices: the tags in turn, one for each storage."""
    given: dict[int, str] = {}

    def tag(storage: Any) -> str:
        pointer = getattr(storage, "_untyped_storage", storage)._cdata
        return given.setdefault(pointer, tags[len(given) % len(tags)])

    buffer = io.BytesIO()
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", tag)
        torch.save(obj, buffer)
    return buffer.getvalue()


def torchs(data: bytes, map_location: Any) -> Any:
    return torch.load(io.BytesIO(data), map_location=map_location, weights_only=True)


def tree() -> dict[str, Any]:
    whole = torch.arange(12.0)
    return {
        "w": whole.view(3, 4),
        "tied": whole[4:8],
        "p": nn.Parameter(torch.ones(2)),
        "n": [torch.tensor(3)],
        "s": "x",
    }


@pytest.mark.parametrize("tag", TAGS)
def test_a_file_from_any_device_opens_loads_and_fills_a_model(tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(tree(), monkeypatch, tag)
    assert_alike(rh.load(data), torchs(data, "cpu"))
    assert_alike(rh.load(data, map_location="meta"), torchs(data, "meta"))
    with rh.open(data) as checkpoint:
        assert checkpoint.facts["saved_on"] == (tag,)
        assert checkpoint["w"].torch().device.type == "cpu"
        assert checkpoint["w"][1].numpy().tolist() == [4, 5, 6, 7]
    model = nn.Linear(3, 2)
    state = nn.Linear(3, 2).state_dict()
    rh.load_into(model, saved(state, monkeypatch, tag))
    assert torch.equal(model.weight, state["weight"])
    assert rh.load_model(saved(model, monkeypatch, tag), nn.Linear, args=(3, 2)).weight.device.type == "cpu"


def test_every_tag_of_a_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with rh.open(saved(tree(), monkeypatch, "cuda:1", "cpu", "cuda:0")) as checkpoint:
        assert checkpoint.facts["saved_on"] == ("cpu", "cuda:0", "cuda:1")


def from_xla(obj: object, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """What torch.save writes for tensors of a device that has no storages of torch's."""
    real = torch.Tensor._reduce_ex_internal
    inner: set[int] = set()

    def reduce(tensor: torch.Tensor, protocol: int) -> Any:
        if id(tensor) in inner:
            return real(tensor, protocol)
        host = tensor.detach().clone()
        inner.add(id(host))
        kept.append(host)
        args = (host, tensor.dtype, "xla:1", tensor.requires_grad)
        return torch._utils._rebuild_device_tensor_from_cpu_tensor, args

    kept: list[torch.Tensor] = []
    buffer = io.BytesIO()
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "_reduce_ex_internal", reduce)
        torch.save(obj, buffer)
    return buffer.getvalue()


def test_tensors_that_xla_saved_through_the_cpu_are_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = nn.Linear(3, 2)
    data = from_xla(theirs.state_dict(), monkeypatch)
    assert_alike(rh.load(data), torchs(data, "cpu"))
    with rh.open(data) as checkpoint:
        assert checkpoint.facts["saved_on"] == ("xla:1",)
        assert checkpoint.facts["imports"] == ()
        assert list(checkpoint) == ["weight", "bias"]
    model = nn.Linear(3, 2)
    rh.load_into(model, data)
    assert torch.equal(model.weight, theirs.weight)
    moved = rh.load(data, map_location={"xla:1": "meta"})
    assert isinstance(moved, dict)
    assert moved["weight"].is_meta


def on_meta(storage: torch.UntypedStorage) -> torch.UntypedStorage:
    return torch.UntypedStorage(storage.nbytes(), device="meta")


@pytest.mark.parametrize(
    "goal",
    [
        "cpu", torch.device("cpu"), torch.device("cpu", 0), "meta", torch.device("meta"),
        {"cuda:3": "cpu", "mps": "meta"}, {"cuda:3": "meta", "mps": "cpu", "never": "cpu"},
        lambda storage, location: storage,
        lambda storage, location: storage if location == "mps" else on_meta(storage),
    ],
    ids=str,
)  # fmt: skip
def test_map_location_means_what_it_means_to_torch(goal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(tree(), monkeypatch, "cuda:3", "mps", "cuda:3")
    is_indexed = goal == torch.device("cpu", 0)  # which torch does not know how to restore
    assert_alike(rh.load(data, map_location=goal), torchs(data, "cpu" if is_indexed else goal))


def test_locations_that_a_dictionary_does_not_name_come_to_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = rh.load(saved(tree(), monkeypatch, "cuda:3", "mps"), map_location={"mps": "meta"})
    assert isinstance(loaded, dict)
    assert [loaded["w"].device.type, loaded["p"].device.type, loaded["n"][0].device.type] == ["cpu", "meta", "cpu"]


def test_a_function_is_asked_once_for_each_storage_and_none_leaves_it_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, str, int]] = []

    def goal(storage: torch.UntypedStorage, location: str) -> None:
        asked.append((location, storage.device.type, storage.nbytes()))

    data = saved(tree(), monkeypatch, "cuda:3", "mps", "xla:1")
    assert_alike(rh.load(data, map_location=goal), torchs(data, "cpu"))
    assert sorted(asked) == [("cuda:3", "cpu", 48), ("mps", "cpu", 8), ("xla:1", "cpu", 8)]


def test_a_function_may_give_a_typed_storage_and_nothing_else_but_storages(monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(tree(), monkeypatch, "cuda:3")

    def typed(storage: torch.UntypedStorage, location: str) -> Any:
        return torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.uint8, _internal=True)

    assert_alike(rh.load(data, map_location=typed), torchs(data, "cpu"))
    with pytest.raises(TypeError, match="map_location returned a str"):
        rh.load(data, map_location=lambda storage, location: "cpu")


@pytest.mark.parametrize("verb", ["device", "map_location"])
@pytest.mark.parametrize(
    "device", ["cuda:99", torch.device("cuda", 99), "xla", "xla:0", "nonsense", "gpu", "", "cuda:x", 99]
)
def test_a_device_that_is_not_there_is_an_error_that_names_those_that_are(verb: str, device: Any) -> None:
    buffer = io.BytesIO()
    torch.save({"w": torch.ones(1)}, buffer)
    with pytest.raises(rh.DeviceError, match="cpu") as caught:
        rh.load(buffer, **{verb: device})
    assert isinstance(caught.value, RuntimeError)


def test_a_dictionary_to_a_device_that_is_not_there_matters_only_where_the_file_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = saved(tree(), monkeypatch, "cuda:3")
    assert rh.load(data, map_location={"mps": "cuda:99"})
    with pytest.raises(rh.DeviceError):
        rh.load(data, map_location={"cuda:3": "cuda:99"})


def test_auto_is_the_accelerator_or_the_cpu() -> None:
    buffer = io.BytesIO()
    torch.save({"w": torch.ones(1)}, buffer)
    wanted = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    assert wanted is not None
    loaded = rh.load(buffer, device="auto")
    assert isinstance(loaded, dict)
    assert loaded["w"].device.type == wanted.type
    model = nn.Linear(1, 1)
    rh.load_into(model, saved_plainly(model.state_dict()), device="auto")
    assert model.weight.device.type == wanted.type


def saved_plainly(obj: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(obj, buffer)
    return buffer.getvalue()


def test_device_and_map_location_together_are_a_type_error() -> None:
    with pytest.raises(TypeError, match="not both"):
        rh.load(saved_plainly({}), device="cpu", map_location="cpu")


def test_devices_in_a_file_are_values_and_those_of_unknown_backends_stay_records() -> None:
    data = saved_plainly({"on": torch.device("cuda", 3), "off": [torch.device("mps")]})
    assert rh.load(data) == {"on": torch.device("cuda", 3), "off": [torch.device("mps")]}
    foreign = data.replace(b"cuda", b"cudb")
    loaded = rh.load(with_right_checksums(foreign))
    assert isinstance(loaded, dict)
    assert isinstance(loaded["on"], rh.Record)
    assert loaded["on"].args == ("cudb", 3)


def with_right_checksums(data: bytes) -> bytes:
    """The archive written anew, after its bytes were changed in place."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(out, "w") as new:
        for member in archive.infolist():
            start = member.header_offset
            name, extra = (int.from_bytes(data[start + at :][:2], "little") for at in (26, 28))
            first = start + 30 + name + extra
            content = data[first : first + member.file_size]
            new.writestr(member.filename, content)
    return out.getvalue()


def test_loading_into_a_model_moves_it_after_success() -> None:
    model = nn.Linear(2, 2)
    match = rh.load_into(model, saved_plainly(nn.Linear(2, 2).state_dict()), device="meta")
    assert match
    assert model.weight.is_meta
