"""Zip archives that merely contain a checkpoint: the one file inside that is one, of whatever format.

    *.keras                           config.json, metadata.json, and the weights as an HDF5 file
    *.mar (TorchServe, model-archiver)     MAR-INF/MANIFEST.json, the model, a handler in Python that is not run
    what people and portals zip       net.pth, README.md, pictures

Files lie in folders, stored or deflated; directories and what macOS adds are passed over. What is said of the file
inside is told of the member that it is. The last row of `zipped.KINDS`: whatever no other kind knows.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.errors import AmbiguousError, NotACheckpointError
from rehydrate.formats.contained import open_contained
from rehydrate.formats.contract import Request
from rehydrate.formats.inside import limits_inside
from rehydrate.formats.zip_directory import ZipDirectory
from rehydrate.formats.zip_kind import ZipKind
from rehydrate.formats.zip_members import source_of
from rehydrate.storage.source import Source
from rehydrate.text import shown

__all__ = ["ZIP_CONTAINER"]


def _knows(directory: ZipDirectory) -> bool:
    return True


def _read(directory: ZipDirectory, request: Request) -> Checkpoint:
    members = directory.members
    unpacked = _unpacked(directory)
    if unpacked and not unpacked.endswith("data.pkl"):
        raise AmbiguousError("an entry is told from another only by capitals; readers disagree", found=shown(unpacked))
    if unpacked and request.member is None:
        raise NotACheckpointError(
            "this is a zip archive of an unpacked torch zip, too deep for torch to find it",
            where=shown(directory.source.name),
            found=shown(unpacked),
            hint="pack the folder that has data.pkl again, uncompressed: zip -0 -r packed.pth FOLDER",
        )
    files = {
        name: partial(source_of, directory, member, request.limits) for name, member in members.items() if member.size
    }
    hidden = next((name for name in files if name.endswith("/")), None)
    if hidden is not None:
        raise AmbiguousError(
            "an entry is called as a folder is and has content all the same; readers disagree", found=shown(hidden)
        )

    def open_source(source: Source, inside: Request) -> Checkpoint:
        limits = limits_inside(inside.limits, members[source.name])
        return request.open_source(source, replace(inside, limits=limits, open_source=request.open_source))

    checkpoint = open_contained("zip", files, directory.source, replace(request, open_source=open_source))
    checkpoint.source = directory.source  # that of an inflated file would not close the archive
    checkpoint.checksums = directory.checksums
    return checkpoint


def _unpacked(directory: ZipDirectory) -> str | None:
    """The data.pkl of a torch zip whose records lie in this archive, where torch does not look, or not everywhere."""
    names = directory.members
    folders = {name.rpartition("/data/")[0] for name in names if "/data/" in name}
    for name in names:
        folder, _, record = name.rpartition("/")
        if record.lower() == "data.pkl" and (record != "data.pkl" or folder in folders):
            return name
    return None


ZIP_CONTAINER = ZipKind("zip", _knows, _read)
"""The row in `zipped.KINDS`."""
