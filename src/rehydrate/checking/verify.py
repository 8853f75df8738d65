"""rh.verify: whether a file is as it was written.

Whether it ends early, and which tensors are whole all the same; whether the bytes match the checksums that the writer
left, where it left any; on request, whether any number is NaN or infinite. That every byte of a file belongs to
something is a rule of the readers: a file that breaks it does not open, and that is what is then told. Bytes are read
in pieces, so that a file of many gigabytes needs no more memory than a small one.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rehydrate.checking.numbers import Strange, strange_numbers
from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.tensor import Storage, TensorRef
from rehydrate.checkpoint.trace import Checksum
from rehydrate.errors import (
    ClosedError,
    CorruptError,
    MissingFileError,
    NoSuchTensorError,
    RehydrateError,
    SeveralError,
    TruncatedError,
)
from rehydrate.formats.opening import open_checkpoint
from rehydrate.storage.source import Where, open_source
from rehydrate.text import counted, listed, shown

__all__ = ["Damage", "Verification", "damaged_parts", "verify"]

_LISTED = 10


@dataclass(frozen=True, slots=True)
class Damage:
    """A part of the file whose bytes are not those that were written."""

    part: str
    """The member; empty for the whole file."""
    why: str
    tensors: tuple[str, ...]
    """The tensors whose bytes lie in it."""

    def __str__(self) -> str:
        names = listed([shown(name) for name in self.tensors], _LISTED)
        return f"{shown(self.part) or 'the file'}: {self.why}" + (f"; tensors in it: {names}" if self.tensors else "")


@dataclass(frozen=True, slots=True, repr=False)
class Verification:
    """Whether a file is as it was written. True when nothing was found to be wrong; prints itself."""

    where: str
    format: str
    """What kind of file it is; empty where it cannot be opened at all."""
    tensors: int
    have: int
    """Bytes that the file has, without a tail of zeros where its end should be."""
    expected: int | None
    """Bytes that it should have, at least; None where nothing says how many."""
    missing: tuple[str, ...] = ()
    """Tensors that are not whole, because the file ends early."""
    checked: int = 0
    """Checksums that were compared."""
    checksums: str = ""
    """What there was to compare: `crc32`; empty for none."""
    damaged: tuple[Damage, ...] = ()
    strange: tuple[Strange, ...] | None = None
    """Tensors with NaN or infinite numbers; None where nobody asked."""
    refusal: RehydrateError | None = None
    """Why the file cannot be opened as it is."""
    told: tuple[str, ...] = ()
    """What to know besides: sentences."""

    def __bool__(self) -> bool:
        return self.refusal is None and not (self.missing or self.damaged or self.strange)

    def __str__(self) -> str:
        state = "as it was written, as far as can be told" if self else "not as it should be"
        lines = [f"{shown(self.where)}: {state}"]
        if self.refusal is not None:
            lines += [f"  {line}" for line in str(self.refusal).splitlines()]
        if self.expected is not None and self.expected > self.have:
            lines.append(f"  it has {self.have:,} bytes of at least {self.expected:,}")
        if self.missing or (self.refusal is not None and self.format):
            whole = self.tensors - len(self.missing)
            lines.append(f"  {whole:,} of {counted(self.tensors, 'tensor')} are whole")
        if self.missing:
            lines.append(f"  not whole: {listed([shown(name) for name in self.missing], _LISTED)}")
        if self.checked:
            wrong = len(self.damaged)
            lines.append(f"  {self.checked - wrong:,} of {counted(self.checked, f'{self.checksums} checksum')} match")
        lines += [f"  {damage}" for damage in self.damaged[:_LISTED]]
        if self.strange is not None:
            lines += [f"  {strange}" for strange in self.strange[:_LISTED]] or ["  no number is NaN or infinite"]
        return "\n".join([*lines, *(f"  {sentence}" for sentence in self.told)])

    def __repr__(self) -> str:
        return f"<Verification {shown(self.where)} {'fine' if self else 'bad'}>"

    def __rich_repr__(self) -> Iterator[tuple[str, object]]:
        yield "where", shown(self.where)
        yield "fine", bool(self)
        yield "missing", self.missing
        yield "damaged", self.damaged

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, for JSON."""
        return {
            "ok": bool(self),
            "where": shown(self.where),
            "format": self.format,
            "tensors": self.tensors,
            "have": self.have,
            "expected": self.expected,
            "missing": [shown(name) for name in self.missing],
            "checked": self.checked,
            "checksums": self.checksums,
            "damaged": [
                {"part": shown(damage.part), "why": damage.why, "tensors": [shown(name) for name in damage.tensors]}
                for damage in self.damaged
            ],
            "strange": None
            if self.strange is None
            else [{"tensor": shown(each.tensor), "nan": each.nan, "inf": each.inf} for each in self.strange],
            "refusal": None if self.refusal is None else self.refusal.what,
            "told": list(self.told),
        }

    def raise_if_bad(self) -> None:
        """Raise why the file cannot be opened, `TruncatedError` for one that is cut, `CorruptError` for any other."""
        if self:
            return
        if self.refusal is not None:
            raise self.refusal
        kind = TruncatedError if self.missing else CorruptError
        raise kind(
            "the file is not as it should be",
            where=shown(self.where),
            found="\n".join(str(self).splitlines()[1:]),
            hint="download it again" if self.missing or self.damaged else "train again from an earlier checkpoint",
        )


