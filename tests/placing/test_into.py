"""load_into: what torch's load_state_dict would do with the same values, without the ceremony."""

from __future__ import annotations

import io
import itertools
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import rehydrate as rh


def saved(obj: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(obj, buffer)
    return buffer.getvalue()


class Net(nn.Module):
    """Layers of every kind that has something to load, ties and shared layers among them."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3))
        self.again = self.block
        self.layers = nn.ModuleList([nn.Linear(2, 2), nn.ModuleDict({"in": nn.Linear(2, 3, bias=False)})])
        self.list = nn.ParameterList([nn.Parameter(torch.rand(2)), nn.Parameter(torch.rand(3))])
        self.dict = nn.ParameterDict({"k": nn.Parameter(torch.rand(2))})
        self.embedding = nn.Embedding(4, 3)
        self.head = nn.Linear(3, 4, bias=False)
        self.head.weight = self.embedding.weight
        self.rnn = nn.LSTM(3, 4, num_layers=2, bidirectional=True)
        self.attention = nn.MultiheadAttention(4, 2)
        self.register_parameter("none", None)
        self.register_buffer("nothing", None)
        self.register_buffer("scratch", torch.rand(2), persistent=False)
        self.register_buffer("steps", torch.tensor(7))
        self.frozen = nn.Parameter(torch.rand(2, dtype=torch.float64), requires_grad=False)
        self.scalar = nn.Parameter(torch.rand(()))
        self.empty = nn.Parameter(torch.empty(0, 3))


def fresh(seed: int) -> Net:
    torch.manual_seed(seed)
    return Net()


def assert_same_state(one: nn.Module, other: nn.Module) -> None:
    mine, theirs = one.state_dict(), other.state_dict()
    assert list(mine) == list(theirs)
    for name in theirs:
        assert torch.equal(mine[name], theirs[name]), name


CONTAINERS: dict[str, Callable[[nn.Module], Any]] = {
    "bare": lambda net: net.state_dict(),
    "plain dict": lambda net: dict(net.state_dict()),
    "state_dict": lambda net: {"epoch": 3, "state_dict": net.state_dict(), "best": 0.5},
    "model_state_dict": lambda net: {"model_state_dict": net.state_dict(), "optimizer": optimizer_state(net)},
    "model": lambda net: {"model": net.state_dict(), "args": {"lr": 0.1}},
    "deep": lambda net: {"a": {"b": [net.state_dict(), 1]}},
    "DataParallel": lambda net: nn.DataParallel(net).state_dict(),
    "DataParallel in a container": lambda net: {"state_dict": nn.DataParallel(net).state_dict()},
    "with a counter inside": lambda net: OrderedDict(net.state_dict(), epoch=3),
    "whole": lambda net: net,
    "whole in a container": lambda net: {"net": net, "epoch": 3},
    "whole DataParallel": lambda net: nn.DataParallel(net),
}


def optimizer_state(net: nn.Module) -> dict[str, Any]:
    optimizer = torch.optim.Adam(net.parameters())
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return optimizer.state_dict()


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("wrap", [lambda net: net, nn.DataParallel], ids=["plain", "DataParallel"])
def test_a_model_is_filled_from_wherever_its_tensors_lie(container: str, wrap: Callable[[Net], nn.Module]) -> None:
    theirs = fresh(1)
    data = saved(CONTAINERS[container](theirs))
    mine = fresh(2)
    mine.scratch.fill_(5)
    match = rh.load_into(wrap(mine), data)
    assert match
    assert match.coverage == 1.0
    assert_same_state(mine, theirs)
    assert mine.scratch.tolist() == [5, 5]
    assert mine.head.weight is mine.embedding.weight
    assert mine.again is mine.block


def test_the_match_says_what_was_taken_off_and_left_aside() -> None:
    state = OrderedDict(nn.DataParallel(fresh(1)).state_dict(), epoch=3)
    text = str(rh.load_into(fresh(2), saved({"model": state})))
    assert "taken from 'model'" in text
    assert "'module.' (DataParallel) taken off" in text
    assert "left aside, being no tensors: epoch" in text


def test_an_optimizer_made_before_still_holds_the_parameters() -> None:
    model = fresh(2)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    pointers = [(parameter, parameter.data_ptr()) for parameter in model.parameters()]
    rh.load_into(model, saved(fresh(1).state_dict()))
    assert [(parameter, parameter.data_ptr()) for parameter in model.parameters()] == pointers
    before = model.layers[0].weight.clone()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert torch.equal(model.layers[0].weight, before - 1)


def test_requires_grad_training_mode_and_gradients_are_left_alone() -> None:
    model = fresh(2).train()
    model.frozen.requires_grad_(False)
    model.scalar.grad = torch.tensor(3.0)
    rh.load_into(model, saved(fresh(1).eval().state_dict()))
    assert model.training
    assert not model.frozen.requires_grad
    assert model.scalar.requires_grad
    assert model.scalar.grad == 3


DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize(
    ("here", "there"), list(itertools.product(DTYPES, [*DTYPES, torch.float8_e4m3fn, torch.int32]))
)
def test_values_are_cast_to_the_models_dtype_as_torch_casts_them(here: torch.dtype, there: torch.dtype) -> None:
    state = {name: (10 * value).to(there) for name, value in nn.Linear(3, 2).state_dict().items()}
    mine, theirs = nn.Linear(3, 2).to(here), nn.Linear(3, 2).to(here)
    match = rh.load_into(mine, saved(state))
    theirs.load_state_dict(state)
    assert mine.weight.dtype is here
    assert_same_state(mine, theirs)
    assert ("cast" in str(match)) == (here is not there)


def test_parameters_of_several_dtypes_keep_each_its_own() -> None:
    model = nn.Sequential(nn.Linear(2, 2).half(), nn.BatchNorm1d(2), nn.Linear(2, 2).double())
    rh.load_into(model, saved(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2)).state_dict()))
    assert [parameter.dtype for parameter in model.parameters()] == [torch.half] * 2 + [torch.float] * 2 + [
        torch.double
    ] * 2


@pytest.mark.parametrize(
    "value", [torch.ones(2, dtype=torch.complex64), torch.ones(2).view(torch.uint8).view(torch.bits8)]
)
def test_values_that_would_stop_being_what_they_are_do_not_fit(value: torch.Tensor) -> None:
    model = nn.ParameterDict({"w": nn.Parameter(torch.zeros(value.shape))})
    with pytest.raises(rh.MismatchError, match="w holds"):
        rh.load_into(model, saved({"w": value}))
    assert model["w"].sum() == 0


def test_a_complex_model_takes_real_values_and_strides_do_not_matter() -> None:
    model = nn.ParameterDict({"w": nn.Parameter(torch.zeros(2, 3, dtype=torch.complex64))})
    value = torch.arange(6.0).view(3, 2).t()
    rh.load_into(model, saved({"w": value}))
    assert torch.equal(model["w"].real, value)


def test_conjugated_and_negated_views_are_loaded_as_what_they_show() -> None:
    value = torch.tensor([1 + 2j, 3 - 1j]).conj()
    model = nn.ParameterDict(
        {"w": nn.Parameter(torch.zeros(2, dtype=torch.complex64)), "n": nn.Parameter(torch.zeros(2))}
    )
    rh.load_into(model, saved({"w": value, "n": torch._neg_view(torch.ones(2))}))
    assert model["w"].tolist() == [1 - 2j, 3 + 1j]
    assert model["n"].tolist() == [-1, -1]


def test_expanded_and_shared_tensors_of_a_file_are_written_out() -> None:
    whole = torch.arange(12.0)
    model = nn.ParameterDict({name: nn.Parameter(torch.zeros(3, 4)) for name in "ab"})
    rh.load_into(model, saved({"a": whole.view(3, 4), "b": whole[:4].expand(3, 4)}))
    assert torch.equal(model["b"], whole[:4].expand(3, 4))
    model["a"].data[0, 0] = 100
    assert model["b"][0, 0] == 0


def test_a_model_on_the_meta_device_becomes_real_with_its_ties() -> None:
    theirs = fresh(1)
    del theirs.scratch
    with torch.device("meta"):
        mine = Net()
    del mine.scratch
    rh.load_into(mine, saved(theirs.state_dict()))
    assert_same_state(mine, theirs)
    assert mine.head.weight is mine.embedding.weight
    assert not mine.frozen.requires_grad
    assert {tensor.device.type for tensor in (*mine.parameters(), *mine.buffers())} == {"cpu"}
    mine.layers[0](torch.ones(1, 2)).sum().backward()


def test_a_buffer_on_the_meta_device_that_no_checkpoint_holds_is_an_error_and_changes_nothing() -> None:
    with torch.device("meta"):
        mine = Net()
    with pytest.raises(rh.RebuildError, match=r"1 buffer[\s\S]*scratch"):
        rh.load_into(mine, saved(fresh(1).state_dict()))
    assert all(tensor.is_meta for tensor in (*mine.parameters(), *mine.buffers()))


def test_a_checkpoint_without_data_is_an_error() -> None:
    with torch.device("meta"):
        state = nn.Linear(2, 2).state_dict()
    with pytest.raises(rh.RebuildError, match=r"2 tensors[\s\S]*weight, bias"):
        rh.load_into(nn.Linear(2, 2), saved(state))


@pytest.mark.parametrize("version", [None, 1, 2, "2"])
def test_counters_of_batch_norms_are_missed_exactly_where_torch_misses_them(version: Any) -> None:
    theirs = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    state = theirs.state_dict()
    del state["1.num_batches_tracked"]
    state._metadata = OrderedDict({"1": {"version": version}}) if version is not None else OrderedDict()  # type: ignore[attr-defined]
    mine = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    mine[1].num_batches_tracked.fill_(9)
    if version == 2:
        with pytest.raises(rh.MismatchError, match=r'Missing key\(s\) in state_dict: 1: "1.num_batches_tracked"'):
            rh.load_into(mine, saved(state))
    else:
        assert "1 counter (num_batches_tracked) left as they are" in str(rh.load_into(mine, saved(state)))
        assert torch.equal(mine[1].running_mean, theirs[1].running_mean)
    assert mine[1].num_batches_tracked == 9


def test_old_counters_are_forgiven_through_wrappers_and_on_the_meta_device() -> None:
    state = {name: value for name, value in nn.BatchNorm1d(2).state_dict().items() if "num_batches" not in name}
    assert rh.load_into(nn.DataParallel(nn.BatchNorm1d(2)), saved(state))
    with torch.device("meta"):
        model = nn.BatchNorm1d(2)
    rh.load_into(model, saved({f"module.{name}": value for name, value in state.items()}))
    assert model.num_batches_tracked == 0


def test_a_counter_that_is_no_batch_norms_is_missed() -> None:
    model = nn.Module()
    model.register_buffer("num_batches_tracked", torch.tensor(0))
    model.register_parameter("w", nn.Parameter(torch.ones(1)))
    with pytest.raises(rh.MismatchError, match="num_batches_tracked"):
        rh.load_into(model, saved({"w": torch.zeros(1)}))


def test_numbers_of_torch_0_3_have_a_dimension_and_fit() -> None:
    model = nn.ParameterDict({"scale": nn.Parameter(torch.tensor(0.0))})
    rh.load_into(model, saved({"scale": torch.tensor([2.5])}))
    assert model["scale"] == 2.5


def test_inference_tensors_are_filled() -> None:
    with torch.inference_mode():
        model = nn.Linear(2, 2)
    rh.load_into(model, saved({"weight": torch.ones(2, 2), "bias": torch.ones(2)}))
    assert model.weight.is_inference()
    assert model.weight.sum() == 4


def test_a_lazy_model_takes_the_shapes_of_the_checkpoint_as_with_torch() -> None:
    theirs = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Conv2d(2, 1, 3))
    mine = nn.Sequential(nn.LazyLinear(3), nn.LazyBatchNorm1d(), nn.LazyConv2d(1, 3))
    parameters = list(mine.parameters())
    assert rh.load_into(mine, saved(theirs.state_dict()))
    assert_same_state(mine, theirs)
    assert all(one is other for one, other in zip(parameters, mine.parameters(), strict=True))
    x = torch.rand(5, 4)
    assert torch.equal(mine[:1](x), theirs[:1](x))


def test_a_lazy_model_that_does_not_fit_stays_lazy() -> None:
    mine = nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 2))
    with pytest.raises(rh.MismatchError, match=r"size mismatch for 1\.weight"):
        rh.load_into(mine, saved(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 5)).state_dict()))
    assert nn.parameter.is_lazy(mine[0].weight)
    mine(torch.ones(1, 7))


def test_sparse_buffers_are_loaded_as_torch_loads_them() -> None:
    def graph(edges: torch.Tensor) -> nn.Module:
        model = nn.Linear(2, 2)
        model.register_buffer("adjacency", edges)
        return model

    theirs = graph(torch.eye(3).to_sparse())
    mine = graph(torch.zeros(3, 3).to_sparse())
    assert rh.load_into(mine, saved(theirs.state_dict()))
    assert torch.equal(mine.adjacency.to_dense(), torch.eye(3))
    assert torch.equal(mine.weight, theirs.weight)
    with pytest.raises(rh.MismatchError, match=r'Unexpected key\(s\) in state_dict: 1: "adjacency"'):
        rh.load_into(nn.Linear(2, 2), saved(theirs.state_dict()))


def test_which_names_one_of_several_models(tmp_path: Path) -> None:
    torch.save(
        {"generator": nn.Linear(2, 2).state_dict(), "discriminator": nn.Linear(2, 1).state_dict()}, tmp_path / "gan.pth"
    )
    with pytest.raises(rh.AmbiguousError, match=r"generator[\s\S]*discriminator"):
        rh.load_into(nn.Linear(2, 1), tmp_path / "gan.pth")
    assert rh.load_into(nn.Linear(2, 1), tmp_path / "gan.pth", which="discriminator")


def test_an_open_checkpoint_is_used_and_left_open() -> None:
    with rh.open(saved(nn.Linear(2, 2).state_dict())) as checkpoint:
        rh.load_into(nn.Linear(2, 2), checkpoint)
        rh.load_into(nn.Linear(2, 2), checkpoint)
        assert checkpoint["weight"].numpy().shape == (2, 2)


@pytest.mark.parametrize("what", [nn.Linear, "model", None])
def test_something_that_is_no_module_is_a_type_error(what: Any) -> None:
    with pytest.raises(TypeError, match=r"torch\.nn\.Module"):
        rh.load_into(what, saved({}))
