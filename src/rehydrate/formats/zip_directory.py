"""The zip container, as far as checkpoints use it: a directory at the end, members stored as they are.

    member      local header 30 bytes: 50 4b 03 04, version, flags, method, time, date, crc, sizes, name length n,
                extra length m; then name (n), extra (m), data, perhaps a descriptor, and nothing before the next
    directory   46 bytes each: 50 4b 01 02, ..., flags @8, method @10, crc @16, sizes @20 @24, lengths of name, extra
                and comment @28 @30 @32, attributes @38, offset of the local header @42; then the three
    zip64       extra field 0001 holds 8-byte sizes and offset where the 4-byte ones are ff ff ff ff; an end record
                50 4b 06 06 and its locator 50 4b 06 07 stand before the end record when the directory needs them
    end         22 bytes: 50 4b 05 06, disks, entries @8 @10, directory size @12 and offset @16, comment length @20

Specification: PKWARE APPNOTE 6.3.10. Two zip readers can be shown two different archives by one file (a second end
record in a comment, entries that overlap, local names that differ), so everything that readers disagree about is an
error here. Local headers are read, and held against the directory, when a member is; opening reads the directory only.
Nothing is ever extracted or inflated to disk.
"""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from functools import cached_property, partial
from typing import NamedTuple

from rehydrate.checkpoint.trace import Checksum
from rehydrate.errors import AmbiguousError, CorruptError, LimitError, TruncatedError
from rehydrate.limits import Limits
from rehydrate.storage.source import Source
from rehydrate.text import shown

__all__ = ["DESCRIPTOR", "DESCRIPTOR64", "LOCAL", "STREAMED", "Member", "ZipDirectory", "name_of"]

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s4x2H4x3L4H6xL")
LOCAL = struct.Struct("<4s2x2H4x3L2H")
DESCRIPTOR = struct.Struct("<4s3L")
DESCRIPTOR64 = struct.Struct("<4sL2Q")
_HEADER, _DESCRIBED = LOCAL.size, DESCRIPTOR.size
_TAIL = _END.size + 0xFFFF
_UNREADABLE = 0x1 | 0x20 | 0x40 | 0x2000
"""Flags of an entry that is encrypted, or a patch of another: some readers go on all the same."""
STREAMED = 0x8
"""The flag of an entry whose descriptor (50 4b 07 08, crc, sizes) follows its data; torch writes all of them so."""
_STORED, _DEFLATED = 0, 8
_SMALL = 64 << 10
"""Bytes that any entry may unpack to."""
_WINDOW = 64 << 10
"""Bytes read at once when headers lie close together, as those of small tensors do; no more than a cache holds."""
_PIECE = 8 << 20
"""Bytes of a member that are read at once when its checksum is computed."""
_CLOSE = 8 << 10
"""Bytes of a member up to which its neighbour's header is close."""


class Member(NamedTuple):
    """One entry of the directory. A tuple: there is one for every tensor of a file."""

    name: str
    offset: int
    """Where its local header begins."""
    limit: int
    """Where the next member, or the directory, begins: its data must end before."""
    size: int
    packed: int
    method: int
    crc: int
    raw_name: bytes


