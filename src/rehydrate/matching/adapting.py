"""Tensors of another size that have a well-known meaning: pictures of other channels, positions on another grid.

Shapes decide, and names only where shapes cannot. A convolution whose input is a picture is summed over its channels
or repeated, as timm does, so that what it gives stays in scale. Position embeddings of picture patches are resampled as
the picture that they are, class tokens apart: whether there are some is told by what is a square. (196 is 14 times 14
and has none; 197 has one.) Where that is not clear, the answer is a reason and not a guess.
"""

from __future__ import annotations

import math
import re

from rehydrate.matching.pairs import Pair, Target
from rehydrate.matching.values import Value, interpolated, repeated, sliced, summed
from rehydrate.text import shown

__all__ = ["adapted"]

_CHANNELS = 4
"""A picture's: grey, with alpha, colours, colours with alpha."""
_TOKENS = (0, 1, 2)
"""Tokens before the patches: none, a class, a class and a distillation token."""

_POSITIONS = re.compile(
    r"(?:^|[._])(?:pos_embed|pos_embedding|position_embeddings?|positional_embedding|embed_positions)(?:\.weight)?$"
)
_SPOKEN = re.compile(r"text|word|language")
_WORDS = re.compile(r"text|token|decoder|word|language|bert")
_SIGHT = re.compile(r"vis|image|patch|vit|pixel")
_BIAS = "relative_position_bias_table"
_LONGEST = 1000
"""Characters of a name that is looked at."""


def adapted(target: Target, source: Value, *, may_slice: bool) -> Pair | str | None:
    """What a tensor with a well-known meaning becomes; a reason where it cannot, and None where it has no such meaning.

    >>> adapted(Target("conv.weight", (8, 3, 3), "float32", True), None, may_slice=False) is None
    True
    """
    shape = target.shape
    name = target.name if len(target.name) <= _LONGEST else ""
    if name.endswith(_BIAS):
        return _window(target, source)
    if _POSITIONS.search(name) and len(shape) in (2, 3) and not _SPOKEN.search(name):
        return _grid(target, source, name)
    if len(shape) in (4, 5):
        return _channels(target, source, may_slice)
    return None


def _channels(target: Target, source: Value, may_slice: bool) -> Pair | str | None:
    """A convolution for a picture, or a volume of them, of other channels."""
    here, there = source.shape, target.shape
    is_alike = len(here) == len(there) and (here[0], here[2:]) == (there[0], there[2:])
    if not is_alike or not 0 < here[1] <= _CHANNELS or not there[1]:
        return None
    old, new = here[1], there[1]
    try:
        if new == 1:
            return Pair(target, summed(source, 1, 1), f"{old} input channels added up into one", "likely")
        if new > old:
            return Pair(target, repeated(source, 1, new), f"{old} input channels repeated to {new}, in scale", "likely")
    except ValueError as error:
        return str(error)
    if may_slice:
        return Pair(target, sliced(source, 1, 0, new), f"the first {new} of {old} input channels", "likely")
    return f"{old} input channels become {new} only with how='slice'"


def _grid(target: Target, source: Value, name: str) -> Pair | str | None:
    """Position embeddings of patches: [1, N, C] or [N, C]."""
    here, there = source.shape, target.shape
    axis = len(there) - 2
    if len(here) != len(there) or here[-1] != there[-1] or (axis and (here[0], there[0]) != (1, 1)):
        return None
    old, new = here[axis], there[axis]
    kept = next((tokens for tokens in _TOKENS if _side(old - tokens) and _side(new - tokens)), None)
    if kept == 0 and name.endswith(".weight") and (_WORDS.search(name) or not _SIGHT.search(name)):
        return None  # rows of words, whose number happens to be a square
    if kept is None:
        # Of words, `[N, C]`, the first rows are the first words; of a picture, `[1, N, C]`, they would be other places.
        return _unknown_grid(old, new, target.name) if axis else None
    grid, onto = (_side(old - kept),) * 2, (_side(new - kept),) * 2
    tokens = f", {kept} token{'s' * (kept > 1)} kept" if kept else ""
    try:
        value = interpolated(source, axis=axis, kept=kept, grid=grid, onto=onto)
    except ValueError as error:
        return str(error)
    return Pair(
        target, value, f"positions interpolated from {grid[0]}x{grid[1]} to {onto[0]}x{onto[1]}{tokens}", "likely"
    )


def _unknown_grid(old: int, new: int, name: str) -> str:
    """Why positions of a picture cannot be resampled, and what tells how."""
    tokens = [next((kept for kept in _TOKENS if _side(number - kept)), None) for number in (old, new)]
    if None in tokens:
        rule = f"Interpolate({shown(name, 60)!r}, (rows, columns), (rows, columns), kept=tokens)"
        return f"positions on a grid that is no square; rules=[{rule}] says which"
    before = " and ".join(f"{count or 'none'}" for count in tokens)
    rule = f"Slice({shown(name, 60)!r}, 1, {tokens[0]})"
    drop = f"; rules=[{rule}] leaves {'it' if tokens[0] == 1 else 'them'} out" if tokens[0] and not tokens[1] else ""
    return f"the two have other tokens before the patches: {before}{drop}"


def _window(target: Target, source: Value) -> Pair | str | None:
    """Biases of relative positions in a square window: [(2h - 1) (2w - 1), heads]."""
    here, there = source.shape, target.shape
    if len(here) != 2 or len(there) != 2 or here[1] != there[1]:
        return "another number of heads" if len(here) == len(there) == 2 else None
    old, new = _side(here[0]), _side(there[0])
    if not (old % 2 and new % 2):
        return "these are no square windows"
    try:
        value = interpolated(source, axis=0, grid=(old, old), onto=(new, new))
    except ValueError as error:
        return str(error)
    rule = f"relative positions interpolated from {old}x{old} to {new}x{new}"
    return Pair(target, value, rule, "likely")


def _side(number: int) -> int:
    """The side of a square of so many, or 0 where there is none."""
    side = math.isqrt(number) if number > 0 else 0
    return side if side * side == number else 0
