"""Models built to be filled end as they would have: every layer and habit of constructors, with torch as the oracle."""

from __future__ import annotations

import copy
import io
import math
import random
import resource
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils import parametrizations

import rehydrate as rh
from rehydrate.placing.fresh.fresh import build_fresh

Make = Callable[[], nn.Module]


def saved(obj: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(obj, buffer)
    return buffer.getvalue()


LAYERS: dict[str, Make] = {
    "Linear": lambda: nn.Linear(5, 3),
    "Linear without bias": lambda: nn.Linear(5, 3, bias=False),
    "Linear in double": lambda: nn.Linear(5, 3, dtype=torch.float64),
    "Linear in bfloat16": lambda: nn.Linear(64, 30, dtype=torch.bfloat16),
    "Linear in half": lambda: nn.Linear(64, 30, dtype=torch.float16),
    "Linear, complex": lambda: nn.Linear(5, 3, dtype=torch.complex64),
    "Linear of nothing": lambda: nn.Linear(4, 0, bias=False),
    "Bilinear": lambda: nn.Bilinear(3, 4, 5),
    "Embedding": lambda: nn.Embedding(40, 6),
    "Embedding with a padding": lambda: nn.Embedding(40, 6, padding_idx=3),
    "Embedding from values": lambda: nn.Embedding.from_pretrained(torch.randn(4, 3)),
    "EmbeddingBag": lambda: nn.EmbeddingBag(40, 6, padding_idx=2),
    "Conv1d": lambda: nn.Conv1d(4, 8, 3),
    "Conv2d in groups": lambda: nn.Conv2d(4, 8, 3, groups=2),
    "Conv3d": lambda: nn.Conv3d(2, 3, 3),
    "ConvTranspose2d": lambda: nn.ConvTranspose2d(4, 8, 3),
    "BatchNorm2d": lambda: nn.BatchNorm2d(6),
    "BatchNorm1d without weights": lambda: nn.BatchNorm1d(6, affine=False),
    "BatchNorm2d without statistics": lambda: nn.BatchNorm2d(6, track_running_stats=False),
    "SyncBatchNorm": lambda: nn.SyncBatchNorm(6),
    "InstanceNorm2d": lambda: nn.InstanceNorm2d(6, affine=True, track_running_stats=True),
    "GroupNorm": lambda: nn.GroupNorm(2, 6),
    "LayerNorm": lambda: nn.LayerNorm(6),
    "RMSNorm": lambda: nn.RMSNorm(6),
    "PReLU": lambda: nn.PReLU(4),
    "RNN": lambda: nn.RNN(4, 5, 2),
    "LSTM both ways": lambda: nn.LSTM(4, 5, 2, bidirectional=True, proj_size=3),
    "GRU": lambda: nn.GRU(4, 5),
    "LSTMCell": lambda: nn.LSTMCell(4, 5),
    "MultiheadAttention": lambda: nn.MultiheadAttention(8, 2),
    "MultiheadAttention of other widths": lambda: nn.MultiheadAttention(8, 2, kdim=4, vdim=6, add_bias_kv=True),
    "TransformerEncoder": lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 3, nn.LayerNorm(8)),
    "Transformer": lambda: nn.Transformer(8, 2, 2, 2, 16),
    "LazyLinear": lambda: nn.LazyLinear(3),
    "LazyBatchNorm": lambda: nn.Sequential(nn.LazyConv2d(3, 3), nn.LazyBatchNorm2d(), nn.Linear(3, 2)),
    "AdaptiveLogSoftmaxWithLoss": lambda: nn.AdaptiveLogSoftmaxWithLoss(8, 20, [4, 10]),
    "ParameterList": lambda: nn.ParameterList([nn.Parameter(torch.randn(3)), nn.Parameter(torch.rand(2))]),
    "channels last": lambda: nn.Conv2d(4, 8, 3).to(memory_format=torch.channels_last),
    "weight norm": lambda: parametrizations.weight_norm(nn.Linear(5, 3)),
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Linear(5, 3)),
    "orthogonal parametrization": lambda: parametrizations.orthogonal(nn.Linear(4, 4)),
    "weight norm as it was": lambda: _quiet(nn.utils.weight_norm, nn.Linear(5, 3)),  # type: ignore[attr-defined]
    "spectral norm as it was": lambda: nn.utils.spectral_norm(nn.Linear(5, 3)),  # type: ignore[attr-defined]
    "pruned": lambda: __import__("torch.nn.utils.prune", fromlist=["x"]).random_unstructured(
        nn.Linear(5, 3), "weight", 0.5
    ),
    "scripted": lambda: _quiet(torch.jit.script, nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))),
    "traced": lambda: _quiet(torch.jit.trace, nn.Linear(3, 2).eval(), torch.ones(1, 3)),
    "compiled": lambda: torch.compile(nn.Linear(3, 2)),  # type: ignore[return-value]
    "quantised": lambda: _quiet(torch.ao.nn.quantized.Quantize, 0.5, 3, torch.qint8),
    "quantised while it ran": lambda: _quiet(
        torch.ao.quantization.quantize_dynamic, nn.Sequential(nn.Linear(4, 4)), {nn.Linear}
    ),
    "symbolic": lambda: torch.fx.symbolic_trace(nn.Sequential(nn.Linear(3, 2), nn.ReLU())),
    "averaged": lambda: torch.optim.swa_utils.AveragedModel(nn.Linear(3, 2)),
    "on meta": lambda: nn.Linear(3, 2, device="meta"),
    "in half": lambda: nn.Sequential(nn.Linear(30, 20), nn.BatchNorm1d(20)).half(),
    "in bfloat16 and back": lambda: nn.Sequential(nn.Linear(30, 20)).bfloat16().float(),
    "in two widths": lambda: nn.Sequential(nn.Linear(30, 20).double(), nn.Linear(3, 3)),
    "in evaluation": lambda: nn.Sequential(nn.Linear(3, 2), nn.Dropout()).eval(),
    "frozen": lambda: nn.Linear(3, 2).requires_grad_(False),
}


