"""Rules about several tensors that are one elsewhere, each with a name of its own: chunk and concat.

Tensors belong together where the signs of their patterns stood for the same: q, k and v of one layer. A set that is not
complete is refused, by the names that are missing. Taking apart costs nothing: parts are windows on the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from rehydrate.matching.rules.changing import (
    Changes,
    PlainRule,
    axis_of,
    parted,
    refuse,
    refuse_shapes,
    replaced,
    turned,
)
from rehydrate.matching.rules.patterns import Captured, check_fills, pattern, template
from rehydrate.matching.rules.rule import Applied
from rehydrate.matching.values import Value, joined, sliced
from rehydrate.text import counted, dimensions, listed, shown

__all__ = ["Chunk", "Concat"]

_LISTED = 5


@dataclass(frozen=True, slots=True)
class Chunk(PlainRule):
    """A tensor taken apart along one dimension: a fused projection as query, key and value.

    In equal parts, or in parts of the `sizes` that are given: with grouped queries, keys and values are narrower.
    Nothing is copied or computed.

    >>> print(Chunk("h.{i}.qkv.*", ("h.{i}.q.*", "h.{i}.k.*", "h.{i}.v.*")))
    take h.{i}.qkv.* apart into h.{i}.q.*, h.{i}.k.*, h.{i}.v.* along dimension 0
    """

    glob: str
    into: tuple[str, ...]
    axis: int = 0
    sizes: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        _check_parts(self.into, self.sizes)
        for name in self.into:
            check_fills(name, self.glob)

    def apply(self, values: Mapping[str, Value]) -> Applied:
        """All tensors, in the place of each that is meant its parts.

        `MismatchError` where the length is not that of the parts, or where two tensors would have one name.
        """

        def parts_of(name: str, captured: Captured) -> Sequence[tuple[str, Value]]:
            parts = self._parts(values[name])
            names = [template(part).fill(captured) for part in self.into]
            return tuple(zip(names, parts, strict=True))

        return parted(self, self.glob, values, parts_of)

    def _parts(self, value: Value) -> list[Value]:
        axis = axis_of(value, self.axis)
        extent, count = value.shape[axis], len(self.into)
        if self.sizes is None and extent % count:
            raise ValueError(f"{dimensions(value.shape)} has no {count} equal parts along dimension {axis}")
        sizes = self.sizes or (extent // count,) * count
        if sum(sizes) != extent:
            raise ValueError(f"{dimensions(value.shape)} is {extent} long along dimension {axis}, not {sum(sizes)}")
        return [sliced(value, axis, stop - size, stop) for size, stop in zip(sizes, accumulate(sizes), strict=True)]

    def reversed(self) -> Concat:
        """The parts put together again. `ValueError` where their names do not say which belong together."""
        return turned(self, lambda: Concat(self.into, self.glob, self.axis, self.sizes))

    def __str__(self) -> str:
        sizes = f" in {dimensions(self.sizes)}" if self.sizes else ""
        into = listed([shown(name) for name in self.into])
        return f"take {shown(self.glob)} apart into {into} along dimension {self.axis}{sizes}"


@dataclass(frozen=True, slots=True)
class Concat(PlainRule):
    """Tensors put together along one dimension: query, key and value as a fused projection.

    Each of `names` is a pattern, and what their signs stood for says which belong together. The parts are equally long,
    or have the `sizes` that are given, so that they can be taken apart again.

    >>> print(Concat(("h.{i}.q.*", "h.{i}.k.*", "h.{i}.v.*"), "h.{i}.qkv.*").reversed())
    take h.{i}.qkv.* apart into h.{i}.q.*, h.{i}.k.*, h.{i}.v.* along dimension 0
    """

    names: tuple[str, ...]
    into: str
    axis: int = 0
    sizes: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        _check_parts(self.names, self.sizes)
        for name in self.names:
            check_fills(self.into, name)
            template(name)
            if pattern(name).signs != pattern(self.names[0]).signs:
                raise ValueError(
                    f"{shown(name)!r} and {shown(self.names[0])!r} have other signs: which belong together?"
                )

    def apply(self, values: Mapping[str, Value]) -> Applied:
        """All tensors, in the place of the first of each set the whole.

        `MismatchError` where one of a set is missing, has another shape, or where two tensors would have one name.
        """
        sets = self._sets(values)
        changes: Changes = {}
        wrong: dict[str, str] = {}
        for captured, parts in sets.items():
            first, *others = parts.values()
            try:
                whole = template(self.into).fill(captured)
                changes[first] = ((whole, self._joined([values[parts[at]] for at in sorted(parts)], whole)),)
                changes.update(dict.fromkeys(others, ()))
            except ValueError as error:
                wrong[first] = str(error)
        if wrong:
            refuse_shapes(self, wrong, len(sets), noun="set")
        return replaced(self, values, changes, sum(map(len, sets.values())))

    def _sets(self, values: Mapping[str, Value]) -> dict[Captured, dict[int, str]]:
        """What belongs together: which part is which tensor, in their order. `MismatchError` unless all is there."""
        patterns = [pattern(name) for name in self.names]
        sets: dict[Captured, dict[int, str]] = {}
        twice: dict[str, str] = {}
        for name in values:
            for at, each in enumerate(patterns):
                captured = each.match(name)
                if captured is None:
                    continue
                other = sets.setdefault(captured, {}).setdefault(at, name)
                if other != name:
                    twice[name] = f"{shown(name)} and {shown(other)} are both {shown(self.names[at])}"
                break
        if twice:
            refuse(f"{counted(len(twice), 'tensor')} would be the same part", self, twice.values(), len(twice))
        broken = [(captured, parts) for captured, parts in sets.items() if len(parts) < len(patterns)]
        if broken:
            what = f"{len(broken):,} of {counted(len(sets), 'set')} of tensors are not complete"
            refuse(what, self, (self._missing(*each) for each in broken), len(broken), "drop what has no partner first")
        return sets

    def _missing(self, captured: Captured, parts: Mapping[int, str]) -> str:
        names = [template(name).fill(captured) for at, name in enumerate(self.names) if at not in parts]
        return (
            f"{listed([shown(name) for name in names], _LISTED)} is missing beside {shown(next(iter(parts.values())))}"
        )

    def _joined(self, parts: Sequence[Value], name: str) -> Value:
        axes = {axis_of(part, self.axis) for part in parts}
        if len(axes) != 1:
            raise ValueError(f"the parts have other dimensions: {_shapes(parts)}")
        axis = axes.pop()
        sizes = tuple(part.shape[axis] for part in parts)
        if self.sizes is not None and sizes != tuple(self.sizes):
            raise ValueError(f"the parts are {dimensions(sizes)} long along dimension {axis}")
        if self.sizes is None and len(set(sizes)) > 1:
            raise ValueError(
                f"the parts are not equally long along dimension {axis}: give sizes=({dimensions(sizes)[1:-1]})"
            )
        return joined(parts, axis, name)

    def reversed(self) -> Chunk:
        """The whole taken apart again. `ValueError` where its name does not say whose parts are whose."""
        return turned(self, lambda: Chunk(self.into, self.names, self.axis, self.sizes))

    def __str__(self) -> str:
        sizes = f" in {dimensions(self.sizes)}" if self.sizes else ""
        names = listed([shown(name) for name in self.names])
        return f"put {names} together as {shown(self.into)} along dimension {self.axis}{sizes}"


def _check_parts(names: Sequence[str], sizes: Sequence[int] | None) -> None:
    if isinstance(names, str) or len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(f"several different names of parts are needed, not {shown(names, 60)}")
    if sizes is not None and (len(sizes) != len(names) or min(sizes) < 0):
        raise ValueError(f"{dimensions(sizes)} are no sizes of {len(names)} parts")


def _shapes(values: Sequence[Value]) -> str:
    return listed([dimensions(value.shape) for value in values], _LISTED)
