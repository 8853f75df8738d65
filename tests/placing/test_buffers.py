"""Buffers that no checkpoint holds, of models on the meta device: really initialised, or named in an error."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import rehydrate as rh
from rehydrate.placing.fresh.buffers import initialise_buffers


class Rotary(nn.Module):
    """Frequencies, set in place or anew by a method of some name."""

    def __init__(self, width: int = 8, base: float = 500.0) -> None:
        super().__init__()
        self.width, self.base = width, base
        self.register_buffer("frequencies", torch.empty(width // 2), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        self.frequencies = 1.0 / self.base ** (torch.arange(0, self.width, 2).float() / self.width)


class Masked(nn.Module):
    """A linear layer with a mask of booleans and ids of integers, written in place."""

    def __init__(self, length: int = 5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(length, length))
        self.register_buffer("mask", torch.empty(length, length, dtype=torch.bool), persistent=False)
        self.register_buffer("ids", torch.empty(length, dtype=torch.int64), persistent=False)
        self.register_buffer("steps", torch.empty((), dtype=torch.int32))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight)
        self.mask.copy_(torch.ones_like(self.mask).tril())
        self.ids.copy_(torch.arange(len(self.ids), device=self.ids.device))
        self.steps.zero_()


class Method(nn.Module):
    """A module with one buffer of four and one method that touches it."""

    def __init__(self, name: str, body: Callable[[Any], object], dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.name, self.body = name, body
        self.weight = nn.Parameter(torch.ones(4))
        self.register_buffer("buffer", torch.empty(4, dtype=dtype), persistent=False)

    def __getattr__(self, name: str) -> Any:
        if name == self.__dict__.get("name"):
            return self._do
        return super().__getattr__(name)

    def _do(self) -> None:
        self.body(self)


def on_meta(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.device("meta"):
        return make()


def unsaved(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_buffers(remove_duplicate=False) if name not in model.state_dict()]


TREES: dict[str, Callable[[], nn.Module]] = {
    "by itself": Rotary,
    "in layers": lambda: nn.Sequential(Rotary(), nn.Linear(3, 3), nn.Sequential(Rotary(16, 10.0), Masked())),
    "written in place": Masked,
    "a method above": lambda: Above(),
    "in half": lambda: nn.Sequential(Rotary(), Masked()).half(),
    "the same twice": lambda: Shared(),
    "nothing to do": lambda: nn.Linear(2, 2),
}


class Above(nn.Module):
    """Its children's buffers are set by the model as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(2))
        for layer in self.layers:
            layer.register_buffer("angles", torch.empty(3), persistent=False)
        self.init_weights()

    def init_weights(self, scale: float = 2.0) -> None:
        for at, layer in enumerate(self.layers):
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
            layer.angles = torch.arange(3) * scale + at  # type: ignore[assignment]


