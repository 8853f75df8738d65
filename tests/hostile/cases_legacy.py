"""C4: torch's legacy streams that lie, are cut, go on, or ask their reader to write files."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from functools import partial

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.errors import AmbiguousError, CorruptError, TruncatedError

from .archives_legacy import (
    BIG_ENDIAN,
    MAGIC,
    key_list,
    legacy_storage,
    legacy_stream,
    legacy_tensor,
    one_tensor,
    sys_info,
    view_of,
)
from .assembler import (
    append,
    binfloat,
    call,
    empty_dict,
    empty_list,
    empty_tuple,
    frame,
    global_,
    integer,
    long,
    long1,
    long4,
    mark,
    newobj,
    newtrue,
    none,
    persid_binary,
    pickle_of,
    pop,
    reduce,
    stop,
    storage_id,
    tuple_,
    tuple_of,
    unicode,
)
from .case import (
    BROKEN,
    REFUSED,
    Case,
    both,
    harmless,
    holds_tensor,
    opens,
    refuses,
    reports_call,
    tree_is,
)

_SYSTEM = call("os", "system", unicode("id"))
_EVIL = pickle_of(_SYSTEM)
_MOST = (1 << 63) - 1


def _stream(*args: object, **parts: object) -> Callable[[], bytes]:
    return partial(legacy_stream, *args, **parts)  # type: ignore[arg-type]


def _object(*program: bytes) -> Callable[[], bytes]:
    """A file of this object, which names no storage."""
    return _stream(pickle_of(*program), {})


def _on(storage: bytes, **parts: object) -> Callable[[], bytes]:
    """A file of one tensor on this storage."""
    return _stream(one_tensor(storage, **parts))


def _named(ending: bytes, *, first: bytes = b"") -> bytes:
    """An object that names one class by a persistent id of these other parts, and makes an instance of it."""
    return pickle_of(first, mark, unicode("module"), global_("nets", "Net"), ending, tuple_, persid_binary,
                     empty_tuple, newobj)  # fmt: skip


def _keeps(checkpoint: Checkpoint) -> bool:
    return checkpoint.facts["sources"] == {"nets.Net": ("/tmp/net.py", "dump_patches = True\n")}


def _two(first: bytes, second: bytes, storages: Mapping[str, bytes] | None = None) -> Callable[[], bytes]:
    """Two tensors."""
    return _stream(pickle_of(empty_list, legacy_tensor(first), append, legacy_tensor(second), append), storages)


def _view(first: bytes | int, numel: bytes | int, *, key: str = "1", **parts: object) -> Callable[[], bytes]:
    return _on(legacy_storage(view=view_of(key, first, numel)), **parts)


_MAGICS: dict[str, bytes] = {
    "of a name that is called (a bypass of picklescan)": call("builtins", "int", unicode(str(MAGIC))),
    "as four bytes' length": long4(MAGIC),
    "as text in protocol 2": long(MAGIC),
    "after a call that is thrown away": _SYSTEM + pop + long1(MAGIC),
    "after a value that is thrown away": none + pop + long1(MAGIC),
    "as a float": binfloat(float(MAGIC)),
    "of eleven bytes": b"\x8a\x0b" + MAGIC.to_bytes(11, "little"),
}
"""Numbers that are torch's, or nearly, in ways that no pickler writes."""

