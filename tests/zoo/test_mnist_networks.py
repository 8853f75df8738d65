"""Both generations of the network, our weights for each, and which of the two a file is for."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import rehydrate as rh
from rehydrate.zoo import mnist
from rehydrate.zoo.mnist.shapes import LARGE, SMALL

from ..note import TempModel


class Net2017(nn.Module):
    """What PyTorch's MNIST example was in 2017."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, kernel_size=5)
        self.conv2 = nn.Conv2d(10, 20, kernel_size=5)
        self.conv2_drop = nn.Dropout2d()
        self.fc1 = nn.Linear(320, 50)
        self.fc2 = nn.Linear(50, 10)

    def forward(self, x):
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2_drop(self.conv2(x)), 2))
        x = x.view(-1, 320)
        x = F.relu(self.fc1(x))
        x = F.dropout(x, training=self.training)
        x = self.fc2(x)
        return F.log_softmax(x, dim=1)


BOTH = [("large", mnist.ConvNet, TempModel, LARGE, 431_080), ("small", mnist.ConvNet2017, Net2017, SMALL, 21_840)]


def pictures(count: int = 5) -> torch.Tensor:
    return torch.randn(count, 1, 28, 28, generator=torch.Generator().manual_seed(3))


def saved(obj: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(obj, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(("size", "ours", "published", "shapes", "parameters"), BOTH)
def test_each_network_is_the_published_one_to_the_bit(size, ours, published, shapes, parameters) -> None:
    theirs, mine = published(), ours()
    mine.load_state_dict(theirs.state_dict())
    assert {name: tuple(tensor.shape) for name, tensor in mine.state_dict().items()} == dict(shapes)
    assert list(mine.state_dict()) == list(theirs.state_dict())
    assert sum(parameter.numel() for parameter in mine.parameters()) == parameters
    assert torch.equal(mine.eval()(pictures()), theirs.eval()(pictures()))
    for network in (mine.train(), theirs.train()):  # the same dropout, drawn in the same order
        torch.manual_seed(7)
        network.answer = network(pictures())
    assert torch.equal(mine.answer, theirs.answer)


def test_pictures_of_another_size_are_an_error_and_not_other_pictures() -> None:
    with pytest.raises(RuntimeError):
        mnist.ConvNet()(torch.zeros(4, 1, 52, 52))


@pytest.mark.parametrize(("size", "ours", "published", "shapes", "parameters"), BOTH)
def test_our_weights_open_everywhere(size, ours, published, shapes, parameters) -> None:
    where = mnist.weights(size)
    assert isinstance(where, Path)
    with rh.open(where) as checkpoint:
        assert {name: tuple(ref.shape) for name, ref in checkpoint.weights().items()} == dict(shapes)
        assert {str(ref.dtype) for ref in checkpoint.values()} == {"float32"}
    plain = torch.load(where, weights_only=True)
    assert all(tensor.is_contiguous() and tensor.isfinite().all() for tensor in plain.values())
    theirs = published()
    assert rh.load_into(theirs, where)
    assert torch.equal(theirs.eval()(pictures()), mnist.load_network(where)(pictures()))
    assert not rh.load_model(where, ours).training


def test_another_word_for_the_weights_says_which_there_are() -> None:
    for word in ("medium", "Large", "", None, 3):
        with pytest.raises(ValueError, match="the networks are called 'large' and 'small'"):
            mnist.weights(word)
    with pytest.raises(ValueError, match="did you mean 'large'"):
        mnist.weights("lage")


def test_without_a_file_it_is_our_large_one() -> None:
    network = mnist.load_network()
    assert type(network) is mnist.ConvNet
    assert not network.training
    ours = torch.load(mnist.weights("large"), weights_only=True)
    assert all(torch.equal(tensor, ours[name]) for name, tensor in network.state_dict().items())


def test_a_module_is_used_as_it_is() -> None:
    own = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(784, 10))
    assert mnist.load_network(own) is own
    assert not own.training
    assert mnist.load_network(own, device="meta")[2].weight.is_meta


WRAPPINGS: dict[str, Callable[[nn.Module], object]] = {
    "bare": lambda net: net.state_dict(),
    "parallel": lambda net: {f"module.{name}": tensor for name, tensor in net.state_dict().items()},
    "container": lambda net: {"epoch": 10, "state_dict": net.state_dict()},
    "training": lambda net: {
        "model_state_dict": nn.DataParallel(net).state_dict(),
        "optimizer_state_dict": torch.optim.SGD(net.parameters(), 0.1, momentum=0.5).state_dict(),
        "loss": 0.1,
    },
    "whole": lambda net: net,
    "half": lambda net: {name: tensor.half() for name, tensor in net.state_dict().items()},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize(("size", "ours", "published", "shapes", "parameters"), BOTH)
def test_a_file_is_told_by_its_shapes_however_it_is_wrapped(
    wrapping, size, ours, published, shapes, parameters
) -> None:
    theirs = published().eval()
    # In training, momentum is there only after a step; its buffers must not be taken for a second model.
    theirs(pictures()).sum().backward()
    network = mnist.load_network(saved(WRAPPINGS[wrapping](theirs)))
    assert type(network) is ours
    assert not network.training
    expected = theirs.half().float() if wrapping == "half" else theirs
    assert torch.equal(network(pictures()), expected(pictures()))


def test_whatever_open_takes_is_taken(tmp_path: Path) -> None:
    data = saved(Net2017().state_dict())
    (tmp_path / "large.pth").write_bytes(data)  # a name says nothing
    places = [tmp_path / "large.pth", str(tmp_path / "large.pth"), data, bytearray(data), io.BytesIO(data)]
    assert all(type(mnist.load_network(place)) is mnist.ConvNet2017 for place in places)
    with rh.open(data) as checkpoint:
        assert type(mnist.load_network(checkpoint)) is mnist.ConvNet2017
        assert len(checkpoint) == 8
        checkpoint["fc2.bias"].numpy()  # still open: it is the caller's


def broken(change: Callable[[dict[str, torch.Tensor]], object]) -> bytes:
    state = dict(TempModel().state_dict())
    change(state)
    return saved(state)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (saved(nn.Linear(3, 2).state_dict()), ["2 tensors: weight [2, 3], bias [2]"]),
        (broken(lambda state: state.pop("fc2.bias")), ["7 tensors", "Missing key(s) in state_dict: 1: ", "fc2.bias"]),
        (
            broken(lambda state: state.update(extra=torch.ones(2))),
            ["9 tensors", "Unexpected key(s) in state_dict: 1: ", "extra"],
        ),
        (
            broken(lambda state: state.update({"conv2.weight": torch.ones(20, 10, 5, 5)})),
            ["size mismatch for conv2.weight: the checkpoint has [20, 10, 5, 5], the model [50, 20, 5, 5]"],
        ),
    ],
)
def test_a_file_of_neither_says_what_both_need_and_what_was_found(data: bytes, words: list[str]) -> None:
    with pytest.raises(rh.MismatchError, match="neither of the two MNIST networks") as caught:
        mnist.load_network(data)
    for word in [*words, "ConvNet (large) needs conv1.weight [20, 1, 5, 5]", "ConvNet2017 (small) needs"]:
        assert word in str(caught.value)


