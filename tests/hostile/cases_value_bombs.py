"""P8: values that take more than their bytes explain: the same few bytes again and again, over something large."""

from __future__ import annotations

from .assembler import (
    binbytes,
    build,
    dict_,
    empty_list,
    empty_tuple,
    global_,
    integer,
    keep,
    list_,
    long1,
    mark,
    newfalse,
    newobj,
    none,
    numbers,
    pickle_of,
    pop,
    recall,
    short_unicode,
    tuple1,
    tuple2,
    tuple_,
    tuple_of,
    unicode,
)
from .case import Case, harmless
from .cases_values import CONFIG, NAMESPACE, dtype, state, wrapper


def _again(name: str, opening: bytes, each: bytes, times: int) -> Case:
    """The same few bytes again and again, each time over something large that was kept."""
    return harmless(f"P8 {name}", lambda: pickle_of(opening + empty_list + mark + each * times + b"e"))


_LONG_DICT = mark + b"".join(short_unicode(f"k{at}") + none for at in range(20_000)) + dict_ + keep(0) + pop
_LONG_LIST = mark + none * 20_000 + list_ + keep(0) + pop
_LONG_BYTES = binbytes(b"a" * 80_000) + keep(0) + pop
_LONG_TEXT = unicode("a/" * 40_000) + keep(0) + pop
_KEPT_ARRAY = global_("numpy.core.multiarray", "_reconstruct") + keep(1) + pop + tuple_of(
    global_("numpy", "ndarray"), integer(0) + tuple1, binbytes(b"b")
) + keep(2) + pop  # fmt: skip


def _arrays(code: str, shape: bytes, kept: bytes) -> bytes:
    """What is kept in slot 0 as the data of array after array."""
    state_ = tuple_of(integer(1), shape, dtype(code), newfalse, recall(0))
    return kept + _KEPT_ARRAY + state_ + keep(3) + pop


_ONE_ARRAY = recall(1) + recall(2) + b"R" + recall(3) + build

CASES = (
    _again(
        "a namespace of twenty thousand attributes, again and again", _LONG_DICT, NAMESPACE + recall(0) + build, 20_000
    ),
    _again(
        "namespaces that are never built",
        global_("argparse", "Namespace") + keep(0) + pop,
        recall(0) + empty_tuple + newobj,
        300_000,
    ),
    _again(
        "configurations of one content, again and again",
        _LONG_DICT + state(_content=recall(0)) + keep(1) + pop,
        CONFIG + recall(1) + build,
        20_000,
    ),
    _again(
        "nodes that are never built",
        global_("omegaconf.nodes", "AnyNode") + keep(0) + pop,
        recall(0) + empty_tuple + newobj,
        300_000,
    ),
    _again("arrays of one list, again and again", _arrays("O8", numbers([20_000]), _LONG_LIST), _ONE_ARRAY, 50_000),
    _again("arrays of one text, again and again", _arrays("U2", numbers([10_000]), _LONG_BYTES), _ONE_ARRAY, 50_000),
    _again("arrays of one string, again and again", _arrays("u1", numbers([80_000]), _LONG_TEXT), _ONE_ARRAY, 50_000),
    _again(
        "arrays of the same bytes, again and again", _arrays("f4", numbers([20_000]), _LONG_BYTES), _ONE_ARRAY, 50_000
    ),
    _again(
        "lists of lists of nothing", _arrays("O8", numbers([1_000_000, 0]), empty_list + keep(0) + pop), _ONE_ARRAY, 50
    ),
    _again(
        "lists in sixty lists",
        _arrays("O8", numbers([1] * 60), mark + none + list_ + keep(0) + pop),
        _ONE_ARRAY,
        50_000,
    ),
    _again(
        "one long path, again and again",
        _LONG_TEXT + global_("pathlib", "PosixPath") + keep(1) + pop,
        recall(1) + recall(0) + tuple1 + b"R",
        50_000,
    ),
    _again(
        "one long number, again and again",
        unicode("9" * 4000) + keep(0) + pop + global_("decimal", "Decimal") + keep(1) + pop,
        recall(1) + recall(0) + tuple1 + b"R",
        100_000,
    ),
    _again(
        "one long fraction, again and again",
        long1(b"\x7b" * 250) + keep(0) + pop + global_("fractions", "Fraction") + keep(1) + pop,
        recall(1) + recall(0) + recall(0) + tuple2 + b"R",
        100_000,
    ),
    _again(
        "sets of a subclass, again and again",
        _LONG_LIST + global_("copyreg", "_reconstructor") + keep(1) + pop,
        recall(1) + global_("m", "L") + global_("builtins", "list") + recall(0) + b"\x87R",
        20_000,
    ),
    harmless(
        "P8 a hundred thousand namespaces in each other",
        lambda: pickle_of(
            global_("argparse", "Namespace")
            + keep(0)
            + (recall(0) + empty_tuple + newobj + mark + unicode("a")) * 100_000
            + none
            + (dict_ + build) * 100_000
            + tuple2
        ),
    ),
    harmless(
        "P8 a hundred thousand configurations in each other",
        lambda: pickle_of(
            global_("omegaconf.dictconfig", "DictConfig")
            + keep(0)
            + (recall(0) + empty_tuple + newobj + mark + unicode("_content") + mark + unicode("a")) * 100_000
            + none
            + (dict_ + dict_ + build) * 100_000
            + tuple2
        ),
    ),
    harmless(
        "P8 a hundred thousand arrays of objects in each other",
        lambda: pickle_of(
            _KEPT_ARRAY
            + (recall(1) + recall(2) + b"R" + mark + integer(1) + integer(1) + tuple1 + dtype("O8") + newfalse + mark)
            * 30_000
            + none
            + (list_ + tuple_ + build) * 30_000
        ),
    ),
    harmless(
        "P8 twenty thousand storages that are none",
        lambda: pickle_of(
            empty_list
            + mark
            + (global_("torch.storage", "_load_from_bytes") + binbytes(b"\x80\2" + b"x" * 70) + tuple1 + b"R") * 20_000
            + b"e"
        ),
    ),
    harmless(
        "P8 one storage that is none, again and again",
        lambda: pickle_of(
            global_("torch.storage", "_load_from_bytes")
            + keep(0)
            + binbytes(b"\x80\2]" + b"N0" * 50_000)
            + keep(1)
            + empty_list
            + mark
            + (recall(0) + recall(1) + tuple1 + b"R") * 50_000
            + b"e"
            + b"\x87"
        ),
    ),
    harmless("P8 a hundred thousand pickles", lambda: b"\x80\2N." * 100_000),
    harmless(
        "P8 nine hundred pickles that work as much as one may",
        lambda: (b"\x80\2]q\0(" + b"K\1" * 500 + b"ec__builtin__\nset\nq\1" + b"h\1h\0\x85R0" * 60 + b"0.") * 900,
    ),
    harmless(
        "P8 ten thousand of joblib's arrays",
        lambda: pickle_of(empty_list + mark)[:-1] + (wrapper(integer(1) + tuple1) + b"\0" * 4) * 10_000 + b"e.",
    ),
    harmless(
        "P8 joblib's objects that work as much as one file may",
        lambda: (
            pickle_of(empty_list + mark)[:-1]
            + (
                wrapper(integer(1) + tuple1, "O8")
                + b"\x80\2]q\0("
                + b"K\1" * 500
                + b"ec__builtin__\nset\nq\1"
                + b"h\1h\0\x85R0" * 60
                + b"0."
            )
            * 500
            + b"e."
        ),
    ),
)
