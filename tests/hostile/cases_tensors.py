"""P9, T1: persistent ids that are none, and tensors that reach where they must not."""

from __future__ import annotations

from collections.abc import Callable

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.record import Record
from rehydrate.checkpoint.tensor import TensorRef

from .archives import Entry, torch_entries, torch_zip, zip_of
from .assembler import (
    append,
    appends,
    binfloat,
    binget,
    binint1,
    binput,
    call,
    empty_dict,
    empty_list,
    empty_tuple,
    global_,
    integer,
    mark,
    newfalse,
    newtrue,
    none,
    numbers,
    persid,
    persid_binary,
    pickle_of,
    setitem,
    short_binbytes,
    storage_id,
    tensor,
    tuple1,
    tuple_,
    tuple_of,
    unicode,
)
from .case import BROKEN, Case, harmless, holds_tensor, opens, reads, refuses, refuses_to_read

_W = unicode("w")
_MOST = (1 << 63) - 1


def _zipped(
    *program: bytes, storages: dict[str, bytes] | None = None, order: bytes | None = b"little"
) -> Callable[[], bytes]:
    return lambda: torch_zip(pickle_of(empty_dict, _W, *program, setitem), storages, order=order)


def _id_of(*parts: bytes) -> bytes:
    return mark + b"".join(parts) + tuple_ + persid_binary


def _tensor_is(shape: tuple[int, ...], *, value: object = None) -> Callable[[Checkpoint], bool]:
    def shows(checkpoint: Checkpoint) -> bool:
        ref = checkpoint["w"]
        return ref.shape == shape and (value is None or ref.numpy().tolist() == value)

    return shows


def _stays_an_id(checkpoint: Checkpoint) -> bool:
    value = checkpoint.tree
    return type(value) is Record and value.name == "persistent_id"


_STORAGE_WORD, _FLOATS, _KEY, _CPU, _FOUR = (
    unicode("storage"),
    global_("torch", "FloatStorage"),
    unicode("0"),
    unicode("cpu"),
    binint1(4),
)

