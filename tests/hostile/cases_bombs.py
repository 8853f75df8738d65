"""P8: small files that ask for much time or memory by what they claim, by copying, or by their number of operations."""

from __future__ import annotations

from .archives import torch_zip
from .assembler import (
    binbytes,
    binbytes8,
    bytearray8,
    call,
    empty_dict,
    empty_list,
    empty_set,
    empty_tuple,
    ext1,
    float_,
    global_,
    int_,
    integer,
    keep,
    list_of,
    long,
    long1,
    long4,
    long_binput,
    mark,
    memoize,
    none,
    pickle_of,
    plain,
    pop,
    pop_mark,
    put,
    recall,
    reduce,
    run_opening,
    setitems,
    stop,
    tensor_run,
    tuple1,
    tuple2,
    tuple_,
    unicode,
    unicode8,
)
from .case import BOMB, REFUSED, Case, harmless, opens, refuses, tree_is

CLAIMS = (
    harmless(
        "P8 LONG_BINPUT far away (CVE-2018-20406, cpython#115952)",
        plain(none, long_binput(0x0FFFFFFF)),
        tree_is(None),
    ),
    harmless("P8 LONG_BINPUT at the end", plain(none, long_binput(0xFFFFFFFF)), tree_is(None)),
    harmless("P8 PUT beyond all memory", plain(none, put("9" * 30)), tree_is(None)),
    refuses("P8 BINUNICODE of 4 GB", plain(unicode("", claim=0xFFFFFFFF))),
    refuses("P8 BINUNICODE8 of 2^63 bytes", plain(unicode8("", claim=1 << 63))),
    refuses("P8 BINBYTES of 4 GB", plain(binbytes(b"", claim=0xFFFFFFFF))),
    refuses("P8 BINBYTES8 of 2^62 bytes (cpython#119204)", plain(binbytes8(b"", claim=1 << 62))),
    refuses("P8 BYTEARRAY8 of 2^62 bytes", plain(bytearray8(b"", claim=1 << 62))),
    refuses("P8 BYTEARRAY8 of 2^64-1 bytes", plain(bytearray8(b"", claim=(1 << 64) - 1))),
    refuses("P8 LONG4 of 2 GB", plain(long4(b"", claim=0x7FFFFFFF))),
    refuses("P8 LONG1 longer than the file", lambda: b"\x80\x02" + long1(b"", claim=255) + stop),
    refuses("P8 LONG of a million digits", lambda: pickle_of(long("9" * 1_000_000)), *BOMB),
    refuses("P8 INT of a million digits", lambda: pickle_of(int_("9" * 1_000_000)), *REFUSED),
    refuses("P8 FLOAT of a million digits", lambda: pickle_of(float_("9" * 1_000_000)), *BOMB),
    refuses("P8 LONG4 of more than a megabyte", lambda: pickle_of(long4(b"\1" * ((1 << 20) + 1))), *BOMB),
)


def _copies(name: str, first: bytes, function: tuple[str, str], args: bytes, times: int) -> Case:
    """A large value, and many calls that would each copy it: seven bytes for a megabyte."""
    return harmless(
        f"P8 {name}",
        lambda: pickle_of(
            first + keep(0) + pop + global_(*function) + keep(1) + pop,
            list_of((recall(1) + args + reduce) * times),
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
        list_of(b"".join(integer(at) for at in range(30_000))), ("builtins", "set"),
        recall(0) + tuple1, 1000,
    ),
    _copies(
        "a list becomes a deque a thousand times", list_of(none * 200_000),
        ("collections", "deque"), recall(0) + tuple1, 1000,
    ),
    _copies(
        "a dictionary becomes a Counter a thousand times",
        empty_dict + mark + b"".join(integer(at) + none for at in range(30_000)) + setitems,
        ("collections", "Counter"), recall(0) + tuple1, 1000,
    ),
    _copies(
        "pairs become an OrderedDict a thousand times",
        list_of(b"".join(integer(at) + none + tuple2 for at in range(20_000))),
        ("collections", "OrderedDict"), recall(0) + tuple1, 1000,
    ),
    harmless(
        "P8 the arguments of a call are copied into another, again and again",
        lambda: pickle_of(
            mark + none * 200_000 + tuple_ + keep(0) + pop,
            call("a", "b") + keep(1) + pop,
            list_of((recall(1) + recall(0) + reduce) * 1000),
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
    harmless("P8 a million tiny operations", lambda: pickle_of((none + pop) * 500_000 + none)),
    harmless("P8 a hundred thousand marks", lambda: pickle_of(none + mark * 100_000 + pop_mark * 100_000)),
    harmless("P8 three hundred thousand memo slots", lambda: pickle_of(none + memoize * 300_000)),
    harmless("P8 a hundred thousand lists", lambda: pickle_of(list_of(empty_list * 100_000))),
    harmless("P8 a hundred thousand sets", lambda: pickle_of(list_of(empty_set * 100_000))),
    harmless("P8 a hundred thousand extension codes", lambda: pickle_of(list_of(ext1(7) * 100_000))),
    harmless(
        "P8 a hundred thousand deques",
        lambda: pickle_of(
            global_("collections", "deque") + keep(0) + pop,
            list_of((recall(0) + empty_tuple + reduce) * 100_000),
        ),
    ),
    harmless(
        "P8 a string of ten megabytes whose last character is wide",
        lambda: pickle_of(unicode8("x" * 10_000_000 + "\U0001f600")),
    ),
    opens("P8 a run of torch's after the last memo slot", _slots_at_the_end, lambda c: len(c) == 1),
    opens(
        "P8 a run of torch's after a memo slot beyond all memory",
        _slots_beyond_the_end,
        lambda c: len(c) == 1,
    ),
)

CASES = CLAIMS + COPIES + MANY
