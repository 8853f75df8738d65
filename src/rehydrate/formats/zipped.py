"""Zip archives: one container, many formats. The names of the members say which.

    NAME/data.pkl                  `torch_zip`

The first kind in `KINDS` that knows the names reads the archive; a special case stands before what it is a case of.
"""

from __future__ import annotations

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.errors import NotACheckpointError
from rehydrate.formats.contract import Format, Head, Request
from rehydrate.formats.torch_zip import TORCH_ZIP
from rehydrate.formats.zip_directory import ZipDirectory
from rehydrate.formats.zip_kind import ZipKind
from rehydrate.storage.source import Source
from rehydrate.text import counted, listed, shown

__all__ = ["KINDS", "ZIPPED"]

KINDS: tuple[ZipKind, ...] = (TORCH_ZIP,)
"""In the order in which they are asked."""


def _sniff(head: Head) -> bool:
    return head.first[:4] == b"PK\3\4"


def _read(source: Source, request: Request) -> Checkpoint:
    directory = ZipDirectory(source, request.limits)
    for kind in KINDS:
        if kind.knows(directory):
            return kind.read(directory, request)
    names = directory.members
    raise NotACheckpointError(
        "this is a zip archive, but not one that torch.save wrote",
        where=shown(source.name),
        found=f"{counted(len(names), 'entry') if len(names) == 1 else f'{len(names):,} entries'}: "
        + listed([shown(name) for name in names], 4),
        hint="if it contains a checkpoint, unzip it and open that",
    )


ZIPPED = Format("zip", _sniff, _read)
"""The row of all of them in `opening.FORMATS`."""
