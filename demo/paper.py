"""What digits are written on, what happens to a page on its way into a file, and how the file keeps it.

A sheet is height × width × 3, from 0 to 255. A `Paper` makes one, a `Step` changes one (light, noise, a camera held
askew), a `Keeping` makes a picture of it, in colour or in sixteen bits or with nothing where there is no ink.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from handwriting import Ink
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFilter

__all__ = [
    "Colour", "Keeping", "Paper", "Sheet", "Step", "blur", "board", "cloud", "coloured", "few_colours", "grey", "lamp",
    "lined", "noise", "one_bit", "plain", "sideways", "sixteen_bits", "transparent", "turned",
]  # fmt: skip

Colour = tuple[int, int, int]
Sheet = NDArray[np.float64]
Paper = Callable[[tuple[int, int], np.random.Generator], Sheet]
Step = Callable[[Sheet, np.random.Generator], Sheet]
Keeping = Callable[[Sheet, Ink], Image.Image]


# --- Papers ---------------------------------------------------------------------------------------------------------


def plain(colour: Colour) -> Paper:
    """One colour."""
    return lambda size, rng: np.full((size[1], size[0], 3), colour, dtype=np.float64)


def lined(colour: Colour, line: Colour, *, every: int, squares: bool = False) -> Paper:
    """Printed lines, or squares."""

    def paper(size: tuple[int, int], rng: np.random.Generator) -> Sheet:
        sheet = plain(colour)(size, rng)
        sheet[every // 2 :: every] = line
        if squares:
            sheet[:, every // 2 :: every] = line
        return sheet

    return paper


def board(colour: Colour) -> Paper:
    """A blackboard that has been wiped: cloudy, with dust."""

    def paper(size: tuple[int, int], rng: np.random.Generator) -> Sheet:
        return (
            plain(colour)(size, rng)
            + cloud(size, rng, cells=6)[..., None] * 16
            + rng.normal(0, 4, size[::-1])[..., None]
        )

    return paper


def cloud(size: tuple[int, int], rng: np.random.Generator, *, cells: int) -> Ink:
    """Slow random light and shade, around 0, about -1 to 1."""
    coarse = Image.fromarray(rng.normal(0, 0.6, (cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), dtype=np.float64)


# --- What happens between the paper and the file --------------------------------------------------------------------


def lamp(corner: tuple[float, float], dark: float) -> Step:
    """Light that falls off from a place on the page; `dark` is what is left of it far away."""

    def step(sheet: Sheet, rng: np.random.Generator) -> Sheet:
        height, width = sheet.shape[:2]
        y, x = np.mgrid[0:height, 0:width] / max(height, width)
        away = np.hypot(x - corner[0] * width / max(height, width), y - corner[1] * height / max(height, width))
        light = 1 - (1 - dark) * np.clip(away / 1.1, 0, 1) + 0.03 * cloud((width, height), rng, cells=5)
        return sheet * light[..., None]

    return step


def noise(strength: float) -> Step:
    """A sensor's noise, a little of it in colour."""
    return lambda sheet, rng: (
        sheet + rng.normal(0, strength, (*sheet.shape[:2], 1)) + rng.normal(0, strength / 3, sheet.shape)
    )


def blur(radius: float) -> Step:
    """Out of focus."""
    return lambda sheet, rng: np.asarray(as_picture(sheet).filter(ImageFilter.GaussianBlur(radius)), dtype=np.float64)


def turned(angle: float) -> Step:
    """The camera was held askew: the page is turned, clockwise, and its edges repeat."""

    def step(sheet: Sheet, rng: np.random.Generator) -> Sheet:
        height, width = sheet.shape[:2]
        wide = np.pad(sheet, ((height // 4, height // 4), (width // 4, width // 4), (0, 0)), mode="edge")
        picture = as_picture(wide).rotate(-angle, Image.Resampling.BICUBIC)
        top, left = height // 4, width // 4
        return np.asarray(picture, dtype=np.float64)[top : top + height, left : left + width]

    return step


def as_picture(sheet: Sheet) -> Image.Image:
    """The sheet in eight bits."""
    return Image.fromarray(np.clip(np.rint(sheet), 0, 255).astype(np.uint8))


# --- Ways to keep a picture -----------------------------------------------------------------------------------------


def coloured(sheet: Sheet, ink: Ink) -> Image.Image:
    """Red, green and blue."""
    return as_picture(sheet)


def grey(sheet: Sheet, ink: Ink) -> Image.Image:
    """Shades of grey."""
    return as_picture(sheet).convert("L")


def one_bit(sheet: Sheet, ink: Ink) -> Image.Image:
    """Black or white, as a fax has it."""
    return (
        as_picture(sheet).convert("L").point(lambda value: 255 * (value > 128)).convert("1", dither=Image.Dither.NONE)
    )


def few_colours(sheet: Sheet, ink: Ink) -> Image.Image:
    """A palette of sixteen."""
    return as_picture(sheet).quantize(16, dither=Image.Dither.NONE)


def sixteen_bits(sheet: Sheet, ink: Ink) -> Image.Image:
    """Shades of grey as a scanner writes them."""
    return Image.fromarray((np.clip(sheet.mean(axis=2), 0, 255) * 257).astype(np.uint16))


def sideways(sheet: Sheet, ink: Ink) -> Image.Image:
    """As a phone keeps it that was held upright: lying down, with a note that says which way is up."""
    picture = as_picture(sheet).transpose(Image.Transpose.ROTATE_90)
    picture.getexif()[ExifTags.Base.Orientation] = 6
    return picture


def transparent(sheet: Sheet, ink: Ink) -> Image.Image:
    """No paper at all: the sheet's colour where there is ink, and nothing around it."""
    return Image.fromarray(np.dstack([np.asarray(as_picture(sheet)), np.rint(255 * ink).astype(np.uint8)]))
