"""Training really learns, says early what would fail late, and repeats itself; our weights read the test digits."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import nn

import rehydrate as rh
from rehydrate.cli.main import main
from rehydrate.zoo import mnist
from rehydrate.zoo.mnist.augmenting import distorted
from rehydrate.zoo.mnist.digits import read_digits
from rehydrate.zoo.mnist.drawing import DIGITS, drawn, signs
from rehydrate.zoo.mnist.networks import build, normalised
from rehydrate.zoo.mnist.outliers import outliers
from rehydrate.zoo.mnist.training import fit

FILES = {"train": "train", "test": "t10k"}


def write_digits(folder: Path, part: str, pictures: np.ndarray, labels: np.ndarray) -> None:
    for what, array in (("images", pictures), ("labels", labels)):
        head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
        (folder / f"{FILES[part]}-{what}-idx{array.ndim}-ubyte").write_bytes(head + array.astype(np.uint8).tobytes())


def printed_digits(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Digits in Pillow's font, of any size, anywhere near the middle."""
    chance = np.random.default_rng(seed)
    labels = chance.integers(0, 10, count, np.uint8)
    pages = []
    for label in labels:
        page = Image.new("L", (28, 28))
        font = ImageFont.load_default(int(chance.integers(18, 26)))
        place = (8 + chance.integers(-2, 3), 2 + chance.integers(-2, 3))
        ImageDraw.Draw(page).text(place, str(label), fill=255, font=font)
        pages.append(np.asarray(page))
    return np.stack(pages), labels


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("printed")
    write_digits(folder, "train", *printed_digits(400, 1))
    write_digits(folder, "test", *printed_digits(300, 2))
    return folder


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So few digits that an epoch takes no time."""
    folder = tmp_path_factory.mktemp("few")
    write_digits(folder, "train", *printed_digits(60, 3))
    write_digits(folder, "test", *printed_digits(50, 4))
    return folder


@pytest.mark.parametrize("net", ["large", "small"])
def test_training_learns_digits_that_it_never_saw(printed: Path, tmp_path: Path, net: str) -> None:
    lines: list[str] = []
    untrained = mnist.evaluate(printed, build(net))
    epochs = 10 if net == "large" else 25
    saved = mnist.train(printed, tmp_path / "net.pth", epochs=epochs, net=net, report=lines.append)
    trained = mnist.evaluate(printed, tmp_path / "net.pth")
    assert untrained.accuracy < 0.4
    assert trained.accuracy > 0.9
    assert trained.total == 300
    assert saved.tensors == 8
    assert [line.partition(":")[0] for line in lines] == [f"epoch {n} of {epochs}" for n in range(1, epochs + 1)]
    state = torch.load(tmp_path / "net.pth", weights_only=True)
    assert all(tensor.dtype == torch.float32 and tensor.is_contiguous() for tensor in state.values())
    assert list(tmp_path.iterdir()) == [tmp_path / "net.pth"]


def test_training_on_with_a_file_takes_its_network_and_its_knowledge(printed: Path, tmp_path: Path) -> None:
    mnist.train(printed, tmp_path / "on.pth", epochs=1, start=mnist.weights("small"))
    assert type(mnist.load_network(tmp_path / "on.pth")) is mnist.ConvNet2017
    mnist.train(printed, tmp_path / "anew.pth", epochs=1, net="small")
    assert mnist.evaluate(printed, tmp_path / "on.pth").accuracy > 0.85
    assert mnist.evaluate(printed, tmp_path / "anew.pth").accuracy < 0.6
    before = torch.load(mnist.weights("small"), weights_only=True)
    after = torch.load(tmp_path / "on.pth", weights_only=True)
    assert not any(torch.equal(before[name], after[name]) for name in before)


def test_one_seed_gives_one_file_and_another_another(few: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        (tmp_path / name).mkdir()
        before = torch.get_rng_state()
        mnist.train(few, tmp_path / name / "net.pth", epochs=2, net="small", seed=seed)
        assert torch.equal(torch.get_rng_state(), before)
        torch.rand(1)
    data = [(tmp_path / name / "net.pth").read_bytes() for name in "abc"]
    assert data[0] == data[1]
    assert data[0] != data[2]


@pytest.mark.parametrize("labels", [[1], [0, 1] * 12, [9] * 6])
def test_even_the_smallest_sets_are_trained_on(tmp_path: Path, labels: list[int]) -> None:
    pictures, _ = printed_digits(len(labels), 8)
    write_digits(tmp_path, "train", pictures, np.array(labels))
    assert mnist.train(tmp_path, tmp_path / "net.pth", epochs=1, net="small").tensors == 8


def test_a_start_of_the_other_network_is_a_conflict(few: Path, tmp_path: Path) -> None:
    with pytest.raises(rh.MismatchError, match="this is the small network, and the large one is to be trained"):
        mnist.train(few, tmp_path / "net.pth", epochs=1, net="large", start=mnist.weights("small"))
    rh.save(nn.Linear(2, 2), tmp_path / "other.pth")
    with pytest.raises(rh.MismatchError, match="neither of the two MNIST networks"):
        mnist.train(few, tmp_path / "net.pth", epochs=1, start=tmp_path / "other.pth")
    with pytest.raises(ValueError, match="'large' and 'small'"):
        mnist.train(few, tmp_path / "net.pth", epochs=1, net="medium")
    with pytest.raises(ValueError, match="at least one epoch"):
        mnist.train(few, tmp_path / "net.pth", epochs=0)
    assert not (tmp_path / "net.pth").exists()


@pytest.mark.parametrize(
    "out",
    [
        lambda folder: folder / "nowhere" / "net.pth",
        lambda folder: folder / "net",
        lambda folder: folder / "net.onnx",
        lambda folder: folder / "net.pickle",
        lambda folder: folder,
        lambda folder: folder / "folder.pth",
    ],
    ids=["no folder", "no suffix", "another suffix", "a plain pickle", "a folder", "a folder with a suffix"],
)
def test_what_would_not_be_saved_is_said_before_the_first_epoch(
    few: Path, tmp_path: Path, out: Callable[[Path], Path]
) -> None:
    (tmp_path / "folder.pth").mkdir()
    lines: list[str] = []
    with pytest.raises(rh.SaveError) as caught:
        mnist.train(few, out(tmp_path), epochs=1, net="small", report=lines.append)
    assert lines == []
    assert str(out(tmp_path)) in caught.value.where
    assert "rehearsal" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [tmp_path / "folder.pth"]


def test_the_old_file_stays_until_the_new_one_is_complete(few: Path, tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(b"old")

    def stop(line: str) -> None:
        assert (tmp_path / "net.pth").read_bytes() == b"old"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mnist.train(few, tmp_path / "net.pth", epochs=1, net="small", report=stop)
    assert (tmp_path / "net.pth").read_bytes() == b"old"
    mnist.train(few, tmp_path / "net.pth", epochs=1, net="small")
    assert type(mnist.load_network(tmp_path / "net.pth")) is mnist.ConvNet2017


def test_evaluating_counts_what_a_network_says(few: Path) -> None:
    labels = read_digits(few, "test")[1]

    class AlwaysSeven(nn.Module):
        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            assert not self.training
            answer = torch.zeros(len(pictures), 10)
            answer[:, 7] = 1
            return answer

    evaluation = mnist.evaluate(few, AlwaysSeven())
    sevens = int((labels == 7).sum())
    assert (evaluation.right, evaluation.total) == (sevens, 50)
    assert evaluation.accuracy == sevens / 50
    assert evaluation.right_by_digit == (0, 0, 0, 0, 0, 0, 0, sevens, 0, 0)
    assert evaluation.total_by_digit == tuple(np.bincount(labels, minlength=10))
    assert f"{sevens} of 50 test digits right, {2 * sevens:.2f} %" in str(evaluation)
    assert "7:" not in str(evaluation).splitlines()[1]
    assert json.loads(json.dumps(evaluation.to_dict()))["right"] == sevens


def test_evaluating_normalises_as_the_note_does(few: Path) -> None:
    pictures = read_digits(few, "test")[0]
    seen: list[torch.Tensor] = []

    class Watching(nn.Module):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            seen.append(batch)
            return torch.zeros(len(batch), 10)

    mnist.evaluate(few, Watching())
    # ToTensor: [H, W] bytes to [1, H, W] in 0..1; Normalize((0.1307,), (0.3081,)).
    expected = torch.from_numpy(pictures).unsqueeze(1).float().div(255).sub(0.1307).div(0.3081)
    assert torch.equal(torch.cat(seen), expected)


@pytest.mark.parametrize("answer", [torch.zeros(50, 9), torch.zeros(50), torch.zeros(1, 50, 10), "seven"])
def test_a_module_that_does_not_give_ten_numbers_a_picture_is_a_mismatch(few: Path, answer: object) -> None:
    class Odd(nn.Module):
        def forward(self, pictures: torch.Tensor) -> object:
            return answer

    with pytest.raises(rh.MismatchError, match="ten numbers a picture"):
        mnist.evaluate(few, Odd())


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_the_command_line_trains_and_evaluates(few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "net.pth"
    code, said, noted = run(capsys, "train", "mnist", "--data", few, "--out", out, "--epochs", 2, "--net", "small")
    assert code == 0
    assert "8 tensors" in said
    assert noted == ""  # epochs are told to a terminal, and this is none
    code, said, _ = run(capsys, "evaluate", "mnist", "--data", few, "--model", out, "--json")
    assert code == 0
    assert json.loads(said)["results"][0]["total"] == 50
    code, said, _ = run(capsys, "evaluate", "mnist", "--data", few)
    assert code == 0
    assert "of 50 test digits right" in said
    code, _, noted = run(
        capsys, "train", "mnist", "--data", few, "--out", out, "--net", "large", "--from", mnist.weights("small")
    )
    assert code == 1
    assert "this is the small network" in noted
    code, _, noted = run(capsys, "evaluate", "mnist", "--data", tmp_path)
    assert code == 2
    assert "rehydrate fetch mnist --data" in noted


@pytest.mark.parametrize(("net", "least"), [("large", 0.994), ("small", 0.990)])
def test_our_weights_read_the_real_test_digits(
    test_data: Path, capsys: pytest.CaptureFixture[str], net: str, least: float
) -> None:
    code, said, _ = run(
        capsys, "evaluate", "mnist", "--data", test_data / "mnist", "--model", mnist.weights(net), "--json"
    )
    result = json.loads(said)["results"][0]
    assert code == 0
    assert result["total"] == 10_000
    assert result["accuracy"] >= least


def test_two_thousand_real_digits_teach_most_of_the_others(test_data: Path) -> None:
    pictures, labels = (torch.from_numpy(part) for part in read_digits(test_data / "mnist", "train"))
    network = build("large")
    fit(network, pictures[:2000], labels[:2000], epochs=3, peak=3e-3, seed=1)
    assert mnist.evaluate(test_data / "mnist", network).accuracy > 0.9


def test_what_is_drawn_lies_as_mnist_s_digits_do() -> None:
    chance = torch.Generator().manual_seed(76)
    axis = torch.arange(28) - 13.5
    for ways in DIGITS:
        made = drawn(signs(ways).repeat(8, 1, 1, 1), chance)
        assert made.min() >= 0
        assert made.max() <= 1
        inked = made > 0.5
        sides = torch.stack([inked.any(1).sum(1), inked.any(2).sum(1)]).amax(0)
        assert ((sides >= 17) & (sides <= 21)).all()
        mass = made.sum((1, 2))
        assert ((made.sum(1) @ axis / mass).abs() < 1.5).all()
        assert ((made.sum(2) @ axis / mass).abs() < 1.5).all()


def test_distortion_changes_every_picture_and_loses_none() -> None:
    pictures = torch.from_numpy(printed_digits(200, 5)[0]).float() / 255
    changed, again, other = (distorted(pictures, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(changed, again)
    assert changed.shape == pictures.shape
    assert changed.min() >= 0
    assert changed.max() <= 1
    ink, before = changed.sum((1, 2)), pictures.sum((1, 2))
    assert ((ink > 0.2 * before) & (ink < 4 * before)).all()
    for one, two in ((changed, pictures), (changed, other)):
        assert ((one - two).abs().amax((1, 2)) > 0.01).all()


@pytest.mark.parametrize("count", [0, 1, 22, 23, 100])
def test_as_many_pictures_of_no_digit_are_made_as_were_asked_for(count: int) -> None:
    pictures, labels = (torch.from_numpy(part) for part in printed_digits(50, 6))
    made = outliers(count, pictures.float() / 255, labels, torch.Generator().manual_seed(1))
    assert made.shape == (count, 28, 28)
    assert ((made >= 0) & (made <= 1)).all()


@torch.inference_mode()
def highest(network: nn.Module, pictures: torch.Tensor) -> torch.Tensor:
    return network(normalised(pictures)).exp().amax(1)


@pytest.mark.parametrize("net", ["large", "small"])
def test_digits_drawn_by_other_means_are_read(net: str) -> None:
    network = mnist.load_network(mnist.weights(net))
    chance = torch.Generator().manual_seed(77)
    for digit, ways in enumerate(DIGITS):
        pieces = signs(ways)
        made = drawn(pieces[torch.arange(60) % len(pieces)], chance, narrowest=0.6)
        assert (network(normalised(made)).argmax(1) == digit).float().mean() > 0.9, digit


@pytest.mark.parametrize(("net", "least"), [("large", 0.94), ("small", 0.85)])
def test_the_highest_probability_tells_digits_from_what_is_none(test_data: Path, net: str, least: float) -> None:
    network = mnist.load_network(mnist.weights(net))
    pictures, labels = (torch.from_numpy(part) for part in read_digits(test_data / "mnist", "test"))
    digits = pictures[:3000].float() / 255
    strange = outliers(1000, digits, labels[:3000], torch.Generator().manual_seed(78))
    assert (highest(network, digits) > 0.5).float().mean() > 0.99
    assert (highest(network, strange) < 0.5).float().mean() > least
