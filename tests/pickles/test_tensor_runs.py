"""The short way over torch's runs gives what the long way gives: the tree, every memo slot, names, calls, or the error.

The long way is the machine without its shortcut. Identity is compared, too: what is one object for one must be for the
other, between the tree and the memo as well.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import lru_cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehydrate.errors import RehydrateError
from rehydrate.limits import Limits
from rehydrate.pickles.known import KNOWN, read_known_pickle
from rehydrate.pickles.machine import Machine, Shortcut
from rehydrate.pickles.opcodes import HANDLERS
from rehydrate.pickles.tensor_runs import TENSOR_RUNS
from rehydrate.pickles.torch_names import CONSTANTS

from ..effort import tried
from .described import outline_of
from .programs import mutated
from .state_dicts import Saved, assembled, edited, saved

SEEDS = st.integers(0, (1 << 64) - 1)
BASES = st.integers(0, 59)


class Tally:
    """Readings in which the short way was taken, and comparisons that ended in a tree."""

    shortened = compared = trees = 0

    def __repr__(self) -> str:
        return f"<{self.shortened} shortened, {self.trees} of {self.compared} trees>"


@pytest.fixture(scope="module")
def tally() -> Iterator[Tally]:
    """Without short ways and without trees, nothing would be proved."""
    found = Tally()
    yield found
    assert found.shortened > 0.25 * found.compared
    assert found.trees > 0.08 * found.compared


@lru_cache(maxsize=64)
def base(seed: int) -> Saved:
    return saved(seed)


def machine_of(data: bytes, around: Saved, shortcut: Shortcut | None) -> Machine:
    return Machine(
        data, 0, constructors=KNOWN, constants=CONSTANTS, persistent=around.storages(),
        shortcut=shortcut, handlers=HANDLERS, limits=Limits(),
    )  # fmt: skip


def slots_of(machine: Machine) -> set[int]:
    """Every slot that holds something, also those that a shortcut left for later."""
    lazy = {slot for stretch in machine.lazy for slot in range(stretch.first, stretch.first + stretch.slots)}
    return lazy | set(machine.memo)


def outcome(machine: Machine, seed: int) -> tuple[object, ...]:
    """All that a run leaves behind, or the kind of its error."""
    try:
        machine.run()
    except RehydrateError as error:
        return type(error).__name__, error.what
    slots = sorted(slots_of(machine))
    for slot in random.Random(seed).sample(slots, len(slots)):  # in any order, and more than once
        machine.recall(slot)
    memo = [machine.recall(slot) for slot in slots]
    return (
        slots,
        outline_of([machine.result, memo], machine.attributes),
        list(machine.first_seen.items()),
        machine.called,
        machine.protocol,
        machine.at,
    )


def compare(data: bytes, around: Saved, seed: int, tally: Tally) -> None:
    taken: list[bool] = []

    def counted(machine: Machine) -> bool:
        taken.append(TENSOR_RUNS[1](machine))
        return taken[-1]

    fast = outcome(machine_of(data, around, (TENSOR_RUNS[0], counted)), seed)
    slow = outcome(machine_of(data, around, None), seed)
    tally.compared += 1
    tally.shortened += any(taken)
    tally.trees += len(slow) > 2
    assert fast == slow, data


@tried(60)
@given(SEEDS, SEEDS)
def test_state_dicts_read_alike_on_both_ways(tally: Tally, seed: int, order: int) -> None:
    one = saved(seed)
    compare(one.pickle, one, order, tally)


@tried(500)
@given(BASES, SEEDS, st.integers(1, 5))
def test_state_dicts_with_other_operations_in_them_read_alike_on_both_ways(
    tally: Tally, which: int, seed: int, edits: int
) -> None:
    compare(edited(base(which), seed, edits), base(which), seed, tally)


@tried(500)
@given(BASES, SEEDS, st.integers(1, 3))
def test_state_dicts_with_changed_bytes_read_alike_on_both_ways(
    tally: Tally, which: int, seed: int, changes: int
) -> None:
    compare(mutated(base(which).pickle, seed, changes), base(which), seed, tally)


@tried(600)
@given(SEEDS, st.integers(0, 12))
def test_assembled_runs_read_alike_on_both_ways(tally: Tally, seed: int, length: int) -> None:
    one = assembled(seed, length)
    compare(one.pickle, one, seed, tally)


@tried(150)
@given(SEEDS, st.integers(1, 12), SEEDS, st.integers(1, 3))
def test_assembled_runs_with_changed_bytes_read_alike_on_both_ways(
    tally: Tally, seed: int, length: int, change: int, changes: int
) -> None:
    one = assembled(seed, length)
    compare(mutated(one.pickle, change, changes), one, seed, tally)


@pytest.mark.parametrize("seed", range(20))
def test_the_public_reading_is_the_same_on_both_ways(seed: int) -> None:
    one = saved(seed)
    fast, slow = (
        read_known_pickle(one.pickle, persistent=one.storages(), limits=Limits(), fast=fast) for fast in (True, False)
    )
    assert outline_of(fast.value, fast.attributes) == outline_of(slow.value, slow.attributes)
    assert (fast.names, fast.called, fast.protocol, fast.end) == (slow.names, slow.called, slow.protocol, slow.end)
