"""Values of the classes that people put into checkpoints, and that rehydrate does not build."""

from __future__ import annotations

import enum
import functools
from collections import namedtuple
from dataclasses import dataclass, field
from typing import Any


class Net:
    """With attributes."""

    def __init__(self) -> None:
        self.layers = [1, 2]
        self.itself = self


class WithSlots:
    """Without a dictionary."""

    __slots__ = ("a", "b")

    def __init__(self) -> None:
        self.a = 1


class Words(list):  # type: ignore[type-arg]
    """A list with more to it."""


class Table(dict):  # type: ignore[type-arg]
    """A dictionary with more to it."""


class WithKeywords:
    """Made with keywords."""

    def __new__(cls, *, size: int) -> WithKeywords:
        made = object.__new__(cls)
        made.size = size
        return made

    def __getnewargs_ex__(self) -> tuple[tuple[object, ...], dict[str, object]]:
        return (), {"size": self.size}


class Mode(enum.Enum):
    TRAIN = "train"


class Flags(enum.IntFlag):
    A = 1
    B = 2


@dataclass
class Config:
    lr: float = 0.1
    sizes: list[int] = field(default_factory=lambda: [3, 4])


Point = namedtuple("Point", "x y")


def made() -> dict[str, tuple[Any, int]]:
    """By a name: a value, and the first protocol that can, and that does not make it partly of known names."""
    words, table = Words([1, 2]), Table(a=1)
    words.extra, table.extra = "more", "more"
    return {
        "enum": (Mode.TRAIN, 0),
        "flags": (Flags.A | Flags.B, 0),
        "partial": (functools.partial(print, "a", end=""), 0),
        "function": (print, 0),
        "class": (Net, 0),
        "object": (Net(), 2),
        "slots": (WithSlots(), 2),
        "list": (words, 2),
        "dict": (table, 2),
        "keywords": (WithKeywords(size=3), 2),
        "dataclass": (Config(), 2),
        "namedtuple": (Point(1, [2]), 2),
        "shared": ([Config(), *[Mode.TRAIN] * 3, {"again": Mode.TRAIN}], 2),
    }
