"""Whatever people call a picture, as pixels: files of many formats, bytes, Pillow images, arrays.

Every picture leaves this file upright and opaque, as 8-bit grey (`L`), 8-bit colour (`RGB`) or grey in floats from 0
to 255 (`F`). Pillow does the decoding, with formats that start other programs (EPS) left out, and nothing that it
raises gets out: a damaged file is one of our errors. What is ink and what is paper is not decided here.
"""

from __future__ import annotations

import io
import math
import os
import warnings
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from rehydrate.errors import CorruptError, LimitError, NotACheckpointError, TruncatedError
from rehydrate.formats.contract import Head
from rehydrate.formats.impostors.recognising import what_it_is
from rehydrate.storage.source import Source, open_source
from rehydrate.text import shown, size

__all__ = ["PictureLike", "opened", "views"]

PictureLike = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | ArrayLike

LARGEST = 89_478_485
"""Pixels of a picture; Pillow's own bound for what is no decompression bomb."""
MOST_BYTES = 512 << 20
"""Bytes of a picture's file; more than any camera writes."""
KEPT = 2048
"""Side of the square that has as many pixels as are kept: a digit a hundredth as tall is still 20 pixels tall."""
WHITES = (1, 255, 1023, 4095, 16383, 65535)
"""What white is in samples of more than 8 bits: the first of these that no sample exceeds."""

_FORMATS = (
    *("PNG", "JPEG", "MPO", "GIF", "BMP", "DIB", "TIFF", "WEBP", "AVIF", "JPEG2000", "PPM", "ICO", "CUR", "ICNS"),
    *("TGA", "PCX", "QOI", "SGI", "SUN", "PSD", "DDS", "MSP", "XBM", "XPM", "IM"),
)
"""Pillow's names. Not among them: EPS and WMF, which other programs draw, and what holds no still picture."""
_ELSEWHERE: tuple[tuple[int, bytes, str, str], ...] = (
    (4, b"ftyphei", "a HEIC photograph", "save it as JPEG or PNG first"),
    (4, b"ftypmif1", "a HEIF photograph", "save it as JPEG or PNG first"),
    (4, b"ftyp", "a film", "save one frame as JPEG or PNG first"),
    (0, b"%!PS", "a PostScript drawing", "save it as PNG first"),
    (0, b"PK\x03\x04", "a zip file, such as a checkpoint", "`rehydrate FILE` shows what a checkpoint holds"),
    (0, b"\x80\x02", "a pickle, such as a checkpoint", "`rehydrate FILE` shows what a checkpoint holds"),
)
"""What is taken for a picture and is none that Pillow reads: where its signature stands, the words, what to do."""
_VISIBLE = 128
"""The alpha from which a pixel counts as seen."""
_ONE_COLOUR = 24.0
"""Levels by which colours may differ and still be one colour."""


def opened(picture: PictureLike) -> Image.Image:
    """The picture, upright, of at most about `KEPT` × `KEPT` pixels: mode `L`, `LA`, `RGB`, `RGBA` or `F` (0 to 255).

    The first frame of an animation. Alpha stays only where something is transparent. Raises `MissingFileError`,
    `TruncatedError`, `CorruptError` (also for a file that is something else, which it names), `LimitError` for more
    pixels than `LARGEST`, `TypeError` for what is no picture at all.
    """
    if isinstance(picture, Image.Image):
        return _decoded(picture, "<picture>")
    if isinstance(picture, (str, os.PathLike, bytes, bytearray, memoryview)):
        return _from_file(picture)
    if hasattr(picture, "seek") and hasattr(picture, "read"):
        return _from_file(cast(BinaryIO, picture))
    if isinstance(picture, (np.ndarray, np.generic, list, tuple)) or hasattr(picture, "__array__"):
        return _shrunk(_from_array(np.asarray(picture)))
    raise TypeError(f"expected a path, bytes, a file, a Pillow image or an array, got {type(picture).__name__}")


