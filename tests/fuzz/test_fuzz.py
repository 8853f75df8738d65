"""Half a minute of fuzzing: every reader a little. `make fuzz` does each for longer."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

import pytest

from .run import fuzz_all
from .seeds import seeds
from .targets import TARGETS

SECONDS = 10
"""Of all together; the process takes some more to start."""
HOSTILE = 6
"""Hostile files of each kind that it begins with: the suite opens every one of them anyway."""


FOUND = (
    ("hdf5 index", b'{"path": ["w"], "shape": [4], "dtype": "<f4", "chunks": [4], "fill": "0s"}'),
    ("hdf5 index", b'{"path": ["w"], "shape": [4], "dtype": "<f4", "data": "a byte"}'),
)
"""What once made a target fall, but for what is a case in tests/hostile."""


@pytest.fixture(scope="module")
def beginnings() -> Mapping[str, list[bytes]]:
    return seeds(HOSTILE)


@pytest.mark.parametrize("target", TARGETS)
def test_what_a_target_begins_with_is_read_or_refused(target: str, beginnings: Mapping[str, list[bytes]]) -> None:
    assert beginnings[target]
    for seed in beginnings[target]:
        TARGETS[target].run(seed)


@pytest.mark.parametrize(("target", "data"), FOUND)
def test_what_fuzzing_found_is_read_or_refused(target: str, data: bytes) -> None:
    TARGETS[target].run(data)


@pytest.mark.skipif(
    find_spec("atheris") is None, reason="atheris is not installed: it has wheels for Linux on x86-64 only"
)
def test_nothing_but_our_own_errors_comes_out_of_any_reader(beginnings: Mapping[str, list[bytes]]) -> None:
    fell, inputs = fuzz_all(SECONDS, beginnings)
    assert fell == ""
    assert inputs > 100
