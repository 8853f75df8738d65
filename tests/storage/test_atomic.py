"""A file that is being saved is the old one or the new one, complete, whatever happens and whenever it happens."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rehydrate as rh

OLD = {"it is": "the old one"}
NEW = {"it is": "the new one", "more": list(range(1000))}
IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    rh.save(OLD, tmp_path / "data.pickle")
    return tmp_path / "data.pickle"


def files_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls that make a file durable, in order, each with what it was called on."""
    calls: list[str] = []

    def watch(name: str) -> None:
        real: Callable[..., Any] = getattr(os, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            target = os.readlink(f"/proc/self/fd/{args[0]}") if isinstance(args[0], int) else args[0]
            kind = "folder" if os.path.isdir(target) else "temporary" if target.endswith(".part") else "file"
            calls.append(f"{name} {kind}")
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, call)

    for name in ("write", "fsync", "replace", "chmod"):
        watch(name)
    return calls


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="looks descriptors up in /proc")
def test_the_file_is_written_then_synced_then_named_then_the_folder_is_synced(path: Path, watched: list[str]) -> None:
    rh.save(NEW, path)
    assert watched == ["write temporary", "chmod temporary", "fsync temporary", "replace temporary", "fsync folder"]
    watched.clear()
    rh.save(OLD, path, durable=False)
    assert watched == ["write temporary", "chmod temporary", "replace temporary"]


STEPS = ["open", "write", "chmod", "fsync", "close", "replace"]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=["full", "ctrl-c"]
)
@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_fails_leaves_the_old_file_and_nothing_else(
    step: str, error: BaseException, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = path.read_bytes()
    real: Callable[..., Any] = getattr(os, step)

    def fail(*args: Any, **kwargs: Any) -> Any:
        if step == "open" and not str(args[0]).endswith(".part"):
            return real(*args, **kwargs)
        if step == "close":
            real(*args)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else rh.SaveError) as caught:
            rh.save(NEW, path)
    assert path.read_bytes() == old
    assert files_in(path.parent) == [path.name]
    if isinstance(caught.value, rh.SaveError):
        assert "No space left on device; what was there before still is" in str(caught.value)
        assert str(path) in str(caught.value)
        assert "make room" in str(caught.value)
        assert isinstance(caught.value, OSError)
    rh.save(NEW, path)
    assert rh.load(path) == NEW


def test_a_short_write_is_continued(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:7]))
        rh.save(NEW, path)
    assert rh.load(path) == NEW


def test_a_folder_that_cannot_be_synced_is_told_and_the_new_file_is_there(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def fail(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        real(descriptor)

    for number in (errno.EIO, errno.EINVAL):
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            if number == errno.EIO:
                with pytest.raises(rh.SaveError, match="the new file is in its place"):
                    rh.save(NEW, path)
            else:  # a file system whose folders cannot be synced at all
                rh.save(NEW, path)
        assert rh.load(path) == NEW
        assert files_in(path.parent) == [path.name]
        rh.save(OLD, path)


KILLED = """
import os, sys, rehydrate as rh
path, rounds = sys.argv[1], 0
print("ready", flush=True)
while True:
    rounds += 1
    rh.save({"round": rounds, "rows": ["x" * 1000] * 3000}, path)
"""


def test_a_writer_that_is_killed_at_any_moment_leaves_a_complete_file(path: Path) -> None:
    for attempt in range(10):
        writer = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        time.sleep(0.01 + 0.007 * attempt)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        loaded = rh.load(path)
        assert loaded == OLD or (isinstance(loaded, dict) and loaded["rows"] == ["x" * 1000] * 3000)
    leftovers = [name for name in files_in(path.parent) if name != path.name]
    assert all(name.startswith(".") and name.endswith(".part") for name in leftovers)


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o000])
def test_a_new_file_has_what_the_umask_leaves(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        rh.save(NEW, tmp_path / "new.pickle")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new.pickle").stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o444])
def test_a_replaced_file_keeps_its_mode_and_nobody_else_reads_along(
    mode: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.chmod(mode)
    seen: list[int] = []
    real = os.write

    def write(descriptor: int, data: Any) -> int:
        seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    rh.save(NEW, path)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert set(seen) == {0o600}


def test_a_symbolic_link_stays_and_its_target_is_replaced(path: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = elsewhere / "link.pickle"
    link.symlink_to("../data.pickle")
    rh.save(NEW, link)
    assert link.is_symlink()
    assert rh.load(path) == NEW
    assert files_in(elsewhere) == ["link.pickle"]
    dangling = tmp_path / "dangling.pickle"
    dangling.symlink_to(elsewhere / "target.pickle")
    rh.save(NEW, dangling)
    assert rh.load(elsewhere / "target.pickle") == NEW


def test_another_link_to_the_old_file_keeps_the_old_content(path: Path, tmp_path: Path) -> None:
    os.link(path, tmp_path / "hard.pickle")
    rh.save(NEW, path)
    assert rh.load(tmp_path / "hard.pickle") == OLD


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(rh.SaveError, match=r"there is no folder .*missing: make it first"):
        rh.save(NEW, tmp_path / "missing" / "data.pickle")
    assert files_in(tmp_path) == []


@pytest.mark.skipif(IS_ROOT, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_to_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()
    rh.save(OLD, folder / "data.pickle")
    folder.chmod(0o555)
    try:
        with pytest.raises(rh.SaveError, match="Permission denied"):
            rh.save(NEW, folder / "data.pickle")
        assert rh.load(folder / "data.pickle") == OLD
    finally:
        folder.chmod(0o755)


def test_what_is_no_regular_file_is_never_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "folder.pickle"
    folder.mkdir()
    pipe = tmp_path / "pipe.pickle"
    os.mkfifo(pipe)
    for target, words in ((folder, "a folder has this name"), (pipe, "not a regular file")):
        with pytest.raises(rh.SaveError, match=words):
            rh.save(NEW, target)
    assert folder.is_dir()
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert files_in(tmp_path) == ["folder.pickle", "pipe.pickle"]


@pytest.mark.parametrize("name", ["模型" * 35, "a" * 200, "\udcff.x", "with space", ".hidden"])
def test_any_name_that_the_system_takes_can_be_saved(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.pickle"
    rh.save(NEW, path)
    rh.save(NEW, path)
    assert rh.load(path) == NEW
    assert len(files_in(tmp_path)) == 1


@pytest.mark.parametrize("name", ["a\0b.pickle", "x" * 300 + ".pickle"])
def test_a_name_that_no_file_can_have_is_told(name: str, tmp_path: Path) -> None:
    with pytest.raises(rh.SaveError, match="was not saved"):
        rh.save(NEW, os.path.join(tmp_path, name))
    assert files_in(tmp_path) == []


def test_a_relative_name_is_saved_where_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    saved = rh.save(NEW, "data.pickle")
    assert saved.path == "data.pickle"
    assert saved.nbytes == (tmp_path / "data.pickle").stat().st_size
    assert rh.load("data.pickle") == NEW
