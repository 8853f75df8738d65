"""Folders: checkpoints that are many files, and what is in a folder that is none.

    .metadata and *.distcp                       torch.distributed.checkpoint, see `dcp`
    *.safetensors.index.json, *.bin.index.json   shards with an index, see `shards`
    several safetensors that say that they are parts of one, see `dcp_safetensors`
    one file that is a checkpoint                that one

A folder is never searched below its own files, and of several checkpoints none is chosen: `member=` does.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.errors import AmbiguousError, MissingFileError, NotACheckpointError, RehydrateError
from rehydrate.formats.beside import beside
from rehydrate.formats.contract import Request, head_of
from rehydrate.formats.dcp import DCP
from rehydrate.formats.dcp_safetensors import is_part, read_parts
from rehydrate.formats.shards import SHARDS
from rehydrate.storage.source import MemorySource, Source
from rehydrate.text import listed, nearest, shown

__all__ = ["read_folder"]

_TRIED = 200
"""Files of a folder that are looked into."""
_INDEXES = (".metadata", ".index.json")
"""How files are called that may say what the others are."""
_PROSE = (".txt", ".md", ".rst", ".json", ".jsonl", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".csv", ".log", ".py")
"""What is not worth naming where no file is a checkpoint; each has been looked into all the same."""


def read_folder(folder: str, request: Request) -> Checkpoint:
    """Open the checkpoint that a folder is, or the one that lies in it."""
    names = _files_in(folder)
    open_beside = beside(folder)
    if request.member is not None:
        return _member(folder, request.member, request, names)
    request = replace(request, beside=open_beside)
    indexes = [name for name in names if name.endswith(_INDEXES) and _is_index(open_beside, name)]
    if ".metadata" in indexes:  # a rank that saved alone leaves `__0.metadata` beside it
        indexes = [".metadata"]
    unpacked = _unpacked(folder, names)
    looked = {} if indexes or unpacked else _looked_at(names[:_TRIED], open_beside, request)
    found = indexes or list(looked)
    if len(found) > 1 and all(looked.get(name) for name in found):
        parts = [name for name in names if name.endswith(".safetensors")]
        return read_parts(MemorySource(b"", folder), parts, request)
    if len(found) == 1:
        return request.open_source(open_beside(found[0]), request)
    if found:
        raise AmbiguousError(
            f"this folder holds {len(found):,} checkpoints",
            where=shown(folder),
            found=listed([shown(name) for name in found]),
            hint=f"open one of them, or choose it: member={shown(found[0])!r}",
        )
    others = [shown(name) for name in names if not name.lower().endswith(_PROSE)]
    raise NotACheckpointError(
        "this is a folder, and none of its files is a checkpoint",
        where=shown(folder),
        found=listed(others) if others else "nothing but text" if names else "no file",
        hint=unpacked,
    )


def _files_in(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_file())
    except OSError as error:
        raise NotACheckpointError(f"this folder cannot be opened: {error.strerror}", where=shown(folder)) from error


def _is_index(open_beside: Callable[[str], Source], name: str) -> bool:
    """Whether the content, too, is that of a file that says what the others are."""
    source = open_beside(name)
    try:
        head = head_of(source)
    finally:
        source.close()
    return DCP.sniff(head) or SHARDS.sniff(head)


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


def _looked_at(names: list[str], open_beside: Callable[[str], Source], request: Request) -> dict[str, bool]:
    """Those that are checkpoints, and whether each is one part of what many ranks wrote."""
    found: dict[str, bool] = {}
    for name in names:
        try:
            with request.open_source(open_beside(name), request) as checkpoint:
                found[name] = is_part(checkpoint)
        except RehydrateError:
            continue
    return found


def _unpacked(folder: str, names: list[str]) -> str:
    """What to do with a folder that is one thing as it is. Some systems unzip what they download, a torch zip, too."""
    if "saved_model.pb" in names:
        return "this is a TensorFlow SavedModel; its variables are read by TensorFlow"
    if not {"data.pkl", "version"} <= set(names):
        return ""
    return "this is an unpacked torch zip; pack it again, uncompressed: cd .. && zip -0 -r packed.pth " + shown(
        os.path.basename(os.path.abspath(folder))
    )
