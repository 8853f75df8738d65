"""Where we build a plain value for a name, Python builds the same one, whatever the name is called with."""

from __future__ import annotations

import random
import types
from argparse import Namespace
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath, PureWindowsPath
from pickle import dumps
from uuid import UUID

from ..effort import FACTOR
from .builder import DIFFERENT, SAME, STRANGE, outcomes
from .programs import mutated

VALUES: tuple[object, ...] = (
    Namespace(lr=0.1, path=PurePosixPath("a/b"), when=datetime(2020, 1, 2, 3, 4, 5, 6, UTC)),
    types.SimpleNamespace(a=timedelta(3, 4, 5)),
    [date(2020, 1, 2), time(1, 2, 3, 4, UTC), timezone(timedelta(hours=2), "x"), datetime(1, 1, 1, fold=1)],
    [Decimal("1.5"), Fraction(1, 3), UUID(int=3), range(3, 9, 2), slice(1, None, 2), 1j],
    [bytearray(b"ab"), b"xyz", {1, 2}, frozenset("ab")],
    [Counter("aab"), defaultdict(list, {"x": [1]}), deque([1, 2], 3), OrderedDict(a=1, b=2)],
    {PureWindowsPath("C:\\a"): 1, UUID(int=5): 2, date(2, 2, 2): 3, Decimal("NaN"): 4},
)
COUNT = 4000


def test_a_changed_call_of_a_known_name_gives_what_python_gives_or_none() -> None:
    rng = random.Random(0 if FACTOR == 1 else None)
    honest = [dumps(value, protocol) for value in VALUES for protocol in range(6)]
    changed = [
        mutated(rng.choice(honest), rng.randrange(1 << 60), rng.randrange(1, 4)) for _ in range(int(COUNT * FACTOR))
    ]
    found = outcomes([*honest, *changed])
    assert len(found) == len(honest) + len(changed)
    assert set(found[: len(honest)]) == {SAME}
    wrong = [(said, data) for said, data in zip(found, [*honest, *changed], strict=True) if said.startswith(DIFFERENT)]
    assert wrong == []
    assert found.count(SAME) > len(honest) + 0.01 * len(changed)
    assert found.count(STRANGE) > 0
