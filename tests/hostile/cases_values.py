"""V1: values that are built from what a file says: namespaces, times, exact numbers, arrays, configurations, joblib's.

What the value's own class would have refused stays a record; what takes more than its bytes explain is a bomb.
"""

from __future__ import annotations

from collections.abc import Callable

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.record import Record

from .assembler import (
    binbytes,
    binget,
    binint,
    build,
    bytearray8,
    call,
    dict_,
    empty_dict,
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
    plain,
    pop,
    setitem,
    stop,
    tuple1,
    tuple2,
    tuple_of,
    unicode,
)
from .case import Case, anything, harmless, is_record, opens, reads, refuses

_BOMB = pickle_of(call("os", "system", unicode("id")))
NAMESPACE = global_("argparse", "Namespace") + empty_tuple + newobj
_SIMPLE = global_("types", "SimpleNamespace") + empty_tuple + newobj
CONFIG = global_("omegaconf.dictconfig", "DictConfig") + empty_tuple + newobj
_NODE = global_("omegaconf.nodes", "AnyNode") + empty_tuple + newobj
_ARRAY = call("numpy.core.multiarray", "_reconstruct", global_("numpy", "ndarray"), integer(0) + tuple1, binbytes(b"b"))


def dtype(code: str) -> bytes:
    return call("numpy", "dtype", unicode(code), newfalse, b"\x88")


def array(shape: bytes, code: str, data: bytes, *, order: bytes = newfalse) -> bytes:
    return _ARRAY + tuple_of(integer(1), shape, dtype(code), order, data) + build


def wrapper(shape: bytes, code: str = "f4", order: str = "C") -> bytes:
    """joblib's stand-in for an array; its bytes are to follow."""
    said = {"shape": shape, "dtype": dtype(code), "order": unicode(order), "subclass": global_("numpy", "ndarray")}
    pairs = b"".join(unicode(key) + value for key, value in said.items())
    return global_("joblib.numpy_pickle", "NumpyArrayWrapper") + empty_tuple + newobj + mark + pairs + dict_ + build


def state(**attributes: bytes) -> bytes:
    return mark + b"".join(unicode(name) + value for name, value in attributes.items()) + dict_


def is_named(path: str) -> Callable[[Checkpoint], bool]:
    return lambda ckpt: type(ckpt.tree) is Record and ckpt.tree.path == path


def _stays(name: str, program: bytes, path: str) -> Case:
    return opens(f"V1 {name}", plain(program), is_named(path))


