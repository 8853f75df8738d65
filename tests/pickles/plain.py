"""Plain data for hypothesis to draw: graphs with shared values and cycles, over all that Python pickles as data."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from typing import Any

from hypothesis import strategies as st

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=8)
"""Lone surrogates, NULs and line ends, too."""

ATOMS: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(1 << 3000), 1 << 3000), st.floats(),
    st.sampled_from((0.0, -0.0, float("nan"), float("inf"), 5e-324, 1 << 31, -(1 << 31), 255, 256, 65535, 65536, -1)),
    st.complex_numbers(), ANY_TEXT, st.text(min_size=250, max_size=260), st.binary(max_size=8),
    st.binary(min_size=250, max_size=260), st.binary(max_size=8).map(bytearray),
    st.builds(range, st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 3)),
    st.builds(slice, st.none() | st.integers(-9, 9), st.none() | st.integers(-9, 9)),
)  # fmt: skip

_SIMPLE_KEYS = st.one_of(
    ANY_TEXT, st.integers(), st.integers(-(1 << 200), 1 << 200), st.booleans(), st.none(), st.binary(max_size=5),
    st.floats(allow_nan=False), st.complex_numbers(allow_nan=False),
)  # fmt: skip
KEYS = st.recursive(
    _SIMPLE_KEYS,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=8,
)

FACTORIES = (None, list, dict, set, tuple, frozenset, int, float, str, bytes, bool, OrderedDict, Counter, deque)


@st.composite
def graphs(draw: st.DrawFn) -> object:
    """A value that holds everything that was drawn; each container may hold any that was made before it, or itself."""
    nodes: list[Any] = draw(st.lists(ATOMS, min_size=1, max_size=5))
    for _ in range(draw(st.integers(1, 7))):
        inside = draw(st.lists(st.sampled_from(nodes), max_size=4))
        nodes.append(draw(_containers(inside)))
    root: list[Any] = [nodes[-1], draw(st.permutations(nodes))]
    if draw(st.booleans()):
        root.append(root)
    return draw(st.sampled_from((root, nodes[-1])))


@st.composite
def _containers(draw: st.DrawFn, inside: list[Any]) -> object:
    kind = draw(st.sampled_from((
        "list", "tuple", "dict", "set", "frozenset", "OrderedDict", "Counter", "defaultdict", "deque", "cycle",
    )))  # fmt: skip
    if kind == "list":
        return inside
    if kind == "tuple":
        return tuple(inside)
    if kind == "deque":
        return deque(inside, draw(st.none() | st.integers(0, 5)))
    if kind == "set":
        return draw(st.sets(KEYS, max_size=4))
    if kind == "frozenset":
        return draw(st.frozensets(KEYS, max_size=4))
    if kind == "Counter":
        return Counter(draw(st.dictionaries(KEYS, st.integers(-5, 1 << 70), max_size=4)))
    if kind == "cycle":
        return draw(_cycles(inside))
    keys = draw(st.lists(KEYS, min_size=len(inside), max_size=len(inside)))
    pairs = dict(zip(keys, inside, strict=True))
    if kind == "OrderedDict":
        return OrderedDict(pairs)
    if kind == "defaultdict":
        return defaultdict(draw(st.sampled_from(FACTORIES)), pairs)
    return pairs


@st.composite
def _cycles(draw: st.DrawFn, inside: list[Any]) -> object:
    """A container that holds itself, alone or through a tuple."""
    made: Any = draw(st.sampled_from((list, dict, OrderedDict, deque, lambda: defaultdict(list))))()
    itself = draw(st.sampled_from((made, (made,), [made, (made, 1)])))
    if isinstance(made, dict):
        made.update({"inside": inside, "itself": itself})
    else:
        made.extend([*inside, itself])
    return itself if draw(st.booleans()) else made
