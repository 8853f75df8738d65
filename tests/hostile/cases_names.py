"""P1, P2, P3: names that a file imports, ways around looking at names, and pickles inside pickles."""

from __future__ import annotations

from .assembler import (
    additems,
    binbytes,
    binget,
    binint1,
    binput,
    binstring,
    build,
    call,
    dict_,
    dup,
    empty_dict,
    empty_list,
    empty_set,
    empty_tuple,
    ext1,
    ext2,
    ext4,
    global_,
    inst,
    integer,
    mark,
    memoize,
    newobj,
    newobj_ex,
    none,
    obj,
    pickle_of,
    plain,
    pop,
    reduce,
    setitem,
    short_binbytes,
    short_unicode,
    stack_global,
    stop,
    string,
    tuple1,
    tuple2,
    tuple_,
    unicode,
)
from .case import (
    BOMB,
    BROKEN,
    Case,
    calls,
    harmless,
    is_call_of,
    is_record,
    names,
    opens,
    refuses,
)

_ID = unicode("id")


def _extension(checkpoint: object) -> bool:
    return is_record(checkpoint) and checkpoint.tree.module.startswith("copyreg")


P1 = (
    opens(
        "P1 GLOBAL and REDUCE, protocol 0",
        lambda: global_("os", "system") + mark + string("'id'") + tuple_ + reduce + stop,
        calls("os", "system", "id"),
    ),
    opens(
        "P1 GLOBAL and REDUCE, protocol 2",
        plain(call("posix", "system", _ID), version=2),
        calls("posix", "system", "id"),
    ),
    opens(
        "P1 the name that Windows has for it",
        plain(call("nt", "system", _ID), version=2),
        calls("nt", "system", "id"),
    ),
    opens(
        "P1 INST",
        lambda: mark + string("'id'") + inst("os", "system") + stop,
        calls("os", "system", "id"),
    ),
    opens(
        "P1 OBJ (GHSA-mxhj-88fx-4pcv)",
        plain(mark, global_("os", "system"), _ID, obj, version=1),
        calls("os", "system", "id"),
    ),
    opens(
        "P1 NEWOBJ",
        plain(global_("subprocess", "Popen"), _ID, tuple1, newobj),
        calls("subprocess", "Popen", "id"),
    ),
    opens(
        "P1 NEWOBJ_EX with keywords",
        plain(
            global_("subprocess", "Popen"),
            _ID,
            tuple1,
            empty_dict + unicode("shell") + b"\x88" + setitem,
            newobj_ex,
        ),
        lambda ckpt: calls("subprocess", "Popen", "id")(ckpt) and ckpt.tree.kwargs == {"shell": True},
    ),
    refuses(
        "P1 NEWOBJ_EX with keywords that are no strings",
        plain(
            global_("subprocess", "Popen"),
            empty_tuple,
            empty_dict + binint1(1) + none + setitem,
            newobj_ex,
        ),
        *BROKEN,
    ),
    opens(
        "P1 STACK_GLOBAL",
        plain(short_unicode("os"), short_unicode("system"), stack_global, _ID, tuple1, reduce),
        calls("os", "system", "id"),
    ),
    opens(
        "P1 STACK_GLOBAL through the memo",
        plain(
            short_unicode("system") + memoize + pop,
            short_unicode("os") + memoize + pop,
            binget(1) + binget(0) + stack_global,
            _ID + tuple1 + reduce,
        ),
        calls("os", "system", "id"),
    ),
    opens(
        "P1 STACK_GLOBAL through DUP",
        plain(short_unicode("pdb") + dup + stack_global + _ID + tuple1 + reduce),
        calls("pdb", "pdb", "id"),
    ),
    opens(
        "P1 STACK_GLOBAL after POP juggling",
        plain(
            short_unicode("os") + short_unicode("path") + pop + short_unicode("system"),
            stack_global + _ID + tuple1 + reduce,
        ),
        calls("os", "system", "id"),
    ),
    opens(
        "P1 STACK_GLOBAL of STRING and BINSTRING (GHSA-9gvj)",
        plain(string("'os'") + binstring(b"system") + stack_global + _ID + tuple1 + reduce),
        calls("os", "system", "id"),
    ),
    opens(
        "P1 STACK_GLOBAL whose memo slot was overwritten (fickling#125)",
        plain(
            short_unicode("os") + binput(0) + pop + short_unicode("system") + binput(1) + pop,
            short_unicode("math") + binput(0) + pop + short_unicode("os") + binput(0) + pop,
            binget(0) + binget(1) + stack_global + _ID + tuple1 + reduce,
        ),
        calls("os", "system", "id"),
    ),
    refuses(
        "P1 STACK_GLOBAL of bytes",
        plain(short_binbytes(b"os") + short_binbytes(b"system") + stack_global),
        *BROKEN,
    ),
    refuses(
        "P1 STACK_GLOBAL of a number (type confusion)",
        plain(short_unicode("os") + binint1(3) + stack_global),
        *BROKEN,
    ),
    refuses(
        "P1 STACK_GLOBAL of a call's result",
        plain(call("builtins", "str", _ID) + short_unicode("system") + stack_global),
        *BROKEN,
    ),
    refuses("P1 STACK_GLOBAL of nothing", plain(stack_global), *BROKEN),
    harmless("P1 EXT1", plain(ext1(7)), _extension),
    harmless("P1 EXT2, called", plain(ext2(700), _ID, tuple1, reduce), is_record),
    harmless("P1 EXT4", plain(ext4(70_000)), _extension),
    harmless("P1 EXT4 of a negative code", plain(ext4(0xFFFFFFFF)), _extension),
    opens(
        "P1 a dotted name through an innocent module (GHSA-5j3x-jp52-966f)",
        plain(short_unicode("pathlib") + short_unicode("os.system") + stack_global),
        names("pathlib", "os.system"),
    ),
    opens(
        "P1 torch's function under another spelling is not torch's function",
        plain(call("torch", "_utils._rebuild_tensor_v2", none, none, none, none)),
        calls("torch", "_utils._rebuild_tensor_v2"),
    ),
    opens(
        "P1 a submodule of a blocked module (CVE-2025-10157)",
        plain(call("asyncio.unix_events", "_UnixSubprocessTransport._start", _ID)),
        calls("asyncio.unix_events", "_UnixSubprocessTransport._start", "id"),
    ),
    opens(
        "P1 `builtins` that shadows something (GHSA-h4rm-mm56-xf63)",
        plain(call("builtins", "eval", _ID)),
        calls("builtins", "eval", "id"),
    ),
    opens(
        "P1 Python 2's names",
        plain(call("__builtin__", "execfile", _ID), version=2),
        calls("__builtin__", "execfile", "id"),
    ),
    opens(
        "P1 Python 2's copy_reg",
        plain(call("copy_reg", "_reconstructor", global_("os", "system"), none, none), version=2),
        calls("copy_reg", "_reconstructor"),
    ),
    opens(
        "P1 a name with a carriage return and a space",
        plain(global_("os\r", " system")),
        names("os\r", " system"),
    ),
    opens(
        "P1 a name that only looks like os",
        plain(global_("ｏｓ", "system")),
        names("ｏｓ", "system"),
    ),
    opens("P1 an empty name", plain(global_("", "")), names("", "")),
    opens("P1 a NUL in a name", plain(global_("os\0", "system")), names("os\0", "system")),
    opens(
        "P1 a lone surrogate in a name",
        plain(short_unicode("os\ud800") + short_unicode("system") + stack_global),
        names("os\ud800", "system"),
    ),
    refuses("P1 a name of a megabyte", lambda: pickle_of(global_("o" * (1 << 20), "system")), *BOMB),
    refuses("P1 a name that is not UTF-8", plain(global_(b"\xff\xfe", "x")), *BROKEN),
    opens(
        "P1 twenty thousand names",
        lambda: pickle_of(empty_list, mark, b"".join(global_("m", f"n{at}") for at in range(20_000)), b"e"),
        lambda ckpt: len(ckpt.tree) == 20_000 and len({id(name) for name in ckpt.tree}) == 20_000,
    ),
    refuses(
        "P1 more names than any file needs",
        lambda: pickle_of(empty_list, mark, b"".join(global_("m", f"n{at}") for at in range(100_001)), b"e"),
        *BOMB,
    ),
)

