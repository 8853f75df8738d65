"""The README does what it says: every snippet is run, in order, and what it prints is compared with what it shows.

Python snippets share one namespace, the module `__main__` of a reader who types them, and a folder that has the demo's
pictures and its checkpoint. The lines after `# →` are what the statement before them prints, gives, or raises; `...`
stands for anything. Snippets marked `gpu` are compiled everywhere and run where there is one. In `console` snippets
each `$ rehydrate …` is run by the installed command; in `sh` snippets every `make` verb and every extra has to exist.
"""

from __future__ import annotations

import ast
import doctest
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import traceback
import warnings
from collections.abc import Iterator
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, ModuleType

import pytest
import torch

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
SHOWN = re.compile(r"# → ?(.*)$")
CONTINUED = re.compile(r"\s*#   (.*)$")
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True)
class Snippet:
    """A fenced block of the README."""

    kind: str
    line: int
    """Of the README, where its text begins."""
    text: str

    def __str__(self) -> str:
        return f"line{self.line}"


@dataclass(frozen=True)
class Statement:
    """A statement of a snippet, and what the README shows as its outcome; None if it shows nothing."""

    code: CodeType
    line: int
    is_expression: bool
    shown: str | None


def snippets(kind: str) -> list[Snippet]:
    text = README.read_text("utf-8")
    found = re.finditer(r"^```(\S[^\n]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Snippet(block[1], text.count("\n", 0, block.start(2)) + 1, block[2]) for block in found if block[1] == kind]


def statements(snippet: Snippet) -> Iterator[Statement]:
    lines = snippet.text.splitlines()
    body = ast.parse(snippet.text).body
    for node, after in zip(body, [*body[1:], None], strict=True):
        first, last = (
            node.lineno - 1,
            (after.lineno - 1 - len(getattr(after, "decorator_list", ())) if after else len(lines)),
        )
        is_expression = isinstance(node, ast.Expr)
        tree = ast.Expression(node.value) if isinstance(node, ast.Expr) else ast.Module([node], [])
        ast.increment_lineno(tree, snippet.line - 1)
        code = compile(tree, str(README), "eval" if is_expression else "exec")
        yield Statement(code, snippet.line + first, is_expression, shown_in(lines[first:last]))


def shown_in(lines: list[str]) -> str | None:
    """What the comments of a statement show."""
    shown: list[str] = []
    inside = False
    for line in lines:
        if found := SHOWN.search(line):
            shown.append(found[1])
            inside = True
        elif inside and (found := CONTINUED.match(line)):
            shown.append(found[1])
        else:
            inside = False
    return "\n".join(shown) if shown else None


def outcome(statement: Statement, namespace: dict[str, object]) -> str:
    """What a person at a prompt would see."""
    heard = io.StringIO()
    try:
        with redirect_stdout(heard):
            value = eval(statement.code, namespace)
    except Exception as error:
        if statement.shown is None:
            raise
        return heard.getvalue() + "".join(traceback.format_exception_only(error)).rstrip()
    # A call at the end of a line whose value is not shown, such as model.to(device), is not worth a comment.
    is_silent = not statement.is_expression or value is None or statement.shown is None
    return (heard.getvalue() + ("" if is_silent else repr(value))).rstrip("\n")


def is_as_shown(shown: str, seen: str) -> bool:
    return doctest.OutputChecker().check_output(shown + "\n", seen + "\n", FLAGS)


@dataclass
class Reader:
    """Somebody who types the README from the top."""

    folder: Path
    typed: int = 0
    module: ModuleType = field(default_factory=lambda: ModuleType("__main__"))

    def read_until(self, snippet: Snippet) -> None:
        """Type what comes before a snippet, if that has not been done, and the snippet."""
        for other in (*snippets("python"), *snippets("python gpu")):
            if self.typed < other.line <= snippet.line and other.kind == "python":
                self.typed = other.line
                self.type(other)

    def type(self, snippet: Snippet) -> None:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = self.module
        try:
            with chdir(self.folder), warnings.catch_warnings():
                warnings.filterwarnings("ignore", "torch.distributed is disabled")  # true: a reader is one process
                for statement in statements(snippet):
                    seen = outcome(statement, vars(self.module))
                    assert is_as_shown(statement.shown or "", seen), (
                        f"README.md:{statement.line} shows\n{statement.shown}\nand does\n{seen}"
                    )
        finally:
            sys.modules["__main__"] = main

    def run(self, command: str) -> tuple[int, str]:
        """A command of a shell snippet: its exit code, and all that it says."""
        words = shlex.split(command)
        assert words[0] == "rehydrate", f"only rehydrate is run: {command}"
        installed = Path(sysconfig.get_path("scripts")) / "rehydrate"
        done = subprocess.run(
            [str(installed), *words[1:]], cwd=self.folder, env={**os.environ, "COLUMNS": "80"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout.rstrip("\n")


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    folder = tmp_path_factory.mktemp("reader")
    shutil.copytree(ROOT / "demo" / "pictures", folder / "demo" / "pictures")
    shutil.copy(ROOT / "demo" / "checkpoint.pth", folder / "demo")
    return Reader(folder)


def test_every_block_of_the_readme_is_of_a_kind_that_is_tested() -> None:
    fences = re.findall(r"^```(.*)$", README.read_text("utf-8"), re.MULTILINE)
    assert set(fences[::2]) == {"python", "python gpu", "console", "sh"}
    assert set(fences[1::2]) == {""}


@pytest.mark.parametrize("snippet", snippets("python"), ids=str)
def test_a_python_snippet_does_what_it_shows(reader: Reader, snippet: Snippet) -> None:
    reader.read_until(snippet)


@pytest.mark.parametrize("snippet", snippets("python gpu"), ids=str)
def test_a_snippet_for_a_gpu_compiles(snippet: Snippet) -> None:
    assert list(statements(snippet))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("snippet", snippets("python gpu"), ids=str)
def test_a_snippet_for_a_gpu_does_what_it_shows(reader: Reader, snippet: Snippet) -> None:
    reader.read_until(snippet)
    reader.type(snippet)


@pytest.mark.parametrize("snippet", snippets("console"), ids=str)
def test_a_command_prints_what_the_readme_shows(reader: Reader, snippet: Snippet) -> None:
    reader.read_until(snippet)
    for block in re.split(r"^\$ ", snippet.text, flags=re.MULTILINE)[1:]:
        command, _, shown = block.partition("\n")
        code, seen = reader.run(command)
        # An error is shown with the name of the program before it; everything else on the page works.
        assert code == (2 if shown.startswith("rehydrate: ") else 0), seen
        assert is_as_shown(shown.rstrip("\n"), seen), f"README.md shows\n{shown}\nand {command} does\n{seen}"
        assert max(map(len, seen.splitlines())) < 80


def test_every_verb_of_make_and_every_extra_that_is_named_exists() -> None:
    verbs = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"])
    for page in (README, ROOT / "CONTRIBUTING.md"):
        text = page.read_text("utf-8")
        assert set(re.findall(r"(?:`|^)make ([a-z]+)", text, re.MULTILINE)) <= verbs, page.name
        named = {extra for group in re.findall(r"(?:rehydrate|'\.)\[([a-z,]+)\]", text) for extra in group.split(",")}
        assert named <= extras, page.name


def test_the_number_of_pictures_that_the_readme_names_is_right() -> None:
    named = re.search(r"reads (\d+) pictures", README.read_text("utf-8"))
    assert named is not None
    assert int(named[1]) == len(list((ROOT / "demo" / "pictures").iterdir()))


@pytest.mark.parametrize(
    ("shown", "seen", "is_same"),
    [
        ("1", "1", True),
        ("1", "2", False),
        ("", "unannounced", False),
        ("announced", "", False),
        ("a ... c", "a b c", True),
    ],
)
def test_this_test_can_fail(shown: str, seen: str, is_same: bool) -> None:
    assert is_as_shown(shown, seen) is is_same
