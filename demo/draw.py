"""Draws the example pictures of the demo: `python demo/draw.py [FOLDER]`.

Every picture is drawn here, stroke by stroke, from a fixed seed; no data set is used and nothing is downloaded. The
file name says what is right, `4-blue-ink-on-yellow.png` or `blank-sheet-of-paper.jpg`; the demo holds the answers
against it. They are as messy as pictures of digits are: colours, lines, shadows, noise, transparency, sixteen bits.
"""

from __future__ import annotations

import sys
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from handwriting import Mark, written
from paper import (
    Colour,
    Keeping,
    Paper,
    Step,
    blur,
    board,
    cloud,
    coloured,
    few_colours,
    grey,
    lamp,
    lined,
    noise,
    one_bit,
    plain,
    sideways,
    sixteen_bits,
    transparent,
    turned,
)
from PIL import Image

__all__ = ["PICTURES", "Drawing", "draw"]

BLACK, WHITE, CHALK, PENCIL = (20, 20, 22), (255, 255, 255), (232, 232, 225), (84, 84, 90)
BLUE, RED, GREEN, PURPLE = (28, 52, 150), (190, 30, 40), (10, 90, 50), (70, 20, 100)
SHEET, CREAM, GREY, NIGHT = plain(WHITE), plain((238, 230, 212)), plain((215, 213, 206)), plain((0, 0, 0))
LILAC, OLIVE, BOARD, SLATE = plain((240, 236, 250)), plain((222, 222, 206)), board((38, 62, 52)), board((52, 54, 60))
SQUARED = lined((246, 247, 250), (176, 200, 226), every=24, squares=True)
RULED = lined((250, 249, 244), (150, 180, 220), every=34)
PHOTO = (lamp((0.2, 0.1), 0.5), blur(1.0), noise(7))


@dataclass(frozen=True, slots=True)
class Drawing:
    """One picture: what is written on which paper, what happened to it, and how it was kept."""

    name: str
    marks: tuple[Mark, ...]
    ink: Colour = BLACK
    paper: Paper = SHEET
    size: tuple[int, int] = (240, 240)
    """Width and height in pixels."""
    steps: tuple[Step, ...] = ()
    grain: float = 0.0
    """How much the paper's roughness shows through the ink: pencil and chalk."""
    kept: Keeping = coloured
    quality: int = 82
    """Of a JPEG."""


