"""A header-by-header assembler for tar archives, and for those that torch's first versions put their parts in.

This file does not import `tarfile`: it must be able to write what that never would.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .assembler import (
    appends,
    empty_list,
    global_,
    integer,
    long1,
    mark,
    none,
    persid_binary,
    pickle_of,
    tuple_of,
    unicode,
)

BLOCK = 512


@dataclass(frozen=True)
class Member:
    """One header and what follows it. What is None is what it honestly would be."""

    name: bytes
    data: bytes = b""
    kind: bytes = b"0"
    size: int | bytes | None = None
    """A number, or the twelve bytes of the field."""
    link: bytes = b""
    magic: bytes = b"ustar\x0000"
    prefix: bytes = b""
    checksum: bytes | None = None
    padding: bytes | None = None


def bytes_of(member: Member) -> bytes:
    size = len(member.data) if member.size is None else member.size
    field = size if isinstance(size, bytes) else b"%011o\0" % size
    front = member.name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + field + b"00000000000\0"
    back = member.kind + member.link.ljust(100, b"\0") + member.magic.ljust(8, b"\0") + bytes(80)
    back = (back + member.prefix.ljust(155, b"\0")).ljust(BLOCK - 156, b"\0")
    total = sum(front) + 8 * 32 + sum(back)
    checksum = b"%06o\0 " % total if member.checksum is None else member.checksum
    padding = bytes(-len(member.data) % BLOCK) if member.padding is None else member.padding
    return front + checksum + back + member.data + padding


def tar_of(*members: Member, end: bytes = bytes(2 * BLOCK), after: bytes = b"") -> bytes:
    """An archive; the end is filled up as tar fills it up."""
    whole = b"".join(map(bytes_of, members)) + end
    return (whole + bytes(-len(whole) % 10_240) if end else whole) + after


def record(key: bytes, value: bytes, *, length: int | None = None) -> bytes:
    """One record of a pax header, with its own length before it."""
    rest = b" " + key + b"=" + value + b"\n"
    size = len(rest) + len(str(len(rest) + len(str(len(rest)))))
    return b"%d" % (size if length is None else length) + rest


def said(*records: bytes, kind: bytes = b"x") -> Member:
    """A header that says more of the next member."""
    return Member(b"././@PaxHeader", b"".join(records), kind)


# torch's own.


def tar_storage(
    key: int = 1, content: bytes = bytes(16), *, kind: str = "FloatStorage", count: int | None = None, order: str = "<"
) -> bytes:
    described = pickle_of(tuple_of(long1(key), unicode("cpu"), global_("torch", kind)))
    return described + struct.pack(order + "q", len(content) // 4 if count is None else count) + content


def tar_tensor(
    key: int = 2,
    storage: int | None = 1,
    size: Sequence[int] = (4,),
    stride: Sequence[int] = (1,),
    *,
    offset: int = 0,
    dimensions: int | None = None,
    order: str = "<",
) -> bytes:
    owner = none if storage is None else long1(storage)
    described = pickle_of(tuple_of(long1(key), owner, global_("torch", "FloatTensor")))
    numbers = struct.pack(f"{order}{len(size) + len(stride) + 1}q", *size, *stride, offset)
    return described + struct.pack(order + "ii", len(size) if dimensions is None else dimensions, 7) + numbers


def views(*parts: tuple[int, int, int, int]) -> bytes:
    """The pickle of the storages that are parts of others."""
    return pickle_of(empty_list, mark, *(tuple_of(*map(long1, part)) for part in parts), appends)


def counted(*parts: bytes, number: int | None = None) -> bytes:
    """So many of something: a pickle of how many, and then each."""
    return pickle_of(integer(len(parts) if number is None else number)) + b"".join(parts)


def persistent(key: int | str) -> bytes:
    return unicode(str(key)) + persid_binary


def torch_members(changes: Mapping[str, bytes | None] | None = None) -> list[Member]:
    """The four members of a file that holds one tensor of four float32; a change of None leaves one out."""
    parts: dict[str, bytes | None] = {
        "sys_info": pickle_of(b"}" + unicode("little_endian") + b"\x88s"),
        "pickle": pickle_of(b"}" + unicode("w") + persistent(2) + b"s"),
        "tensors": counted(tar_tensor()),
        "storages": counted(tar_storage()) + views(),
    }
    parts.update(changes or {})
    return [Member(name.encode(), content) for name, content in parts.items() if content is not None]


def torch_tar(**changes: bytes | None) -> bytes:
    return tar_of(*torch_members(changes))
