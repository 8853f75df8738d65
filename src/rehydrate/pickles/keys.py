"""Keys of dictionaries and members of sets, looked at before Python hashes them.

A hash recurses in C, doubles with each level of tuples in tuples, and can be chosen: numbers and tuples whose hashes
are all the same make a dictionary take seconds for each of them. See `Limits.key_nodes` and the lines after it.
"""

from __future__ import annotations

from time import thread_time
from typing import TYPE_CHECKING

from rehydrate.checkpoint.record import Record
from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.dtypes import DType
from rehydrate.errors import LimitError
from rehydrate.pickles.late_names import EXACT

if TYPE_CHECKING:
    from rehydrate.pickles.machine import Machine

__all__ = ["check_key"]

_PLAIN = (str, int, float, bool, bytes, complex, range, type(None), type(...), Record, TensorRef, DType)
"""Types of keys that are hashed without looking into them."""
_HASHES_TO_ITSELF = (1 << 61) - 1
"""Below it an integer is its own hash, so that no two of them have the same."""
_PACE = 512
"""Keys between two looks at the clock."""


def check_key(machine: Machine, key: object, owner: object) -> None:
    """Refuse what cannot be hashed, and what takes long to hash; see `Limits.key_nodes`."""
    machine.keys += 1
    if not machine.keys % _PACE:
        _check_pace(machine)
    kind = type(key)
    if kind is int:
        if -_HASHES_TO_ITSELF < key < _HASHES_TO_ITSELF:  # type: ignore[operator]
            return
        machine.spend(key.bit_length() >> 8)  # type: ignore[attr-defined]
    elif kind is tuple or kind is frozenset:
        _check_inside(machine, key)
    elif not isinstance(key, _PLAIN) and kind.__module__ not in EXACT:
        raise machine.broken(f"a key is of an unhashable type: {kind.__name__!r}")
    elif kind is not complex:
        return
    _count_collision(machine, key, owner)


def _check_inside(machine: Machine, key: object) -> None:
    """The same for what is in a tuple or a frozenset that is used as a key."""
    level, nodes = [key], 0
    for _ in range(machine.limits.key_depth):
        inner: list[object] = []
        for item in level:
            if type(item) is tuple or type(item) is frozenset:
                nodes += len(item)
                if nodes > machine.limits.key_nodes:
                    raise LimitError("a dictionary key is too large", where=f"byte {machine.at:,}")
                inner.extend(item)
            elif type(item) is int:
                nodes += item.bit_length() >> 8
            elif not isinstance(item, _PLAIN) and type(item).__module__ not in EXACT:
                raise machine.broken(f"a key is of an unhashable type: {type(item).__name__!r}")
        if not inner:
            return machine.spend(nodes)
        level = inner
    raise LimitError("a dictionary key is nested too deeply", where=f"byte {machine.at:,}")


def _count_collision(machine: Machine, key: object, owner: object) -> None:
    """Long numbers and tuples hash predictably, so a file can choose keys that all collide."""
    if key in owner:  # type: ignore[operator]
        return
    counts = machine.collisions.setdefault(id(owner), {})
    if not counts:
        machine.kept.append(owner)
    mixed = hash(key)
    counts[mixed] = counts.get(mixed, 0) + 1
    if counts[mixed] > machine.limits.key_collisions:
        raise LimitError("a dictionary has too many keys of the same hash", where=f"byte {machine.at:,}")


def _check_pace(machine: Machine) -> None:
    """Keys of different hashes, too, can be chosen so that a dictionary looks long; only the clock sees that."""
    allowed = 1 + machine.keys * machine.limits.key_seconds + machine.at * machine.limits.byte_seconds
    if thread_time() - machine.started > allowed:
        raise LimitError(
            "the keys of a dictionary collide, as if they had been chosen to", where=f"byte {machine.at:,}"
        )
