"""The way in: from whatever a caller calls a file to an open Checkpoint.

The format is decided by content and never by a suffix. Where no format fits, the error says what the file looks like.
"""

from __future__ import annotations

from shlex import quote

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.collector import collector_paused
from rehydrate.errors import NotACheckpointError
from rehydrate.formats.contract import Format, Head
from rehydrate.formats.impostors import what_it_is
from rehydrate.formats.plain_pickle import PLAIN_PICKLE
from rehydrate.formats.torch_zip import TORCH_ZIP
from rehydrate.limits import Limits
from rehydrate.storage.source import Source, Where, open_source
from rehydrate.text import shown

__all__ = ["FORMATS", "open_checkpoint"]

FORMATS: tuple[Format, ...] = (TORCH_ZIP, PLAIN_PICKLE)
"""In the order in which they are asked."""

_FIRST = 4096
_LAST = 66_000


def open_checkpoint(where: Where | Checkpoint, *, limits: Limits | None = None) -> Checkpoint:
    """Open a checkpoint; see `rehydrate.open`. An open one is handed back as it is."""
    if isinstance(where, Checkpoint):
        return where
    source = open_source(where)
    try:
        with collector_paused():
            return _read(source, limits or Limits())
    except BaseException:
        source.close()
        raise


def _read(source: Source, limits: Limits) -> Checkpoint:
    head = Head(
        source.read(0, min(_FIRST, source.size)),
        source.read(max(source.size - _LAST, 0), min(_LAST, source.size)),
        source.size,
    )
    impostor = what_it_is(head)
    if impostor is not None:
        raise NotACheckpointError(
            f"this is {impostor.what}",
            where=shown(source.name),
            found=impostor.found,
            hint=impostor.hint.replace("FILE", quote(source.name) if source.name.isprintable() else "FILE"),
        )
    for format_ in FORMATS:
        if format_.sniff(head):
            return format_.read(source, limits)
    raise NotACheckpointError(
        "this is no checkpoint that rehydrate knows (invalid magic number)",
        where=shown(source.name),
        found=f"{source.size:,} bytes beginning with {head.first[:16].hex(' ')}",
    )
