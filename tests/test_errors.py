"""The error tree: what each is besides, how it reads, and that it survives the way to another process."""

from __future__ import annotations

import builtins
import copy
import errno
import pickle
import re
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rehydrate as rh
from rehydrate import errors
from tests.effort import tried

KINDS: list[type[rh.RehydrateError]] = [getattr(errors, name) for name in errors.__all__]
DRAWN = dict(re.findall(r"[├└]── (\w+) +also (\w+)", errors.__doc__ or ""))

words = st.text(max_size=30)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_is_also_the_builtin_that_the_tree_shows(kind: type[rh.RehydrateError]) -> None:
    assert issubclass(kind, rh.RehydrateError)
    assert kind.__doc__
    if kind is rh.RehydrateError:
        return
    found = getattr(builtins, DRAWN[kind.__name__])
    assert issubclass(kind, found)
    with pytest.raises(found):
        raise kind("it happened")


def test_the_tree_shows_every_error_and_no_other() -> None:
    assert set(DRAWN) == set(errors.__all__) - {"RehydrateError"}
    assert {name for name in rh.__all__ if name.endswith("Error")} == set(errors.__all__)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@tried(100)
@given(what=words, where=words, found=words, hint=words)
def test_each_survives_copying_and_pickling(
    kind: type[rh.RehydrateError], what: str, where: str, found: str, hint: str
) -> None:
    error = kind(what, where=where, found=found, hint=hint)
    copies = [copy.copy(error), copy.deepcopy(error)]
    copies += [pickle.loads(pickle.dumps(error, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    for other in copies:
        assert type(other) is kind
        assert (other.what, other.where, other.found, other.hint) == (what, where, found, hint)
        assert str(other) == str(error)
        assert other.args == error.args == (what,)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_reads_the_same_way(kind: type[rh.RehydrateError]) -> None:
    error = kind("it broke", where="net.pth", found="12 bytes\nand more", hint="try again")
    assert str(error) == "it broke\n  where  net.pth\n  found  12 bytes\n         and more\n  try    try again"
    assert str(kind("it broke")) == "it broke"
    assert repr(kind("it's")) == f'{kind.__name__}("it\'s")'
    printed = "".join(traceback.format_exception_only(kind, error))
    assert printed == f"rehydrate.errors.{kind.__name__}: {error}\n"


def test_a_key_error_is_not_quoted_as_keys_are() -> None:
    assert str(rh.NoSuchTensorError("no tensor is called 'a'")) == "no tensor is called 'a'"


def test_a_missing_file_has_the_number_that_callers_look_at() -> None:
    with pytest.raises(OSError, match="no such file") as error:
        rh.open("/nonexistent/net.pth")
    assert error.value.errno == errno.ENOENT
    assert pickle.loads(pickle.dumps(error.value)).errno == errno.ENOENT


def test_an_error_comes_back_from_a_worker_process(tmp_path: Path) -> None:
    program = (
        "from concurrent.futures import ProcessPoolExecutor\n"
        "import rehydrate as rh\n"
        "if __name__ == '__main__':\n"
        "    with ProcessPoolExecutor(1) as pool:\n"
        "        try:\n"
        "            pool.submit(rh.open, b'<html><title>a page</title>').result()\n"
        "        except rh.NotACheckpointError as error:\n"
        "            print(error.what)\n"
    )
    (tmp_path / "program.py").write_text(program)
    done = subprocess.run([sys.executable, tmp_path / "program.py"], capture_output=True, text=True, timeout=60)
    assert "web page" in done.stdout, done.stderr
