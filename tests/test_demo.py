"""The demo runs, reads its pictures right, says so if it does not, and its page needs nothing else."""

from __future__ import annotations

import base64
import io
import re
import shutil
import subprocess
import sys
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import rehydrate as rh

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "demo"


def run(demo: Path, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(demo / "run.py"), *arguments],
        capture_output=True, text=True, cwd=folder, timeout=120, check=False,
    )  # fmt: skip


class Page(HTMLParser):
    """What a browser would fetch, and what it would show."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Page, str]:
    """What a run of the demo prints, and its page."""
    folder = tmp_path_factory.mktemp("demo")
    done = run(DEMO, "--out", "made/here", folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    text = (folder / "made" / "here" / "index.html").read_text("utf-8")
    return done.stdout, Page(text), text


def test_it_shows_the_file_refuses_with_torch_loads_and_reads(shown: tuple[str, Page, str]) -> None:
    output, _, _ = shown
    assert "somebodys_project.config.TrainingConfig" in output
    assert "UnpicklingError: Weights only load failed" in output
    assert "DigitReader: 8 of 8 tensors fit, 100 % of its parameters" in output
    for path in (DEMO / "pictures").iterdir():
        assert path.name in output
    counts = re.search(r"(\d+) of (\d+) digits read right, (\d+) of (\d+) pictures of something else", output)
    assert counts is not None
    assert counts[1] == counts[2]
    assert int(counts[1]) >= 20
    assert counts[3] == counts[4]
    assert "WRONG" not in output


def test_the_page_holds_every_picture_and_needs_nothing_else(shown: tuple[str, Page, str]) -> None:
    _, page, text = shown
    assert not {"script", "link", "iframe", "object", "embed", "form", "base"} & set(page.tags)
    assert "url(" not in text
    assert "@import" not in text
    pictures = [
        base64.b64decode(re.fullmatch(r"data:image/(?:png|jpeg);base64,(\S+)", source)[1]) for source in page.sources
    ]
    originals = {path.read_bytes() for path in (DEMO / "pictures").iterdir()}
    assert len(originals) >= 20
    assert originals <= set(pictures)
    seen = [
        picture for picture in pictures if picture not in originals or Image.open(io.BytesIO(picture)).size == (28, 28)
    ]
    assert len(seen) >= len(originals)
    words = " ".join(page.words)
    for path in (DEMO / "pictures").iterdir():
        assert path.name in words


def test_a_picture_that_is_read_wrong_is_named_and_the_exit_code_says_so(tmp_path: Path) -> None:
    demo = tmp_path / "demo"
    shutil.copytree(DEMO, demo, ignore=shutil.ignore_patterns("pictures", "out", "__pycache__"))
    (demo / "pictures").mkdir()
    shutil.copy(DEMO / "pictures" / "2-white-on-black.png", demo / "pictures" / "7-<i>but-it-is-a-2.png")
    done = run(demo, folder=tmp_path)
    assert done.returncode == 1
    assert "WRONG: 7-<i>but-it-is-a-2.png is 7, read as 2" in done.stdout
    page = Page((demo / "out" / "index.html").read_text("utf-8"))
    assert "i" not in page.tags, "a file's name is text and never markup"


def test_the_checkpoint_is_what_it_claims_to_be() -> None:
    with zipfile.ZipFile(DEMO / "checkpoint.pth") as members:
        assert b"csomebodys_project.config\nTrainingConfig\n" in members.read("checkpoint/data.pkl")
    with rh.open(DEMO / "checkpoint.pth") as checkpoint:
        assert checkpoint.facts["imports"] == ("somebodys_project.config.TrainingConfig",)
        assert isinstance(checkpoint.tree["config"], rh.Record)
        assert checkpoint.tree["config"].state["dataset"] == "mnist"


def test_the_checkpoint_has_the_weights_that_ship() -> None:
    from rehydrate.zoo import mnist

    with rh.open(DEMO / "checkpoint.pth") as one, rh.open(mnist.weights("large")) as other:
        ours, shipped = one.weights(), other.weights()
        assert list(ours) == list(shipped)
        for name, ref in ours.items():
            np.testing.assert_array_equal(ref.numpy(), shipped[name].numpy(), err_msg="run demo/make_checkpoint.py")


def test_the_pictures_are_those_that_the_generator_draws(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(DEMO / "draw.py"), str(tmp_path / "drawn")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    drawn = {path.name: path for path in (tmp_path / "drawn").iterdir()}
    committed = {path.name: path for path in (DEMO / "pictures").iterdir()}
    assert drawn.keys() == committed.keys()
    for name, path in committed.items():
        one, other = (np.asarray(Image.open(file).convert("RGBA"), dtype=float) for file in (path, drawn[name]))
        assert one.shape == other.shape, name
        assert np.abs(one - other).mean() < 2, f"{name} is not what draw.py draws; run it"


def test_the_pictures_have_every_digit_twice_and_are_small() -> None:
    files = list((DEMO / "pictures").iterdir())
    for digit in "0123456789":
        assert sum(path.name.startswith(digit) for path in files) >= 2
    assert sum(path.stat().st_size for path in files) < 600_000
