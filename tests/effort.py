"""How many examples a property is tried on: the same few each time in the suite, new ones with `REHYDRATE_FUZZ=100`."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

FACTOR = float(os.environ.get("REHYDRATE_FUZZ", "1"))


def tried(examples: int) -> settings:
    """Settings for so many examples, times the factor."""
    return settings(
        max_examples=max(int(examples * FACTOR), 1),
        derandomize=FACTOR == 1,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
