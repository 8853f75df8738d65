"""Pictures as people have them, through `predict`: read, or the problem named."""

from __future__ import annotations

import importlib.util
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont, ImageOps
from torch import nn

import rehydrate as rh
from rehydrate.zoo import mnist
from rehydrate.zoo.mnist.digits import read_digits

BENCH = Path(__file__).parents[2] / "bench" / "pictures.py"


def bench() -> ModuleType:
    """The transformations that `make pictures` measures with."""
    spec = importlib.util.spec_from_file_location("bench_pictures", BENCH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def printed(
    text: str, *, size: int = 160, page: tuple[int, int] = (240, 240), ink: Any = 0, paper: Any = 255
) -> Image.Image:
    """Text in Pillow's own font in the middle of a page."""
    mode = "L" if isinstance(paper, int) else "RGB" if len(paper) == 3 else "RGBA"
    image = Image.new(mode, page, paper)
    font = ImageFont.load_default(size)
    ImageDraw.Draw(image).text((page[0] / 2, page[1] / 2), text, font=font, fill=ink, anchor="mm")
    return image


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["black_on_white", "alpha_only", "large_page", "photograph", "turned_and_shifted"])
def test_test_digits_are_read_however_they_are_shown(name: str, test_data: Path) -> None:
    pictures, labels = read_digits(test_data / "mnist", "test")
    transform, chance = getattr(bench(), name), np.random.default_rng(7)
    chosen = chance.choice(len(labels), 150, replace=False)
    right = sum(mnist.predict(transform(pictures[at], chance)).digit == labels[at] for at in chosen)
    assert right >= 0.97 * len(chosen)


def test_a_picture_like_mnists_goes_to_the_network_as_it_is(test_data: Path) -> None:
    pictures, _ = read_digits(test_data / "mnist", "test")
    model = mnist.load_network()
    for digit in pictures[:60]:
        with torch.no_grad():  # the arithmetic of the note
            wanted = model((torch.from_numpy(digit).float()[None, None] / 255 - 0.1307) / 0.3081).exp()[0]
        for picture in (digit, Image.fromarray(digit), Image.fromarray(digit).convert("RGB")):
            prediction = mnist.predict(picture, model)
            assert np.array_equal(prediction.picture, digit)
            assert prediction.probabilities == pytest.approx(wanted.tolist(), abs=1e-5)


FORMS: dict[str, Callable[[Image.Image], Any]] = {
    "an image": lambda image: image,
    "PNG bytes": lambda image: encoded(image, "PNG"),
    "JPEG bytes": lambda image: encoded(image.convert("RGB"), "JPEG"),
    "a file object": lambda image: io.BytesIO(encoded(image, "BMP")),
    "one bit": lambda image: image.convert("1"),
    "a palette": lambda image: image.convert("P"),
    "CMYK": lambda image: image.convert("CMYK"),
    "sixteen bits": lambda image: Image.fromarray(np.asarray(image).astype(np.uint16) * 257),
    "an array of bytes": lambda image: np.asarray(image),
    "an array of bools": lambda image: np.asarray(image) > 128,
    "an array of floats": lambda image: np.asarray(image) / np.float32(255),
    "colour in front": lambda image: np.asarray(image.convert("RGB")).transpose(2, 0, 1),
    "an animation": lambda image: encoded(image, "GIF", save_all=True, append_images=[Image.new("L", image.size)]),
    "turned by its notes": lambda image: encoded(image.rotate(90, expand=True), "JPEG", exif=_exif(6)),
}


def _exif(orientation: int) -> bytes:
    notes = Image.Exif()
    notes[0x0112] = orientation
    return notes.tobytes()


@pytest.mark.parametrize("form", FORMS)
def test_every_kind_of_picture_is_read(form: str) -> None:
    for digit in (2, 4, 7):
        assert mnist.predict(FORMS[form](printed(str(digit)))).digit == digit


@pytest.mark.parametrize(
    ("ink", "paper"),
    [
        ("white", (0, 0, 0)),
        ((30, 60, 200), (250, 230, 90)),
        ((230, 40, 40), (40, 120, 60)),
        ((0, 0, 0, 255), (0, 0, 0, 0)),
        ((255, 255, 255, 255), (0, 0, 0, 0)),
        ((255, 255, 255, 255), (255, 255, 255, 0)),
        ((20, 20, 120, 255), (240, 240, 230, 255)),
    ],
)
def test_ink_and_paper_may_have_any_colours(ink: Any, paper: Any) -> None:
    for digit in (3, 5, 8):
        assert mnist.predict(printed(str(digit), ink=ink, paper=paper)).digit == digit


@pytest.mark.parametrize("page", [(30, 40), (90, 60), (400, 1200), (1600, 500), (4000, 3000)])
def test_pages_may_have_any_size_and_shape(page: tuple[int, int]) -> None:
    assert mnist.predict(printed("6", size=round(0.7 * min(page)), page=page)).digit == 6


