"""Terms: on which a checkpoint is put into a model. Plain data; the defaults forgive nothing and change nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike

import torch

from rehydrate.matching.allow import Allow
from rehydrate.matching.rules.mapping import rules_of
from rehydrate.matching.rules.rule import Rule
from rehydrate.placing.fresh.fresh import Fresh

__all__ = ["Rules", "Terms", "terms_of"]

Rules = Rule | str | PathLike[str] | Sequence[Rule | str | PathLike[str]]
"""Rules as people give them: one, the path of a mapping file, or several of either."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a caller asks of a load, beside the file and the model."""

    which: str | None = None
    rules: tuple[Rule, ...] = ()
    allow: Allow = field(default_factory=Allow)
    dtype: torch.dtype | None = None
    """What the model's floating tensors become; None leaves them what they are."""
    fresh: Fresh | None = None
    """What a constructor left to be written, of a model that has just been built."""


def terms_of(
    which: str | None = None,
    rules: Rules = (),
    allow: Allow | None = None,
    dtype: torch.dtype | None = None,
    fresh: Fresh | None = None,
) -> Terms:
    """The terms that somebody gave. Raises `TypeError`, and what a mapping file raises that cannot be read."""
    if allow is not None and not isinstance(allow, Allow):
        raise TypeError(f"allow= is an Allow, as in Allow(missing=['head.*']); got {type(allow).__name__}")
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise TypeError(f"dtype= is a floating type of torch's, such as torch.bfloat16; got {dtype!r}")
    return Terms(which, rules_of(rules), allow or Allow(), dtype, fresh)
