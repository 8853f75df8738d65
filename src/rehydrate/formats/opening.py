"""The way in: from whatever a caller calls a file to an open Checkpoint.

The format is decided by content and never by a suffix. Where no format fits, the error says what the file looks like.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.collector import collector_paused
from rehydrate.errors import NoSuchTensorError
from rehydrate.formats.beside import beside
from rehydrate.formats.contract import Format, Request, head_of
from rehydrate.limits import Limits
from rehydrate.storage.source import FileSource, Source, Where, open_source
from rehydrate.text import shown

__all__ = ["FORMATS", "load_every_format", "open_checkpoint", "opened"]

_HOMES = {
    "TAR": "rehydrate.formats.tar_container",
    "DCP_PART": "rehydrate.formats.dcp_part",
    "ZIPPED": "rehydrate.formats.zipped",
    "GGUF": "rehydrate.formats.gguf.reading",
    "SAFETENSORS": "rehydrate.formats.safetensors",
    "SHARDS": "rehydrate.formats.shards",
    "NPY": "rehydrate.formats.npy",
    "HDF5": "rehydrate.formats.hdf5.reading",
    "TORCH7": "rehydrate.formats.torch7.reading",
    "COMPRESSED": "rehydrate.formats.compressed",
    "TORCH_LEGACY": "rehydrate.formats.torch_legacy",
    "DCP": "rehydrate.formats.dcp",
    "JOBLIB": "rehydrate.formats.joblib",
    "PLAIN_PICKLE": "rehydrate.formats.plain_pickle",
}
"""A format's row → the file that it stands in, which is loaded when a file may be one of its."""

FORMATS: tuple[tuple[str, re.Pattern[bytes]], ...] = tuple(
    (row, re.compile(first, re.DOTALL))
    for row, first in (
        ("TAR", rb".{148}[0-7 \0]{8}"),
        ("DCP_PART", rb"PK\x03\x04.{26}archive/data\.pkl"),
        ("ZIPPED", rb"PK\x03\x04"),
        ("GGUF", rb"GGUF"),
        ("SAFETENSORS", rb".{8}\{"),
        ("SHARDS", rb"\s*\{"),
        ("NPY", rb"\x93NUMPY"),
        ("HDF5", rb"(?:.{512}|.{1024}|.{2048})?\x89HDF"),
        ("TORCH7", rb"[\0-\x08]\0\0\0|\0\0\0[\0-\x08]|[34678]\n"),
        ("COMPRESSED", rb"\x1f\x8b|BZh|\xfd7zXZ|\x5d\0\0|\x78"),
        ("TORCH_LEGACY", rb"\x80.{1,11}\x8a\x0a|L\d{24}"),
        ("DCP", rb"\x80.{0,63}torch\.distributed\.checkpoint"),
        ("JOBLIB", rb"ZF0x|[\x80(\]})NIFLSUVTXGJKMcP]"),
        ("PLAIN_PICKLE", rb"[\x80(\]})NIFLSUVTXGJKMcP]"),
    )
)
"""In the order in which they are asked, with what their files begin with at least: a special case before what it is a
case of. The format itself looks closer."""


def load_every_format() -> None:
    """Load all that opening any file may need, so that opening one imports nothing, not even ours.

    The library does it once; the command line, which looks at one file and ends, does not.
    """
    from rehydrate.formats import folders, zip_cut, zipped
    from rehydrate.formats.impostors import recognising
    from rehydrate.pickles import standard_names

    for row in _HOMES:
        import_module(_HOMES[row])
    zipped.load_every_kind()
    _ = folders, recognising, zip_cut, standard_names


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
            return _read_folder(os.fspath(where), request)
    source = open_source(where)
    if isinstance(source, FileSource):
        request = replace(request, beside=beside(os.path.dirname(source.name)))
    with collector_paused():
        return _opened(source, request)


@contextmanager
def opened(where: Where | Checkpoint) -> Iterator[Checkpoint]:
    """The checkpoint for as long as a block lasts; one that the caller had opened stays open."""
    checkpoint = open_checkpoint(where)
    try:
        yield checkpoint
    finally:
        if checkpoint is not where:
            checkpoint.close()


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
    for row, first in FORMATS:
        if first.match(head.first):
            format_: Format = getattr(import_module(_HOMES[row]), row)
            if format_.sniff(head):
                return format_.read(source, request)
    from rehydrate.formats.impostors.recognising import no_checkpoint

    raise no_checkpoint(source, head)


def _read_folder(folder: str, request: Request) -> Checkpoint:
    from rehydrate.formats.folders import read_folder

    return read_folder(folder, request)
