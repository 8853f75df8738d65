"""Freezing: parameters that training is to leave as they are, but those that somebody names.

Only `requires_grad` is changed. Batch norms go on counting in train mode whatever their parameters do; that is said
and not changed, because whoever trains calls `train()` again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from rehydrate.placing.learned import Learned, folded, globs_of, learned_of, meets, numbers_in, plain_names, refuse_idle
from rehydrate.text import counted, listed, shown

__all__ = ["Frozen", "freeze"]

_LISTED = 4


@dataclass(frozen=True, slots=True)
class Frozen:
    """What `freeze` left trainable, and what not. Prints itself."""

    model: str
    """The class of the model."""
    frozen: tuple[str, ...]
    """The parameters that training leaves as they are."""
    trainable: tuple[str, ...]
    frozen_numbers: int
    trainable_numbers: int
    told: tuple[str, ...] = ()
    """What to know: sentences."""

    def __str__(self) -> str:
        lines = [
            f"{self.model}: {_extent(self.frozen, self.frozen_numbers, self.share)} frozen",
            f"  trainable: {_extent(self.trainable, self.trainable_numbers, 1 - self.share)}"
            + (f": {folded(self.trainable)}" if self.trainable else ""),
        ]
        return "\n".join([*lines, *(f"  {sentence}" for sentence in self.told)])

    @property
    def share(self) -> float:
        """The part of the model's numbers that is frozen; 0.0 for a model without any."""
        every = self.frozen_numbers + self.trainable_numbers
        return self.frozen_numbers / every if every else 0.0

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, for JSON."""
        return {
            "model": self.model,
            "frozen": list(self.frozen),
            "trainable": list(self.trainable),
            "frozen_numbers": self.frozen_numbers,
            "trainable_numbers": self.trainable_numbers,
            "told": list(self.told),
        }


def freeze(model: nn.Module, except_: str | Iterable[str] = ()) -> Frozen:
    """See `rehydrate.freeze`."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected a torch.nn.Module, got {type(model).__name__}")
    globs = globs_of(except_, "except_")
    every = learned_of(model)
    spared = {id(learned) for learned in every if any(meets(glob, learned.spellings) for glob in globs)}
    refuse_idle(globs, every, model, "except_")
    for learned in every:
        if id(learned) not in spared:
            learned.parameter.requires_grad_(False)
    trainable = [learned for learned in every if learned.parameter.requires_grad]
    frozen = [learned for learned in every if not learned.parameter.requires_grad]
    kept = [learned for learned in every if id(learned) in spared]
    told = (*_ties_told(kept, globs), *_frozen_before_told(kept), *_statistics_told(model, globs))
    return Frozen(
        type(model).__name__,
        tuple(learned.name for learned in frozen),
        tuple(learned.name for learned in trainable),
        numbers_in(learned.parameter for learned in frozen),
        numbers_in(learned.parameter for learned in trainable),
        told,
    )


def _extent(names: tuple[str, ...], numbers: int, share: float) -> str:
    return f"{counted(len(names), 'tensor')}, {counted(numbers, 'number')}, {100 * share:.4g} %"


def _ties_told(kept: list[Learned], globs: tuple[str, ...]) -> list[str]:
    """A tied parameter is one; it is trained where one of its names was excepted."""
    told = []
    for learned in kept:
        plain = plain_names(learned.names)
        met = {name for name in learned.names if any(meets(glob, (name, plain[name])) for glob in globs)}
        others = [name for name in learned.names if name not in met]
        if met and others:
            first = next(name for name in learned.names if name in met)
            told.append(f"{shown(others[0])} is tied to {shown(first)}, which is excepted: it stays trainable, too")
    return told[:_LISTED]


def _frozen_before_told(kept: list[Learned]) -> list[str]:
    before = [learned.name for learned in kept if not learned.parameter.requires_grad]
    if not before:
        return []
    names = listed([shown(name) for name in before], _LISTED)
    return [f"excepted, but frozen already and left so: {names} (requires_grad_(True) changes that)"]


def _statistics_told(model: nn.Module, globs: tuple[str, ...]) -> list[str]:
    """Frozen layers whose running statistics go on changing."""
    counting: list[str] = []
    for path, module in model.named_modules():
        if not isinstance(module, _NormBase) or module.running_mean is None:
            continue
        if any(parameter.requires_grad for parameter in module.parameters()):
            continue
        names = [f"{path}.{leaf}".lstrip(".") for leaf, _ in module.named_buffers()]
        spellings = (*names, *plain_names(names).values())
        if not any(meets(glob, spellings) for glob in globs):
            counting.append(path or type(module).__name__)
    if not counting:
        return []
    one = len(counting) == 1
    return [
        f"{counted(len(counting), 'frozen layer')} still {'updates its' if one else 'update their'} running statistics "
        f"in train mode: {listed([shown(name) for name in counting], _LISTED)}; to keep them, call .eval() on "
        f"{'it' if one else 'them'} after each model.train()"
    ]
