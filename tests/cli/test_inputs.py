"""What is no checkpoint: each thing that people have under the name of one, in words, with what to do, and code 2."""

from __future__ import annotations

import base64
import errno
import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from .conftest import Run
from .files import write


def zipped(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.pth"))
    return buffer.getvalue()


OID = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393"
IMPOSTORS: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "a Git LFS pointer": (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{OID}\nsize 97781949\n".encode(),
        ("Git LFS pointer", "97.8 MB", OID, "git lfs pull"),
    ),
    "a page": (
        b"<!DOCTYPE html>\n<html><head><title>Sign in &middot; GitHub</title></head></html>",
        ("web page", "Sign in · GitHub"),
    ),
    "Google Drive's warning": (
        b"<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head></html>",
        ("web page", "Virus scan warning", "gdown"),
    ),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(50), ("zstd", "zstd -d", "weights.pth -o unpacked.pth")),
    "7-Zip": (b"7z\xbc\xaf\x27\x1c\0\4" + bytes(50), ("7-Zip", "7z x")),
    "tar": (tarred(), ("tar archive", "none of its files is a checkpoint")),
    "zip": (zipped(**{"readme.txt": b"hello", "model.pth": b"x"}), ("zip archive", "readme.txt")),
    "json": (b'{"error": "not found"}', ("JSON",)),
    "an error": (b"Not Found", ("error message", "Not Found")),
    "zeros": (bytes(5000), ("zeros",)),
    "nothing": (b"", ("empty file",)),
    "noise": (bytes(range(200, 256)) * 20, ("no checkpoint",)),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(50), ("PNG",)),
}


@pytest.mark.parametrize("kind", IMPOSTORS)
def test_an_impostor_is_named_with_what_to_do(
    kind: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content, expected = IMPOSTORS[kind]
    path = Path("weights.pth")
    path.write_bytes(content)
    done = run(path)
    assert (done.code, done.out) == (2, "")
    assert max(map(len, done.err.splitlines())) < 80
    plain = " ".join(done.err.split())
    assert all(words in plain for words in expected), done.err
    assert "weights_only" not in plain
    assert "weights.pth" in "".join(done.err.split())


@pytest.mark.skipif(shutil.which("base64") is None, reason="needs base64")
def test_the_command_for_a_packed_file_unpacks_it(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = "it's packed.pth"
    Path(name).write_bytes(base64.encodebytes(write(tmp_path / "net.pth").read_bytes()))
    command = " ".join(run(name).err.split()).partition("base64 -d ")
    subprocess.run(["sh", "-c", "".join(command[1:])], check=True, timeout=60)
    assert run("decoded.pth").out.startswith("decoded.pth\n")


def test_a_title_cannot_reach_the_terminal_as_it_is(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes("<html><title>\x1b[31mred\u202e &#27;[2J</title></html>".encode())
    done = run(path)
    assert done.code == 2
    assert all(line.isprintable() for line in done.err.splitlines())


@pytest.mark.parametrize("kept", [0.05, 0.5, 0.99])
def test_a_cut_file_is_told_from_a_strange_one_with_how_much_is_there(kept: float, run: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "net.pth", "digits")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    done = run(path)
    assert (done.code, done.out) == (2, "")
    assert "cut" in done.err
    assert f"{int(len(data) * kept):,} bytes" in done.err
    assert "download it again" in done.err


def test_a_damaged_file_is_named_also_where_only_a_part_of_it_is_damaged(run: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "net.pth")
    data = bytearray(path.read_bytes())
    data[data.index(b"data.pkl") + 60] ^= 0xFF
    path.write_bytes(data)
    done = run(path)
    assert done.code == 2
    assert "net.pth" in "".join(done.err.split())


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("modle.pth", "model.pth"), ("model.pt", "model.pth"), ("Model.pth", "model.pth"), ("model", "model.pth"),
        ("sub/wieghts.bin", "sub/weights.bin"), ("sbu/weights.bin", "sub"), ("./modell.pth", "./model.pth"),
    ],
)  # fmt: skip
def test_a_name_that_was_mistyped_gets_its_neighbour(
    typed: str, meant: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sub").mkdir()
    for name in ("model.pth", "sub/weights.bin", "readme.txt"):
        Path(name).touch()
    done = run(typed)
    assert done.code == 2
    assert f"where     {typed}\n" in done.err
    assert f"did you mean {meant!r}?" in done.err


def test_a_name_like_no_other_gets_no_guess(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("readme.txt").touch()
    assert "did you mean" not in run("zzzz.pth").err
    assert "did you mean" not in run("/nonexistent/zzzz/x").err


def test_a_command_that_was_mistyped_is_recognised(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "did you mean the command `rehydrate predict`?" in run("predcit", "picture.png").err


def test_a_hostile_neighbour_is_not_shown_as_it_is(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model\x1b[31m.pth").touch()
    assert "\x1b" not in run("model.pth").err


def test_a_folder_gets_the_files_in_it(run: Run, tmp_path: Path) -> None:
    for name in ("b.pth", "a.ckpt", "notes.txt"):
        (tmp_path / name).touch()
    done = run(tmp_path)
    assert done.code == 2
    assert "this is a folder" in done.err
    plain = "".join(done.err.split())
    assert "a.ckpt" in plain
    assert "b.pth" in plain
    assert "notes" not in plain


def test_standard_input_is_refused_with_what_to_do(run: Run) -> None:
    done = run("-")
    assert done.code == 2
    assert "standard input" in done.err
    assert "write it to a file first" in done.err


def test_a_pipe_that_nobody_writes_to_is_refused_at_once(run: Run, tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    os.mkfifo(tmp_path / "pipe")
    done = run(tmp_path / "pipe")
    assert done.code == 2
    assert "this is a pipe, not a checkpoint file" in done.err


@pytest.mark.skipif(sys.platform == "win32", reason="needs modes")
def test_a_file_that_may_not_be_read_says_so(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "secret.pth")
    path.chmod(0)
    if os.geteuid() == 0:  # everything may be read by root, who only sees here what others see
        really = os.open

        def refusing(name: object, *rest: object, **options: object) -> int:
            if os.fspath(name) == str(path):  # type: ignore[call-overload]
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)
            return really(name, *rest, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(os, "open", refusing)
    done = run(path)
    assert done.code == 2
    assert "Permission denied" in done.err
    assert "Traceback" not in done.err


def test_a_link_that_leads_in_a_circle_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    done = run(tmp_path / "loop")
    assert done.code == 2
    assert "symbolic links" in done.err


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 5000])
def test_a_name_that_no_file_can_have_is_refused(name: str, run: Run) -> None:
    done = run(name)
    assert done.code == 2
    assert done.err.startswith("rehydrate: ")
    assert "Traceback" not in done.err