NAMESPACES = (
    *(
        _stays(f"a {kind} with {name}", made + state(**{name: unicode("mine")}) + build, path)
        for kind, made, path in (
            ("Namespace", NAMESPACE, "argparse.Namespace"),
            ("SimpleNamespace", _SIMPLE, "types.SimpleNamespace"),
        )
        for name in ("__class__", "__dict__", "__reduce__", "__init__", "__setstate__", "__getattribute__", "__repr__")
    ),
    _stays("a Namespace that hides its own method", NAMESPACE + state(_get_kwargs=none) + build, "argparse.Namespace"),
    _stays(
        "a Namespace whose state is a pair", NAMESPACE + none + state(a=none) + tuple2 + build, "argparse.Namespace"
    ),
    _stays("a Namespace of numbers", NAMESPACE + mark + integer(1) + none + dict_ + build, "argparse.Namespace"),
    _stays(
        "a Namespace made of something",
        global_("argparse", "Namespace") + unicode("x") + tuple1 + newobj,
        "argparse.Namespace",
    ),
    refuses("V1 a Namespace that is built twice", plain(NAMESPACE + (state(a=none) + build) * 2)),
    refuses("V1 a Namespace that is given items", plain(NAMESPACE + unicode("a") + none + setitem)),
    refuses("V1 a Namespace as a key", plain(empty_dict + NAMESPACE + none + setitem)),
    opens(
        "V1 a Namespace with an attribute that moves the cursor",
        plain(NAMESPACE + mark + unicode("\x1b[2J\n") + unicode("\x1b]0;x\a") + dict_ + build),
        anything,
    ),
    opens(
        "V1 a Namespace that holds a call",
        plain(NAMESPACE + state(run=call("os", "system", unicode("id"))) + build),
        lambda ckpt: ckpt.tree.run.path == "os.system" and ckpt.facts["calls"] == ("os.system",),
    ),
    opens(
        "V1 a call through copyreg.__newobj__",
        plain(call("copyreg", "__newobj__", global_("os", "system"), unicode("id"))),
        lambda ckpt: is_named("os.system")(ckpt) and "os.system" in ckpt.facts["calls"],
    ),
    opens(
        "V1 a call through copyreg.__newobj_ex__",
        plain(
            call(
                "copyreg", "__newobj_ex__", global_("subprocess", "Popen"), unicode("id") + tuple1, state(shell=b"\x88")
            )
        ),
        lambda ckpt: is_named("subprocess.Popen")(ckpt) and "subprocess.Popen" in ckpt.facts["calls"],
    ),
    opens(
        "V1 an object of os.system's class",
        plain(call("copyreg", "_reconstructor", global_("os", "system"), global_("builtins", "object"), none)),
        lambda ckpt: is_named("os.system")(ckpt) and "os.system" in ckpt.facts["calls"],
    ),
    _stays(
        "an object whose base is a stranger",
        call("copyreg", "_reconstructor", global_("os", "system"), global_("os", "popen"), unicode("id")),
        "copyreg._reconstructor",
    ),
    _stays(
        "an object whose class is a call",
        call("copyreg", "__newobj__", call("builtins", "getattr", none, none)),
        "copyreg.__newobj__",
    ),
)

EXACT = (
    *(
        _stays(f"{name} of {what}", call(module, name, *args), f"{module}.{name}")
        for module, name, what, args in (
            ("datetime", "datetime", "ten bytes of 255", (binbytes(b"\xff" * 10),)),
            ("datetime", "datetime", "no bytes", (binbytes(b""),)),
            ("datetime", "datetime", "a megabyte", (binbytes(b"\1" * (1 << 20)),)),
            ("datetime", "datetime", "the year 0", (binbytes(b"\0\0\1\1\0\0\0\0\0\0"),)),
            (
                "datetime",
                "datetime",
                "a zone that is a call",
                (binbytes(b"\7\xe8\1\1" + b"\0" * 6), call("os", "system")),
            ),
            ("datetime", "datetime", "text that is no bytes", (unicode("模" * 10),)),
            ("datetime", "date", "the 32nd", (binbytes(b"\7\xe8\1\x20"),)),
            ("datetime", "time", "25 o'clock", (binbytes(b"\x19\0\0\0\0\0"),)),
            ("datetime", "timedelta", "more days than there are", (long1(1 << 200), integer(0), integer(0))),
            ("datetime", "timedelta", "true", (b"\x88",)),
            ("datetime", "timezone", "a number", (integer(5),)),
            ("decimal", "Decimal", "a signalling NaN", (unicode("sNaN"),)),
            ("decimal", "Decimal", "a million digits", (unicode("9" * 1_000_000),)),
            ("decimal", "Decimal", "a huge exponent", (unicode("1E+" + "9" * 40),)),
            ("decimal", "Decimal", "a tuple", (tuple_of(integer(0), numbers([1]), unicode("n")),)),
            ("fractions", "Fraction", "one by zero", (integer(1), integer(0))),
            ("fractions", "Fraction", "one by zero, as text", (unicode("1/0"),)),
            ("fractions", "Fraction", "a million digits", (unicode("7" * 1_000_000),)),
            ("pathlib", "PosixPath", "bytes", (binbytes(b"/"),)),
        )
    ),
    _stays(
        "UUID of a negative number",
        global_("uuid", "UUID") + empty_tuple + newobj + state(int=binint(-1)) + build,
        "uuid.UUID",
    ),
    _stays(
        "UUID of 200 bits",
        global_("uuid", "UUID") + empty_tuple + newobj + state(int=long1(1 << 200)) + build,
        "uuid.UUID",
    ),
    opens(
        "V1 a path that leads elsewhere is only a path",
        plain(call("pathlib", "PosixPath", unicode("/"), unicode("etc"), unicode("../../\x1b[2J"))),
        lambda ckpt: ckpt.tree.parts[:2] == ("/", "etc"),
    ),
    opens(
        "V1 Decimal of the largest exponent",
        plain(call("decimal", "Decimal", unicode("1E+999999999999999999")) + empty_dict + pop),
        lambda ckpt: ckpt.tree.is_finite(),
    ),
)

