"""A load that fails leaves every tensor of the model as it was, whenever and however it fails."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import rehydrate as rh
from rehydrate.placing.moving import undo


def saved(obj: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(obj, buffer)
    return buffer.getvalue()


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(5, 6), nn.LayerNorm(6), nn.Linear(6, 2))


class Photograph:
    """What a model was, to the bit: its objects, where their memory is, and what is in it."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.seen = self.look()

    def look(self) -> list[tuple[object, ...]]:
        named = [*self.model.named_parameters(), *self.model.named_buffers()]
        return [
            (
                name,
                id(tensor),
                tensor.data_ptr(),
                tensor.requires_grad,
                tensor.detach().clone().view(-1).view(torch.uint8),
            )
            for name, tensor in named
        ]

    def assert_still_true(self) -> None:
        now = self.look()
        assert [entry[:4] for entry in now] == [entry[:4] for entry in self.seen]
        for (name, *_, bits), (*_, before) in zip(now, self.seen, strict=True):
            assert torch.equal(bits, before), name  # type: ignore[arg-type]


def changed(**changes: Any) -> dict[str, Any]:
    """A state that fits, with some entries changed; None takes one away."""
    state: dict[str, Any] = {name.replace(".", "__"): value for name, value in network().state_dict().items()} | changes
    return {name.replace("__", "."): value for name, value in state.items() if value is not None}


FAULTS: dict[str, tuple[Callable[[], Any], type[Exception]]] = {
    "the last tensor has another shape": (lambda: changed(**{"4__bias": torch.ones(3)}), rh.MismatchError),
    "the last tensor is missing": (lambda: changed(**{"4__bias": None}), rh.MismatchError),
    "a buffer is missing": (lambda: changed(**{"1__running_var": None}), rh.MismatchError),
    "one is unexpected": (lambda: changed(**{"5__bias": torch.ones(2)}), rh.MismatchError),
    "the last is complex": (lambda: changed(**{"4__bias": torch.ones(2, dtype=torch.complex64)}), rh.MismatchError),
    "the last is quantised": (
        lambda: changed(**{"4__bias": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)}),
        rh.MismatchError,
    ),
    "the last has no data": (lambda: changed(**{"4__bias": torch.ones(2, device="meta")}), rh.RebuildError),
    "there is nothing in it": (lambda: {"epoch": 3}, rh.NoSuchTensorError),
    "there are two models": (lambda: {"a": network().state_dict(), "b": network().state_dict()}, rh.AmbiguousError),
}


@pytest.mark.filterwarnings("ignore:.*quantize", "ignore:.*TypedStorage")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_checkpoint_that_does_not_fit_changes_nothing(fault: str) -> None:
    state, error = FAULTS[fault]
    photograph = Photograph(network())
    with pytest.raises(error):
        rh.load_into(photograph.model, saved(state()))
    photograph.assert_still_true()


@pytest.mark.parametrize("device", ["cuda:7", "xla", "mps", "nonsense", torch.device("cuda", 3)])
def test_a_device_that_is_not_there_changes_nothing(device: Any) -> None:
    photograph = Photograph(network())
    with pytest.raises(rh.DeviceError, match="cpu"):
        rh.load_into(photograph.model, saved(network().state_dict()), device=device)
    photograph.assert_still_true()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_cut_file_changes_nothing(share: float, tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(saved(network().state_dict()))
    os.truncate(path, int(path.stat().st_size * share))
    photograph = Photograph(network())
    with pytest.raises(rh.RehydrateError):
        rh.load_into(photograph.model, path)
    photograph.assert_still_true()


def test_a_file_that_is_cut_while_it_is_open_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(saved(network().state_dict()))
    photograph = Photograph(network())
    with rh.open(path) as checkpoint:
        os.truncate(path, 1000)
        with pytest.raises(rh.TruncatedError):
            rh.load_into(photograph.model, checkpoint)
    photograph.assert_still_true()


class Hooked(nn.Linear):
    """Loads in a way of its own."""

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)


@pytest.mark.parametrize("kind", [nn.Linear, Hooked])
@pytest.mark.parametrize("is_longer", [True, False])
def test_a_file_that_is_saved_over_while_it_is_open_changes_nothing(
    kind: type[nn.Linear], is_longer: bool, tmp_path: Path
) -> None:
    path = tmp_path / "net.safetensors"
    save_file(nn.Linear(9, 9).state_dict(), path)
    os.utime(path, (1, 1))
    photograph = Photograph(kind(9, 9))
    with rh.open(path) as checkpoint:
        before = path.read_bytes()
        # In place, as torch.save does it: elsewhere in the file there are other tensors now.
        path.write_bytes(before + bytes(1000) if is_longer else before[::-1])
        with pytest.raises(rh.CorruptError, match="has changed since it was opened"):
            rh.load_into(photograph.model, checkpoint)
    photograph.assert_still_true()


