"""On which terms a file is put into a model: dtypes, layers that begin anew, models that load by themselves."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import rehydrate as rh
from rehydrate.placing.moving import undo
from rehydrate.rules import Rename
from rehydrate.storage.source import MemorySource

from .test_all_or_nothing import Photograph


def saved(obj: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(obj, buffer)
    return buffer.getvalue()


def network(classes: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, classes))


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_dtype_is_what_every_floating_tensor_has_and_values_are_cast_once(dtype: torch.dtype, device: str) -> None:
    state = {
        name: value.double() / 3 if value.is_floating_point() else value
        for name, value in network().state_dict().items()
    }
    with torch.device(device):
        model = network()
    parameters = list(model.parameters())
    rh.load_into(model, saved(state), dtype=dtype)
    for name, value in model.state_dict().items():
        assert value.dtype == (dtype if state[name].is_floating_point() else torch.int64)
        assert torch.equal(value, state[name].to(value.dtype)), name
    if device == "cpu":  # an optimizer that was made before still holds them
        assert all(one is other for one, other in zip(parameters, model.parameters(), strict=True))


def test_a_dtype_that_is_no_floating_one_is_a_type_error() -> None:
    for dtype in (torch.int8, "float16", torch.complex64):
        with pytest.raises(TypeError, match="dtype= is a floating type"):
            rh.load_into(network(), saved(network().state_dict()), dtype=dtype)  # type: ignore[arg-type]


def test_a_load_that_fails_leaves_the_dtype_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    photograph = Photograph(network())

    def fail(*args: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr("rehydrate.placing.preparing.replace_tensors", fail)
    with pytest.raises(RuntimeError, match="no"):
        rh.load_into(photograph.model, saved(network().state_dict()), dtype=torch.float16)
    photograph.assert_still_true()


def test_a_layer_begins_anew_as_its_class_makes_it_and_is_undone_with_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = network(5), saved(network().state_dict())
    allow = rh.Allow(mismatched="2.*", how="reinit")
    with torch.no_grad():
        model[2].weight.fill_(9)  # type: ignore[union-attr,operator]
    photograph = Photograph(model)
    with monkeypatch.context() as patch:
        patch.setattr("rehydrate.placing.preparing.replace_tensors", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            rh.load_into(model, data, allow=allow)
    photograph.assert_still_true()
    torch.manual_seed(3)
    match = rh.load_into(model, data, allow=allow)
    torch.manual_seed(3)
    fresh = nn.Linear(8, 5)
    assert torch.equal(model[2].weight, fresh.weight)  # type: ignore[arg-type]
    assert match.reinitialised == ("2.weight", "2.bias")


def test_layers_that_began_anew_and_are_too_large_for_a_copy_are_named_when_the_load_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*args: object) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(undo, "UNDO", 0)
    monkeypatch.setattr(MemorySource, "fill", fail)
    data = saved(network(5).state_dict())
    with pytest.raises(rh.TornLoadError, match=r"the disk is gone[\s\S]*2\.weight, 2\.bias"):
        rh.load_into(network(2), data, allow=rh.Allow(mismatched="2.*", how="reinit"))


def test_a_layer_that_cannot_begin_anew_is_an_error_that_names_it() -> None:
    class Bare(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.body = nn.Linear(9, 9)
            self.scale = nn.Parameter(torch.ones(width))

    photograph = Photograph(Bare(3))
    with pytest.raises(rh.RebuildError, match=r"1 module cannot be initialised anew"):
        rh.load_into(photograph.model, saved(Bare(2).state_dict()), allow=rh.Allow(mismatched="scale", how="reinit"))
    photograph.assert_still_true()


class ByItself(nn.Module):
    """It renames what it loads, so that its own code has to be asked."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.body = nn.Linear(4, 4)
        self.head = nn.Linear(4, classes)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in list(state):
            if name.startswith(prefix + "old_body."):
                state[prefix + name.removeprefix(prefix + "old_")] = state.pop(name)
        super()._load_from_state_dict(state, prefix, *args)


def old_state(classes: int = 3) -> dict[str, torch.Tensor]:
    return {name.replace("body", "old_body"): value for name, value in ByItself(classes).state_dict().items()}


