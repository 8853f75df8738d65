"""The names of `standard_names`, known without loading it: that takes as long as opening a file.

What they give is made there, when a pickle first calls one of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from rehydrate.pickles.results import Constructor, Name

__all__ = ["CONSTRUCTORS", "EXACT"]

EXACT = frozenset({"datetime", "decimal", "fractions", "pathlib", "pathlib._local", "uuid"})
"""Modules whose values can be keys of a dictionary and are hashed without looking into them."""

_NAMES: tuple[Name, ...] = (
    ("argparse", "Namespace"),
    ("types", "SimpleNamespace"),
    *(
        (module, kind)
        for module in ("pathlib", "pathlib._local")
        for kind in ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")
    ),
    *(("datetime", kind) for kind in ("date", "datetime", "time", "timedelta", "timezone")),
    ("decimal", "Decimal"),
    ("fractions", "Fraction"),
    ("uuid", "UUID"),
)


def _made(name: Name, args: tuple[object, ...]) -> object:
    from rehydrate.pickles import standard_names

    return standard_names.CONSTRUCTORS[name](args)


CONSTRUCTORS: Mapping[Name, Constructor] = {name: partial(_made, name) for name in _NAMES}
"""(module, name) → the function that makes the value."""
