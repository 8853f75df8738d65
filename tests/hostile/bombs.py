"""Bombs are examined one after the other in processes of their own, with little memory and an alarm.

    python -c "from hostile.bombs import main; main(0, 0, 2)"

writes a line of JSON before and after each of the first table, from the given one on, every second of them. Should the
process die (memory, the alarm, the end of the C stack), whoever started it sees which bomb it was, and starts another
at the next.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path

from . import cases_bombs, cases_keys, cases_nesting, cases_packed, cases_torch7, cases_value_bombs, cases_wide
from .case import Case

TABLES: tuple[tuple[Case, ...], ...] = (
    cases_bombs.CASES,
    cases_keys.CASES,
    cases_nesting.CASES,
    (*cases_torch7.BOMBS, *cases_packed.BOMBS),
    cases_value_bombs.CASES,
    cases_wide.CASES,
)
"""Each is a proof by itself: its bombs are examined when the first of them is asked for."""
CASES: tuple[Case, ...] = tuple(case for table in TABLES for case in table)

MEMORY = 3 << 30
SECONDS = 60
"""Of the processor, for one bomb: however busy the machine is with other things."""


LANES = 2
"""Processes at once; what a bomb takes is counted in its own process."""


def main(table: int, first: int, step: int) -> None:
    """Examine bombs of a table from `first` on; one line when a bomb begins, one with what was wrong, or null."""
    from .examining import examine_bomb
    from .guard import warm

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warm()
    for case in TABLES[table][first::step]:
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


@cache
def outcomes(table: int) -> dict[str, str | None]:
    """What was wrong with each bomb of a table, by name; None where nothing was."""
    with ThreadPoolExecutor(LANES) as pool:
        lanes = list(pool.map(partial(_lane, table), range(LANES)))
    return {name: problem for lane in lanes for name, problem in lane.items()}


def _lane(table: int, lane: int) -> dict[str, str | None]:
    """The same for every bomb of one lane, in as many processes as it takes."""
    found: dict[str, str | None] = {}
    while len(found) < len(TABLES[table][lane::LANES]):
        lines, code = _lines_from(table, lane + LANES * len(found))
        if len(lines) % 2:
            lines.append(f"the process died with {code}")
        if not lines:
            raise RuntimeError(f"bombs cannot be examined here: the process ended with {code}")
        found.update(zip(lines[::2], lines[1::2], strict=True))
    return found


def _lines_from(table: int, first: int) -> tuple[list[str], int]:
    """What the process said, and how it ended."""
    path = [str(Path(__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"from hostile.bombs import main; main({table}, {first}, {LANES})"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    return [json.loads(line) for line in done.stdout.splitlines()], done.returncode