_INDIRECTIONS = (
    ("builtins", "getattr"), ("builtins", "__import__"), ("builtins", "map"), ("builtins", "type"),
    ("builtins", "exec"), ("builtins", "compile"), ("builtins", "setattr"), ("builtins", "open"),
    ("operator", "attrgetter"), ("operator", "methodcaller"), ("operator", "itemgetter"),
    ("functools", "partial"), ("functools", "reduce"), ("importlib", "import_module"),
    ("pkgutil", "resolve_name"), ("pydoc", "locate"), ("inspect", "getattr_static"),
    ("typing", "get_type_hints"), ("types", "FunctionType"), ("types", "CodeType"),
    ("marshal", "loads"), ("codecs", "register_error"), ("weakref", "finalize"),
    ("atexit", "register"), ("logging.config", "listen"), ("runpy", "run_path"),
    ("ctypes", "CDLL"), ("cProfile", "run"), ("timeit", "timeit"), ("pty", "spawn"),
    ("code", "interact"), ("multiprocessing.util", "spawnv_passfds"), ("_aix_support", "_read_cmd_output"),
    ("_osx_support", "_read_output"), ("_interpreters", "run_string"), ("bdb", "Bdb"),
    ("dill._dill", "_create_code"), ("dill._dill", "_import_module"), ("dill._dill", "_get_attr"),
    ("cloudpickle.cloudpickle", "_make_function"), ("cloudpickle.cloudpickle", "subimport"),
    ("cloudpickle.cloudpickle_fast", "_function_setstate"), ("numpy.testing._private.utils", "runstring"),
    ("torch.jit.unsupported_tensor_ops", "execWrapper"), ("torch.hub", "load"),
)  # fmt: skip


