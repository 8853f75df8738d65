"""The guard as a fixture."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from .guard import guarded, warm


@pytest.fixture(scope="session")
def guard() -> Callable[..., AbstractContextManager[None]]:
    """`with guard(path): rh.open(path)` fails on anything but the reading of that file."""
    warm()
    return guarded
