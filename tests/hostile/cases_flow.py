"""P6, P7: programs that hide, stop early, go on, or say different things to different readers."""

from __future__ import annotations

from collections.abc import Callable

from .assembler import (
    additems,
    append,
    appends,
    binget,
    binint1,
    binput,
    binstring,
    call,
    dict_,
    dup,
    empty_dict,
    empty_list,
    empty_set,
    empty_tuple,
    float_,
    frame,
    frozenset_,
    get,
    global_,
    int_,
    list_,
    long,
    long1,
    long4,
    long_binget,
    mark,
    memoize,
    newfalse,
    newobj,
    next_buffer,
    none,
    persid,
    pickle_of,
    plain,
    pop,
    pop_mark,
    proto,
    put,
    readonly_buffer,
    reduce,
    setitem,
    setitems,
    short_unicode,
    stop,
    string,
    tuple1,
    tuple2,
    tuple_,
    unicode,
    unicode8,
    unicode_line,
)
from .case import BROKEN, DISPUTED, REFUSED, Case, both, harmless, opens, refuses, reports_call
from .case import tree_is as gives

_ID = unicode("id")
_SHELL = call("os", "system", _ID)


def _raw(*program: bytes) -> Callable[[], bytes]:
    return lambda: b"".join(program)


def _is_own_item(value: object) -> bool:
    return value[0] is value  # type: ignore[index]


