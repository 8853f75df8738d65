"""Whether what came out of a pickle is what was put into it: types, values and order, arrays bit by bit.

Only for trees without cycles, whose sharing other tests look at: `difference` recurses, and says where.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from types import SimpleNamespace

import numpy

from .outlines import is_nobody, spelled

__all__ = ["difference"]

NAMESPACES = (Namespace, SimpleNamespace)


def difference(ours: object, theirs: object, where: str = "root") -> str:
    """The first difference, or nothing."""
    if isinstance(theirs, (numpy.ndarray, numpy.generic)):
        return _of_arrays(ours, theirs, where)
    if isinstance(theirs, Path):
        theirs = (PurePosixPath if isinstance(theirs, PurePosixPath) else PureWindowsPath)(theirs)
    if type(ours) is not type(theirs):
        return f"{where}: {type(ours)}, not {type(theirs)}"
    if isinstance(ours, NAMESPACES):
        return difference(vars(ours), vars(theirs), where + ".")
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        return difference([list(pair) for pair in ours.items()], [list(pair) for pair in theirs.items()], where)
    if isinstance(ours, (list, tuple)) and isinstance(theirs, (list, tuple)):
        if len(ours) != len(theirs):
            return f"{where}: {len(ours)} items, not {len(theirs)}"
        parts = (
            difference(one, other, f"{where}[{at}]") for at, (one, other) in enumerate(zip(ours, theirs, strict=True))
        )
        return next(filter(None, parts), "")
    same = spelled(ours) == spelled(theirs) if is_nobody(ours) else _texts(ours) == _texts(theirs)
    return "" if same else f"{where}: {ours!r}, not {theirs!r}"


def _texts(value: object) -> tuple[str, object, object]:
    """All of a value: `==` of times looks at neither their zone nor their fold, and NaN is equal to nothing."""
    return repr(value), getattr(value, "fold", None), hash(value) if isinstance(value, PurePath) else None


def _of_arrays(ours: object, theirs: numpy.ndarray | numpy.generic, where: str) -> str:  # type: ignore[type-arg]
    if isinstance(theirs, numpy.generic):
        return difference(ours, theirs.item(), where)
    if theirs.dtype.kind in "USO":
        return difference(ours, theirs.tolist(), where)
    if not isinstance(ours, numpy.ndarray):
        return f"{where}: {type(ours)}, not an array"
    native = theirs.astype(theirs.dtype.newbyteorder("="))
    facts = [(array.dtype, array.shape, array.tobytes(), array.flags.f_contiguous) for array in (ours, native)]
    return "" if facts[0] == facts[1] else f"{where}: {ours!r}, not {theirs!r}"
