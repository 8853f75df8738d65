"""The list of keys in a legacy stream, read in one step where it is spelled as a pickler spells it.

    80 02 5d                     PROTO, EMPTY_LIST, and its put
    28 ... 65                    MARK, up to a thousand keys, APPENDS; as often as needed
    58 0e 00 00 00 KEY 71 ..     BINUNICODE, decimal digits, BINPUT or LONG_BINPUT
    2e                           STOP

A file of many small tensors has as many keys, and reading each of these opcodes by itself takes as long as reading
half of the tensors. Nothing is trusted to be such a list: what is spelled in any other way is left to the machine,
which gives the same for this.
"""

from __future__ import annotations

import re
from dataclasses import replace

from rehydrate.formats.pickle_inside import read_pickle_inside
from rehydrate.limits import Limits
from rehydrate.pickles.known import read_known_pickle
from rehydrate.pickles.reading import Reading
from rehydrate.storage.source import Source

__all__ = ["read_keys"]

_LIST = re.compile(
    rb"(\x80[\x02\x03]\])(?:q\0)?(?:\((?:%(key)b)++e)++(?:%(key)ba)?\." % {b"key": rb"X.\0\0\0[0-9]{1,20}(?:q.|r....)"},
    re.DOTALL,
)
_KEY = re.compile(rb"X(.)\0\0\0([0-9]{1,20})(?:q.|r....)", re.DOTALL)


def read_keys(source: Source, at: int, limits: Limits, window: int) -> Reading:
    """The pickle that begins at byte `at`: usually a list of texts, and whatever it is otherwise."""
    data = source.read(at, min(window, source.size - at))
    spelled = _LIST.match(data)
    if spelled is None:
        return read_pickle_inside(source, at, limits, window=window)
    found = _KEY.findall(data, len(spelled[1]), spelled.end())
    if any(length[0] != len(key) for length, key in found):
        return read_pickle_inside(source, at, limits, window=window)
    empty = read_known_pickle(spelled[1] + b".", limits=limits)
    return replace(empty, value=[key.decode("ascii") for _, key in found], end=spelled.end())
