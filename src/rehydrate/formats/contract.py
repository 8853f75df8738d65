"""What a format is, and what it hands up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.limits import Limits
from rehydrate.storage.source import Source

__all__ = ["Format", "Head"]


@dataclass(frozen=True, slots=True)
class Head:
    """What a format may look at to recognise itself: a few bytes of both ends, never the name."""

    first: bytes
    """The first 4,096 bytes."""
    last: bytes
    """The last 66,000 bytes: the end record of a zip with the longest comment lies in them."""
    size: int


@dataclass(frozen=True, slots=True)
class Format:
    """One container format."""

    name: str
    sniff: Callable[[Head], bool]
    """Whether the content looks like it; cheap, and allowed to be wrong."""
    read: Callable[[Source, Limits], Checkpoint]