class ZipDirectory:
    """The members of a zip file, by name.

    Raises `TruncatedError`, `CorruptError`, `AmbiguousError` or `LimitError` for a directory that is cut, broken, or
    that two readers would read differently.
    """

    def __init__(self, source: Source, limits: Limits) -> None:
        self.source = source
        self.limits = limits
        self._window: tuple[int, bytes] = (0, b"")
        at, length, count = self._find_directory()
        if count > limits.members:
            raise LimitError("the archive has too many entries", found=f"{count:,}")
        self.members = self._read_entries(source.read(at, length), at, count)

    def read(self, member: Member, most: int) -> bytes:
        """The bytes of a member, inflated if need be, its checksum compared."""
        if member.size > most:
            raise LimitError("an entry is too large", where=shown(member.name), found=f"{member.size:,} bytes")
        if member.size > _SMALL + self.limits.inflation * member.packed:
            raise LimitError(
                "an entry is a bomb: it unpacks to very much more than it is",
                where=shown(member.name),
                found=f"{member.packed:,} bytes for {member.size:,}",
            )
        packed = self.source.read(self.start_of(member), member.packed)
        data = packed if member.method == _STORED else _inflated(packed, member)
        if len(data) != member.size:
            raise CorruptError("an entry is not as long as it says", where=shown(member.name))
        if zlib.crc32(data) != member.crc and not self._lacks_checksums:
            raise CorruptError(
                "an entry does not match its checksum (bad CRC-32)",
                where=shown(member.name),
                hint="the file was damaged after it was written; download it again",
            )
        return data

    def checksums(self) -> Iterator[Checksum]:
        """What the writer says about the bytes of each member; nothing where it wrote no checksums."""
        if self._lacks_checksums:
            return
        for member in self.members.values():
            yield Checksum(member.name, "crc32", member.crc, partial(self.unpacked, member))

    def unpacked(self, member: Member, step: int = _PIECE) -> Iterator[bytes]:
        """The bytes of a member in pieces of at most `step` bytes, inflated if need be."""
        step = min(step, _PIECE)
        start = self.start_of(member)
        inflate = None if member.method == _STORED else zlib.decompressobj(-zlib.MAX_WBITS)
        for at in range(0, member.packed, step):
            piece = self.source.read(start + at, min(step, member.packed - at))
            while inflate is not None and piece:
                try:
                    yield inflate.decompress(piece, step)
                except zlib.error as error:
                    raise CorruptError("an entry cannot be inflated", where=shown(member.name)) from error
                piece = inflate.unconsumed_tail
            if inflate is None:
                yield piece

    @cached_property
    def _lacks_checksums(self) -> bool:
        """Whether the writer wrote none: torch can be told to, and then puts zero everywhere."""
        return not any(member.crc for member in self.members.values())

    def _find_directory(self) -> tuple[int, int, int]:
        """Where the directory begins, its length, and its number of entries."""
        source = self.source
        tail_at = max(source.size - _TAIL, 0)
        tail = source.read(tail_at, source.size - tail_at)
        ends = [at for at in _places(tail, b"PK\5\6") if _is_end(tail, at)]
        if not ends:
            raise TruncatedError(
                "the zip archive is cut: its directory is missing (failed finding central directory)",
                where=shown(source.name),
                found=f"{source.size:,} bytes",
                hint="download it again",
            )
        if len(ends) > 1 or tail.find(b"PK\5\6", ends[0] + _END.size) >= 0:  # readers look for the last one
            raise AmbiguousError("the zip archive has two end records; readers disagree which counts")
        _, disk, first_disk, here, count, length, at, _ = _END.unpack_from(tail, ends[0])
        end_at = tail_at + ends[0]
        if 0xFFFF in (count, here) or 0xFFFFFFFF in (length, at) or tail[ends[0] - 20 : ends[0] - 16] == b"PK\6\7":
            count, length, at, end_at = self._find_directory64(end_at, (count, length, at))
        elif disk or first_disk or here != count:
            raise CorruptError("the zip archive is one part of several")
        if at + length != end_at:
            raise AmbiguousError(
                "the zip archive's directory is not where it says; readers disagree where it is",
                found=f"{at + length:,} for {end_at:,}",
            )
        return at, length, count

    def _find_directory64(self, end_at: int, short: tuple[int, int, int]) -> tuple[int, int, int, int]:
        """The same from the zip64 records, and where they begin."""
        locator_at = end_at - _LOCATOR64.size
        if locator_at < 0:
            raise CorruptError("the zip64 locator is missing")
        signature, _, at64, disks = _LOCATOR64.unpack(self.source.read(locator_at, _LOCATOR64.size))
        if signature != b"PK\6\7" or disks > 1 or at64 + _END64.size > locator_at:
            raise CorruptError("the zip64 locator is broken")
        record = _END64.unpack(self.source.read(at64, _END64.size))
        signature, rest, _, _, disk, first_disk, here, count, length, at = record
        if signature != b"PK\6\6" or at64 + 12 + rest != locator_at or disk or first_disk or here != count:
            raise CorruptError("the zip64 end record is broken")
        for value, old, unset in zip((count, length, at), short, (0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF), strict=True):
            if old not in (unset, value):
                raise AmbiguousError("the zip archive's two end records disagree")
        return count, length, at, at64

    def _read_entries(self, directory: bytes, directory_at: int, count: int) -> dict[str, Member]:
        raw: list[_Raw] = []
        at, last = 0, len(directory) - _ENTRY.size
        unpack = _ENTRY.unpack_from
        for _ in range(count):
            if at > last:
                raise CorruptError("the zip directory has fewer entries than it says")
            (signature, flags, method, crc, packed, size, name_length, extra_length, comment_length, disk,
             offset) = unpack(directory, at)  # fmt: skip
            if signature != b"PK\1\2" or disk not in (0, 0xFFFF):
                raise CorruptError("the zip directory is broken", where=f"entry {len(raw):,}")
            begin = at + _ENTRY.size
            name = directory[begin : begin + name_length]
            at = begin + name_length + extra_length + comment_length
            if at > len(directory):
                raise CorruptError("the zip directory is cut")
            if size == 0xFFFFFFFF or packed == 0xFFFFFFFF or offset == 0xFFFFFFFF:
                extra = directory[begin + name_length : begin + name_length + extra_length]
                size, packed, offset = _widened(extra, size, packed, offset)
            if flags & _UNREADABLE:
                raise CorruptError("an entry is encrypted", where=shown(name_of(name)))
            if (method or size != packed) and method != _DEFLATED:
                raise CorruptError("an entry is packed in a way that torch never uses", where=shown(name_of(name)))
            raw.append((offset, name, size, packed, method, crc))
        if at != len(directory):
            raise AmbiguousError("the zip directory holds more than its entries")
        return _without_overlap(raw, directory_at)

    def lost(self, name: str, nbytes: int) -> Member | None:
        """What a member would be that the archive lacks; only one that was cut may lack any, see `zip_cut`."""
        return None

    def start_of(self, member: Member) -> int:
        """The first byte of a member's data, after a header of its own that says what the directory says."""
        name, offset, limit, size, packed, method, _, raw_name = member
        need = _HEADER + len(raw_name)
        begin, window = self._window  # the one that was read last: headers of small members lie close together
        at = offset - begin
        if not 0 <= at <= len(window) - need:
            at, window = 0, self._window_at(member, need)
        header: tuple[bytes, int, int, int, int, int, int, int] = LOCAL.unpack_from(window, at)
        signature, flags, own_method, _, own_packed, own_size, name_length, extra_length = header
        if signature != b"PK\3\4" or flags & _UNREADABLE or own_method != method:
            raise CorruptError("an entry's own header is broken", where=shown(name))
        if name_length != len(raw_name) or not window.startswith(raw_name, at + _HEADER):
            raise AmbiguousError(
                "an entry has one name in the directory and another in its own header; readers disagree",
                where=shown(name),
            )
        # A writer that streams leaves zeros, or ff for zip64, and says the sizes after the data.
        if not flags & STREAMED and (own_size not in (size, 0xFFFFFFFF) or own_packed not in (packed, 0xFFFFFFFF)):
            raise AmbiguousError("an entry's two headers disagree about its size", where=shown(name))
        start = offset + need + extra_length
        after = limit - start - packed
        if after != (_DESCRIBED if flags & STREAMED else 0):
            self._check_after(member, after, flags, (own_packed, own_size) == (packed, size))
        return start

    def _check_after(self, member: Member, after: int, flags: int, says_sizes: bool) -> None:
        """The bytes between a member's data and the next member, if they are not what they mostly are: what are they?

        None are right where the member's own header says its sizes; else they are a descriptor that does. Anything
        else means that the data may not begin where the header says: nothing but its own length tells that.
        """
        if after < 0:
            raise CorruptError("an entry reaches into the next", where=shown(member.name))
        if not after and says_sizes:
            return
        says = (b"PK\7\x08", member.crc, member.packed, member.size)
        # Descriptors with their signature only: without it, the bytes may as well be data.
        descriptors = [DESCRIPTOR64.pack(*says)]
        if max(member.packed, member.size) <= 0xFFFFFFFF:
            descriptors.append(DESCRIPTOR.pack(*says))
        read = self.source.read
        if not flags & STREAMED or after > DESCRIPTOR64.size or read(member.limit - after, after) not in descriptors:
            raise AmbiguousError("there are bytes after an entry that belong to none", where=shown(member.name))

    def _window_at(self, member: Member, need: int) -> bytes:
        """The next window: bytes from the beginning of a member, at least the first `need` of its local header."""
        wanted = _WINDOW if member.packed < _CLOSE else need
        window = self.source.read(member.offset, min(wanted, self.source.size - member.offset))
        if len(window) < need:
            raise TruncatedError("the file ends inside an entry's header", where=shown(member.name))
        self._window = (member.offset, window)
        return window


