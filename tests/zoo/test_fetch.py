"""Fetching data sets: from the first mirror with the right bytes, whatever the others do; all on this machine."""

from __future__ import annotations

import gzip
import hashlib
import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

import rehydrate as rh
from rehydrate.cli.main import main
from rehydrate.zoo import fetch as fetching
from rehydrate.zoo.fetch import MNIST, DataSet, fetch

pytest.importorskip("pooch", reason="the extra `fetch` is not installed")

CONTENTS = {"images.gz": gzip.compress(bytes(range(256)) * 2000, mtime=0), "labels.gz": b"\x00\x01\x02" * 50}
DIGESTS = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENTS.items()}
DIGITS = DataSet("digits", DIGESTS, ())
PAGE = b"\n <!DOCTYPE html><html><title>Please log in</title></html>"


class Mirrors(BaseHTTPRequestHandler):
    """One server that is a mirror of each kind: `/KIND/NAME`."""

    asked: ClassVar[Counter[str]] = Counter()
    is_over = threading.Event()

    def do_GET(self) -> None:
        _, kind, name = self.path.split("/")
        self.asked[kind] += 1
        content = CONTENTS[name]
        if kind == "missing":
            self.send_error(404)
        elif kind == "broken":
            self.send_error(503, "Slow Down")
        elif kind == "page":
            self.answer(PAGE)
        elif kind == "wrong":
            self.answer(content[:-1] + b"?")
        elif kind == "empty":
            self.answer(b"")
        elif kind == "short":
            self.answer(content[: len(content) // 2])
        elif kind == "cut":
            self.answer(content[: len(content) // 2], length=len(content))
        elif kind == "stalled":
            self.answer(content[: len(content) // 2], length=len(content))
            self.is_over.wait(20)
        elif kind == "encoded":
            self.answer(content, encoding="gzip" if "gzip" in self.headers.get("Accept-Encoding", "") else "")
        elif kind == "moved":
            self.send_response(302)
            self.send_header("Location", f"/good/{name}")
            self.end_headers()
        else:
            self.answer(content)

    def answer(self, content: bytes, *, length: int | None = None, encoding: str = "") -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        if encoding:
            self.send_header("Content-Encoding", encoding)
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def log_message(self, *args: object) -> None:
        """Nothing."""


def serving(handler: type[BaseHTTPRequestHandler] | partial[SimpleHTTPRequestHandler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of the mirrors; no proxy stands before them."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(fetching, "PATIENCE", 0.5)
    Mirrors.asked.clear()
    Mirrors.is_over.clear()
    yield from serving(Mirrors)
    Mirrors.is_over.set()


def nobody() -> str:
    """An address where nobody answers."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Mirrors) as server:
        return f"http://127.0.0.1:{server.server_port}/down/"


def contents(folder: Path) -> dict[str, bytes]:
    """Every file in a folder, also those that should not be there."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_files_come_from_a_mirror_and_are_what_they_should_be(server: str, tmp_path: Path) -> None:
    paths = fetch(DIGITS, tmp_path / "new" / "folder", mirrors=[f"{server}/good/"])
    assert [path.name for path in paths] == list(CONTENTS)
    assert contents(tmp_path / "new" / "folder") == CONTENTS


@pytest.mark.parametrize("kind", ["missing", "broken", "page", "wrong", "empty", "short", "cut", "stalled", "down"])
def test_a_mirror_that_fails_is_passed_over(kind: str, server: str, tmp_path: Path) -> None:
    bad = nobody() if kind == "down" else f"{server}/{kind}"
    lines: list[str] = []
    fetch(DIGITS, tmp_path, mirrors=[bad, f"{server}/good"], report=lines.append)
    assert contents(tmp_path) == CONTENTS
    assert sum("not from" in line for line in lines) == 2
    assert Mirrors.asked["good"] == 2


def test_a_mirror_that_moved_is_followed_and_one_that_unpacks_is_told_not_to(server: str, tmp_path: Path) -> None:
    fetch(DIGITS, tmp_path / "a", mirrors=[f"{server}/moved/"])
    fetch(DIGITS, tmp_path / "b", mirrors=[f"{server}/encoded/"])
    assert contents(tmp_path / "a") == contents(tmp_path / "b") == CONTENTS


def test_what_is_there_and_right_is_kept_and_nobody_is_asked(server: str, tmp_path: Path) -> None:
    for name, content in CONTENTS.items():
        (tmp_path / name).write_bytes(content)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    fetch(DIGITS, tmp_path, mirrors=[f"{server}/good/"])
    assert not Mirrors.asked
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("damaged", [b"", b"half of it", CONTENTS["images.gz"][:-1], CONTENTS["labels.gz"]])
def test_what_is_there_and_damaged_is_fetched_again_and_only_that(damaged: bytes, server: str, tmp_path: Path) -> None:
    (tmp_path / "images.gz").write_bytes(damaged)
    (tmp_path / "labels.gz").write_bytes(CONTENTS["labels.gz"])
    fetch(DIGITS, tmp_path, mirrors=[f"{server}/good/"])
    assert contents(tmp_path) == CONTENTS
    assert Mirrors.asked["good"] == 1


REASONS = {
    "missing": "answered 404 Not Found",
    "broken": "answered 503 Slow Down",
    "page": "sent a web page instead of the file",
    "wrong": "sent other bytes than the published ones",
    "cut": "broke off in the middle of the file",
    "stalled": "did not answer within 0.5 seconds",
    "down": "cannot be reached",
}


def test_where_all_fail_each_is_named_with_its_reason_and_nothing_is_left(server: str, tmp_path: Path) -> None:
    mirrors = {kind: f"{server}/{kind}/" for kind in REASONS} | {"down": nobody()}
    with pytest.raises(FileNotFoundError) as error:
        fetch(DIGITS, tmp_path, mirrors=[*mirrors.values(), "ftp//nonsense"])
    assert isinstance(error.value, rh.MissingFileError)
    assert "no mirror gave images.gz" in str(error.value)
    *lines, last = error.value.found.splitlines()
    assert lines == [f"{mirrors[kind]}: {reason}" for kind, reason in REASONS.items()]
    assert last == "ftp//nonsense: not an address that can be asked"
    assert "--mirror URL" in error.value.hint
    assert contents(tmp_path) == {}


def test_where_all_fail_a_damaged_file_is_said_to_be_damaged(server: str, tmp_path: Path) -> None:
    (tmp_path / "images.gz").write_bytes(b"damaged")
    with pytest.raises(rh.MissingFileError, match="is damaged"):
        fetch(DIGITS, tmp_path, mirrors=[f"{server}/missing/"])


def test_an_interrupted_download_leaves_no_file(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import requests

    original = requests.Response.iter_content

    def interrupted(self: requests.Response, *args: object, **options: object) -> Iterator[bytes]:
        yield next(original(self, *args, **options))  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(requests.Response, "iter_content", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(DIGITS, tmp_path, mirrors=[f"{server}/good/"])
    assert contents(tmp_path) == {}


@pytest.mark.skipif(sys.platform == "win32", reason="needs modes")
def test_a_file_gets_the_mode_that_other_files_get(server: str, tmp_path: Path) -> None:
    fetch(DIGITS, tmp_path, mirrors=[f"{server}/good/"])
    (tmp_path / "other").touch()
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1


def test_a_folder_that_cannot_be_one_is_a_save_error(server: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(rh.SaveError, match="cannot be written"):
        fetch(DIGITS, tmp_path / "file" / "folder", mirrors=[f"{server}/good/"])
    assert not Mirrors.asked["wrong"]
    (tmp_path / "images.gz").mkdir()
    with pytest.raises(rh.SaveError, match="cannot be written"):
        fetch(DIGITS, tmp_path, mirrors=[f"{server}/good/"])


def test_without_pooch_the_command_that_installs_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError) as error:
        fetch(DIGITS, tmp_path)
    assert isinstance(error.value, rh.MissingExtraError)
    assert error.value.hint == "pip install 'rehydrate[fetch]'"


def test_mnist_names_four_files_by_their_hashes_and_several_mirrors() -> None:
    assert len(MNIST.files) == 4
    assert all(len(digest) == 64 for digest in MNIST.files.values())
    assert len(MNIST.mirrors) >= 2
    assert all(mirror.startswith("http") and mirror.endswith("/") for mirror in MNIST.mirrors)


def test_the_real_files_come_through_the_command(
    test_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            """Nothing."""

    for address in serving(partial(Quiet, directory=os.fspath(test_data / "mnist"))):
        with pytest.raises(SystemExit) as stop:
            main(["fetch", "mnist", "--data", str(tmp_path), "--mirror", nobody(), "--mirror", address])
    assert stop.value.code == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [str(tmp_path / name) for name in MNIST.files]
    assert captured.err == ""  # nobody is watching
    assert contents(tmp_path) == {name: (test_data / "mnist" / name).read_bytes() for name in MNIST.files}
