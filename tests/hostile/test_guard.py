"""The guard itself: it lets reading through and nothing else."""

from __future__ import annotations

import ctypes
import io
import marshal
import os
import pickle
import socket
import subprocess
import sys
import threading
from contextlib import suppress

import pytest

import rehydrate as rh
from rehydrate.formats import opening
from rehydrate.formats.contract import head_of

from .guard import GuardBreached

EFFECTS = {
    "importing": lambda folder: __import__("this"),
    "executing": lambda folder: exec("pass"),
    "evaluating": lambda folder: eval("1"),
    "compiling": lambda folder: compile("1", "x", "eval"),
    "reading another file": lambda folder: open(os.devnull).close(),
    "writing a file": lambda folder: open(folder / "new", "w").close(),
    "writing a file by its descriptor": lambda folder: os.open(folder / "new", os.O_CREAT | os.O_WRONLY),
    "listing a folder": lambda folder: os.listdir(folder),
    "removing a file": lambda folder: os.remove(folder / "the file"),
    "a shell": lambda folder: os.system("true"),
    "a process": lambda folder: subprocess.run(["true"], check=False),
    "a socket": lambda folder: socket.socket().close(),
    "a foreign function": lambda folder: ctypes.CDLL(None),
    "unmarshalling": lambda folder: marshal.loads(marshal.dumps(1)),
    "unpickling a name": lambda folder: pickle.loads(b"cbuiltins\nlen\n."),
    "a trace": lambda folder: sys.settrace(None),
}


@pytest.mark.parametrize("effect", EFFECTS)
def test_the_guard_refuses(effect, guard, tmp_path):
    (tmp_path / "the file").write_bytes(b"x")
    with pytest.raises(GuardBreached), guard(tmp_path / "the file"):
        EFFECTS[effect](tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["the file"]


def test_the_guard_fails_when_its_refusal_was_swallowed(guard):
    with pytest.raises(GuardBreached), guard(), suppress(BaseException):
        os.system("true")


def test_the_guard_watches_other_threads(guard):
    refused = []

    def work():
        try:
            os.system("true")
        except BaseException as error:  # noqa: BLE001
            refused.append(error)

    worker = threading.Thread(target=work)
    with pytest.raises(GuardBreached), guard():  # noqa: PT012 - the worker must end while the guard watches
        worker.start()
        worker.join()
    assert [type(error) for error in refused] == [GuardBreached]


def test_the_guard_notices_a_module_that_appeared_without_an_import(guard):
    with pytest.raises(GuardBreached, match="stowaway"), guard():
        sys.modules["stowaway"] = sys
    del sys.modules["stowaway"]


def test_the_guard_lets_one_file_be_read(guard, tmp_path):
    path = tmp_path / "the file"
    path.write_bytes(b"x")
    with guard(path):
        with open(path, "rb") as file:
            assert file.read() == b"x"
        os.close(os.open(path, os.O_RDONLY))
    with pytest.raises(GuardBreached), guard(path), open(path, "r+b"):
        pass


def test_the_guard_lets_files_beside_it_be_read_where_that_is_asked_for(guard, tmp_path):
    path, other = tmp_path / "the file", tmp_path / "another"
    other.write_bytes(b"x")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a third").write_bytes(b"x")
    with guard(path, beside=True):
        os.close(os.open(other, os.O_RDONLY))
    for name, mode in ((other, "r+b"), (tmp_path / "below" / "a third", "rb")):
        with pytest.raises(GuardBreached), guard(path, beside=True):
            open(name, mode).close()
    with pytest.raises(GuardBreached), guard(path):
        open(other, "rb").close()


def test_the_guard_sleeps_outside(guard):
    with guard():
        io.BytesIO(b"x").read()
    assert os.listdir(os.curdir)


@pytest.mark.parametrize("effect", EFFECTS)
def test_every_opening_of_the_session_is_watched(effect, monkeypatch, tmp_path):
    (tmp_path / "the file").write_bytes(b"x")
    monkeypatch.setattr(opening, "head_of", lambda source: EFFECTS[effect](tmp_path))
    with pytest.raises(GuardBreached):
        rh.open(b"N.")
    assert [entry.name for entry in tmp_path.iterdir()] == ["the file"]


def test_an_opening_that_swallows_a_refusal_fails_all_the_same(monkeypatch):
    def swallowing(source):
        with suppress(BaseException):
            os.system("true")
        return head_of(source)

    monkeypatch.setattr(opening, "head_of", swallowing)
    with pytest.raises(GuardBreached):
        rh.open(b"N.")
