"""Tar archives: torch's first format is one, and many others merely contain a checkpoint.

    sys_info, pickle, tensors, storages     `torch_tar`
    anything else                           `contained`: the one member that is a checkpoint, of whatever format

A file that is an archive for one reader and a zip or a pickle for another is refused. The format itself is in
`tar_directory`.
"""

from __future__ import annotations

from functools import partial

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.errors import AmbiguousError, RehydrateError
from rehydrate.formats.contained import open_contained
from rehydrate.formats.contract import LAST, Format, Head, Request
from rehydrate.formats.pickle_inside import read_pickle_inside
from rehydrate.formats.tar_directory import TarDirectory, is_header
from rehydrate.formats.torch_tar import is_torch_tar, read_torch_tar
from rehydrate.limits import Limits
from rehydrate.storage.source import Source
from rehydrate.text import shown

__all__ = ["TAR"]


def _sniff(head: Head) -> bool:
    return is_header(head.first)


def _read(source: Source, request: Request) -> Checkpoint:
    directory = TarDirectory(source, request.limits, is_cut=request.is_cut)
    _check_polyglot(directory, request.limits)
    if is_torch_tar(directory):
        return read_torch_tar(directory, request)
    files = {name: partial(directory.source_of, member) for name, member in directory.members.items() if member.size}
    return open_contained("tar", files, source, request)


def _check_polyglot(directory: TarDirectory, limits: Limits) -> None:
    """Refuse an archive that other readers would take for a zip or a pickle."""
    source = directory.source
    what = ""
    first = source.read(0, 4)
    if first == b"PK\3\4" or _has_end_of_zip(directory):
        what = "a zip archive"
    elif first[:1] == b"\x80" or _is_pickle(source, limits):
        what = "a pickle"
    if what:
        raise AmbiguousError(f"this is a tar archive for some readers and {what} for others", where=shown(source.name))


def _has_end_of_zip(directory: TarDirectory) -> bool:
    """Whether the end record of a zip lies where its readers look, and in no member, where it is that member's."""
    source = directory.source
    start = max(source.size - LAST, 0)
    tail = source.read(start, source.size - start)
    at = tail.rfind(b"PK\5\6")
    return at >= 0 and not any(
        member.start <= start + at < member.start + member.size for member in directory.members.values()
    )


def _is_pickle(source: Source, limits: Limits) -> bool:
    """Whether the first member's name begins a pickle; that of `N.pth` is None, and nobody is misled by it."""
    try:
        reading = read_pickle_inside(source, 0, limits, window=1 << 20)
    except RehydrateError:
        return False
    return reading.value is not None or bool(reading.names)


TAR = Format("tar", _sniff, _read)
"""The format's row in `opening.FORMATS`."""
