"""A field-by-field assembler for zip files, and for those that torch puts its pickles in.

What is not said is what it honestly would be, and every field can be made to lie. This file does not import `zipfile`:
it must be able to write what that never would.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """One entry of an archive. What is None is what it honestly would be; local fields follow the central ones."""

    name: bytes
    data: bytes = b""
    method: int = 0
    packed: bytes | None = None
    """The bytes that are stored; deflated from `data` when None and the method is 8."""
    flags: int = 0
    crc: int | None = None
    size: int | None = None
    packed_size: int | None = None
    local_name: bytes | None = None
    local_flags: int | None = None
    local_method: int | None = None
    local_crc: int | None = None
    local_size: int | None = None
    local_packed_size: int | None = None
    local_extra: bytes = b""
    extra: bytes = b""
    comment: bytes = b""
    attributes: int = 0
    offset: int | None = None
    """What the directory says about where the local header is."""
    is_hidden: bool = False
    """Written, but not in the directory."""
    descriptor: bytes = b""
    """Bytes after the data."""


def _either(first: int | None, second: int) -> int:
    return second if first is None else first


def _packed(entry: Entry) -> bytes:
    if entry.packed is not None:
        return entry.packed
    if entry.method == 8:
        deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
        return deflater.compress(entry.data) + deflater.flush()
    return entry.data


def _headers(entry: Entry, at: int) -> tuple[bytes, bytes]:
    """The local header with its data, and the line of the directory."""
    packed = _packed(entry)
    crc = _either(entry.crc, zlib.crc32(entry.data))
    size, packed_size = _either(entry.size, len(entry.data)), _either(entry.packed_size, len(packed))
    local_name = entry.name if entry.local_name is None else entry.local_name
    local = struct.pack(
        "<4s5H3L2H",
        b"PK\3\4",
        20,
        _either(entry.local_flags, entry.flags),
        _either(entry.local_method, entry.method),
        0,
        0x21,
        _either(entry.local_crc, crc),
        _either(entry.local_packed_size, packed_size),
        _either(entry.local_size, size),
        len(local_name),
        len(entry.local_extra),
    )
    central = struct.pack(
        "<4s6H3L5H2L",
        b"PK\1\2",
        20,
        20,
        entry.flags,
        entry.method,
        0,
        0x21,
        crc,
        packed_size,
        size,
        len(entry.name),
        len(entry.extra),
        len(entry.comment),
        0,
        0,
        entry.attributes,
        _either(entry.offset, at),
    )
    return (
        local + local_name + entry.local_extra + packed + entry.descriptor,
        central + entry.name + entry.extra + entry.comment,
    )


def end_record(entries: int, length: int, at: int, *, comment: bytes = b"", claim: int | None = None) -> bytes:
    return (
        struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, entries, entries, length, at,
                    len(comment) if claim is None else claim)
        + comment
    )  # fmt: skip


def end_records64(entries: int, length: int, at: int, end_at: int, *, locator_at: int | None = None) -> bytes:
    """The zip64 end record, which begins at `end_at`, and its locator."""
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, entries, entries, length, at)
    return record + struct.pack("<4sLQL", b"PK\6\7", 0, _either(locator_at, end_at), 1)


def zip_of(
    *entries: Entry,
    before: bytes = b"",
    after: bytes = b"",
    comment: bytes = b"",
    count: int | None = None,
    length: int | None = None,
    at: int | None = None,
    middle: bytes = b"",
    has_zip64: bool = False,
    locator_at: int | None = None,
) -> bytes:
    """An archive; `count`, `length` and `at` are what the end record says of the directory.

    `before` stands before the first entry and is not counted in offsets; `middle` between directory and end record.
    """
    body, directory = b"", b""
    for entry in entries:
        local, central = _headers(entry, len(body))
        body += local
        directory += b"" if entry.is_hidden else central
    listed = sum(not entry.is_hidden for entry in entries)
    count, length = _either(count, listed), _either(length, len(directory))
    at = _either(at, len(body))
    end = body + directory + middle
    if has_zip64:
        end += end_records64(count, length, at, len(end), locator_at=locator_at)
        count, length, at = 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF
    return before + end + end_record(count, length, at, comment=comment) + after


def torch_zip(
    pickle: bytes,
    storages: dict[str, bytes] | None = None,
    *more: Entry,
    folder: bytes = b"archive/",
    order: bytes | None = b"little",
    data_pkl: Entry | None = None,
) -> bytes:
    """What torch.save writes, with `pickle` as its data.pkl; four float32 in data/0 unless told otherwise."""
    return zip_of(*torch_entries(pickle, storages, folder=folder, order=order, data_pkl=data_pkl), *more)


def torch_entries(
    pickle: bytes,
    storages: dict[str, bytes] | None = None,
    *,
    folder: bytes = b"archive/",
    order: bytes | None = b"little",
    data_pkl: Entry | None = None,
) -> list[Entry]:
    records = {"0": bytes(16)} if storages is None else storages
    return [
        data_pkl or Entry(folder + b"data.pkl", pickle),
        *([] if order is None else [Entry(folder + b"byteorder", order)]),
        *(Entry(folder + b"data/" + key.encode(), data) for key, data in records.items()),
        Entry(folder + b"version", b"3\n"),
    ]
