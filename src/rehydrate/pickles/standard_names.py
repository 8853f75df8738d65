"""Names of Python's standard library that stand for values people keep: namespaces, paths, times, exact numbers.

A namespace becomes a real one, unless it has an attribute that would hide one of the class's own, or that Python looks
for by itself; attributes go into its dictionary and are never set by name. Paths become pure ones, of the system that
they were saved on: they can be taken apart, and touch no disk. Sources: `__reduce__` of each class, in the standard
library; the packed forms of times are those of `Lib/_pydatetime.py`.
"""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePath, PurePosixPath, PureWindowsPath
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from rehydrate.checkpoint.record import Record
from rehydrate.limits import Limits
from rehydrate.pickles.python_names import raw_bytes
from rehydrate.pickles.results import UNFIT, Constructor, Costly, Growing, Name

__all__ = ["CONSTRUCTORS"]

_DIGITS = Limits().integer_digits
"""Digits of an exact number; Python itself refuses to print a longer one."""
_BITS = _DIGITS * 3
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:E[+-]?[0-9]{1,18})?|[+-]?(?:Infinity|NaN)", re.ASCII)
"""What `str` of a Decimal gives; not the NaN that raises when it is compared."""
_FRACTION = re.compile(r"(-?[0-9]+)(?:/([0-9]+))?", re.ASCII)


def _namespace(kind: type[Namespace] | type[SimpleNamespace], name: Name) -> Constructor:
    taken = frozenset(dir(kind))

    def construct(args: tuple[object, ...]) -> object:
        return UNFIT if args else Growing(kind(), grow)

    def grow(made: object, state: object) -> object:
        if not isinstance(state, dict):
            return Record(*name, (), state=state)
        return Costly(len(state), lambda: fill(made, state))

    def fill(made: object, state: dict[Any, object]) -> object:
        if not all(type(key) is str and key not in taken and not _is_special(key) for key in state):
            return Record(*name, (), state=state)
        vars(made).update(state)
        return made

    return construct


def _is_special(name: str) -> bool:
    """Whether Python may look for it by itself: `__deepcopy__` of an object, for example."""
    return name.startswith("__") and name.endswith("__")


def _path(kind: type[PurePath]) -> Constructor:
    def construct(args: tuple[object, ...]) -> object:
        parts = [part for part in args if type(part) is str]
        return (
            UNFIT if len(parts) < len(args) else Costly((sum(map(len, parts)) >> 1) + len(parts), lambda: kind(*parts))
        )

    return construct


def _date(args: tuple[object, ...]) -> object:
    raw = raw_bytes(args[0], 4) if len(args) == 1 else None
    return UNFIT if raw is None else _made(lambda: date(raw[0] << 8 | raw[1], raw[2], raw[3]))


def _datetime(args: tuple[object, ...]) -> object:
    raw = raw_bytes(args[0], 10) if 1 <= len(args) <= 2 else None
    zone = args[1] if len(args) == 2 else None
    if raw is None or not (zone is None or isinstance(zone, tzinfo)):
        return UNFIT
    month, fold = raw[2] & 0x7F, raw[2] >> 7
    year, micro = int.from_bytes(raw[:2], "big"), int.from_bytes(raw[7:], "big")
    return _made(lambda: datetime(year, month, raw[3], raw[4], raw[5], raw[6], micro, zone, fold=fold))


def _time(args: tuple[object, ...]) -> object:
    raw = raw_bytes(args[0], 6) if 1 <= len(args) <= 2 else None
    zone = args[1] if len(args) == 2 else None
    if raw is None or not (zone is None or isinstance(zone, tzinfo)):
        return UNFIT
    hour, fold = raw[0] & 0x7F, raw[0] >> 7
    return _made(lambda: time(hour, raw[1], raw[2], int.from_bytes(raw[3:], "big"), zone, fold=fold))


def _timedelta(args: tuple[object, ...]) -> object:
    numbers = [part for part in args if type(part) is int]
    if not 0 < len(numbers) == len(args) <= 3:
        return UNFIT
    return _made(lambda: timedelta(*numbers))


def _timezone(args: tuple[object, ...]) -> object:
    if not args or not isinstance(args[0], timedelta):
        return UNFIT
    offset = args[0]
    if len(args) == 1:
        return _made(lambda: timezone(offset))
    name = args[1]
    return _made(lambda: timezone(offset, name)) if len(args) == 2 and isinstance(name, str) else UNFIT


def _decimal(args: tuple[object, ...]) -> object:
    text = args[0] if len(args) == 1 else None
    if not isinstance(text, str) or len(text) > _DIGITS or not _DECIMAL.fullmatch(text):
        return UNFIT
    return Costly(len(text) >> 3, lambda: _made(lambda: Decimal(text)))


def _fraction(args: tuple[object, ...]) -> object:
    """Two numbers, or before Python 3.12 their text."""
    if len(args) == 1 and isinstance(args[0], str) and len(args[0]) <= _DIGITS:
        found = _FRACTION.fullmatch(args[0])
        above, below = (int(found[1]), int(found[2] or 1)) if found else (0, 0)
    elif len(args) == 2 and all(type(part) is int for part in args):
        above, below = args  # type: ignore[assignment]
    else:
        return UNFIT
    bits = above.bit_length() + below.bit_length()
    if below <= 0 or bits > _BITS:
        return UNFIT
    return Costly(bits >> 5, lambda: Fraction(above, below))


def _uuid(args: tuple[object, ...]) -> object:
    return UNFIT if args else Growing(Record("uuid", "UUID", ()), _grown_uuid)


def _grown_uuid(made: object, state: object) -> object:
    number = state.get("int") if isinstance(state, dict) else None
    return UUID(int=number) if type(number) is int and 0 <= number < 1 << 128 else UNFIT


def _made(make: Callable[[], object]) -> object:
    """What a class of the standard library makes, unless it finds that the numbers are none of its own."""
    try:
        return make()
    except (ValueError, ArithmeticError):
        return UNFIT


_PATHS: Mapping[str, type[PurePath]] = {
    "PosixPath": PurePosixPath,
    "PurePosixPath": PurePosixPath,
    "WindowsPath": PureWindowsPath,
    "PureWindowsPath": PureWindowsPath,
}

CONSTRUCTORS: Mapping[Name, Constructor] = {
    **{
        name: _namespace(kind, name)
        for name, kind in (
            (("argparse", "Namespace"), Namespace),
            (("types", "SimpleNamespace"), SimpleNamespace),
        )
    },
    **{(module, name): _path(kind) for module in ("pathlib", "pathlib._local") for name, kind in _PATHS.items()},
    ("datetime", "date"): _date,
    ("datetime", "datetime"): _datetime,
    ("datetime", "time"): _time,
    ("datetime", "timedelta"): _timedelta,
    ("datetime", "timezone"): _timezone,
    ("decimal", "Decimal"): _decimal,
    ("fractions", "Fraction"): _fraction,
    ("uuid", "UUID"): _uuid,
}
"""(module, name) → the function that makes the value."""
