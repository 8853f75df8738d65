"""torch's legacy stream: what `torch.save` wrote from 0.1.10 to 1.5, and writes today when asked not to write a zip.

    pickle      0x1950a86a20f9469cfc6c, the magic number
    pickle      1001, the protocol's version
    pickle      {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 8}}
    pickle      the object; storages and classes of modules in it are persistent ids
    pickle      [KEY, ...], of every storage, sorted
    for each of these keys, in this order:
        int64       the number of elements
        bytes       the elements; the last storage ends with the file

    persistent id   ("storage", torch.FloatStorage, KEY, LOCATION, NUMEL, VIEW)
                    KEY and NUMEL are those of a whole storage; VIEW is None, or (KEY, OFFSET, NUMEL), counted in
                    elements, for a part of it that was a storage of its own (before torch 0.4)
                    ("module", CLASS, SOURCE FILE, SOURCE TEXT), for the first mention of a module's class

Pickles are of any protocol, 2 by default. Elements are little-endian on every machine: torch has turned them round
since before this format, whatever `little_endian` says. The numbers of elements were left as the machine had them
until 1.6, and are little-endian since; so both are read, and both readings are held against the pickle. Nothing may
stand behind the last storage: torch would stop there, and a second `torch.load` of the same file would go on.

The source text of a module is kept as a fact, never compiled and never written: torch itself writes a patch file.
Source: `torch/serialization.py` and `torch/csrc/serialization.cpp`, in their versions from 0.1.10 on.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Callable, Sequence

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.record import brief
from rehydrate.checkpoint.tensor import Storage
from rehydrate.errors import AmbiguousError, CorruptError, TruncatedError
from rehydrate.formats.contract import Format, Head, Request
from rehydrate.formats.facts import facts_of_all, saved_on
from rehydrate.formats.legacy_keys import read_keys
from rehydrate.formats.legacy_storages import Storages
from rehydrate.formats.pickle_inside import read_pickle_inside, trace_inside
from rehydrate.limits import Limits
from rehydrate.pickles.reading import Reading
from rehydrate.storage.source import Source
from rehydrate.text import shown

__all__ = ["MAGIC", "TORCH_LEGACY"]

MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_MAGIC_PICKLE = re.compile(
    rb"(?:\x80[\x02\x03]\x8a\x0a%b|\x80[\x04\x05]\x95\x0d\0{7}\x8a\x0a%b|L%dL\n)\."
    % (re.escape(MAGIC.to_bytes(10, "little")), re.escape(MAGIC.to_bytes(10, "little")), MAGIC)
)
"""The first pickle, as an honest pickler of each protocol writes it. A number that is computed is not recognised."""

_PICKLE_WINDOW = 4 << 20
"""Bytes in which the object's pickle usually ends: that of 30,000 tensors does."""
_LIST_WINDOW, _KEY_WINDOW = 4096, 32
"""Bytes in which the list of keys usually ends, and how many more for each key: addresses have fifteen digits."""
_COUNT = struct.Struct("<q")
_NEAR = 16 << 10
"""Bytes between two counts from which both are read by themselves."""
_WINDOW = 1 << 20
"""Bytes that are read at once for the counts in them."""


def _sniff(head: Head) -> bool:
    return _MAGIC_PICKLE.match(head.first) is not None


def _read(source: Source, request: Request) -> Checkpoint:
    pickles = _Pickles(source, request.limits)
    storages = Storages()
    pickles.following()
    _check_version(pickles.following().value, source)
    pickles.following()
    reading = pickles.following(_PICKLE_WINDOW, storages.emptied)
    try:
        listed = pickles.keys(_LIST_WINDOW + _KEY_WINDOW * len(storages.made))
    except TruncatedError:
        if not request.is_cut:
            raise
        in_order, end = list(storages.made.values()), source.size  # nothing of what follows is there
    else:
        in_order, end = _listed(listed.value, storages.made), pickles.end
    counts_at, end = _place(source, in_order, end)
    _check_counts(source, counts_at, in_order)
    _check_end(source, end, request)
    more: dict[str, object] = {"sources": storages.sources} if storages.sources else {}
    return Checkpoint(
        source,
        format="torch-legacy",
        tree=reading.value,
        attributes=reading.attributes,
        facts=facts_of_all(
            reading,
            [other for _, other in pickles.found],
            writer="torch.save",
            byteorder="little",
            saved_on=saved_on(reading, storages.made.values()),
            **more,
        ),
        kept=reading.kept,
        traces=tuple(trace_inside(found, at) for at, found in pickles.found),
    )


