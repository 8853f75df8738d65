"""A model's tensors as a table of a dozen rows, whatever their number.

A small model is shown tensor by tensor. A larger one is shown by its layers, as deep as the rows allow: layers whose
names differ by a number and that hold the same shapes fold into one row, `h.{0..11}.attn`, and where that is not
enough, so do those that differ in shape. Reads names and shapes only, and prints nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.text import columns, counted, dimensions, shown

__all__ = ["MOST", "table"]

MOST = 12
"""Rows of a table."""
_DEEPEST = 24
"""Dots of a name that are looked at; what is behind them stays one piece."""
_WIDEST, _NARROWEST = 44, 16
"""Columns of a name: as many as there may be, and where a line would be too long."""
_ROOM = 76
"""Columns of a line."""
_NUMBERED = (*"0123456789", "}")
"""How the name of a layer ends that is one of several."""
_DIGITS = 9
"""Digits of a number in a name; longer ones are no layer's."""


@dataclass(slots=True)
class _Layer:
    """What a dotted name leads to: a tensor, more names, or both."""

    ref: TensorRef | None = None
    below: dict[str, _Layer] = field(default_factory=dict)
    shapes: int = -1
    """The same number for layers with the same names, dtypes and shapes."""

    def refs(self) -> Iterator[TensorRef]:
        """Every tensor in it."""
        stack = [self]
        while stack:
            layer = stack.pop()
            if layer.ref is not None:
                yield layer.ref
            stack.extend(reversed(layer.below.values()))


@dataclass(frozen=True, slots=True)
class _Group:
    """One row: the layers that a folded name stands for."""

    name: str
    members: tuple[_Layer, ...]

    @property
    def is_alike(self) -> bool:
        """Whether all members hold the same shapes."""
        return len({layer.shapes for layer in self.members}) == 1

    @property
    def is_leaf(self) -> bool:
        """Whether there is nothing below but tensors."""
        return all(not inner.below for layer in self.members for inner in layer.below.values())


def table(tensors: Mapping[str, TensorRef]) -> list[str]:
    """The lines of the table, the names in the model's order."""
    if len(tensors) <= MOST:
        return _aligned(
            [(shown(name, _WIDEST), str(ref.dtype), dimensions(ref.shape)) for name, ref in tensors.items()]
        )
    groups = _folded(_tree(tensors))
    rows = [("layer", "tensors", "numbers", ""), *map(_row, groups[:MOST])]
    lines = _aligned(rows, right=(1, 2))
    if len(groups) > MOST:
        rest = sum(1 for group in groups[MOST:] for layer in group.members for _ in layer.refs())
        lines.append(f"... and {counted(rest, 'tensor')} more")
    return lines


def _tree(tensors: Mapping[str, TensorRef]) -> _Layer:
    root = _Layer()
    for name, ref in tensors.items():
        layer = root
        for key in name.split(".", _DEEPEST):
            inner = layer.below.get(key)
            if inner is None:
                inner = layer.below[key] = _Layer()
            layer = inner
        layer.ref = ref
    _number_shapes(root, {})
    return root


def _number_shapes(layer: _Layer, known: dict[object, int]) -> int:
    """Give every layer the number of its shapes; `known` has those that were met."""
    inside = tuple((key, _number_shapes(inner, known)) for key, inner in layer.below.items())
    own = None if layer.ref is None else (layer.ref.dtype.name, layer.ref.shape)
    layer.shapes = known.setdefault((own, inside), len(known))
    return layer.shapes


def _folded(root: _Layer) -> list[_Group]:
    """The deepest level of groups that has not too many rows."""
    groups = [_Group("", (root,))]
    for _ in range(_DEEPEST + 1):
        fine = [inner for group in groups for inner in _below(group, coarse=False)]
        finer = fine if len(fine) <= MOST else [inner for group in groups for inner in _below(group, coarse=True)]
        if finer == groups or (len(finer) > MOST and groups[0].name):
            break
        groups = finer
        if len(groups) > MOST:
            break
    return groups