def _quiet(function: Callable[..., Any], *args: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args)


INITS = {
    "uniform_": (-2, 3), "normal_": (1, 0.3), "trunc_normal_": (0, 0.02), "constant_": (0.3,), "ones_": (),
    "zeros_": (), "eye_": (), "xavier_uniform_": (), "xavier_normal_": (), "kaiming_uniform_": (),
    "kaiming_normal_": (), "orthogonal_": (1.2,), "sparse_": (0.3,),
}  # fmt: skip


def initialised(name: str) -> Make:
    def make() -> nn.Module:
        net = nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 3), nn.Conv2d(3, 3, 3))
        for layer in list(net)[:2]:
            getattr(nn.init, name)(layer.weight, *INITS[name])
        nn.init.dirac_(net[2].weight)  # type: ignore[arg-type]
        return net

    return make


for name in INITS:
    LAYERS[f"nn.init.{name}"] = initialised(name)


class Habit(nn.Module):
    """What somebody does in a constructor besides making parameters, given as a function of the module."""

    def __init__(self, habit: Callable[[Any], object]) -> None:
        super().__init__()
        self.first = nn.Linear(20, 30)
        self.second = nn.Linear(30, 4)
        self.kept = habit(self)
        self.last = nn.Linear(4, 3)
        self.seen_last = torch.rand(3)


def seeded(model: Any) -> object:
    torch.manual_seed(3)
    return torch.rand(4)


def seeded_as_before(model: Any) -> object:
    torch.manual_seed(11)  # as `begin` does
    return torch.rand(4)


def forked_and_drawn(model: Any) -> object:
    with torch.random.fork_rng():
        nn.init.normal_(model.first.weight)
    return torch.initial_seed()


