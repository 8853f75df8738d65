"""P8: small files that ask for much time or memory, or for the end of the process."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import numpy

from .assembler import (
    additems,
    appends,
    binbytes,
    binbytes8,
    binget,
    binint,
    binint1,
    binput,
    build,
    bytearray8,
    call,
    dict_,
    dup,
    empty_dict,
    empty_list,
    empty_set,
    empty_tuple,
    ext1,
    float_,
    frozenset_,
    global_,
    int_,
    integer,
    keep,
    long,
    long1,
    long4,
    long_binput,
    mark,
    memoize,
    newfalse,
    newobj,
    newobj_ex,
    none,
    numbers,
    pickle_of,
    pop,
    put,
    recall,
    reduce,
    run_opening,
    setitem,
    setitems,
    short_binbytes,
    stop,
    storage_id,
    tensor,
    tensor_run,
    torch_zip,
    tuple1,
    tuple2,
    tuple_,
    unicode,
    unicode8,
)
from .case import BOMB, REFUSED, Case, anything, harmless, opens, refuses, tree_is

_MERSENNE = (1 << 61) - 1
"""CPython's modulus for the hash of a number: all its multiples hash to 0."""
_WIDE = long4(1 << 160_000)
"""An integer of 20 kB: too long for Python to print."""


def _plain(*program: bytes, version: int = 4) -> Callable[[], bytes]:
    return lambda: pickle_of(*program, version=version)


def _list_of(content: bytes) -> bytes:
    return empty_list + mark + content + appends


def _doubled(levels: int, pair: bytes = dup + tuple2) -> bytes:
    """2^levels values, if anybody walked them; two bytes a level."""
    return none + pair * levels


CLAIMS = (
    harmless(
        "P8 LONG_BINPUT far away (CVE-2018-20406, cpython#115952)",
        _plain(none, long_binput(0x0FFFFFFF)),
        tree_is(None),
    ),
    harmless("P8 LONG_BINPUT at the end", _plain(none, long_binput(0xFFFFFFFF)), tree_is(None)),
    harmless("P8 PUT beyond all memory", _plain(none, put("9" * 30)), tree_is(None)),
    refuses("P8 BINUNICODE of 4 GB", _plain(unicode("", claim=0xFFFFFFFF))),
    refuses("P8 BINUNICODE8 of 2^63 bytes", _plain(unicode8("", claim=1 << 63))),
    refuses("P8 BINBYTES of 4 GB", _plain(binbytes(b"", claim=0xFFFFFFFF))),
    refuses("P8 BINBYTES8 of 2^62 bytes (cpython#119204)", _plain(binbytes8(b"", claim=1 << 62))),
    refuses("P8 BYTEARRAY8 of 2^62 bytes", _plain(bytearray8(b"", claim=1 << 62))),
    refuses("P8 BYTEARRAY8 of 2^64-1 bytes", _plain(bytearray8(b"", claim=(1 << 64) - 1))),
    refuses("P8 LONG4 of 2 GB", _plain(long4(b"", claim=0x7FFFFFFF))),
    refuses("P8 LONG1 longer than the file", lambda: b"\x80\x02" + long1(b"", claim=255) + stop),
    refuses("P8 LONG of a million digits", lambda: pickle_of(long("9" * 1_000_000)), *BOMB),
    refuses("P8 INT of a million digits", lambda: pickle_of(int_("9" * 1_000_000)), *REFUSED),
    refuses("P8 FLOAT of a million digits", lambda: pickle_of(float_("9" * 1_000_000)), *BOMB),
    refuses(
        "P8 LONG4 of more than a megabyte", lambda: pickle_of(long4(b"\1" * ((1 << 20) + 1))), *BOMB
    ),
)

DEEP = 200_000
"""Levels: far beyond what Python's own recursion in C survives."""


def _deep(name: str, level: bytes, *, start: bytes = none, end: bytes = b"") -> Case:
    return harmless(
        f"P8 {name}, {DEEP:,} levels", lambda: pickle_of(start + level * DEEP + end), anything
    )


