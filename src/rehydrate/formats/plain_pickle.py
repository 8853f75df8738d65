"""A plain pickle: what `pickle.dump` writes, protocols 0 to 5.

    protocol 2 and later    80, the protocol, opcodes, 2e (STOP); nothing after it
    protocols 0 and 1       opcodes from the first byte: no signature, so a few first bytes that only a pickle has

Tensors inside one are whole (each carries a container of its own) and stay records here. Nothing but one pickle may
be in the file: bytes after STOP are read by some readers and not by others, and that is an error.
"""

from __future__ import annotations

import re

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.errors import AmbiguousError
from rehydrate.formats.contract import Format, Head
from rehydrate.formats.facts import facts_of
from rehydrate.limits import Limits
from rehydrate.pickles.known import read_known_pickle
from rehydrate.storage.source import Source
from rehydrate.text import shown

__all__ = ["PLAIN_PICKLE"]

_OLD = re.compile(
    rb"[(\]})NIFLSUVTXGJKM\x88\x89cP].*?\.$"  # begins with an opcode that pushes, ends with STOP
    , re.DOTALL,
)  # fmt: skip
_WORDS = re.compile(rb"[A-Za-z][a-z]+[ ,:=]")
"""Prose and source code may begin and end like a protocol 0 pickle; this is how they go on."""


def _sniff(head: Head) -> bool:
    first, last = head.first, head.last
    if first[:1] == b"\x80":
        return len(first) > 1 and first[1] <= 5
    return bool(first and last.endswith(b".") and _OLD.match(first[:1] + b".") and not _WORDS.match(first))


def _read(source: Source, limits: Limits) -> Checkpoint:
    reading = read_known_pickle(source.read(0, source.size), limits=limits)
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
    )


PLAIN_PICKLE = Format("pickle", _sniff, _read)
"""The format's row in `opening.FORMATS`."""