P9 = (
    refuses("P9 a persistent id that is a string", _zipped(_W, persid_binary), *BROKEN),
    refuses("P9 a persistent id that is None", _zipped(none, persid_binary), *BROKEN),
    refuses("P9 a persistent id that is a line of text", _zipped(persid("0")), *BROKEN),
    refuses("P9 a persistent id that is an empty tuple", _zipped(empty_tuple, persid_binary), *BROKEN),
    refuses("P9 a persistent id of four parts", _zipped(_id_of(_STORAGE_WORD, _FLOATS, _KEY, _CPU)), *BROKEN),
    refuses(
        "P9 a persistent id of six parts, as legacy files have it",
        _zipped(_id_of(_STORAGE_WORD, _FLOATS, _KEY, _CPU, _FOUR, none)),
        *BROKEN,
    ),
    refuses(
        "P9 a persistent id that is a list",
        _zipped(empty_list, mark, _STORAGE_WORD, _FLOATS, _KEY, _CPU, _FOUR, appends, persid_binary),
        *BROKEN,
    ),
    refuses(
        "P9 the source of a module, which old torch would have written to a file",
        _zipped(_id_of(unicode("module"), global_("net", "Net"), unicode("net.py"), unicode("import os"), none)),
        *BROKEN,
    ),
    refuses("P9 a word that is not a word", _zipped(storage_id(word=none) + persid_binary), *BROKEN),
    refuses("P9 a word in bytes", _zipped(storage_id(word=short_binbytes(b"storage")) + persid_binary), *BROKEN),
    refuses("P9 a key that leaves the folder", _zipped(tensor(storage=storage_id("../version") + persid_binary))),
    refuses("P9 a key that is the pickle", _zipped(tensor(storage=storage_id("../data.pkl", 4) + persid_binary))),
    refuses("P9 an absolute key", _zipped(tensor(storage=storage_id("/etc/passwd") + persid_binary)), *BROKEN),
    refuses("P9 an empty key", _zipped(tensor(storage=storage_id("") + persid_binary)), *BROKEN),
    refuses("P9 a key with a NUL", _zipped(tensor(storage=storage_id("0\0") + persid_binary)), *BROKEN),
    refuses("P9 a key that is a number", _zipped(tensor(storage=storage_id(binint1(0)) + persid_binary)), *BROKEN),
    refuses("P9 a key in bytes", _zipped(tensor(storage=storage_id(short_binbytes(b"0")) + persid_binary)), *BROKEN),
    refuses(
        "P9 a key of another storage's spelling", _zipped(tensor(storage=storage_id("00") + persid_binary)), *BROKEN
    ),
    refuses("P9 a key that is a call", _zipped(tensor(storage=storage_id(call("os", "getenv", _W)) + persid_binary))),
    refuses(
        "P9 a storage of a class that is a stranger",
        _zipped(tensor(storage=storage_id(kind=global_("os", "system")) + persid_binary)),
        *BROKEN,
    ),
    refuses(
        "P9 a storage of a class that only ends like one",
        _zipped(tensor(storage=storage_id(kind=global_("torch", "EvilStorage")) + persid_binary)),
        *BROKEN,
    ),
    refuses(
        "P9 a storage of a class in a module that only ends like torch",
        _zipped(tensor(storage=storage_id(kind=global_("nottorch", "FloatStorage")) + persid_binary)),
        *BROKEN,
    ),
    refuses(
        "P9 a storage of a class that was called",
        _zipped(tensor(storage=storage_id(kind=call("torch", "FloatStorage")) + persid_binary)),
        *BROKEN,
    ),
    refuses("P9 a storage of no class", _zipped(tensor(storage=storage_id(kind=none) + persid_binary)), *BROKEN),
    refuses("P9 a negative number of elements", _zipped(tensor(storage=storage_id(numel=-4) + persid_binary)), *BROKEN),
    refuses("P9 2^60 elements", _zipped(tensor(storage=storage_id(numel=1 << 60) + persid_binary)), *BROKEN),
    refuses("P9 2^62 elements, which wrap to none", _zipped(tensor(storage=storage_id(numel=1 << 62) + persid_binary))),
    refuses("P9 2^64+4 elements", _zipped(tensor(storage=storage_id(numel=(1 << 64) + 4) + persid_binary)), *BROKEN),
    refuses(
        "P9 True elements",
        _zipped(tensor((1,), storage=storage_id(numel=newtrue) + persid_binary), storages={"0": bytes(4)}),
        *BROKEN,
    ),
    refuses("P9 4.0 elements", _zipped(tensor(storage=storage_id(numel=binfloat(4.0)) + persid_binary)), *BROKEN),
    refuses(
        "P9 nan elements", _zipped(tensor(storage=storage_id(numel=binfloat(float("nan"))) + persid_binary)), *BROKEN
    ),
    refuses(
        "P9 elements in a tuple", _zipped(tensor(storage=storage_id(numel=_FOUR + tuple1) + persid_binary)), *BROKEN
    ),
    refuses("P9 a location that is None", _zipped(tensor(storage=storage_id(location=none) + persid_binary)), *BROKEN),
    refuses(
        "P9 a location that is a number", _zipped(tensor(storage=storage_id(location=_FOUR) + persid_binary)), *BROKEN
    ),
    opens(
        "P9 a location that is no device",
        _zipped(tensor(storage=storage_id(location="\x1b[2J; rm -rf /") + persid_binary)),
        _tensor_is((4,), value=[0.0] * 4),
    ),
    opens(
        "P9 a location of a device that nobody has",
        _zipped(tensor(storage=storage_id(location="cuda:999999999999") + persid_binary)),
        _tensor_is((4,), value=[0.0] * 4),
    ),
    refuses(
        "P9 a persistent id that contains itself",
        _zipped(empty_list, binput(0), binget(0), append, binget(0), tuple1, persid_binary),
        *BROKEN,
    ),
    opens("P9 a persistent id in a file without storages", lambda: pickle_of(_W, persid_binary), _stays_an_id),
    opens("P9 a persistent id in a line, in a file without storages", lambda: pickle_of(persid("x")), _stays_an_id),
    opens(
        "P9 a storage in a file without storages has a shape and no numbers",
        lambda: pickle_of(tensor()),
        lambda ckpt: type(ckpt.tree) is TensorRef and not reads(ckpt.tree),
    ),
)