class Shared(nn.Module):
    """Two modules with one buffer, and a plain attribute that is the same tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = Rotary(), Rotary()
        self.other.frequencies = self.one.frequencies
        self.one.original = self.one.frequencies


@pytest.mark.parametrize("tree", TREES)
def test_a_model_on_meta_gets_the_buffers_that_it_would_have_had(tree: str) -> None:
    model, theirs = on_meta(TREES[tree]), dict(TREES[tree]().named_buffers(remove_duplicate=False))
    names = unsaved(model)
    told = initialise_buffers(model, names)
    assert set(told) == set(names)
    for name, buffer in model.named_buffers(remove_duplicate=False):
        if name in names:
            assert buffer.dtype == theirs[name].dtype
            assert torch.equal(buffer, theirs[name])
    assert all(parameter.is_meta for parameter in model.parameters())
    assert unsaved(model) == names


def test_what_was_one_tensor_stays_one() -> None:
    model = on_meta(Shared)
    initialise_buffers(model, unsaved(model))
    assert model.one.frequencies is model.other.frequencies is model.one.original  # type: ignore[union-attr]
    assert not model.one.frequencies.is_meta  # type: ignore[union-attr]


def test_it_says_which_method_it_was_and_does_only_what_was_asked_for() -> None:
    model = on_meta(lambda: nn.Sequential(Rotary(), Masked()))
    assert initialise_buffers(model, ["1.ids", "0.frequencies"]) == {
        "1.ids": "Masked.reset_parameters",
        "0.frequencies": "Rotary.reset_parameters",
    }
    assert model[1].mask.is_meta  # type: ignore[union-attr]
    assert model[1].steps.is_meta  # type: ignore[union-attr]


GOOD: dict[str, tuple[str, Callable[[Any], object], torch.dtype]] = {
    "reset_buffers": ("reset_buffers", lambda m: m.buffer.copy_(torch.arange(4)), torch.float32),
    "init_buffers": ("init_buffers", lambda m: m.buffer.fill_(3), torch.int16),
    "_init_buffers": ("_init_buffers", lambda m: m.buffer.fill_(True), torch.bool),
    "registered anew": (
        "_reset_parameters",
        lambda m: m.register_buffer("buffer", torch.full((4,), 2.0), persistent=False),
        torch.float32,
    ),
    "on the device of a parameter": (
        "init_weights",
        lambda m: setattr(m, "buffer", torch.zeros(4, device=m.weight.device)),
        torch.float32,
    ),
    "not a number": ("reset_parameters", lambda m: m.buffer.fill_(float("nan")), torch.float32),
    "complex": ("reset_parameters", lambda m: m.buffer.fill_(1j), torch.complex64),
    "random": ("reset_parameters", lambda m: m.buffer.normal_(), torch.float32),
}
BAD: dict[str, tuple[str, Callable[[Any], object], torch.dtype]] = {
    "nothing is written": ("reset_parameters", lambda m: None, torch.float32),
    "no such method": ("compute_everything", lambda m: m.buffer.zero_(), torch.float32),
    "one element is left": ("reset_parameters", lambda m: m.buffer[:3].zero_(), torch.float32),
    "one boolean is left": ("reset_parameters", lambda m: m.buffer[:3].zero_(), torch.bool),
    "one integer is left": ("reset_parameters", lambda m: m.buffer[:3].zero_(), torch.uint8),
    "what was there counts": ("reset_parameters", lambda m: m.buffer.mul_(2), torch.float32),
    "a parameter counts": ("reset_parameters", lambda m: m.buffer.copy_(m.weight), torch.float32),
    "whether a parameter is zero counts": ("reset_parameters", lambda m: m.buffer.copy_(m.weight > 0), torch.bool),
    "that a parameter is small counts": ("reset_parameters", lambda m: m.buffer.copy_(m.weight.abs() < 9), torch.bool),
    "it fails": ("reset_parameters", lambda m: m.buffer.copy_(torch.zeros(7)), torch.float32),
    "it raises": ("reset_parameters", lambda m: 1 / 0, torch.float32),
    "it gives another shape": ("reset_parameters", lambda m: setattr(m, "buffer", torch.zeros(5)), torch.float32),
    "it is gone": ("reset_parameters", lambda m: delattr(m, "buffer"), torch.float32),
    "it stays on meta": (
        "reset_parameters",
        lambda m: setattr(m, "buffer", torch.zeros(4, device="meta")),
        torch.float32,
    ),
}


def with_method(case: tuple[str, Callable[[Any], object], torch.dtype]) -> nn.Module:
    return on_meta(lambda: nn.Sequential(Rotary(), Method(*case)))


@pytest.mark.parametrize("case", GOOD)
def test_what_sets_all_of_a_buffer_is_found(case: str) -> None:
    torch.manual_seed(3)
    model = with_method(GOOD[case])
    initialise_buffers(model, ["1.buffer"])
    theirs = Method(*GOOD[case])
    torch.manual_seed(3)
    theirs.body(theirs)
    assert torch.equal(model[1].buffer.nan_to_num(7), theirs.buffer.nan_to_num(7))  # type: ignore[operator,union-attr]


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_is_an_error_that_names_the_buffer_and_changes_nothing(case: str) -> None:
    model = with_method(BAD[case])
    before = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
    with pytest.raises(rh.RebuildError, match=r"1 buffer[\s\S]*found\s+1\.buffer\s+try\s+build the model on the CPU"):
        initialise_buffers(model, ["0.frequencies", "1.buffer"])
    assert {id(tensor) for tensor in (*model.parameters(), *model.buffers())} == before
    assert all(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))


def test_a_method_that_needs_arguments_is_not_called() -> None:
    class Needy(Rotary):
        def reset_parameters(self, base: float | None = None) -> None:
            self.base = self.base if base is None else base
            super().reset_parameters()

        def reset_buffers(self, kind: str) -> None:
            raise AssertionError

    model = on_meta(Needy)
    assert initialise_buffers(model, ["frequencies"]) == {"frequencies": "Needy.reset_parameters"}


def test_real_tensors_beside_those_on_meta_keep_their_values() -> None:
    model = Masked()
    with torch.no_grad():
        model.weight.fill_(7.0)
    model.ids = model.ids.to("meta")
    initialise_buffers(model, ["ids"])
    assert model.weight.eq(7).all()
    assert model.ids.tolist() == [0, 1, 2, 3, 4]


def test_random_numbers_go_on_as_after_one_call() -> None:
    model = with_method(GOOD["random"])
    torch.manual_seed(5)
    initialise_buffers(model, ["1.buffer"])
    after = torch.rand(3)
    torch.manual_seed(5)
    torch.empty(4).normal_()
    assert torch.equal(after, torch.rand(3))


def test_inside_a_block_that_makes_everything_on_meta_it_works_too() -> None:
    with torch.device("meta"):
        model = Rotary()
        initialise_buffers(model, ["frequencies"])
    assert torch.equal(model.frequencies, Rotary().frequencies)


def test_torch_itself_has_no_buffer_that_is_not_saved() -> None:
    """If a later torch has one, `initialise_buffers` must know how it is made."""
    kinds = [kind for kind in vars(nn).values() if isinstance(kind, type) and issubclass(kind, nn.Module)]
    sources = [kind for kind in kinds if "persistent=False" in inspect.getsource(kind)]
    assert sources == []