def test_a_file_without_a_model_is_a_mismatch_too() -> None:
    with pytest.raises(rh.MismatchError, match="holds no model's tensors"):
        mnist.load_network(pickle.dumps({"da": 111}))


def test_of_two_models_in_a_file_none_is_chosen() -> None:
    data = saved({"raw": TempModel().state_dict(), "ema": TempModel().state_dict()})
    with pytest.raises(rh.AmbiguousError) as caught:
        mnist.load_network(data)
    assert "which=" in caught.value.hint
    network = mnist.ConvNet()
    rh.load_into(network, data, which="ema")
    assert mnist.load_network(network) is network


def test_what_cannot_be_opened_is_said_by_open(tmp_path: Path) -> None:
    with pytest.raises(rh.MissingFileError):
        mnist.load_network(tmp_path / "nothing.pth")
    with pytest.raises(rh.NotACheckpointError):
        mnist.load_network(b"<!DOCTYPE html>")
    with pytest.raises(TypeError):
        mnist.load_network(mnist.ConvNet)  # type: ignore[arg-type]


def test_a_device_that_is_not_there_is_known_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(rh.DeviceError):
        mnist.load_network(tmp_path / "nothing.pth", device="cuda:77")
    assert next(mnist.load_network(device="cpu").parameters()).device.type == "cpu"
