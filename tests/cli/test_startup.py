"""Looking at a file starts in a blink: no torch, no numpy, and a small part of the time that importing torch takes."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from .conftest import command_line

SIZE = 400_000_000
"""Bytes of the file that is looked at."""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 400 MB: torch writes every byte of it."""
    path = tmp_path_factory.mktemp("large") / "large.pth"
    layer = torch.zeros(SIZE // 20 // 4)
    torch.save({f"layers.{at}.weight": layer.clone() for at in range(20)}, path)
    assert path.stat().st_size > SIZE
    return path


def seconds(command: list[str | bytes | Path]) -> float:
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, timeout=120)
    return time.perf_counter() - began


def test_a_file_of_400_mb_is_shown_in_a_quarter_of_the_time_of_importing_torch(large: Path) -> None:
    looking: list[str | bytes | Path] = command_line([large])
    importing: list[str | bytes | Path] = [sys.executable, "-c", "import torch"]
    seconds(looking), seconds(importing)  # from here on both are in the system's cache
    pairs = [(seconds(looking), seconds(importing)) for _ in range(3)]
    assert min(first for first, _ in pairs) <= min(second for _, second in pairs) / 4


PROGRAM = """
import sys
from rehydrate.cli.main import main
try:
    main(sys.argv[1:])
finally:
    print("loaded", *sys.modules, file=sys.stderr)
"""


def imported(*words: str | Path) -> set[str]:
    """Every module that a command imports, by Python's own account, and by what is loaded at its end."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", PROGRAM, *words], capture_output=True, text=True, timeout=60
    )
    loaded = re.search(r"^loaded (.*)$", done.stderr, re.MULTILINE)
    assert loaded is not None
    return {*re.findall(r"^import time:.*\|\s+(\S+)$", done.stderr, re.MULTILINE), *loaded[1].split()}


HEAVY = {
    "torch", "numpy", "ml_dtypes", "PIL", "rich", "pooch", "requests", "asyncio", "multiprocessing", "unittest",
    "importlib.metadata", "email", "urllib", "urllib.parse", "socket", "ssl", "http", "xml", "sqlite3",
    "rehydrate.zoo.fetch",
}  # fmt: skip


def test_looking_at_a_file_imports_nothing_heavy(large: Path) -> None:
    modules = imported(large)
    assert "rehydrate.cli.inspect" in modules
    assert not modules & HEAVY
    assert not [name for name in modules if name.startswith(("torch.", "numpy."))]


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["--bogus"], ["no such file"]])
def test_what_needs_no_file_imports_nothing_heavy_either(words: list[str]) -> None:
    modules = imported(*words)
    assert "rehydrate.cli.main" in modules
    assert not modules & HEAVY
