"""`rehydrate predict`: a line for each picture, an exit code for the worst, one object with --json."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

import rehydrate as rh
from rehydrate.zoo import mnist

from .conftest import Run


def draw(path: Path, text: str) -> Path:
    """A page with this text in Pillow's own font."""
    image = Image.new("RGB", (300, 200), "white")
    ImageDraw.Draw(image).text((150, 100), text, font=ImageFont.load_default(120), fill="navy", anchor="mm")
    image.save(path)
    return path


def test_a_digit_is_a_line_and_zero(run: Run, tmp_path: Path) -> None:
    done = run("predict", draw(tmp_path / "a picture.png", "4"))
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"{tmp_path / 'a picture.png'}: 4 (")


def test_a_picture_without_a_digit_is_one_and_an_unreadable_one_two(run: Run, tmp_path: Path) -> None:
    seven, blank, broken = draw(tmp_path / "7.png", "7"), draw(tmp_path / "blank.png", ""), tmp_path / "broken.png"
    broken.write_bytes(seven.read_bytes()[:300])
    assert run("predict", seven, blank).code == 1
    done = run("predict", blank, broken, seven)
    assert done.code == 2
    assert [line.partition(": ")[2][:8] for line in done.out.splitlines()] == ["no digit", "7 (100.0"]
    assert done.err.startswith("rehydrate: ")


def test_json_has_one_result_for_each_picture_and_one_problem_for_each_that_was_not_read(
    run: Run, tmp_path: Path
) -> None:
    pictures = [draw(tmp_path / "3.png", "3"), draw(tmp_path / "blank.png", ""), tmp_path / "none.png"]
    done = run("predict", "--json", *pictures)
    said = json.loads(done.out)
    assert (done.code, said["schema_version"], said["command"], said["ok"]) == (2, 1, "predict", False)
    assert [(result["path"], result["ok"]) for result in said["results"]] == [
        (str(pictures[0]), True), (str(pictures[1]), False), (str(pictures[2]), False),
    ]  # fmt: skip
    assert said["results"][0]["digit"] == 3
    assert sum(said["results"][0]["probabilities"]) == pytest.approx(1)
    assert said["results"][1]["problem"] == "blank"
    assert [problem["code"] for problem in said["problems"]] == ["blank", "missing-file"]
    assert all(set(problem) == {"code", "severity", "message", "hint"} for problem in said["problems"])


@pytest.mark.parametrize("size", ["large", "small"])
@pytest.mark.parametrize("wrap", [False, True])
def test_either_network_of_somebody_reads_from_whatever_it_is_wrapped_in(
    size: str, wrap: bool, run: Run, tmp_path: Path
) -> None:
    tensors = rh.load(mnist.weights(size))  # type: ignore[arg-type]
    assert isinstance(tensors, dict)
    kept = {"epoch": 10, "state_dict": {f"module.{name}": value for name, value in tensors.items()}}
    torch.save(kept if wrap else tensors, tmp_path / "somebody's.pth")
    done = run("predict", draw(tmp_path / "8.png", "8"), "--model", tmp_path / "somebody's.pth")
    assert done.code == 0
    assert ": 8 (" in done.out


@pytest.mark.parametrize("as_json", [False, True])
def test_a_model_of_another_kind_is_one_and_a_missing_one_two(as_json: bool, run: Run, tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(3, 2).state_dict(), tmp_path / "linear.pth")
    words = ["predict", draw(tmp_path / "8.png", "8"), *(["--json"] if as_json else []), "--model"]
    assert run(*words, tmp_path / "linear.pth").code == 1
    done = run(*words, tmp_path / "none.pth")
    assert done.code == 2
    if as_json:
        said = json.loads(done.out)
        assert [result["ok"] for result in said["results"]] == [False]
        assert [problem["code"] for problem in said["problems"]] == ["missing-file"]