def views(image: Image.Image) -> list[Image.Image]:
    """The picture without transparency, in the ways in which it may be meant, the likeliest first.

    What was drawn on nothing is told by its alpha, whatever its colours are: that is all there is where they are all
    one. A sheet that has see-through edges is seen on more of the same paper.
    """
    if image.mode not in ("LA", "RGBA"):
        return [image]
    small = np.asarray(image.resize(_within(image.size, 128), Image.Resampling.BOX), dtype=np.float32)
    seen = small[..., -1] >= _VISIBLE
    drawn = Image.eval(image.getchannel("A"), lambda level: 255 - level)  # as dark ink on white
    if not seen.any():
        return [drawn]
    colours = small[seen][:, :-1]
    if np.ptp(colours, axis=0).max() < _ONE_COLOUR:
        return [drawn]
    paper = tuple(int(level) for level in np.median(colours, axis=0))
    sheet = Image.new(image.mode, image.size, (*paper, 255))
    sheet.alpha_composite(image) if image.mode == "RGBA" else sheet.paste(image, mask=image.getchannel("A"))
    composed = sheet.convert(image.mode[:-1])
    return [composed, drawn] if seen.mean() > 0.6 else [drawn, composed]


def _from_file(where: str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO) -> Image.Image:
    try:
        source = open_source(where)
    except NotACheckpointError as error:
        # The ground floor speaks of checkpoints; here it was asked for a picture.
        raise CorruptError(error.what.replace("a checkpoint file", "a picture"), where=error.where) from error
    try:
        name = shown(source.name)
        if source.size > MOST_BYTES:
            raise LimitError(f"a picture of {size(source.size)}", where=name, hint="make it smaller first")
        if source.size == 0:
            raise TruncatedError("the file is empty", where=name, hint="get it again")
        data = source.read(0, source.size)
    finally:
        source.close()
    with warnings.catch_warnings():
        # Pillow warns of odd metadata, and of sizes that are checked below.
        warnings.simplefilter("ignore")
        try:
            Image.init()
            image = Image.open(io.BytesIO(data), formats=[name for name in _FORMATS if name in Image.OPEN])
        except UnidentifiedImageError as error:
            raise _no_picture(data, source) from error
        except Exception as error:  # a decoder may raise anything at all
            raise _damaged(error, name) from error
        _check_size(image, name)
        image.draft(image.mode, (KEPT, KEPT))  # a JPEG of 50 megapixels is decoded at a quarter of that
        return _decoded(image, name)


def _decoded(image: Image.Image, name: str) -> Image.Image:
    """Pixels in one of our modes, upright and not larger than they need to be."""
    _check_size(image, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image.load()
            plain = _shrunk(_in_our_modes(image))
        except Exception as error:  # a decoder may raise anything at all
            raise _damaged(error, name) from error
        try:
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
            if turned:
                plain.info["exif"] = image.getexif().tobytes()
                plain = ImageOps.exif_transpose(plain)
        except Exception:  # noqa: BLE001, S110 - a picture whose notes cannot be read is still a picture
            pass
    return plain


def _check_size(image: Image.Image, name: str) -> None:
    width, height = image.size
    if width * height > LARGEST:
        raise LimitError(
            f"a picture of {width:,} × {height:,} pixels is more than any camera takes",
            where=name,
            hint="make it smaller first, or pass the part with the digit",
        )
    if not width * height:
        raise CorruptError("a picture without a single pixel", where=name)


def _in_our_modes(image: Image.Image) -> Image.Image:
    mode = image.mode
    if mode == "F" or mode.startswith("I"):
        return Image.fromarray(_levels(np.asarray(image, dtype=np.float32)))
    if mode == "LAB":
        return image.getchannel(0)
    see_through = mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in image.info
    grey = mode in ("1", "L", "LA", "La")
    plain = image.convert(("LA" if grey else "RGBA") if see_through else ("L" if grey else "RGB"))
    if see_through and plain.getchannel("A").getextrema()[0] == 255:
        plain = plain.convert(plain.mode[:-1])
    return plain


def _from_array(array: NDArray[np.generic]) -> Image.Image:
    """The picture in an array `[H, W]`, `[H, W, C]` or `[C, H, W]`, C being 1 to 4: grey, grey and alpha, RGB, RGBA."""
    if array.dtype.kind not in "buif":
        raise TypeError(f"a picture is made of numbers, not of {array.dtype}")
    while array.ndim > 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 3 and array.shape[2] > 4 and array.shape[0] <= 4:
        array = np.moveaxis(array, 0, 2)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and not 2 <= array.shape[2] <= 4):
        raise TypeError(f"a picture has the shape [H, W] or [H, W, 1 to 4], not {list(array.shape)}")
    if not array.size:
        raise CorruptError("a picture without a single pixel", where="<array>")
    if array.dtype == np.uint8 and array.max() != 1:
        levels: NDArray[np.uint8] | NDArray[np.float32] = array.astype(np.uint8)
    else:
        levels = _levels(array.astype(np.float32))
    if array.ndim == 2:
        return Image.fromarray(np.ascontiguousarray(levels))
    plain = Image.fromarray(np.ascontiguousarray(np.rint(levels).astype(np.uint8)))
    return _in_our_modes(plain)


