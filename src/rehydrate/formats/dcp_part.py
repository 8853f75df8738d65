"""One `.distcp` file without its folder: torch zips in a row, as torch.distributed.checkpoint stores tensors.

Never read by itself: which tensor is which stands in the file `.metadata` beside it, see `dcp`.
"""

from __future__ import annotations

import struct

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.errors import AmbiguousError
from rehydrate.formats.contract import Format, Head, Request
from rehydrate.storage.source import Source
from rehydrate.text import shown

__all__ = ["DCP_PART"]

_BETWEEN = 76
"""Bytes of zip64 records, which may stand between the directory of a zip and its end record."""


def _sniff(head: Head) -> bool:
    """Whether these are several files of `torch.save` in a row: the last one does not reach to the first byte."""
    end = head.last.rfind(b"PK\5\6")
    if not head.first.startswith(b"PK\3\4") or head.first[30:46] != b"archive/data.pkl" or end < 0:
        return False
    length, at = struct.unpack_from("<2L", head.last[end:].ljust(20, b"\0"), 12)
    return end + 22 == len(head.last) and head.size - 22 - at - length > _BETWEEN


def _refuse(source: Source, request: Request) -> Checkpoint:
    raise AmbiguousError(
        "these are several files of torch.save, one after the other, as torch.distributed.checkpoint stores tensors",
        where=shown(source.name),
        hint="open the folder that it lies in: the file .metadata there says what is what",
    )


DCP_PART = Format("dcp", _sniff, _refuse)
"""One file of a checkpoint without the others; before zip in `opening.FORMATS`."""
