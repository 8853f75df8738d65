"""P8, keys: dictionaries and sets that take long to fill, and keys that take long to hash or end the process."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import numpy

from .assembler import (
    additems,
    binint,
    binint1,
    call,
    doubled,
    dup,
    empty_dict,
    empty_set,
    empty_tuple,
    frozenset_,
    global_,
    integer,
    keep,
    list_of,
    long1,
    long4,
    mark,
    newobj_ex,
    none,
    pickle_of,
    plain,
    pop,
    recall,
    setitem,
    setitems,
    tuple1,
    tuple2,
    tuple_,
    unicode,
)
from .case import BOMB, Case, harmless, opens, refuses

_MERSENNE = (1 << 61) - 1
"""CPython's modulus for the hash of a number: all its multiples hash to 0."""


def _key(name: str, key: Callable[[], bytes]) -> Iterator[Case]:
    """The same key in everything that hashes."""
    uses: dict[str, Callable[[bytes], bytes]] = {
        "SETITEM": lambda made: empty_dict + made + none + setitem,
        "ADDITEMS": lambda made: empty_set + mark + made + additems,
        "FROZENSET": lambda made: mark + made + frozenset_,
        "set(…)": lambda made: call("builtins", "set", list_of(made)),
        "OrderedDict(…)": lambda made: call("collections", "OrderedDict", list_of(list_of(made + none))),
    }
    for use, around in uses.items():
        yield harmless(f"P8 {name} in {use}", lambda around=around: pickle_of(around(key())))


KEYS = (
    *_key("a key that hashes 2^40 values", lambda: doubled(40)),
    *_key("a key of a million levels", lambda: none + tuple1 * 1_000_000),
    harmless(
        "P8 a frozenset of frozensets of frozensets",
        plain(none, b"".join(keep(0) + pop + mark + recall(0) + recall(0) + tuple1 + frozenset_
                              for _ in range(60))),
    ),
    refuses(
        "P8 the key of 32 doublings that stops stock Python",
        lambda: b"}N" + (dup + tuple2) * 32 + b"Ns.",
        *BOMB,
    ),
    harmless(
        "P8 a wide key is used again and again",
        lambda: pickle_of(
            mark + integer(7) * 4000 + tuple_ + keep(0) + pop + empty_dict,
            (recall(0) + none + setitem) * 50_000,
        ),
    ),
    harmless(
        "P8 a frozenset is used again and again",
        lambda: pickle_of(
            mark + b"".join(integer(at) for at in range(4000)) + frozenset_ + keep(0) + pop,
            empty_dict + (recall(0) + none + setitem) * 50_000,
        ),
    ),
    harmless(
        "P8 an integer of a megabyte is used as a key again and again",
        lambda: pickle_of(
            long4(b"\1" * (1 << 20)) + keep(0) + pop + empty_dict,
            (recall(0) + none + setitem) * 50_000,
        ),
    ),
    harmless(
        "P8 keyword arguments are used again and again",
        lambda: pickle_of(
            empty_dict + mark + b"".join(unicode(f"k{at}") + none for at in range(20_000)) + setitems,
            keep(0) + pop + global_("a", "b") + keep(1) + pop,
            (recall(1) + empty_tuple + recall(0) + newobj_ex + pop) * 20_000 + none,
        ),
    ),
)  # fmt: skip


def _multiples(count: int) -> Iterator[bytes]:
    return (long1(at * _MERSENNE) for at in range(1, count))


def _twins(count: int) -> Iterator[bytes]:
    """Tuples of -1 and -2, which hash alike, so that all of them do."""
    for at in range(count):
        yield mark + b"".join(binint(-1 - (at >> bit & 1)) for bit in range(14)) + tuple_


def _orbit(levels: int) -> numpy.ndarray:
    """Small integers, all of different hash, that make a dictionary look at tens of thousands of places for each.

    Where a place is taken, CPython goes on to (5 · place + 1 + rest) mod size, the rest being what is left of the
    hash, shifted away five bits a step. The first half of the keys fills one stretch of that walk; each of the second
    half is chosen so that all of its first places lie in that stretch, where from then on every step leads along it.
    """
    size = 1 << levels
    stretch = numpy.empty(size * 2 // 3 // 2, numpy.int64)
    place = 0
    for at in range(len(stretch)):
        stretch[at] = place
        place = (5 * place + 1) % size
    taken = numpy.zeros(size, bool)
    taken[stretch] = True
    found: list[numpy.ndarray] = []
    missing, begin = len(stretch), size
    while missing > 0 and begin < (1 << 31) - (1 << 22):
        key = numpy.arange(begin, begin + (1 << 22), dtype=numpy.int64)
        place, rest = key % size, key.copy()
        fits = taken[place]
        for _ in range(7):
            key, place, rest = key[fits], place[fits], rest[fits]
            rest >>= 5
            place = (5 * place + rest + 1) % size
            fits = taken[place]
        found.append(key[fits][:missing])
        missing -= len(found[-1])
        begin += 1 << 22
    return numpy.concatenate([stretch, *found])


def _orbit_items(value: bytes, levels: int = 17) -> bytes:
    return b"".join(b"J" + struct.pack("<i", key) + value for key in _orbit(levels).tolist())


COLLISIONS = (
    *(
        harmless(f"P8 thirty thousand numbers of one hash in {use}", build_)
        for use, build_ in {
            "a dictionary": lambda: pickle_of(
                empty_dict + mark + b"".join(key + none for key in _multiples(30_000)) + setitems
            ),
            "a set": lambda: pickle_of(
                empty_set + mark + b"".join(_multiples(30_000)) + additems
            ),
            "a frozenset": lambda: pickle_of(mark + b"".join(_multiples(30_000)) + frozenset_),
            "OrderedDict(…)": lambda: pickle_of(
                call(
                    "collections", "OrderedDict",
                    list_of(b"".join(key + none + tuple2 for key in _multiples(30_000))),
                )
            ),
            "set(…)": lambda: pickle_of(
                call("builtins", "set", list_of(b"".join(_multiples(30_000))))
            ),
            "frozenset(…)": lambda: pickle_of(
                call("builtins", "frozenset", list_of(b"".join(_multiples(30_000))))
            ),
        }.items()
    ),
    harmless(
        "P8 sixteen thousand tuples of one hash",
        lambda: pickle_of(
            empty_dict + mark + b"".join(key + none for key in _twins(16_384)) + setitems
        ),
    ),
    harmless(
        "P8 numbers of different hash that a dictionary puts in one row",
        lambda: pickle_of(empty_dict + mark + _orbit_items(none) + setitems),
    ),
    harmless(
        "P8 the same row, through OrderedDict(…)",
        lambda: pickle_of(
            call("collections", "OrderedDict", list_of(_orbit_items(none + tuple2, 14)))
        ),
    ),
    opens(
        "P8 a hundred frozensets of the same small number are no bomb",
        lambda: pickle_of(list_of((mark + binint1(1) + frozenset_) * 100)),
        lambda ckpt: ckpt.tree == [frozenset({1})] * 100,
    ),
    opens(
        "P8 a dictionary of a hundred thousand numbers is no bomb",
        lambda: pickle_of(
            empty_dict + mark + b"".join(binint(at) + none for at in range(100_000)) + setitems
        ),
        lambda ckpt: len(ckpt.tree) == 100_000,
    ),
)  # fmt: skip

CASES = KEYS + COLLISIONS
