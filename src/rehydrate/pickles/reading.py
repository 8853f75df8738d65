"""The way into the pickle machine: bytes in, a `Reading` out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rehydrate.checkpoint.record import Record
from rehydrate.collector import collector_paused
from rehydrate.limits import Limits
from rehydrate.pickles.machine import Constructor, Machine, Name, Shortcut
from rehydrate.pickles.opcodes import HANDLERS

__all__ = ["Reading", "read_pickle"]


@dataclass(frozen=True, slots=True)
class Reading:
    """What a pickle said."""

    value: object
    attributes: Mapping[int, object]
    """State given to plain containers and tensors, by the `id` of the value, which `kept` keeps alive."""
    kept: tuple[object, ...]
    names: Mapping[Name, int]
    """Every name that a real unpickler would have imported, with the byte where it first stood."""
    called: frozenset[Name]
    """Those of them that would have been called."""
    calls: tuple[tuple[int, Record], ...]
    """Each call that did not become plain data, with the byte of its opcode, wherever its result went."""
    protocol: int
    start: int
    end: int
    """The first byte after the pickle."""


def read_pickle(
    data: bytes,
    at: int = 0,
    *,
    constructors: Mapping[Name, Constructor],
    constants: Mapping[Name, object],
    persistent: Callable[[object], object] | None = None,
    shortcut: Shortcut | None = None,
    limits: Limits | None = None,
) -> Reading:
    """Read the pickle that begins at byte `at`.

    Raises `CorruptError`, `TruncatedError`, `AmbiguousError` (readers disagree) or `LimitError`, and nothing else.

    >>> read_pickle(b"(lp0\\nI1\\naI2\\na.", constructors={}, constants={}).value
    [1, 2]
    """
    machine = Machine(
        data, at, constructors=constructors, constants=constants, persistent=persistent,
        shortcut=shortcut, handlers=HANDLERS, limits=limits or Limits(),
    )  # fmt: skip
    with collector_paused():
        machine.run()
    return Reading(
        value=machine.result,
        attributes=machine.attributes,
        kept=tuple(machine.kept),
        names=machine.first_seen,
        called=frozenset(machine.called),
        calls=tuple(machine.calls),
        protocol=machine.protocol,
        start=at,
        end=machine.at,
    )