def _reach(name: str, *args: object, **more: object) -> Case:
    return refuses(f"T1 {name}", _zipped(tensor(*args, **more)), *BROKEN)  # type: ignore[arg-type]


_META_ID = storage_id("9", 1 << 60, location="meta") + persid_binary
_OTHER_TYPE = tensor(storage=storage_id(kind="IntStorage") + persid_binary)
_OTHER_LENGTH = tensor(storage=storage_id(numel=2) + persid_binary)


def _second(first: bytes, second: bytes) -> Callable[[], bytes]:
    """Two tensors of one storage's key."""
    return _zipped(first, setitem, unicode("v"), second)


def _sparse(indices: bytes) -> bytes:
    """`_rebuild_sparse_tensor(layout, (indices, values, size))`, whose values are the file's four floats."""
    return call(
        "torch._utils", "_rebuild_sparse_tensor",
        call("torch.serialization", "_get_layout", unicode("torch.sparse_coo")),
        tuple_of(indices, tensor(), numbers([4])),
    )  # fmt: skip


_INDICES = tensor((1, 4), (4, 1), storage=storage_id("1", kind="LongStorage") + persid_binary)
_QUANTIZER = tuple_of(global_("torch", "per_channel_affine"), tensor(), tensor(), integer(7))
_BYTES = storage_id("2", 4, kind="QUInt8Storage") + persid_binary

