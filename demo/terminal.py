"""The pictures in the terminal: what the network saw, in half blocks. Plain lines where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.text import Text

__all__ = ["Reading", "seen", "show_readings"]

WIDE = 14
"""Columns of one picture: each character shows two points, one above the other, of a picture of 14 by 14."""


class Prediction(Protocol):
    """What is shown of a `zoo.mnist.Prediction`."""

    digit: int | None
    probabilities: Sequence[float]
    picture: object


class Reading(Protocol):
    """What is shown of a reading."""

    path: Path
    truth: str
    prediction: Prediction
    answer: str
    is_right: bool


def show_readings(readings: Sequence[Reading]) -> None:
    """Show every reading; pictures only where they can be seen."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal or console.color_system is None or not console.encoding.startswith("utf"):
        widest = max(len(reading.path.name) for reading in readings)
        for reading in readings:
            print(f"  {reading.path.name:<{widest}}  {caption(reading)}")
        return
    a_row = max(1, (console.width + 1) // (WIDE + 2))
    for start in range(0, len(readings), a_row):
        console.print(row(readings[start : start + a_row]), no_wrap=True, crop=True)


def row(readings: Sequence[Reading]) -> Text:
    """Some pictures beside each other, their answers below."""
    pictures = [half_blocks(seen(reading)) for reading in readings]
    lines = [Text("  ").join(line) for line in zip(*pictures, strict=True)]
    answers = (
        Text(f"{caption(reading):<{WIDE}}", "bold green" if reading.is_right else "bold red") for reading in readings
    )
    return Text("\n").join([*lines, Text("  ").join(answers), Text()])


def caption(reading: Reading) -> str:
    """The answer in a few characters, with its probability where it is a digit."""
    digit = reading.prediction.digit
    sure = "" if digit is None else f"  {100 * float(reading.prediction.probabilities[digit]):.0f} %"
    return f"{reading.answer}{sure}" + ("" if reading.is_right else f" (is {reading.truth})")


def seen(reading: Reading) -> NDArray[np.uint8]:
    """The 28 by 28 grey levels that the network saw; black where the page had nothing to show it."""
    return np.asarray(reading.prediction.picture, dtype=np.uint8)


def half_blocks(picture: NDArray[np.uint8]) -> list[Text]:
    """Lines of upper half blocks: the colour of the character is the point above, its background the one below."""
    small = np.asarray(Image.fromarray(picture).resize((WIDE, WIDE), Image.Resampling.BOX))
    lines = []
    for upper, lower in zip(small[::2], small[1::2], strict=True):
        line = Text()
        for above, below in zip(upper.tolist(), lower.tolist(), strict=True):
            line.append("▀", Style(color=Color.from_rgb(*[above] * 3), bgcolor=Color.from_rgb(*[below] * 3)))
        lines.append(line)
    return lines
