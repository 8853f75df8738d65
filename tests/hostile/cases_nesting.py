"""P8, nesting: values that nobody may walk, print or free by recursion, and names for what lies deep in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .archives import torch_zip
from .assembler import (
    append,
    appends,
    binint1,
    build,
    call,
    dict_,
    doubled,
    empty_dict,
    empty_list,
    empty_tuple,
    frozenset_,
    global_,
    keep,
    list_of,
    long4,
    mark,
    newfalse,
    newobj,
    none,
    numbers,
    persid_binary,
    pickle_of,
    plain,
    pop,
    recall,
    reduce,
    setitem,
    setitems,
    short_binbytes,
    storage_id,
    tensor,
    tuple1,
    tuple2,
    unicode,
)
from .case import REFUSED, Case, anything, harmless, opens, refuses

_WIDE = long4(1 << 160_000)
"""An integer of 20 kB: too long for Python to print."""


DEEP = 50_000
"""Levels: far beyond what Python's own recursion survives, in what it prints and compares."""
DEEPER = 200_000
"""Levels of what Python frees by recursion in C, which goes on for longer."""


def _deep(name: str, level: bytes, *, start: bytes = none, end: bytes = b"", levels: int = DEEP) -> Case:
    return harmless(f"P8 {name}, {levels:,} levels", lambda: pickle_of(start + level * levels + end), anything)


def _deep_in(module: str, name: str, close: bytes, levels: int) -> Case:
    """Each made by a call, and the next put into it."""
    opening = global_(module, name) + keep(0) + pop
    level = recall(0) + empty_tuple + reduce + (none if close == setitem else b"")
    return _deep(f"{name}s", level, start=opening, end=none + close * levels, levels=levels)


def _laughs(level: Callable[[bytes], bytes], levels: int = 60) -> bytes:
    """Each level has the one before it twice: 2^levels values, if anybody walked them."""
    return none + b"".join(keep(at) + pop + level(recall(at)) for at in range(levels))


_LISTS = _laughs(lambda inner: empty_list + mark + inner * 2 + appends)

NESTED = (
    harmless("P8 billion laughs of tuples", plain(doubled(60))),
    harmless("P8 billion laughs of lists", plain(_LISTS)),
    harmless(
        "P8 billion laughs of dictionaries",
        plain(_laughs(lambda inner: mark + binint1(1) + inner + binint1(2) + inner + dict_)),
    ),
    harmless(
        "P8 billion laughs of calls", plain(_laughs(lambda inner: global_("a", "b") + inner * 2 + tuple2 + reduce))
    ),
    harmless("P8 billion laughs of states", plain(_laughs(lambda inner: call("a", "b") + inner * 2 + tuple2 + build))),
    harmless(
        "P8 billion laughs of deques",
        plain(_laughs(lambda inner: call("collections", "deque", empty_list + mark + inner * 2 + appends))),
    ),
    harmless(
        "P8 billion laughs of strings, by join",
        plain(
            unicode("ha"),
            b"".join(
                keep(0) + pop
                + call("builtins", "getattr", recall(0), unicode("join"))
                + recall(0) + recall(0) + tuple2 + tuple1 + reduce
                for _ in range(40)
            ),
        ),
    ),
    _deep("tuples", tuple1),
    _deep("lists", empty_list, start=b"", end=append * (DEEP - 1)),
    _deep("dictionaries", empty_dict + none, start=b"", end=none + setitem * DEEP),
    _deep("calls in calls", global_("a", "b"), start=b"", end=none + (tuple1 + reduce) * DEEP),
    _deep("a call that is called", empty_tuple + reduce, start=global_("a", "b")),
    _deep("states in states", global_("a", "b") + empty_tuple + newobj, start=b"", end=none + build * DEEP),
    _deep("items in items", global_("a", "b") + empty_tuple + newobj, start=b"", end=none + append * DEEP),
    _deep("a persistent id of a persistent id", persid_binary),
    _deep_in("collections", "deque", append, DEEPER),
    _deep_in("collections", "defaultdict", setitem, DEEPER),
    _deep_in("collections", "OrderedDict", setitem, DEEP),
    _deep_in("collections", "Counter", setitem, DEEP),
    _deep("deques in defaultdicts", call("collections", "defaultdict") + none + call("collections", "deque"),
          start=b"", end=none + (append + setitem) * DEEPER, levels=DEEPER),
    _deep("deques, each in a list", call("collections", "deque") + empty_list, start=b"", end=none + append * 2 * DEEP),
    _deep("deques that are arguments of deques", global_("collections", "deque") + empty_list, start=b"",
          end=none + (append + tuple1 + reduce) * DEEPER, levels=DEEPER),
    _deep("deques, the outermost first", call("collections", "deque") + keep(1) + append + recall(1),
          start=call("collections", "deque") + keep(0), end=pop + recall(0), levels=DEEPER),
    _deep("frozensets", mark, start=b"", end=none + frozenset_ * DEEP),
    _deep("marks", mark, start=none + pop, end=none),
)  # fmt: skip


