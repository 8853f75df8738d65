"""Every hostile file of every table: refused as it should be, or opened and shown; and nothing that it says happens."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from . import bombs
from .case import Case
from .examining import examine
from .tables import CASES

CATEGORIES = {
    "C1": 252, "C2": 50, "C3": 200, "C4": 100, "C7": 170, "C8": 50,
    "P1": 37, "P2": 49, "P3": 15, "P4": 24, "P5": 43, "P6": 57, "P7": 49, "P8": 132, "P9": 40,
    "T1": 70, "V1": 90, "S1": 45, "S2": 21, "D1": 40, "N1": 75, "G1": 95, "H1": 50, "SAID": 284,
}  # fmt: skip
"""Kinds of attack, by the word that their cases' names begin with, and how many there are at least.

C: containers; 1 zip, 2 files that are none, 7 Torch7, 8 what is compressed. P: what a pickle can say; 1 to 3 names and
what they lead to, 4 and 5 state and rebuild functions, 6 and 7 flow and spelling, 8 bombs, 9 persistent ids. T:
tensors. V: values. S: safetensors, 1 alone and 2 in shards. D: what torch writes from many ranks. N: numpy. G: GGUF.
H: HDF5. SAID: what is shown of a file's own words.
"""


def by_name(case: Case) -> str:
    return case.name.encode("ascii", "backslashreplace").decode()


@pytest.mark.parametrize("case", [case for case in CASES if not case.beside], ids=by_name)
def test_hostile_bytes_do_nothing_and_are_what_they_are(case: Case, guard: object) -> None:
    examine(case, case.build())


@pytest.mark.parametrize("case", CASES, ids=by_name)
def test_a_hostile_file_does_nothing_and_is_what_it_is(case: Case, guard: object, tmp_path: Path) -> None:
    files = {case.file: case.build(), **case.beside}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    examine(case, tmp_path / case.file)
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == files


@pytest.mark.parametrize("case", bombs.CASES, ids=by_name)
def test_a_bomb_takes_no_more_than_its_length_explains(case: Case) -> None:
    table = next(number for number, table in enumerate(bombs.TABLES) if case in table)
    problem = bombs.outcomes(table)[case.name]
    assert problem is None, problem


def test_there_are_cases_of_every_kind_and_no_fewer_than_there_were() -> None:
    cases = [*CASES, *bombs.CASES]
    names = Counter(case.name for case in cases)
    assert [name for name, count in names.items() if count > 1] == []
    counts = Counter(name.split()[0] for name in names)
    assert {kind: counts[kind] for kind in CATEGORIES if counts[kind] < CATEGORIES[kind]} == {}
    assert set(counts) == set(CATEGORIES)
