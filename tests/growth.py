"""How a time grows with what there is to do: ten times as much may take forty times as long, and not a hundred times.

So no test depends on how fast a machine is, or on what else it does.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from rehydrate.collector import collector_paused

MORE = 10
MOST = 40
LEAST = 0.01
"""Seconds that are counted for whatever takes less: a clock says little about them."""


def assert_grows_like_its_work(prepare: Callable[[int], Callable[[], object]], few: int) -> None:
    """`prepare` gives what is to be timed, for so much of it; `few` and ten times as much are compared."""
    once = max(min(_seconds(prepare(few)) for _ in range(3)), LEAST)
    for _ in range(3):  # the least again: a moment may be bad, but not three
        taken = _seconds(prepare(MORE * few))
        if taken < MOST * once:
            return
    raise AssertionError(f"{taken:.3f} s for {MORE * few:,}, {once:.3f} s for {few:,}")


def _seconds(work: Callable[[], object]) -> float:
    """The processor's, so that others who run meanwhile do not count; nor does walking over what other tests left."""
    with collector_paused():
        started = time.process_time()
        work()
        return time.process_time() - started
