"""What a constructor may give the machine: a plain value, or a value with something left for the machine to do.

A constructor is a pure function of ours over the arguments of a call. What copies, hashes or waits for more must be
counted against the `Limits`, and only the machine counts; so a constructor describes it with one of these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["UNFIT", "Constructor", "Costly", "Filled", "Following", "Growing", "Name", "Stateful"]

Constructor = Callable[[tuple[object, ...]], object]
Name = tuple[str, str]
"""Module and qualified name."""

UNFIT = object()
"""What a constructor returns when the arguments are not those it knows; the call then stays a record."""


@dataclass(frozen=True, slots=True)
class Stateful:
    """A value with attributes of its own."""

    value: object
    state: object


@dataclass(frozen=True, slots=True)
class Filled:
    """A container that hashes: empty, and what the machine is to put into it."""

    value: dict[Any, object] | set[object] | frozenset[object]
    items: list[object] | tuple[object, ...]
    """Members; keys and values in turn for a dictionary."""


@dataclass(frozen=True, slots=True)
class Costly:
    """A value that takes more work than the bytes that asked for it explain: it is counted before it is made."""

    work: int
    """Values that are copied; see `Limits.work`."""
    make: Callable[[], object]
    """Gives the value, or `UNFIT`."""


@dataclass(frozen=True, slots=True)
class Growing:
    """A value that BUILD makes complete: an array, a namespace."""

    value: object
    """What stands for it until then; a record, where BUILD gives something else."""
    grow: Callable[[Any, object], object]
    """This value and a state → the complete value, `Costly`, `Following`, or `UNFIT` for a state of another kind."""


@dataclass(frozen=True, slots=True)
class Following:
    """A value whose bytes follow the opcode in the file, in the middle of the pickle; joblib writes arrays so."""

    read: Callable[[bytes, int], tuple[object, int]]
    """The whole file and the first of these bytes → the value and the byte after the last of them."""
