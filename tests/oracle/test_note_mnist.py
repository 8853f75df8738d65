"""The note's MNIST example, with rh.load_into in place of load_state_dict(torch.load(...)): same class, same answer.

Its cv2 and torchvision lines are written with Pillow and numpy, with the same arithmetic.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy
import pytest
import torch
import torch as t
from PIL import Image
from torch import nn

import rehydrate as rh

from ..note import TempModel

PICTURES = 100


def answer(model: nn.Module, path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """The lines of the note from the picture to the class; what the network said, and the class."""
    device = t.device("cpu")
    img = numpy.asarray(Image.open(path).convert("RGB")).astype(numpy.uint32)  # cv2.imread
    img = ((img * (4899, 9617, 1868)).sum(axis=2) + 8192 >> 14).astype(numpy.uint8)  # cv2.COLOR_BGR2GRAY
    img = t.from_numpy(img[None].astype(numpy.float32) / 255)  # transforms.ToTensor
    img = (img - 0.1307) / 0.3081  # transforms.Normalize
    img = img.unsqueeze(0)
    img = img.to(device)
    with t.no_grad():
        py = model(img)
    _, predicted = t.max(py, 1)
    return py, predicted[0]


def as_the_note_loads_it(path: Path) -> nn.Module:
    model = TempModel()
    model.load_state_dict(t.load(path, map_location="cpu"))
    model = model.to(t.device("cpu"))
    model.eval()
    return model


def as_we_load_it(path: Path) -> nn.Module:
    model = TempModel()
    rh.load_into(model, path, device="cpu")
    model.eval()
    return model


@pytest.fixture(scope="module")
def pictures(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, int]]:
    """Digits of the test set as PNG files, with what they are."""
    folder = tmp_path_factory.mktemp("digits")
    with gzip.open(test_data / "mnist" / "t10k-images-idx3-ubyte.gz") as file:
        images = numpy.frombuffer(file.read(16 + PICTURES * 784)[16:], numpy.uint8).reshape(-1, 28, 28)
    with gzip.open(test_data / "mnist" / "t10k-labels-idx1-ubyte.gz") as file:
        labels = file.read(8 + PICTURES)[8:]
    for at, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{at}.png")
    return [(folder / f"{at}.png", label) for at, label in enumerate(labels)]


@pytest.mark.parametrize("tag", ["cpu", "cuda:0"])
def test_a_model_saved_as_the_note_saves_it_gives_the_notes_answers(
    tag: str, pictures: list[tuple[Path, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mnist_convnet_model_epoch_10.pth"
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: tag)
        t.save(TempModel().state_dict(), path)
    theirs, mine = as_the_note_loads_it(path), as_we_load_it(path)
    assert type(mine) is type(theirs)
    for picture, _ in pictures:
        said, digit = answer(mine, picture)
        said_there, digit_there = answer(theirs, picture)
        assert digit == digit_there
        assert torch.equal(said, said_there)


def test_the_weights_that_ship_give_the_notes_answers_and_the_right_ones(pictures: list[tuple[Path, int]]) -> None:
    path = rh.zoo.mnist.weights("large")  # type: ignore[attr-defined]
    theirs, mine = as_the_note_loads_it(path), as_we_load_it(path)
    right = 0
    for picture, label in pictures:
        said, digit = answer(mine, picture)
        assert torch.equal(said, answer(theirs, picture)[0])
        right += int(digit) == label
    assert right >= 0.98 * PICTURES


def test_the_whole_model_that_the_note_saves_fills_the_class_again(
    pictures: list[tuple[Path, int]], tmp_path: Path
) -> None:
    theirs = TempModel().eval()
    t.save(theirs, tmp_path / "whole.pth")
    mine = rh.load_model(tmp_path / "whole.pth", TempModel)
    picture, _ = pictures[0]
    assert torch.equal(answer(mine, picture)[0], answer(theirs, picture)[0])
