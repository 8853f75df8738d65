"""The way in: from whatever a caller calls a file to an open Checkpoint.

The format is decided by content and never by a suffix. Where no format fits, the error says what the file looks like.
"""

from __future__ import annotations

import os
from dataclasses import replace
from shlex import quote

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.collector import collector_paused
from rehydrate.errors import NoSuchTensorError, NotACheckpointError
from rehydrate.formats.contract import Format, Request, head_of
from rehydrate.formats.folders import beside, read_folder
from rehydrate.formats.impostors import what_it_is
from rehydrate.formats.plain_pickle import PLAIN_PICKLE
from rehydrate.formats.zipped import ZIPPED
from rehydrate.limits import Limits
from rehydrate.storage.source import FileSource, Source, Where, open_source
from rehydrate.text import shown

__all__ = ["FORMATS", "open_checkpoint"]

FORMATS: tuple[Format, ...] = (ZIPPED, PLAIN_PICKLE)
"""In the order in which they are asked: a special case before what it is a case of."""


def open_checkpoint(
    where: Where | Checkpoint,
    *,
    member: str | None = None,
    limits: Limits | None = None,
    is_cut: bool = False,
) -> Checkpoint:
    """Open a checkpoint; see `rehydrate.open`. An open one is handed back as it is.

    `is_cut` opens what is left of a file that ends early; see `contract.Request`.
    """
    if isinstance(where, Checkpoint):
        return where
    request = Request(limits or Limits(), _opened, member, is_cut)
    if isinstance(where, (str, os.PathLike)) and os.path.isdir(where):
        with collector_paused():
            return read_folder(os.fspath(where), request)
    source = open_source(where)
    if isinstance(source, FileSource):
        request = replace(request, beside=beside(os.path.dirname(source.name)))
    with collector_paused():
        return _opened(source, request)


def _opened(source: Source, request: Request) -> Checkpoint:
    """Open a source, which is closed again if it cannot be."""
    try:
        checkpoint = _read(source, request)
        if request.member is not None and "member" not in checkpoint.facts:
            raise NoSuchTensorError(
                f"there is no member {shown(request.member)!r}: this file is one {checkpoint.format} and no archive",
                where=shown(source.name),
            )
    except BaseException:
        source.close()
        raise
    return checkpoint


def _read(source: Source, request: Request) -> Checkpoint:
    head = head_of(source)
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
            return format_.read(source, request)
    raise NotACheckpointError(
        "this is no checkpoint that rehydrate knows (invalid magic number)",
        where=shown(source.name),
        found=f"{source.size:,} bytes beginning with {head.first[:16].hex(' ')}",
    )
