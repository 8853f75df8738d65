"""C3: torch's first files, tar archives of four members: others in their place, and numbers that lie."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from rehydrate.errors import AmbiguousError, CorruptError

from .archives_tar import (
    Member,
    counted,
    persistent,
    tar_of,
    tar_storage,
    tar_tensor,
    torch_members,
    torch_tar,
    views,
)
from .assembler import (
    append,
    call,
    empty_dict,
    empty_list,
    empty_tuple,
    global_,
    integer,
    long1,
    mark,
    none,
    persid_binary,
    pickle_of,
    pop,
    reduce,
    setitem,
    tuple3,
    tuple_of,
    unicode,
)
from .case import BROKEN, Case, harmless, holds_tensor, opens, refuses, reports_call

_SYSTEM = call("os", "system", unicode("id"))
_EVIL = pickle_of(_SYSTEM)
_MOST = (1 << 63) - 1
_HONEST = {member.name.decode(): member.data for member in torch_members()}


def _tar(*members: Member) -> Callable[[], bytes]:
    return partial(tar_of, *members)


def _torch(**changes: bytes | None) -> Callable[[], bytes]:
    return partial(torch_tar, **changes)


def _with(*members: Member) -> Callable[[], bytes]:
    """torch's own archive with other members after its own."""
    return _tar(*torch_members(), *members)


def _without(name: str, *instead: Member) -> Callable[[], bytes]:
    """torch's own archive with something else in the place of one member."""
    return _tar(*instead, *torch_members({name: None}))


def _tensors(*parts: bytes, number: int | None = None) -> Callable[[], bytes]:
    return _torch(tensors=counted(*parts, number=number))


def _storages(*parts: bytes, number: int | None = None, after: bytes | None = None) -> Callable[[], bytes]:
    return _torch(storages=counted(*parts, number=number) + (views() if after is None else after))


def _object(*program: bytes) -> Callable[[], bytes]:
    return _torch(pickle=pickle_of(*program))


