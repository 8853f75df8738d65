"""A plain pickle: what `pickle.dump` writes, protocols 0 to 5.

    protocol 2 and later    80, the protocol, opcodes, 2e (STOP); nothing after it
    protocols 0 and 1       opcodes from the first byte to STOP, the last: no signature, so whatever begins and ends
                            like that is read, and prose that does shows itself at its second byte or third

Tensors inside one are whole (each carries a container of its own) and stay records here. Nothing but one pickle may
be in the file: bytes after STOP are read by some readers and not by others, and that is an error.
"""

from __future__ import annotations

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.errors import AmbiguousError, CorruptError, NotACheckpointError, TruncatedError
from rehydrate.formats.contract import Format, Head, Request
from rehydrate.formats.facts import facts_of, trace_of
from rehydrate.pickles.known import read_known_pickle
from rehydrate.storage.source import Source
from rehydrate.text import shown

__all__ = ["PLAIN_PICKLE"]

_PROTO = b"\x80"
_PUSHES = b"(]})NIFLSUVTXGJKMcP"
"""What a pickle of protocol 0 or 1 may begin with."""


def _sniff(head: Head) -> bool:
    first, last = head.first, head.last
    if first.startswith(_PROTO):
        return len(first) > 1 and first[1] <= 5
    return first[:1] in _PUSHES and last.endswith(b".")


def _read(source: Source, request: Request) -> Checkpoint:
    data = source.read(0, source.size)
    try:
        reading = read_known_pickle(data, limits=request.limits)
    except (CorruptError, TruncatedError) as error:
        if data.startswith(_PROTO):
            raise
        raise NotACheckpointError(
            "this is no checkpoint that rehydrate knows (invalid magic number)",
            where=shown(source.name),
            found=f"{source.size:,} bytes that are no pickle of protocol 0 or 1 either: {error.what}",
        ) from error
    if reading.end != source.size:
        raise AmbiguousError(
            "there are bytes after the end of the pickle; other readers may read those instead",
            where=f"{shown(source.name)}, byte {reading.end:,}",
            found=f"{source.size - reading.end:,} bytes",
        )
    return Checkpoint(
        source,
        format="pickle",
        tree=reading.value,
        attributes=reading.attributes,
        facts=facts_of(reading),
        kept=reading.kept,
        traces=(trace_of(reading),),
    )


PLAIN_PICKLE = Format("pickle", _sniff, _read)
"""The format's row in `opening.FORMATS`."""
