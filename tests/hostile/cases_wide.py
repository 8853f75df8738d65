"""P8 and S1: files that are nothing but millions of the smallest things there are, which all take room of their own."""

from __future__ import annotations

import gzip
import os
import struct

from .archives import torch_zip
from .assembler import (
    append,
    appends,
    build,
    call,
    dict_,
    empty_dict,
    empty_list,
    empty_set,
    empty_tuple,
    frozenset_,
    global_,
    keep,
    list_of,
    long_binput,
    mark,
    memoize,
    none,
    persid,
    persid_binary,
    pickle_of,
    pop,
    recall,
    reduce,
    setitem,
    storage_id,
    tuple1,
)
from .case import Case, anything, harmless, opens

_MILLION = 1_000_000 if "REHYDRATE_FUZZ" in os.environ else 250_000
"""How often; a quarter of it in the suite, where all bombs together have two minutes."""


def _wide(name: str, each: bytes, count: int = _MILLION, opening: bytes = b"") -> Case:
    """A list of the same few opcodes."""
    return harmless(f"P8 {name}, a million times", lambda: pickle_of(opening + list_of(each * count), version=4))


def _called(module: str, name: str, more: bytes = b"") -> Case:
    """The same of a call without arguments, of a name that is recalled."""
    opening = global_(module, name) + keep(1) + pop
    after = f" and {more.decode('ascii')}" if more else ""
    return _wide(f"a call of {module}.{name}{after}", recall(1) + empty_tuple + reduce + more, _MILLION // 2, opening)


PICKLES = (
    _wide("an empty dictionary", empty_dict),
    _wide("an empty list", empty_list),
    _wide("an empty set", empty_set),
    _wide("an empty frozenset", mark + frozenset_),
    _wide("a dictionary of one", mark + none * 2 + dict_, _MILLION // 2),
    _wide("a list in a list", empty_list * 2 + append, _MILLION // 2),
    _wide("a persistent id", none + persid_binary),
    _wide("a persistent id in text", persid("1")),
    _called("a", "b"),
    _called("a", "b", none + append),
    _called("a", "b", empty_list + build),
    _called("collections", "deque"),
    _called("collections", "defaultdict"),
    _called("argparse", "Namespace"),
    harmless("P8 a million tuples in each other", lambda: pickle_of(empty_tuple + tuple1 * _MILLION)),
    harmless("P8 half a million dictionaries in each other",
             lambda: pickle_of(empty_dict + (none + empty_dict) * 500_000 + setitem * 500_000)),
    harmless("P8 a million dictionaries that are kept and dropped",
             lambda: pickle_of((empty_dict + memoize + pop) * _MILLION + none, version=4)),
    harmless("P8 memo slots far from each other",
             lambda: pickle_of(b"".join(none + long_binput(at * 4001) + pop for at in range(300_000)) + none)),
    harmless("P8 sets of one list, again and again",
             lambda: pickle_of(call("builtins", "set") + pop + global_("builtins", "set") + keep(1) + pop
                               + list_of(b"".join(b"M" + struct.pack("<H", at) for at in range(300))) + tuple1 + keep(2)
                               + pop + list_of((recall(1) + recall(2) + reduce) * 30_000))),
    harmless("P8 a persistent id of a storage, a million times",
             lambda: torch_zip(pickle_of(empty_list + mark + storage_id() + keep(0)
                                         + (recall(0) + persid_binary) * 300_000 + appends))),
    Case("P8 a million empty sets, packed",
         lambda: gzip.compress(pickle_of(list_of(empty_set * _MILLION), version=4)),
         unpacked=_MILLION, opcodes=_MILLION, refused=harmless("", bytes).refused, shows=anything),
)  # fmt: skip


def _header(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def _entries(count: int) -> bytes:
    return b",".join(b'"%d":{"dtype":"F32","shape":[0,%d],"data_offsets":[0,0]}' % (at, at) for at in range(count))


HEADERS = (
    harmless("S1 two hundred thousand tensors of nothing", lambda: _header(b"{" + _entries(200_000) + b"}")),
    harmless("S1 two hundred thousand tensors of nothing, oddly spelled",
             lambda: _header(b"{ " + _entries(200_000) + b"}")),
    opens("S1 thirty thousand tensors of nothing", lambda: _header(b"{" + _entries(30_000) + b"}"),
          lambda checkpoint: len(checkpoint) == 30_000),
    harmless("S1 a million empty lists", lambda: _header(b'{"a":[' + b"[]," * _MILLION + b"1]}")),
    harmless("S1 metadata of four hundred thousand words",
             lambda: _header(b'{"__metadata__":{' + b",".join(b'"%d":""' % at for at in range(400_000)) + b"}}")),
    harmless("S2 an index of four hundred thousand names",
             lambda: b'{"weight_map":{' + b",".join(b'"%d":"a.bin"' % at for at in range(400_000)) + b"}}"),
)  # fmt: skip

CASES = PICKLES + HEADERS