class _Pickles:
    """The pickles at the beginning, one after the other, each with the byte at which it begins."""

    def __init__(self, source: Source, limits: Limits) -> None:
        self.found: list[tuple[int, Reading]] = []
        self.end = 0
        self._source = source
        self._limits = limits

    def following(
        self, window: int = 4096, persistent: Callable[[], Callable[[object], object] | None] = lambda: None
    ) -> Reading:
        """The next one."""
        return self._found(
            read_pickle_inside(self._source, self.end, self._limits, window=window, persistent=persistent)
        )

    def keys(self, window: int) -> Reading:
        """The next one, which is the list of keys."""
        return self._found(read_keys(self._source, self.end, self._limits, window))

    def _found(self, reading: Reading) -> Reading:
        self.found.append((self.end, reading))
        self.end += reading.end
        return reading


def _check_version(version: object, source: Source) -> None:
    if type(version) is not int or version != _VERSION:
        raise CorruptError(
            "this torch file is of a version that never was (Invalid protocol version)",
            where=shown(source.name),
            found=brief(version),
        )


def _listed(keys: object, made: dict[str, Storage]) -> list[Storage]:
    """The storages in the order of the list, which names each once."""
    if type(keys) is not list or not set(map(type, keys)) <= {str}:
        raise CorruptError("the list of storages is no list of keys", found=brief(keys))
    if len(set(keys)) != len(keys):
        twice = Counter(keys).most_common(1)[0][0]
        raise AmbiguousError("a storage is in the file twice; readers disagree which counts", found=shown(twice))
    try:
        in_order = [made[key] for key in keys]
    except KeyError as error:
        raise CorruptError(
            "there is a storage that no tensor names (not found in deserialized_objects)", found=shown(error.args[0])
        ) from error
    if len(keys) != len(made):
        missing = next(iter(made.keys() - set(keys)))
        raise CorruptError("a storage is missing from the file", where=f"storage {shown(missing)}")
    return in_order


def _place(source: Source, in_order: Sequence[Storage], at: int) -> tuple[list[int], int]:
    """Tell each storage where its bytes lie. Gives the byte of each count, and the one after the last storage."""
    counts_at: list[int] = []
    for storage in in_order:
        counts_at.append(at)
        storage.order = at = at + _COUNT.size
        storage.entry = source, at, storage.nbytes
        at += storage.nbytes
    return counts_at, at


def _check_counts(source: Source, counts_at: list[int], in_order: Sequence[Storage]) -> None:
    """Hold the numbers of elements that stand before the storages against those of the pickle, as far as they go."""
    there = [at for at in counts_at if at + _COUNT.size <= source.size]
    counts = _counts(source, there)
    expected = [storage.nbytes // storage.dtype.itemsize for storage in in_order[: len(counts)]]
    if counts == expected or counts == [_turned(number) for number in expected]:
        return
    wrong = next(at for at, number in enumerate(expected) if counts[at] != number)
    raise CorruptError(
        "a storage has another length than the pickle says (storage has wrong size)",
        where=f"storage {shown(in_order[wrong].key)}, byte {there[wrong]:,}",
        found=f"{counts[wrong]:,} elements for {expected[wrong]:,}",
        hint="the file was damaged, or made to be read wrongly",
    )


def _counts(source: Source, places: Sequence[int]) -> list[int]:
    """The numbers at these bytes, read together where they lie near each other."""
    counts: list[int] = []
    first = 0
    for end in range(1, len(places) + 1):
        start = places[first]
        if end < len(places) and places[end] - places[end - 1] <= _NEAR and places[end] - start <= _WINDOW:
            continue
        data = source.read(start, places[end - 1] - start + _COUNT.size)
        counts += [_COUNT.unpack_from(data, at - start)[0] for at in places[first:end]]
        first = end
    return counts


def _turned(number: int) -> int:
    """A count as a machine left it that has the other byte order."""
    return int.from_bytes(number.to_bytes(_COUNT.size, "big"), "little", signed=True)


def _check_end(source: Source, end: int, request: Request) -> None:
    if source.size < end and not request.is_cut:
        raise TruncatedError(
            "the file ends before its last storage (unexpected EOF)",
            where=shown(source.name),
            found=f"{source.size:,} of {end:,} bytes",
            hint="download it again",
        )
    if source.size > end:
        second = _MAGIC_PICKLE.match(source.read(end, min(64, source.size - end)))
        raise AmbiguousError(
            "there is a second checkpoint behind the first" if second else "there are bytes after the last storage",
            where=f"{shown(source.name)}, byte {end:,}",
            found=f"{source.size - end:,} bytes that some readers would read and others not",
        )


TORCH_LEGACY = Format("torch-legacy", _sniff, _read)
"""The format's row in `opening.FORMATS`."""
