"""What every test may ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real files; tests that use it are skipped where there is none."""
    folder = os.environ.get("REHYDRATE_TEST_DATA")
    if not folder:
        pytest.skip("REHYDRATE_TEST_DATA is not set: it names a folder with checkpoints/ and mnist/")
    return Path(folder)