def _said(name: str, program: bytes) -> Case:
    """What goes wrong is about a value that cannot be printed in any reasonable time."""
    return refuses(f"P8 an error about {name}", lambda: pickle_of(program), *REFUSED)


SAID = (
    _said("a call of a billion laughs", _LISTS + empty_tuple + reduce),
    _said("a call of deep lists", empty_list * 50_000 + b"a" * 49_999 + empty_tuple + reduce),
    _said("a call of deep tuples", none + tuple1 * 50_000 + empty_tuple + reduce),
    _said("a call of a number that cannot be printed", _WIDE + empty_tuple + reduce),
    _said("a call of a megabyte", unicode("x" * 1_000_000) + empty_tuple + reduce),
    _said("a key that is a billion laughs", empty_dict + _LISTS + none + setitem),
    refuses(
        "P8 an error about a persistent id of a billion laughs",
        lambda: torch_zip(pickle_of(doubled(60) + b"Q")),
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
    harmless("P8 a number that cannot be printed", plain(_WIDE)),
    harmless("P8 a range that cannot be printed", plain(call("builtins", "range", _WIDE))),
    harmless("P8 a slice that cannot be printed", plain(call("builtins", "slice", _WIDE))),
    harmless(
        "P8 a deque of numbers that cannot be printed",
        plain(call("collections", "deque", list_of(_WIDE))),
    ),
    harmless(
        "P8 a call with a number that cannot be printed", plain(call("a", "b", _WIDE, _WIDE))
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


def _module(parameters: bytes, modules: bytes) -> bytes:
    state = empty_dict + unicode("_parameters") + parameters + setitem + unicode("_modules") + modules + setitem
    return global_("net", "Net") + empty_tuple + newobj + state + build


def _dict_of(items: Iterable[tuple[str, bytes]]) -> bytes:
    return empty_dict + mark + b"".join(unicode(key) + value for key, value in items) + setitems


def _shared(value: bytes, user: bytes, times: int = 3000) -> bytes:
    """A dictionary of many parts, each with something that recalls slot 1, where the value is."""
    parts = [("w", recall(0)), *((f"k{at}", user) for at in range(times))]
    return pickle_of(_REF + pop + value + keep(1) + pop, _dict_of(parts))


_LAYER = _module(_dict_of((f"p{at}", recall(0)) for at in range(3000)), empty_dict)
_BARREN = _module(_dict_of((f"p{at}", empty_list) for at in range(3000)), empty_dict)
_HAS_IT = _module(empty_dict, _dict_of([("layer", recall(1))]))
_PART = _dict_of([("w", recall(0)), ("v", recall(0)), ("more", recall(1))])

WALKS = (
    harmless("P8 a module of three thousand tensors, three thousand times", lambda: _shared(_LAYER, recall(1))),
    harmless("P8 a module of three thousand tensors in three thousand modules", lambda: _shared(_LAYER, _HAS_IT)),
    harmless("P8 a module of three thousand lists in three thousand modules", lambda: _shared(_BARREN, _HAS_IT)),
    harmless(
        "P8 three thousand tensors in three thousand state dicts", lambda: _shared(list_of(recall(0) * 3000), _PART)
    ),
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
        lambda: pickle_of(_REF + pop + list_of(recall(0) * 100_000)),
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
            + list_of(b"".join(unicode(f"c{at}") for at in range(20_000))) + setitem,
            build,
        ),
    ),
)  # fmt: skip

CASES = NESTED + SAID + WALKS
