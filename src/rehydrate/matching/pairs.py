"""What a match is made of: a tensor that a model has, what it gets, and why it would not. Nothing is decided here."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from rehydrate.matching.values import Value

__all__ = ["Mismatch", "Pair", "Target", "elements"]


@dataclass(frozen=True, slots=True)
class Target:
    """A tensor that a model has: what `state_dict()` calls it, its shape, and whether it is learned."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    is_parameter: bool
    is_lazy: bool = False
    """It has no shape yet, and takes whatever it is given."""

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether something of this shape fits."""
        return shape == self.shape or self.is_lazy

    def given(self, shape: tuple[int, ...]) -> Target:
        """The same when it has got something of this shape."""
        return replace(self, shape=shape, is_lazy=False) if self.is_lazy else self


@dataclass(frozen=True, slots=True)
class Pair:
    """A tensor of the model and what it gets of the checkpoint."""

    target: Target
    source: Value
    """A tensor of the file, or what is made of some."""
    rule: str = "by name"
    """How the two were found to belong together, in a few words."""
    sure: str = "certain"
    """`certain`: the names say so. `likely`: names and shapes suggest it."""
    part: tuple[tuple[int, int], ...] = ()
    """What of the target is filled: for each dimension the first and the one behind the last; () for all of it."""

    @property
    def filled(self) -> int:
        """Elements of the target that are filled."""
        return math.prod(stop - start for start, stop in self.part) if self.part else math.prod(self.target.shape)


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Two tensors that belong together by their names and do not have one shape."""

    target: Target
    source: Value
    hint: str = ""
    """What is known about it, or what to try."""


def elements(targets: Iterable[Target]) -> int:
    """Numbers that are learned in some tensors of a model."""
    return sum(math.prod(target.shape) for target in targets if target.is_parameter)