def test_a_model_that_loads_by_itself_is_forgiven_and_ruled_alike() -> None:
    file = old_state()
    model = ByItself()
    assert rh.load_into(model, saved(file))
    assert torch.equal(model.body.weight, file["old_body.weight"])
    model = ByItself()
    renamed = {name.replace("head", "classifier"): value for name, value in file.items()}
    assert rh.load_into(model, saved(renamed), rules=Rename("classifier.*", "head.*"))
    assert torch.equal(model.head.weight, file["head.weight"])
    model = ByItself(5)
    own = model.head.weight.detach().clone()
    match = rh.load_into(model, saved(file), allow=rh.Allow(mismatched="head.*", coverage=0.3))
    assert torch.equal(model.head.weight, own)
    assert {target.name for target in match.kept} == {"head.weight", "head.bias"}
    model = ByItself(5)
    rh.load_into(model, saved(file), allow=rh.Allow(mismatched="head.*", how="pad", coverage=0.3))
    assert torch.equal(model.head.weight[:3], file["head.weight"])
    model = ByItself(2)
    rh.load_into(model, saved(file), allow=rh.Allow(mismatched="head.*", how="slice"))
    assert torch.equal(model.head.weight, file["head.weight"][:2])
    headless = {name: value for name, value in file.items() if "head" not in name}
    with pytest.raises(rh.MismatchError, match="head"):
        rh.load_into(ByItself(), saved(headless))
    match = rh.load_into(ByItself(), saved(headless), allow=rh.Allow(missing="head.*"))
    assert "Allow(missing=['head.*']) forgave 2 tensors" in str(match)


class Rotary(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, width)
        self.width = width
        self.register_buffer("inv_freq", torch.empty(width // 2), persistent=False)
        self.reset_buffers()

    def reset_buffers(self) -> None:
        self.inv_freq = 1 / 10_000 ** (torch.arange(0, self.width, 2, device=self.inv_freq.device) / self.width)


def test_buffers_of_a_meta_model_that_no_file_holds_are_really_set() -> None:
    real = Rotary(8)
    with torch.device("meta"):
        model = Rotary(8)
    match = rh.load_into(model, saved(real.state_dict()))
    assert torch.equal(model.inv_freq, real.inv_freq)
    assert "1 buffer that no file holds set by Rotary.reset_buffers" in match.told


def test_what_a_new_model_does_not_get_is_what_its_constructor_makes(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save(network(3).state_dict(), path)
    torch.manual_seed(5)
    plain = network(7)
    torch.manual_seed(5)
    model = rh.load_model(path, network, args=(7,), allow=rh.Allow(mismatched="2.*", coverage=0.4))
    assert torch.equal(model[2].weight, plain[2].weight)  # type: ignore[index,arg-type]
    assert not torch.equal(model[0].weight, plain[0].weight)  # type: ignore[index,arg-type]


class Large(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(1024, 1024, bias=False) for _ in range(3)))


def test_a_new_model_has_memory_of_its_own_unless_it_is_told_to_be_mapped(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.manual_seed(0)
    state = Large().state_dict()
    torch.save(state, path)
    model = rh.load_model(path, Large)
    torch.save({"something": torch.zeros(1)}, path)  # over the very file, in place
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    torch.save(state, path)
    mapped = rh.load_model(path, Large, mapped=True)
    with torch.no_grad():
        next(mapped.parameters()).add_(1)  # stays with the model, and never reaches the file
    assert torch.equal(torch.load(path, weights_only=True)["layers.0.weight"], state["layers.0.weight"])
    assert torch.equal(mapped.state_dict()["layers.1.weight"], state["layers.1.weight"])


def test_a_floor_that_is_not_reached_says_what_to_write() -> None:
    with pytest.raises(rh.MismatchError, match=r"only 47.06 % of the parameters[\s\S]*Allow\(coverage=0.47\)"):
        rh.load_into(network(7), saved(network(3).state_dict()), allow=rh.Allow(mismatched="2.*"))


def test_what_is_no_allow_and_no_rule_is_a_type_error() -> None:
    data = saved(network().state_dict())
    with pytest.raises(TypeError, match=r"allow= is an Allow, as in Allow\(missing="):
        rh.load_into(network(), data, allow=["head.*"])  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        rh.load_into(network(), data, rules=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="which= is for one model"):
        rh.load_into({"model": network()}, data, which="model")