def forked(model: Any) -> object:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return torch.randn(4)


def forked_and_not_kept(model: Any) -> object:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        nn.Linear(3, 3)
    return torch.randperm(9)


def old_trunc_normal(model: Any) -> object:
    weight = model.first.weight
    with torch.no_grad():
        weight.uniform_(-0.9, 0.9).erfinv_().mul_(0.02 * math.sqrt(2)).add_(0.1).clamp_(min=-2, max=2)
    return weight.detach()[0].clone()


def forget_gate(model: Any) -> object:
    model.first.bias.data[5:10].fill_(1.0)
    model.first.bias.data[2] = 7
    model.first.weight.data[1:3] = 0.5
    return None


def failing_first(model: Any) -> object:
    try:
        model.first.weight.data.normal_(0, -1)
    except RuntimeError as error:
        return str(error)
    raise AssertionError


def in_a_thread(model: Any) -> object:
    kept: list[float] = []
    thread = threading.Thread(target=lambda: kept.append(float(model.first.weight.sum())))
    thread.start()
    thread.join()
    with ThreadPoolExecutor(1) as pool:
        nn.init.normal_(model.second.weight)
        kept.append(pool.submit(lambda: float(model.second.weight.sum())).result())
        nn.init.normal_(model.second.weight)
        kept.append(pool.submit(lambda: float(model.second.weight.sum())).result())
    return kept


def replaced(model: Any) -> object:
    model.second = nn.Linear(30, 2)
    return torch.randn(3)


def seen_through_numpy(model: Any) -> object:
    window = model.first.weight.detach().numpy()
    nn.init.normal_(model.first.weight)
    return window.sum()


def seen_before_it_is_filled(model: Any) -> object:
    made = torch.empty(4, 4)
    window = made.numpy()
    made.normal_()
    return window.copy()


