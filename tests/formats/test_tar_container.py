"""Tars that merely contain a checkpoint: it is found, or asked for, or the refusal says what is there instead."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch

import rehydrate as rh

from ..hostile.archives_tar import Member, tar_of

TREE = {"w": torch.arange(4.0), "b": torch.ones(2)}
README = b"# A network\n\nTrained on something.\n"


def saved(tree: object = TREE, *, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(tree, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def packed(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_the_one_checkpoint_in_an_archive_is_opened_and_said(legacy: bool, tmp_path: Path) -> None:
    path = tmp_path / "net.tar"
    path.write_bytes(packed({"run/README.md": README, "run/net.pth": saved(legacy=legacy), "run/._net.pth": b"\0" * 9}))
    with rh.open(path) as checkpoint:
        assert checkpoint.format == ("tar+torch-legacy" if legacy else "tar+torch-zip")
        assert checkpoint.facts["member"] == "run/net.pth"
        assert checkpoint["w"].numpy().tolist() == [0, 1, 2, 3]
    ours: Any = rh.load(path)
    assert {name: tensor.tolist() for name, tensor in ours.items()} == {"w": [0, 1, 2, 3], "b": [1, 1]}


def test_of_two_checkpoints_none_is_chosen_until_somebody_does() -> None:
    data = packed({"best.pth": saved({"w": torch.zeros(1)}), "last.pth": saved()})
    with pytest.raises(rh.AmbiguousError, match="2 checkpoints") as caught:
        rh.open(data)
    assert "best.pth" in str(caught.value)
    assert "last.pth" in str(caught.value)
    with rh.open(data, member="last.pth") as checkpoint:
        assert (len(checkpoint), checkpoint.facts["member"]) == (2, "last.pth")
    with pytest.raises(rh.MissingFileError, match="no file") as missing:
        rh.open(data, member="last.pt")
    assert "last.pth" in missing.value.hint


def test_a_vocabulary_beside_the_weights_does_not_make_two() -> None:
    data = packed({"vocabulary.pth": saved({"the": 1, "a": 2}), "net.pth": saved()})
    with rh.open(data) as checkpoint:
        assert checkpoint.facts["member"] == "net.pth"


def test_a_broken_checkpoint_beside_a_good_one_is_not_passed_over() -> None:
    data = packed({"good.pth": saved(), "bad.pth": saved()[:-50]})
    with pytest.raises(rh.AmbiguousError, match="2 checkpoints"):
        rh.open(data)


def test_a_broken_checkpoint_alone_says_what_is_wrong_with_it() -> None:
    with pytest.raises(rh.TruncatedError):
        rh.open(packed({"bad.pth": saved(legacy=True)[:-4]}))


def test_an_archive_of_anything_else_lists_what_is_in_it() -> None:
    with pytest.raises(rh.NotACheckpointError, match="none of its files") as caught:
        rh.open(packed({"README.md": README, "picture.png": b"\x89PNG\r\n\x1a\n" + bytes(40)}))
    assert "README.md, picture.png" in str(caught.value)


def test_an_archive_in_an_archive_is_opened_and_both_names_said() -> None:
    data = packed({"outer/inner.tar": packed({"net.pth": saved()})})
    with rh.open(data) as checkpoint:
        assert checkpoint.format == "tar+tar+torch-zip"
        assert checkpoint.facts["member"] == "outer/inner.tar/net.pth"


def test_archives_in_each_other_without_end_are_refused() -> None:
    data = saved()
    for _ in range(8):
        data = packed({"net.pth": data})
    with pytest.raises(rh.LimitError, match="too many containers"):
        rh.open(data)


def test_a_zip_that_is_the_last_member_is_that_member_and_no_zip_of_its_own() -> None:
    with rh.open(packed({"README.md": README, "net.pth": saved()})) as checkpoint:
        assert checkpoint.facts["member"] == "net.pth"


@pytest.mark.parametrize("name", [b"N.pth", b"Xception.pth", b"checkpoint.pth", b"Inception.pt", b"T5.bin", b"].pt"])
def test_a_name_that_happens_to_begin_like_a_pickle_is_a_name(name: bytes) -> None:
    data = tar_of(Member(name, saved()))
    if name == b"].pt":  # a pickle of an empty list, to the letter
        with pytest.raises(rh.AmbiguousError):
            rh.open(data)
        return
    with rh.open(data) as checkpoint:
        assert checkpoint.facts["member"] == name.decode()


def test_a_real_archive_without_a_checkpoint_says_so(test_data: Path) -> None:
    (path,) = test_data.glob("checkpoints/deepjavalibrary+djl/*/**/deepar.tar")
    with pytest.raises(rh.NotACheckpointError, match="none of its files is a checkpoint"):
        rh.open(path)


def test_an_archive_of_very_many_files_says_how_many_were_looked_into() -> None:
    with pytest.raises(rh.NotACheckpointError, match="none of its first 200 files"):
        rh.open(packed({f"{at}.txt": README for at in range(201)}))