def test_a_file_that_is_saved_over_while_it_is_read_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = tmp_path / "net.pth", os.preadv
    path.write_bytes(saved(network().state_dict()))
    photograph = Photograph(network())

    def read(*args: Any) -> int:
        os.utime(path, (1, 1))
        return real(*args)

    with monkeypatch.context() as patch, rh.open(path) as checkpoint:
        patch.setattr(os, "preadv", read)
        with pytest.raises(rh.CorruptError, match="has changed since it was opened"):
            rh.load_into(photograph.model, checkpoint)
    photograph.assert_still_true()


def test_an_expanded_buffer_is_refused_before_anything_is_written() -> None:
    model = nn.Linear(3, 3)
    model.register_buffer("mask", torch.zeros(1, 3).expand(3, 3))
    before = model.weight.detach().clone()
    with pytest.raises(rh.RebuildError, match="several numbers of mask are one in memory"):
        rh.load_into(model, saved({**nn.Linear(3, 3).state_dict(), "mask": torch.ones(3, 3)}))
    assert torch.equal(model.weight, before)


def test_a_closed_checkpoint_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(saved(network().state_dict()))
    with rh.open(path) as checkpoint:
        pass
    photograph = Photograph(network())
    with pytest.raises(rh.ClosedError):
        rh.load_into(photograph.model, checkpoint)
    photograph.assert_still_true()


class CopyFails:
    """torch.Tensor.copy_, but the nth fails, after it has written."""

    def __init__(self, nth: int, error: BaseException) -> None:
        self.left = nth
        self.error = error
        self.real = torch.Tensor.copy_

    def __get__(self, tensor: torch.Tensor, owner: type) -> Callable[..., torch.Tensor]:
        def copy(*args: Any) -> torch.Tensor:
            self.left -= 1
            done = self.real(tensor, *args)
            if self.left == 0:
                raise self.error
            return done

        return copy


TENSORS = len(network().state_dict())


@pytest.mark.parametrize(
    "error", [RuntimeError("CUDA error"), MemoryError(), KeyboardInterrupt()], ids=lambda error: type(error).__name__
)
@pytest.mark.parametrize("nth", [1, 2, TENSORS // 2, TENSORS - 1])
def test_a_copy_that_fails_is_undone(nth: int, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    photograph = Photograph(model)
    data = saved(network().double().state_dict())  # so that each is copied: what is alike is read where it belongs
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "copy_", CopyFails(nth, error), raising=False)
        with pytest.raises(type(error)):
            rh.load_into(model, data)
    photograph.assert_still_true()
    assert rh.load_into(model, data)


def test_a_copy_that_fails_on_a_model_too_large_for_a_second_copy_says_what_was_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = network()
    monkeypatch.setattr(undo, "UNDO", 0)
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "copy_", CopyFails(3, RuntimeError("CUDA error")), raising=False)
        with pytest.raises(
            rh.TornLoadError,
            match=r"4 tensors had been written[\s\S]*1\.num_batches_tracked, 0\.weight, 0\.bias, 1\.weight",
        ) as caught:
            rh.load_into(model, saved(network().double().state_dict()))
    assert "CUDA error" in str(caught.value.__cause__)


def test_somebody_who_stops_a_large_load_is_obeyed_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(undo, "UNDO", 0)
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "copy_", CopyFails(3, KeyboardInterrupt()), raising=False)
        with pytest.raises(KeyboardInterrupt) as caught:
            rh.load_into(network(), saved(network().double().state_dict()))
    assert "4 tensors had been written" in caught.value.__notes__[0]


def test_a_failure_before_the_first_copy_is_never_a_torn_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(undo, "UNDO", 0)
    photograph = Photograph(network())
    with pytest.raises(rh.MismatchError):
        rh.load_into(photograph.model, saved(changed(**{"4__bias": torch.ones(3)})))
    photograph.assert_still_true()


def test_a_meta_model_stays_one_when_a_later_copy_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Linear(2, 2, device="meta"), nn.Linear(2, 2))
    before = list(model.parameters())
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "copy_", CopyFails(2, RuntimeError("no")), raising=False)
        with pytest.raises(RuntimeError, match="no"):
            rh.load_into(model, saved(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).double().state_dict()))
    assert all(one is other for one, other in zip(before, model.parameters(), strict=True))
    assert model[0].weight.is_meta


def test_a_lazy_model_is_lazy_again_when_a_later_copy_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 2))
    before = list(model.parameters())
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "copy_", CopyFails(2, RuntimeError("no")), raising=False)
        with pytest.raises(RuntimeError, match="no"):
            rh.load_into(model, saved(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)).double().state_dict()))
    assert all(one is other for one, other in zip(before, model.parameters(), strict=True))
    assert nn.parameter.is_lazy(model[0].weight)
    assert model(torch.ones(1, 9)).shape == (1, 2)
