"""What a file would have had others do, and what it promises about its bytes: what `audit` and `verify` ask about.

Records only. A format fills them while it reads; the questions are asked one floor up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from rehydrate.checkpoint.record import Record

__all__ = ["Call", "Checksum", "Trace"]


@dataclass(frozen=True, slots=True)
class Call:
    """A call that an unpickler would have made, of a name that is not plain data to us."""

    at: int
    """The byte of the pickle that says so."""
    record: Record
    """The function and its arguments, inert; in the tree or, where its result was thrown away, only here."""


@dataclass(frozen=True, slots=True)
class Trace:
    """What one pickle would have had an unpickler import and call."""

    where: str
    """The member of the file that the pickle is; empty where it is the file itself."""
    start: int
    """The byte of that member at which the pickle begins."""
    length: int
    protocol: int
    names: Mapping[tuple[str, str], int]
    """Every (module, name) that would have been imported, with the byte of the pickle where it first stands."""
    called: frozenset[tuple[str, str]]
    """Those that would have been called."""
    calls: tuple[Call, ...]
    """The calls that did not become plain data, in the file's order."""
    replaced: tuple[tuple[int, object], ...] = ()
    """States that were given to something and then replaced by another, with the byte of the pickle where they were."""


@dataclass(frozen=True, slots=True)
class Checksum:
    """What a writer says about some bytes."""

    name: str
    """The member, or the tensor, that it is about."""
    kind: str
    """`crc32`, `crc64`, `adler32`, `sha256`, …"""
    expected: int
    read: Callable[[], Iterable[bytes]]
    """The bytes that it is about, in pieces, as they were when it was computed."""
