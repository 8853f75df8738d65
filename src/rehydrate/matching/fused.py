"""Fused projections: an attention's query, key and value as one matrix on one side, and as three on the other.

`torch.nn.MultiheadAttention` has `in_proj_weight`, timm `qkv.weight`, others `q_proj`, `k_proj`, `v_proj` or `query`,
`key`, `value`. Rows of the one are those of the three, in that order; where keys and values have fewer heads, the
shapes of the three say where one ends. Works on common names (`known`), in which they are `q`, `k`, `v` and `qkv`.

Layouts that interleave the heads (`query_key_value` of GPT-NeoX and BLOOM) are none of this and are left alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rehydrate.matching.pairs import Target
from rehydrate.matching.values import Value, joined, sliced

__all__ = ["Fusion", "fusions"]

_THREE = ("q", "k", "v")
_ONE = "qkv"


@dataclass(frozen=True, slots=True)
class Fusion:
    """Three tensors of one side that are one of the other; names as they were given."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    values: tuple[Value, ...]
    """For each target."""

    @property
    def splits(self) -> bool:
        """Whether the file has the one."""
        return len(self.sources) == 1


def fusions(sources: Mapping[str, Value], targets: Mapping[str, Target]) -> Iterator[Fusion]:
    """All that fit by name and shape, of those that are left over on both sides.

    >>> list(fusions({}, {"attn.q.weight": Target("attn.query.weight", (2, 2), "float32", True)}))
    []
    """
    for name, target in targets.items():
        place, leaf = _place(name, _THREE[0])
        if leaf and (one := sources.get(f"{place}{_ONE}{leaf}")) is not None:
            three = [f"{place}{part}{leaf}" for part in _THREE]
            wanted = [targets.get(part) for part in three]
            values = _thirds(one, [part.shape for part in wanted if part is not None])
            if values:
                yield Fusion((f"{place}{_ONE}{leaf}",), tuple(three), values)
            continue
        place, leaf = _place(name, _ONE)
        if leaf:
            three = [f"{place}{part}{leaf}" for part in _THREE]
            given = [value for part in three if (value := sources.get(part)) is not None]
            if len(given) == len(_THREE) and (whole := _whole(given, target)) is not None:
                yield Fusion(tuple(three), (name,), (whole,))


def _place(name: str, part: str) -> tuple[str, str]:
    """What stands before and behind a component that is the last but one: `("attn.", ".weight")`."""
    parent, dot, leaf = name.rpartition(".")
    if not dot or not (parent == part or parent.endswith("." + part)):
        return "", ""
    return parent[: len(parent) - len(part)], dot + leaf


def _thirds(one: Value, shapes: list[tuple[int, ...]]) -> tuple[Value, ...]:
    """Runs of rows, if those of three shapes are all that there are."""
    if len(shapes) != len(_THREE) or any(not shape or shape[1:] != one.shape[1:] for shape in shapes):
        return ()
    if not one.shape or sum(shape[0] for shape in shapes) != one.shape[0]:
        return ()
    values: list[Value] = []
    start = 0
    for shape in shapes:
        values.append(sliced(one, 0, start, start + shape[0]))
        start += shape[0]
    return tuple(values)


def _whole(three: list[Value], target: Target) -> Value | None:
    """Three on top of each other, if that is the target's shape."""
    try:
        whole = joined(three, 0, target.name)
    except ValueError:
        return None
    return whole if whole.shape == target.shape else None
