"""A plain pickle: what `pickle.dump` writes, protocols 0 to 5.

    protocol 2 and later    80, the protocol, opcodes, 2e (STOP); nothing after it
    protocols 0 and 1       opcodes from the first byte to STOP, the last: no signature, so whatever begins and ends
                            like that is read, and prose that does shows itself at its second byte or third

Tensors inside one are whole: each carries a file of its own, see `tensor_bytes`. One exception is the `data.pkl` of a
torch zip that somebody unpacked: its persistent ids name storages that lay beside it, so that names and shapes are
there and the numbers are not.

Several pickles may follow each other in a file (`pickle.dump` was called again and again), and readers disagree which
of them counts: that is an error, until `member=` says which. Any other bytes after STOP are an error always.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.record import Record
from rehydrate.checkpoint.tensor import Storage, one_piece
from rehydrate.errors import (
    AmbiguousError,
    CorruptError,
    NoSuchTensorError,
    RebuildError,
    RehydrateError,
    TruncatedError,
)
from rehydrate.formats.contract import Format, Head, Request, head_of
from rehydrate.formats.facts import facts_of, trace_of
from rehydrate.formats.impostors.recognising import no_checkpoint
from rehydrate.formats.pickle_inside import check_nothing_after
from rehydrate.formats.tensor_bytes import TensorBytes
from rehydrate.limits import Limits
from rehydrate.pickles.known import read_known_pickle
from rehydrate.pickles.reading import Reading
from rehydrate.pickles.torch_names import NUMBERS_END, storage_dtype
from rehydrate.storage.source import Source
from rehydrate.text import counted, shown

__all__ = ["PLAIN_PICKLE", "looks_like_pickle", "not_a_pickle"]

_PROTO = b"\x80"
_PUSHES = b"(]})NIFLSUVTXGJKMcP"
"""What a pickle of protocol 0 or 1 may begin with."""
_MOST = 1000
"""Pickles in one file."""


def looks_like_pickle(head: Head) -> bool:
    """Whether a file may be a pickle; see `Format.sniff`."""
    first, last = head.first, head.last
    if first.startswith(_PROTO):
        return len(first) > 1 and first[1] <= 5
    return first[:1] in _PUSHES and last.endswith(b".")


def _read(source: Source, request: Request) -> Checkpoint:
    data = source.read(0, source.size)
    inside, elsewhere = TensorBytes(request), _Elsewhere(source)
    try:
        reading = read_known_pickle(data, persistent=elsewhere, limits=request.limits, more=inside.names)
    except (CorruptError, TruncatedError) as error:
        raise not_a_pickle(source, data, error) from error
    more: dict[str, object] = {}
    if reading.end != source.size or request.member is not None:
        readings = [reading, *_others(data, reading, request.limits, inside)]
        reading, more["member"] = _chosen(readings, source, request.member)
    if elsewhere.made:
        more["writer"] = "torch.save: the data.pkl of a zip, without the numbers that lay beside it"
        inside.saved_on.update(storage.location for storage in elsewhere.made.values())
    if inside.saved_on:
        more["saved_on"] = tuple(sorted(inside.saved_on))
    return Checkpoint(
        source,
        format="pickle",
        tree=reading.value,
        attributes=reading.attributes,
        facts=facts_of(reading, **more),
        kept=reading.kept,
        traces=(trace_of(reading), *inside.traces),
    )


def not_a_pickle(source: Source, data: bytes, error: RehydrateError) -> RehydrateError:
    """What is wrong with a file that only looked like a pickle; the error itself for one that says that it is one."""
    if data.startswith(_PROTO):
        return error
    return no_checkpoint(source, head_of(source), f"no pickle of protocol 0 or 1 either: {error.what}")


def _others(data: bytes, first: Reading, limits: Limits, inside: TensorBytes) -> Sequence[Reading]:
    """The pickles after the first, if there is nothing else; all of them share the work that one may make."""
    found: list[Reading] = []
    last = first
    while last.end < len(data):
        if len(found) > _MOST:
            return ()
        try:
            last = read_known_pickle(
                data, at=last.end, limits=replace(limits, work=last.work, work_per_byte=0), more=inside.names
            )
        except RehydrateError:
            return ()
        found.append(last)
    return found


def _chosen(readings: Sequence[Reading], source: Source, member: str | None) -> tuple[Reading, str]:
    first = readings[0]
    if len(readings) == 1:
        check_nothing_after(first, source.size, shown(source.name))
        raise NoSuchTensorError(
            f"there is no member {shown(member)!r}: this file is one pickle", where=shown(source.name)
        )
    if member is None:
        raise AmbiguousError(
            f"there are bytes after the end of the pickle: {len(readings):,} pickles, one after another",
            where=f"{shown(source.name)}, byte {first.end:,}",
            found=f"{source.size - first.end:,} bytes after the first",
            hint='choose one: member="0" is the first',
        )
    chosen: Mapping[str, Reading] = {str(at): reading for at, reading in enumerate(readings)}
    if member not in chosen:
        raise NoSuchTensorError(
            f"there is no member {shown(member)!r}",
            where=shown(source.name),
            found=f"{counted(len(readings), 'pickle')}, one after another",
            hint='member="0" is the first',
        )
    return chosen[member], member


class _Elsewhere:
    """Storages of a torch zip whose index lies here alone."""

    def __init__(self, source: Source) -> None:
        self.made: dict[str, Storage] = {}
        self._absent = _Absent(source.name)

    def __call__(self, token: object) -> object:
        """The storage of a persistent id; any other id stays a record."""
        if type(token) is tuple and len(token) == 5 and token[0] == "storage":
            _, kind, key, location, numel = token
            is_count = type(numel) is int and 0 <= numel < NUMBERS_END
            if type(key) is str and type(location) is str and is_count:
                return self._storage(kind, key, location, numel) or Record("", "persistent_id", (token,))
        return Record("", "persistent_id", (token,))

    def _storage(self, kind: object, key: str, location: str, numel: int) -> Storage | None:
        try:
            dtype = storage_dtype(kind)
        except KeyError:
            return None
        nbytes = numel * dtype.itemsize
        storage = self.made.get(key)
        if storage is None:
            storage = self.made[key] = Storage(key, dtype, nbytes, location, one_piece, (self._absent, 0, nbytes))
        elif storage.dtype is not dtype or storage.nbytes != nbytes:
            raise CorruptError("one storage is named with two types or lengths", where=f"storage {shown(key)}")
        return storage


class _Absent:
    """The source of bytes that are not there."""

    size = 0

    def __init__(self, name: str) -> None:
        self.name = name

    def read(self, start: int, length: int) -> bytes:
        """There is nothing to read."""
        raise RebuildError(
            "the numbers of this tensor are not in this file: it is the data.pkl of a torch zip, by itself",
            where=shown(self.name),
            hint="they were in data/ beside it; pack both again, uncompressed: cd .. && zip -0 -r packed.pth FOLDER",
        )

    def fill(self, jobs: Sequence[tuple[int, memoryview]]) -> None:
        """There is nothing to read."""
        self.read(0, 0)

    def close(self) -> None:
        """There is nothing to give back."""


PLAIN_PICKLE = Format("pickle", looks_like_pickle, _read)
"""The format's row in `opening.FORMATS`."""