def _indirection(module: str, name: str) -> Case:
    note = {"pkgutil": " (universal bypass)", "numpy.testing._private.utils": " (tinygrad)"}
    return opens(
        f"P2 {module}.{name}{note.get(module, '')}",
        plain(call(module, name, global_("os", "system"), _ID)),
        lambda ckpt: (
            is_call_of(ckpt.tree, module, name) and ckpt.tree.args[0].path == "os.system" and ckpt.tree.args[1] == "id"
        ),
    )


P2 = (
    *(_indirection(module, name) for module, name in _INDIRECTIONS),
    opens(
        "P2 pip (CVE-2025-1716)",
        plain(call("pip", "main", empty_list + _ID + b"a")),
        calls("pip", "main", ["id"]),
    ),
    opens(
        "P2 uuid and imaplib (CVE-2026-56315)",
        plain(call("uuid", "_get_command_stdout", _ID) + call("imaplib", "IMAP4_stream", _ID) + tuple2),
        lambda ckpt: (
            is_call_of(ckpt.tree[0], "uuid", "_get_command_stdout")
            and is_call_of(ckpt.tree[1], "imaplib", "IMAP4_stream")
        ),
    ),
    opens(
        "P2 the result of getattr is called",
        plain(
            call("builtins", "getattr", global_("os", "path"), unicode("system")),
            _ID + tuple1 + reduce,
        ),
        lambda ckpt: is_record(ckpt) and is_call_of(ckpt.tree.args[0], "builtins", "getattr"),
    ),
    opens(
        "P2 dunders all the way up",
        plain(
            call(
                "builtins",
                "getattr",
                call("builtins", "getattr", empty_tuple, unicode("__class__")),
                unicode("__subclasses__"),
            )
        ),
        calls("builtins", "getattr"),
    ),
)

_BOMB = pickle_of(call("os", "system", _ID))
_LOADERS = (
    ("pickle", "loads"), ("_pickle", "loads"), ("cPickle", "loads"), ("torch", "load"),
    ("torch.storage", "_load_from_bytes"), ("joblib", "load"), ("numpy", "load"),
    ("pandas", "read_pickle"), ("dill", "loads"), ("base64", "b64decode"), ("zlib", "decompress"),
    ("_codecs", "decode"),
)  # fmt: skip


def _nested(module: str, name: str) -> Case:
    return opens(
        f"P3 {module}.{name} of a pickle",
        plain(call(module, name, binbytes(_BOMB))),
        calls(module, name, _BOMB),
    )


P3 = (
    *(_nested(module, name) for module, name in _LOADERS),
    opens(
        "P3 bytes inside an array of objects",
        plain(
            call(
                "numpy.core.multiarray",
                "_reconstruct",
                global_("numpy", "ndarray"),
                binint1(0) + tuple1,
                binbytes(b"b"),
            ),
            mark + binint1(1) + binint1(1) + tuple1,
            call("numpy", "dtype", unicode("O8"), b"\x89", b"\x88"),
            b"\x89" + empty_list + binbytes(_BOMB) + b"a" + tuple_ + build,
        ),
        lambda ckpt: ckpt.tree == [_BOMB],
    ),
    opens(
        "P3 a pickle in a set in a dictionary's key",
        plain(
            mark + empty_set + mark + binbytes(_BOMB) + additems + integer(1) + tuple_ + pop,
            mark + binbytes(_BOMB) + none + dict_,
        ),
        lambda ckpt: ckpt.tree == {_BOMB: None},
    ),
    opens(
        "P3 a hundred levels of pickles in pickles",
        lambda: _wrapped(100),
        calls("pickle", "loads"),
    ),
)


def _wrapped(levels: int) -> bytes:
    inner = _BOMB
    for _ in range(levels):
        inner = pickle_of(call("pickle", "loads", binbytes(inner)))
    return inner


CASES = P1 + P2 + P3
