"""Models that load in a way of their own get what their load_state_dict makes of a file, and still all or nothing."""

from __future__ import annotations

import copy
import io
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import rehydrate as rh
from rehydrate.errors import MismatchError
from rehydrate.rules import Prefix


def saved(obj: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(obj, buffer)
    return buffer.getvalue()


class Renamed(nn.Module):
    """As torchvision does it: a layout of version 2 that reads version 1."""

    _version = 2

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 3)
        self.second = nn.Linear(3, 2)

    def _load_from_state_dict(self, state: Any, prefix: str, metadata: Any, *rest: Any) -> None:
        version = metadata.get("version", None)
        if version is None or version < 2:
            for old, new in (("mlp_0", "first"), ("mlp_1", "second")):
                for leaf in ("weight", "bias"):
                    if f"{prefix}{old}.{leaf}" in state:
                        state[f"{prefix}{new}.{leaf}"] = state.pop(f"{prefix}{old}.{leaf}")
        super()._load_from_state_dict(state, prefix, metadata, *rest)


class Fused(nn.Module):
    """Makes one weight of two when it loads, by a hook."""

    def __init__(self) -> None:
        super().__init__()
        self.qk = nn.Parameter(torch.zeros(4, 2))
        self._register_load_state_dict_pre_hook(self.fuse)

    @staticmethod
    def fuse(state: dict[str, Any], prefix: str, *rest: Any) -> None:
        if prefix + "q" in state:
            state[prefix + "qk"] = torch.cat([state.pop(prefix + "q"), state.pop(prefix + "k")])


class Counted(nn.Module):
    """Keeps something beside its tensors."""

    def __init__(self, seen: int = 0) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 2)
        self.seen = seen

    def get_extra_state(self) -> dict[str, int]:
        return {"seen": self.seen}

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.seen = state["seen"]


class CountedByTensor(Counted):
    def get_extra_state(self) -> Any:
        return torch.tensor(self.seen)

    def set_extra_state(self, state: Any) -> None:
        self.seen = int(state)


class Forgiving(nn.Module):
    """Misses nothing: a hook empties the list of what is missing."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(2, 2)
        self.b = nn.Linear(2, 2)
        self.register_load_state_dict_post_hook(lambda module, keys: keys.missing_keys.clear())


class Bare(nn.Module):
    """Says what it saves, in a way that knows no arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(2, 2)

    def state_dict(self) -> Any:  # type: ignore[override]
        return {"net": self.net.state_dict()}

    def load_state_dict(self, state: Any) -> Any:  # type: ignore[override]
        return self.net.load_state_dict({"weight": state["weight"], "bias": state["bias"]})


