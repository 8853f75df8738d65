"""`make pictures`: how many of MNIST's test digits `predict` reads once they look like pictures that people have.

Each of five transformations is applied to the first digits of the test set, each digit changed in its own way by a
seed, and goes through `rehydrate.zoo.mnist.predict` as a picture. A problem that is reported counts as wrong. Ends with
1 if any transformation is below 98 %. Then pages without a digit to read: how often the right problem is named, and how
often a digit is guessed. The digits are the IDX files in --data, or those of $REHYDRATE_TEST_DATA.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from rehydrate.zoo import mnist
from rehydrate.zoo.mnist.digits import read_digits

SIDE = 28
LEAST = 0.98
Chance = np.random.Generator


def black_on_white(digit: np.ndarray, chance: Chance) -> Image.Image:
    """28 × 28, dark ink on white."""
    return Image.fromarray(255 - digit)


def alpha_only(digit: np.ndarray, chance: Chance) -> Image.Image:
    """Grey and alpha; the grey is 0 everywhere, and the digit is only in the alpha channel."""
    return Image.fromarray(np.stack([np.zeros_like(digit), digit], axis=2))


def large_page(digit: np.ndarray, chance: Chance) -> Image.Image:
    """Ten times as large, dark on white, somewhere on a page that is not square."""
    large = Image.fromarray(255 - digit).resize((10 * SIDE, 10 * SIDE), Image.Resampling.BICUBIC)
    top, right, bottom, left = (int(margin) for margin in chance.integers(0, 400, 4))
    page = Image.new("L", (10 * SIDE + left + right, 10 * SIDE + top + bottom), 255)
    page.paste(large, (left, top))
    return page


def photograph(digit: np.ndarray, chance: Chance) -> Image.Image:
    """Dark blue on off-white paper, light from one side, out of focus, with noise, in colour."""
    side = SIDE * int(chance.integers(5, 11))
    large = np.asarray(Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)) / 255
    top, right, bottom, left = (int(margin) for margin in chance.integers(10, 120, 4))
    ink = np.pad(large, ((top, bottom), (left, right)))[..., None]
    down, across = np.mgrid[0 : ink.shape[0], 0 : ink.shape[1]]
    angle = chance.uniform(0, 2 * np.pi)
    slope = np.cos(angle) * across / ink.shape[1] + np.sin(angle) * down / ink.shape[0]
    light = chance.uniform(0.4, 0.7) + 0.3 * (slope - slope.min()) / np.ptp(slope)
    paper, pen = np.array([238, 231, 214]), np.array([40, 42, 70])
    levels = light[..., None] * (paper * (1 - ink) + pen * ink)
    sharp = Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))
    blurred = np.asarray(sharp.filter(ImageFilter.GaussianBlur(chance.uniform(0.5, 2))), dtype=np.float64)
    return Image.fromarray(np.clip(blurred + chance.normal(0, 8, blurred.shape), 0, 255).astype(np.uint8))


def turned_and_shifted(digit: np.ndarray, chance: Chance) -> Image.Image:
    """28 × 28, light on dark, turned by up to 12 degrees and shifted by up to 3 pixels."""
    shift = (int(chance.integers(-3, 4)), int(chance.integers(-3, 4)))
    return Image.fromarray(digit).rotate(chance.uniform(-12, 12), Image.Resampling.BILINEAR, translate=shift)


TRANSFORMATIONS: tuple[Callable[[np.ndarray, Chance], Image.Image], ...] = (
    black_on_white, alpha_only, large_page, photograph, turned_and_shifted,
)  # fmt: skip


def blank(digits: np.ndarray, chance: Chance) -> Image.Image:
    """An empty page: of one colour, see-through, or photographed in uneven light."""
    height, width = (int(side) for side in chance.integers(28, 400, 2))
    if chance.random() < 0.3:
        colour = tuple(int(level) for level in chance.integers(0, 256, 3))
        return Image.new("RGBA", (width, height), (*colour, 0 if chance.random() < 0.5 else 255))
    down, across = np.mgrid[0:height, 0:width] / max(height, width)
    light = 1 - chance.uniform(0.1, 0.5) * (down if chance.random() < 0.5 else across)
    levels = chance.uniform(190, 250) * light + chance.normal(0, chance.uniform(1, 12), light.shape)
    return Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))


def several(digits: np.ndarray, chance: Chance) -> Image.Image:
    """Two or three of the test digits, beside each other or one above the other."""
    chosen = [255 - digits[at] for at in chance.integers(0, len(digits), chance.integers(2, 4))]
    page = np.concatenate(chosen, axis=int(chance.random() < 0.8))
    scale = int(chance.integers(1, 6))
    return Image.fromarray(page).resize((page.shape[1] * scale, page.shape[0] * scale), Image.Resampling.BICUBIC)


def not_a_digit(digits: np.ndarray, chance: Chance) -> Image.Image:
    """A letter that is like no digit, a scribble, noise, or a pattern."""
    kind = chance.integers(4)
    page = Image.new("L", (200, 200), 255)
    pencil = ImageDraw.Draw(page)
    if kind == 0:
        letter = "AEFHKMNRTVWXYkmwx&@#"[chance.integers(20)]
        pencil.text((100, 100), letter, fill=0, font=ImageFont.load_default(120), anchor="mm")
        return page.rotate(chance.uniform(-10, 10), Image.Resampling.BICUBIC, fillcolor=255)
    if kind == 1:
        points = [tuple(point) for point in chance.uniform(20, 180, (25, 2))]
        pencil.line(points, fill=0, width=int(chance.integers(3, 9)))
        return page
    if kind == 2:
        return Image.fromarray(chance.integers(0, 256, (200, 200), dtype=np.uint8))
    waves = np.sin(np.arange(200) * chance.uniform(0.1, 1))[:, None] * np.sin(np.arange(200) * chance.uniform(0.1, 1))
    return Image.fromarray((127 + 127 * waves).astype(np.uint8))


WITHOUT: tuple[Callable[[np.ndarray, Chance], Image.Image], ...] = (blank, several, not_a_digit)


def main() -> None:
    """Measure, and print a line for each transformation."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--digits", type=int, default=9000, help="test digits of each (default 9,000)")
    parser.add_argument("--pages", type=int, default=500, help="pages without a digit of each kind (default 500)")
    parser.add_argument("--data", type=Path, help="folder of the IDX files")
    options = parser.parse_args()
    root = os.environ.get("REHYDRATE_TEST_DATA")
    folder = options.data or (Path(root, "mnist") if root else None)
    if folder is None:
        sys.exit("give --data DIR, or set REHYDRATE_TEST_DATA; `rehydrate fetch mnist` gets the files")
    pictures, labels = read_digits(folder, "test")
    is_good = True
    for transform in TRANSFORMATIONS:
        chance = np.random.default_rng(1998)
        problems: Counter[str] = Counter()
        right, seconds, count = 0, 0.0, min(options.digits, len(labels))
        for digit, label in zip(pictures[:count], labels, strict=False):
            picture = transform(digit, chance)
            started = time.perf_counter()
            prediction = mnist.predict(picture)
            seconds += time.perf_counter() - started
            right += prediction.digit == label
            problems.update([prediction.problem] if prediction.problem else [])
        said = ", ".join(f"{number} {problem}" for problem, number in problems.most_common())
        name = transform.__name__.replace("_", " ")
        print(
            f"{name:<20} {right:5,} of {count:,} right, {100 * right / count:6.2f} %   "
            f"{1000 * seconds / count:4.1f} ms each   {said}",
            flush=True,
        )
        is_good &= right >= LEAST * count
    for kind in WITHOUT:
        chance, wanted = np.random.default_rng(1998), kind.__name__.replace("_", " ")
        found = Counter(mnist.predict(kind(pictures, chance)).problem for _ in range(options.pages))
        others = ", ".join(f"{number} {problem}" for problem, number in found.items() if problem not in (wanted, None))
        print(
            f"{wanted:<20} {found[wanted]:5,} of {options.pages:,} named, {found[None]} guessed   {others}", flush=True
        )
    sys.exit(0 if is_good else 1)


if __name__ == "__main__":
    main()
