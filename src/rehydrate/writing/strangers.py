"""What cannot be saved, and what to save instead."""

from __future__ import annotations

import os
from dataclasses import is_dataclass
from enum import Enum

from rehydrate.checkpoint.tree import Path
from rehydrate.errors import SaveError
from rehydrate.pickles.emit import place_of
from rehydrate.text import shown

__all__ = ["refuse"]


def refuse(value: object, path: Path) -> SaveError:
    """The error for a value that is neither a tensor nor plain data."""
    kind = type(value)
    name = f"{shown(kind.__module__)}.{shown(kind.__qualname__)}"
    return SaveError(
        f"a {name} is neither a tensor nor plain data; nothing was written",
        where=place_of(path),
        hint=_instead(value),
    )


def _instead(value: object) -> str:
    bases = {f"{base.__module__}.{base.__name__}" for base in type(value).__mro__}
    if callable(getattr(value, "state_dict", None)):
        return "save its .state_dict(); a pickled object opens only where its class still exists"
    if type(value).__module__ == "numpy":
        return "save torch.from_numpy(array), or value.item() of a single number"
    if bases & {"torch.Tensor", "torch.dtype", "torch.Size", "torch.device"}:
        return "a tensor, and what belongs to one, goes into a .pth file"
    if isinstance(value, Enum):
        return "save value.name or value.value"
    if is_dataclass(value) and not isinstance(value, type):
        return "save a dictionary of it: dataclasses.asdict(value)"
    if isinstance(value, os.PathLike):
        return "save its spelling: str(value)"
    if isinstance(value, (str, int, float, dict, list, tuple, set, bytes)):
        base = next(base.__name__ for base in type(value).__mro__ if base.__module__ == "builtins")
        return f"save a plain {base}: {base}(value)"
    if isinstance(value, type) or callable(value):
        return "that is code, which a file cannot hold: save what it needs, such as its name"
    if hasattr(value, "__dict__"):
        return "save a dictionary of what you need: vars(value)"
    return "save plain data: numbers, strings, lists, tuples and dictionaries"