_FLOATS = binbytes(b"\0" * 8)
ARRAYS = (
    *(
        harmless(f"V1 an array of {what}", plain(program), is_record)
        for what, program in {
            "negative extent": array(binint(-2) + tuple1, "f4", _FLOATS),
            "more bytes than elements": array(integer(1) + tuple1, "f4", _FLOATS),
            "fewer bytes than elements": array(integer(3) + tuple1, "f4", _FLOATS),
            "2^64 elements": array(tuple_of(long1(1 << 32), long1(1 << 32)), "f4", _FLOATS),
            "2^63 elements and none": array(tuple_of(long1(1 << 62), integer(2), integer(0)), "f4", binbytes(b"")),
            "65 dimensions": array(numbers([1] * 65), "f4", binbytes(b"\0" * 4)),
            "an extent that is true": array(b"\x88" + tuple1, "f4", binbytes(b"\0" * 4)),
            "a shape that is a list": array(empty_list, "f4", binbytes(b"\0" * 4)),
            "a type that is a call": _ARRAY
            + tuple_of(integer(1), numbers([2]), call("os", "system"), newfalse, _FLOATS)
            + build,
            "a type of a thousand letters": array(numbers([2]), "f" * 1000, _FLOATS),
            "a type of superscripts": array(numbers([2]), "U\u00b2", _FLOATS),
            "a type of no bytes": array(numbers([1 << 30]), "U0", binbytes(b"")),
            "a type of many bytes": array(numbers([1]), "S" + "9" * 18, binbytes(b"")),
            "characters that are none": array(numbers([2]), "U1", binbytes(b"\xff" * 8)),
            "objects in bytes": array(numbers([1]), "O8", _FLOATS),
            "floats in a list": array(numbers([1]), "f4", empty_list),
            "an order of strings": array(numbers([2]), "f4", _FLOATS, order=unicode("F")),
            "a subclass": call(
                "numpy.core.multiarray", "_reconstruct", global_("os", "system"), integer(0) + tuple1, binbytes(b"b")
            )
            + tuple_of(integer(1), numbers([2]), dtype("f4"), newfalse, _FLOATS)
            + build,
            "a scalar of objects": call("numpy.core.multiarray", "scalar", dtype("O8"), binbytes(_BOMB)),
            "a scalar of too many bytes": call("numpy.core.multiarray", "scalar", dtype("f4"), _FLOATS),
            "a scalar of no type": call("numpy.core.multiarray", "scalar", none, _FLOATS),
            "a buffer of an odd order": call(
                "numpy._core.numeric", "_frombuffer", _FLOATS, dtype("f4"), numbers([2]), unicode("K")
            ),
            "a buffer that is text": call(
                "numpy._core.numeric", "_frombuffer", unicode("模"), dtype("f4"), numbers([2]), unicode("C")
            ),
            "a buffer of calls": call(
                "numpy._core.numeric", "_frombuffer", call("os", "system"), dtype("f4"), numbers([2]), unicode("C")
            ),
        }.items()
    ),
    opens(
        "V1 an array of calls, each of them seen",
        plain(array(numbers([2]), "O8", mark + call("os", "system", unicode("id")) * 2 + list_)),
        lambda ckpt: [call.path for call in ckpt.tree] == ["os.system"] * 2 and ckpt.facts["calls"] == ("os.system",),
    ),
    opens(
        "V1 bytes that could still be changed",
        plain(
            call(
                "numpy._core.numeric",
                "_frombuffer",
                bytearray8(b"\0" * 8) + keep(3),
                dtype("f4"),
                numbers([2]),
                unicode("C"),
            )
        ),
        lambda ckpt: reads(ckpt.tree),
    ),
    refuses("V1 an array that is given items", plain(array(numbers([2]), "f4", _FLOATS) + none + b"a")),
    harmless("V1 an array that is built twice", plain(array(numbers([2]), "f4", _FLOATS) + none + build)),
)

