"""The tar container: which regular files are in it, and where their bytes lie. Nothing is ever extracted.

    header      512 bytes; then the member's bytes, filled up with zeros to a multiple of 512; then the next header
        0       name, to the first NUL        100     mode, owner and group, in octal digits
        124     size, 12 octal digits, or 80 and a binary number
        136     time                          148     checksum: the sum of all 512 bytes, these 8 as blanks
        156     kind                          157     the name that a link leads to
        257     "ustar" since POSIX           345     what stands before the name and a slash (POSIX only)
    end         two headers of zeros, and nothing but zeros after them

    kinds       0, NUL or 7  a regular file       5  a folder         1, 2  links         3, 4, 6  devices and pipes
                x  records that say more of the next member: "LENGTH KEY=VALUE\\n", LENGTH being that of the record
                g  the same for all that follow   L, K  the next member's long name, or long target, as GNU writes it
                S  a sparse file, D, M, N, V  other things of GNU's: not read

Tar readers disagree about nearly everything that is not plain, so what is not plain is refused: two members of one
name, a size beside a kind that has none, a size that is given twice, junk between members or after the end. A link is
never followed, a name never used as a path. Specification: POSIX.1-2018, pax; GNU tar's manual, "Basic Tar Format".
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rehydrate.errors import AmbiguousError, CorruptError, LimitError, NotACheckpointError, TruncatedError
from rehydrate.limits import Limits
from rehydrate.storage.source import Source
from rehydrate.storage.views import PartSource
from rehydrate.text import shown

__all__ = ["TarDirectory", "TarMember", "is_header"]

BLOCK = 512
_ZEROS = bytes(BLOCK)
_OCTAL = re.compile(rb"[ \0]*([0-7]*)[ \0]*")
_ANNOUNCE, _REGULAR, _FOLDER, _LINKS, _DEVICES = b"xgLK", b"0\x007", b"5", b"12", b"346"
_A_FILE, _A_FOLDER = "a file", "a folder"
_LONGEST = 1 << 20
"""Bytes of the records and long names before a member; paths have a few thousand."""
_PIECE = 1 << 20
"""Bytes that are read at once where only zeros may be."""


@dataclass(frozen=True, slots=True)
class TarMember:
    """A regular file in the archive."""

    name: str
    start: int
    """Its first byte in the source."""
    size: int


@dataclass(slots=True)
class _Said:
    """What headers before a member say of it."""

    path: str | None = None
    size: int | None = None
    is_anything: bool = False
    """Whether any header said anything, so that a member has to follow."""


class TarDirectory:
    """The regular files of an archive, by name; and what else is in it, by name and kind, which nobody reads."""

    def __init__(self, source: Source, limits: Limits, *, is_cut: bool = False) -> None:
        self.source = source
        self.members: dict[str, TarMember] = {}
        self.others: dict[str, str] = {}
        """Folders, links and devices: name → kind, in words."""
        self._limits = limits
        self._is_cut = is_cut
        self._said = _Said()
        """What was said of the member that comes next."""
        self._walk()

    def source_of(self, member: TarMember) -> Source:
        """A member as a file of its own."""
        length = min(member.size, max(self.source.size - member.start, 0)) if self._is_cut else member.size
        return PartSource(self.source, member.start, length, f"{self.source.name}: {member.name}")

    def _walk(self) -> None:
        at = 0
        for _ in range(self._limits.members):
            if self._is_cut and at + BLOCK > self.source.size:
                return
            if at + BLOCK > self.source.size:
                raise self._cut(at + 2 * BLOCK)
            header = self.source.read(at, BLOCK)
            if header == _ZEROS:
                self._check_end(at)
                return
            at = self._enter(header, at)
        raise LimitError("the archive has too many members", where=shown(self.source.name))

    def _enter(self, header: bytes, at: int) -> int:
        """Note the member of this header, and find the next header."""
        if not is_header(header):
            raise CorruptError("a tar header's checksum is wrong", where=self._where(at))
        kind, size = header[156:157], self._number(header[124:136], at)
        if kind in _ANNOUNCE:
            self._listen(kind, self._content(at, size), at)
            return self._after(at, size)
        if kind not in _REGULAR + _FOLDER + _LINKS + _DEVICES:
            raise NotACheckpointError(
                "this tar archive has a member of a kind that readers treat differently",
                where=self._where(at),
                found=f"kind {shown(kind.decode('latin-1'))!r}" + (", a sparse file" if kind == b"S" else ""),
                hint="unpack it with tar -xf, and open what comes out",
            )
        name, size = self._heard(_name(header), size, at)
        self._note(TarMember(name, at + BLOCK, size), _what(kind, name))
        return self._after(at, size)

    def _note(self, member: TarMember, what: str) -> None:
        """Put a member into one of the two tables; folders may be there again."""
        known = self.others.get(member.name)
        if member.name in self.members or (known is not None and (known, what) != (_A_FOLDER, _A_FOLDER)):
            raise AmbiguousError(
                "the archive has two members of one name; readers disagree which counts", found=shown(member.name)
            )
        if what == _A_FILE:
            self.members[member.name] = member
        elif member.size:
            raise AmbiguousError(
                "a member that is no file has bytes; readers disagree whose they are",
                where=self._where(member.start - BLOCK),
            )
        else:
            self.others[member.name] = what

    def _after(self, at: int, size: int) -> int:
        """Where the header after this one is; what fills the last block up must be zeros."""
        end = at + BLOCK + size
        following = -(-end // BLOCK) * BLOCK
        if following > self.source.size:
            if self._is_cut:
                return following
            raise self._cut(following + 2 * BLOCK)
        if self.source.read(end, following - end).strip(b"\0"):
            raise AmbiguousError("there are bytes between two members of the archive", where=self._where(end))
        return following

    def _content(self, at: int, size: int) -> bytes:
        """What a header that says something of the next one has to say."""
        if size > _LONGEST:
            raise LimitError("a tar header says too much", where=self._where(at), found=f"{size:,} bytes")
        if at + BLOCK + size > self.source.size:
            raise self._cut(at + BLOCK + size)
        return self.source.read(at + BLOCK, size)

    def _listen(self, kind: bytes, content: bytes, at: int) -> None:
        """Remember what is said of the next member, if it matters."""
        said = self._said
        if kind == b"g":
            if any(_matters(key) for key, _ in self._records(content, at)):
                raise AmbiguousError("a global header gives all members one name or size", where=self._where(at))
            return
        said.is_anything = True
        if kind == b"K":
            return
        if kind == b"L":
            self._say_path(content.split(b"\0", 1)[0], at)
            return
        for key, value in self._records(content, at):
            if key == b"path":
                self._say_path(value, at)
            elif key == b"size":
                if said.size is not None or not value.isdigit() or len(value) > 18:
                    raise CorruptError("a tar record gives no size, or two", where=self._where(at))
                said.size = int(value)
            elif _matters(key):
                raise NotACheckpointError(
                    "this tar archive has a sparse file",
                    where=self._where(at),
                    hint="unpack it with tar -xf, and open what comes out",
                )

    def _say_path(self, path: bytes, at: int) -> None:
        if self._said.path is not None or not path or b"\0" in path:
            raise CorruptError("a tar member is given no name, or two", where=self._where(at))
        self._said.path = path.decode("utf-8", "surrogateescape")

    def _records(self, content: bytes, at: int) -> list[tuple[bytes, bytes]]:
        """The records of a header of kind x or g."""
        records: list[tuple[bytes, bytes]] = []
        first = 0
        while first < len(content):
            digits = content[first : first + 8].partition(b" ")[0]
            end = first + int(digits) if digits.isdigit() else 0
            key, equals, value = content[first + len(digits) + 1 : end].partition(b"=")
            if not first < end <= len(content) or not equals or value[-1:] != b"\n":
                raise CorruptError("a tar record is broken", where=self._where(at + BLOCK + first))
            records.append((key, value[:-1]))
            first = end
        return records

    def _heard(self, name: str, size: int, at: int) -> tuple[str, int]:
        """Name and size of a member, with what was said before it; and forget that."""
        said, self._said = self._said, _Said()
        if said.size is not None:
            if size not in (0, said.size) or (size == 0 and said.size < 1 << 33):
                raise AmbiguousError(
                    "a member has two sizes; readers disagree which counts",
                    where=self._where(at),
                    found=f"{size:,} and {said.size:,} bytes",
                )
            size = said.size
        return said.path if said.path is not None else name, size

    def _number(self, field: bytes, at: int) -> int:
        """A size: octal digits, or a binary number that is not negative (a negative one would lead back, for ever)."""
        if field[0] == 0x80:
            return int.from_bytes(field[1:], "big")
        digits = _OCTAL.fullmatch(field)
        if digits is None:
            raise CorruptError(
                "a tar member's size is negative, or no number (CVE-2025-8194)",
                where=self._where(at),
                found=repr(field),
            )
        return int(digits[1] or b"0", 8)

    def _check_end(self, at: int) -> None:
        """After a header of zeros there is nothing, and at least one more such header."""
        if self._said.is_anything:
            raise CorruptError("the archive ends where a member was announced", where=self._where(at))
        if self.source.size < at + 2 * BLOCK and not self._is_cut:
            raise self._cut(at + 2 * BLOCK)
        for start in range(at, self.source.size, _PIECE):
            if self.source.read(start, min(_PIECE, self.source.size - start)).strip(b"\0"):
                raise AmbiguousError(
                    "there are bytes after the end of the archive; some readers would go on",
                    where=f"{shown(self.source.name)}, after byte {at:,}",
                )

    def _cut(self, expected: int) -> TruncatedError:
        return TruncatedError(
            "the archive ends early: its end is missing",
            where=shown(self.source.name),
            found=f"{self.source.size:,} of at least {expected:,} bytes",
            hint="download it again",
        )

    def _where(self, at: int) -> str:
        return f"{shown(self.source.name)}, byte {at:,}"


def is_header(block: bytes) -> bool:
    """Whether the checksum of a tar header is right; the first of any archive says that it is one."""
    if len(block) < BLOCK or block[:BLOCK] == _ZEROS:
        return False
    found = _OCTAL.fullmatch(block, 148, 156)
    total = sum(block[:148]) + 8 * ord(" ") + sum(block[156:BLOCK])
    return found is not None and bool(found[1]) and int(found[1], 8) == total


def _what(kind: bytes, name: str) -> str:
    """What a member is, in words. Before POSIX a folder was told by its slash."""
    if kind == _FOLDER or name.endswith("/"):
        return _A_FOLDER
    return "a link" if kind in _LINKS else "a device" if kind in _DEVICES else _A_FILE


def _name(header: bytes) -> str:
    name = header[:100].split(b"\0", 1)[0]
    prefix = header[345:500].split(b"\0", 1)[0]
    if header[257:263] == b"ustar\0" and prefix:
        name = prefix + b"/" + name
    return name.decode("utf-8", "surrogateescape")


def _matters(key: bytes) -> bool:
    """Whether a record changes which bytes are a member's, or what it is called."""
    return key in (b"path", b"size") or key.startswith(b"GNU.sparse.")