def _levels(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Samples of any depth as 0 to 255. Where some are negative, they were normalised: only their range counts."""
    if not np.isfinite(samples).all():
        raise CorruptError("some of the picture's samples are not finite numbers", where="<array>")
    low, high = float(samples.min()), float(samples.max())
    if low < 0:
        return (samples - low) * np.float32(255 / (high - low)) if high > low else np.zeros_like(samples)
    white = next((white for white in WHITES if high <= white), high)
    return samples * np.float32(255 / white)


def _shrunk(image: Image.Image) -> Image.Image:
    factor = math.ceil(math.sqrt(image.width * image.height) / KEPT)
    return image.reduce(factor) if factor > 1 else image


def _within(extent: tuple[int, int], longest: int) -> tuple[int, int]:
    """The extent scaled down, where it is longer, to a longer side of `longest`."""
    scale = min(1.0, longest / max(extent))
    return max(1, round(extent[0] * scale)), max(1, round(extent[1] * scale))


def _no_picture(data: bytes, source: Source) -> CorruptError | TruncatedError:
    """What the file is instead, or that it is a damaged picture."""
    name, first = shown(source.name), data[:4096]
    for at, signature, what, hint in _ELSEWHERE:
        if first[at:].startswith(signature):
            return CorruptError(f"this is {what}, not a picture", where=name, hint=hint)
    if b"<svg" in first:
        return CorruptError("this is an SVG drawing, not pixels", where=name, hint="save it as PNG first")
    impostor = what_it_is(Head(first, data[-4096:], len(data)))
    if impostor is None:
        found = f"{size(len(data))} beginning with {first[:16].hex(' ')}"
        return CorruptError("this is no picture of a kind that can be read", where=name, found=found)
    if impostor.what.endswith("picture"):
        error = TruncatedError if len(data) < 256 else CorruptError
        return error(f"{impostor.what} that is damaged at its beginning", where=name, hint="get it again")
    return CorruptError(f"this is {impostor.what}, not a picture", where=name, found=impostor.found, hint=impostor.hint)


def _damaged(error: Exception, name: str) -> CorruptError | TruncatedError | LimitError:
    """Our error for whatever a decoder raised."""
    if isinstance(error, (CorruptError, LimitError, TruncatedError)):
        return error
    said = shown(str(error)) or type(error).__name__
    if isinstance(error, (Image.DecompressionBombError, MemoryError)) or "too large" in said:
        return LimitError("a picture that would not fit into memory", where=name, found=said)
    if isinstance(error, EOFError) or any(word in said for word in ("truncated", "end of file", "not enough")):
        return TruncatedError("the picture ends early", where=name, found=said, hint="get it again")
    return CorruptError("the picture is damaged", where=name, found=said, hint="get it again")
