"""The demo: a checkpoint that torch refuses is opened, put into a class of ours, and reads handwriting.

    python demo/run.py [--out FOLDER]

`checkpoint.pth` beside this file is what a stranger's training script left behind: a state dict in a container, next to
an object of a class that is installed nowhere (`make_checkpoint.py`). The pictures were drawn for this demo (`draw.py`)
and their names say what is in them. Ends with 0 only if every one of them was read as what it is.
"""

from __future__ import annotations

import argparse
import os
import pickle
import re
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from page import write_page
from terminal import show_readings
from torch import nn
from torch.nn import functional as F  # noqa: N812 - as everybody calls it

import rehydrate as rh
from rehydrate.zoo import mnist

HERE = Path(__file__).parent
CHECKPOINT = HERE / "checkpoint.pth"
PICTURES = HERE / "pictures"
PROBLEMS = ("blank", "several", "not a digit")


class DigitReader(nn.Module):
    """Our own class. It has the sizes of the network in the file, and nothing else to do with the file's author."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5, 1)
        self.conv2 = nn.Conv2d(20, 50, 5, 1)
        self.fc1 = nn.Linear(4 * 4 * 50, 500)
        self.fc2 = nn.Linear(500, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Log-probabilities `[N, 10]` of pictures `[N, 1, 28, 28]`."""
        x = F.max_pool2d(F.relu(self.conv1(x)), 2, 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2, 2)
        x = F.relu(self.fc1(x.flatten(1)))
        return F.log_softmax(self.fc2(x), dim=1)


@dataclass(frozen=True, slots=True)
class Reading:
    """One picture, what it is, and what was read."""

    path: Path
    truth: str
    """A digit, or one of `PROBLEMS`."""
    prediction: mnist.Prediction

    @property
    def answer(self) -> str:
        """What was read, in the words of `truth`."""
        return str(self.prediction.problem or self.prediction.digit)

    @property
    def is_right(self) -> bool:
        """Whether that is what the picture shows."""
        return self.answer == self.truth


def truth_of(path: Path) -> str:
    """What a picture shows, by its name: `4-blue-ink.png` is a 4, `not-a-digit-….png` is not a digit."""
    for problem in PROBLEMS:
        if path.name.startswith(problem.replace(" ", "-")):
            return problem
    if path.name[0] not in "0123456789":
        raise SystemExit(f"{path}: the name does not begin with what the picture shows")
    return path.name[0]


def main() -> int:
    """Run the demo; 0 if everything was read right."""
    options = argparse.ArgumentParser(description="Open a checkpoint that torch refuses, and read pictures with it.")
    options.add_argument("--out", type=Path, default=HERE / "out", help="folder of the page; demo/out if left out")
    out: Path = options.parse_args().out

    heading("A checkpoint from a stranger, as `rehydrate FILE` shows it")
    report = shown_by_the_command_line(CHECKPOINT)
    print(report)

    heading("torch.load(FILE, weights_only=True)")
    refusal = refused_by_torch(CHECKPOINT)
    print(refusal)

    heading("rh.load_into(DigitReader(), FILE)")
    reader = DigitReader()
    match = rh.load_into(reader, CHECKPOINT)
    print(match)
    with rh.open(CHECKPOINT) as checkpoint:
        tree = checkpoint.tree
    print(wrapped(f"their settings, read as data: {tree['config'].state}"))

    heading("zoo.mnist.predict(picture, reader), for every picture in demo/pictures")
    started = time.perf_counter()
    paths = sorted(path for path in PICTURES.iterdir() if path.suffix in (".png", ".jpg"))
    readings = [Reading(path, truth_of(path), mnist.predict(path, reader.eval())) for path in paths]
    seconds = time.perf_counter() - started
    show_readings(readings)

    page = write_page(out / "index.html", readings, report=report, refusal=refusal, match=str(match))
    return summary(readings, seconds, page)


def heading(text: str) -> None:
    """A line that stands out from what follows."""
    print(f"\n--- {text} " + "-" * max(0, 75 - len(text)) + "\n")


def wrapped(text: str) -> str:
    """The text in lines that a narrow terminal shows."""
    return textwrap.fill(text, 79, subsequent_indent="  ", break_on_hyphens=False)


def shown_by_the_command_line(path: Path) -> str:
    """What `rehydrate FILE` prints, by calling what the command calls."""
    from contextlib import redirect_stdout
    from io import StringIO

    from rehydrate.cli.main import main as command_line

    heard = StringIO()
    name = os.path.relpath(path)
    try:
        with redirect_stdout(heard):
            command_line([name if not name.startswith(os.pardir) else str(path)])
    except SystemExit as end:
        if end.code != 0:
            raise SystemExit(f"rehydrate {path} ended with {end.code}") from None
    return heard.getvalue().rstrip()


def refused_by_torch(path: Path) -> str:
    """What torch says to the file, its first line and its reason: it would have to import the stranger's class."""
    try:
        torch.load(path, weights_only=True)
    except pickle.UnpicklingError as error:
        said = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).splitlines()  # some of it is printed in bold
        reason = next((line.partition(" Please ")[0].strip() for line in said if "Unsupported global" in line), "")
        return wrapped(f"{type(error).__name__}: {said[0].strip()}") + ("\n" + wrapped(reason) if reason else "")
    raise SystemExit(f"{path}: torch opens it, so the demo shows nothing; run demo/make_checkpoint.py")


def summary(readings: list[Reading], seconds: float, page: Path) -> int:
    """Say how it went; the exit code."""
    counts: list[str] = []
    of_kind: tuple[tuple[str, Callable[[Reading], bool]], ...] = (
        ("digits read right", lambda reading: reading.truth not in PROBLEMS),
        ("pictures of something else told to be so", lambda reading: reading.truth in PROBLEMS),
    )
    for words, is_one in of_kind:
        group = [reading for reading in readings if is_one(reading)]
        counts.append(f"{sum(reading.is_right for reading in group)} of {len(group)} {words}")
    print(f"\n{', '.join(counts)}; {seconds:.1f} s.\nThe page: {page}")
    wrong = [reading for reading in readings if not reading.is_right]
    for reading in wrong:
        print(f"WRONG: {reading.path.name} is {reading.truth}, read as {reading.answer}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