def applied(model: Any) -> object:
    def init(module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            module.weight.data.normal_(mean=0.0, std=0.02)
            module.bias.data.zero_()

    return done(model.apply(init))


def flat(model: Any) -> object:
    whole = torch.empty(12).normal_()
    model.part = nn.Parameter(whole[:5])
    return whole


def alias(model: Any) -> object:
    return model.first.weight.data


def inference(model: Any) -> object:
    with torch.inference_mode():
        return torch.empty(3).normal_()


def done(result: object) -> None:
    """What was done counts, and not what it gave."""


HABITS: dict[str, Callable[[Any], object]] = {
    "a rate": lambda m: [rate.item() for rate in torch.linspace(0, 0.3, 5)],
    "a random buffer": lambda m: m.register_buffer("noise", torch.randn(4)),
    "a random buffer that is not saved": lambda m: m.register_buffer("noise", torch.randn(4), persistent=False),
    "a buffer made in place": lambda m: m.register_buffer("noise", torch.empty(5, 4).uniform_(), persistent=False),
    "constants that are not saved": lambda m: m.register_buffer("zeros", torch.zeros(400), persistent=False),
    "constants at hand": lambda m: (torch.zeros(3), torch.ones(2), torch.zeros(3).add_(2)),
    "a permutation": lambda m: torch.randperm(12),
    "a list": lambda m: torch.randn(3).tolist(),
    "a random list of integers": lambda m: torch.randint(0, 9, (4,)).tolist(),
    "a copy of a weight": lambda m: m.first.weight.data.clone(),
    "a buffer of a weight": lambda m: m.register_buffer("w", m.first.weight.detach().clone(), persistent=False),
    "a saved buffer of a weight": lambda m: m.register_buffer("w", m.first.weight.detach().clone()),
    "a weight in numpy": lambda m: m.second.weight.detach().numpy().copy(),
    "a weight as an array": lambda m: np.array(m.second.weight.detach().tolist()),
    "a row": lambda m: m.first.weight.data[2].clone(),
    "a number": lambda m: float(m.first.weight[0, 0].detach()),
    "numbers in a tensor": lambda m: torch.tensor([m.first.bias.data[0], m.first.bias.data[1]]),
    "numbers in a tensor as it was": lambda m: torch.Tensor([m.first.bias.data[0], m.first.bias.data[1]]),
    "a norm": lambda m: m.first.weight.norm().item(),
    "a product": lambda m: (m.second.weight @ m.first.weight).detach(),
    "a text": lambda m: repr(m.first.weight),
    "pickled": lambda m: saved(m.first.state_dict()),
    "a copy of a layer": lambda m: setattr(m, "third", copy.deepcopy(m.first)),
    "copies of a layer, first gone": lambda m: setattr(m, "first", nn.ModuleList(copy.deepcopy(m.first) for _ in "12")),
    "a copy that is changed": lambda m: setattr(m, "third", copy.deepcopy(m.first).double()),
    "a copy of a tensor": lambda m: copy.deepcopy(m.first.weight.detach()),
    "a teacher that is not a part": lambda m: [copy.deepcopy(m.second)],
    "tied": lambda m: setattr(m.second, "weight", nn.Parameter(torch.randn(4, 30))) or setattr(m, "tie", m.second),
    "tied by data": lambda m: setattr(m, "again", nn.Parameter(m.first.weight.data)),
    "a weight whose name is taken": alias,
    "scaled": lambda m: setattr(m, "position", nn.Parameter(torch.randn(1, 5, 20) * 0.02)),
    "scaled in place": lambda m: done(m.first.weight.data.mul_(0.1)),
    "scaled by a tensor": lambda m: done(m.first.weight.data.mul_(torch.arange(20))),
    "old trunc_normal_": old_trunc_normal,
    "parts of a bias": forget_gate,
    "a fill that fails": failing_first,
    "a thread": in_a_thread,
    "a layer replaced": replaced,
    "seen through numpy": seen_through_numpy,
    "seen before it is filled": seen_before_it_is_filled,
    "initialised again": applied,
    "one flat parameter": flat,
    "seeded": seeded,
    "seeded as before": seeded_as_before,
    "seeded last": lambda m: setattr(m, "first", nn.Linear(3, 3)) or done(torch.manual_seed(4)),
    "forked": forked,
    "forked and drawn": forked_and_drawn,
    "forked and not kept": forked_and_not_kept,
    "a generator of its own": lambda m: done(m.first.weight.data.normal_(generator=torch.Generator().manual_seed(3))),
    "torch's generator, by name": lambda m: done(m.first.weight.data.normal_(generator=torch.default_generator)),
    "another library's numbers": lambda m: done(m.first.bias.data.copy_(torch.from_numpy(np.random.rand(30)))),
    "Python's numbers": lambda m: random.random(),
    "in inference mode": inference,
    "a forward pass": lambda m: m.second(m.first(torch.ones(2, 20))).detach(),
    "a step backward": lambda m: m.second(m.first(torch.ones(2, 20))).sum().backward(),
    "a vector of everything": lambda m: nn.utils.parameters_to_vector(m.parameters()).detach(),
    "half of it": lambda m: setattr(m, "half", copy.deepcopy(m.first).half()),
    "shared with processes": lambda m: done(m.first.share_memory()),
    "sparse": lambda m: torch.sparse_coo_tensor([[0, 1]], m.first.bias.detach()[:2], (3,)).to_dense(),
    "by a map": lambda m: m.first.bias.data.apply_(lambda x: x + 1).clone(),
    "by functional calls": lambda m: torch.func.functional_call(m.first, dict(m.first.state_dict()), torch.ones(20)),
    "by vmap": lambda m: torch.vmap(m.first)(torch.ones(3, 20)).detach(),
    "an optimizer": lambda m: torch.optim.Adam(m.parameters()).state_dict(),
    "by swapping": lambda m: torch.utils.swap_tensors(m.first.weight, nn.Parameter(torch.randn(30, 20))),
}  # fmt: skip


def habitual(habit: Callable[[Any], object]) -> Make:
    return lambda: Habit(habit)


ZOO = LAYERS | {f"keeps {name}": habitual(habit) for name, habit in HABITS.items()}
IGNORED = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:.*enable_nested_tensor.*", "ignore:.*Lazy modules.*",
    "ignore:.*enable_nested.*", "ignore:.*Converting a tensor.*", "ignore:.*TypedStorage.*", "ignore:.*sparse.*",
    "ignore:.*__array__.*", "ignore:.*must be deterministic.*", "ignore:.*zero-element.*", "ignore:.*complex.*",
    "ignore:.*lazy.*",
)  # fmt: skip


