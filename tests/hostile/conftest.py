"""The guard, as a fixture, and around every opening of the session."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from .guard import guarded, warm, watch_every_opening


def pytest_collection_finish() -> None:
    """Called once, with all tests of the run collected, also those of other folders."""
    watch_every_opening()


@pytest.fixture(scope="session")
def guard() -> Callable[..., AbstractContextManager[None]]:
    """`with guard(path): rh.open(path)` fails on anything but the reading of that file."""
    warm()
    return guarded