def blank_pages() -> dict[str, Image.Image]:
    chance = np.random.default_rng(3)
    slope = np.linspace(120, 235, 300)[None, :, None] * np.array([1.0, 0.97, 0.9]) + chance.normal(0, 6, (200, 300, 3))
    return {
        "white": Image.new("L", (200, 300), 255),
        "black": Image.new("L", (28, 28), 0),
        "see-through": Image.new("RGBA", (100, 100), (0, 0, 0, 0)),
        "a photograph": Image.fromarray(np.clip(slope, 0, 255).astype(np.uint8)),
        "one pixel": Image.new("RGB", (1, 1), (9, 9, 9)),
    }


@pytest.mark.parametrize("page", blank_pages())
def test_an_empty_page_is_blank_and_no_digit(page: str) -> None:
    prediction = mnist.predict(blank_pages()[page])
    assert (prediction.problem, prediction.digit, bool(prediction)) == ("blank", None, False)
    assert prediction.probabilities == pytest.approx([0.1] * 10)


def ruled(page: Image.Image, *, squared: bool) -> Image.Image:
    """The page with the lines of a copybook, a little tilted, lighter than the ink."""
    lines = Image.new("L", (2 * page.width, 2 * page.height), 255)
    pencil = ImageDraw.Draw(lines)
    for at in range(0, 2 * page.height, 30):
        pencil.line((0, at, lines.width, at + 20), fill=150, width=2)
        if squared:
            pencil.line((at + 20, 0, at, lines.height), fill=150, width=2)
    return ImageChops.darker(page, lines.crop((0, 40, page.width, 40 + page.height)))


def photographed(page: Image.Image, *, shadow: bool = False) -> Image.Image:
    """The page in light from one side, darker in the corners, out of focus, noisy, and as a JPEG."""
    chance = np.random.default_rng(11)
    down, across = np.mgrid[0 : page.height, 0 : page.width] / max(page.size)
    light = 0.9 - 0.45 * across - 0.5 * ((across - 0.5) ** 2 + (down - 0.5) ** 2)
    if shadow:
        light *= np.where(across + 0.3 * down > 0.85, 0.6, 1)
    levels = np.asarray(page.convert("L"), dtype=np.float64) * 0.75 + 45
    dim = Image.fromarray((levels * light).astype(np.uint8)).filter(ImageFilter.GaussianBlur(1.5))
    noisy = np.asarray(dim) + chance.normal(0, 9, levels.shape)
    return Image.open(io.BytesIO(encoded(Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)), "JPEG", quality=60)))


def dusty(page: Image.Image) -> Image.Image:
    """The page with specks, as dark as the ink."""
    chance, dusty = np.random.default_rng(5), page.copy()
    for x, y in chance.uniform(0, 1, (14, 2)) * page.size:
        ImageDraw.Draw(dusty).ellipse((x, y, x + chance.uniform(2, 6), y + chance.uniform(2, 6)), fill=0)
    return dusty


def salted(page: Image.Image) -> Image.Image:
    """The page with every twentieth pixel black and every twentieth white."""
    chance = np.random.default_rng(6).random((page.height, page.width))
    levels = np.asarray(page)
    return Image.fromarray(np.where(chance < 0.05, 0, np.where(chance > 0.95, 255, levels)).astype(np.uint8))


def on_a_table(page: Image.Image) -> Image.Image:
    """The page, turned a little, on something dark."""
    table = Image.new("L", (page.width + 120, page.height + 90), 60)
    table.paste(page, (50, 45))
    return table.rotate(6, Image.Resampling.BICUBIC, fillcolor=60)


def cut_close(page: Image.Image) -> Image.Image:
    return page.crop(ImageOps.invert(page).getbbox())


def torn(page: Image.Image) -> Image.Image:
    """The page with a white line through the digit."""
    torn = page.copy()
    ImageDraw.Draw(torn).line((0, 100, 240, 128), fill=255, width=6)
    return torn


MESSES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "ruled paper": lambda page: ruled(page, squared=False),
    "squared paper": lambda page: ruled(page, squared=True),
    "a photograph": photographed,
    "a photograph with a shadow": lambda page: photographed(page, shadow=True),
    "a photograph of squared paper": lambda page: photographed(ruled(page, squared=True)),
    "dust": dusty,
    "salt and pepper": salted,
    "a sheet on a table": on_a_table,
    "cut close": cut_close,
    "in two pieces": torn,
    "white on black": ImageOps.invert,
    "a fat pen": lambda page: page.filter(ImageFilter.MinFilter(9)),
    "a thin pen": lambda page: page.filter(ImageFilter.MaxFilter(9)),
    "faint": lambda page: Image.eval(page, lambda level: 230 + level // 10),
    "very small": lambda page: page.resize((20, 20), Image.Resampling.BOX),
    "very large": lambda page: page.resize((5000, 5000)),
    "lost on a large page": lambda page: ImageOps.expand(page.resize((90, 90)), (200, 900, 1400, 300), 255),
}


