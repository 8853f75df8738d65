"""Words for people: sizes, counts, names that came out of a file, and "did you mean".

Pure functions over strings and numbers. Nothing here prints, and nothing here trusts a name: everything that a
file said passes through `shown` before a person or a terminal sees it, so that no escape sequence, newline or
bidirectional override of a stranger reaches either.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable, Sequence

__all__ = ["counted", "dimensions", "listed", "nearest", "shown", "size"]

LONGEST_NAME = 120
"""Characters of a name that are shown; a file may hold a name of a megabyte."""

_UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode categories that a terminal or a page may act upon instead of showing."""


def shown(name: object, limit: int = LONGEST_NAME) -> str:
    r"""A name from a file, safe to show: controls and overrides escaped, the middle of a long one left out.

    >>> shown("fc.weight"), shown("a\x1b[31m\nb")
    ('fc.weight', 'a\\x1b[31m\\nb')
    """
    text = name if isinstance(name, str) else repr(name)
    if len(text) > limit:
        half = (limit - 3) // 2
        text = f"{text[:half]}...{text[-half:]}"
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(character) for character in text)


def _escaped(character: str) -> str:
    if unicodedata.category(character) in _UNSAFE:
        return character.encode("unicode_escape", "surrogatepass").decode("ascii")
    return character


def size(nbytes: int) -> str:
    """Bytes as people read them, in decimal units.

    >>> size(0), size(1), size(999), size(1_724_320), size(4_200_000_000)
    ('0 bytes', '1 byte', '999 bytes', '1.7 MB', '4.2 GB')
    """
    if nbytes < 1000:
        return f"{nbytes} byte" + ("" if nbytes == 1 else "s")
    value = float(nbytes)
    for unit in ("kB", "MB", "GB", "TB", "PB"):
        value /= 1000
        if value < 999.95 or unit == "PB":
            break
    return f"{value:.1f} {unit}"


def counted(number: int, noun: str) -> str:
    """A number with its noun, the plural made with an s.

    >>> counted(1, "tensor"), counted(431080, "parameter")
    ('1 tensor', '431,080 parameters')
    """
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


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
    pool = list(candidates)
    if len(pool) > 2000:  # difflib is quadratic in the length of names; a near name shares its beginning or end
        pool = [other for other in pool if other[:3] == name[:3] or other[-6:] == name[-6:]][:2000]
    matches = difflib.get_close_matches(name[:200], pool, n=1, cutoff=0.6)
    return matches[0] if matches else None