def verify(where: Where | Checkpoint, *, member: str | None = None, values: bool = False) -> Verification:
    """Verify a file; see `rehydrate.verify`."""
    if isinstance(where, Checkpoint):
        return _verified(where, values)
    try:
        checkpoint = open_checkpoint(where, member=member)
    except (MissingFileError, ClosedError, SeveralError, NoSuchTensorError):
        raise
    except RehydrateError as refusal:
        return _of_what_is_left(where, member, refusal, values)
    with checkpoint:
        try:
            return _verified(checkpoint, values)
        except RehydrateError as refusal:  # its tensors have no names
            source = checkpoint.source
            return Verification(source.name, checkpoint.format, 0, source.size, None, refusal=refusal)


def _verified(checkpoint: Checkpoint, values: bool, refusal: RehydrateError | None = None) -> Verification:
    refs = dict(checkpoint.items())
    missing, expected = _missing(checkpoint, refs)
    damaged, checked, kinds, told = damaged_parts(checkpoint)
    return Verification(
        checkpoint.source.name,
        checkpoint.format,
        len(refs),
        checkpoint.source.size,
        expected,
        missing,
        checked,
        kinds,
        damaged,
        strange_numbers(refs, frozenset(missing)) if values else None,
        refusal,
        told,
    )


def _of_what_is_left(where: Where, member: str | None, refusal: RehydrateError, values: bool) -> Verification:
    """A file that does not open: what is whole in it, if it is cut."""
    try:
        with open_checkpoint(where, member=member, is_cut=True) as checkpoint:
            return _verified(checkpoint, values, refusal)
    except RehydrateError:
        name, have = _name_and_size(where)
        return Verification(name, "", 0, have, None, refusal=refusal)


def _name_and_size(where: Where) -> tuple[str, int]:
    if isinstance(where, (str, os.PathLike)) and os.path.isdir(where):
        return os.fspath(where), 0
    source = open_source(where)
    source.close()
    return source.name, source.size


def _missing(checkpoint: Checkpoint, refs: Mapping[str, TensorRef]) -> tuple[tuple[str, ...], int | None]:
    """Tensors that are not whole, and how many bytes the file must have had at least."""
    missing: list[str] = []
    lost: dict[int, int] = {}
    for name, ref in refs.items():
        try:
            if ref.is_whole or ref.storage.location == "meta":
                continue
            ends = [(piece.start + piece.length, piece.source.size) for piece in ref.pieces]
            lost[id(ref.storage)] = sum(max(end - there, 0) for end, there in ends)
        except RehydrateError:
            continue  # its place is broken, which is damage and no end
        missing.append(name)
    return tuple(missing), checkpoint.source.size + sum(lost.values()) if missing else None


