"""Files that lie in the folder of another: opened by their plain names, and nothing outside that folder ever is."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from rehydrate.errors import MissingFileError, NotACheckpointError
from rehydrate.formats.contract import Request
from rehydrate.storage.source import FileSource, Source
from rehydrate.text import counted, listed, shown

__all__ = ["beside", "files_beside"]


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


def files_beside(files: Sequence[str], source: Source, request: Request, closing: ExitStack) -> dict[str, Source]:
    """The files that an index names, all of them, by name; `closing` closes them.

    Raises `NotACheckpointError` where the index lies in no folder, `MissingFileError` that names those that are not
    there.
    """
    where = shown(source.name)
    if request.beside is None:
        raise NotACheckpointError(
            f"this is the index of a checkpoint of {counted(len(files), 'file')}, without the folder they lie in",
            where=where,
            found=listed([shown(file) for file in files], 3),
            hint="open it by its path, beside its files",
        )
    found: dict[str, Source] = {}
    missing: list[str] = []
    for file in files:
        try:
            found[file] = request.beside(file)
        except MissingFileError:
            missing.append(file)
        else:
            closing.callback(found[file].close)
    if missing:
        raise MissingFileError(
            f"{len(missing):,} of the {counted(len(files), 'file')} of this checkpoint {_are(missing)} not here",
            where=where,
            found="missing: " + listed([shown(file) for file in sorted(missing)], 4),
            hint="put them into the folder of the index",
        )
    return found


def _are(files: list[str]) -> str:
    return "is" if len(files) == 1 else "are"