CONFIGURATIONS = (
    opens(
        "V1 a configuration in itself",
        plain(CONFIG + keep(0) + state(_content=mark + unicode("a") + binget(0) + dict_) + build),
        lambda ckpt: ckpt.tree["a"] is ckpt.tree,
    ),
    opens(
        "V1 a configuration that is itself",
        plain(CONFIG + keep(0) + state(_content=binget(0)) + build),
        lambda ckpt: ckpt.tree == {},
    ),
    opens(
        "V1 a node that is itself",
        plain(_NODE + keep(0) + state(_val=binget(0)) + build),
        is_named("omegaconf.nodes.AnyNode"),
    ),
    opens(
        "V1 a node whose value is a call",
        plain(_NODE + state(_val=call("os", "system", unicode("id"))) + build),
        lambda ckpt: is_named("os.system")(ckpt) and "os.system" in ckpt.facts["calls"],
    ),
    opens(
        "V1 a node whose parent is a call",
        plain(_NODE + state(_val=none, _parent=call("os", "system", unicode("id"))) + build),
        lambda ckpt: ckpt.tree is None and "os.system" in ckpt.facts["calls"],
    ),
    opens("V1 a node with neither value nor state", plain(_NODE + none + build), is_named("omegaconf.nodes.AnyNode")),
    refuses(
        "V1 a configuration whose keys are lists",
        plain(CONFIG + state(_content=mark + empty_list + none + dict_) + build),
    ),
)

JOBLIB = (
    *(
        refuses(f"V1 joblib's array of {what}", lambda program=program, rest=rest: pickle_of(program)[:-1] + rest)
        for what, program, rest in (
            ("a negative extent", wrapper(binint(-1) + tuple1), b"\0" * 8 + stop),
            ("2^63 bytes", wrapper(long1(1 << 61) + tuple1), b"\0" * 8 + stop),
            ("more than follows", wrapper(integer(9) + tuple1), b"\0" * 8 + stop),
            ("an odd order", wrapper(integer(2) + tuple1, order="K"), b"\0" * 8 + stop),
            ("a type of 10^18 bytes", wrapper(integer(2) + tuple1, "V" + "9" * 18), b"\0" * 8 + stop),
            ("objects that never end", wrapper(integer(2) + tuple1, "O8"), b"\x80\4]"),
            ("objects, and then nothing", wrapper(integer(2) + tuple1, "O8"), b"\x80\4]."),
            ("opcodes", wrapper(integer(2) + tuple1), b"N" * 8 + b"a" + stop),
        )
    ),
    opens(
        "V1 joblib's array of objects that are calls",
        lambda: pickle_of(wrapper(integer(1) + tuple1, "O8"))[:-1] + _BOMB + stop,
        lambda ckpt: is_named("os.system")(ckpt) and "os.system" in ckpt.facts["calls"],
    ),
    opens(
        "V1 joblib's array in the folder above",
        lambda: pickle_of(
            global_("joblib.numpy_pickle", "NDArrayWrapper")
            + empty_tuple
            + newobj
            + state(filename=unicode("../secret.npy"))
            + build
        ),
        is_named("joblib.numpy_pickle.NDArrayWrapper"),
    ),
)

CASES = (*NAMESPACES, *EXACT, *ARRAYS, *CONFIGURATIONS, *JOBLIB)