NESTED = (
    harmless("P8 billion laughs of tuples", _plain(_doubled(60))),
    harmless("P8 billion laughs of lists", _plain(none + (memo_pair := b"\x94]h\0ah\0a")), anything),
    harmless(
        "P8 billion laughs of lists, thirty levels",
        lambda: pickle_of(_laughs(lambda inner: empty_list + inner * 2 + b"")),
    ),
    harmless(
        "P8 billion laughs of dictionaries",
        lambda: pickle_of(
            none
            + b"".join(
                keep(at) + pop + mark + binint1(1) + recall(at) + binint1(2) + recall(at) + dict_
                for at in range(60)
            )
        ),
    ),
    harmless(
        "P8 billion laughs of calls",
        _plain(_doubled(60, dup + tuple2 + keep(0) + pop + global_("a", "b") + recall(0) + reduce)),
    ),
    harmless(
        "P8 billion laughs of states",
        lambda: pickle_of(
            none
            + b"".join(
                keep(at) + pop + call("a", "b") + recall(at) + recall(at) + tuple2 + build
                for at in range(60)
            )
        ),
    ),
    harmless(
        "P8 billion laughs of strings, by join",
        _plain(
            unicode("ha"),
            b"".join(
                keep(0) + pop
                + call("builtins", "getattr", recall(0), unicode("join"))
                + recall(0) + recall(0) + tuple2 + tuple1 + reduce
                for _ in range(40)
            ),
        ),
    ),  # fmt: skip
    _deep("tuples", tuple1),
    _deep("lists", b"]" + b"", start=b"", end=b"a" * (DEEP - 1)),
    _deep("dictionaries", b"}N", start=b"", end=none + setitem * DEEP),
    _deep("calls in calls", global_("a", "b"), start=b"", end=none + (tuple1 + reduce) * DEEP),
    _deep("a call that is called", empty_tuple + reduce, start=global_("a", "b")),
    _deep(
        "states in states", global_("a", "b") + empty_tuple + newobj, start=b"", end=none + b"b" * DEEP
    ),
    _deep(
        "deques", global_("collections", "deque") + empty_tuple + reduce, start=b"",
        end=none + b"a" * DEEP,
    ),
    _deep("frozensets", mark, start=b"", end=none + frozenset_ * DEEP),
    _deep("marks", mark, start=none + pop, end=none),
)  # fmt: skip


def _laughs(level: Callable[[bytes], bytes]) -> bytes:
    program = none
    for at in range(60):
        program += keep(at) + pop + empty_list + mark + recall(at) * 2 + appends
    return program


def _key(name: str, key: Callable[[], bytes]) -> Iterator[Case]:
    """The same key in everything that hashes."""
    uses: dict[str, Callable[[bytes], bytes]] = {
        "SETITEM": lambda made: empty_dict + made + none + setitem,
        "ADDITEMS": lambda made: empty_set + mark + made + additems,
        "FROZENSET": lambda made: mark + made + frozenset_,
        "set(…)": lambda made: call("builtins", "set", _list_of(made)),
        "OrderedDict(…)": lambda made: call(
            "collections", "OrderedDict", _list_of(_list_of(made + none))
        ),
    }
    for use, around in uses.items():
        yield harmless(f"P8 {name} in {use}", lambda around=around: pickle_of(around(key())))


