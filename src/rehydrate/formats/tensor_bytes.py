r"""Tensors that lie in a pickle as bytes: `pickle.dump` of a tensor writes its storage so.

    torch.storage._load_from_bytes(BYTES)       BYTES is what `torch.save` wrote of that one storage: a legacy stream,
                                                or a zip where somebody wrote it by hand

The bytes are opened as any other file would be, by the same readers and limits; a call whose bytes are anything but
one storage stays a record. torch itself would have run whatever they say.

A state dict has thousands of them, which differ in five places; `_WRITTEN` takes such a stream at a glance. Whatever
differs anywhere else goes the long way, and what comes out is the same.
"""

from __future__ import annotations

import re
from dataclasses import replace

from rehydrate.checkpoint.record import Record
from rehydrate.checkpoint.tensor import Piece, Storage
from rehydrate.checkpoint.trace import Trace
from rehydrate.dtypes import DType
from rehydrate.errors import RehydrateError
from rehydrate.formats.contract import Request
from rehydrate.pickles.results import UNFIT, Constructor, Name
from rehydrate.pickles.torch_names import storage_dtype
from rehydrate.storage.source import MemorySource

__all__ = ["TensorBytes"]

_SHORTEST = 64
"""Bytes that any storage takes with what is around it."""
_BEGINNINGS = (b"\x80", b"PK\3\4")

_WRITTEN = re.compile(
    rb"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19\.\x80\x02M\xe9\x03\."
    rb"\x80\x02}q\0\(X\x10\0\0\0protocol_versionq\x01M\xe9\x03X\r\0\0\0little_endianq\x02\x88X\n\0\0\0type_sizesq\x03"
    rb"}q\x04\(X\x05\0\0\0shortq\x05K\x02X\x03\0\0\0intq\x06K\x04X\x04\0\0\0longq\x07K[\x04\x08]uu\."
    rb"\x80\x02\(X\x07\0\0\0storageq\0c(torch(?:\.cuda|\.storage)?)\n([A-Z]\w{1,20}Storage)\nq\x01"
    rb"X(.)\0\0\0([0-9]{1,20})q\x02X(.)\0\0\0([a-z]{1,8}(?::[0-9]{1,3})?)q\x03(K.|M..|J...[\0-\x7f])Ntq\x04Q\."
    rb"\x80\x02\]q\0X(.)\0\0\0([0-9]{1,20})q\x01a\.(.{8})",
    re.DOTALL,
)
"""A legacy stream of one storage, up to its elements, as torch writes it; see `torch_legacy` for what it says."""


_MOST_REFUSED = 64
"""Bytes that are none of torch's, after which no more are tried: an honest file has none, and each refusal costs."""


class TensorBytes:
    """The storages inside one pickle, and what their own pickles say."""

    def __init__(self, request: Request) -> None:
        self.traces: list[Trace] = []
        """Of those that went the long way; the others name a class of torch's and nothing else."""
        self.saved_on: set[str] = set()
        self.names: dict[Name, Constructor] = {("torch.storage", "_load_from_bytes"): self._storage}
        """For `read_known_pickle(more=…)`."""
        self._request = replace(request, is_cut=False)
        self._storages = self._refused = 0
        self._known: dict[int, tuple[bytes, object]] = {}
        self._kinds: dict[tuple[bytes, bytes], DType | None] = {}

    def _storage(self, args: tuple[object, ...]) -> object:
        data = args[0] if len(args) == 1 else None
        if type(data) is not bytes or len(data) < _SHORTEST or not data.startswith(_BEGINNINGS):
            return UNFIT
        if id(data) not in self._known:  # bytes that are recalled again and again are opened once
            self._storages += 1
            self._known[id(data)] = data, self._recognised(data) or self._opened(data)
        return self._known[id(data)][1]

    def _recognised(self, data: bytes) -> Storage | None:
        """The storage in a stream that is exactly as torch writes it."""
        written = _WRITTEN.match(data)
        if written is None:
            return None
        (module, name, key_length, key, location_length, location, number, again_length, again, count) = (
            written.groups()
        )
        dtype = self._kind(module, name)
        numel, start = int.from_bytes(number[1:], "little"), written.end()
        if (
            dtype is None
            or not key_length[0] == again_length[0] == len(key)
            or key != again
            or location_length[0] != len(location)
            or int.from_bytes(count, "little") != numel
            or len(data) - start != numel * dtype.itemsize
        ):
            return None
        place = location.decode("ascii")
        self.saved_on.add(place)
        return Storage(key.decode("ascii"), dtype, len(data) - start, place, _elements, (data, start))

    def _kind(self, module: bytes, name: bytes) -> DType | None:
        if (module, name) not in self._kinds:
            try:
                known: DType | None = storage_dtype(Record(module.decode("ascii"), name.decode("ascii")))
            except KeyError:
                known = None
            self._kinds[module, name] = known
        return self._kinds[module, name]

    def _opened(self, data: bytes) -> object:
        """The same by the reader of whatever format it is."""
        if self._refused >= _MOST_REFUSED:
            return UNFIT
        try:
            checkpoint = self._request.inside(MemorySource(data, "<bytes in the pickle>"))
        except RehydrateError:
            self._refused += 1
            return UNFIT
        if not isinstance(checkpoint.tree, Storage):
            return UNFIT
        where = f"storage {self._storages:,} in the pickle"
        self.traces.extend(replace(trace, where=where) for trace in checkpoint.traces)
        self.saved_on.add(checkpoint.tree.location)
        return checkpoint.tree


def _elements(entry: tuple[bytes, int]) -> tuple[Piece, ...]:
    data, start = entry
    return (Piece(MemorySource(data), start, len(data) - start),)