@pytest.mark.parametrize("mess", MESSES)
def test_a_digit_is_read_in_whatever_mess_it_comes(mess: str) -> None:
    for digit in (2, 3, 5):
        assert mnist.predict(MESSES[mess](printed(str(digit)))).digit == digit


@pytest.mark.parametrize("squared", [False, True])
def test_an_empty_sheet_with_lines_is_blank(squared: bool) -> None:
    sheet = ruled(Image.new("L", (240, 240), 255), squared=squared)
    assert mnist.predict(sheet).problem == "blank"
    assert mnist.predict(photographed(Image.new("L", (240, 240), 255), shadow=squared)).problem == "blank"


@pytest.mark.parametrize("text", ["42", "7 1", "905", "3\n8"])
@pytest.mark.parametrize("mess", ["white on black", "a photograph", "dust", "cut close"])
def test_several_digits_are_said_and_not_guessed(text: str, mess: str) -> None:
    page = MESSES[mess](printed(text, size=110, page=(420, 300)))
    prediction = mnist.predict(page)
    assert (prediction.problem, prediction.digit) == ("several", None)


def test_digits_that_touch_are_several() -> None:
    page = Image.new("L", (300, 200), 255)
    for digit, place in (("5", 100), ("8", 190)):
        ImageDraw.Draw(page).text((place, 100), digit, font=ImageFont.load_default(150), fill=0, anchor="mm")
    assert mnist.predict(page).problem == "several"


def scribble(seed: int) -> Image.Image:
    chance = np.random.default_rng(seed)
    image = Image.new("L", (300, 300), 255)
    points = [tuple(point) for point in chance.uniform(30, 270, (40, 2))]
    ImageDraw.Draw(image).line(points, fill=0, width=6)
    return image


NO_DIGITS: dict[str, Callable[[], Image.Image]] = {
    **{letter: lambda letter=letter: printed(letter) for letter in "AHKMWXR"},  # type: ignore[misc]
    "a scribble": lambda: scribble(1),
    "another scribble": lambda: scribble(2),
    "noise": lambda: Image.fromarray(np.random.default_rng(4).integers(0, 256, (200, 200), dtype=np.uint8)),
    "a chessboard": lambda: Image.fromarray((np.indices((160, 160)) // 20).sum(0).astype(np.uint8) % 2 * 255),
}


@pytest.mark.parametrize("what", NO_DIGITS)
def test_what_is_no_digit_is_not_guessed(what: str) -> None:
    prediction = mnist.predict(NO_DIGITS[what]())
    assert prediction.digit is None
    assert prediction.problem in ("not a digit", "several")


def test_a_file_that_is_no_picture_or_a_broken_one_raises(tmp_path: Path) -> None:
    whole = encoded(printed("5"), "PNG")
    with pytest.raises(rh.MissingFileError):
        mnist.predict(tmp_path / "none.png")
    for data in (b"", whole[:200], whole[: len(whole) // 2], b"no picture at all", b"<html><title>x</title>"):
        with pytest.raises((rh.TruncatedError, rh.CorruptError)):
            mnist.predict(data)
    with pytest.raises(TypeError):
        mnist.predict(object())  # type: ignore[arg-type]


def test_more_pixels_than_any_camera_takes_are_refused_before_they_are_decoded() -> None:
    small = encoded(Image.new("L", (1, 1)), "PNG")
    header = b"IHDR" + struct.pack(">II", 60_000, 60_000) + small[24:29]
    with pytest.raises(rh.LimitError):
        mnist.predict(small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:])


@pytest.mark.parametrize("size", ["large", "small"])
def test_somebodys_network_reads_too_and_stays_as_it_was(size: Any) -> None:
    model = mnist.load_network(mnist.weights(size)).train()
    assert mnist.predict(printed("3"), model).digit == 3
    assert model.training
    assert mnist.predict(printed("3"), mnist.weights(size)).digit == 3


def test_a_network_that_gives_something_else_is_said() -> None:
    with pytest.raises(rh.MismatchError, match="ten numbers"):
        mnist.predict(printed("3"), nn.Sequential(nn.Flatten(), nn.Linear(784, 3)))


def test_a_prediction_is_plain_data_and_a_line() -> None:
    prediction = mnist.predict(printed("7"))
    plain = prediction.to_dict()
    assert plain["digit"] == 7
    assert plain["problem"] is None
    assert sum(plain["probabilities"]) == pytest.approx(1)  # type: ignore[call-overload]
    assert np.array_equal(np.array(plain["picture"]), prediction.picture)
    assert str(prediction).startswith("7 (")
    assert str(mnist.predict(Image.new("L", (50, 50)))) == "no digit: the page is blank"
