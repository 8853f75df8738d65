"""Fuzzing by coverage: `python -m tests.fuzz.run SECONDS [TARGET …]` runs each target for so long; 1 if any fell.

atheris drives each target in a process of its own that may not grow beyond a bound and whose single inputs may not
take long; as many processes run at once as there are processors. What makes one fall is kept in tests/fuzz/found/, to
be made a case in tests/hostile. `fuzz_all` does a little of everything in one process.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

__all__ = ["ALL", "fuzz", "fuzz_all"]

ROOT = Path(__file__).parent.parent.parent
FOUND = Path(__file__).parent / "found"
MEGABYTES = 1024
"""Resident memory of a fuzzing process: the instrumented library and a corpus of small files take a quarter."""
SECONDS = 30
"""Of one input; instrumented Python is ten times as slow, and inputs are at most `LONGEST` bytes."""
LONGEST = 8192
ALL = "all"
"""The target that is all of them: the first byte of an input says which."""


def fuzz(target: str, seconds: int, seeds: Sequence[bytes]) -> tuple[str, int]:
    """Run one target: what was said when it fell, or nothing; and how many inputs it was given."""
    from .words import dictionary

    FOUND.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        corpus, words, rest = Path(folder, "corpus"), Path(folder, "words"), Path(folder, "rest")
        corpus.mkdir()
        rest.mkdir()
        words.write_text(dictionary(), encoding="ascii")
        for number, seed in enumerate(seeds):
            (corpus / f"seed{number}").write_bytes(seed)
        done = subprocess.run(
            [
                sys.executable, "-m", "tests.fuzz.run", "--inside", target, str(corpus), f"-dict={words}",
                f"-max_total_time={seconds}", f"-timeout={SECONDS}", f"-rss_limit_mb={MEGABYTES}",
                f"-max_len={LONGEST}", f"-artifact_prefix={FOUND}/{target.replace(' ', '-')}-", "-print_final_stats=1",
            ],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(rest), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=2 * seconds + 300,
            check=False,
        )  # fmt: skip
    said = "\n".join(line for line in (done.stdout + done.stderr).splitlines() if "Instrumenting" not in line)
    ran = re.search(r"number_of_executed_units: (\d+)", said)
    return f"{target} fell ({done.returncode}):\n{said[-6000:]}" if done.returncode else "", int(ran[1]) if ran else 0


def fuzz_all(seconds: int, seeds: Mapping[str, Sequence[bytes]]) -> tuple[str, int]:
    """Run all targets in one process, which starts but once."""
    return fuzz(ALL, seconds, [bytes((at,)) + seed for at, one in enumerate(seeds.values()) for seed in one])


def _inside(target: str, arguments: list[str]) -> None:
    """What the fuzzing process does; it never returns."""
    import atheris

    with atheris.instrument_imports(include=["rehydrate", "pyfive"]):
        from .changing import CHANGES
        from .targets import TARGETS

        names = list(TARGETS)

        def run(data: bytes) -> None:
            if target != ALL:
                TARGETS[target].run(data)
            elif data and data[0] < len(names):
                TARGETS[names[data[0]]].run(data[1:])

        for seed in Path(arguments[0]).iterdir():  # what is imported late is instrumented as well
            run(seed.read_bytes())

    def change(data: bytes, most: int, seed: int) -> bytes:
        if target != ALL:
            return CHANGES[TARGETS[target].changes](data, most, seed, atheris.Mutate)
        at = data[0] % len(names) if data else 0
        return bytes((at,)) + CHANGES[TARGETS[names[at]].changes](data[1:], most - 1, seed, atheris.Mutate)

    atheris.Setup([sys.argv[0], *arguments], run, custom_mutator=change)
    atheris.Fuzz()


def _by_itself(target: str, arguments: list[str]) -> int:
    """The same in a fork, which begins with a peak of memory of its own.

    Linux counts the peak of whoever started a program as the program's (`ru_maxrss` of getrusage(2) outlives exec), and
    that is what the fuzzer holds against `MEGABYTES`: begun by a test run of two gigabytes it would fall at once.
    """
    child = os.fork()
    if not child:
        _inside(target, arguments)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> int:
    """Every target that was named, or all."""
    if sys.argv[1] == "--inside":
        return _by_itself(sys.argv[2], sys.argv[3:])
    from .seeds import seeds

    seconds, beginnings = int(sys.argv[1]), seeds()
    fallen = inputs = 0
    targets = sys.argv[2:] or list(beginnings)
    with ThreadPoolExecutor(os.cpu_count()) as processes:
        for target, (said, ran) in zip(
            targets, processes.map(lambda target: fuzz(target, seconds, beginnings[target]), targets), strict=True
        ):
            fallen += bool(said)
            inputs += ran
            print(said or f"{target}: {seconds} s, {ran:,} inputs, nothing found", flush=True)
    print(f"{len(targets)} targets, {seconds * len(targets):,} s, {inputs:,} inputs, {fallen} fell")
    return int(fallen > 0)


if __name__ == "__main__":
    sys.exit(main())
