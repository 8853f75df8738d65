"""Files inside an archive, opened as what they are, and what they contribute to the whole.

A part is opened with the same limits as its archive; what it says of itself is told of the member that it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.trace import Trace
from rehydrate.formats.contract import Request
from rehydrate.formats.facts import told_by
from rehydrate.formats.zip_directory import Member, ZipDirectory
from rehydrate.formats.zip_members import source_of
from rehydrate.limits import Limits

__all__ = ["Parts", "limits_inside", "traces_inside"]


def traces_inside(checkpoint: Checkpoint, member: str) -> tuple[Trace, ...]:
    """The traces of what was opened inside, told of the member that it is."""
    return tuple(
        replace(trace, where=f"{member}/{trace.where}" if trace.where else member) for trace in checkpoint.traces
    )


def limits_inside(limits: Limits, member: Member) -> Limits:
    """The limits for what a member is: what it has been inflated by counts towards what may be inflated in it.

    Archives in archives would otherwise multiply: a few kilobytes become gigabytes at the second level.
    """
    ratio = -(-member.size // max(member.packed, 1))
    return replace(limits, inflation=max(limits.inflation // max(ratio, 1), 1))


@dataclass(slots=True)
class Parts:
    """The members of one archive that have been opened, and everything that they say."""

    directory: ZipDirectory
    request: Request
    opened: dict[str, Checkpoint] = field(default_factory=dict)

    def open(self, member: Member) -> Checkpoint:
        """A member as the checkpoint that it is; raises what opening it raises."""
        limits = self.request.limits
        request = replace(self.request, limits=limits_inside(limits, member))
        checkpoint = self.opened[member.name] = request.inside(source_of(self.directory, member, limits))
        return checkpoint

    @property
    def attributes(self) -> Mapping[int, object]:
        """Of all parts, by the `id` of the value."""
        return {key: value for part in self.opened.values() for key, value in part.attributes.items()}

    @property
    def kept(self) -> tuple[object, ...]:
        """What keeps those ids alive, and the traces' values."""
        return tuple(self.opened.values())

    @property
    def traces(self) -> tuple[Trace, ...]:
        """Of all parts."""
        return tuple(trace for name, part in self.opened.items() for trace in traces_inside(part, name))

    def told(self, fact: str) -> tuple[str, ...]:
        """What the parts say together of `imports`, `calls` or `saved_on`, each once."""
        return told_by((part.facts for part in self.opened.values()), fact)
