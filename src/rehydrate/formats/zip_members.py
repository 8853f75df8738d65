"""The bytes of one member of a zip archive: as a piece of a tensor, or as a file to open.

A stored member is read where it lies. A deflated one that is a tensor is inflated each time it is read and then
forgotten; one that is a file of its own is inflated once, into memory, and never to disk.
"""

from __future__ import annotations

from functools import partial

from rehydrate.checkpoint.tensor import Piece
from rehydrate.errors import LimitError
from rehydrate.formats.zip_directory import Member, ZipDirectory
from rehydrate.limits import Limits
from rehydrate.storage.source import MemorySource, Source
from rehydrate.storage.views import ComputedSource, PartSource
from rehydrate.text import shown, size

__all__ = ["pieces_of", "source_of"]

_STEP = 64 << 10
"""Bytes that are inflated at once when only the beginning of a member is wanted."""


def pieces_of(directory: ZipDirectory, member: Member, coding: str = "raw") -> tuple[Piece, ...]:
    """Where the bytes of a storage lie that is a member."""
    if not member.method:
        return (Piece(directory.source, directory.start_of(member), member.size, 0, coding),)
    _check_total(directory, member)
    inflated = ComputedSource(member.size, partial(_part, directory, member), member.name)
    return (Piece(inflated, 0, member.size, 0, coding),)


def source_of(directory: ZipDirectory, member: Member, limits: Limits) -> Source:
    """A member as a file of its own."""
    if member.method == 0:
        return PartSource(directory.source, directory.start_of(member), member.size, member.name)
    _check_total(directory, member)
    return MemorySource(directory.read(member, limits.unpacked_bytes), member.name)


def _part(directory: ZipDirectory, member: Member, start: int, length: int) -> bytes:
    """Some inflated bytes of a member: a stream is unpacked from its beginning, and only what is wanted is kept."""
    kept: list[bytes] = []
    at = 0
    for piece in directory.unpacked(member, max(start + length, _STEP)):
        if at >= start + length:
            break
        kept.append(piece[max(start - at, 0) : start + length - at])
        at += len(piece)
    return b"".join(kept)


def _check_total(directory: ZipDirectory, member: Member) -> None:
    if member.size > directory.limits.unpacked_bytes:
        raise LimitError("an entry unpacks to too much", where=shown(member.name), found=size(member.size))
