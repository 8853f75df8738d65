"""The command line in this process, and in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from rehydrate.cli.main import main


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """`run("inspect", path)`: the same as `rehydrate inspect path`, without the start of a process."""

    def runs(*words: str | Path) -> Done:
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in words])
        captured = capsys.readouterr()
        assert isinstance(stop.value.code, int)
        return Done(stop.value.code, captured.out, captured.err)

    return runs


@pytest.fixture
def spawn() -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """`rehydrate` in a process of its own."""

    def spawns(*words: str | bytes | Path, **options: object) -> subprocess.CompletedProcess[bytes]:
        environment = {**os.environ, **options.pop("env", {})}  # type: ignore[dict-item]
        return subprocess.run(command_line(words), capture_output=True, env=environment, timeout=60, **options)

    return spawns


def command_line(words: Sequence[str | bytes | Path] = ()) -> list[str | bytes | Path]:
    """How `rehydrate` is started."""
    return [sys.executable, "-m", "rehydrate", *words]
