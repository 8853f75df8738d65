"""What an impostor is: a file under the name of a checkpoint that is something else."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Impostor"]


@dataclass(frozen=True, slots=True)
class Impostor:
    """What the file is, in words that follow "this is"."""

    what: str
    hint: str = ""
    """What to do; FILE stands for the file's own name."""
    found: str = ""
    """What stands in the file that says so, safe to show."""
