"""Where the bytes of storages lie, for everything that one load wants: found once, and checked to be there.

Nothing here reads tensors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter

from rehydrate.checkpoint.tensor import Piece, Storage, TensorRef
from rehydrate.errors import RebuildError
from rehydrate.matching.values import Value
from rehydrate.placing.moving.resident import Span
from rehydrate.storage.views import origin
from rehydrate.text import counted, listed, shown

__all__ = ["Located", "refs_of", "refuse_without_data"]


class Located:
    """Where the bytes of storages lie: looked up once for each, in one pass forward through the files."""

    def __init__(self, storages: Iterable[Storage]) -> None:
        self._pieces: dict[Storage, tuple[Piece, ...]] = {
            storage: storage.locate() for storage in sorted(dict.fromkeys(storages), key=attrgetter("order"))
        }

    def coding(self, storage: Storage) -> str:
        """How its elements are coded."""
        pieces = self._pieces[storage]
        return pieces[0].coding if pieces else "raw"

    def spans(self, storage: Storage, first: int, end: int) -> list[Span]:
        """The bytes from `first` up to `end` of a storage, in the sources that really hold them.

        Raises what reading them would raise where there are not as many: `TruncatedError`, mostly.
        """
        found: list[Span] = []
        left = end - first
        for source, start, length, at, _ in self._pieces[storage]:
            begin, stop = max(first, at), min(end, at + length)
            if begin >= stop:
                continue
            start += begin - at
            if start + stop - begin > source.size:
                source.read(start, stop - begin)  # which says what is wrong
            where, start = origin(source, start)
            found.append((where, start, stop - begin))
            left -= stop - begin
        if left > 0:
            raise RebuildError("this tensor has no data in the file", where=f"storage {shown(storage.key)}")
        return found


def refs_of(value: Value) -> tuple[TensorRef, ...]:
    """The tensors of the file that a value is made of."""
    return (value,) if isinstance(value, TensorRef) else value.refs


def refuse_without_data(names: Sequence[str]) -> None:
    """Raise `RebuildError` if there are any: `names` are those of tensors that a file has no bytes for."""
    if names:
        raise RebuildError(
            f"{counted(len(names), 'tensor')} of this checkpoint were saved from the meta device, without data",
            found=listed([shown(name) for name in names]),
        )
