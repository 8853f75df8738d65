"""What a call may be a call of (names, results of calls, functions with arguments), and the call as people write it.

These stand for things that are never there. A `Named` is what an import would have given, a `Result` what a call of it
would have; nothing is looked up, and every text is bounded and escaped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from rehydrate.checkpoint.record import Record, brief
from rehydrate.text import shown

__all__ = ["LATER", "UNKNOWN", "Bound", "Getter", "Method", "Named", "Result", "Spelling", "cut"]

_PARTS = 48
"""Attributes of a name that are kept; what is longer keeps its module and its end."""
_SHOWN = 160
"""Characters of a call that are shown."""
_LISTED = 4
"""Arguments of a call that are shown."""


@dataclass(frozen=True, slots=True)
class Named:
    """Something that is imported: its name, of which the first `module` parts are the module."""

    parts: tuple[str, ...]
    module: int

    def __str__(self) -> str:
        return ".".join(self.parts)


@dataclass(frozen=True, slots=True)
class Result:
    """What a call gives, when that is not known any better."""

    of: Named


@dataclass(frozen=True, slots=True)
class Bound:
    """A function with some of its arguments: `partial`, `methodcaller`."""

    function: object
    args: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Getter:
    """`attrgetter` or `itemgetter`."""

    key: object
    is_item: bool


@dataclass(frozen=True, slots=True)
class Method:
    """A method of a plain value, such as `"".join`; `methodcaller` where the owner comes later."""

    owner: object
    name: str


LATER = object()
UNKNOWN = Named(("<unknown>",), 0)


def cut(parts: tuple[str, ...], module: int) -> Named:
    """A name of bounded length: of a long one its module and its end, which is what says what it is."""
    if len(parts) > _PARTS:
        kept = min(module, _PARTS // 2)
        return Named((*parts[:kept], *parts[-(_PARTS - kept) :]), kept)
    return Named(parts, module)


class Spelling(NamedTuple):
    """A call that can be shown; spelled out only when somebody looks."""

    function: object
    args: tuple[object, ...]
    kwargs: Mapping[str, object]

    def __str__(self) -> str:
        return _spelled(self)


def _spelled(call: Spelling) -> str:
    """The call as somebody would write it."""
    function: object = call.function
    args = call.args
    if isinstance(function, Bound):
        args = (*function.args, *args)
        function = function.function
    if isinstance(function, Record):
        name = shown(function.path, 60)
    elif isinstance(function, (Named, Result)):
        name = _shown_value(function)
    else:
        name = f".{shown(function.name, 60)}" if isinstance(function, Method) else "call"
    inside = [_shown_value(item) for item in args[:_LISTED]]
    inside += [f"{shown(key, 30)}={_shown_value(item)}" for key, item in islice(call.kwargs.items(), _LISTED)]
    if len(args) > _LISTED:
        inside.append("...")
    return shown(f"{name}({', '.join(inside)})", _SHOWN)


def _shown_value(value: object) -> str:
    if isinstance(value, (Named, Result)):
        return shown(str(value) if isinstance(value, Named) else f"{value.of}()", 60)
    if isinstance(value, (Bound, Getter, Method)):
        return "<function>"
    return brief(value, 2)
