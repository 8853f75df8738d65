"""What cannot be saved, and what to save instead."""

from __future__ import annotations

from rehydrate.checkpoint.tree import Path, spelled
from rehydrate.errors import SaveError
from rehydrate.text import shown

__all__ = ["refuse"]


def refuse(value: object, path: Path) -> SaveError:
    """The error for a value that is neither a tensor nor plain data."""
    kind = type(value)
    return SaveError(
        f"a {shown(kind.__module__)}.{shown(kind.__qualname__)} is neither a tensor nor plain data; nothing was written",
        where=shown(spelled(path)) or "the object itself",
        hint=_instead(value),
    )


def _instead(value: object) -> str:
    if callable(getattr(value, "state_dict", None)):
        return "save its .state_dict(); a pickled object opens only where its class still exists"
    if type(value).__module__ == "numpy":
        return "save torch.from_numpy(array), or value.item() of a single number"
    if any(base.__module__ == "torch" for base in type(value).__mro__):
        return "a tensor goes into a .pth file"
    if isinstance(value, (str, int, float, dict, list, tuple)):
        base = next(base.__name__ for base in type(value).__mro__ if base.__module__ == "builtins")
        return f"save a plain {base}: {base}(value)"
    if hasattr(value, "__dict__"):
        return "save a dictionary of what you need: vars(value)"
    return "save plain data: numbers, strings, lists, tuples and dictionaries"
