"""Records: what a file named and we did not build.

A pickle says "import `module.name`, call it with these, then give it that state". A Record keeps exactly this, as
data. It is never called, it never imports, it has no behaviour that a file could choose: equality and hashing are by
identity, so a record may be a dictionary's key, and its representation is bounded and escaped.
"""

from __future__ import annotations

from argparse import Namespace
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from types import MappingProxyType, SimpleNamespace

from rehydrate.dtypes import DType
from rehydrate.text import shown

__all__ = ["NAMESPACES", "Record", "brief"]

NAMESPACES = (Namespace, SimpleNamespace)
"""Classes of Python's own that hold attributes and nothing else; a file's become real ones."""

_NO_KEYWORDS: Mapping[str, object] = MappingProxyType({})
"""One for all: a file may have a million records, each of three bytes."""

BRIEF_ITEMS = 6
"""Items of a container that a one-line description shows."""
BRIEF_DEPTH = 3
"""Levels of nesting that a one-line description shows."""
BRIEF_LENGTH = 1000
"""Characters of a one-line description; six items in six in six would be many."""


class Record:
    """Something that a file named.

    A bare name, such as a class that is stored as a value, has `args` None. What was called (or built by `__new__`)
    has its arguments in `args` and `kwargs`; what it was then given by `__setstate__` is `state`, and what was
    appended or set on it is in `items`: values for a list-like, (key, value) pairs for a dict-like.

    Filled by the pickle machine while it reads, and not changed afterwards.

    >>> Record("argparse", "Namespace", args=(), state={"lr": 0.1})
    <argparse.Namespace() {'lr': 0.1}>
    """

    __slots__ = ("args", "items", "kwargs", "module", "name", "state")

    def __init__(
        self,
        module: str,
        name: str,
        args: tuple[object, ...] | None = None,
        kwargs: Mapping[str, object] | None = None,
        state: object = None,
    ) -> None:
        self.module = module
        self.name = name
        self.args = args
        self.kwargs: Mapping[str, object] = kwargs or _NO_KEYWORDS
        self.state = state
        self.items: Sequence[object] = ()

    def extend(self, items: Iterable[object]) -> None:
        """Append to `items`; for whoever reads the file."""
        if not isinstance(self.items, list):
            self.items = list(self.items)
        self.items.extend(items)

    @property
    def path(self) -> str:
        """`module.name`, as a traceback would write it."""
        return f"{self.module}.{self.name}" if self.module else self.name

    def __repr__(self) -> str:
        return brief(self)


def brief(value: object, depth: int = BRIEF_DEPTH) -> str:
    """One bounded, escaped line about any value of a tree.

    >>> brief({"epoch": 3, "names": ["a"] * 99})
    "{'epoch': 3, 'names': ['a', 'a', 'a', 'a', 'a', 'a', ... 99]}"
    """
    text = _brief(value, depth)
    return text if len(text) <= BRIEF_LENGTH else text[: BRIEF_LENGTH - 3] + "..."


def _brief(value: object, depth: int) -> str:
    if isinstance(value, str):
        return "'" + shown(value, 60) + "'"
    if isinstance(value, (bytes, bytearray)):
        return f"<{len(value):,} bytes>" if len(value) > 16 else repr(bytes(value))
    if isinstance(value, Record):
        return _brief_record(value, depth)
    if isinstance(value, Mapping):
        pairs = islice(value.items(), BRIEF_ITEMS)
        inside = [f"{brief(key, depth - 1)}: {brief(item, depth - 1)}" for key, item in pairs] if depth > 0 else []
        return "{" + _joined(inside, len(value)) + "}"
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        inside = [brief(item, depth - 1) for item in islice(value, BRIEF_ITEMS)] if depth > 0 else []
        return ("[{}]" if isinstance(value, (list, deque)) else "({})").format(_joined(inside, len(value)))
    if isinstance(value, DType):
        return f"<{value.name}>"
    if isinstance(value, NAMESPACES):  # their own `repr` goes as deep as the file does
        pairs = islice(vars(value).items(), BRIEF_ITEMS)
        inside = [f"{shown(key)}={brief(item, depth - 1)}" for key, item in pairs] if depth > 0 else []
        return f"{type(value).__name__}({_joined(inside, len(vars(value)))})"
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 128:
        return f"<an integer of {value.bit_length():,} bits>"
    return shown(repr(value))


def _joined(inside: list[str], total: int) -> str:
    if len(inside) < total:
        inside = [*inside, f"... {total:,}"]
    return ", ".join(inside)


def _brief_record(record: Record, depth: int) -> str:
    text = shown(record.path)
    if record.args is not None:
        inside = [brief(item, depth - 1) for item in record.args[:BRIEF_ITEMS]] if depth > 0 else []
        text += "(" + _joined(inside, len(record.args)) + ")"
    if record.state is not None and depth > 0:
        text += " " + brief(record.state, depth - 1)
    if record.items and depth > 0:
        text += f" with {len(record.items):,} items"
    return f"<{text}>"
