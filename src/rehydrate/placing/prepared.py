"""Prepared: one object that is to be filled from a file, checked, and nothing of it touched yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rehydrate.matching.match import Match
from rehydrate.placing.plan import Job

__all__ = ["Prepared"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """What filling an object takes, in the order of these: `jobs`, then `finish`; `undo` where either failed."""

    jobs: tuple[Job, ...]
    """Tensors to fill. The fresh ones among them are not the object's yet."""
    finish: Callable[[], Match]
    """Does all that is no filling, and gives the match that came of it."""
    undo: Callable[[], None]
    """Makes the object what it was before `finish`; tensors that `jobs` filled are whoever's who filled them."""
    match: Match
    """What goes where, as far as it is known before."""
