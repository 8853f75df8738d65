"""What persistent ids of a legacy stream stand for: storages, parts of storages, and classes with their source text.

The ids themselves are described in `torch_legacy`. A storage is made when the pickle first names it; where its bytes
lie is only known when the list of keys has been read, and told to it then.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeGuard

from rehydrate.checkpoint.record import Record, brief
from rehydrate.checkpoint.tensor import Piece, Storage, StorageView, one_piece
from rehydrate.dtypes import DType
from rehydrate.errors import CorruptError
from rehydrate.pickles.torch_names import NUMBERS_END, nowhere, storage_dtype
from rehydrate.text import shown

__all__ = ["Storages", "dtype_of", "is_count"]

_ID_IN_WORDS = re.compile(
    r"\('storage', <class 'torch\.(\w{1,40})'>, '([0-9]{1,20})', '([\w:]{1,40})', ([0-9]{1,18}), None\)"
)
"""A persistent id as protocol 0 has it, which writes texts only. torch writes it so, and does not read it."""


class Storages:
    """The storages of one file, one object for each key, made when the pickle first names them; and its modules."""

    ending = b"N"

    def __init__(self) -> None:
        self.made: dict[str, Storage] = {}
        self.sources: dict[str, tuple[str, str]] = {}
        """Class → the file that it was in, and its text."""
        self._views: dict[str, StorageView] = {}
        self._empty: dict[tuple[str, str], Storage] = {}
        """Storages of no elements that are named with a second type."""

    def emptied(self) -> Storages:
        """The same, before a pickle that was only read in part is read again."""
        for made in (self.made, self.sources, self._views, self._empty):
            made.clear()
        return self

    def __call__(self, token: object) -> object:
        """What a persistent id stands for: a storage, a part of one, or a class."""
        in_words = _ID_IN_WORDS.fullmatch(token) if isinstance(token, str) else None
        if in_words is not None:
            return self._storage(Record("torch", in_words[1]), in_words[2], in_words[3], int(in_words[4]))
        match token:
            case ("storage", kind, str(key), str(location), numel, view) if type(token) is tuple:
                if not is_count(numel):
                    raise CorruptError("a storage's persistent id is broken", found=brief(token))
                whole = self._storage(kind, key, location, numel)
                return whole if view is None else self._view(whole, view)
            case ("module", Record() as kind, file, text) if type(token) is tuple:
                if isinstance(file, str) and isinstance(text, str):
                    self.sources.setdefault(kind.path, (file, text))
                return kind
        raise CorruptError("unsupported persistent id: neither a storage nor a module of torch's", found=brief(token))

    def alike(self, kind: object, location: str, numel: int) -> tuple[Callable[[str], Storage], int]:
        """See `tensor_runs.Persistent`: the same as a call, with what many storages have in common looked up once."""
        dtype = dtype_of(kind)
        nbytes = numel * dtype.itemsize
        made, views = self.made, self._views

        def storage_of(key: str) -> Storage:
            if key in made or key in views:
                return self._storage(kind, key, location, numel)
            storage = made[key] = Storage(key, dtype, nbytes, location, one_piece)
            return storage

        return storage_of, nbytes

    def _storage(self, kind: object, key: str, location: str, numel: int) -> Storage:
        dtype = dtype_of(kind)
        nbytes = numel * dtype.itemsize
        known = self.made.get(key) or self._views.get(key)
        if known is None:
            storage = self.made[key] = Storage(key, dtype, nbytes, location, one_piece)
            return storage
        if known.dtype is not dtype and known.nbytes == nbytes == 0:  # nobody can see the type of nothing
            return self._empty.setdefault((key, dtype.name), Storage(key, dtype, 0, location, nowhere))
        if known.dtype is not dtype or known.nbytes != nbytes or isinstance(known, StorageView):
            raise CorruptError(
                "one storage is named with two types or lengths",
                where=f"storage {shown(key)}",
                found=f"{known.dtype}, {known.nbytes:,} bytes; {dtype}, {nbytes:,} bytes",
            )
        return known

    def _view(self, whole: Storage, view: object) -> StorageView:
        """A part of a storage, which the id describes by its own key, its offset and its elements."""
        width = whole.dtype.itemsize
        match view:
            case (str(key), offset, numel) if type(view) is tuple and is_count(offset) and is_count(numel):
                shift, nbytes = offset * width, numel * width
            case _:
                raise CorruptError("a view of a storage is broken", found=brief(view))
        if shift + nbytes > whole.nbytes:
            raise CorruptError(
                "a view reaches beyond its storage (out of bounds)",
                where=f"storage {shown(whole.key)} of {whole.nbytes:,} bytes",
                found=f"{nbytes:,} bytes from byte {shift:,}",
            )
        known = self._views.get(key)
        if known is None and key not in self.made:
            entry = whole, shift, nbytes
            known = self._views[key] = StorageView(
                key, whole.dtype, nbytes, whole.location, _pieces_of_view, entry, whole=whole, shift=shift
            )
        if known is None or known.whole is not whole or (known.shift, known.nbytes) != (shift, nbytes):
            raise CorruptError("two storages have one key", where=f"storage {shown(key)}")
        return known


def is_count(value: object) -> TypeGuard[int]:
    """Whether this is a number of elements, or of bytes, that torch could have."""
    return type(value) is int and 0 <= value < NUMBERS_END


def dtype_of(kind: object) -> DType:
    """The element type that a storage class stands for, or `CorruptError`."""
    try:
        return storage_dtype(kind)
    except KeyError as error:
        raise CorruptError("a storage of an unknown kind", found=brief(kind)) from error


def _pieces_of_view(entry: tuple[Storage, int, int]) -> tuple[Piece, ...]:
    """The part of the whole storage, which lies in one piece if it lies anywhere."""
    whole, shift, nbytes = entry
    return tuple(piece._replace(start=piece.start + shift, length=nbytes) for piece in whole.locate())