def bits(value: Any, seen: dict[int, Any] | None = None) -> Any:
    """Anything that a module holds, so that two of them are equal where every bit is."""
    seen = {} if seen is None else seen
    if id(value) in seen:
        return "seen before", seen[id(value)]
    if isinstance(value, (torch.Tensor, nn.Module)):
        seen[id(value)] = len(seen)
    if isinstance(value, torch.Tensor):
        facts = (value.dtype, value.requires_grad, str(value.device))
        if nn.parameter.is_lazy(value) or value.is_meta:
            return type(value), facts
        if value.is_quantized:
            return facts, value.int_repr().tolist()
        whole = value.detach().contiguous().view(-1)
        return type(value), facts, tuple(value.shape), value.stride(), bytes(whole.view(torch.uint8).tolist())
    if isinstance(value, nn.Module):
        state = {} if isinstance(value, LazyModuleMixin) else dict(value.state_dict(keep_vars=True))
        numbered = ("hooks", "wrapper_id")
        inside = {name: thing for name, thing in vars(value).items() if not any(word in name for word in numbered)}
        return type(value).__name__, bits(state, seen), bits(inside, seen), bits(dict(value.named_children()), seen)
    if isinstance(value, dict):
        return {repr(key): bits(item, seen) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [bits(item, seen) for item in value]
    if isinstance(value, np.ndarray):
        return value.tobytes()
    return value if isinstance(value, (int, float, str, bytes, bool)) else type(value)


def begin() -> None:
    torch.manual_seed(11)
    random.seed(11)
    np.random.seed(11)


@IGNORED
@pytest.mark.parametrize("name", ZOO)
def test_what_was_put_off_and_done_in_the_end_is_what_torch_does(name: str) -> None:
    begin()
    theirs = ZOO[name]()
    begin()
    fresh = build_fresh(ZOO[name])
    fresh.fill_all()
    assert bits(fresh.made) == bits(theirs)


@IGNORED
@pytest.mark.parametrize("name", ZOO)
def test_a_model_that_is_loaded_fresh_is_one_that_was_built_and_loaded(name: str) -> None:
    begin()
    file = saved(_other_values(ZOO[name]()))
    begin()
    theirs = ZOO[name]()
    if any(parameter.is_meta for parameter in theirs.parameters()) or name == "compiled":
        pytest.skip("is not filled in place")
    rh.load_into(theirs, file)
    theirs.eval()
    begin()
    mine = rh.load_model(file, ZOO[name])
    assert bits(mine) == bits(theirs)


def _other_values(model: nn.Module) -> dict[str, Any]:
    """A state with other values than those that it has."""
    state = model.state_dict()
    for value in state.values():
        if isinstance(value, torch.Tensor) and value.dtype.is_floating_point and not nn.parameter.is_lazy(value):
            with torch.no_grad():
                value.uniform_(-3, 3)
    for name, value in state.items():
        if isinstance(value, torch.Tensor) and nn.parameter.is_lazy(value):
            state[name] = torch.ones(3)
    return state


def resident() -> int:
    """Bytes of memory that this process has touched and holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system does not say how much memory is touched")
@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(*(nn.Linear(2048, 2048) for _ in range(8))),
        lambda: nn.Sequential(*(initialised_big("trunc_normal_") for _ in range(8))),
        lambda: nn.Sequential(*(initialised_big("orthogonal_") for _ in range(8))),
        lambda: nn.Sequential(nn.Embedding(30000, 1024, padding_idx=0), nn.Conv2d(512, 512, 3), nn.LSTM(512, 512)),
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(1024, 8, 2048, batch_first=True), 4),
        lambda: nn.Sequential(nn.Linear(4096, 4096), nn.Linear(4096, 4096)).bfloat16(),
        lambda: nn.ParameterList(nn.Parameter(maker(4096, 1024)) for maker in (torch.zeros, torch.randn, torch.ones)),
    ],
    ids=["linear", "trunc_normal_", "orthogonal_", "several", "copies", "cast", "parameters"],
)
def test_memory_that_a_file_will_fill_is_not_touched_before(make: Make) -> None:
    build_fresh(lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 8, batch_first=True), 2))
    before = resident()
    fresh = build_fresh(make)
    assert isinstance(fresh.made, nn.Module)
    nbytes = sum(parameter.nbytes for parameter in fresh.made.parameters())
    assert nbytes > 40 << 20
    assert resident() - before < nbytes / 8
    assert len(fresh.unfilled) > len(list(fresh.made.parameters())) / 2


def initialised_big(name: str) -> nn.Module:
    layer = nn.Linear(2048, 2048)
    getattr(nn.init, name)(layer.weight)
    return layer


def test_nothing_is_drawn_that_a_file_replaces() -> None:
    file = saved(nn.Linear(20, 30).state_dict())
    torch.manual_seed(5)
    rh.load_model(file, nn.Linear, args=(20, 30))
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))


def test_all_is_drawn_as_always_where_some_of_it_stays() -> None:
    file = saved(Habit(lambda m: None).state_dict())
    torch.manual_seed(5)
    mine = rh.load_model(file, lambda: Habit(lambda m: None))
    drawn = torch.rand(3)
    torch.manual_seed(5)
    theirs = Habit(lambda m: None)
    assert torch.equal(mine.seen_last, theirs.seen_last)
    assert torch.equal(drawn, torch.rand(3))


def test_a_part_that_no_file_fills_is_what_the_constructor_makes_it() -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(20, 30), nn.Linear(30, 40), nn.Linear(40, 5))

    torch.manual_seed(7)
    theirs = make()
    torch.manual_seed(7)
    fresh = build_fresh(make)
    model: Any = fresh.made
    assert id(model[2].weight) in fresh.unfilled
    fresh.fill([model[2].weight])
    assert torch.equal(model[2].weight, theirs[2].weight)  # type: ignore[arg-type]


def test_tensors_are_fresh_where_nobody_else_looks_at_their_memory() -> None:
    kept: list[Any] = []

    def make() -> nn.Module:
        net = nn.Sequential(*(nn.Linear(3, 3, bias=False) for _ in range(6)), nn.BatchNorm1d(3))
        kept.append(net[1].weight.data)  # type: ignore[union-attr,operator]
        kept.append(net[2].weight.detach()[0])  # type: ignore[union-attr,operator]
        kept.append(net[3].weight.data_ptr())  # type: ignore[union-attr,operator]
        net[4].again = nn.Parameter(net[4].weight.data)  # type: ignore[union-attr,operator]
        net[5].weight = nn.Parameter(torch.arange(9.0).view(3, 3))
        net.tied = net[0].weight  # type: ignore[assignment]
        return net

    fresh = build_fresh(make)
    model: Any = fresh.made
    names = {name for name, tensor in model.state_dict(keep_vars=True).items() if id(tensor) in fresh.ids}
    assert names == {"0.weight", "tied", "6.weight", "6.bias", "6.running_mean", "6.running_var"}


def test_a_window_that_somebody_kept_sees_what_is_loaded() -> None:
    class Windowed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 4))
            self.window = self.weight.data[1]

    file = saved(Windowed().state_dict())
    mine = rh.load_model(file, Windowed)
    assert torch.equal(mine.window, mine.weight[1])  # type: ignore[arg-type,index,operator]


def test_a_model_that_somebody_else_has_is_whole_although_it_could_not_be_loaded() -> None:
    shelf: dict[str, nn.Module] = {}

    def shelved() -> nn.Module:
        return shelf.setdefault("net", nn.Linear(20, 30))

    file = saved(nn.Linear(2, 3).state_dict())
    torch.manual_seed(3)
    theirs = nn.Linear(20, 30)
    torch.manual_seed(3)
    with pytest.raises(rh.MismatchError):
        rh.load_model(file, shelved)
    assert torch.equal(shelf["net"].weight, theirs.weight)  # type: ignore[arg-type]
    assert torch.equal(shelf["net"].bias, theirs.bias)  # type: ignore[arg-type]


def test_a_constructor_that_fails_is_called_again_unwatched_and_then_its_error_is_the_callers() -> None:
    calls: list[int] = []

    def broken() -> nn.Module:
        nn.Linear(3, 3)
        calls.append(1)
        raise LookupError(f"call {len(calls)}")

    with pytest.raises(LookupError, match="call 2"):
        build_fresh(broken)

    def moody() -> nn.Module:
        if torch._C._len_torch_dispatch_stack():
            raise LookupError("somebody is watching")
        return nn.Linear(3, 3)

    torch.manual_seed(3)
    theirs = nn.Linear(3, 3)
    torch.manual_seed(3)
    mine = build_fresh(moody)
    assert not mine.unfilled
    assert bits(mine.made) == bits(theirs)


def test_somebody_who_stops_a_constructor_is_obeyed_at_once() -> None:
    calls: list[int] = []

    def stopped() -> nn.Module:
        calls.append(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_fresh(stopped)
    assert calls == [1]
    assert build_fresh(lambda: nn.Linear(2, 2)).unfilled, "nothing is left behind"


def test_what_torch_has_is_what_it_was_afterwards() -> None:
    before = nn.init.trunc_normal_, nn.init.orthogonal_, threading.Thread.start, dict(vars(nn.init))
    build_fresh(lambda: nn.Linear(2, 2))
    assert before == (nn.init.trunc_normal_, nn.init.orthogonal_, threading.Thread.start, dict(vars(nn.init)))


def test_several_threads_may_build_at_once() -> None:
    file = saved(nn.Linear(60, 60).state_dict())

    def load(at: int) -> torch.Tensor:
        return rh.load_model(file, lambda: initialised_small("trunc_normal_")).weight  # type: ignore[return-value]

    with ThreadPoolExecutor(8) as pool:
        loaded = list(pool.map(load, range(40)))
    assert all(torch.equal(weight, loaded[0]) for weight in loaded)
    assert nn.init.orthogonal_.__module__ == "torch.nn.init"


def initialised_small(name: str) -> nn.Module:
    layer = nn.Linear(60, 60)
    getattr(nn.init, name)(layer.weight)
    return layer


def test_a_model_that_is_loaded_inside_a_constructor_is_loaded() -> None:
    file = saved(nn.Linear(2, 2).state_dict())
    wanted = rh.load_model(file, nn.Linear, args=(2, 2))
    outer = build_fresh(lambda: nn.Sequential(nn.Linear(2, 2), rh.load_model(file, nn.Linear, args=(2, 2))))
    outer.fill_all()
    assert torch.equal(outer.made[1].weight, wanted.weight)  # type: ignore[index]


def test_torchs_compiler_is_not_imported_to_build_a_model() -> None:
    program = (
        "import sys, io, torch, rehydrate as rh\n"
        "file = io.BytesIO(); torch.save(torch.nn.Linear(3, 2).state_dict(), file)\n"
        "rh.load_model(file, torch.nn.Linear, args=(3, 2))\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
