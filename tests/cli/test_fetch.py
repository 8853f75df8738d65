"""`rehydrate fetch`: paths on stdout, progress on stderr for those who watch, and what it says when nothing came."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import rehydrate as rh
from rehydrate.zoo import fetch as fetching

from .conftest import Run


@pytest.fixture
def came(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """A fetch that asks nobody; what it was asked for."""
    asked: list[dict[str, object]] = []

    def fetch(
        data_set: fetching.DataSet, folder: str, *, mirrors: Sequence[str], report: Callable[[str], None]
    ) -> list[Path]:
        asked.append({"data_set": data_set, "folder": folder, "mirrors": tuple(mirrors)})
        report("one: here")
        return [Path(folder) / "one", Path(folder) / "two\n"]

    monkeypatch.setattr(fetching, "fetch", fetch)
    return asked


def test_the_paths_are_the_answer(run: Run, came: list[dict[str, object]]) -> None:
    done = run("fetch", "mnist", "--data", "folder")
    assert (done.code, done.out, done.err) == (0, "folder/one\nfolder/two\\n\n", "")
    assert came[0]["data_set"] is fetching.MNIST


def test_progress_is_for_a_terminal(run: Run, came: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert run("fetch", "mnist").err == "one: here\n"


def test_ones_own_mirrors_are_asked_first(run: Run, came: list[dict[str, object]]) -> None:
    run("fetch", "mnist", "--mirror", "http://a", "--mirror", "http://b")
    assert came[0]["mirrors"] == ("http://a", "http://b", *fetching.MNIST.mirrors)


def test_json_is_one_result_with_the_files(run: Run, came: list[dict[str, object]]) -> None:
    whole = json.loads(run("fetch", "mnist", "--data", "folder", "--json").out)
    assert whole["ok"] is True
    assert whole["results"] == [
        {"data_set": "mnist", "folder": "folder", "ok": True, "files": ["folder/one", "folder/two\n"]}
    ]


@pytest.mark.parametrize(
    "error", [rh.MissingFileError("no mirror gave it", found="a: down"), rh.MissingExtraError("no")]
)
def test_a_failure_is_two_in_words_or_as_one_object(
    error: rh.RehydrateError, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(*args: object, **options: object) -> list[Path]:
        raise error

    monkeypatch.setattr(fetching, "fetch", fetch)
    done = run("fetch", "mnist")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"rehydrate: {error.what}\n")
    done = run("fetch", "mnist", "--json")
    whole = json.loads(done.out)
    assert (done.code, done.err, whole["ok"], len(whole["results"]), len(whole["problems"])) == (2, "", False, 1, 1)
