"""Bytes of storages → memory of our own, read in as few calls as they allow.

Storages that lie close together in a file are laid out in memory as they lie there, so that one read fills many;
large ones get a block each, on huge pages where the system has them. Memory is never a mapping of the file: a file
that changes or shrinks afterwards does not reach what was loaded.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from operator import attrgetter

from rehydrate.checkpoint.tensor import Piece, Storage
from rehydrate.storage.source import Source

__all__ = ["Block", "read_storages"]

ALIGNMENT = 64
"""Where tensors begin: what torch's own allocator gives and vector instructions like."""
LARGE = 1 << 20
"""Bytes from which a storage has a block to itself. A block lives until the last tensor in it is gone."""
BLOCK = 8 << 20
"""Bytes of a block that small storages share."""
GAP = 4 << 10
"""Bytes between two storages that are read along rather than skipped: torch puts a header of about 100 there."""
HUGE_PAGES = 2 << 20
"""Bytes from which huge pages are asked for; on 4 kB pages, faults and not copying are what a load waits for."""


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Writable memory and the storages in it, each with its first byte."""

    memory: mmap.mmap | bytearray
    places: tuple[tuple[Storage, int], ...]


_Jobs = dict[int, tuple[Source, list[tuple[int, memoryview]]]]
"""By the `id` of a source: what is to be read from it, and to where."""


def read_storages(storages: Iterable[Storage]) -> Iterator[Block]:
    """Blocks that together hold each storage once. Storages without bytes in the file are left out.

    All reading happens before the first block is handed out, so an unreadable file shows before anything is built.
    """
    in_order = sorted((storage for storage in storages if storage.nbytes), key=attrgetter("order"))
    located = [(pieces, storage) for storage in in_order if (pieces := storage.locate())]
    placed = [(pieces[0], storage) for pieces, storage in located if len(pieces) == 1]
    placed.sort(key=lambda pair: pair[0].start)
    blocks: list[Block] = []
    jobs: _Jobs = {}
    for group in _groups(placed):
        block, reads = _lay_out(group)
        source = group[0][0].source
        jobs.setdefault(id(source), (source, []))[1].extend(reads)
        blocks.append(block)
    for pieces, storage in located:
        if len(pieces) > 1:
            blocks.append(_scattered(pieces, storage, jobs))
    for source, reads in jobs.values():
        source.fill(reads)
    swapped = {storage for pieces, storage in located if pieces[0].coding == "big-endian"}
    for block in blocks if swapped else ():
        _correct_byte_order(block, swapped)
    return iter(blocks)


def _scattered(pieces: tuple[Piece, ...], storage: Storage, jobs: _Jobs) -> Block:
    """A block for a storage whose bytes lie in several places."""
    memory = _allocate(storage.nbytes)
    view = memoryview(memory)
    for piece in pieces:
        _, reads = jobs.setdefault(id(piece.source), (piece.source, []))
        reads.append((piece.start, view[piece.at : piece.at + piece.length]))
    return Block(memory, ((storage, 0),))


def _groups(placed: list[tuple[Piece, Storage]]) -> Iterator[list[tuple[Piece, Storage]]]:
    """Neighbours that share a block; a large storage alone."""
    group: list[tuple[Piece, Storage]] = []
    held = 0
    for pair in placed:
        nbytes = pair[1].nbytes
        if nbytes >= LARGE:
            yield [pair]
            continue
        if held + nbytes > BLOCK or (group and group[0][0].source is not pair[0].source):
            yield group
            group, held = [], 0
        group.append(pair)
        held += nbytes + ALIGNMENT
    if group:
        yield group


def _lay_out(group: list[tuple[Piece, Storage]]) -> tuple[Block, list[tuple[int, memoryview]]]:
    """A block for the group and the reads that fill it; neighbours keep their distance where that aligns them."""
    places: list[tuple[Storage, int]] = []
    runs: list[list[int]] = []  # first byte in the file, in memory, and bytes
    end_in_file = end = 0
    for piece, storage in group:
        start = piece.start
        gap = start - end_in_file
        if runs and 0 <= gap <= GAP and (end + gap) % ALIGNMENT == 0:
            at = end + gap
            runs[-1][2] = at + storage.nbytes - runs[-1][1]
        else:
            at = -(-end // ALIGNMENT) * ALIGNMENT
            runs.append([start, at, storage.nbytes])
        places.append((storage, at))
        end_in_file, end = start + storage.nbytes, at + storage.nbytes
    memory = _allocate(end)
    view = memoryview(memory)
    reads = [(start, view[at : at + length]) for start, at, length in runs]
    return Block(memory, tuple(places)), reads


def _allocate(nbytes: int) -> mmap.mmap | bytearray:
    if nbytes < LARGE:
        return bytearray(nbytes)
    if not hasattr(mmap, "MAP_PRIVATE"):  # Windows
        return mmap.mmap(-1, nbytes)
    # Private: Python's default is shared, which a fork would share and huge pages leave out.
    memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if nbytes >= HUGE_PAGES and hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without them: the pages are just smaller
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def _correct_byte_order(block: Block, swapped: set[Storage]) -> None:
    for storage, at in block.places:
        if storage not in swapped:
            continue
        width = storage.dtype.itemsize // (2 if storage.dtype.kind == "complex" else 1)
        view = memoryview(block.memory)[at : at + storage.nbytes]
        for byte in range(width // 2):
            low, high = bytes(view[byte::width]), bytes(view[width - 1 - byte :: width])
            view[byte::width], view[width - 1 - byte :: width] = high, low
