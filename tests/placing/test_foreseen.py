"""What rh.match says, a load then does: also what it refuses although names and shapes fit."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import nn

import rehydrate as rh
from rehydrate.errors import MismatchError, RebuildError


def saved(obj: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(obj, buffer)
    return buffer.getvalue()


def network(classes: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Linear(9, 8), nn.Linear(8, classes))


class NoReset(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.rest = nn.Linear(9, 9)
        self.own = nn.Parameter(torch.zeros(width))


def on_meta(classes: int = 3) -> nn.Module:
    with torch.device("meta"):
        return network(classes)


REFUSED: dict[str, tuple[Any, nn.Module, dict[str, Any], type[Exception], str]] = {
    "complex numbers": (
        {name: value.to(torch.complex64) for name, value in network().state_dict().items()}, network(), {},
        MismatchError, "0.weight holds complex64 values, and the model's float32 cannot"),
    "a head that stays on meta": (
        network(3).state_dict(), on_meta(2), {"allow": rh.Allow(mismatched="1.*")}, RebuildError,
        "the checkpoint does not hold 2 parameters of it"),
    "a head that is missing on meta": (
        {name: value for name, value in network(3).state_dict().items() if name[0] == "0"}, on_meta(2),
        {"allow": rh.Allow(missing="1.*")}, RebuildError, "the checkpoint does not hold 2 parameters of it"),
    "a layer that cannot begin anew": (
        NoReset(4).state_dict(), NoReset(5), {"allow": rh.Allow(mismatched="own", how="reinit")}, RebuildError,
        "1 module cannot be initialised anew"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_match_is_false_where_a_load_would_refuse(case: str) -> None:
    file, model, options, error, says = REFUSED[case]
    match = rh.match(saved(file), model, **options)
    assert not match
    assert says in str(match)
    with pytest.raises(error, match=says):
        rh.load_into(model, saved(file), **options)


def test_complex_numbers_stay_complex_when_floating_ones_become_a_dtype() -> None:
    model = nn.ModuleDict({"a": nn.Linear(3, 3, dtype=torch.complex64), "b": nn.Linear(3, 3)})
    state = {name: torch.rand(value.shape, dtype=value.dtype) for name, value in model.state_dict().items()}
    rh.load_into(model, saved(state), dtype=torch.bfloat16)
    for name, value in model.state_dict().items():
        wanted = state[name] if name.startswith("a") else state[name].bfloat16()
        assert value.dtype == wanted.dtype
        assert torch.equal(value, wanted)


def test_the_rest_of_a_tensor_that_had_no_memory_is_told_to_be_zeros() -> None:
    model = on_meta(5)
    match = rh.load_into(model, saved(network(3).state_dict()), allow=rh.Allow(mismatched="1.*", how="pad"))
    assert "zeros where the file has nothing, the model being on the meta device: 1.weight, 1.bias" in match.told
    assert not model[1].weight[3:].any()  # type: ignore[index]


class Tied(nn.Module):
    def __init__(self, words: int = 7) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, 4)
        self.head = nn.Linear(4, words, bias=False)
        self.head.weight = self.embed.weight


@pytest.mark.parametrize("how", ["keep", "pad", "reinit"])
def test_a_tied_tensor_of_another_size_is_settled_under_all_of_its_names(how: Any) -> None:
    allow = rh.Allow(mismatched="embed.weight", how=how, coverage=0)
    match = rh.load_into(Tied(9), saved({"embed.weight": torch.ones(7, 4)}), allow=allow)
    word = "filled" if how == "pad" else "filled or kept"
    assert f"1 tensor {word} under another name: head.weight is embed.weight" in match.told


def test_two_tensors_of_a_file_for_one_of_the_model_are_told() -> None:
    model, state = Tied(), {"embed.weight": torch.ones(7, 4), "head.weight": torch.zeros(7, 4)}
    match = rh.load_into(model, saved(state))
    told = "one tensor in the model and two in the file, of which the later is taken: embed.weight and head.weight"
    assert told in match.told
    assert torch.equal(model.embed.weight, torch.zeros(7, 4))
    assert told not in rh.load_into(model, saved(model.state_dict())).told


def test_a_counter_that_a_younger_layout_should_have_is_missed_behind_a_prefix_too() -> None:
    state = nn.ModuleDict({"backbone": nn.Sequential(nn.BatchNorm1d(3))}).state_dict()
    del state["backbone.0.num_batches_tracked"]
    with pytest.raises(MismatchError, match="1 missing"):
        rh.load_into(nn.Sequential(nn.BatchNorm1d(3)), saved(state))


def test_what_several_objects_were_forgiven_is_in_their_one_match() -> None:
    allow = rh.Allow(mismatched="1.*", missing="zz")
    match = rh.load_into({"model": network(2)}, saved({"model": network(3).state_dict(), "epoch": 3}), allow=allow)
    assert [target.name for target in match.kept] == ["model.1.weight", "model.1.bias"]
    assert match.coverage < 1
    assert "model: Allow(missing=['zz']) forgave nothing" in match.allowed
    assert str(match).endswith("2 tensors of the model kept, 2 tensors of the file left aside")
