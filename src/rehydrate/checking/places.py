"""Where values of a tree are: the path to each call that matters, and every run of bytes that might be a pickle.

One walk, iterative, each container once: a tree may be as deep as a file likes and may contain itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping

from rehydrate.checkpoint.record import NAMESPACES, Record
from rehydrate.checkpoint.tree import spelled
from rehydrate.text import shown

__all__ = ["Places"]

_LONGEST = 32
"""Keys of a path that are shown."""
_OPEN = object()
"""The key of what a record's attributes are in: they have its own path."""
_CONTAINERS = (dict, list, tuple, set, frozenset, deque, Record, *NAMESPACES)


class Places:
    """One tree, walked."""

    def __init__(self, tree: object, besides: Iterable[object] = ()) -> None:
        """`besides` is what hangs on values of the tree and is no part of them, such as attributes of dictionaries."""
        self.packed: list[bytes | bytearray] = []
        """Every run of bytes that begins as a pickle may."""
        self._above: dict[int, tuple[int, object]] = {}
        self._beside: dict[int, tuple[int, object]] = {}
        self._alive = [tree, *besides]
        for root in self._alive:
            self._walk(root, self._above)

    def path_of(self, value: object) -> str | None:
        """Where a container is, by the first path that leads to it; None for one that is nowhere."""
        if id(value) not in self._above:
            return None
        keys: list[object] = []
        at = id(value)
        while at and len(keys) < _LONGEST:
            at, key = self._above[at]
            if at and key is not _OPEN:
                keys.append(key)
        return shown(spelled(tuple(reversed(keys))))

    def look_into(self, value: object) -> None:
        """Walk something that is not in the tree, for the bytes in it; its values get no path."""
        if id(value) not in self._above:
            self._walk(value, self._beside)

    def _walk(self, root: object, above: dict[int, tuple[int, object]]) -> None:
        if id(root) in above:
            return
        above[id(root)] = 0, ""
        if isinstance(root, (bytes, bytearray)):
            self._look_at(root)
        stack = [root]
        while stack:
            value = stack.pop()
            here = id(value)
            for key, child in _inside(value):
                if isinstance(child, (bytes, bytearray)):
                    if id(child) not in above and id(child) not in self._above:
                        above[id(child)] = here, key
                        self._look_at(child)
                elif isinstance(child, _CONTAINERS) and id(child) not in above and id(child) not in self._above:
                    above[id(child)] = here, key
                    stack.append(child)

    def _look_at(self, data: bytes | bytearray) -> None:
        if len(data) > 2 and (data[0] in b"(])}cGIJKLMNSTUVX\x80\x8a\x8c\x95"):
            self.packed.append(data)


def _inside(value: object) -> Iterator[tuple[object, object]]:
    """Everything that a container holds, keys included."""
    if isinstance(value, NAMESPACES):
        value = vars(value)
    if isinstance(value, Mapping):
        yield from ((("key", at), key) for at, key in enumerate(value) if not isinstance(key, str))
        yield from value.items()
    elif isinstance(value, Record):  # its parts are containers themselves: many records may share one
        yield "args", value.args
        yield "kwargs", value.kwargs
        yield "items", value.items
        yield _OPEN, value.state
    elif isinstance(value, (list, tuple, set, frozenset, deque)):
        yield from enumerate(value)
