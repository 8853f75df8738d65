"""Writing the zip container: members stored as they are, each beginning at a multiple of 64.

The layout is that of `zip_directory`. What aligns a member is an extra field `FB` of its local header, filled with Z,
as torch pads. Sizes and offsets of 4 GB and more, and more than 65,535 members, go into zip64 records.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from rehydrate.storage.atomic import Sink

__all__ = ["ZipWriter"]

ALIGNMENT = 64
_WIDE = 0xFFFFFFFF
_MANY = 0xFFFF
_UTF8 = 0x800


@dataclass(frozen=True, slots=True)
class _Written:
    name: bytes
    offset: int
    size: int
    crc: int


class ZipWriter:
    """Members, one after the other, into a sink; `finish` writes the directory."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._written: list[_Written] = []

    def add(self, name: str, parts: Sequence[bytes | memoryview]) -> None:
        """Write one member made of `parts`."""
        raw = name.encode("utf-8")
        size = sum(memoryview(part).nbytes for part in parts)
        crc = 0
        for part in parts:
            crc = zlib.crc32(part, crc)
        offset = self._sink.position
        wide = struct.pack("<HHQQ", 1, 16, size, size) if size >= _WIDE else b""
        shown_size = _WIDE if wide else size
        extra = wide + _padding(offset + 30 + len(raw) + len(wide))
        header = struct.pack(
            "<4s5H3L2H", b"PK\3\4", 45 if wide else 20, _UTF8, 0, 0, 0x21, crc, shown_size, shown_size, len(raw),
            len(extra),
        )  # fmt: skip
        self._sink.write(header + raw + extra)
        for part in parts:
            self._sink.write(part)
        self._written.append(_Written(raw, offset, size, crc))

    def finish(self) -> None:
        """Write the directory and the end records."""
        start = self._sink.position
        for member in self._written:
            self._sink.write(_entry(member))
        length = self._sink.position - start
        count = len(self._written)
        if count >= _MANY or start + length >= _WIDE:
            end64 = self._sink.position
            self._sink.write(
                struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, length, start)
                + struct.pack("<4sLQL", b"PK\6\7", 0, end64, 1)
            )
        self._sink.write(
            struct.pack(
                "<4s4H2LH", b"PK\5\6", 0, 0, min(count, _MANY), min(count, _MANY), min(length, _WIDE),
                min(start, _WIDE), 0,
            )
        )  # fmt: skip


def _padding(position: int) -> bytes:
    """An extra field that makes what comes after it begin at a multiple of 64."""
    length = -(position + 4) % ALIGNMENT
    return struct.pack("<2sH", b"FB", length) + b"Z" * length


def _entry(member: _Written) -> bytes:
    """One entry of the directory."""
    wide = [value for value in (member.size, member.size, member.offset) if value >= _WIDE]
    extra = struct.pack(f"<HH{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
    size = min(member.size, _WIDE)
    return (
        struct.pack(
            "<4s6H3L5H2L", b"PK\1\2", 45 if wide else 20, 45 if wide else 20, _UTF8, 0, 0, 0x21, member.crc, size,
            size, len(member.name), len(extra), 0, 0, 0, 0, min(member.offset, _WIDE),
        )
        + member.name
        + extra
    )  # fmt: skip
