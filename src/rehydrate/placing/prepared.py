"""Prepared: one object that is to be filled from a file, checked, and nothing of it touched yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rehydrate.matching.match import Match
from rehydrate.placing.moving.filling import Filled
from rehydrate.placing.moving.plan import Job
from rehydrate.placing.moving.undo import Undoing

__all__ = ["Prepared"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """What filling an object takes: `before`, its `jobs`, and `after`, as `filling.fill` calls them."""

    match: Match
    """What goes where, as far as it is known before."""
    before: Callable[[], Undoing]
    """Photographs the object, but the tensors that the jobs fill: those are whoever's who fills them. Then does what
    may fail without a byte of the file having been written; if it does fail, the object is as it was."""
    after: Callable[[Filled], Match]
    """Does all that is no filling, and gives the match that came of it. It may fail."""
    jobs: tuple[Job, ...] = ()
    """Tensors to fill. The fresh ones among them are not the object's before `after`."""
