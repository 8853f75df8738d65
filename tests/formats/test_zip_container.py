"""Zip archives that contain a checkpoint among other things."""

from __future__ import annotations

import io
import random
import zipfile
from pathlib import Path

import numpy
import pytest
import torch
from safetensors.numpy import save as save_safetensors

import rehydrate as rh
from rehydrate.errors import AmbiguousError, LimitError, MissingFileError, NotACheckpointError, TruncatedError


def pth(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def zipped(files: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return buffer.getvalue()


WEIGHTS = pth({"fc.weight": torch.arange(6.0).reshape(2, 3), "fc.bias": torch.ones(2)})
BESIDE = {
    "README.md": b"# A net\nIt is good.",
    "LICENSE": b"Permission is hereby granted",
    "config.json": b'{"layers": 2}',
    "figures/loss.png": b"\x89PNG\r\n\x1a\n" + bytes(50),
    "folder/": b"",
    "__MACOSX/._net.pth": b"Mac OS X" + bytes(60),
    "._net.pth": b"Mac OS X" + bytes(60),
}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("name", ["net.pth", "runs/1/net.pth", "net"])
def test_the_one_checkpoint_among_other_files_is_opened_and_named(name: str, method: int, tmp_path: Path) -> None:
    path = tmp_path / "net.zip"
    path.write_bytes(zipped({**BESIDE, name: WEIGHTS}, method=method))
    with rh.open(path) as checkpoint:
        assert checkpoint.format == "zip+torch-zip"
        assert checkpoint.facts["member"] == name
        assert checkpoint["fc.weight"].numpy().tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
        assert list(checkpoint.weights()) == ["fc.weight", "fc.bias"]
        assert [trace.where for trace in checkpoint.traces] == [f"{name}/archive/data.pkl"]


def test_what_is_inside_may_be_of_any_format() -> None:
    with rh.open(zipped({**BESIDE, "model.safetensors": save_safetensors({"w": numpy.ones(3, "f4")})})) as checkpoint:
        assert checkpoint.format == "zip+safetensors"
        assert checkpoint["w"].numpy().tolist() == [1.0] * 3


def test_of_several_none_is_chosen_and_member_does() -> None:
    two = zipped({"best.pth": WEIGHTS, "runs/last.pth": pth({"w": torch.zeros(3)}), **BESIDE})
    with pytest.raises(AmbiguousError, match="2 checkpoints") as refused:
        rh.open(two)
    assert "best.pth, runs/last.pth" in refused.value.found
    with rh.open(two, member="runs/last.pth") as checkpoint:
        assert list(checkpoint) == ["w"]
        assert checkpoint.facts["member"] == "runs/last.pth"
    with pytest.raises(MissingFileError, match="did you mean 'best"):
        rh.open(two, member="bets.pth")


def test_an_archive_without_a_checkpoint_says_what_is_in_it() -> None:
    with pytest.raises(NotACheckpointError, match="none of its files is a checkpoint") as refused:
        rh.open(zipped(BESIDE))
    assert "README.md" in refused.value.found


def test_a_checkpoint_that_is_cut_is_not_passed_over() -> None:
    with pytest.raises(TruncatedError, match="cut"):
        rh.open(zipped({"README.md": b"hello", "net.pth": WEIGHTS[:-100]}))


def test_closing_closes_the_archive(tmp_path: Path) -> None:
    path = tmp_path / "net.zip"
    path.write_bytes(zipped({"net.pth": WEIGHTS}, method=zipfile.ZIP_STORED))
    checkpoint = rh.open(path)
    checkpoint.close()
    with pytest.raises(rh.RehydrateError, match="closed"):
        checkpoint["fc.bias"].numpy()


def test_archives_in_archives_end_at_the_limit() -> None:
    inner = WEIGHTS
    for level in range(3):
        inner = zipped({f"{level}.zip": inner})
    with rh.open(inner) as checkpoint:
        assert checkpoint.format == "zip+zip+zip+torch-zip"
        assert checkpoint.facts["member"] == "2.zip/1.zip/0.zip"
    for level in range(3):
        inner = zipped({f"{level}.zip": inner})
    with pytest.raises(LimitError, match="containers"):
        rh.open(inner)


def test_what_is_inflated_at_one_level_counts_at_the_next() -> None:
    piece = b"N0" * 1000
    pickle = b"\x80\4" + b"".join(b"C\x14" + random.randbytes(20) + b"0" + piece for _ in range(1000)) + b"N."
    inner = io.BytesIO(zipped({"a.pkl": pickle}))
    with zipfile.ZipFile(inner, "a") as file:
        file.writestr("padding", bytes(2_000_000))
    with rh.open(inner.getvalue()) as checkpoint:
        assert checkpoint.facts["member"] == "a.pkl"
    with pytest.raises(LimitError, match="bomb"):
        rh.open(zipped({"a.zip": inner.getvalue()}))


def test_an_unpacked_torch_zip_that_was_packed_again_too_deep_says_so(tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(WEIGHTS)) as old:
        deep = zipped({f"downloads/net/{name}": old.read(name) for name in old.namelist()})
        flat = zipped({name: old.read(name) for name in old.namelist()})
    with pytest.raises(NotACheckpointError, match="too deep"):
        rh.open(deep)
    with rh.open(flat) as checkpoint:
        assert (checkpoint.format, len(checkpoint)) == ("torch-zip", 2)


def test_an_archive_for_torchserve_gives_its_model_and_runs_no_handler() -> None:
    files = {"MAR-INF/MANIFEST.json": b'{"model": {"handler": "handler.py"}}', "handler.py": b"import os\nos.abort()\n"}
    with rh.open(zipped({**files, "model.pth": WEIGHTS})) as checkpoint:
        assert checkpoint.format == "zip+torch-zip"
        assert checkpoint.facts["member"] == "model.pth"
