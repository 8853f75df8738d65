"""JSON as formats keep their indexes in it: one value, read so that no two readers could read it differently.

RFC 8259 leaves open what a name means that stands twice in one object, and Python's reader adds to it: NaN, infinities,
halves of surrogate pairs. All of that is refused here, and so is what would take more time or memory than its length
explains: numbers of many digits, nesting without end, a value every two bytes.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import NoReturn

from rehydrate.errors import AmbiguousError, CorruptError, LimitError
from rehydrate.limits import Limits
from rehydrate.text import shown, size

__all__ = ["parse_json"]

_WEIGHTS = {b"[": 80, b"{": 80, b",": 40, b'"': 30, b":": 150}
"""Bytes of memory that each sign leads to: containers, numbers, strings, names with their places in a dictionary."""
_VALUES_A_MEMBER = 16
"""Values in the index for each member that an archive may have: an entry of safetensors has ten."""


def parse_json(data: bytes, limits: Limits, where: str, *, as_python: bool = False) -> object:
    r"""The value that `data` is, in UTF-8: dicts, lists, str, int, finite float, bool and None.

    `as_python` is for what only Python's own writer writes: it spells NaN, infinities and half surrogate pairs, too.
    `where` names it in errors and has been through `text.shown`. Raises `CorruptError` for what is no JSON,
    `AmbiguousError` for a name that stands twice, and `LimitError`.

    >>> parse_json(b'{"shape": [2, 3]}', Limits(), "an index")
    {'shape': [2, 3]}
    >>> parse_json(b'{"a": 1, "\\u0061": 2}', Limits(), "an index")
    Traceback (most recent call last):
    rehydrate.errors.AmbiguousError: a name stands twice in one object of JSON; readers disagree which counts
      where  an index
      found  a
    """
    _check_amount(data, limits, where)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CorruptError("the JSON is not UTF-8", where=f"{where}, byte {error.start:,} of it") from error
    try:
        value: object = json.loads(
            text,
            object_pairs_hook=_object,
            parse_float=float if as_python else _finite,
            parse_constant=float if as_python else _refuse_constant,
        )
        if "\\u" in text and not as_python:  # the only way to half a surrogate pair, which no other encoding can write
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (AmbiguousError, CorruptError) as error:
        error.where = where
        raise
    except RecursionError:
        raise LimitError("the JSON is nested too deeply", where=where) from None
    except UnicodeEncodeError:
        raise CorruptError("the JSON holds half a surrogate pair, which is no character", where=where) from None
    except json.JSONDecodeError as error:
        raise CorruptError(
            "this is no JSON",
            where=where,
            found=f"{error.msg}, at character {error.pos:,}: {shown(text[error.pos : error.pos + 40])!r}",
        ) from None
    except ValueError as error:  # somebody has lowered Python's own bound on digits
        raise LimitError("a number in the JSON has too many digits", where=where) from error
    return value


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        counts = Counter(name for name, _ in pairs)
        raise AmbiguousError(
            "a name stands twice in one object of JSON; readers disagree which counts",
            found=shown(next(name for name, count in counts.items() if count > 1)),
        )
    return made


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise CorruptError("a number in the JSON is too large", found=shown(text))
    return number


def _refuse_constant(text: str) -> NoReturn:
    raise CorruptError("a number in the JSON is none", found=text)


def _check_amount(data: bytes, limits: Limits, where: str) -> None:
    """Refuse what would take time or memory out of proportion, before anything is made of it."""
    if len(data) > limits.header_bytes:
        raise LimitError("the JSON is too long", where=where, found=size(len(data)))
    if data.count(b",") + data.count(b"[") + data.count(b"{") > _VALUES_A_MEMBER * limits.members:
        raise LimitError("the JSON holds too many values", where=where)
    weight = sum(data.count(sign) * nbytes for sign, nbytes in _WEIGHTS.items())
    if weight > limits.index_room + limits.index_room_per_byte * len(data):
        raise LimitError("the JSON holds more values than its length explains", where=where, found=size(len(data)))
    # Python converts digits in quadratic time. A longer run of them fills one of these blocks, wherever it begins.
    block = max(limits.integer_digits // 2, 1)
    for at in range(0, len(data) - block + 1, block):
        if data[at : at + block].isdigit():
            raise LimitError("a number in the JSON has too many digits", where=f"{where}, byte {at:,} of it")
