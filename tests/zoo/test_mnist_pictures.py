"""Whatever people call a picture: every mode, format, array and orientation; and files that are none, or damaged."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image, ImageDraw, ImageFont, PngImagePlugin

import rehydrate as rh
from rehydrate.zoo import mnist
from tests.effort import tried

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "ICO", "TGA", "PCX", "QOI")


def page(text: str = "4", *, size: tuple[int, int] = (120, 90)) -> Image.Image:
    """A digit in Pillow's own font, black on white, right of the middle of a page."""
    image = Image.new("L", size, 255)
    place = (0.6 * size[0], 0.5 * size[1])
    ImageDraw.Draw(image).text(place, text, font=ImageFont.load_default(0.7 * size[1]), fill=0, anchor="mm")
    return image


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def as_png(image: Image.Image) -> bytes:
    return encoded(image, "PNG")


def sixteen_bits(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(np.uint16) * 200 + 3000


MODES: dict[str, Callable[[Image.Image], Image.Image]] = {
    **{
        mode: lambda image, mode=mode: image.convert(mode)  # type: ignore[misc]
        for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "RGBX", "CMYK", "I", "F")
    },
    "PA": lambda image: image.convert("P").convert("PA"),
    "La": lambda image: image.convert("LA").convert("La"),
    "RGBa": lambda image: image.convert("RGBA").convert("RGBa"),
    "YCbCr": lambda image: image.convert("RGB").convert("YCbCr"),
    "HSV": lambda image: image.convert("RGB").convert("HSV"),
    "LAB": lambda image: Image.merge("LAB", (image, Image.new("L", image.size, 128), Image.new("L", image.size, 128))),
    "I;16": lambda image: Image.fromarray(sixteen_bits(image)),
    "I;16B": lambda image: Image.frombytes("I;16B", image.size, sixteen_bits(image).astype(">u2").tobytes()),
}


@pytest.mark.parametrize("mode", MODES)
def test_an_image_of_any_mode_is_read_and_left_as_it_is(mode: str) -> None:
    image = MODES[mode](page())
    assert image.mode == mode
    before = image.tobytes()
    assert mnist.predict(image).digit == 4
    assert (image.mode, image.tobytes()) == (mode, before)


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_of_any_format_is_read_from_a_path_bytes_and_a_stream(form: str, tmp_path: Path) -> None:
    data = encoded(page().convert("RGB"), form)
    path = tmp_path / "a picture without a suffix"
    path.write_bytes(data)
    with path.open("rb") as stream:
        stream.seek(7)
        predictions = [mnist.predict(picture) for picture in (path, str(path), data, bytearray(data), stream)]
        assert not stream.closed
    assert [prediction.digit for prediction in predictions] == [4] * 5
    assert len({prediction.picture.tobytes() for prediction in predictions}) == 1


def test_transparency_in_a_palette_or_of_one_colour_is_seen() -> None:
    drawn = page()
    palette = drawn.convert("P", palette=Image.Palette.ADAPTIVE, colors=2)
    paper = palette.getpixel((0, 0))
    assert isinstance(paper, int)
    assert len(palette.getcolors() or ()) == 2
    palette.putpalette([0] * 768)  # paper and ink are both black, and only the transparency tells them apart
    by_bytes = bytes(0 if index == paper else 255 for index in range(256))
    sharp = drawn.point(lambda level: 255 if level > 128 else 0)
    for data in (
        encoded(palette, "PNG", transparency=paper),
        encoded(palette, "PNG", transparency=by_bytes),
        encoded(sharp, "PNG", transparency=255),
        encoded(sharp.convert("RGB"), "PNG", transparency=(255, 255, 255)),
    ):
        assert mnist.predict(data).digit == 4


TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""What was done to a picture for which a camera notes this orientation."""


@pytest.mark.parametrize("orientation", TURNS)
def test_the_orientation_that_a_camera_noted_is_followed(orientation: int) -> None:
    turn = TURNS[orientation]
    turned = page() if turn is None else page().transpose(turn)
    notes = Image.Exif()
    notes[0x0112] = orientation
    data = encoded(turned, "PNG", exif=notes.tobytes())
    wanted = mnist.predict(page())
    for picture in (data, Image.open(io.BytesIO(data))):
        prediction = mnist.predict(picture)
        assert prediction.digit == 4
        assert np.array_equal(prediction.picture, wanted.picture)


def test_notes_that_cannot_be_read_do_not_keep_a_picture_from_being_read() -> None:
    notes = b"Exif\0\0MM\0*\0\0\0\x08\0\xff" + b"\1\x12\0\3" * 9
    assert mnist.predict(encoded(page(), "JPEG", exif=notes)).digit == 4


LEVELS = np.asarray(page())
BILEVEL = LEVELS > 128

ARRAYS: dict[str, Any] = {
    "bytes": LEVELS,
    "not contiguous": np.asfortranarray(LEVELS)[::-1][::-1],
    "bools": BILEVEL,
    "zeros and ones": BILEVEL.astype(np.int64),
    "bytes of zeros and ones": BILEVEL.astype(np.uint8),
    "integers": LEVELS.astype(np.int32),
    "twelve bits": LEVELS.astype(np.uint16) * 16,
    "floats to one": LEVELS / 255,
    "floats to 255": LEVELS.astype(np.float32),
    "half floats": (LEVELS / 255).astype(np.float16),
    "normalised": ((255 - LEVELS) / 255 - 0.1307) / 0.3081,
    "one channel behind": LEVELS[..., None],
    "one channel in front": LEVELS[None],
    "a batch of one": LEVELS[None, None],
    "colour": np.stack([LEVELS] * 3, axis=2),
    "colour in front": np.stack([LEVELS] * 3),
    "colour in floats": np.stack([LEVELS / 255] * 3, axis=2),
    "grey and alpha": np.stack([np.zeros_like(LEVELS), 255 - LEVELS], axis=2),
    "colour and alpha": np.stack([LEVELS] * 3 + [np.full_like(LEVELS, 255)], axis=2),
    "lists": LEVELS.tolist(),
    "a tensor": torch.from_numpy(LEVELS.copy()).div(255)[None],
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_an_array_of_any_type_and_layout_is_read(kind: str) -> None:
    assert mnist.predict(ARRAYS[kind]).digit == 4


def test_an_array_that_is_no_picture_is_refused() -> None:
    for array in (np.zeros((5, 5, 6)), np.zeros(9), np.array(["a"]), np.zeros((2, 2), dtype=complex)):
        with pytest.raises(TypeError):
            mnist.predict(array)
    for array in (np.zeros((0, 5)), np.full((9, 9), np.nan), np.array([[0.0, np.inf]])):
        with pytest.raises(rh.CorruptError):
            mnist.predict(array)


ELSEWHERE = {
    "a web page": b"<!DOCTYPE html><html><title>404</title>",
    "a zip file": b"PK\x03\x04" + bytes(60),
    "a pickle": b"\x80\x02}q\0.",
    "a PDF document": b"%PDF-1.7\n" + bytes(60),
    "an SVG drawing": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
    "a HEIC photograph": b"\0\0\0\x18ftypheic" + bytes(60),
    "a film": b"\0\0\0\x18ftypmp42" + bytes(60),
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n",
    "plain text": b"just some words that somebody wrote",
}


@pytest.mark.parametrize("what", ELSEWHERE)
def test_a_file_that_is_something_else_is_named(what: str, tmp_path: Path) -> None:
    path = tmp_path / "7.png"
    path.write_bytes(ELSEWHERE[what])
    with pytest.raises(rh.CorruptError, match=what) as caught:
        mnist.predict(path)
    assert str(path) in str(caught.value)


def test_a_place_without_a_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(rh.MissingFileError):
        mnist.predict(tmp_path / "none.png")
    with pytest.raises(rh.TruncatedError, match="empty"):
        mnist.predict(b"")
    with pytest.raises(rh.CorruptError, match="folder, not a picture"):
        mnist.predict(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(rh.CorruptError, match="not a picture"):
            mnist.predict(tmp_path / "pipe")


def test_a_format_that_another_program_would_draw_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(page(), "EPS")
    called: list[object] = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *words, **options: called.append(words))
    with pytest.raises(rh.CorruptError, match="PostScript"):
        mnist.predict(data)
    assert not called


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_that_is_cut_anywhere_is_read_or_said_to_be_cut(form: str) -> None:
    whole = encoded(page().convert("RGB"), form)
    for kept in sorted({*range(12), *(len(whole) * part // 24 for part in range(24))}):
        try:
            prediction = mnist.predict(whole[:kept])
        except (rh.TruncatedError, rh.CorruptError):
            continue
        # What is missing at a file's end may be nothing that the pixels need.
        assert kept > len(whole) // 2, (form, kept)
        assert len(prediction.probabilities) == 10


CANNOT_HOLD = {("QOI", "L"), ("QOI", "1"), ("JPEG", "1"), ("WEBP", "1"), ("PPM", "1")}
FILES = [
    encoded(page(size=(30, 24)).convert(mode), form)
    for form in FORMATS
    for mode in ("RGB", "L", "1")
    if (form, mode) not in CANNOT_HOLD
]


@tried(250)
@given(
    st.sampled_from(FILES),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_a_file_with_wrong_bytes_is_read_or_one_of_our_errors(data: bytes, changes: list[tuple[int, int]]) -> None:
    changed = bytearray(data)
    for place, value in changes:
        changed[place % len(changed)] = value
    try:
        prediction = mnist.predict(bytes(changed))
    except rh.RehydrateError:
        return
    assert len(prediction.probabilities) == 10


def with_extent(width: int, height: int) -> bytes:
    """A PNG that says that it is so large, and ends there."""
    small = as_png(Image.new("L", (1, 1)))
    header = b"IHDR" + struct.pack(">II", width, height) + small[24:29]
    return small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:]


@pytest.mark.parametrize("extent", [(60_000, 60_000), (2**31 - 1, 1), (10_000, 9_000), (100_000_000, 1)])
def test_more_pixels_than_a_camera_takes_are_refused_before_they_are_decoded(extent: tuple[int, int]) -> None:
    with pytest.raises(rh.LimitError, match=r"pixels|memory"):
        mnist.predict(with_extent(*extent))


def test_an_image_with_more_pixels_than_a_camera_takes_is_refused() -> None:
    with pytest.raises(rh.LimitError, match="10,000 × 9,000"):
        mnist.predict(Image.new("1", (10_000, 9_000)))


def test_notes_that_inflate_without_end_are_refused() -> None:
    notes = PngImagePlugin.PngInfo()
    notes.add_text("comment", "a" * (PngImagePlugin.MAX_TEXT_CHUNK * 3), zip=True)
    with pytest.raises(rh.LimitError):
        mnist.predict(encoded(page(), "PNG", pnginfo=notes))


def like_mnist() -> np.ndarray:
    """A digit of 28 × 28, light on dark, with greys and a border that is not quite black."""
    small = Image.fromarray(255 - np.asarray(page("2", size=(112, 112)))).resize((28, 28), Image.Resampling.BOX)
    return np.maximum(np.asarray(small), 9)


LIKE_MNIST: dict[str, Callable[[np.ndarray], Any]] = {
    "an array": lambda digit: digit,
    "floats": lambda digit: digit / np.float32(255),
    "an image": Image.fromarray,
    "equal colours": lambda digit: Image.fromarray(digit).convert("RGB"),
    "an opaque image": lambda digit: Image.fromarray(digit).convert("RGBA"),
    "a file": lambda digit: as_png(Image.fromarray(digit)),
    "a palette of greys": lambda digit: as_png(Image.fromarray(digit).convert("P")),
    "sixteen bits": lambda digit: Image.fromarray(digit.astype(np.uint16) * 257),
}


@pytest.mark.parametrize("kind", LIKE_MNIST)
def test_a_grey_picture_of_28_by_28_with_a_dark_border_is_not_changed(kind: str) -> None:
    prediction = mnist.predict(LIKE_MNIST[kind](like_mnist()))
    assert np.array_equal(prediction.picture, like_mnist())
    assert prediction.digit == 2
    shifted = np.roll(like_mnist(), (2, -3), (0, 1))
    assert np.array_equal(mnist.predict(LIKE_MNIST[kind](shifted)).picture, shifted)


def test_any_other_small_picture_is_brought_to_where_mnists_digits_are() -> None:
    digit = like_mnist()
    others: list[Any] = [255 - digit, np.stack([digit, digit, digit // 2], axis=2), np.pad(digit, 1, mode="edge")]
    for picture in others:
        prediction = mnist.predict(picture)
        assert prediction.digit == 2
        ink = prediction.picture.astype(np.float64)
        rows, columns = np.flatnonzero(ink.max(axis=1) > 40), np.flatnonzero(ink.max(axis=0) > 40)
        assert 18 <= max(np.ptp(rows) + 1, np.ptp(columns) + 1) <= 21
        for axis in (0, 1):
            assert abs(float(ink.sum(axis=axis) @ np.arange(28)) / ink.sum() - 14) < 0.75
