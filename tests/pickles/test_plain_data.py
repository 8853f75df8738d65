"""What Python pickles as plain data, rehydrate reads as Python reads it: values, types, sharing, cycles."""

from __future__ import annotations

import io
import pickle
from collections import defaultdict, deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rehydrate as rh

from ..effort import tried
from .described import outline_of
from .outlines import outline
from .plain import KEYS, graphs

PROTOCOLS = st.integers(0, pickle.HIGHEST_PROTOCOL)


def pickled(value: object, protocol: int, by_python: bool) -> bytes:
    """Pickled by Python's pickler in C, or by the one in Python: they do not write the same."""
    if not by_python:
        return pickle.dumps(value, protocol)
    buffer = io.BytesIO()
    pickle._Pickler(buffer, protocol).dump(value)  # type: ignore[attr-defined]
    return buffer.getvalue()


def assert_read_alike(data: bytes) -> None:
    with rh.open(data) as checkpoint:
        assert checkpoint.format == "pickle"
        assert outline_of(checkpoint.tree) == outline(pickle.loads(data))


@tried(700)
@given(graphs(), PROTOCOLS, st.booleans())
def test_plain_data_reads_as_python_reads_it(value: object, protocol: int, by_python: bool) -> None:
    assert_read_alike(pickled(value, protocol, by_python))


@tried(100)
@given(st.lists(KEYS, max_size=40), PROTOCOLS)
def test_large_dictionaries_and_sets_read_as_python_reads_them(keys: list[Any], protocol: int) -> None:
    assert_read_alike(pickle.dumps([dict.fromkeys(keys), set(keys), frozenset(keys)], protocol))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_batches_frames_and_long_memos_read_as_python_reads_them(protocol: int) -> None:
    words = [f"word {at}" for at in range(3000)]
    table = {word: [word, at] for at, word in enumerate(words)}
    values = [words, table, set(range(3000)), words[::-1], "x" * 200_000]
    assert_read_alike(pickle.dumps(values, protocol))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: (inner,), lambda inner: {"a": inner}])
def test_deep_data_reads_as_python_reads_it(wrap: Any, protocol: int) -> None:
    value: object = "at the bottom"
    for _ in range(150):
        value = wrap(value)
    assert_read_alike(pickled(value, protocol, by_python=False))


@pytest.mark.parametrize("value", [
    "prose, which begins like nothing else", "Very well: it works", "I", "S'", "cos\nsystem", "", "(lp0", "\n", ".",
    b"bytes", bytearray(b"x"), 1, -1, 1.5, None, True, False, [], (), {}, set(), [1], (1,), {1: 2}, 1 << 99, 2 + 3j,
])  # fmt: skip
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_of_one_small_value_is_recognised(value: object, protocol: int) -> None:
    assert_read_alike(pickle.dumps(value, protocol))


def _rows() -> object:
    headers = [("column", at, (1, 2)) for at in range(10)]
    return [dict.fromkeys(headers, at) for at in range(10_000)]


LARGE = {
    "tables whose rows share their keys": _rows,
    "a dictionary by addresses": lambda: {at * 48 + 140_000_000_000_000: at for at in range(100_000)},
    "a dictionary by long numbers": lambda: {(at * 0x9E3779B97F4A7C15) % (1 << 64): at for at in range(30_000)},
    "a set of floats": lambda: {at / 7 for at in range(50_000)},
    "a dictionary by coordinates": lambda: {
        (x, y, z): 0 for x in range(-9, 9) for y in range(-9, 9) for z in range(90)
    },
    "a dictionary by complex numbers": lambda: {complex(x, y): 0 for x in range(-90, 90) for y in range(90)},
    "defaultdicts in a defaultdict": lambda: defaultdict(dict, {at: defaultdict(int, a=at) for at in range(5000)}),
    "deques in a deque": lambda: deque(deque([at]) for at in range(5000)),
    "one list in many places": lambda: [[0] * 1000] * 50_000,
    "one frozenset in many places": lambda: [{frozenset(range(50)): at} for at in range(5000)],
    "many names": lambda: [bytearray, dict, print, len] * 5000,
}


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("what", LARGE)
def test_large_honest_data_is_no_bomb(what: str, protocol: int) -> None:
    value = LARGE[what]()  # type: ignore[no-untyped-call]
    with rh.open(pickle.dumps(value, protocol)) as checkpoint:
        assert type(checkpoint.tree) is type(value)
        if what != "many names":
            assert checkpoint.tree == value
