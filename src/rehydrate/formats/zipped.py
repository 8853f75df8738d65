"""Zip archives: one container, many formats. The names of the members say which.

    NAME/archive_format, or serialized_exported_program.json   `torch_export`
    NAME/.data/extern_modules                                  `torch_package`
    NAME/model.json and a program                              `script_model_json`
    NAME/data.pkl and a program                                `torchscript`
    NAME/data.pkl                                              `torch_zip`
    NAME.npy, and nothing else                                 `npz`
    parts of one thing                                         `zip_parts`
    anything else                                              `zip_container`: the one file inside that is a checkpoint

The first kind in `KINDS` that knows the names reads the archive; a special case stands before what it is a case of.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.errors import TruncatedError
from rehydrate.formats.contract import Format, Head, Request
from rehydrate.formats.zip_directory import ZipDirectory
from rehydrate.formats.zip_kind import ZipKind
from rehydrate.storage.source import Source

__all__ = ["KINDS", "ZIPPED", "load_every_kind"]

_HOMES = {
    "TORCH_EXPORT": "rehydrate.formats.torch_export",
    "TORCH_PACKAGE": "rehydrate.formats.torch_package",
    "SCRIPT_MODEL_JSON": "rehydrate.formats.script_model_json",
    "TORCHSCRIPT": "rehydrate.formats.torchscript",
    "TORCH_ZIP": "rehydrate.formats.torch_zip",
    "NPZ": "rehydrate.formats.npz",
    "ZIP_PARTS": "rehydrate.formats.zip_parts",
    "ZIP_CONTAINER": "rehydrate.formats.zip_container",
}
"""A kind's row → the file that it stands in, which is loaded when an archive may be one of its."""

KINDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("TORCH_EXPORT", ("archive_format", "serialized_exported_program")),
    ("TORCH_PACKAGE", ("extern_modules",)),
    ("SCRIPT_MODEL_JSON", ("model.json",)),
    ("TORCHSCRIPT", ("constants.pkl", "bytecode.pkl", "code/")),
    ("TORCH_ZIP", ("data.pkl",)),
    ("NPZ", (".npy",)),
    ("ZIP_PARTS", ("",)),
    ("ZIP_CONTAINER", ("",)),
)
"""In the order in which they are asked, with what stands in the names of their members, one of it at least; the last
knows them all."""


def _sniff(head: Head) -> bool:
    return head.first[:4] == b"PK\3\4"


def _read(source: Source, request: Request) -> Checkpoint:
    try:
        directory = ZipDirectory(source, request.limits)
    except TruncatedError:
        if not request.is_cut:
            raise
        from rehydrate.formats.zip_cut import CutZipDirectory

        directory = CutZipDirectory(source, request.limits)
    return next(kind for kind in _kinds(directory) if kind.knows(directory)).read(directory, request)


def _kinds(directory: ZipDirectory) -> Iterator[ZipKind]:
    """The kinds that an archive may be, by its names; all of them in one string, for there may be many."""
    names = "\n".join(directory.members)
    for row, signs in KINDS:
        if any(sign in names for sign in signs):
            yield getattr(import_module(_HOMES[row]), row)


def load_every_kind() -> None:
    """See `opening.load_every_format`."""
    for row in _HOMES:
        import_module(_HOMES[row])


ZIPPED = Format("zip", _sniff, _read)
"""The row of all of them in `opening.FORMATS`."""