def damaged_parts(checkpoint: Checkpoint) -> tuple[tuple[Damage, ...], int, str, tuple[str, ...]]:
    """Parts whose bytes are not those that were written; how many checksums there were, of which kinds; what to know.

    A writer that was told to leave checksums out leaves zeros, or the same everywhere: all of them are wrong then, and
    that is no damage.
    """
    wrong: list[tuple[str, str]] = []
    kinds: Counter[str] = Counter()
    mismatched = 0
    for checksum in checkpoint.checksums() if checkpoint.checksums is not None else ():
        begin = _BEGIN.get(checksum.kind)
        if begin is None:
            continue
        kinds[checksum.kind] += 1
        try:
            if _sum(checksum, begin) != checksum.expected:
                wrong.append((checksum.name, f"its bytes do not match its checksum ({checksum.kind})"))
                mismatched += 1
        except RehydrateError as error:
            wrong.append((checksum.name, error.what))
    total = sum(kinds.values())
    if mismatched > 1 and mismatched == total:
        return (), 0, "", ("all checksums are wrong: the writer did not compute them",)
    tensors = _tensors_of_parts(checkpoint) if wrong else {}
    damage = tuple(Damage(part, why, tuple(tensors.get(part, ()))) for part, why in wrong)
    broken = _broken_places(checkpoint, {part for part, _ in wrong})
    told = () if total else ("the file has no checksums: that its bytes are what was written cannot be told",)
    return (*damage, *broken), total, " and ".join(kinds), told


def _tensors_of_parts(checkpoint: Checkpoint) -> dict[str, list[str]]:
    """For each part of the file, the names of the tensors whose bytes lie in it; what is in no part is in all."""
    found: dict[str, list[str]] = {}
    for name, ref in checkpoint.items():
        found.setdefault(part_of(ref.storage), []).append(name)
    return found


def part_of(storage: Storage) -> str:
    """The member of its file that a storage lies in; where there are no members, what no part is called."""
    name = getattr(storage.entry, "name", None)
    if isinstance(name, str):
        return name
    try:
        return next((piece.source.name for piece in storage.locate()), "")
    except RehydrateError:
        return ""


def _broken_places(checkpoint: Checkpoint, known: set[str]) -> Iterator[Damage]:
    """Tensors whose bytes cannot be found: a member's own header is broken, or disputed."""
    seen: dict[int, str] = {}
    for name, ref in checkpoint.items():
        if id(ref.storage) not in seen and part_of(ref.storage) not in known:
            seen[id(ref.storage)] = ""
            try:
                ref.storage.locate()
            except RehydrateError as error:
                yield Damage(part_of(ref.storage), error.what, (name,))


def _sum(checksum: Checksum, begin: Callable[[], _Running]) -> int:
    running = begin()
    for piece in checksum.read():
        running.add(piece)
    return running.value()


class _Running:
    """A checksum of zlib's that grows."""

    def __init__(self, function: Callable[[bytes, int], int], start: int) -> None:
        self._function, self._value = function, start

    def add(self, piece: bytes) -> None:
        self._value = self._function(piece, self._value)

    def value(self) -> int:
        return self._value


class _Hash(_Running):
    """A hash, as a number."""

    def __init__(self, name: str) -> None:
        self._hash = hashlib.new(name, usedforsecurity=False)

    def add(self, piece: bytes) -> None:
        self._hash.update(piece)

    def value(self) -> int:
        return int.from_bytes(self._hash.digest(), "big")


_BEGIN: Mapping[str, Callable[[], _Running]] = {
    "crc32": lambda: _Running(zlib.crc32, 0),
    "adler32": lambda: _Running(zlib.adler32, 1),
    "sha256": lambda: _Hash("sha256"),
    "md5": lambda: _Hash("md5"),
}
"""Kinds of checksums that can be compared."""
