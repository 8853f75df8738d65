"""What a format is, what it is asked, and what it hands up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.errors import LimitError
from rehydrate.limits import Limits
from rehydrate.storage.source import Source
from rehydrate.text import shown

__all__ = ["Format", "Head", "Request", "head_of"]

FIRST = 4096
LAST = 66_000


@dataclass(frozen=True, slots=True)
class Head:
    """What a format may look at to recognise itself: a few bytes of both ends, never the name."""

    first: bytes
    """The first 4,096 bytes."""
    last: bytes
    """The last 66,000 bytes: the end record of a zip with the longest comment lies in them."""
    size: int


def head_of(source: Source) -> Head:
    """Both ends of a source."""
    return Head(
        source.read(0, min(FIRST, source.size)),
        source.read(max(source.size - LAST, 0), min(LAST, source.size)),
        source.size,
    )


@dataclass(frozen=True, slots=True)
class Request:
    """What whoever opens a file asks for; every format is handed the same one."""

    limits: Limits
    open_source: Callable[[Source, Request], Checkpoint]
    """Opens a source as whatever it is. Formats that have others inside use `inside`."""
    member: str | None = None
    """Which of several files inside an archive; taken off by the archive that it names."""
    is_cut: bool = False
    """The file may end early: hand up everything that it describes, with pieces where they would have been.

    Whether a tensor is there is then `TensorRef.is_whole`. A format that cannot do that refuses as it always would.
    """
    beside: Callable[[str], Source] | None = None
    """Opens a file of the same folder by its plain name; None where there is no folder, as for bytes."""
    depth: int = 0
    """Containers around this one."""

    def inside(self, source: Source, *, member: str | None = None) -> Checkpoint:
        """Open what lies inside a container. `member` is what is left to choose there.

        Raises `LimitError` for containers in each other without end, and whatever the format inside raises.
        """
        if self.depth >= self.limits.containers:
            raise LimitError("there are too many containers in each other", where=shown(source.name))
        return self.open_source(source, replace(self, member=member, beside=None, depth=self.depth + 1))


@dataclass(frozen=True, slots=True)
class Format:
    """One container format."""

    name: str
    sniff: Callable[[Head], bool]
    """Whether the content looks like it; cheap, and allowed to be wrong."""
    read: Callable[[Source, Request], Checkpoint]
