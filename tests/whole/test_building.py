"""load_model: your class, factory or instance, filled and ready to predict."""

from __future__ import annotations

import io
import logging
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
    def __init__(self, width: int, *, depth: int = 1, dropout: float = 0.5) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(width, width) for _ in range(depth)))
        self.drop = nn.Dropout(dropout)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (Net, {"args": (4,), "kwargs": {"depth": 2}}),
        (Net, {"args": [4], "kwargs": {"depth": 2}}),
        (lambda: Net(4, depth=2), {}),
        (Net(4, depth=2), {}),
    ],
    ids=["class", "list of arguments", "factory", "instance"],
)
def test_a_model_is_built_filled_and_put_into_eval_mode(model: Any, options: Any) -> None:
    theirs = Net(4, depth=2)
    mine = rh.load_model(saved(theirs.state_dict()), model, **options)
    assert isinstance(mine, Net)
    assert not any(module.training for module in mine.modules())
    for name, value in theirs.state_dict().items():
        assert torch.equal(mine.state_dict()[name], value)
    if isinstance(model, nn.Module):
        assert mine is model


def test_it_says_what_it_loaded_and_that_the_model_is_in_eval_mode(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="rehydrate"):
        rh.load_model(saved({"state_dict": Net(4).state_dict()}), Net, args=(4,))
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("rehydrate", logging.INFO)
    assert record.getMessage() == (
        "Net: 2 tensors loaded; taken from 'state_dict'; now in eval() mode, call .train() to train it"
    )


def test_it_says_nothing_unless_asked(capfd: pytest.CaptureFixture[str]) -> None:
    rh.load_model(saved(Net(4).state_dict()), Net, args=(4,))
    assert capfd.readouterr() == ("", "")


def test_a_pickled_model_whose_class_is_gone_fills_the_class_of_today() -> None:
    class Before(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(4, 4))

    import __main__

    Before.__module__, Before.__qualname__ = "__main__", "Before"
    __main__.Before = Before  # type: ignore[attr-defined]
    theirs = Before()
    try:
        data = saved(theirs)
    finally:
        del __main__.Before  # type: ignore[attr-defined]
    mine = rh.load_model(data, Net, args=(4,))
    assert torch.equal(mine.layers[0].weight, theirs.layers[0].weight)


@pytest.mark.parametrize(
    ("model", "options", "error"),
    [
        ("Net", {}, TypeError),
        (Net, {"args": "4"}, TypeError),
        (Net, {"args": 4}, TypeError),
        (Net(4), {"args": (4,)}, TypeError),
        (lambda: "no module", {}, rh.RebuildError),
        (Net, {"args": (4,), "device": "cuda:9"}, rh.DeviceError),
        (Net, {"args": (5,)}, rh.MismatchError),
    ],
)
def test_what_cannot_be_built_or_filled_is_an_error(model: Any, options: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        rh.load_model(saved(Net(4).state_dict()), model, **options)


def test_a_device_that_is_not_there_is_known_before_anything_is_built() -> None:
    built: list[int] = []
    with pytest.raises(rh.DeviceError):
        rh.load_model(saved(Net(4).state_dict()), lambda: built.append(1), device="cuda:9")  # type: ignore[arg-type, return-value]
    assert not built


def test_an_error_of_the_callers_class_is_the_callers() -> None:
    def broken() -> nn.Module:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        rh.load_model(saved(Net(4).state_dict()), broken)


def test_an_instance_that_does_not_fit_stays_in_the_mode_it_was_in() -> None:
    model = Net(5).train()
    with pytest.raises(rh.MismatchError):
        rh.load_model(saved(Net(4).state_dict()), model)
    assert model.training
