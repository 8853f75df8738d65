"""rh.freeze: what training leaves as it is, what stays trainable, and what people trip over."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import rehydrate as rh


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 2, 3)
        self.bn1 = nn.BatchNorm2d(2)
        self.layer1 = nn.Sequential(*[nn.Linear(2, 2) for _ in range(5)])
        self.fc = nn.Linear(2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.layer1(self.bn1(self.conv1(x)).mean((2, 3))))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(4, 3)
        self.body = nn.Linear(3, 3)
        self.head = nn.Linear(3, 4)
        self.head.weight = self.embedding.weight


def trainable(model: nn.Module) -> list[str]:
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def test_all_but_what_is_named_is_frozen_and_the_report_says_how_much() -> None:
    model = Net()
    report = rh.freeze(model, except_=["fc.*"])
    assert trainable(model) == ["fc.weight", "fc.bias"] == list(report.trainable)
    assert str(report) == (
        "Net: 14 tensors, 54 numbers, 85.71 % frozen\n"
        "  trainable: 2 tensors, 9 numbers, 14.29 %: fc.weight, fc.bias\n"
        "  1 frozen layer still updates its running statistics in train mode: bn1; to keep them, call .eval() on it "
        "after each model.train()"
    )
    assert report.to_dict()["frozen_numbers"] == 54


def test_nothing_named_freezes_everything() -> None:
    model = Net()
    report = rh.freeze(model)
    assert trainable(model) == []
    assert "trainable: 0 tensors, 0 numbers, 0 %" in str(report)


def test_a_string_alone_is_one_pattern_and_a_star_crosses_dots() -> None:
    model = Net()
    rh.freeze(model, "layer1*weight")
    assert trainable(model) == [f"layer1.{at}.weight" for at in range(5)]


def test_many_trainable_names_are_folded() -> None:
    assert ": bn1.* (2), layer1.* (10), fc.* (2)" in str(rh.freeze(Net(), ["bn1.*", "layer1.*", "fc.*"]))


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("fc", "did you mean 'fc.*'?"),
        ("layr1.*", "did you mean 'layer1.*'?"),
        ("fc.wieght", "did you mean 'fc.weight'?"),
        ("layer1.0", "did you mean 'layer1.0.*'?"),
    ],
)
def test_a_pattern_that_meets_nothing_is_an_error_and_changes_nothing(pattern: str, hint: str) -> None:
    model = Net()
    with pytest.raises(rh.MismatchError, match="meets no parameter of Net") as caught:
        rh.freeze(model, except_=["fc.*", pattern])
    assert hint in str(caught.value)
    assert len(trainable(model)) == 16


def test_wrapped_models_are_named_with_and_without_the_wrapper() -> None:
    compiled = torch.compile(Net(), backend="eager"), torch.compile(Net(), backend="eager")
    for wrapped in (nn.DataParallel(Net()), compiled[0], nn.DataParallel(compiled[1])):
        assert isinstance(wrapped, nn.Module)
        prefix = next(name for name, _ in wrapped.named_parameters()).removesuffix("conv1.weight")
        for pattern in ("fc.*", f"{prefix}fc.*"):
            rh.freeze(wrapped, pattern)
            assert trainable(wrapped) == [f"{prefix}fc.weight", f"{prefix}fc.bias"]


def test_a_tied_parameter_stays_trainable_under_either_name_and_that_is_said() -> None:
    for pattern in ("head.*", "embedding.*"):
        model = Tied()
        report = rh.freeze(model, pattern)
        assert model.embedding.weight.requires_grad
        assert "which is excepted: it stays trainable, too" in str(report)
        assert "tied" in str(report)
    assert "tied" not in str(rh.freeze(Tied(), "body.*"))


def test_running_statistics_are_not_told_of_where_the_layer_is_trained_or_has_none() -> None:
    assert "running statistics" not in str(rh.freeze(Net(), ["bn1.*"]))
    assert "running statistics" not in str(rh.freeze(Tied()))
    assert "running statistics" in str(
        rh.freeze(nn.Sequential(nn.BatchNorm1d(2, affine=False), nn.Linear(2, 1)), "1.*")
    )
    plain = nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False), nn.Linear(2, 1))
    assert "running statistics" not in str(rh.freeze(plain, "1.*"))


def test_the_statistics_do_change_as_the_report_says() -> None:
    model = Net().train()
    rh.freeze(model, "fc.*")
    before = model.bn1.running_mean.clone()
    model(torch.rand(2, 1, 5, 5))
    assert not torch.equal(model.bn1.running_mean, before)


def test_what_was_frozen_before_and_is_excepted_stays_so_and_is_said() -> None:
    model = Net()
    rh.freeze(model)
    report = rh.freeze(model, "fc.*")
    assert trainable(model) == []
    assert "excepted, but frozen already and left so: fc.weight, fc.bias" in str(report)


def test_globs_are_those_of_rules() -> None:
    model = nn.ModuleDict({"blocks": nn.ModuleList(nn.Linear(1, 1) for _ in range(12)), "blocksize": nn.Linear(1, 1)})
    rh.freeze(model, "blocks.{i}.bias")
    assert trainable(model) == [f"blocks.{i}.bias" for i in range(12)]
    groups = rh.param_groups(model, {"blocks.[0-4].*": {"lr": 1e-2}, "*": {"lr": 1e-3}})
    assert [len(group["params"]) for group in groups] == [5, 7]
    with pytest.raises(ValueError, match="does not say what the number is"):
        rh.freeze(model, "blocks.{i * i}.bias")


def test_what_is_no_model_and_no_pattern_is_a_type_error() -> None:
    with pytest.raises(TypeError, match=r"expected a torch\.nn\.Module, got OrderedDict"):
        rh.freeze(Net().state_dict())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not int"):
        rh.freeze(Net(), [3])  # type: ignore[list-item]


def test_a_lazy_layer_has_to_have_its_shape_first() -> None:
    with pytest.raises(rh.MismatchError, match="have no shape yet"):
        rh.freeze(nn.Sequential(nn.LazyLinear(3)))
