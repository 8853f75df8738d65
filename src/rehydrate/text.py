"""Words for people: sizes, counts, names that came out of a file, and "did you mean".

Pure functions over strings and numbers. Nothing here prints, and nothing here trusts a name: everything that a
file said passes through `shown` before a person or a terminal sees it, so that no escape sequence, newline or
bidirectional override of a stranger reaches either.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from unicodedata import category, east_asian_width

__all__ = ["columns", "counted", "dimensions", "listed", "nearest", "shown", "size"]

LONGEST_NAME = 120
"""Columns that a name is shown in; a file may hold a name of a megabyte."""

_UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode categories that a terminal or a page may act upon instead of showing."""

_SHORT_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

_GAP = "..."

_COMPARED = 100
"""Characters of two names that are compared; the middle of longer ones is left out."""
_LIKELY = 50
"""Names that are compared in full. Comparing is quadratic, and a checkpoint may have a hundred thousand names."""


def shown(name: object, limit: int = LONGEST_NAME) -> str:
    r"""A name from a file, safe to show: controls and overrides escaped, the middle of a long one left out.

    The result has at most `limit` characters and takes at most `limit` columns of a terminal.

    >>> shown("fc.weight"), shown("a\x1b[31m\nb"), shown("abcdefghijkl", 9)
    ('fc.weight', 'a\\x1b[31m\\nb', 'abc...jkl')
    """
    if isinstance(name, os.PathLike):
        name = os.fsdecode(name)
    text = name if isinstance(name, str) else repr(name)
    if len(text) <= limit and text.isascii() and text.isprintable():
        return text
    if len(text) <= limit:
        pieces = [_escaped(character) for character in text]
        if sum(map(_room, pieces)) <= limit:
            return "".join(pieces)
    kept = max(limit - len(_GAP), 0)
    head = _as_many_as_fit(text, kept - kept // 2)
    tail = _as_many_as_fit(reversed(text), kept // 2)
    return "".join([*head, _GAP, *reversed(tail)])[:limit]


def _as_many_as_fit(text: Iterable[str], room: int) -> list[str]:
    pieces: list[str] = []
    for character in text:
        piece = _escaped(character)
        room -= _room(piece)
        if room < 0:
            break
        pieces.append(piece)
    return pieces


def _escaped(character: str) -> str:
    """One character, or its escape where a terminal might act upon it."""
    if " " <= character <= "~" or category(character) not in _UNSAFE:
        return character
    code = ord(character)  # by hand: `encode("unicode_escape")` would import the codec while a file is being opened
    if code <= 0xFF:
        return _SHORT_ESCAPES.get(character) or f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _room(piece: str) -> int:
    """What one shown character counts: its columns, and at least one, so that marks cannot pile up without end."""
    return max(columns(piece), len(piece))


def columns(text: str) -> int:
    """Columns of a terminal that a text takes: East Asian wide characters take two, combining marks none.

    >>> columns("fc.weight"), columns("模型"), columns("e\u0301")
    (9, 4, 1)
    """
    if text.isascii():
        return len(text)
    return sum(_width(character) for character in text)


def _width(character: str) -> int:
    if east_asian_width(character) in "WF":
        return 2
    # Marks stand on the character before them; so do the vowels and finals of decomposed Hangul.
    return 0 if category(character) in ("Mn", "Me") or "\u1160" <= character <= "\u11ff" else 1


def size(nbytes: int) -> str:
    """Bytes as people read them, in decimal units.

    >>> size(0), size(1), size(999), size(1_724_320), size(4_200_000_000)
    ('0 bytes', '1 byte', '999 bytes', '1.7 MB', '4.2 GB')
    """
    if nbytes < 1000:
        return counted(nbytes, "byte")
    value = float(nbytes)
    for unit in ("kB", "MB", "GB", "TB", "PB"):
        value /= 1000
        if value < 999.95 or unit == "PB":
            break
    return f"{value:.1f} {unit}"


def counted(number: int, noun: str) -> str:
    """A number with its noun, in the plural where there is not exactly one.

    >>> counted(1, "tensor"), counted(431080, "parameter"), counted(2, "entry"), counted(3, "class")
    ('1 tensor', '431,080 parameters', '2 entries', '3 classes')
    """
    return f"{number:,} {noun if number == 1 else _plural(noun)}"


def _plural(noun: str) -> str:
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def dimensions(shape: Sequence[int]) -> str:
    """A shape as torch writes it in its own messages.

    >>> dimensions((20, 1, 5, 5))
    '[20, 1, 5, 5]'
    """
    return "[" + ", ".join(str(extent) for extent in shape) + "]"


def listed(items: Sequence[str], limit: int = 10) -> str:
    """The first few of many, and how many more there are.

    >>> listed(["a", "b", "c"], limit=2)
    'a, b and 1 more'
    """
    if len(items) <= limit:
        return ", ".join(items)
    return ", ".join(items[:limit]) + f" and {len(items) - limit:,} more"


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that somebody who typed `name` most likely meant, or None.

    >>> nearest("conv1.wieght", ["conv1.weight", "fc.bias"])
    'conv1.weight'
    """
    from difflib import SequenceMatcher  # only where a name was wrong

    wanted = _ends(name)
    likely = sorted(candidates, key=lambda other: -_shared_ends(wanted, _ends(other)))[:_LIKELY]
    matcher = SequenceMatcher(autojunk=False)
    matcher.set_seq2(wanted)
    best, best_ratio = None, 0.6
    for other in likely:
        matcher.set_seq1(_ends(other))
        if matcher.real_quick_ratio() > best_ratio and matcher.quick_ratio() > best_ratio:
            ratio = matcher.ratio()
            if ratio > best_ratio:
                best, best_ratio = other, ratio
    return best


def _ends(name: str) -> str:
    """What is compared of a name, all of it unless it is very long."""
    half = _COMPARED // 2
    return name if len(name) <= _COMPARED else name[:half] + name[-half:]


def _shared_ends(one: str, other: str) -> int:
    """Characters with which both begin, and with which both end."""
    return _shared(zip(one, other, strict=False)) + _shared(zip(reversed(one), reversed(other), strict=False))


def _shared(pairs: Iterator[tuple[str, str]]) -> int:
    count = 0
    for first, second in pairs:
        if first != second:
            break
        count += 1
    return count