PICTURES = (
    Drawing("0-black-on-white.png", (Mark("0"),), kept=grey),
    Drawing("0-chalk-on-a-blackboard.jpg", (Mark("0b", pen=0.08, tilt=6),), CHALK, BOARD, (360, 280), grain=0.5),
    Drawing("0-photo-under-a-lamp.jpg", (Mark("0", 0.5, (0.56, 0.52), 0.1, tilt=-7),), BLUE, CREAM, (320, 400), PHOTO),
    Drawing("1-on-ruled-paper.png", (Mark("1", 0.5, (0.45, 0.5), 0.08, slant=0.1),), BLUE, RULED, (260, 300)),
    Drawing("1-small-on-a-large-page.png", (Mark("1", 0.11, (0.23, 0.18), 0.11),), size=(620, 877), kept=grey),
    Drawing("1-pencil-photo.jpg", (Mark("1b", 0.46, pen=0.07, tilt=5),), PENCIL, GREY, (300, 300), PHOTO, grain=0.3),
    Drawing("2-white-on-black.png", (Mark("2b", pen=0.1),), WHITE, NIGHT, kept=grey),
    Drawing("2-fax-of-one-bit.png", (Mark("2", 0.55, (0.4, 0.55), 0.08),), size=(380, 300), kept=one_bit),
    Drawing("2-tall-narrow-page.png", (Mark("2", 0.22, (0.5, 0.24), 0.12),), PURPLE, LILAC, (170, 540)),
    Drawing("2-phone-held-upright.jpg", (Mark("2", 0.42, pen=0.1),), GREEN, CREAM, (300, 400), PHOTO, kept=sideways),
    Drawing("3-tiny-28-by-28.png", (Mark("3", 0.68, pen=0.13),), WHITE, NIGHT, (28, 28), kept=grey),
    Drawing("3-red-on-squared-paper.png", (Mark("3b", 0.6, (0.52, 0.48), 0.08, slant=0.08),), RED, SQUARED, (290, 290)),
    Drawing("3-photo-of-a-grey-note.jpg", (Mark("3", 0.44, (0.42, 0.5), 0.1),), BLACK, GREY, (420, 320),
            (turned(8), lamp((0.9, 0.9), 0.55), blur(1.2), noise(9))),
    Drawing("4-blue-ink-on-yellow.png", (Mark("4", 0.6, pen=0.09),), BLUE, plain((255, 226, 92)), (260, 260)),
    Drawing("4-crushed-by-jpeg.jpg", (Mark("4b", 0.62, pen=0.12),), size=(200, 220), quality=6),
    Drawing("4-scan-of-sixteen-bits.png", (Mark("4", 0.5, (0.6, 0.44), 0.1),), size=(150, 180), kept=sixteen_bits),
    Drawing("5-in-the-alpha-channel-only.png", (Mark("5"),), (0, 0, 0), NIGHT, kept=transparent),
    Drawing("5-felt-pen-on-orange.png", (Mark("5b", 0.6, pen=0.15, tilt=-4),), PURPLE, plain((246, 150, 60))),
    Drawing("5-wide-banner.png", (Mark("5", 0.66, (0.78, 0.5), 0.11),), GREEN, plain((226, 244, 238)), (620, 150)),
    Drawing("6-green-on-pink.png", (Mark("6", 0.62, slant=0.06),), GREEN, plain((255, 206, 220))),
    Drawing("6-sixteen-colours.png", (Mark("6b", 0.6, pen=0.1),), PURPLE, OLIVE, (250, 220), kept=few_colours),
    Drawing("6-photo-from-the-side.jpg", (Mark("6", 0.48, (0.5, 0.46), 0.11),), BLUE, CREAM, (320, 360),
            (turned(-9), lamp((1.0, 0.3), 0.42), blur(1.4), noise(8))),
    Drawing("7-gold-on-navy.png", (Mark("7", 0.58, pen=0.1),), (240, 196, 80), plain((18, 26, 66)), (280, 240)),
    Drawing("7-tilted-noisy-photo.jpg", (Mark("7", 0.5, pen=0.1),), BLACK, GREY, (300, 340),
            (turned(10), lamp((0.1, 0.8), 0.55), noise(16), blur(0.8))),
    Drawing("7-in-the-corner.png", (Mark("7", 0.26, (0.83, 0.8), 0.12),), size=(420, 420), kept=grey),
    Drawing("8-thick-marker.png", (Mark("8", 0.66, pen=0.17),), (200, 30, 90), plain((250, 250, 250))),
    Drawing("8-thin-ballpoint.png", (Mark("8b", 0.6, pen=0.035),), BLUE, plain((253, 253, 250)), (300, 300)),
    Drawing("8-chalk-on-slate.jpg", (Mark("8b", 0.6, pen=0.09, tilt=-5),), CHALK, SLATE, (320, 320), grain=0.45),
    Drawing("9-white-and-see-through.png", (Mark("9", pen=0.11),), WHITE, kept=transparent),
    Drawing("9-photo-of-squared-paper.jpg", (Mark("9", 0.5, pen=0.1, slant=0.05),), BLUE, SQUARED, (340, 340),
            (turned(-5), lamp((0.8, 0.0), 0.55), blur(1.0), noise(6))),
    Drawing("9-tiny-icon.png", (Mark("9b", 0.78, pen=0.12),), size=(24, 32)),
    Drawing("blank-sheet-of-paper.jpg", (), paper=CREAM, size=(320, 320), steps=PHOTO),
    Drawing("several-digits-4-and-2.png", (Mark("4b", 0.5, (0.3, 0.5)), Mark("2", 0.5, (0.7, 0.5))), size=(340, 260)),
    Drawing("not-a-digit-but-a-scribble.png", (Mark("scribble", 0.5, pen=0.07),), size=(300, 240)),
)  # fmt: skip


def draw(drawing: Drawing) -> Image.Image:
    """The picture; the same each time, whatever else has been drawn."""
    rng = np.random.default_rng(zlib.crc32(drawing.name.encode()))
    width, height = drawing.size
    ink = np.zeros((height, width))
    for mark in drawing.marks:
        ink = np.maximum(ink, written(mark, drawing.size, rng))
    if drawing.grain:
        rough = cloud(drawing.size, rng, cells=max(drawing.size) // 3)
        ink *= np.clip(1 - drawing.grain * (0.5 + rough), 0, 1)
    paper = drawing.paper(drawing.size, rng)
    sheet = paper + (np.array(drawing.ink, dtype=np.float64) - paper) * ink[..., None]
    for step in drawing.steps:
        sheet = step(sheet, rng)
    return drawing.kept(sheet, ink)


def encoded(picture: Image.Image, drawing: Drawing) -> bytes:
    """The picture as a file."""
    buffer = BytesIO()
    if drawing.name.endswith(".jpg"):
        picture.save(buffer, "JPEG", quality=drawing.quality, optimize=True, exif=picture.getexif())
    else:
        picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def main() -> None:
    """Draw every picture into a folder."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    total = 0
    for drawing in PICTURES:
        total += (folder / drawing.name).write_bytes(encoded(draw(drawing), drawing))
    print(f"{len(PICTURES)} pictures, {total:,} bytes, in {folder}")


if __name__ == "__main__":
    main()
