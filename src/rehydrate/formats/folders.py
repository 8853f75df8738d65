"""Folders: checkpoints that are many files, and what is in a folder that is none.

    .metadata and *.distcp                       torch.distributed.checkpoint, see `dcp`
    *.safetensors.index.json, *.bin.index.json   shards with an index, see `shards`
    several safetensors that say that they are parts of one, see `dcp_safetensors`
    all files of one GGUF model, see `gguf.split`
    one file that is a checkpoint                that one
    one that holds a model, and what training    that one, which is then said to be the member
    needs to go on: optimizers, arguments

A folder is never searched below its own files, and of several models none is chosen: `member=` does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.weights import find_models
from rehydrate.errors import MissingFileError, NotACheckpointError, RehydrateError, SeveralError
from rehydrate.formats.beside import beside
from rehydrate.formats.contract import Request, head_of
from rehydrate.formats.dcp import DCP
from rehydrate.formats.dcp_safetensors import is_part, read_parts
from rehydrate.formats.gguf.split import read_split, split_of
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
    names = _names_in(folder, os.DirEntry.is_file)
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
    if len(found) > 1 and all(name in looked and looked[name].is_part for name in found):
        parts = [name for name in names if name.endswith(".safetensors")]
        return read_parts(MemorySource(b"", folder), parts, request)
    if (split := _split(looked)) is not None:
        return read_split(MemorySource(b"", folder), split, request)
    if len(found) == 1:
        return request.open_source(open_beside(found[0]), request)
    models = [name for name in looked if looked[name].has_model]
    if len(models) == 1:
        checkpoint = _member(folder, models[0], request, names)
        others = tuple(name for name in found if name != models[0])
        checkpoint.facts = {**checkpoint.facts, "beside": others}
        return checkpoint
    if found:
        raise SeveralError(
            f"this folder holds {len(found):,} checkpoints",
            where=shown(folder),
            found=listed([shown(name) for name in found]),
            hint=f"open one of them, or choose it: member={shown((models or found)[0])!r}",
            choices=tuple(found),
        )
    binary = [shown(name) for name in names if not name.lower().endswith(_PROSE)]
    inside = [shown(name) for name in _names_in(folder, os.DirEntry.is_dir)]
    files = listed(binary) if binary else "nothing but text" if names else "no file"
    raise NotACheckpointError(
        "this is a folder, and none of its files is a checkpoint",
        where=shown(folder),
        found=f"{files}; folders: {listed(inside)}" if inside else files,
        hint=unpacked or ("open one of the folders in it, or a file of theirs" if inside else ""),
    )


def _names_in(folder: str, is_one: Callable[[os.DirEntry[str]], bool]) -> list[str]:
    """The names of what is one of these, a file or a folder."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if is_one(entry))
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


class _Looked(NamedTuple):
    """What a file turned out to be."""

    is_part: bool
    """One part of what many ranks wrote."""
    has_model: bool
    split: tuple[int, int] | None
    """Which file of how many of a GGUF model."""


def _looked_at(names: list[str], open_beside: Callable[[str], Source], request: Request) -> dict[str, _Looked]:
    """Those that are checkpoints, and what each is."""
    found: dict[str, _Looked] = {}
    for name in names:
        try:
            with request.open_source(open_beside(name), request) as checkpoint:
                found[name] = _Looked(is_part(checkpoint), bool(find_models(checkpoint.tree)), split_of(checkpoint))
        except RehydrateError:
            continue
    return found


def _split(looked: Mapping[str, _Looked]) -> list[str] | None:
    """The files of one GGUF model in their order, if all are there and nothing else is."""
    numbers = {name: each.split[0] for name, each in looked.items() if each.split}
    counts = {each.split[1] for each in looked.values() if each.split}
    if counts != {len(looked)} or sorted(numbers.values()) != list(range(len(looked))):
        return None
    return sorted(numbers, key=numbers.__getitem__)


def _unpacked(folder: str, names: list[str]) -> str:
    """What to do with a folder that is one thing as it is. Some systems unzip what they download, a torch zip, too."""
    if "saved_model.pb" in names:
        return "this is a TensorFlow SavedModel; its variables are read by TensorFlow"
    if not {"data.pkl", "version"} <= set(names):
        return ""
    return "this is an unpacked torch zip; pack it again, uncompressed: cd .. && zip -0 -r packed.pth " + shown(
        os.path.basename(os.path.abspath(folder))
    )
