"""Files of Torch7, the Lua library that PyTorch comes from: `torch.save("net.t7", net)`, in binary and in text.

    one object and nothing after it; see `stream` for the objects, `encodings` for how they are spelled,
    and `values` for what becomes of them

There is no magic number. A file of this format begins with the type of its root object, which is a table, an object of
a class, or a function, and with its index, which is 1:

    binary   04 00 00 00  01 00 00 00  03 00 00 00 "V 1"  ...     ascii   "4\\n1\\n3\\nV 1\\n..."

Nor does it say how wide its longs are, which depends on the machine that wrote it (8 bytes, but 4 on Windows and on
32-bit machines), or which way round its bytes are. The order shows in the type. The width shows in that the whole file
makes sense with one and not with the other; where both make sense, that is an error. Lua functions are bytecode: they
are shown, and never run.
"""

from __future__ import annotations

import re

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.errors import AmbiguousError, CorruptError, LimitError, RehydrateError, TruncatedError
from rehydrate.formats.contract import Format, Head, Request
from rehydrate.formats.torch7.encodings import AsciiEncoding, BinaryEncoding, Encoding
from rehydrate.formats.torch7.stream import FUNCTION, OLD_RECURSIVE, RECURSIVE, TABLE, TORCH, Stream, read_stream
from rehydrate.formats.torch7.values import tree_of
from rehydrate.storage.source import Source
from rehydrate.text import shown

__all__ = ["TORCH7"]

_ASCII = re.compile(
    rb"4\n1\n\d{1,4}\n(V -?\d|[\w.:-])"  # an object: its version or, from before there were any, its class
    rb"|3\n1\n(0\n\Z|[1-9]\d{0,9}\n[1-8]\n)"  # a table, and the type of its first key
    rb"|([78]\n1|6)\n\d{1,9}\n\x1bL"  # a function: bytecode of Lua or of LuaJIT
)
_CLASS = re.compile(rb"V -?\d|[\w.:-]{2}")
_BYTECODE = b"\x1bL"


def _sniff(head: Head) -> bool:
    return _order(head) is not None or _ASCII.match(head.first) is not None


def _order(head: Head) -> str | None:
    """The byte order of a binary file, or None if it is none."""
    first = head.first
    for order in ("little", "big"):
        kind, index, count, more = (int.from_bytes(first[at : at + 4], order, signed=True) for at in (0, 4, 8, 12))
        if kind == FUNCTION and first[8:10] == _BYTECODE and 0 < index <= head.size:
            return order
        if index != 1 or len(first) < 12 or not 0 <= count <= head.size:
            continue
        if kind == TABLE and (1 <= more <= RECURSIVE if count else head.size == 12):
            return order
        if kind == TORCH and count and _CLASS.match(first, 12):
            return order
        if kind in (OLD_RECURSIVE, RECURSIVE) and first[12:14] == _BYTECODE:
            return order
    return None


def _read(source: Source, request: Request) -> Checkpoint:
    order = _order(Head(source.read(0, min(16, source.size)), b"", source.size))
    if order is None:
        encoding: Encoding = AsciiEncoding(source, is_cut=request.is_cut)
        stream = read_stream(encoding, request.limits, is_cut=request.is_cut)
    else:
        encoding, stream = _binary(source, order, request)
    if stream.end < source.size and not stream.is_cut:
        raise AmbiguousError(
            "there are bytes after the end of the object; other readers may read those instead",
            where=f"{shown(source.name)}, byte {stream.end:,}",
            found=f"{source.size - stream.end:,} bytes",
        )
    names = sorted({record.path for record in stream.records if record.path != "lua.function"})
    tree = tree_of(stream)
    return Checkpoint(
        source,
        format="torch7",
        tree=tree,
        attributes={},
        facts={
            "writer": "torch.save",
            "encoding": "ascii" if order is None else "binary",
            "byteorder": order or "little",
            "long": encoding.long,
            "saved_on": tuple(sorted({storage.location for storage in stream.storages})),
            "classes": tuple(names),
            "code": tuple(f"Lua bytecode, {length:,} bytes from byte {at:,}" for at, length in stream.code),
        },
    )


def _binary(source: Source, order: str, request: Request) -> tuple[Encoding, Stream]:
    """The stream with longs of whichever width makes sense of it."""
    wide = _tried(source, order, 8, request)
    if isinstance(wide[1], Stream) and not wide[1].has_longs:
        return wide[0], wide[1]
    narrow = _tried(source, order, 4, request)
    makes_sense = [
        (encoding, stream)
        for encoding, stream in (wide, narrow)
        if isinstance(stream, Stream) and stream.end == source.size and not stream.is_cut
    ]
    if len(makes_sense) == 1:
        return makes_sense[0]
    if makes_sense:
        raise AmbiguousError(
            "this file can be read with longs of 4 bytes and with longs of 8, and gives different values",
            where=shown(source.name),
        )
    for encoding, stream in (wide, narrow):
        if isinstance(stream, Stream) and stream.is_cut:
            return encoding, stream
    # Whatever is wrong with it, the width with which reading got further is the right one.
    encoding, found = max(wide, narrow, key=lambda tried: tried[0].at)
    if isinstance(found, Stream):
        return encoding, found
    raise _in_file(found, source)


def _tried(source: Source, order: str, long: int, request: Request) -> tuple[Encoding, Stream | RehydrateError]:
    encoding = BinaryEncoding(source, order, long, is_cut=request.is_cut)
    try:
        return encoding, read_stream(encoding, request.limits, is_cut=request.is_cut)
    except (CorruptError, TruncatedError, LimitError) as error:
        return encoding, error.with_traceback(None)  # its frames would hold what holds it


def _in_file(error: RehydrateError, source: Source) -> RehydrateError:
    if error.where.startswith("byte "):
        error.where = f"{shown(source.name)}, {error.where}"
    return error


TORCH7 = Format("torch7", _sniff, _read)
"""The format's row in `opening.FORMATS`."""