KEYS = (
    *_key("a key that hashes 2^40 values", lambda: _doubled(40)),
    *_key("a key of a million levels", lambda: none + tuple1 * 1_000_000),
    harmless(
        "P8 a frozenset of frozensets of frozensets",
        _plain(none, b"".join(keep(0) + pop + mark + recall(0) + recall(0) + tuple1 + frozenset_
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
            keep(0) + pop + global_("a", "b") + keep(1) + empty_list,
            (recall(1) + empty_tuple + recall(0) + newobj_ex + pop) * 20_000,
        ) if False else pickle_of(
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


def _orbit(levels: int = 17) -> numpy.ndarray:
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


def _orbit_items(value: bytes) -> bytes:
    return b"".join(b"J" + struct.pack("<i", key) + value for key in _orbit().tolist())


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
                    _list_of(b"".join(key + none + tuple2 for key in _multiples(30_000))),
                )
            ),
            "set(…)": lambda: pickle_of(
                call("builtins", "set", _list_of(b"".join(_multiples(30_000))))
            ),
            "frozenset(…)": lambda: pickle_of(
                call("builtins", "frozenset", _list_of(b"".join(_multiples(30_000))))
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
            call("collections", "OrderedDict", _list_of(_orbit_items(none + tuple2)))
        ),
    ),
    opens(
        "P8 a hundred frozensets of the same small number are no bomb",
        lambda: pickle_of(_list_of((mark + binint1(1) + frozenset_) * 100)),
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


def _copies(name: str, first: bytes, function: tuple[str, str], args: bytes, times: int) -> Case:
    """A large value, and many calls that would each copy it: seven bytes for a megabyte."""
    return harmless(
        f"P8 {name}",
        lambda: pickle_of(
            first + keep(0) + pop + global_(*function) + keep(1) + pop,
            _list_of((recall(1) + args + reduce) * times),
        ),
    )


COPIES = (
    _copies(
        "a string is encoded a thousand times", unicode("x" * 1_000_000), ("_codecs", "encode"),
        recall(0) + unicode("latin1") + tuple2, 1000,
    ),
    _copies(
        "bytes are copied a thousand times", binbytes(bytes(1_000_000)), ("builtins", "bytearray"),
        recall(0) + tuple1, 1000,
    ),
    _copies(
        "a list becomes a set a thousand times",
        _list_of(b"".join(integer(at) for at in range(30_000))), ("builtins", "set"),
        recall(0) + tuple1, 1000,
    ),
    _copies(
        "a list becomes a deque a thousand times", _list_of(none * 200_000),
        ("collections", "deque"), recall(0) + tuple1, 1000,
    ),
    _copies(
        "a dictionary becomes a Counter a thousand times",
        empty_dict + mark + b"".join(integer(at) + none for at in range(30_000)) + setitems,
        ("collections", "Counter"), recall(0) + tuple1, 1000,
    ),
    _copies(
        "pairs become an OrderedDict a thousand times",
        _list_of(b"".join(integer(at) + none + tuple2 for at in range(20_000))),
        ("collections", "OrderedDict"), recall(0) + tuple1, 1000,
    ),
    harmless(
        "P8 the arguments of a call are copied into another, again and again",
        lambda: pickle_of(
            mark + none * 200_000 + tuple_ + keep(0) + pop,
            call("a", "b") + keep(1) + pop,
            _list_of((recall(1) + recall(0) + reduce) * 1000),
        ),
    ),
)  # fmt: skip


def _said(name: str, program: bytes) -> Case:
    """What goes wrong is about a value that cannot be printed in any reasonable time."""
    return refuses(f"P8 an error about {name}", lambda: pickle_of(program), *REFUSED)


SAID = (
    _said("a call of a billion laughs", _laughs(lambda inner: inner) + empty_tuple + reduce),
    _said("a call of deep lists", empty_list * 50_000 + b"a" * 49_999 + empty_tuple + reduce),
    _said("a call of deep tuples", none + tuple1 * 50_000 + empty_tuple + reduce),
    _said("a call of a number that cannot be printed", _WIDE + empty_tuple + reduce),
    _said("a call of a megabyte", unicode("x" * 1_000_000) + empty_tuple + reduce),
    _said("a key that is a billion laughs", empty_dict + _laughs(lambda i: i) + none + setitem),
    refuses(
        "P8 an error about a persistent id of a billion laughs",
        lambda: torch_zip(pickle_of(_doubled(60) + b"Q")),
    ),
    refuses(
        "P8 an error about a storage of a number of elements that cannot be printed",
        lambda: torch_zip(pickle_of(tensor(storage=storage_id(numel=_WIDE) + b"Q"))),
    ),
    refuses(
        "P8 an error about a shape that cannot be printed",
        lambda: torch_zip(pickle_of(tensor(size=_WIDE + tuple1, stride=numbers([1])))),
    ),
    refuses(
        "P8 an error about strides that cannot be printed",
        lambda: torch_zip(pickle_of(tensor(size=_WIDE + tuple1, stride=empty_tuple))),
    ),
    refuses(
        "P8 an error about an offset that cannot be printed",
        lambda: torch_zip(pickle_of(tensor(offset=_WIDE))),
    ),
    harmless(
        "P8 a tensor of nowhere whose storage cannot be printed",
        lambda: torch_zip(
            pickle_of(tensor(storage=storage_id("9", _WIDE, location="meta") + b"Q"))
        ),
    ),
    harmless(
        "P8 a tensor of nowhere whose shape cannot be printed",
        lambda: pickle_of(
            call(
                "torch._utils", "_rebuild_meta_tensor_no_storage",
                global_("torch", "float32"), _WIDE + tuple1, numbers([1]), newfalse,
            )
        ),
    ),
    harmless("P8 a number that cannot be printed", _plain(_WIDE)),
    harmless("P8 a range that cannot be printed", _plain(call("builtins", "range", _WIDE))),
    harmless("P8 a slice that cannot be printed", _plain(call("builtins", "slice", _WIDE))),
    harmless(
        "P8 a deque of numbers that cannot be printed",
        _plain(call("collections", "deque", _list_of(_WIDE))),
    ),
    harmless(
        "P8 a call with a number that cannot be printed", _plain(call("a", "b", _WIDE, _WIDE))
    ),
    harmless(
        "P8 a tensor under a name that is a number that cannot be printed",
        lambda: torch_zip(pickle_of(empty_dict + _WIDE + tensor() + setitem)),
    ),
)  # fmt: skip

_REF = (
    call(
        "torch._utils", "_rebuild_meta_tensor_no_storage",
        global_("torch", "float32"), numbers([2]), numbers([1]), newfalse,
    )
    + keep(0)
)  # fmt: skip

WALKS = (
    harmless(
        "P8 twenty thousand tensors of one name",
        lambda: pickle_of(
            _REF + pop + empty_dict + mark,
            b"".join(
                short_binbytes(at.to_bytes(17, "big")) + recall(0) for at in range(20_000)
            ) + setitems,
        ),
    ),
    harmless(
        "P8 five thousand tensors below five thousand levels",
        lambda: pickle_of(
            _REF + pop + empty_list * 5000 + mark + recall(0) * 5000 + appends + b"a" * 4999
        ),
    ),
    harmless(
        "P8 one tensor below a hundred thousand levels",
        lambda: pickle_of(_REF + pop + empty_list * 100_000 + recall(0) + b"a" * 100_000),
    ),
    opens(
        "P8 a tensor that stands a hundred thousand times in a list",
        lambda: pickle_of(_REF + pop + _list_of(recall(0) * 100_000)),
        lambda ckpt: len(ckpt) == 100_000,
    ),
    harmless(
        "P8 a module that keeps a hundred thousand names of buffers in a list",
        lambda: pickle_of(
            _REF + pop + global_("net", "Net") + empty_tuple + newobj + empty_dict,
            unicode("_parameters") + empty_dict + setitem,
            unicode("_modules") + empty_dict + setitem,
            unicode("_buffers") + empty_dict + mark
            + b"".join(unicode(f"b{at}") + recall(0) for at in range(20_000)) + setitems + setitem,
            unicode("_non_persistent_buffers_set")
            + _list_of(b"".join(unicode(f"c{at}") for at in range(20_000))) + setitem,
            build,
        ),
    ),
)  # fmt: skip


def _slots_at_the_end() -> bytes:
    opening, slots = run_opening()
    return torch_zip(
        pickle_of(
            opening, none + long_binput(0xFFFFFFFF) + pop,
            tensor_run(slots, "0", 4, [4], [1], top=300),
        )
    )  # fmt: skip


def _slots_beyond_the_end() -> bytes:
    opening, slots = run_opening()
    return torch_zip(
        pickle_of(
            opening, none + put(str(1 << 70)) + pop,
            tensor_run(slots, "0", 4, [4], [1], top=300),
        )
    )  # fmt: skip


MANY = (
    harmless("P8 three million tiny operations", lambda: pickle_of((none + pop) * 1_500_000 + none)),
    harmless("P8 a million marks", lambda: pickle_of(none + mark * 1_000_000 + b"1" * 1_000_000)),
    harmless("P8 two million memo slots", lambda: pickle_of(none + memoize * 2_000_000)),
    harmless("P8 two million lists", lambda: pickle_of(_list_of(empty_list * 2_000_000))),
    harmless("P8 two million sets", lambda: pickle_of(_list_of(empty_set * 2_000_000))),
    harmless("P8 a million extension codes", lambda: pickle_of(_list_of(ext1(7) * 1_000_000))),
    harmless(
        "P8 half a million deques",
        lambda: pickle_of(
            global_("collections", "deque") + keep(0) + pop,
            _list_of((recall(0) + empty_tuple + reduce) * 500_000),
        ),
    ),
    harmless(
        "P8 a string of forty megabytes whose last character is wide",
        lambda: pickle_of(unicode8("x" * 40_000_000 + "\U0001f600")),
    ),
    opens("P8 a run of torch's after the last memo slot", _slots_at_the_end, lambda c: len(c) == 1),
    opens(
        "P8 a run of torch's after a memo slot beyond all memory",
        _slots_beyond_the_end,
        lambda c: len(c) == 1,
    ),
)

CASES = CLAIMS + NESTED + KEYS + COLLISIONS + COPIES + SAID + WALKS + MANY
