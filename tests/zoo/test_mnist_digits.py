"""IDX files: what they hold, in every spelling, and what is said of broken ones."""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rehydrate as rh
from rehydrate.zoo.mnist.digits import MOST_DIGITS, read_digits
from tests.effort import tried

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def idx(array: np.ndarray, *, kind: int = 8) -> bytes:
    """An IDX file, written from its specification."""
    head = bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(np.uint8).tobytes()


def some(count: int) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(count)
    return chance.integers(0, 256, (count, 28, 28), np.uint8), chance.integers(0, 10, count, np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three digits, gzipped, as they are published."""
    pictures, labels = some(3)
    (tmp_path / f"{IMAGES}.gz").write_bytes(gzip.compress(idx(pictures)))
    (tmp_path / f"{LABELS}.gz").write_bytes(gzip.compress(idx(labels)))
    return tmp_path


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("joint", ["-", "."])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("suffix", [".gz", ""])
def test_digits_come_back_equal_in_every_spelling_packed_or_not(
    tmp_path: Path, part: str, joint: str, packed: bool, suffix: str
) -> None:
    pictures, labels = some(5)
    stem = {"train": "train", "test": "t10k"}[part]
    for what, array in (("images", pictures), ("labels", labels)):
        data = gzip.compress(idx(array)) if packed else idx(array)
        (tmp_path / f"{stem}-{what}{joint}idx{array.ndim}-ubyte{suffix}").write_bytes(data)
    read = read_digits(tmp_path, part)  # type: ignore[arg-type]
    assert all(array.dtype == np.uint8 and array.flags.writeable for array in read)
    np.testing.assert_array_equal(read[0], pictures)
    np.testing.assert_array_equal(read[1], labels)


def test_a_gzip_file_of_several_members_is_read_whole(folder: Path) -> None:
    pictures, _ = some(3)
    data = idx(pictures)
    (folder / f"{IMAGES}.gz").write_bytes(gzip.compress(data[:1000]) + gzip.compress(data[1000:]))
    np.testing.assert_array_equal(read_digits(folder, "train")[0], pictures)


def test_the_real_digits_are_those_that_everybody_knows(test_data: Path) -> None:
    pictures, labels = read_digits(test_data / "mnist", "test")
    assert pictures.shape == (10_000, 28, 28)
    assert labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    training, names = read_digits(test_data / "mnist", "train")
    assert np.bincount(names).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    # The constants of Normalize are the mean and the deviation of these pixels.
    assert training.mean() / 255 == pytest.approx(0.1307, abs=5e-5)
    assert training.std() / 255 == pytest.approx(0.3081, abs=5e-5)


def test_a_missing_file_is_said_with_the_command_that_gets_it(folder: Path) -> None:
    with pytest.raises(rh.MissingFileError) as caught:
        read_digits(folder, "test")
    assert caught.value.hint == f"rehydrate fetch mnist --data {folder}"
    assert "t10k-images-idx3-ubyte.gz" in str(caught.value)
    with pytest.raises(rh.MissingFileError, match="there is no such folder"):
        read_digits(folder / "nowhere", "train")
    (folder / f"{LABELS}.gz").unlink()
    with pytest.raises(rh.MissingFileError, match="train-labels-idx1-ubyte"):
        read_digits(folder, "train")


def test_a_name_that_is_a_folder_or_a_pipe_is_no_file(folder: Path) -> None:
    (folder / f"{LABELS}.gz").unlink()
    (folder / LABELS).mkdir()
    os.mkfifo(folder / f"{LABELS}.gz")
    with pytest.raises(rh.MissingFileError):
        read_digits(folder, "train")


def test_another_word_than_train_and_test_is_a_value_error(folder: Path) -> None:
    with pytest.raises(ValueError, match="'train' and 'test', not 'trian'"):
        read_digits(folder, "trian")  # type: ignore[arg-type]


@pytest.mark.parametrize("kept", [0, 1, 3, 4, 15, 16, 17, 3 * 784 + 15])
@pytest.mark.parametrize("packed", [True, False])
def test_a_cut_file_is_truncated_wherever_it_is_cut(folder: Path, kept: int, packed: bool) -> None:
    data = idx(some(3)[0])[:kept]
    (folder / f"{IMAGES}.gz").write_bytes(gzip.compress(data) if packed else data)
    with pytest.raises(rh.TruncatedError) as caught:
        read_digits(folder, "train")
    assert IMAGES in caught.value.where
    assert caught.value.hint.startswith("rehydrate fetch mnist")


@given(cut=st.floats(0.001, 0.999))
@tried(40)
def test_a_gzip_file_that_is_cut_anywhere_gives_no_digit(cut: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("cut")
    pictures, labels = some(3)
    data = gzip.compress(idx(pictures))
    (folder / IMAGES).write_bytes(data[: max(1, int(len(data) * cut))])
    (folder / LABELS).write_bytes(idx(labels))
    with pytest.raises((rh.TruncatedError, rh.CorruptError)):
        read_digits(folder, "train")


@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@tried(80)
def test_a_flipped_bit_in_a_gzip_file_is_found_or_changes_nothing(
    at: float, bit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("flip")
    pictures, labels = some(3)
    data = bytearray(gzip.compress(idx(pictures)))
    data[int(at * len(data))] ^= 1 << bit
    (folder / IMAGES).write_bytes(data)
    (folder / LABELS).write_bytes(idx(labels))
    try:
        read, _ = read_digits(folder, "train")
    except rh.RehydrateError:
        return
    np.testing.assert_array_equal(read, pictures)  # a bit of the header that means nothing, such as the time


@given(data=st.binary(max_size=200), packed=st.booleans())
@tried(80)
def test_any_bytes_at_all_give_our_own_errors(
    data: bytes, packed: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / IMAGES).write_bytes(gzip.compress(data) if packed else data)
    (folder / LABELS).write_bytes(idx(some(3)[1]))
    with pytest.raises(rh.RehydrateError):
        read_digits(folder, "train")


def test_what_is_no_idx_file_is_said_with_its_first_bytes(folder: Path) -> None:
    (folder / f"{IMAGES}.gz").write_bytes(b"<!DOCTYPE html><title>404</title>")
    with pytest.raises(rh.CorruptError, match="not an IDX file") as caught:
        read_digits(folder, "train")
    assert "3c 21 44 4f" in caught.value.found


def test_labels_in_the_place_of_pictures_are_told(folder: Path) -> None:
    (folder / f"{IMAGES}.gz").write_bytes(idx(some(3)[1]))
    with pytest.raises(rh.CorruptError, match=r"expected pictures, and this has 1 dimension\n"):
        read_digits(folder, "train")


def test_files_that_do_not_belong_together_are_refused(folder: Path) -> None:
    (folder / f"{LABELS}.gz").write_bytes(idx(some(4)[1]))
    with pytest.raises(rh.CorruptError, match="do not belong together") as caught:
        read_digits(folder, "train")
    assert caught.value.found == "3 pictures, 4 labels"


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        (LABELS, idx(np.array([1, 10, 2])), "a label is not a digit"),
        (IMAGES, idx(np.zeros((3, 28, 28))) + b"\0", "more after the last element"),
        (IMAGES, idx(np.zeros((3, 20, 20))), "20 by 20 and not 28 by 28"),
        (IMAGES, idx(np.zeros((0, 28, 28))), "holds no digit"),
        (IMAGES, idx(np.zeros((3, 28, 28)), kind=9), "not an IDX file of unsigned bytes"),
        (LABELS, gzip.compress(idx(np.zeros(3)))[:-8] + b"\0" * 8, "gzipped data is broken"),
    ],
)
def test_a_broken_promise_is_corrupt(folder: Path, name: str, data: bytes, words: str) -> None:
    (folder / f"{name}.gz").write_bytes(data)
    with pytest.raises(rh.CorruptError, match=words):
        read_digits(folder, "train")


def test_a_header_that_promises_more_than_anybody_has_is_refused_before_anything_is_allocated(folder: Path) -> None:
    for shape in ((MOST_DIGITS + 1, 28, 28), (2**32 - 1, 28, 28), (1, 2**32 - 1, 2**32 - 1)):
        head = bytes([0, 0, 8, 3]) + struct.pack(">3I", *shape)
        (folder / f"{IMAGES}.gz").write_bytes(head)
        with pytest.raises(rh.LimitError):
            read_digits(folder, "train")


def test_a_bomb_is_inflated_no_further_than_its_header_promises(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    squeezer = zlib.compressobj(9, wbits=31)
    bomb = squeezer.compress(idx(some(3)[0])) + b"".join(squeezer.compress(bytes(1 << 20)) for _ in range(200))
    (folder / f"{IMAGES}.gz").write_bytes(bomb + squeezer.flush())
    inflated = 0
    make = zlib.decompressobj

    class Counting:
        def __init__(self, wbits: int) -> None:
            self.inside = make(wbits)

        def decompress(self, data: bytes) -> bytes:
            nonlocal inflated
            piece = self.inside.decompress(data)
            inflated += len(piece)
            return piece

        def __getattr__(self, name: str) -> object:
            return getattr(self.inside, name)

    monkeypatch.setattr(zlib, "decompressobj", Counting)
    with pytest.raises(rh.CorruptError, match="more after the last element"):
        read_digits(folder, "train")
    assert 0 < inflated <= 20 << 20