def _places(data: bytes, signature: bytes) -> list[int]:
    found: list[int] = []
    at = data.find(signature)
    while at >= 0:
        found.append(at)
        at = data.find(signature, at + 1)
    return found


def _is_end(tail: bytes, at: int) -> bool:
    """Whether an end record begins at `at`: its comment must end where the file does."""
    return at + _END.size <= len(tail) and at + _END.size + _END.unpack_from(tail, at)[-1] == len(tail)


def _widened(extra: bytes, size: int, packed: int, offset: int) -> tuple[int, int, int]:
    """The 8-byte values of the zip64 extra field, for those of the three that are ff ff ff ff."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1 and at + 4 + length <= len(extra):
            wide = iter(struct.unpack_from(f"<{length // 8}Q", extra, at + 4))
            values = tuple(next(wide, -1) if value == 0xFFFFFFFF else value for value in (size, packed, offset))
            if -1 not in values:
                return values[0], values[1], values[2]
        at += 4 + length
    raise CorruptError("an entry's zip64 sizes are missing")


_Raw = tuple[int, bytes, int, int, int, int]
"""Offset, name, size, packed size, method, checksum."""


def _without_overlap(raw: list[_Raw], directory_at: int) -> dict[str, Member]:
    """The members by name; each must lie before the next, and no two may have the same name."""
    raw.sort()
    if (raw[0][0] if raw else directory_at) != 0:
        raise AmbiguousError("there are bytes before the zip archive; another reader may read those")
    if b"\0" in b"\n".join([entry[1] for entry in raw]):
        raise AmbiguousError("an entry's name has a NUL in it; some readers stop there")
    new = tuple.__new__  # what `Member(…)` does, without the Python function around it: half of the time
    members: dict[str, Member] = {}
    limit = directory_at
    for offset, name, size, packed, method, crc in reversed(raw):
        if offset + _HEADER + len(name) + packed > limit:
            raise CorruptError("entries of the zip archive overlap", where=shown(name_of(name)))
        text = name.decode("utf-8", "surrogateescape")
        members[text] = new(Member, (text, offset, limit, size, packed, method, crc, name))
        limit = offset
    if len(members) != len(raw):
        twice = Counter(name_of(entry[1]) for entry in raw).most_common(1)[0][0]
        raise AmbiguousError(
            "two entries of the zip archive have the same name; readers disagree which counts",
            where=shown(twice),
        )
    return dict(reversed(members.items()))


def name_of(name: bytes) -> str:
    """A name, whatever its bytes: those that are no UTF-8 are kept, and no pickle can name them."""
    return name.decode("utf-8", "surrogateescape")


def _inflated(packed: bytes, member: Member) -> bytes:
    """A deflated member: never more than it says it has."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = inflater.decompress(packed, member.size + 1)
    except zlib.error as error:
        raise CorruptError("an entry cannot be inflated", where=shown(member.name)) from error
    return data
