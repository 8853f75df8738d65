"""How a fuzzer makes one input from another, where bytes alone would not get far.

Opcodes of a pickle are spliced as well as flipped. An archive is changed in one of its members, or in how its members
are called, packed and ordered, and put together again with checksums that are true; now and then it is left to the
fuzzer, which lies. A tar header's checksum is made true again.
"""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Callable, Mapping

from ..hostile.archives import Entry, zip_of
from ..pickles.programs import mutated

__all__ = ["CHANGES", "Change"]

Change = Callable[[bytes, int, int, Callable[[bytes, int], bytes]], bytes]
"""An input, how long one may be, a seed, and the fuzzer's own way to change bytes → another input."""

BLOCK = 512


def of_bytes(data: bytes, most: int, seed: int, change: Callable[[bytes, int], bytes]) -> bytes:
    """As the fuzzer does it by itself."""
    return change(data, most)


def of_opcodes(data: bytes, most: int, seed: int, change: Callable[[bytes, int], bytes]) -> bytes:
    """Every other time by opcodes."""
    return change(data, most) if seed % 2 else mutated(data, seed, 1 + seed % 5)[:most]


def of_members(data: bytes, most: int, seed: int, change: Callable[[bytes, int], bytes]) -> bytes:
    """Three times of four an archive with true checksums."""
    if seed % 4 == 0:
        return change(data, most)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [
                Entry(entry.filename.encode(), archive.read(entry), method=min(entry.compress_type, 8))
                for entry in archive.infolist()[:50]
            ]
    except Exception:  # noqa: BLE001 - whatever another reader says of a file that the fuzzer made
        return change(data, most)
    if not entries:
        return change(data, most)
    rng = random.Random(seed)
    at = rng.randrange(len(entries))
    entries[at : at + 1] = _changed(entries[at], entries, rng, change)
    made = zip_of(*entries)
    return made if len(made) <= most else change(data, most)


def _changed(
    entry: Entry, entries: list[Entry], rng: random.Random, change: Callable[[bytes, int], bytes]
) -> list[Entry]:
    name, data, method = entry.name, entry.data, entry.method
    match rng.randrange(8):
        case 0:
            return []
        case 1:
            name = change(name, 60)
        case 2:
            method = rng.choice((0, 8))
        case 3:
            data = rng.choice(entries).data
        case 4:
            return [entry, Entry(change(name, 60), data, method=method)]
        case 5 | 6 if data:
            data = mutated(data, rng.randrange(1 << 60), 1)
        case _:
            data = change(data, len(data) + 60)
    return [Entry(name, data, method=method)]


def of_headers(data: bytes, most: int, seed: int, change: Callable[[bytes, int], bytes]) -> bytes:
    """A tar whose headers have checksums that are true, three times of four."""
    made = bytearray(change(data, most))
    for at in range(0, len(made) - BLOCK + 1, BLOCK) if seed % 4 else ():
        header = made[at : at + BLOCK]
        if header[257:262] == b"ustar":
            header[148:156] = b" " * 8
            made[at + 148 : at + 156] = b"%06o\0 " % sum(header)
    return bytes(made)


CHANGES: Mapping[str, Change] = {
    "bytes": of_bytes,
    "opcodes": of_opcodes,
    "members": of_members,
    "headers": of_headers,
}