CASES: tuple[Case, ...] = (
    opens("C4 an honest file", _stream(), holds_tensor()),
    *(
        opens(f"C4 an honest magic number of protocol {name}", _stream(magic=magic), holds_tensor())
        for name, magic in {
            "0": long(MAGIC) + stop,
            "3": pickle_of(long1(MAGIC), version=3),
            "4": b"\x80\x04" + frame(long1(MAGIC) + stop),
            "5": b"\x80\x05" + frame(long1(MAGIC) + stop),
        }.items()
    ),
    *(refuses(f"C4 the magic number {name}", _stream(magic=pickle_of(magic))) for name, magic in _MAGICS.items()),
    refuses("C4 a magic number that is off by one", _stream(magic=pickle_of(long1(MAGIC + 1)))),
    *(
        refuses(f"C4 the version {name}", _stream(version=pickle_of(version)), *BROKEN, says="Invalid protocol version")
        for name, version in {
            "1000": integer(1000),
            "1002": integer(1002),
            "1001.0": binfloat(1001.0),
            "True": newtrue,
            "of a call": call("builtins", "int", unicode("1001")),
            "of a hidden call": _SYSTEM,
        }.items()
    ),
    opens("C4 a little-endian file of a big-endian machine", _stream(info=sys_info(BIG_ENDIAN)), holds_tensor()),
    opens(
        "C4 counts in the order of a big-endian machine",
        _stream(info=sys_info(BIG_ENDIAN), counts={"0": struct.pack(">q", 4)}), holds_tensor(),
    ),
    refuses(
        "C4 counts in both orders",
        _stream(
            pickle_of(empty_list, legacy_tensor(), append, legacy_tensor(legacy_storage("1")), append),
            {"0": bytes(16), "1": bytes(16)}, counts={"0": struct.pack(">q", 4)},
        ),
        *BROKEN,
    ),
    opens("C4 a call in what is said of the machine", _stream(info=_EVIL), reports_call("os.system")),
    opens(
        "C4 a call that is thrown away in what is said of the machine",
        _stream(info=pickle_of(_SYSTEM, pop, empty_dict)), both(reports_call("os.system"), holds_tensor()),
    ),
    opens("C4 nothing said of the machine", _stream(info=pickle_of(none)), holds_tensor()),
    opens(
        "C4 a call that is thrown away in the list of keys",
        _stream(keys=pickle_of(_SYSTEM, pop, empty_list, unicode("0"), append)),
        both(reports_call("os.system"), holds_tensor()),
    ),
    refuses("C4 a list of keys that a call gives", _stream(keys=pickle_of(call("builtins", "list", unicode("0"))))),
    refuses("C4 a tuple of keys", _stream(keys=pickle_of(tuple_of(unicode("0")))), *BROKEN),
    refuses("C4 a list of numbers", _stream(keys=pickle_of(empty_list, integer(0), append)), *BROKEN),
    refuses("C4 a list of lists", _stream(keys=pickle_of(empty_list, empty_list, append)), *BROKEN),
    refuses("C4 a persistent id in the list of keys", _stream(keys=pickle_of(legacy_storage())), *BROKEN),
    refuses("C4 a key too few", _stream(keys=key_list([])), *BROKEN, says="missing"),
    refuses("C4 a key too many", _stream(keys=key_list(["0", "1"])), says="not found in deserialized_objects"),
    refuses("C4 a key twice", _stream(keys=key_list(["0", "0"])), AmbiguousError),
    refuses("C4 another key", _stream(keys=key_list(["00"])), *BROKEN),
    refuses("C4 a key with escapes", _stream(keys=key_list(["\x1b[31m\n"])), *BROKEN),
    *(
        refuses(f"C4 a count of {count}", _stream(counts={"0": count}), CorruptError, says="wrong size")
        for count in (0, 3, 5, 16, -4, -1, 1 << 32, 1 << 61, _MOST, -_MOST - 1)
    ),
    refuses("C4 a storage that is a byte short", lambda: legacy_stream()[:-1], TruncatedError, says="bytes"),
    refuses("C4 a storage that is not there", lambda: legacy_stream()[:-16], TruncatedError),
    refuses("C4 a count that is not whole", lambda: legacy_stream()[:-20], TruncatedError),
    refuses("C4 a count that is not there", lambda: legacy_stream()[:-24], TruncatedError),
    refuses("C4 a list of keys that is not there", lambda: legacy_stream(keys=b"")[:-24], TruncatedError),
    refuses("C4 only the magic number", lambda: legacy_stream()[:15], TruncatedError),
    refuses("C4 a storage that is a byte longer", _stream(after=b"\0"), AmbiguousError, says="after the last storage"),
    refuses("C4 zeros after the last storage", _stream(after=bytes(512)), AmbiguousError),
    refuses("C4 a pickle after the last storage", _stream(after=_EVIL), AmbiguousError),
    refuses(
        "C4 a second checkpoint after the first", lambda: legacy_stream() * 2, AmbiguousError, says="second checkpoint"
    ),
    refuses("C4 a zip after the first checkpoint", _stream(after=b"PK\3\4" + bytes(30)), AmbiguousError),
    refuses("C4 a file of no storages and a byte", _stream(pickle_of(none), {}, after=b"."), AmbiguousError),
    opens("C4 a file of no storages", _object(none), tree_is(None)),
    refuses("C4 a storage of 2^62 elements", _on(legacy_storage(numel=1 << 62)), *BROKEN),
    refuses("C4 a storage of 2^64 elements", _on(legacy_storage(numel=1 << 64)), *BROKEN),
    refuses("C4 a storage of as many elements as there are not", _on(legacy_storage(numel=1 << 40)), *BROKEN),
    *(
        refuses(f"C4 a storage of {name} elements", _on(legacy_storage(numel=numel)), *BROKEN)
        for name, numel in {
            "-1": integer(-1), "1.5": binfloat(1.5), "True": newtrue, "no": none, "'4'": unicode("4"),
            "2^2000": integer(1 << 2000),
        }.items()
    ),
    *(
        refuses(f"C4 a storage whose {what} is {name}", _on(legacy_storage(**{what: value})), *BROKEN)
        for what in ("key", "location", "kind", "word")
        for name, value in {"a number": integer(0), "a list": empty_list, "a call": _SYSTEM, "None": none}.items()
    ),
    refuses("C4 a storage of five parts", _on(storage_id() + persid_binary), *BROKEN),
    refuses("C4 a storage of seven parts", _on(storage_id(ending=none + none) + persid_binary), *BROKEN),
    refuses("C4 a persistent id that is a list", _on(empty_list + persid_binary), *BROKEN),
    refuses("C4 a persistent id of nothing", _on(empty_tuple + persid_binary), *BROKEN),
    refuses("C4 a persistent id of another word", _on(tuple_of(unicode("model"), none) + persid_binary), *BROKEN),
    refuses("C4 two types of one storage", _two(legacy_storage(), legacy_storage(kind="IntStorage"))),
    refuses("C4 two lengths of one storage", _two(legacy_storage(), legacy_storage(numel=2)), *BROKEN),
    refuses("C4 a tensor beyond its storage", _on(legacy_storage(), size=(5,)), *BROKEN, says="out of bounds"),
    opens("C4 a part of a storage", _view(1, 3, size=(3,)), holds_tensor()),
    opens("C4 a part of no elements at the end of a storage", _view(4, 0, size=(0,)), holds_tensor()),
    refuses("C4 a part that begins after its storage", _view(5, 0, size=(0,)), *BROKEN),
    refuses("C4 a part that ends after its storage", _view(1, 4), *BROKEN, says="beyond its storage"),
    refuses("C4 a part that ends after all memory", _view(1, _MOST), *BROKEN),
    refuses("C4 a part that begins after all memory", _view(_MOST, 1), *BROKEN),
    refuses("C4 a tensor beyond its part of a storage", _view(0, 2), *BROKEN, says="out of bounds"),
    refuses("C4 a tensor before its part of a storage", _view(2, 2, size=(2,), offset=-1), *BROKEN),
    *(
        refuses(f"C4 a part with an odd {name}", _view(*numbers), *BROKEN)
        for name, numbers in {
            "beginning": (-1, 4), "length": (0, -4), "flag": (newtrue, 2), "fraction": (binfloat(1.0), 2),
            "nothing": (none, none), "text": (unicode("0"), 4), "number": (1 << 70, 4),
        }.items()
    ),
    *(
        refuses(f"C4 a part that is {name}", _on(legacy_storage(view=view)), *BROKEN)
        for name, view in {
            "a pair": tuple_of(unicode("1"), integer(0)), "a list": empty_list, "a number": integer(0),
            "a call": _SYSTEM, "without a name": tuple_of(none, integer(0), integer(4)), "False": b"\x89",
        }.items()
    ),
    refuses(
        "C4 a part that is called like its storage", _view(0, 4, key="0"), *BROKEN, says="one key"
    ),
    refuses(
        "C4 a part that is called like another storage",
        _two(legacy_storage("1"), legacy_storage(view=view_of("1", 0, 4)), {"0": bytes(16), "1": bytes(16)}), *BROKEN,
    ),
    refuses(
        "C4 a storage that is called like a part",
        _two(legacy_storage(view=view_of("1", 0, 4)), legacy_storage("1"), {"0": bytes(16), "1": bytes(16)}), *BROKEN,
    ),
    refuses(
        "C4 two parts of one name",
        _two(legacy_storage(view=view_of("1", 0, 4)), legacy_storage(view=view_of("1", 0, 3))), *BROKEN,
    ),
    opens(
        "C4 a class with its source, which torch would have patched into the folder",
        _stream(_named(unicode("/tmp/net.py") + unicode("dump_patches = True\n")), {}), _keeps,
    ),
    opens("C4 a class without its source", _stream(_named(none + none), {}), reports_call("nets.Net")),
    harmless("C4 a class whose source is a call", _stream(_named(_SYSTEM + _SYSTEM), {}), reports_call("os.system")),
    refuses("C4 a class of three parts", _stream(_named(none), {}), *BROKEN),
    refuses(
        "C4 a class that is a text",
        _object(mark, unicode("module"), unicode("os.system"), none, none, tuple_, persid_binary), *BROKEN,
    ),
    harmless(
        "C4 a class that a call gives, called",
        _object(mark, unicode("module"), _SYSTEM, none, none, tuple_, persid_binary, empty_tuple, reduce),
        reports_call("os.system"),
    ),
    harmless(
        "C4 os.system as a class, called",
        _object(
            mark, unicode("module"), global_("os", "system"), none, none, tuple_, persid_binary,
            tuple_of(unicode("id")), reduce,
        ),
        reports_call("os.system"),
    ),
    harmless(
        "C4 a source of a megabyte and escapes",
        _stream(_named(unicode("\x1b[31m\n") + unicode("\x1b[31m" * 200_000)), {}),
    ),
    refuses("C4 a legacy stream that begins later", lambda: b"\0" + legacy_stream(), *REFUSED),
    opens(
        "C4 a call that is thrown away before the object",
        _object(_SYSTEM, pop, empty_dict), both(reports_call("os.system"), tree_is({})),
    ),
)  # fmt: skip