P6 = (
    opens(
        "P6 a call whose result is thrown away (GHSA-mxhj-88fx-4pcv)",
        plain(_SHELL, pop, empty_dict),
        both(reports_call("os.system"), gives({})),
    ),
    opens(
        "P6 a call in a frame of the stack that is thrown away",
        plain(mark, _SHELL, none, pop_mark, empty_dict),
        both(reports_call("os.system"), gives({})),
    ),
    opens(
        "P6 a call whose result is overwritten in a dictionary",
        plain(empty_dict, none, _SHELL, setitem, none, none, setitem),
        both(reports_call("os.system"), gives({None: None})),
    ),
    refuses("P6 a payload, then garbage (nullifAI)", _raw(proto(2), _SHELL, b"\xff\xff."), *REFUSED),
    refuses("P6 a payload, then nothing", _raw(proto(2), _SHELL), *REFUSED),
    refuses("P6 two pickles in one file", _raw(pickle_of(empty_dict), pickle_of(_SHELL)), *DISPUTED),
    refuses("P6 bytes after STOP", _raw(pickle_of(empty_dict), b"\0" * 8 + stop), *DISPUTED),
    refuses("P6 a newline after STOP", _raw(pickle_of(empty_dict), b"\n"), *DISPUTED),
    opens(
        "P6 PROTO in the middle",
        _raw(proto(2), empty_list, proto(4), none, append, stop),
        gives([None]),
    ),
    refuses("P6 PROTO 6", _raw(proto(6), none, stop), *REFUSED),
    refuses("P6 PROTO 255 in the middle", _raw(proto(2), none, proto(255), stop), *BROKEN),
    refuses("P6 PROTO without a version", _raw(b"\x80"), *REFUSED),
    opens(
        "P6 a memo slot that is overwritten",
        plain(_ID, binput(0), pop, none, binput(0), pop, binget(0)),
        gives(None),
    ),
    opens(
        "P6 MEMOIZE after slots were skipped",
        plain(none, binput(5), pop, _ID, memoize, pop, binget(1)),
        gives("id"),
    ),
    refuses("P6 a memo slot that was never filled (picklescan KeyError)", plain(binget(7))),
    refuses("P6 a memo slot far away", plain(long_binget(0xFFFFFFFF))),
    refuses("P6 a memo slot of a negative number", plain(get("-1")), *DISPUTED),
    refuses("P6 a memo slot that is filled at a negative number", plain(none, put("-1"))),
    refuses("P6 a memo slot that is no number (type confusion)", plain(get("abc")), *DISPUTED),
    refuses("P6 values left on the stack", plain(none, none), *DISPUTED),
    refuses("P6 a mark left on the stack", plain(mark, none), *DISPUTED),
    refuses("P6 nothing on the stack", plain(), *BROKEN),
    refuses("P6 nothing on the stack above a mark", plain(none, mark), *BROKEN),
    refuses("P6 STOP alone", _raw(stop), *REFUSED),
    refuses("P6 a key without a value", plain(empty_dict, mark, none, setitems), *BROKEN),
    refuses("P6 DICT with a key without a value", plain(mark, none, dict_), *BROKEN),
    refuses("P6 APPENDS to a dictionary", plain(empty_dict, mark, none, appends), *BROKEN),
    refuses("P6 APPEND to a tuple", plain(empty_tuple, none, append), *BROKEN),
    refuses("P6 APPEND to a string", plain(_ID, none, append), *BROKEN),
    refuses("P6 SETITEM on a list", plain(empty_list, binint1(0), none, setitem), *BROKEN),
    refuses("P6 SETITEM on a number", plain(none, none, none, setitem), *BROKEN),
    refuses("P6 ADDITEMS to a list", plain(empty_list, mark, none, additems), *BROKEN),
    refuses("P6 APPEND with nothing to append to", plain(none, append), *BROKEN),
    refuses("P6 APPENDS across a mark", plain(empty_list, mark, mark, none, appends), *BROKEN),
    refuses("P6 a tuple that takes from below a mark", plain(none, mark, none, tuple2), *BROKEN),
    refuses("P6 a list as a key", plain(empty_dict, empty_list, none, setitem), *BROKEN),
    refuses("P6 a dictionary as a key", plain(empty_dict, empty_dict, none, setitem), *BROKEN),
    refuses("P6 a list in a tuple as a key", plain(empty_dict, empty_list, tuple1, none, setitem), *BROKEN),
    refuses("P6 a set in a set", plain(empty_set, mark, empty_set, additems), *BROKEN),
    refuses("P6 a list in a frozenset", plain(mark, empty_list, frozenset_), *BROKEN),
    opens(
        "P6 a list that contains itself (fickling#196)",
        plain(empty_list, binput(0), binget(0), append),
        lambda ckpt: _is_own_item(ckpt.tree),
    ),
    opens(
        "P6 a dictionary that contains itself",
        plain(empty_dict, binput(0), binint1(0), binget(0), setitem),
        lambda ckpt: _is_own_item(ckpt.tree),
    ),
    opens(
        "P6 a tuple that contains itself through a list",
        plain(empty_list, binput(0), binget(0), tuple1, binput(1), append, pop, binget(1)),
        lambda ckpt: ckpt.tree[0][0] is ckpt.tree,
    ),
    opens(
        "P6 a call that contains itself in its state",
        plain(call("net", "Net"), binput(0), binget(0), b"b"),
        lambda ckpt: ckpt.tree.state is ckpt.tree,
    ),
    refuses("P6 POP with nothing to take", plain(pop), *BROKEN),
    refuses("P6 POP_MARK without a mark (fickling#188)", plain(none, pop_mark), *BROKEN),
    refuses("P6 TUPLE without a mark", plain(none, tuple_), *BROKEN),
    refuses("P6 LIST without a mark", plain(none, list_), *BROKEN),
    refuses("P6 DUP with nothing to double", plain(dup), *BROKEN),
    refuses("P6 MEMOIZE with nothing to remember", plain(memoize), *BROKEN),
    refuses("P6 REDUCE with one value", plain(empty_tuple, reduce), *BROKEN),
    refuses("P6 OBJ without a class", plain(mark, b"o"), *BROKEN),
    refuses("P6 NEWOBJ on a number", plain(binint1(1), empty_tuple, newobj), *BROKEN),
    refuses("P6 NEXT_BUFFER", plain(next_buffer, version=5), *BROKEN),
    refuses("P6 READONLY_BUFFER", plain(none, readonly_buffer, version=5), *BROKEN),
    refuses("P6 an opcode that does not exist", plain(b"\xfe"), *BROKEN),
    refuses("P6 an opcode that is a letter", plain(b"Z"), *BROKEN),
)