def _below(group: _Group, *, coarse: bool) -> list[_Group]:
    """What a group is made of; itself, where its rows would say no more than it does."""
    if group.name and group.is_leaf:
        return [group]
    inside: dict[str, list[_Layer]] = {}
    own: list[_Layer] = []
    for layer in group.members:
        if layer.ref is not None:
            own.append(_Layer(layer.ref, shapes=layer.shapes))
        for key, inner in layer.below.items():
            inside.setdefault(key, []).append(inner)
    prefix = f"{group.name}." if group.name else ""
    found = [_Group(prefix + name, members) for name, members in _fold(inside, coarse=coarse)]
    if len(found) == 1 and len(inside) > 1 and not found[0].is_alike and group.name.endswith(_NUMBERED):
        return [group]  # numbers within numbers that have nothing in common would say less than it does
    return [_Group(group.name, tuple(own)), *found] if own else found


def _fold(inside: Mapping[str, Sequence[_Layer]], *, coarse: bool) -> Iterator[tuple[str, tuple[_Layer, ...]]]:
    """Names that differ by their last number as one name: those with the same shapes, or (coarse) any."""
    series: dict[tuple[str, bool], list[str]] = {}
    for key in inside:
        stem = _stem(key)
        series.setdefault((stem, key == stem), []).append(key)
    for (stem, is_whole), keys in series.items():
        at = 0
        while at < len(keys):
            end = at + 1
            while end < len(keys) and not is_whole and (coarse or _alike(inside[keys[at]], inside[keys[end]])):
                end += 1
            run = keys[at:end]
            name = run[0] if len(run) == 1 else stem + _numbers([key[len(stem) :] for key in run])
            yield name, tuple(layer for key in run for layer in inside[key])
            at = end


def _stem(key: str) -> str:
    """A name without the number at its end."""
    stem = key.rstrip("0123456789")
    return stem if len(key) - len(stem) <= _DIGITS else key


def _alike(some: Sequence[_Layer], others: Sequence[_Layer]) -> bool:
    return [layer.shapes for layer in some] == [layer.shapes for layer in others]


def _numbers(numbers: Sequence[str]) -> str:
    """`{0..11}` for a row of numbers, the first and the last for any others."""
    if len(numbers) > 2 and [str(int(numbers[0]) + step) for step in range(len(numbers))] == list(numbers):
        return f"{{{numbers[0]}..{numbers[-1]}}}"
    if len(numbers) > 4:
        return f"{{{numbers[0]},{numbers[1]},...,{numbers[-1]}}}"
    return "{" + ",".join(numbers) + "}"


def _row(group: _Group) -> tuple[str, str, str, str]:
    refs = [ref for layer in group.members for ref in layer.refs()]
    name, first = group.name, group.members[0]
    what = ""
    if group.is_leaf and group.is_alike:
        names = {id(inner.ref): key for key, inner in first.below.items()}
        largest = max(first.refs(), key=lambda ref: ref.numel)
        if len(first.below) == 1 and first.ref is None:
            name = f"{name}.{next(iter(first.below))}"
            what = dimensions(largest.shape)
        else:
            key = names.get(id(largest), "")
            what = f"{key if shown(key, 16) == key else ''} {dimensions(largest.shape)}".lstrip()
    return shown(name, _WIDEST), f"{len(refs):,}", f"{sum(ref.numel for ref in refs):,}", what


def _aligned(rows: Sequence[tuple[str, ...]], right: Sequence[int] = ()) -> list[str]:
    """Cells under each other, two columns apart; names are cut where a line would be too long."""
    widths = [max(columns(cell) for cell in column) for column in zip(*rows, strict=True)]
    excess = sum(widths) + 2 * (len(widths) - 1) - _ROOM
    if excess > 0 and widths[0] > _NARROWEST:
        widths[0] = max(widths[0] - excess, _NARROWEST)
        rows = [(shown(row[0], widths[0]), *row[1:]) for row in rows]
    lines = []
    for row in rows:
        cells = [
            " " * (width - columns(cell)) + cell if at in right else cell + " " * (width - columns(cell))
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
