"""rh.param_groups: every trained parameter in exactly one group, ready for any optimizer."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import rehydrate as rh
from tests.effort import tried

from .test_freezing import Net, Tied


def names(groups: list[dict[str, Any]]) -> dict[str, list[str]]:
    return {group["name"]: group["param_names"] for group in groups}


def test_the_first_pattern_that_meets_a_name_has_it() -> None:
    groups = rh.param_groups(Net(), {"fc.*": {"lr": 1e-2}, "*": {"lr": 1e-3}})
    assert names(groups)["fc.*"] == ["fc.weight", "fc.bias"]
    assert len(names(groups)["*"]) == 14
    assert [group["lr"] for group in groups] == [1e-2, 1e-3]
    assert all("weight_decay" not in group for group in groups)


def test_weight_decay_leaves_biases_and_norms_out() -> None:
    model = Net()
    groups = rh.param_groups(model, {"fc.*": {"lr": 1e-2}, "*": {}}, weight_decay=0.05)
    assert [(group["name"], group["weight_decay"]) for group in groups] == [
        ("fc.*", 0.05), ("fc.* (no decay)", 0.0), ("*", 0.05), ("* (no decay)", 0.0),
    ]  # fmt: skip
    assert names(groups)["* (no decay)"] == ["conv1.bias", "bn1.weight", "bn1.bias"] + [
        f"layer1.{at}.bias" for at in range(5)
    ]
    assert groups[0]["params"][0] is model.fc.weight


def test_no_decay_is_what_somebody_names_where_they_do() -> None:
    groups = rh.param_groups(Net(), {"*": {}}, weight_decay=0.1, no_decay="bn1.*")
    assert names(groups)["* (no decay)"] == ["bn1.weight", "bn1.bias"]
    groups = rh.param_groups(Net(), {"*": {"weight_decay": 0.3}}, no_decay=["fc.*"])
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0]
    assert [group["weight_decay"] for group in rh.param_groups(Net(), {"*": {}}, weight_decay=0.1, no_decay=[])] == [
        0.1
    ]


def test_a_pattern_with_a_decay_of_its_own_keeps_it() -> None:
    groups = rh.param_groups(
        Net(), {"fc.*": {"weight_decay": 0.5}, "bn1.*": {"weight_decay": 0}, "*": {}}, weight_decay=0.1
    )
    assert {group["name"]: group["weight_decay"] for group in groups} == {
        "fc.*": 0.5, "fc.* (no decay)": 0.0, "bn1.*": 0, "*": 0.1, "* (no decay)": 0.0,
    }  # fmt: skip


def test_frozen_parameters_are_left_out_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    model = Net()
    model.conv1.requires_grad_(False)
    with caplog.at_level(logging.INFO, "rehydrate"):
        groups = rh.param_groups(model, {"*": {"lr": 0.1}})
    assert "left out, being frozen: 2 of 16: conv1.weight, conv1.bias" in str(groups)
    assert caplog.records[-1].getMessage() == str(groups)
    assert "14 parameters in 1 group, each in one" in repr(groups)


def test_a_group_of_frozen_parameters_only_is_left_out() -> None:
    model = Net()
    model.fc.requires_grad_(False)
    assert list(names(rh.param_groups(model, {"fc.*": {}, "*": {}}))) == ["*"]


def test_a_parameter_that_no_pattern_meets_is_an_error() -> None:
    with pytest.raises(rh.MismatchError, match="14 parameters of Net are met by no pattern") as caught:
        rh.param_groups(Net(), {"fc.*": {}})
    assert '"*"' in str(caught.value)
    with pytest.raises(rh.MismatchError, match="1 parameter of Net is met") as caught:
        rh.param_groups(Net(), {"*weight": {}, "[!f]*": {}})
    assert "fc.bias" in str(caught.value)


def test_a_pattern_that_meets_nothing_is_an_error() -> None:
    with pytest.raises(rh.MismatchError, match=r"the pattern 'layr1\.\*' meets no parameter") as caught:
        rh.param_groups(Net(), {"layr1.*": {}, "*": {}})
    assert "did you mean 'layer1.*'?" in str(caught.value)
    with pytest.raises(rh.MismatchError, match=r"the pattern '\*\.norm' meets no parameter"):
        rh.param_groups(Net(), {"*": {}}, weight_decay=0.1, no_decay=["*.norm"])


def test_a_pattern_behind_one_that_takes_everything_is_an_error() -> None:
    with pytest.raises(rh.MismatchError, match=r"all that it meets went to '\*' before it"):
        rh.param_groups(Net(), {"*": {"lr": 1}, "fc.*": {"lr": 2}})


def test_a_model_with_nothing_to_train_is_an_error() -> None:
    model = Net()
    rh.freeze(model)
    with pytest.raises(rh.MismatchError, match="no parameter of Net is trained"):
        rh.param_groups(model, {"*": {}})


def test_a_tied_parameter_is_in_one_group_by_any_of_its_names() -> None:
    model = Tied()
    groups = rh.param_groups(model, {"head.*": {}, "*": {}})
    assert names(groups) == {"head.*": ["embedding.weight", "head.bias"], "*": ["body.weight", "body.bias"]}


def test_what_param_groups_finds_out_itself_cannot_be_given() -> None:
    with pytest.raises(ValueError, match="'params'"):
        rh.param_groups(Net(), {"*": {"params": []}})
    with pytest.raises(TypeError, match="takes a dictionary"):
        rh.param_groups(Net(), {"*": 0.1})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="expected a dictionary of globs"):
        rh.param_groups(Net(), ["*"])  # type: ignore[arg-type]


OPTIMIZERS: dict[str, Any] = {
    "SGD": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9),
    "Adam": lambda groups: torch.optim.Adam(groups),
    "AdamW, fused": lambda groups: torch.optim.AdamW(groups, fused=True),
    "AdamW, foreach": lambda groups: torch.optim.AdamW(groups, foreach=True),
    "Adagrad": lambda groups: torch.optim.Adagrad(groups),
    "Adafactor": lambda groups: torch.optim.Adafactor(groups),
    "RMSprop": lambda groups: torch.optim.RMSprop(groups),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_torchs_optimizers_take_the_groups_and_save_the_names(optimizer: str) -> None:
    model = Net()
    groups = rh.param_groups(model, {"fc.*": {"lr": 1e-2}, "*": {"lr": 1e-3}}, weight_decay=0.05)
    made = OPTIMIZERS[optimizer](groups)
    model(torch.rand(2, 1, 5, 5)).sum().backward()
    before = model.fc.weight.detach().clone()
    made.step()
    assert not torch.equal(before, model.fc.weight)
    saved = made.state_dict()["param_groups"]
    assert [group["param_names"] for group in saved] == [group["param_names"] for group in groups]
    assert [group["lr"] for group in saved] == [1e-2, 1e-2, 1e-3, 1e-3]


def test_lbfgs_takes_one_group() -> None:
    torch.optim.LBFGS(rh.param_groups(Net(), {"*": {"lr": 1}}))
    with pytest.raises(ValueError, match="LBFGS doesn't support per-parameter options"):
        torch.optim.LBFGS(rh.param_groups(Net(), {"fc.*": {}, "*": {}}))
    assert "LBFGS takes one group only" in (rh.param_groups.__doc__ or "")


@tried(100)
@given(
    patterns=st.lists(
        st.sampled_from(["fc.*", "*bias", "layer1.*", "conv1.*", "*1.*", "bn1.weight", "*0*"]), unique=True
    ),
    frozen=st.sets(st.sampled_from([name for name, _ in Net().named_parameters()]), max_size=15),
    decay=st.sampled_from([None, 0.0, 0.1]),
)
def test_every_trained_parameter_is_in_exactly_one_group_whatever_the_patterns(
    patterns: list[str], frozen: set[str], decay: float | None
) -> None:
    model = Net()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
    try:
        groups = rh.param_groups(model, {**{pattern: {} for pattern in patterns}, "*": {}}, weight_decay=decay)
    except rh.MismatchError as error:
        assert "gets no parameter" in str(error) or len(frozen) == 16  # noqa: PT017
        return
    held = Counter(id(parameter) for group in groups for parameter in group["params"])
    assert held == Counter(id(parameter) for parameter in model.parameters() if parameter.requires_grad)
    by_id = {id(parameter): name for name, parameter in model.named_parameters()}
    for group in groups:
        assert group["params"]
        assert [by_id[id(parameter)] for parameter in group["params"]] == group["param_names"]