T1 = (
    _reach("an offset beyond the storage", offset=5),
    _reach("an offset beyond all memory", offset=1 << 62),
    _reach("an offset of 2^64", (1,), offset=1 << 64),
    _reach("a negative offset", offset=-1),
    _reach("an offset that is no number", offset=none),
    _reach("an offset that is True", (1,), offset=newtrue),
    _reach("an offset that is 1.0", (1,), offset=binfloat(1.0)),
    _reach("a size beyond the storage", (5,)),
    _reach("the last element just beyond the storage", (2,), (4,)),
    _reach("a negative size", (-1,)),
    _reach("two negative sizes, whose product is right", (-2, -2), (-2, -1)),
    _reach("a negative stride", (2,), (-1,), offset=3),
    _reach("a stride beyond all memory", (2,), (1 << 62,)),
    _reach("a size of 2^64 that wraps to none", (1 << 32, 1 << 32), (1, 1)),
    _reach("sizes and strides that wrap to the beginning", (3,), ((1 << 63),)),
    _reach("sizes without strides", (4,), ()),
    _reach("more strides than sizes", (4,), (1, 1)),
    _reach("sizes that are a string", unicode("4")),
    _reach("sizes that are a number", integer(4)),
    _reach("sizes that are None", none),
    _reach("sizes that are a dictionary", empty_dict),
    _reach("a size that is True", newtrue + tuple1),
    _reach("a size that is 4.0", binfloat(4.0) + tuple1),
    _reach("a size that is a string", unicode("4") + tuple1),
    _reach("a size in a size", numbers([4]) + tuple1),
    _reach("a size that is a call", call("os", "system", _W) + tuple1),
    _reach("a hundred thousand dimensions", (1,) * 100_000, (1,) * 100_000),
    _reach("65 dimensions", (1,) * 65, (1,) * 65),
    opens("T1 64 dimensions", _zipped(tensor((1,) * 64, (1,) * 64)), _tensor_is((1,) * 64)),
    opens("T1 no dimension", _zipped(tensor((), ())), _tensor_is((), value=0.0)),
    opens("T1 a tensor of the last element", _zipped(tensor((1,), (1,), 3)), _tensor_is((1,), value=[0.0])),
    opens(
        "T1 a size of none beside sizes beyond all memory",
        _zipped(tensor((0, 1 << 62, 1 << 62), (1, 1, 1))),
        lambda ckpt: ckpt["w"].numel == 0,
    ),
    harmless("T1 nothing, at an offset beyond the storage", _zipped(tensor((0,), (1,), 1 << 40)), holds_tensor()),
    opens(
        "T1 2^40 times the same element, which would fill all memory",
        _zipped(tensor((1 << 40,), (0,))),
        refuses_to_read(),
    ),
    _reach("2^120 times the same element", (1 << 60, 1 << 60), (0, 0)),
    _reach("2^63 times the same element", (1 << 62, 2), (0, 0)),
    _reach("2^93 times the same element, in numbers of four bytes", ((1 << 31) - 1,) * 3, (0,) * 3),
    _reach("nothing, after more than can be counted", (1 << 62, 1 << 62, 0), (1, 1, 1)),
    opens("T1 an expanded tensor of some elements", _zipped(tensor((3,), (0,))), _tensor_is((3,), value=[0.0] * 3)),
    opens(
        "T1 overlapping windows", _zipped(tensor((3, 2), (1, 1))), _tensor_is((3, 2), value=[[0.0] * 2] * 3)
    ),
    opens("T1 a transposed tensor", _zipped(tensor((2, 2), (1, 2))), _tensor_is((2, 2), value=[[0.0] * 2] * 2)),
    refuses("T1 one storage of two types", _second(tensor(), _OTHER_TYPE), *BROKEN),
    refuses("T1 one storage of two lengths", _second(tensor(), _OTHER_LENGTH), *BROKEN),
    refuses("T1 a record that is shorter than its storage", _zipped(tensor(), storages={"0": bytes(8)}), *BROKEN),
    refuses("T1 a record that is longer than its storage", _zipped(tensor(), storages={"0": bytes(17)}), *BROKEN),
    refuses("T1 an empty record", _zipped(tensor(), storages={"0": b""}), *BROKEN),
    refuses("T1 no record", _zipped(tensor(), storages={}), *BROKEN),
    refuses(
        "T1 a record of another case",
        _zipped(tensor(storage=storage_id("A") + persid_binary), storages={"a": bytes(16)}),
    ),
    refuses("T1 a record in another folder", lambda: torch_zip(
        pickle_of(empty_dict, _W, tensor(), setitem), {}, Entry(b"archive/0", bytes(16))), *BROKEN,
    ),
    refuses("T1 a byte order that does not exist", _zipped(tensor(), order=b"middle"), *BROKEN),
    refuses("T1 a byte order of a megabyte", _zipped(tensor(), order=b"little" * 200_000)),
    refuses("T1 a byte order in other letters", _zipped(tensor(), order=b"LITTLE"), *BROKEN),
    opens(
        "T1 the other byte order",
        _zipped(tensor((1,)), storages={"0": b"\x3f\x80" + bytes(14)}, order=b"big"),
        _tensor_is((1,), value=[1.0]),
    ),
    opens(
        "T1 conj and neg of a tensor of floats",
        _zipped(tensor(tail=newfalse + call("collections", "OrderedDict") + empty_dict
                       + unicode("conj") + newtrue + setitem + unicode("neg") + newtrue + setitem)),
        holds_tensor(),
    ),
    opens(
        "T1 metadata that is no dictionary",
        _zipped(tensor(tail=newfalse + call("collections", "OrderedDict") + binint1(7))),
        _tensor_is((4,)),
    ),
    opens("T1 a flag that is a string", _zipped(tensor(tail=_W + none)), _tensor_is((4,))),
    opens(
        "T1 a tensor of nowhere, of 2^60 elements",
        _zipped(tensor((1 << 60,), storage=_META_ID), storages={}),
        refuses_to_read(),
    ),
    refuses(
        "T1 a tensor of nowhere that reaches beyond it",
        _zipped(tensor(((1 << 60) + 1,), storage=_META_ID)), *BROKEN,
    ),
    opens(
        "T1 a sparse tensor with an index out of range",
        lambda: torch_zip(
            pickle_of(empty_dict, _W, _sparse(_INDICES), setitem), {"0": bytes(16), "1": b"\xff" * 32}
        ),
        lambda ckpt: type(ckpt.tree["w"]) is Record,
    ),
    opens(
        "T1 a quantised tensor whose scales do not fit",
        lambda: torch_zip(
            pickle_of(
                empty_dict, _W,
                call("torch._utils", "_rebuild_qtensor", _BYTES, integer(0), numbers([4]), numbers([1]),
                     _QUANTIZER, newfalse, call("collections", "OrderedDict")),
                setitem,
            ),
            {"0": bytes(16), "2": bytes(4)},
        ),
        lambda ckpt: type(ckpt.tree["w"]) is Record,
    ),
    refuses(
        "T1 a quantised tensor beyond its storage",
        lambda: torch_zip(
            pickle_of(
                call("torch._utils", "_rebuild_qtensor", _BYTES, integer(1), numbers([4]), numbers([1]),
                     _QUANTIZER, newfalse, call("collections", "OrderedDict")),
            ),
            {"0": bytes(16), "2": bytes(4)},
        ),
        *BROKEN,
    ),
    opens(
        "T1 a nested tensor of nothing that fits",
        _zipped(call("torch._utils", "_rebuild_nested_tensor", tensor(), tensor(), tensor(), tensor())),
        lambda ckpt: type(ckpt.tree["w"]) is Record,
    ),
    refuses("T1 a tensor of no storage at all, beyond it", _zipped(
        call("torch._utils", "_rebuild_tensor_v2", storage_id() + persid_binary, integer(0), numbers([1 << 40]),
             numbers([1]), newfalse, none)), *BROKEN,
    ),
    opens(
        "T1 a tensor of a storage that is a stranger",
        _zipped(tensor(storage=call("os", "system", _W))),
        lambda ckpt: type(ckpt.tree["w"]) is Record and "os.system" in ckpt.facts["calls"],
    ),
    opens(
        "T1 a tensor of too few arguments",
        _zipped(call("torch._utils", "_rebuild_tensor_v2", storage_id() + persid_binary)),
        lambda ckpt: type(ckpt.tree["w"]) is Record,
    ),
    opens(
        "T1 a tensor of too many arguments",
        _zipped(tensor(tail=none * 9)), lambda ckpt: type(ckpt.tree["w"]) is Record,
    ),
    refuses(
        "T1 a parameter of a tensor that is none",
        _zipped(call("torch._utils", "_rebuild_parameter", tensor((5,)), newtrue, call("collections", "OrderedDict"))),
        *BROKEN,
    ),
    opens(
        "T1 half a byte more than there is, in a packed type",
        _zipped(
            tensor((8,), storage=storage_id("0", 4, kind="QUInt4x2Storage") + persid_binary),
            storages={"0": bytes(4)},
        ),
        lambda ckpt: type(ckpt.tree["w"]) is TensorRef,
    ),
    _reach("more than a packed type has", (9,), storage=storage_id("0", 4, kind="QUInt4x2Storage") + persid_binary),
    opens(
        "T1 a compressed record, whose packed bytes a careless reader would show",
        lambda: zip_of(
            *torch_entries(pickle_of(empty_dict, _W, tensor(), setitem), {}),
            Entry(b"archive/data/0", bytes(16), method=8),
        ),
        lambda ckpt: ckpt["w"].numpy().tobytes() == bytes(16),
    ),
)  # fmt: skip

CASES = P9 + T1
