"""Arithmetic in braces: what `{i + 1}` says about the numbers in names.

    expression   term {("+" | "-") term}
    term         factor {("*" | "//" | "%") factor}
    factor       a whole number | a name | "-" factor | "(" expression ")"

It is parsed here and worked out here; nothing that somebody wrote into a pattern is ever run.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from rehydrate.text import shown

__all__ = ["Expression", "parsed"]

_LONGEST = 100
"""Characters of an expression: it is parsed by functions that call each other, and a file may hold it."""
_TOKEN = re.compile(r"\s*(?:([0-9]{1,18})|([A-Za-z_][A-Za-z_0-9]*)|(//|[-+*%()]))")
_OPERATORS: Mapping[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
}

Node = int | str | tuple[str, "Node", "Node"]
"""A number, a name, or an operator between two of them."""


@dataclass(frozen=True, slots=True)
class Expression:
    """What stood in braces.

    >>> parsed("2 * i + 1").value({"i": 3}), parsed("i - 1").line, parsed("i // 2").line
    (7, ('i', 1, -1), None)
    """

    text: str
    node: Node

    @property
    def names(self) -> frozenset[str]:
        """The names of the numbers that it is made of."""
        return frozenset(_names(self.node))

    @property
    def is_plain(self) -> bool:
        """Whether it is a name and nothing else."""
        return isinstance(self.node, str)

    @property
    def line(self) -> tuple[str, int, int] | None:
        """The name, a and b where it is a * name + b, so that it can be turned round; None where it cannot."""
        if len(self.names) != 1:
            return None
        line = _line(self.node)
        return (next(iter(self.names)), *line) if line and line[0] else None

    def value(self, numbers: Mapping[str, int]) -> int:
        """What comes out. Raises `ValueError` for a division by 0."""
        try:
            return _value(self.node, numbers)
        except ZeroDivisionError:
            raise ValueError(f"{{{self.text}}} divides by 0") from None


@lru_cache(maxsize=4096)
def parsed(text: str) -> Expression:
    """The expression that a text is. Raises `ValueError` where it is none."""
    tokens: list[str] = []
    at = 0
    end = len(text.rstrip())
    while at < end and end <= _LONGEST:
        found = _TOKEN.match(text, at)
        if found is None:
            break
        tokens.append(found[0].strip())
        at = found.end()
    if at < end or not tokens:
        raise ValueError(f"{{{shown(text, 40)}}} is neither a name nor arithmetic with + - * // % and whole numbers")
    parser = _Parser(tokens)
    node = parser.sum()
    if parser.next:
        raise ValueError(f"{{{shown(text, 40)}}} makes no sense at {parser.next!r}")
    return Expression(text.strip(), node)


class _Parser:
    """Tokens from left to right."""

    def __init__(self, tokens: list[str]) -> None:
        self._rest = tokens[::-1]

    @property
    def next(self) -> str:
        return self._rest[-1] if self._rest else ""

    def sum(self) -> Node:
        node = self._product()
        while self.next in ("+", "-"):
            node = (self._rest.pop(), node, self._product())
        return node

    def _product(self) -> Node:
        node = self._factor()
        while self.next in ("*", "//", "%"):
            node = (self._rest.pop(), node, self._factor())
        return node

    def _factor(self) -> Node:
        sign = self._rest.pop() if self._rest else ""
        if sign == "-":
            return ("-", 0, self._factor())
        if sign == "(":
            node = self.sum()
            if self.next != ")":
                raise ValueError("an expression in braces has a ( without its )")
            self._rest.pop()
            return node
        if not sign or sign in (")", *_OPERATORS):
            raise ValueError(f"an expression in braces has {sign!r} where a number or a name should be")
        return int(sign) if sign.isdigit() else sign


def _names(node: Node) -> set[str]:
    if isinstance(node, tuple):
        return _names(node[1]) | _names(node[2])
    return {node} if isinstance(node, str) else set()


def _value(node: Node, numbers: Mapping[str, int]) -> int:
    if isinstance(node, tuple):
        return _OPERATORS[node[0]](_value(node[1], numbers), _value(node[2], numbers))
    return numbers[node] if isinstance(node, str) else node


def _line(node: Node) -> tuple[int, int] | None:
    """a and b where it is a * name + b."""
    if not isinstance(node, tuple):
        return (1, 0) if isinstance(node, str) else (0, node)
    sign, left, right = node[0], _line(node[1]), _line(node[2])
    if left is None or right is None:
        return None
    if sign in ("+", "-"):
        return _OPERATORS[sign](left[0], right[0]), _OPERATORS[sign](left[1], right[1])
    if sign == "*" and not (left[0] and right[0]):
        factor, (a, b) = (left[1], right) if not left[0] else (right[1], left)
        return factor * a, factor * b
    if not left[0] and not right[0] and right[1]:
        return 0, _OPERATORS[sign](left[1], right[1])
    return None
