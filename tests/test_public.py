"""What `import rehydrate as rh` offers: every name is real, listed, documented, and loaded only when it is used."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib.metadata import version

import pytest

import rehydrate as rh

VERBS = [name for name in rh.__all__ if inspect.isfunction(getattr(rh, name))]


@pytest.mark.parametrize("name", rh.__all__)
def test_every_public_name_is_real_and_says_what_it_is(name: str) -> None:
    value = getattr(rh, name)
    assert inspect.getdoc(value)
    assert value is getattr(rh, name)
    assert name in dir(rh)


def test_names_are_listed_in_order_and_once() -> None:
    assert rh.__all__ == sorted(rh.__all__)
    assert len(set(rh.__all__)) == len(rh.__all__)


def test_the_verbs_are_there() -> None:
    verbs = {"open", "load", "load_into", "load_model", "save", "to_device", "audit", "verify", "salvage"}
    assert verbs <= set(VERBS)


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_is_annotated_and_shows_how_it_is_used(name: str) -> None:
    verb = getattr(rh, name)
    signature = inspect.signature(verb)
    assert signature.return_annotation is not signature.empty
    assert all(each.annotation is not each.empty for each in signature.parameters.values())
    positional = [each for each in signature.parameters.values() if each.kind is each.POSITIONAL_OR_KEYWORD]
    assert len(positional) <= 3
    assert ">>> " in (verb.__doc__ or "")


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lood'"):
        _ = rh.lood
    with pytest.raises(ImportError):
        exec("from rehydrate import lood")


def test_the_zoo_is_reached_from_the_top() -> None:
    assert rh.zoo.mnist.__name__ == "rehydrate.zoo.mnist"
    with pytest.raises(AttributeError, match="no attribute 'cifar'"):
        _ = rh.zoo.cifar


def test_the_version_is_the_one_that_is_installed() -> None:
    assert rh.__version__ == version("rehydrate")


def test_importing_everything_by_star_gives_what_is_listed() -> None:
    namespace: dict[str, object] = {}
    exec("from rehydrate import *", namespace)
    assert set(rh.__all__) <= set(namespace)


def test_looking_a_name_up_loads_no_torch() -> None:
    program = (
        "import sys, rehydrate as rh\n"
        "for name in rh.__all__:\n"
        "    if name != 'Saved':  # what saving gives lives on the floor that loads torch\n"
        "        getattr(rh, name)\n"
        "        assert 'torch' not in sys.modules, name\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
