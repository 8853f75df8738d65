"""The way into the pickle machine: bytes in, a `Reading` out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rehydrate.checkpoint.record import Record
from rehydrate.collector import collector_paused
from rehydrate.errors import RehydrateError
from rehydrate.limits import Limits
from rehydrate.pickles.machine import Machine, Shortcut
from rehydrate.pickles.opcodes import HANDLERS
from rehydrate.pickles.results import Constructor, Name

__all__ = ["Reading", "read_as_far_as_possible", "read_pickle"]


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
    replaced: tuple[tuple[int, object], ...]
    """States that were given to something before another one was, each with the byte of the opcode that replaced it."""
    work: int
    """How much of the work that the `Limits` allow is left."""
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
    return _reading(machine, at)


def read_as_far_as_possible(
    data: bytes,
    at: int = 0,
    *,
    constructors: Mapping[Name, Constructor],
    constants: Mapping[Name, object],
    limits: Limits | None = None,
) -> tuple[Reading, RehydrateError | None]:
    """What a pickle says before the place where it breaks, and the error that `read_pickle` would raise there.

    An unpickler would have done all of it by then. Where it broke, the value is everything that was on the stack.
    """
    machine = Machine(
        data, at, constructors=constructors, constants=constants, persistent=None,
        shortcut=None, handlers=HANDLERS, limits=limits or Limits(),
    )  # fmt: skip
    broke: RehydrateError | None = None
    try:
        with collector_paused():
            machine.run()
    except RehydrateError as error:
        broke = error
        machine.result = [*machine.marks, machine.stack]
    return _reading(machine, at), broke


def _reading(machine: Machine, at: int) -> Reading:
    return Reading(
        value=machine.result,
        attributes=machine.attributes,
        kept=tuple(machine.kept),
        names=machine.first_seen,
        called=frozenset(machine.called),
        calls=tuple(machine.calls.values()),
        replaced=tuple(machine.replaced),
        work=machine.work,
        protocol=machine.protocol,
        start=at,
        end=machine.at,
    )
