r"""An opcode assembler for pickles; `archives` assembles the zip files that torch puts them in.

    proto(2) + global_("os", "system") + mark + unicode("id") + tuple_ + reduce + stop

An opcode without an argument is a constant, one with an argument a function; both are bytes, and a program is their
sum. Nothing here checks that a program makes sense, and every length can be made to lie. This file does not import
`pickle`: it must be able to write what that never would.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

# Protocol 0: arguments are lines of text.
mark = b"("
stop = b"."
pop = b"0"
pop_mark = b"1"
dup = b"2"
none = b"N"
persid_binary = b"Q"
reduce = b"R"
append = b"a"
build = b"b"
dict_ = b"d"
list_ = b"l"
setitem = b"s"
tuple_ = b"t"
# Protocol 1.
appends = b"e"
empty_tuple = b")"
empty_list = b"]"
empty_dict = b"}"
obj = b"o"
setitems = b"u"
# Protocol 2.
newobj = b"\x81"
tuple1 = b"\x85"
tuple2 = b"\x86"
tuple3 = b"\x87"
newtrue = b"\x88"
newfalse = b"\x89"
# Protocol 4.
empty_set = b"\x8f"
additems = b"\x90"
frozenset_ = b"\x91"
newobj_ex = b"\x92"
stack_global = b"\x93"
memoize = b"\x94"
# Protocol 5.
next_buffer = b"\x97"
readonly_buffer = b"\x98"

CONSTANTS = {name: value for name, value in list(globals().items()) if type(value) is bytes and len(value) == 1}
"""Every opcode without an argument, by name."""


def _line(text: str | bytes) -> bytes:
    return (text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")) + b"\n"


def _sized(layout: str, data: bytes, claim: int | None) -> bytes:
    return struct.pack("<" + layout, len(data) if claim is None else claim) + data


def _utf8(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")


def proto(version: int) -> bytes:
    return b"\x80" + bytes((version,))


def frame(content: bytes, *, claim: int | None = None) -> bytes:
    """FRAME over `content`; `claim` is the length it states instead of the true one."""
    return b"\x95" + _sized("Q", content, claim)


def global_(module: str | bytes, name: str | bytes) -> bytes:
    return b"c" + _line(module) + _line(name)


def inst(module: str | bytes, name: str | bytes) -> bytes:
    return b"i" + _line(module) + _line(name)


def int_(text: int | str | bytes) -> bytes:
    return b"I" + _line(str(text) if isinstance(text, int) else text)


def long(text: int | str | bytes) -> bytes:
    return b"L" + _line(f"{text}L" if isinstance(text, int) else text)


def float_(text: float | str | bytes) -> bytes:
    return b"F" + _line(repr(text) if isinstance(text, float) else text)


def string(quoted: str | bytes) -> bytes:
    return b"S" + _line(quoted)


def unicode_line(escaped: str | bytes) -> bytes:
    return b"V" + _line(escaped)


def persid(line: str | bytes) -> bytes:
    return b"P" + _line(line)


def get(slot: int | str | bytes) -> bytes:
    return b"g" + _line(str(slot) if isinstance(slot, int) else slot)


def put(slot: int | str | bytes) -> bytes:
    return b"p" + _line(str(slot) if isinstance(slot, int) else slot)


def binint(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def binint1(value: int) -> bytes:
    return b"K" + struct.pack("<B", value)


def binint2(value: int) -> bytes:
    return b"M" + struct.pack("<H", value)


def _twos(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True) if value else b""


def long1(value: int | bytes, *, claim: int | None = None) -> bytes:
    return b"\x8a" + _sized("B", value if isinstance(value, bytes) else _twos(value), claim)


def long4(value: int | bytes, *, claim: int | None = None) -> bytes:
    return b"\x8b" + _sized("I", value if isinstance(value, bytes) else _twos(value), claim)


def integer(value: int) -> bytes:
    """The shortest binary spelling, as a pickler would choose it."""
    if 0 <= value < 1 << 8:
        return binint1(value)
    if 0 <= value < 1 << 16:
        return binint2(value)
    if -(1 << 31) <= value < 1 << 31:
        return binint(value)
    return long1(value) if value.bit_length() < 8 * 255 - 1 else long4(value)


def binfloat(value: float) -> bytes:
    return b"G" + struct.pack(">d", value)


def binstring(data: bytes, *, claim: int | None = None) -> bytes:
    return b"T" + _sized("I", data, claim)


def short_binstring(data: bytes, *, claim: int | None = None) -> bytes:
    return b"U" + _sized("B", data, claim)


def unicode(text: str | bytes, *, claim: int | None = None) -> bytes:
    """BINUNICODE, which every protocol since 1 may use; bytes are taken as the UTF-8 they pretend to be."""
    return b"X" + _sized("I", _utf8(text), claim)


def short_unicode(text: str | bytes, *, claim: int | None = None) -> bytes:
    return b"\x8c" + _sized("B", _utf8(text), claim)


def unicode8(text: str | bytes, *, claim: int | None = None) -> bytes:
    return b"\x8d" + _sized("Q", _utf8(text), claim)


def binbytes(data: bytes, *, claim: int | None = None) -> bytes:
    return b"B" + _sized("I", data, claim)


def short_binbytes(data: bytes, *, claim: int | None = None) -> bytes:
    return b"C" + _sized("B", data, claim)


def binbytes8(data: bytes, *, claim: int | None = None) -> bytes:
    return b"\x8e" + _sized("Q", data, claim)


def bytearray8(data: bytes, *, claim: int | None = None) -> bytes:
    return b"\x96" + _sized("Q", data, claim)


def binget(slot: int) -> bytes:
    return b"h" + bytes((slot,))


def long_binget(slot: int) -> bytes:
    return b"j" + struct.pack("<I", slot)


def binput(slot: int) -> bytes:
    return b"q" + bytes((slot,))


def long_binput(slot: int) -> bytes:
    return b"r" + struct.pack("<I", slot)


def recall(slot: int) -> bytes:
    """BINGET or LONG_BINGET, as a pickler would choose."""
    return binget(slot) if slot < 256 else long_binget(slot)


def keep(slot: int) -> bytes:
    """BINPUT or LONG_BINPUT, as a pickler would choose."""
    return binput(slot) if slot < 256 else long_binput(slot)


def ext1(code: int) -> bytes:
    return b"\x82" + struct.pack("<B", code)


def ext2(code: int) -> bytes:
    return b"\x83" + struct.pack("<H", code)


def ext4(code: int) -> bytes:
    return b"\x84" + struct.pack("<I", code)


# Programs of a few opcodes.


def tuple_of(*items: bytes) -> bytes:
    if len(items) <= 3:
        return b"".join(items) + (empty_tuple, tuple1, tuple2, tuple3)[len(items)]
    return mark + b"".join(items) + tuple_


def call(module: str, name: str, *args: bytes) -> bytes:
    """`module.name(*args)` the way protocol 2 writes it."""
    return global_(module, name) + tuple_of(*args) + reduce


def pickle_of(*program: bytes, version: int = 2) -> bytes:
    """A whole pickle: PROTO, the program, STOP."""
    return proto(version) + b"".join(program) + stop


def plain(*program: bytes, version: int = 4) -> Callable[[], bytes]:
    """What makes the pickle of a program when it is wanted: a table of cases holds no megabytes."""
    return lambda: pickle_of(*program, version=version)


def list_of(content: bytes) -> bytes:
    """A list of what a stretch of program pushes."""
    return empty_list + mark + content + appends


def doubled(levels: int) -> bytes:
    """2^levels values, if anybody walked them; two bytes a level."""
    return none + (dup + tuple2) * levels


# torch's storages and tensors.


def storage_id(
    key: bytes | str = "0",
    numel: bytes | int = 4,
    *,
    kind: bytes | str = "FloatStorage",
    location: bytes | str = "cpu",
    word: bytes | str = "storage",
    ending: bytes = b"",
) -> bytes:
    """The tuple of torch's persistent ids; any part may be given as opcodes instead of a value.

    `ending` comes after the others: a legacy stream has None there, or what part of a storage is meant.
    """
    return (
        mark
        + (word if isinstance(word, bytes) else unicode(word))
        + (kind if isinstance(kind, bytes) else global_("torch", kind))
        + (key if isinstance(key, bytes) else unicode(key))
        + (location if isinstance(location, bytes) else unicode(location))
        + (numel if isinstance(numel, bytes) else integer(numel))
        + ending
        + tuple_
    )


def numbers(values: Iterable[int]) -> bytes:
    return tuple_of(*(integer(value) for value in values))


def tensor(
    size: bytes | Sequence[int] = (4,),
    stride: bytes | Sequence[int] = (1,),
    offset: bytes | int = 0,
    *,
    storage: bytes | None = None,
    tail: bytes | None = None,
    rebuild: bytes | None = None,
) -> bytes:
    """`_rebuild_tensor_v2(storage, offset, size, stride, False, OrderedDict())`."""
    hooks = newfalse + call("collections", "OrderedDict")
    return (
        (global_("torch._utils", "_rebuild_tensor_v2") if rebuild is None else rebuild)
        + mark
        + (storage_id() + persid_binary if storage is None else storage)
        + (offset if isinstance(offset, bytes) else integer(offset))
        + (size if isinstance(size, bytes) else numbers(size))
        + (stride if isinstance(stride, bytes) else numbers(stride))
        + (hooks if tail is None else tail)
        + tuple_
        + reduce
    )


# Runs of torch's tensors, memo and all.


@dataclass(frozen=True)
class RunSlots:
    """Where the values that every run recalls were put."""

    rebuild: int
    word: int
    kind: int
    location: int
    hooks: int


def run_opening(*, kind: str = "FloatStorage", location: str = "cpu", first: int = 0) -> tuple[bytes, RunSlots]:
    """Opcodes that put the five values of every run into slots and leave the stack as it was."""
    values = (
        global_("torch._utils", "_rebuild_tensor_v2"),
        unicode("storage"),
        global_("torch", kind),
        unicode(location),
        global_("collections", "OrderedDict"),
    )
    program = b"".join(value + keep(first + at) + pop for at, value in enumerate(values))
    return program, RunSlots(*range(first, first + 5))


def tensor_run(
    slots: RunSlots,
    key: str,
    numel: int,
    size: Sequence[int],
    stride: Sequence[int],
    *,
    offset: int = 0,
    top: int | None = None,
    puts: Sequence[int | None] | None = None,
    requires_grad: bool = False,
    ending: bytes = b"",
) -> bytes:
    """One tensor the way torch writes each after the first.

    `top` is the first of its seven memo slots; `puts` gives all seven instead, None for a put that is left out.
    `ending` is what its persistent id ends with: a legacy stream has None there.
    """
    chosen = list(range(top, top + 7)) if puts is None and top is not None else list(puts or [])
    key_put, id_put, size_put, stride_put, hooks_put, args_put, tensor_put = (
        b"" if slot is None else keep(slot) for slot in chosen
    )
    return (
        recall(slots.rebuild) + mark + mark
        + recall(slots.word) + recall(slots.kind) + unicode(key) + key_put
        + recall(slots.location) + integer(numel) + ending + tuple_ + id_put + persid_binary
        + integer(offset) + numbers(size) + size_put + numbers(stride) + stride_put
        + (newtrue if requires_grad else newfalse) + recall(slots.hooks) + empty_tuple + reduce + hooks_put
        + tuple_ + args_put + reduce + tensor_put
    )  # fmt: skip
