"""Folders: checkpoints that are many files, and what is in a folder that is none.

    .metadata and *.distcp                       torch.distributed.checkpoint, see `dcp`
    *.safetensors.index.json, *.bin.index.json   shards with an index, see `shards`
    one file that is a checkpoint                that one

A folder is never searched below its own files, and of several checkpoints none is chosen: `member=` does.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.errors import AmbiguousError, MissingFileError, NotACheckpointError, RehydrateError
from rehydrate.formats.contract import Request
from rehydrate.storage.source import FileSource, Source
from rehydrate.text import counted, listed, nearest, shown

__all__ = ["beside", "read_folder"]

_TRIED = 200
"""Files of a folder that are looked into."""


def beside(folder: str) -> Callable[[str], Source]:
    """What opens files of a folder by their plain names, and nothing outside it.

    Raises `NotACheckpointError` for a name that leads elsewhere, `MissingFileError` for one that is not there.
    """

    def open_beside(name: str) -> Source:
        if (
            not name
            or name in (".", "..")
            or "/" in name
            or "\\" in name
            or "\0" in name
            or os.path.basename(name) != name
        ):
            raise NotACheckpointError("a file of this checkpoint is said to lie in another folder", found=shown(name))
        return FileSource(os.path.join(folder, name))

    return open_beside


def read_folder(folder: str, request: Request) -> Checkpoint:
    """Open the checkpoint that a folder is, or the one that lies in it."""
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
    open_beside = beside(folder)
    if request.member is not None:
        return _member(folder, request.member, request, names)
    for chosen in (_single(names, ".metadata"), _single(names, ".index.json")):
        if chosen:
            return request.open_source(open_beside(chosen), replace(request, beside=open_beside))
    found = [name for name in names[:_TRIED] if _opens(name, open_beside, request)]
    if len(found) == 1:
        return request.open_source(open_beside(found[0]), replace(request, beside=open_beside))
    if found:
        raise AmbiguousError(
            f"this folder holds {len(found):,} checkpoints",
            where=shown(folder),
            found=listed([shown(name) for name in found]),
            hint=f"open one of them, or choose it: member={shown(found[0])!r}",
        )
    raise NotACheckpointError(
        "this is a folder, and none of its files is a checkpoint",
        where=shown(folder),
        found=counted(len(names), "file"),
        hint=_unpacked(folder, names),
    )


def _member(folder: str, member: str, request: Request, names: list[str]) -> Checkpoint:
    open_beside = beside(folder)
    if member not in names:
        near = nearest(member, names)
        raise MissingFileError(
            f"this folder has no file {shown(member)!r}",
            where=shown(folder),
            hint=f"did you mean {shown(near)!r}?" if near else "",
        )
    checkpoint = request.open_source(open_beside(member), replace(request, member=None, beside=open_beside))
    checkpoint.facts = {**checkpoint.facts, "member": member}
    return checkpoint


def _single(names: list[str], suffix: str) -> str | None:
    found = [name for name in names if name.endswith(suffix)]
    return found[0] if len(found) == 1 else None


def _opens(name: str, open_beside: Callable[[str], Source], request: Request) -> bool:
    try:
        request.open_source(open_beside(name), replace(request, beside=open_beside)).close()
    except RehydrateError:
        return False
    return True


def _unpacked(folder: str, names: list[str]) -> str:
    """Some systems unzip what they download: the folder is then what was inside a torch zip."""
    if "data.pkl" not in names and "saved_model.pb" not in names:
        return ""
    if "saved_model.pb" in names:
        return "this is a TensorFlow SavedModel; its variables are read by TensorFlow"
    return "this is an unpacked torch zip; pack it again, uncompressed: cd .. && zip -0 -r packed.pth " + shown(
        os.path.basename(os.path.abspath(folder))
    )
