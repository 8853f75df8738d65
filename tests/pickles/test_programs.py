"""Any program at all is read or refused, quickly; and what both of Python's readers agree about, we read as they do."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rehydrate as rh
from rehydrate.errors import RehydrateError

from ..effort import tried
from ..hostile.examining import check_message, look
from .described import outline_of
from .plain import graphs
from .programs import mutated, program
from .reader import Ask, Oracle

SEEDS = st.integers(0, (1 << 64) - 1)
LENGTHS = st.integers(0, 60)
CHANGES = st.integers(1, 6)


@pytest.fixture(scope="module")
def python() -> Iterator[Ask]:
    """Both of Python's unpicklers, inert and in a process of their own."""
    oracle = Oracle()
    yield oracle
    oracle.close()


class Tally:
    """Programs that both of Python's readers agree about, and those of them that we read."""

    agreed = read = 0

    def __repr__(self) -> str:
        return f"<{self.read} of {self.agreed}>"


@pytest.fixture(scope="module")
def tally() -> Iterator[Tally]:
    """Too few would prove nothing."""
    found = Tally()
    yield found
    assert found.agreed > 100
    assert found.read > 0.7 * found.agreed


def ours(data: bytes) -> str | None:
    """Our outline of a pickle, or None where it is refused; nothing else may happen, and not for long."""
    allowed = 1 + 1e-4 * len(data)
    for _ in range(3):  # the collector of a long run may come between
        begin = time.process_time()
        outlined = _outlined(data)
        if time.process_time() - begin < allowed:
            return outlined
    pytest.fail(f"it took more than {allowed} s, again and again: {data!r}")


def _outlined(data: bytes) -> str | None:
    try:
        checkpoint = rh.open(data)
    except RehydrateError as error:
        check_message(error)
        return None
    with checkpoint:
        look(checkpoint)
        return repr(outline_of(checkpoint.tree)) + f" {len(data)}"


def compare(data: bytes, python: Ask, tally: Tally) -> None:
    in_c, in_python = python(data)
    here = ours(data)
    if in_c is not None and in_python is not None and in_c != in_python:
        assert here is None, f"readers disagree about {data!r}"
    elif in_c is not None and in_python is not None:
        tally.agreed += 1
        tally.read += here is not None
        # Bytes after the pickle are what a stream of pickles has; of a file, we refuse them.
        assert here in (None, in_c), data


@tried(1500)
@given(SEEDS, LENGTHS)
def test_a_random_program_reads_as_both_of_pythons_readers_read_it(
    python: Ask, tally: Tally, seed: int, length: int
) -> None:
    compare(program(seed, length), python, tally)


@tried(800)
@given(SEEDS, LENGTHS, SEEDS, CHANGES)
def test_a_changed_program_reads_as_both_of_pythons_readers_read_it(
    python: Ask, tally: Tally, seed: int, length: int, change: int, changes: int
) -> None:
    compare(mutated(program(seed, length), change, changes), python, tally)


@tried(300)
@given(graphs(), st.integers(0, 5), SEEDS, CHANGES)
def test_a_changed_pickle_is_read_or_refused(value: object, protocol: int, seed: int, changes: int) -> None:
    ours(mutated(pickle.dumps(value, protocol), seed, changes))


@tried(500)
@given(st.binary(max_size=60), st.integers(0, 5))
def test_any_bytes_at_all_are_read_or_refused(noise: bytes, protocol: int) -> None:
    ours(b"\x80" + bytes((protocol,)) + noise + b".")
    ours(noise)