_INNER = pop + none + call("os", "system", _ID) + pop
_STRADDLE = (
    # The frame ends inside the string; what a reader of frames skips is where the payload lies.
    proto(4) + frame(unicode8(b"", claim=len(_INNER)), claim=9 + len(_INNER) // 2) + _INNER + none + stop
)


def _same(name: str, program: bytes, value: object) -> Case:
    """Every reader agrees; so must we, or we refuse."""
    return harmless(f"P7 {name}", plain(program, version=2), gives(value))


def _disputed(name: str, program: bytes) -> Case:
    return refuses(f"P7 {name}", plain(program, version=2), *DISPUTED)


P7 = (
    refuses(
        "P7 an operation across the end of a frame (cpython#154848)",
        _raw(_STRADDLE),
        *DISPUTED,
        *BROKEN,
    ),
    refuses(
        "P7 a global across the end of a frame (GHSA-cffv-grgg-g429)",
        _raw(proto(4), frame(global_("os", "system"), claim=6), empty_tuple, reduce, stop),
        *DISPUTED,
    ),
    refuses(
        "P7 a frame longer than the file",
        _raw(proto(4), frame(none + stop, claim=99)),
        *REFUSED,
    ),
    refuses("P7 a frame of 2^63 bytes", _raw(proto(4), frame(none + stop, claim=1 << 63))),
    refuses("P7 a frame inside a frame", _raw(proto(4), frame(frame(none + stop))), *DISPUTED),
    refuses("P7 STOP inside a frame", _raw(proto(4), frame(none + stop + none * 4)), *DISPUTED),
    harmless("P7 frames of nothing", _raw(proto(4), frame(b"") * 1000, none, stop), gives(None)),
    opens("P7 a frame that ends before STOP", _raw(proto(4), frame(none), stop), gives(None)),
    _disputed("INT in hexadecimal", int_("0x10")),
    _disputed("INT in octal, says one reader", int_("010")),
    _disputed("INT with an underscore", int_("1_0")),
    _disputed("INT with spaces", int_(" 1")),
    _disputed("INT with a plus", int_("+1")),
    _disputed("INT of nothing", int_("")),
    _disputed("INT with a NUL", int_(b"1\x00")),
    _disputed("INT in another script's digits", int_("\u0661")),
    _disputed("LONG in hexadecimal", long("0x10L")),
    _disputed("LONG with two marks", long("1LL")),
    _same("INT 01 is True", int_("01"), True),
    _same("INT 00 is False", int_("00"), False),
    _same("LONG without its mark", long("7"), 7),
    _same("LONG1 of no bytes", long1(b""), 0),
    _same("LONG1 of 255 bytes", long1(b"\xff" * 255), -1),
    _disputed("FLOAT with an underscore", float_("1_0.0")),
    _disputed("FLOAT in hexadecimal", float_("0x1p3")),
    _disputed("FLOAT of nothing", float_("")),
    _disputed("FLOAT with spaces", float_(" 1.0 ")),
    _same("FLOAT beyond all floats", float_("1e999"), float("inf")),
    _disputed("GET with a space", none + put("0") + pop + get(" 0")),
    _disputed("PUT with a plus", none + put("+1")),
    refuses("P7 LONG4 of a negative length", plain(long4(b"", claim=0xFFFFFFFF)), *REFUSED),
    refuses(
        "P7 BINSTRING of a negative length (cpython#135321)",
        plain(binstring(b"", claim=0xFFFFFFFF), version=2),
        *REFUSED,
    ),
    refuses("P7 STRING without quotes", plain(string("id"), version=2), *DISPUTED),
    refuses("P7 STRING with one quote", plain(string("'"), version=2), *DISPUTED),
    refuses("P7 STRING with two kinds of quotes", plain(string("'id\""), version=2), *DISPUTED),
    refuses("P7 STRING with spaces around it", plain(string(" 'id' "), version=2), *DISPUTED),
    refuses("P7 STRING with a broken escape", plain(string("'\\x4'"), version=2), *DISPUTED),
    harmless(
        "P7 STRING with an escape that does not exist",
        plain(string("'\\d'"), version=2),
        gives("\\d"),
    ),
    refuses("P7 UNICODE beyond all characters", plain(unicode_line(b"\\U00110000")), *BROKEN),
    refuses("P7 UNICODE with a broken escape", plain(unicode_line(b"\\u12")), *BROKEN),
    harmless("P7 UNICODE with a lone surrogate", plain(unicode_line(b"\\ud800")), gives("\ud800")),
    refuses("P7 a string that is not UTF-8", plain(unicode(b"\xff")), *BROKEN),
    refuses("P7 a string that is UTF-8 too long", plain(unicode(b"\xc0\x80")), *BROKEN),
    harmless("P7 a string with a lone surrogate", plain(unicode("\udfff")), gives("\udfff")),
    refuses("P7 a persistent id that is not text", plain(persid(b"\xff")), *DISPUTED),
    harmless("P7 a persistent id beyond ASCII", plain(persid("\u20ac"))),
    refuses("P7 GLOBAL without its second line", _raw(proto(2), b"cos\n."), *REFUSED),
    refuses("P7 GLOBAL without a line", _raw(proto(2), b"cos."), *REFUSED),
    harmless(
        "P7 a protocol that has no such opcodes",
        _raw(proto(0), short_unicode("id"), memoize, newfalse, tuple2, stop),
        gives(("id", False)),
    ),
)

CASES = P6 + P7
