"""Bytes of storages → memory of our own, read in as few calls as they allow.

Storages that lie close together in a file are laid out in memory as they lie there, so that one read fills many;
large ones get a block each, on huge pages where the system has them. Memory is never a mapping of the file: a file
that changes or shrinks afterwards does not reach what was loaded.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from operator import attrgetter

from rehydrate.checkpoint.tensor import Piece, Storage
from rehydrate.placing.moving.pages import LARGE, allocate
from rehydrate.placing.moving.resident import check_unchanged
from rehydrate.storage.source import Source
from rehydrate.storage.views import origin

__all__ = ["Block", "read_storages"]

ALIGNMENT = 64
"""Where tensors begin: what torch's own allocator gives and vector instructions like."""
BLOCK = 8 << 20
"""Bytes of a block that small storages share."""
GAP = 4 << 10
"""Bytes between two storages that are read along rather than skipped: torch puts a header of about 100 there."""
_NEVER = 1 << 63
"""Where in a file a storage of several pieces ends: nothing is its neighbour."""


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Writable memory and the storages in it, each with its first byte."""

    memory: mmap.mmap | bytearray
    places: tuple[tuple[Storage, int], ...]


def read_storages(storages: Iterable[Storage]) -> Iterator[Block]:
    """Blocks that together hold each storage once. Storages without bytes in the file are left out.

    All reading happens before the first block is handed out, so an unreadable file shows before anything is built.
    """
    in_order = sorted((storage for storage in storages if storage.nbytes), key=attrgetter("order"))
    blocks: list[Block] = []
    swapped: set[Storage] = set()
    sources: set[Source] = set()
    # One thread reads what has been laid out while this one finds where the next storages are.
    with ThreadPoolExecutor(1) as reader:
        reads: list[Future[None]] = []
        for group in _groups(in_order):
            block, jobs = _lay_out(group)
            blocks.append(block)
            reads.extend(reader.submit(source.fill, wanted) for source, wanted in jobs)
            sources.update(origin(source, 0)[0] for source, _ in jobs)
            swapped.update(storage for pieces, storage in group if pieces[0].coding == "big-endian")
        for read in reads:
            read.result()
    check_unchanged(sources)  # somebody who saved over a file meanwhile: parts of both
    for block in blocks if swapped else ():
        _correct_byte_order(block, swapped)
    return iter(blocks)


_Found = tuple[tuple[Piece, ...], Storage]
_Job = tuple[Source, list[tuple[int, memoryview]]]
"""A source, what is to be read from it, and to where."""


def _groups(storages: Iterable[Storage]) -> Iterator[list[_Found]]:
    """Neighbours in one source that share a block; a large storage alone. Each is looked for when its turn comes."""
    waiting: dict[int, tuple[list[_Found], int]] = {}
    source: Source | None = None
    group: list[_Found] = []
    held = 0
    for storage in storages:
        pieces = storage.locate()
        nbytes = storage.nbytes
        if nbytes >= LARGE or not pieces:
            if pieces:
                _check_end(pieces)
                yield [(pieces, storage)]
            continue
        if source is not pieces[0].source:
            waiting[id(source)] = group, held
            source = pieces[0].source
            group, held = waiting.get(id(source), ([], 0))
        elif held + nbytes > BLOCK:
            yield group
            group, held = [], 0
        group.append((pieces, storage))
        held += nbytes + ALIGNMENT
    waiting[id(source)] = group, held
    yield from (group for group, _ in waiting.values() if group)


def _check_end(pieces: tuple[Piece, ...]) -> None:
    """Have what is missing said before memory is taken for it."""
    for source, start, length, _, _ in pieces:
        if start + length > source.size:
            source.read(start, length)


def _lay_out(group: list[_Found]) -> tuple[Block, list[_Job]]:
    """A block for the group and the reads that fill it; neighbours keep their distance where that aligns them."""
    places: list[tuple[Storage, int]] = []
    runs: list[list[int]] = []  # first byte in the file, in memory, and bytes
    apart: list[tuple[Piece, int]] = []
    end_in_file = end = 0
    for pieces, storage in group:
        _, start, length, _, _ = pieces[0]
        gap = start - end_in_file
        if runs and 0 <= gap <= GAP and (end + gap) % ALIGNMENT == 0:
            at = end + gap
            runs[-1][2] = at + length - runs[-1][1]
        else:
            at = -(-end // ALIGNMENT) * ALIGNMENT
            runs.append([start, at, length])
        places.append((storage, at))
        end_in_file, end = start + length, at + length
        if len(pieces) > 1:
            apart.extend((piece, at + piece.at) for piece in pieces[1:])
            end_in_file, end = _NEVER, at + storage.nbytes
    memory = allocate(end)
    view = memoryview(memory)
    jobs: list[_Job] = [(group[0][0][0].source, [(start, view[at : at + length]) for start, at, length in runs])]
    jobs.extend((piece.source, [(piece.start, view[at : at + piece.length])]) for piece, at in apart)
    return Block(memory, tuple(places)), jobs


def _correct_byte_order(block: Block, swapped: set[Storage]) -> None:
    for storage, at in block.places:
        if storage not in swapped:
            continue
        width = storage.dtype.itemsize // (2 if storage.dtype.kind == "complex" else 1)
        view = memoryview(block.memory)[at : at + storage.nbytes]
        for byte in range(width // 2):
            low, high = bytes(view[byte::width]), bytes(view[width - 1 - byte :: width])
            view[byte::width], view[width - 1 - byte :: width] = high, low