class Prefixed(nn.Module):
    """Saves and loads under other names than it has."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(2, 2)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return OrderedDict((f"saved_{name}", value) for name, value in self.net.state_dict(**kwargs).items())

    def load_state_dict(self, state: Any, *args: Any, **kwargs: Any) -> Any:
        return self.net.load_state_dict({name.removeprefix("saved_"): value for name, value in state.items()})


def old_weight_norm() -> dict[str, torch.Tensor]:
    return {"weight_g": torch.full((3, 1), 2.0), "weight_v": torch.randn(3, 2), "bias": torch.randn(3)}


def state_with(version: int | None, state: dict[str, Any]) -> Any:
    ordered = OrderedDict(state)
    ordered._metadata = OrderedDict({"": {} if version is None else {"version": version}})  # type: ignore[attr-defined]
    return ordered


def mlp() -> dict[str, torch.Tensor]:
    parts = {"mlp_0": nn.Linear(2, 3), "mlp_1": nn.Linear(3, 2)}
    return {f"{name}.{leaf}": value for name, part in parts.items() for leaf, value in part.state_dict().items()}


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any]]] = {
    "an older layout": (Renamed, lambda: state_with(1, mlp())),
    "an older layout without a version": (Renamed, lambda: dict(mlp())),
    "the present layout": (Renamed, lambda: Renamed().state_dict()),
    "two weights made one": (Fused, lambda: {"q": torch.rand(2, 2), "k": torch.rand(2, 2)}),
    "extra state": (Counted, lambda: Counted(seen=5).state_dict()),
    "extra state that is a tensor": (CountedByTensor, lambda: CountedByTensor(3).state_dict()),
    "a hook that forgives": (Forgiving, lambda: nn.ModuleDict({"a": nn.Linear(2, 2)}).state_dict()),
    "a state dict without arguments": (Bare, lambda: Bare().state_dict()["net"]),
    "names of its own": (Prefixed, lambda: Prefixed().state_dict()),
    "weight norm of the old kind": (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(2, 3)), old_weight_norm),
    "weight norm": (
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(2, 3)),
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(2, 3)).state_dict(),
    ),
    "spectral norm": (
        lambda: nn.utils.spectral_norm(nn.Linear(2, 3)),
        lambda: nn.utils.spectral_norm(nn.Linear(2, 3)).state_dict(),
    ),
    "an observer": (torch.ao.quantization.MinMaxObserver, lambda: observed().state_dict()),
}  # fmt: skip


OUTERMOST = {"names of its own", "a state dict without arguments"}
"""What torch asks of the outermost module only, so not of one that is wrapped."""


def observed() -> nn.Module:
    observer = torch.ao.quantization.MinMaxObserver()
    observer(torch.tensor([-1.0, 4.0]))
    return observer


@pytest.mark.filterwarnings("ignore:.*weight_norm", "ignore:.*torch.ao.quantization", "ignore:.*reduce_range")
@pytest.mark.parametrize(
    ("case", "wrap"),
    [
        *((case, lambda net: net) for case in CASES),
        *(
            (case, nn.DataParallel) for case in CASES if "own" not in case and "without arg" not in case
        ),  # torch asks the outermost
    ],
)
def test_a_model_is_filled_as_its_own_load_state_dict_fills_it(
    case: str, wrap: Callable[[nn.Module], nn.Module]
) -> None:
    make, state = CASES[case]
    torch.manual_seed(0)
    content = state()
    theirs, mine = (make() for _ in range(2) if torch.manual_seed(1))
    theirs.load_state_dict(copy.deepcopy(content))
    held = list(mine.parameters())
    match = rh.load_into(wrap(mine), saved(content))
    assert match
    assert "as the model's own code does it" in str(match)
    assert_same_everything(mine, theirs)
    assert all(one is other for one, other in zip(held, mine.parameters(), strict=True))


def assert_same_everything(one: nn.Module, other: nn.Module) -> None:
    for mine, theirs in zip(one.modules(), other.modules(), strict=True):
        assert vars(mine).get("seen") == vars(theirs).get("seen")
    mine_state = dict([*one.named_parameters(), *one.named_buffers()])
    theirs_state = dict([*other.named_parameters(), *other.named_buffers()])
    assert list(mine_state) == list(theirs_state)
    for name, value in theirs_state.items():
        assert torch.equal(mine_state[name], value), name


@pytest.mark.parametrize(
    ("model", "state", "words"),
    [
        (Renamed, lambda: {"mlp_0.weight": torch.ones(3, 2)}, r"3 missing[\s\S]*first\.bias"),
        (Renamed, lambda: {**mlp(), "more": torch.ones(1)}, r'Unexpected key\(s\) in state_dict: 1: "more"'),
        (Fused, lambda: {"q": torch.rand(2, 2), "k": torch.rand(3, 2)}, r"size mismatch for qk"),
        (Fused, lambda: {"q": torch.rand(2, 2), "k": torch.rand(2, 7)}, r"Sizes of tensors must match"),
        (
            Counted,
            lambda: nn.ModuleDict({"fc": nn.Linear(2, 2)}).state_dict(),
            r'Missing key\(s\)[\s\S]*"_extra_state"',
        ),
        (Counted, lambda: {**Counted().state_dict(), "_extra_state": [1]}, r"refused by the model"),
        (Prefixed, lambda: {"saved_weight": torch.ones(2, 2)}, r"Missing key\(s\)|refused by the model"),
    ],
)
def test_what_does_not_fit_is_told_and_changes_nothing(
    model: Callable[[], nn.Module], state: Callable[[], Any], words: str
) -> None:
    mine = model()
    before = copy.deepcopy(mine)
    with pytest.raises(rh.MismatchError, match=words):
        rh.load_into(mine, saved(state()))
    assert_same_everything(mine, before)
    assert vars(mine).keys() == vars(before).keys()


def test_code_that_fails_after_it_has_changed_the_model_leaves_no_trace() -> None:
    class Rude(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(2, 2)
            self.b = nn.Linear(2, 2)

        def load_state_dict(self, state: Any, *args: Any, **kwargs: Any) -> Any:
            self.a.weight.data.fill_(9)
            self.a.more = nn.Linear(1, 1)
            self.b = nn.Linear(5, 5)
            self.note = "new"
            raise KeyError("no such thing")

    mine = Rude()
    before = copy.deepcopy(mine)
    with pytest.raises(rh.MismatchError, match="no such thing"):
        rh.load_into(mine, saved(before.state_dict()))
    assert not hasattr(mine, "note")
    assert_same_everything(mine, before)


def test_a_strangers_object_as_extra_state_stays_inert_and_is_the_models_to_judge() -> None:
    class Strange:
        pass

    class Picky(Counted):
        def set_extra_state(self, state: Any) -> None:
            assert isinstance(state, rh.Record)
            raise ValueError(f"cannot use {state.name}")

    Strange.__qualname__ = "Strange"
    Strange.__module__ = "__main__"
    import __main__

    __main__.Strange = Strange  # type: ignore[attr-defined]
    try:
        data = saved({**Counted().state_dict(), "_extra_state": Strange()})
    finally:
        del __main__.Strange  # type: ignore[attr-defined]
    with pytest.raises(rh.MismatchError, match="cannot use Strange"):
        rh.load_into(Picky(), data)


@pytest.mark.filterwarnings("ignore:.*torch.ao.quantization", "ignore:.*quantize", "ignore:.*TypedStorage")
def test_a_quantised_model_takes_its_packed_weights() -> None:
    def quantised(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        float_model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        return torch.ao.quantization.quantize_dynamic(float_model, {nn.Linear}, dtype=torch.qint8)

    theirs, mine = quantised(1), quantised(2)
    batch = torch.rand(5, 4)
    assert not torch.equal(mine(batch), theirs(batch))
    rh.load_into(mine, saved(theirs.state_dict()))
    assert torch.equal(mine(batch), theirs(batch))
    with pytest.raises(rh.MismatchError):
        rh.load_into(mine, saved(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).state_dict()))
    assert torch.equal(mine(batch), theirs(batch))


def test_a_model_of_ones_own_way_on_the_meta_device_becomes_real() -> None:
    with torch.device("meta"):
        mine = Renamed()
    state = mlp()
    rh.load_into(mine, saved(state))
    assert torch.equal(mine.first.weight, state["mlp_0.weight"])


class Hooked(nn.Module):
    """Reads the names that its classifier had before."""

    def __init__(self, classes: int = 3, *, has_ids: bool = False) -> None:
        super().__init__()
        self.body = nn.Linear(9, 8)
        self.fc = nn.Linear(8, classes)
        if has_ids:
            self.register_buffer("position_ids", torch.arange(4))
        self.register_load_state_dict_pre_hook(self.rename)

    @staticmethod
    def rename(module: nn.Module, state: Any, prefix: str, *rest: Any) -> None:
        for name in [name for name in state if name.startswith(f"{prefix}old.")]:
            state[f"{prefix}fc.{name.removeprefix(prefix + 'old.')}"] = state.pop(name)


def hooked() -> dict[str, torch.Tensor]:
    return {name: torch.rand(value.shape) for name, value in Hooked().state_dict().items()}


def test_it_is_said_beforehand_that_the_models_code_has_the_last_word() -> None:
    match = rh.match(saved(hooked()), Hooked())
    assert "the model loads by code of its own, which has the last word (Hooked.load_state_dict)" in match.told


@pytest.mark.parametrize("how", ["keep", "pad", "slice"])
def test_what_was_allowed_is_told_once_and_as_it_was_found(how: Any) -> None:
    wanted = 2 if how == "slice" else 5
    state, allow = {**hooked(), "zz": torch.ones(3)}, rh.Allow(mismatched="fc.*", unexpected="zz", how=how)
    foreseen = rh.match(saved(state), Hooked(wanted), allow=allow)
    match = rh.load_into(Hooked(wanted), saved(state), allow=allow)
    assert match
    assert match.to_dict() | {"told": 0} == foreseen.to_dict() | {"told": 0}
    assert match.used == foreseen.used


def test_a_layer_begins_anew_in_a_model_of_its_own_way_too() -> None:
    model = Hooked(5)
    before = model.fc.weight.detach().clone()
    data = saved(hooked())
    torch.manual_seed(3)
    match = rh.load_into(model, data, allow=rh.Allow(mismatched="fc.*", how="reinit"))
    assert "of another size, 2 tensors: to be initialised anew" in match.told
    torch.manual_seed(3)
    assert torch.equal(model.fc.weight, nn.Linear(8, 5).weight)
    assert not torch.equal(model.fc.weight, before)


def test_a_layer_that_began_anew_is_put_back_if_the_load_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Hooked(5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    monkeypatch.setattr("rehydrate.placing.own_way._write", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        rh.load_into(model, saved(hooked()), allow=rh.Allow(mismatched="fc.*", how="reinit"))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_part_of_a_tensor_is_filled_on_the_meta_device_too() -> None:
    with torch.device("meta"):
        model = Hooked(5)
    state = hooked()
    match = rh.load_into(model, saved(state), allow=rh.Allow(mismatched="fc.*", how="pad"))
    assert match.coverage < 1
    assert torch.equal(model.fc.weight[:3], state["fc.weight"])
    assert not model.fc.weight[3:].any()


def test_the_names_that_more_comes_of_are_taken_and_not_the_first_that_are_forgiven() -> None:
    class Normed(Hooked):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(8)

    state = {
        name.replace("norm.weight", "norm.gamma"): torch.rand(v.shape) for name, v in Normed().state_dict().items()
    }
    model = Normed()
    match = rh.load_into(model, saved(state), allow=rh.Allow("*", "*", "*"))
    assert not match.kept
    assert torch.equal(model.norm.weight, state["norm.gamma"])


def test_buffers_that_a_constructor_computes_come_and_go() -> None:
    ids = {"position_ids": torch.arange(4)}
    assert [one.name for one in rh.load_into(Hooked(), saved({**hooked(), **ids})).ignored] == ["position_ids"]
    assert [one.name for one in rh.load_into(Hooked(has_ids=True), saved(hooked())).computed] == ["position_ids"]


def test_a_tied_tensor_needs_one_of_its_names() -> None:
    class Tied(Hooked):
        def __init__(self) -> None:
            super().__init__()
            self.again = nn.Linear(9, 8)
            self.again.weight = self.body.weight

    state = {name: torch.rand(value.shape) for name, value in Tied().state_dict().items() if name != "again.weight"}
    match = rh.load_into(Tied(), saved(state))
    assert "1 tensor filled under another name: again.weight is body.weight" in match.told


class Turned(nn.Module):
    """Its first layout had the matrix the other way round, which no shape tells."""

    _version = 2

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 4))

    def _load_from_state_dict(self, state: Any, prefix: str, metadata: Any, *rest: Any) -> None:
        if metadata.get("version", 1) < 2 and f"{prefix}weight" in state:
            state[f"{prefix}weight"] = state[f"{prefix}weight"].t()
        super()._load_from_state_dict(state, prefix, metadata, *rest)


@pytest.mark.parametrize("rules", [(), Prefix(remove="backbone.")])
def test_the_versions_of_layouts_are_found_behind_a_prefix(rules: Any) -> None:
    whole = nn.ModuleDict({"backbone": nn.Sequential(Turned())})
    nn.init.normal_(whole["backbone"][0].weight)  # type: ignore[index]
    model = nn.Sequential(Turned())
    rh.load_into(model, saved(whole.state_dict()), rules=rules)
    assert torch.equal(model[0].weight, whole["backbone"][0].weight)  # type: ignore[index,arg-type]


@pytest.mark.parametrize("rules", [(), Prefix(remove="backbone.")])
def test_extra_state_is_found_behind_a_prefix(rules: Any) -> None:
    class Noted(nn.Linear):
        note = 0

        def get_extra_state(self) -> Any:
            return {"note": self.note}

        def set_extra_state(self, state: Any) -> None:
            self.note = state["note"]

    inner = Noted(3, 3)
    inner.note = 7
    model = nn.Sequential(Noted(3, 3))
    rh.load_into(model, saved(nn.ModuleDict({"backbone": nn.Sequential(inner)}).state_dict()), rules=rules)
    assert model[0].note == 7


def test_a_sparse_tensor_for_a_dense_one_is_refused_in_our_words() -> None:
    model = nn.Linear(3, 3)
    state = {"weight": torch.eye(3).to_sparse(), "bias": torch.ones(3)}
    with pytest.raises(MismatchError, match=r"weight is torch.sparse_coo in the file, and torch.strided in the model"):
        rh.load_into(model, saved(state))
