"""What a format inside a zip archive is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.formats.contract import Request
from rehydrate.formats.zip_directory import ZipDirectory

__all__ = ["ZipKind"]


@dataclass(frozen=True, slots=True)
class ZipKind:
    """One format that is a zip archive with certain members."""

    name: str
    knows: Callable[[ZipDirectory], bool]
    """Whether the members are those of this format; cheap, and allowed to be wrong."""
    read: Callable[[ZipDirectory, Request], Checkpoint]
