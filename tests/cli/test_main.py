"""The commands, what is typed wrongly, what an error becomes, and how a command ends when it is not let finish."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import rehydrate as rh
from rehydrate.cli import main as main_module
from rehydrate.cli.main import COMMANDS

from .conftest import Run, command_line
from .files import write

Spawn = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_help_names_every_command_and_fits_a_terminal(words: tuple[str, ...], run: Run) -> None:
    done = run(*words)
    assert (done.code, done.err) == (0, "")
    assert all(f"\n  {name} " in done.out for name in COMMANDS)
    assert max(map(len, done.out.splitlines())) < 80
    assert "rehydrate model.pth" in done.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, run: Run) -> None:
    done = run(name, "--help")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"Usage: rehydrate {name} ")
    assert max(map(len, done.out.splitlines())) < 80


def test_the_version_is_the_packages(run: Run) -> None:
    assert run("--version").out == f"rehydrate {rh.__version__}\n"


@pytest.mark.parametrize(
    "words",
    [("-x",), ("--bogus", "f"), ("inspect",), ("predict",), ("train", "mnist"), ("fetch", "cifar"), ("train",)],
)
def test_a_command_line_that_makes_no_sense_is_two_and_says_what_to_type(words: tuple[str, ...], run: Run) -> None:
    done = run(*words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("rehydrate: ")
    command = words[0] if words[0] in COMMANDS else "inspect"
    assert f"try       rehydrate {command} --help" in done.err
    assert "\t" not in done.err
    assert "\\n" not in done.err


@pytest.mark.parametrize(
    "words", [("--json",), ("--json", "--bogus", "f"), ("predict", "--json"), ("fetch", "x", "--json")]
)
def test_with_json_it_is_one_object_too(words: tuple[str, ...], run: Run) -> None:
    done = run(*words)
    assert (done.code, done.err) == (2, "")
    whole = json.loads(done.out)
    assert list(whole) == ["schema_version", "command", "ok", "results", "problems"]
    assert whole["command"] == (words[0] if words[0] in COMMANDS else "inspect")
    assert whole["ok"] is False
    (problem,) = whole["problems"]
    assert (problem["code"], problem["severity"]) == ("usage", "error")
    assert problem["hint"].endswith("--help")


def test_json_after_two_dashes_is_a_file(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("--", "--json")
    assert (done.code, done.out) == (2, "")
    assert "--json" in done.err
    write(Path("--json"))
    assert run("--", "--json").out.startswith("--json\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_file_that_is_called_like_a_command_is_opened_by_its_path(
    name: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path(name))
    assert run(f"./{name}").out.startswith(f"./{name}\n")
    assert run("inspect", name).out.startswith(f"{name}\n")
    assert f"for the file of this name: rehydrate ./{name}" in " ".join(run(name).err.split())


def test_a_command_that_raises_ends_in_the_code_for_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def raising(error: BaseException) -> None:
        def invoke(*args: object, **options: object) -> None:
            raise error

        monkeypatch.setattr(main_module._group, "invoke", invoke)

    raising(rh.MismatchError("it does not fit"))
    assert run("predict", "x").code == 1
    raising(rh.CorruptError("it is broken", hint="get another"))
    assert run("predict", "x").err == "rehydrate: it is broken\n  try       get another\n"
    raising(KeyboardInterrupt())
    assert run("predict", "x").code == 130
    raising(OSError(5, "Input/output error", "x"))
    assert (run("predict", "x").code, run("predict", "x").err) == (2, "rehydrate: Input/output error: x\n")
    raising(ZeroDivisionError())
    done = run("predict", "x")
    assert done.code == 2
    assert "please report" in done.err
    assert "ZeroDivisionError" in done.err
    done = run("predict", "x", "--json")
    assert json.loads(done.out)["problems"][0]["code"] == "failure"


def test_a_reader_that_closes_the_pipe_hears_and_sees_nothing_more(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{at}.pth") for at in range(3)] * 40  # more than a pipe holds
    with subprocess.Popen(command_line(files), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().endswith(b"0.pth\n")
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
@pytest.mark.parametrize("is_help", [False, True])
def test_a_full_disk_is_two_and_said(is_help: bool, tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            command_line(["--help"] if is_help else [write(tmp_path / "a.pth")]),
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=60,
        )
    assert (done.returncode, done.stderr) == (2, b"rehydrate: No space left on device\n")


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_an_interrupt_is_130(tmp_path: Path) -> None:
    program = (
        "import sys, time\n"
        "from rehydrate.cli import inspect, main\n"
        "def wait(path): print('waiting', flush=True); time.sleep(60)\n"
        "inspect.open_checkpoint = wait\n"
        "main.main(['x'])\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"waiting\n"
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        assert process.wait(timeout=30) == 130
        assert time.monotonic() - began < 20
        assert b"Traceback" not in process.stderr.read()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_any_terminal_can_show_a_report(encoding: str, spawn: Spawn, tmp_path: Path) -> None:
    import torch

    path = tmp_path / "模型.pth"
    torch.save({"权重.é": torch.zeros(2)}, tmp_path / "x")
    (tmp_path / "x").rename(path)
    done = spawn(path, env={"PYTHONIOENCODING": encoding})
    assert (done.returncode, done.stderr) == (0, b"")
    out = done.stdout.decode(encoding)
    assert ("权重" in out) == (encoding == "utf-8")
    python = "\n".join(line[11:] for line in out[out.index("  next") :].splitlines())
    exec(compile(python, "next", "exec"), {})  # an escaped name is still that name to Python


def test_closed_output_is_no_trouble(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pth")
    done = subprocess.run(["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *map(str, command_line([path]))], timeout=60)
    assert done.returncode == 0


def test_nothing_is_coloured_whatever_the_terminal(spawn: Spawn, tmp_path: Path) -> None:
    done = spawn(write(tmp_path / "a.pth"), env={"FORCE_COLOR": "1", "CLICOLOR_FORCE": "1", "TERM": "xterm-256color"})
    assert b"\x1b" not in done.stdout


def test_the_installed_command_and_the_module_are_the_same(tmp_path: Path, spawn: Spawn) -> None:
    installed = Path(sys.executable).with_name("rehydrate")
    if not installed.exists():
        pytest.skip("the package is not installed beside this Python")
    path = write(tmp_path / "a.pth")
    assert subprocess.run([installed, path], capture_output=True, timeout=60).stdout == spawn(path).stdout


def test_a_name_of_undecodable_bytes_is_opened(spawn: Spawn, tmp_path: Path) -> None:
    write(tmp_path / "x")
    name = os.fsencode(tmp_path) + b"/un\xff.pth"
    try:
        os.rename(tmp_path / "x", name)
    except OSError:
        pytest.skip("this file system takes only names in Unicode")
    done = spawn(name)
    assert done.returncode == 0
    assert b"un\\udcff.pth" in done.stdout
    assert json.loads(spawn(name, "--json").stdout)["results"][0]["path"].endswith("un\udcff.pth")
