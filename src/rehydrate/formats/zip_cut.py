"""Zip archives without their end: the directory, which stands there, put together again from the members' own headers.

    50 4b 03 04 …       a member's own header, see `zip_directory`; its data follows
    flag 8              sizes are zeros there, and stand in a descriptor after the data; torch writes all members so
    50 4b 07 08 …       that descriptor: crc, packed size, size, of 4 or 8 bytes each

A member is whole where its data is followed by what must follow it: a descriptor that says just this length, or, where
the header has the sizes, enough bytes. The first one that is not is where the file was cut. What would have come then
has no place; of torch's storages the pickle still says how long they would have been.

A download that reserved its space, or a crash after the file was made long enough, leaves zeros instead of an end:
such a tail counts as missing. Only for those who ask for what is left of a file; opening never repairs anything.
"""

from __future__ import annotations

import struct

from rehydrate.errors import LimitError, TruncatedError
from rehydrate.formats.zip_directory import DESCRIPTOR, DESCRIPTOR64, LOCAL, STREAMED, Member, ZipDirectory, name_of
from rehydrate.limits import Limits
from rehydrate.storage.source import Source
from rehydrate.storage.views import PartSource
from rehydrate.text import counted, shown

__all__ = ["CutZipDirectory"]

_UNSET = 0xFFFFFFFF
_CHUNK = 8 << 20
"""Bytes that are read at once when a descriptor is looked for."""
_ZEROS = 512
"""Zeros at the end from which on they are taken for a hole: a sector of a disk."""


class CutZipDirectory(ZipDirectory):
    """The members that are whole, by name; and where one begins that is not.

    Raises `TruncatedError` where there is no whole member at all.
    """

    def __init__(self, source: Source, limits: Limits) -> None:
        self.source = _without_zeros(source)
        self.limits = limits
        self._window = (0, b"")
        self.members: dict[str, Member] = {}
        self._begun: dict[str, int] = {}
        self._looked_at: tuple[int, bytes] = (0, b"")
        at: int | None = 0
        while at is not None:
            at = self._member_at(at)
            if len(self.members) > limits.members:
                raise LimitError("the archive has too many entries", found=f"{len(self.members):,}")
        if not self.members:
            raise TruncatedError(
                "the zip archive is cut inside its first entry; nothing of it can be used",
                where=shown(source.name),
                found=counted(self.source.size, "byte"),
                hint="download it again",
            )

    def lost(self, name: str, nbytes: int) -> Member:
        """What a stored member would be that is not whole, or not there at all."""
        at = self._begun.setdefault(name, self.source.size)
        return Member(name, at, at + nbytes, nbytes, nbytes, 0, 0, b"")

    def start_of(self, member: Member) -> int:
        """Where the data of a member begins, or would have begun."""
        return self._begun[member.name] if member.name in self._begun else super().start_of(member)

    def _member_at(self, at: int) -> int | None:
        """Take the member whose header begins at `at`; gives where the next one begins, None for no next."""
        room = self.source.size - at
        if room < LOCAL.size:
            return None
        signature, flags, method, crc, packed, size, name_length, extra_length = LOCAL.unpack(
            self.source.read(at, LOCAL.size)
        )
        start = at + LOCAL.size + name_length + extra_length
        if signature != b"PK\3\4" or start > self.source.size:
            return None
        raw = self.source.read(at + LOCAL.size, name_length)
        name = name_of(raw)
        extra = self.source.read(at + LOCAL.size + name_length, extra_length)
        if flags & STREAMED:
            found = self._descriptor_after(start)
        else:
            found = _sizes(extra, crc, packed, size, start)
            if found is not None and found[3] > self.source.size:
                found = None
        if found is None or name in self.members:
            self._begun.setdefault(name, start)
            return None
        crc, packed, size, end = found
        self.members[name] = Member(name, at, end, size, packed, method, crc, raw)
        return end

    def _descriptor_after(self, start: int) -> tuple[int, int, int, int] | None:
        """The descriptor that says just how far it is from `start`: checksum, sizes, and where the next member is."""
        if self._is_empty(start):
            return 0, 0, 0, start
        at = start
        while at + DESCRIPTOR.size <= self.source.size:
            found = self._find(b"PK\7\x08", at)
            if found is None or found + DESCRIPTOR.size > self.source.size:
                return None
            length = min(DESCRIPTOR64.size, self.source.size - found)
            record = self.source.read(found, length)
            _, crc, packed, size = DESCRIPTOR.unpack_from(record)
            end = found + DESCRIPTOR.size
            if length == DESCRIPTOR64.size and packed != found - start:
                _, crc, packed, size = DESCRIPTOR64.unpack(record)
                end = found + length
            if packed == found - start:
                return crc, packed, size, end
            at = found + 1
        return None

    def _is_empty(self, start: int) -> bool:
        """Whether the next member, or the directory, begins at once: members without data have no descriptor."""
        return start + 4 <= self.source.size and self.source.read(start, 4) in (b"PK\3\4", b"PK\1\2")

    def _find(self, signature: bytes, at: int) -> int | None:
        """The first place from `at` on where these bytes are; each chunk of the file is read once."""
        begin, chunk = self._looked_at
        while True:
            if not begin <= at < begin + len(chunk) - len(signature) + 1:
                if at + len(signature) > self.source.size:
                    return None
                begin, chunk = at, self.source.read(at, min(_CHUNK, self.source.size - at))
                self._looked_at = begin, chunk
            found = chunk.find(signature, at - begin)
            if found >= 0:
                return begin + found
            at = begin + len(chunk) - len(signature) + 1


def _sizes(extra: bytes, crc: int, packed: int, size: int, start: int) -> tuple[int, int, int, int] | None:
    """What a header says of its data, the zip64 field included, and where that ends."""
    at = 0
    while _UNSET in (packed, size) and at + 20 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1 and length >= 16:
            size, packed = struct.unpack_from("<QQ", extra, at + 4)
            break
        at += 4 + length
    return None if _UNSET in (packed, size) else (crc, packed, size, start + packed)


def _without_zeros(source: Source) -> Source:
    """The source up to the zeros at its end, where there are so many that they are a hole in the file."""
    end = source.size
    while end:
        length = min(_CHUNK, end)
        chunk = source.read(end - length, length)
        kept = len(chunk.rstrip(b"\0"))
        end -= length - kept
        if kept:
            break
    return PartSource(source, 0, end, source.name) if source.size - end >= _ZEROS else source
