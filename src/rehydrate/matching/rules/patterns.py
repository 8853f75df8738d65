"""Patterns: which names are meant, and what becomes of them.

    *         any characters, dots too, and also none: `head.*` is everything below head
    ?         one character
    [abc]     one of these, [a-z] of a range, [!abc] none of these, as in fnmatch; [*] is a star itself
    {i}       a whole number: all digits that stand together, up to 18 of them. Where it stands twice it is the same
    {i + 1}   a number that is one more than i; in what is looked for, anything that can be turned round (2 * i + 1)

A pattern is of the whole name, and small and capital letters differ. It is read from left to right: each star takes as
little as it can, the last one whatever is left, and nothing is tried again. So the time is at most the length of the
name times that of the pattern, whatever a stranger called his tensors.

A template is what a name becomes: the same signs, filled with what they stood for. Stars and question marks go over in
their order; `{i}` writes the digits as they were, and arithmetic a new number.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache
from itertools import pairwise

from rehydrate.matching.rules.arithmetic import Expression, parsed
from rehydrate.text import shown

__all__ = [
    "Captured", "Pattern", "Template", "apart", "check_fills", "escaped", "found_in", "pattern", "template",
]  # fmt: skip

_SIGN = re.compile(r"(\*)|(\?)|(\[!?+\]?+[^\]]*\])|(\{[^{}]*\})")
_ONE = re.compile(r"\[([^!])\]")
"""A class of one character, which is that character."""
_SPECIAL = re.compile(r"[*?\[{]")
_DIGITS = "(?<![0-9])(?:{})(?![0-9])"
_NUMBER = "[0-9]{1,18}"
_RUNS = re.compile("[0-9]+")

Part = str | Expression | tuple[str, str]
"""Letters that stand for themselves, a number, or a sign with its text: `("*", "*")`, `("[", "[abc]")`."""


@dataclass(frozen=True, slots=True)
class Captured:
    """What the signs of a pattern stood for in one name."""

    numbers: tuple[tuple[str, str], ...] = ()
    """Each name of a number and its digits, in the order of the names."""
    stars: tuple[str, ...] = ()
    singles: tuple[str, ...] = ()
    """What the question marks stood for."""

    def without(self, number: str) -> Captured:
        """The same, but for one number."""
        return Captured(tuple(pair for pair in self.numbers if pair[0] != number), self.stars, self.singles)

    def also(self, number: str, value: int) -> Captured:
        """The same, and one number more."""
        return Captured(tuple(sorted((*self.numbers, (number, str(value))))), self.stars, self.singles)


@dataclass(frozen=True, slots=True)
class Signs:
    """What a pattern captures, or a template needs."""

    numbers: frozenset[str]
    stars: int
    singles: int


_NO_SIGNS = Signs(frozenset(), 0, 0)


@dataclass(frozen=True, slots=True)
class Pattern:
    """Which names are meant.

    >>> pattern("layer{i}.*").match("layer12.conv.weight")
    Captured(numbers=(('i', '12'),), stars=('conv.weight',), singles=())
    >>> pattern("layer{i}.*").match("layer12b.conv.weight") is None
    True
    """

    text: str
    signs: Signs
    regex: re.Pattern[str] | None
    """None where there is no sign in it."""
    literal: str | None
    """The one name that it means, where there is no sign in it."""
    skeleton: str | None
    """A name with every number as 0, where letters and numbers are all that it is made of."""
    runs: tuple[str, ...]
    """Those numbers, and nothing for one that may be any."""
    _numbers: tuple[tuple[str, str, int, int], ...]
    """For each number its group and the name, a and b of a * name + b."""
    _stars: tuple[str, ...]
    _singles: tuple[str, ...]

    def match(self, name: str) -> Captured | None:
        """What the signs stand for in this name, or None where it is not meant."""
        if self.regex is None:
            return Captured() if name == self.literal else None
        found = self.regex.fullmatch(name)
        if found is None:
            return None
        numbers: dict[str, str] = {}
        for group, number, factor, shift in self._numbers:
            digits = found[group]
            if (factor, shift) != (1, 0):
                value, rest = divmod(int(digits) - shift, factor)
                if rest or value < 0 or (digits[0] == "0" and digits != "0"):
                    return None
                digits = str(value)
            if numbers.setdefault(number, digits) != digits:
                return None
        stars = tuple(found[group] for group in self._stars)
        return Captured(tuple(sorted(numbers.items())), stars, tuple(found[group] for group in self._singles))


@dataclass(frozen=True, slots=True)
class Template:
    """What a name becomes.

    >>> template("blocks.{i - 1}.*").fill(pattern("layer{i}.*").match("layer12.conv.weight"))
    'blocks.11.conv.weight'
    """

    text: str
    signs: Signs
    _parts: tuple[Part, ...]

    def fill(self, captured: Captured) -> str:
        """The name. Raises `ValueError` where arithmetic gives no number that a name can have."""
        numbers = dict(captured.numbers)
        stars, singles = iter(captured.stars), iter(captured.singles)
        filled: list[str] = []
        for part in self._parts:
            if isinstance(part, str):
                filled.append(part)
            elif isinstance(part, tuple):
                filled.append(next(stars if part[0] == "*" else singles))
            elif isinstance(part.node, str):
                filled.append(numbers[part.node])
            else:
                filled.append(_counted(part, {name: int(digits) for name, digits in numbers.items()}))
        return "".join(filled)


def _counted(expression: Expression, numbers: Mapping[str, int]) -> str:
    value = expression.value(numbers)
    if value < 0:
        given = ", ".join(f"{name} = {numbers[name]}" for name in sorted(expression.names))
        raise ValueError(f"{{{expression.text}}} is {value} for {given}")
    return str(value)


def pattern(text: str) -> Pattern:
    """The pattern that a text is. Raises `ValueError`, saying why, where it is none."""
    # Names without a sign are not kept: there may be as many as a file has, and they may be long.
    return _pattern(text) if _SPECIAL.search(text) else Pattern(text, _NO_SIGNS, None, text, None, (), (), (), ())


@lru_cache(maxsize=1024)
def _pattern(text: str) -> Pattern:
    parts = _parts(text)
    _check_numbers(parts, text)
    groups: list[str] = []
    numbers: list[tuple[str, str, int, int]] = []
    stars: list[str] = []
    singles: list[str] = []
    plain: dict[str, str] = {}
    for part in parts:
        if isinstance(part, str):
            groups.append(re.escape(part))
        elif isinstance(part, Expression):
            line = part.line
            if line is None:
                raise ValueError(f"{{{part.text}}} cannot be looked for in a name: it does not say what the number is")
            if part.is_plain and line[0] in plain:
                groups.append(_DIGITS.format(f"(?P={plain[line[0]]})"))
                continue
            group = f"n{len(numbers)}"
            if part.is_plain:
                plain[line[0]] = group
            numbers.append((group, *line))
            groups.append(_DIGITS.format(f"(?P<{group}>{_NUMBER})"))
        elif part[0] == "*":
            stars.append(f"s{len(stars)}")
            groups.append("*")  # where the next run of signs begins; see `_joined`
        elif part[0] == "?":
            singles.append(f"q{len(singles)}")
            groups.append(f"(?P<{singles[-1]}>.)")
        else:
            groups.append(_class(part[1]))
    is_literal = all(isinstance(part, str) for part in parts)
    is_skeleton = all(not isinstance(part, tuple) for part in parts)
    return Pattern(
        text,
        _signs(parts),
        None if is_literal else re.compile(_joined(groups), re.DOTALL),
        "".join(part for part in parts if isinstance(part, str)) if is_literal else None,
        "".join(_RUNS.sub("0", part) if isinstance(part, str) else "0" for part in parts) if is_skeleton else None,
        tuple(run for part in parts for run in (_RUNS.findall(part) if isinstance(part, str) else ("",))),
        tuple(numbers),
        tuple(stars),
        tuple(singles),
    )


def template(text: str) -> Template:
    """The template that a text is. Raises `ValueError`, saying why, where it is none."""
    return _template(text) if _SPECIAL.search(text) else Template(text, _NO_SIGNS, (text,))


@lru_cache(maxsize=1024)
def _template(text: str) -> Template:
    parts = _parts(text)
    for part in parts:
        if isinstance(part, tuple) and part[0] == "[":
            raise ValueError(f"{shown(part[1], 40)} in {shown(text)!r} does not say which character a new name gets")
    return Template(text, _signs(parts), parts)


def check_fills(new: str, old: str, *, counting: str = "") -> None:
    """Raise `ValueError`, saying why, unless whatever `old` captures is enough for `new`, with one number counted."""
    needed, given = template(new).signs, pattern(old).signs
    unknown = sorted(needed.numbers - given.numbers - {counting})
    if unknown:
        raise ValueError(f"{shown(new)!r} needs {{{shown(unknown[0], 40)}}}, which is not in {shown(old)!r}")
    for sign, wanted, had in (("*", needed.stars, given.stars), ("?", needed.singles, given.singles)):
        if wanted not in (0, had):
            raise ValueError(f"{shown(new)!r} has {wanted} {sign} and {shown(old)!r} has {had}: as many, or none")


def escaped(name: str) -> str:
    """The pattern, and the template, of one name only.

    >>> escaped("a.*"), pattern(escaped("a.*")).literal
    ('a.[*]', 'a.*')
    """
    return _SPECIAL.sub(lambda found: f"[{found[0]}]", name)


def found_in(names: Collection[str], glob: str) -> Iterator[tuple[str, Captured]]:
    """Those of the names that a pattern means, in their order, and what its signs stand for in each."""
    wanted = pattern(glob)
    if wanted.literal is not None:
        if wanted.literal in names:
            yield wanted.literal, Captured()
        return
    for name in names:
        captured = wanted.match(name)
        if captured is not None:
            yield name, captured


def apart(name: str) -> tuple[str, list[str]]:
    """A name with every number as 0, and the numbers.

    >>> apart("layer12.conv1")
    ('layer0.conv0', ['12', '1'])
    """
    return _RUNS.sub("0", name), _RUNS.findall(name)


def _parts(text: str) -> tuple[Part, ...]:
    parts: list[Part] = []
    letters: list[str] = []
    at = 0
    for sign in _SIGN.finditer(text):
        letters.append(text[at : sign.start()])
        at = sign.end()
        one = _ONE.fullmatch(sign[0])
        if one:
            letters.append(one[1])
            continue
        if any(letters):
            parts.append("".join(letters))
        letters = []
        parts.append(parsed(sign[4][1:-1]) if sign[4] else (sign[0][0], sign[0]))
    last = "".join(letters) + text[at:]
    return (*parts, last) if last else tuple(parts)


def _check_numbers(parts: Sequence[Part], text: str) -> None:
    """A number is all digits that stand together, so no digit can stand beside one."""
    for one, other in pairwise(parts):
        number = next((part for part in (one, other) if isinstance(part, Expression)), None)
        if number and _has_digit(one, -1) and _has_digit(other, 0):
            raise ValueError(f"{{{number.text}}} is a whole number, so no digit can stand beside it in {shown(text)!r}")


def _has_digit(part: Part, at: int) -> bool:
    return isinstance(part, Expression) or (isinstance(part, str) and part[at] in "0123456789")


def _signs(parts: Iterable[Part]) -> Signs:
    numbers: set[str] = set()
    signs = {"*": 0, "?": 0, "[": 0}
    for part in parts:
        if isinstance(part, Expression):
            numbers |= part.names
        elif isinstance(part, tuple):
            signs[part[0]] += 1
    return Signs(frozenset(numbers), signs["*"], signs["?"])


def _joined(groups: list[str]) -> str:
    """One regular expression that never goes back: each star up to where what follows it fits first, and no further."""
    runs: list[list[str]] = [[]]
    for group in groups:
        runs.append([]) if group == "*" else runs[-1].append(group)
    first, *others = ("".join(run) for run in runs)
    stars = [f"(?P<s{at}>.*?){run}" for at, run in enumerate(others)]
    return first + "".join([*(f"(?>{star})" for star in stars[:-1]), *stars[-1:]])


def _class(text: str) -> str:
    """A class of characters as fnmatch understands it."""
    whole = translate(text)  # `(?s:[abc])\Z`, or `\z` since Python 3.14
    return whole[len("(?s:") : whole.rindex(")")]
