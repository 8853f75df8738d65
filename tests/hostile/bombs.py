"""Bombs are examined one after the other in a process of their own, with little memory and an alarm.

    python -c "from hostile.bombs import main; main(0)"

writes a line of JSON before and after each, from the given one on. Should the process die (memory, the alarm, the end
of the C stack), whoever started it sees which bomb it was, and starts another at the next.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import traceback
from pathlib import Path

from . import cases_bombs, cases_keys, cases_nesting, cases_packed, cases_torch7, cases_value_bombs, cases_wide
from .case import Case

CASES: tuple[Case, ...] = (
    cases_bombs.CASES
    + cases_keys.CASES
    + cases_nesting.CASES
    + cases_torch7.BOMBS
    + cases_packed.BOMBS
    + cases_value_bombs.CASES
    + cases_wide.CASES
)

MEMORY = 3 << 30
SECONDS = 60
"""Of the processor, for one bomb: however busy the machine is with other things."""


def main(first: int) -> None:
    """Examine the bombs from `first` on; one line when a bomb begins, one with what was wrong, or null."""
    from .examining import examine_bomb
    from .guard import warm

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warm()
    for case in CASES[first:]:
        data = case.build()
        _say(case.name)
        # What it does by default is to end the process, which also code in C cannot put off.
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            examine_bomb(case, data)
            problem = None
        except BaseException:  # noqa: BLE001 - whatever it was, it is the answer
            problem = traceback.format_exc()[-4000:]
        signal.setitimer(signal.ITIMER_PROF, 0)
        _say(problem)


def _say(value: str | None) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def outcomes() -> dict[str, str | None]:
    """What was wrong with each bomb, by name; None where nothing was."""
    found: dict[str, str | None] = {}
    while len(found) < len(CASES):
        lines, code = _lines_from(len(found))
        if len(lines) % 2:
            lines.append(f"the process died with {code}")
        if not lines:
            raise RuntimeError(f"bombs cannot be examined here: the process ended with {code}")
        found.update(zip(lines[::2], lines[1::2], strict=True))
    return found


def _lines_from(first: int) -> tuple[list[str], int]:
    """What the process said, and how it ended."""
    path = [str(Path(__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"from hostile.bombs import main; main({first})"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    return [json.loads(line) for line in done.stdout.splitlines()], done.returncode
