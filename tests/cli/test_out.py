"""What is printed: lines that fit, one JSON object whatever is in it, errors by their class."""

from __future__ import annotations

import contextlib
import io
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rehydrate as rh
from rehydrate import errors
from rehydrate.cli.out import answer, complain, failed, first_columns, problem_of, rows
from rehydrate.text import columns, shown
from tests.effort import tried

words = st.lists(st.text(st.characters(codec="utf-8"), max_size=90).map(lambda text: shown(text, 90)), max_size=12)


@tried(100)
@given(words)
def test_every_line_fits_and_nothing_is_lost(pieces: list[str]) -> None:
    text = " ".join(pieces)
    lines = rows([("label", text)])
    assert all(columns(line) < 80 for line in lines)
    assert lines[0].startswith("  label     ")
    assert all(line.startswith(" " * 12) for line in lines[1:] if line.strip())
    assert "".join("".join(line[12:] for line in lines).split()) == "".join(text.split())


@tried(100)
@given(st.text(max_size=40), st.integers(2, 30))
def test_the_first_columns_of_a_text_are_as_many_as_fit(text: str, width: int) -> None:
    first = first_columns(text, width)
    assert text.startswith(first)
    assert columns(first) <= width
    assert first == text or columns(text[: len(first) + 1]) > width or len(first) == width


@tried(100)
@given(st.recursive(st.none() | st.floats() | st.text() | st.integers(), lambda inner: st.lists(inner), max_leaves=9))
def test_any_result_becomes_one_line_of_strict_json(value: object) -> None:
    with contextlib.redirect_stdout(io.StringIO()) as stream:
        answer("command", [{"value": value}], ok=False)
    text = stream.getvalue()
    assert text.isascii()
    assert text.count("\n") == 1

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    whole = json.loads(text, parse_constant=refuse)
    assert list(whole) == ["schema_version", "command", "ok", "results", "problems"]
    assert whole["results"][0]["value"] == without_nonsense(value)


def without_nonsense(value: object) -> object:
    if isinstance(value, list):
        return [without_nonsense(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_has_a_code_of_its_own(name: str) -> None:
    problem = problem_of(getattr(errors, name)("what", where="where", found="one\ntwo", hint="hint"))
    assert list(problem) == ["code", "severity", "message", "hint"]
    assert problem["message"] == "where: what: one: two"
    assert str(problem["code"]).replace("-", "") == name.removesuffix("Error").lower()
    assert problem_of(rh.NotACheckpointError(""))["code"] == "not-a-checkpoint"


def test_a_misfit_is_a_no_and_everything_else_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    for name in errors.__all__:
        error = getattr(errors, name)("what")
        assert failed(error, command="c", as_json=False) == (1 if name == "MismatchError" else 2)
        assert failed(error, command="c", as_json=True) == (1 if name == "MismatchError" else 2)
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == len(captured.err.splitlines()) == len(errors.__all__)


def test_a_long_complaint_is_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    complain(rh.CorruptError("it " * 60, where="a/" * 80, found="b\nc", hint="d " * 60))
    lines = capsys.readouterr().err.splitlines()
    assert max(map(len, lines)) < 80
    assert lines[0].startswith("rehydrate: it it")
    assert "            c" in lines