CASES: tuple[Case, ...] = (
    opens("C3 an honest file of torch's", _torch(), holds_tensor()),
    *(
        refuses(
            f"C3 a {what} in the place of {name}",
            _without(name, Member(name.encode(), kind=kind, link=b"/etc/passwd")), CorruptError, says="stands where",
        )
        for name in ("storages", "tensors", "pickle", "sys_info")
        for what, kind in {"symbolic link": b"2", "hard link": b"1", "folder": b"5", "device": b"3"}.items()
    ),
    *(
        refuses(f"C3 {path.decode()} in the place of {name}", _without(name, Member(path, torch_members()[0].data)))
        for name in ("storages", "tensors", "pickle")
        for path in (b"../" + name.encode(), b"./" + name.encode(), b"/" + name.encode())
    ),
    *(
        refuses(f"C3 no member {name}", _torch(**{name: None}), CorruptError, says="missing")
        for name in ("storages", "tensors", "pickle", "sys_info")
    ),
    *(
        refuses(f"C3 another member {name}", _with(Member(name.encode(), _EVIL)), AmbiguousError)
        for name in ("storages", "tensors", "pickle", "net.pth", "../../evil")
    ),
    *(
        refuses(f"C3 bytes after the end of {name}", _torch(**{name: content + _EVIL}), AmbiguousError)
        for name, content in _HONEST.items()
    ),
    *(
        refuses(f"C3 nothing in {name}", _torch(**{name: b""}), *BROKEN)
        for name in ("storages", "tensors", "pickle", "sys_info")
    ),
    *(
        opens(f"C3 a call that is thrown away in {name}", _torch(**{name: before + rest}), reports_call("os.system"))
        for name, before, rest in (
            ("pickle", b"", pickle_of(_SYSTEM, pop, empty_dict, unicode("w"), persistent(2), setitem)),
            ("sys_info", b"", pickle_of(_SYSTEM, pop, empty_dict)),
            ("tensors", pickle_of(_SYSTEM, pop, integer(1)), tar_tensor()),
            ("storages", pickle_of(_SYSTEM, pop, integer(1)), tar_storage() + views()),
        )
    ),
    *(
        refuses(f"C3 a number of {what} that is {name}", _torch(**{what: pickle_of(number)}), *BROKEN)
        for what in ("tensors", "storages")
        for name, number in {
            "-1": integer(-1), "a call": _SYSTEM, "None": none, "2^62": long1(1 << 62), "2^64": long1(1 << 64),
        }.items()
    ),
    refuses("C3 more tensors than there are", _tensors(tar_tensor(), number=2), *BROKEN),
    refuses("C3 fewer tensors than there are", _tensors(tar_tensor(), number=0)),
    refuses("C3 more storages than there are", _storages(tar_storage(), number=2)),
    refuses("C3 fewer storages than there are", _storages(tar_storage(), number=0)),
    *(
        refuses(f"C3 a tensor of {name}", _tensors(tar_tensor(**changes)), *BROKEN)  # type: ignore[arg-type]
        for name, changes in {
            "-1 dimensions": {"dimensions": -1}, "2^31 dimensions": {"dimensions": (1 << 31) - 1},
            "100 dimensions": {"dimensions": 100, "size": [1] * 100, "stride": [1] * 100},
            "more dimensions than numbers": {"dimensions": 2},
            "a negative extent": {"size": (-4,)}, "a negative stride": {"stride": (-1,)},
            "a negative offset": {"offset": -1}, "an offset beyond its storage": {"offset": 1},
            "extents beyond its storage": {"size": (5,)}, "strides beyond its storage": {"stride": (2,)},
            "extents that overflow": {"size": (1 << 62, 4), "stride": (0, 0)}, "the last offset": {"offset": _MOST},
            "a storage that is not there": {"storage": 9}, "no storage": {"storage": None},
        }.items()
    ),
    opens("C3 an element shown 2^40 times", _tensors(tar_tensor(size=(1 << 40,), stride=(0,))), holds_tensor()),
    refuses("C3 two tensors of one key", _tensors(tar_tensor(), tar_tensor()), *BROKEN),
    refuses("C3 a tensor that is named and not there", _object(persistent(3)), *BROKEN),
    refuses("C3 two storages of one key", _storages(tar_storage(), tar_storage()), *BROKEN),
    *(
        refuses(f"C3 a storage of {count} elements", _storages(tar_storage(count=count)), *BROKEN)
        for count in (-1, 5, 1 << 40, 1 << 61, _MOST, -_MOST - 1)
    ),
    refuses("C3 a storage of fewer elements", _storages(tar_storage(count=3)), *BROKEN),
    refuses("C3 a storage of an unknown kind", _storages(tar_storage(kind="EvilStorage")), *BROKEN),
    refuses("C3 a storage that only a call describes", _storages(_EVIL), *BROKEN),
    refuses("C3 a storage of two parts", _storages(pickle_of(tuple_of(long1(1), unicode("cpu")))), *BROKEN),
    refuses(
        "C3 a storage whose key is a text",
        _storages(pickle_of(tuple_of(unicode("1"), unicode("cpu"), global_("torch", "FloatStorage"))) + bytes(8)),
        *BROKEN,
    ),
    *(
        refuses(f"C3 a part of a storage, {name}", _storages(tar_storage(), after=views(part)), *BROKEN)
        for name, part in {
            "beyond it": (5, 1, 0, 5), "after it": (5, 1, 5, 0), "before it": (5, 1, -1, 2), "of -1": (5, 1, 0, -1),
            "without a whole": (5, 9, 0, 1), "of the same name": (1, 1, 0, 4), "of 2^62": (5, 1, 0, 1 << 62),
            "of 2^64": (5, 1, 0, 1 << 64),
        }.items()
    ),
    refuses("C3 a part of a part", _storages(tar_storage(), after=views((5, 1, 0, 2), (6, 5, 0, 1))), *BROKEN),
    refuses("C3 parts that are no list", _storages(tar_storage(), after=pickle_of(none)), *BROKEN),
    refuses("C3 parts that are calls", _storages(tar_storage(), after=pickle_of(empty_list, _SYSTEM, append)), *BROKEN),
    refuses("C3 no parts", _storages(tar_storage(), after=b""), *BROKEN),
    *(
        refuses(f"C3 a persistent id that is {name}", _object(value, persid_binary), *BROKEN)
        for name, value in {
            "None": none, "a number": integer(2), "a list": empty_list, "no number": unicode("x"),
            "a number with a blank": unicode(" 2"), "another digit": unicode("٢"), "an empty tuple": empty_tuple,
            "of a thousand digits": unicode("2" * 1000), "a pair": tuple_of(none, none),
        }.items()
    ),
    harmless(
        "C3 a class that is os.system, called",
        _object(global_("os", "system"), none, none, tuple3, persid_binary, mark, unicode("id"), b"t", reduce),
        reports_call("os.system"),
    ),
    refuses("C3 big-endian numbers in a little-endian file", _tensors(tar_tensor(order=">")), *BROKEN),
    refuses("C3 a big-endian count in a little-endian file", _storages(tar_storage(order=">")), *BROKEN),
)  # fmt: skip
