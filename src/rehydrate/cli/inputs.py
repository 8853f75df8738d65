"""What was typed, where there is no such file: the neighbour that was meant, the file inside a folder, the command.

Looks at names in folders and at nothing inside a file. Never opens anything, and prints nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import islice

from rehydrate.errors import MissingFileError, NotACheckpointError, RehydrateError
from rehydrate.text import listed, nearest, shown

__all__ = ["explained", "refuse_stream"]

_NEIGHBOURS = 5000
"""Names of a folder that are looked at."""
_USUAL = (".pth", ".pt", ".bin", ".ckpt", ".tar", ".pkl", ".pickle", ".safetensors", ".npz", ".gguf", ".h5")
"""How checkpoints are usually called. Only for a suggestion: what a file is, is told by its content."""


def refuse_stream(path: str) -> None:
    """Raise for `-`, which is standard input everywhere else."""
    if path == "-":
        raise NotACheckpointError(
            "a checkpoint cannot be read from standard input: it is read from many places at once",
            where="-",
            hint="write it to a file first; a file of this name is ./-",
        )


def explained(error: RehydrateError, path: str, commands: Iterable[str] = ()) -> RehydrateError:
    """The same error with the file that was meant in it, and what to type instead where the path was the mistake."""
    named = shown(path) or "''"
    where = error.where if named in error.where else ", ".join(part for part in (named, error.where) if part)
    hint = error.hint
    if not hint and isinstance(error, MissingFileError):
        hint = _meant(path, commands)
    elif not hint and os.path.isdir(path):
        hint = _inside(path)
    return type(error)(error.what, where=where, found=error.found, hint=hint)


def _meant(path: str, commands: Iterable[str]) -> str:
    """What somebody who typed `path` may have meant."""
    folder, name = os.path.split(path)
    while folder and not os.path.isdir(folder):
        folder, name = os.path.split(folder)
        if not name:
            return ""
    near = nearest(name, _names(folder))
    if near is not None:
        return f"did you mean {shown(os.path.join(folder, near))!r}?"
    command = nearest(path, commands) if path.isalpha() else None
    return f"did you mean the command `rehydrate {command}`?" if command else ""


def _inside(folder: str) -> str:
    """Files in a folder that look like checkpoints."""
    usual = sorted(name for name in _names(folder) if name.lower().endswith(_USUAL))
    if not usual:
        return "name a file in it"
    return "name a file in it: " + listed([shown(os.path.join(folder, name)) for name in usual], 3)


def _names(folder: str) -> list[str]:
    try:
        with os.scandir(folder or ".") as entries:
            return [entry.name for entry in islice(entries, _NEIGHBOURS)]
    except OSError:
        return []
