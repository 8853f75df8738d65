"""torch's first format: the tar archives that `torch.save` wrote from 0.1.0 to 0.1.9.

    sys_info    pickle {"protocol_version": 1000, "little_endian": True, "type_sizes": {...}}
    pickle      pickle of the object; tensors, storages and classes of modules in it are persistent ids
    tensors     pickle N; then N times:
                    pickle (KEY, STORAGE KEY or None, torch.FloatTensor)
                    int32 dimensions, 4 bytes of no meaning; int64 × dimensions, the shape; as many, the strides;
                    int64, the offset in elements
    storages    pickle N; then N times:
                    pickle (KEY, LOCATION, torch.FloatStorage)
                    int64, the number of elements; the elements
                pickle [(KEY, KEY of the whole, OFFSET, NUMEL), ...], the storages that were parts of others

    persistent id   "KEY" of a tensor or a storage, in decimal digits; or (CLASS, SOURCE FILE, SOURCE TEXT)

Keys are addresses. Numbers and elements lie as the machine had them, in the byte order that sys_info tells. Such a
file is only one of torch's if the names are exactly these, and regular files. torch still reads it, by extracting the
members into a temporary folder; here nothing leaves the archive. Source: `torch/serialization.py` and
`torch/csrc/generic/serialization.cpp` of 0.1.9, and `_legacy_load` of today.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import replace

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.record import Record, brief
from rehydrate.checkpoint.tensor import Piece, Storage, StorageView, TensorRef, one_piece
from rehydrate.checkpoint.trace import Trace
from rehydrate.dtypes import BY_STORAGE
from rehydrate.errors import AmbiguousError, CorruptError, TruncatedError
from rehydrate.formats.contract import Request
from rehydrate.formats.facts import facts_of_all, saved_on
from rehydrate.formats.legacy_storages import dtype_of, is_count
from rehydrate.formats.pickle_inside import read_pickle_inside, trace_inside
from rehydrate.formats.tar_directory import TarDirectory, TarMember
from rehydrate.limits import Limits
from rehydrate.pickles.reading import Reading
from rehydrate.pickles.torch_names import nowhere, tensor_on, window_of
from rehydrate.storage.source import Source
from rehydrate.text import listed, shown

__all__ = ["is_torch_tar", "read_torch_tar"]

_NAMES = ("sys_info", "pickle", "tensors", "storages")
_KEY = re.compile(r"-?[0-9]{1,20}")
_WINDOW = 512
"""Bytes in which a pickle before a tensor or a storage usually ends."""


def is_torch_tar(directory: TarDirectory) -> bool:
    """Whether the members are torch's; two of its names are no accident, so that a third one's lack is told."""
    return sum(name in directory.members or name in directory.others for name in _NAMES) > 1


def read_torch_tar(directory: TarDirectory, request: Request) -> Checkpoint:
    """Open one. Raises what reading a damaged file raises."""
    others = [name for name in _NAMES if name in directory.others]
    if others:
        raise CorruptError(
            f"{directory.others[others[0]]} stands where a torch file of before 0.1.10 has a file",
            where=shown(directory.source.name),
            found=shown(others[0]),
        )
    more = [name for name in directory.members if name not in _NAMES]
    if more:
        raise AmbiguousError(
            "the archive has other members beside those of torch", found=listed([shown(name) for name in more])
        )
    parts = {name: _Part(directory, name, request) for name in _NAMES}
    info = parts["sys_info"].pickle(4096)
    order = "<" if not isinstance(info.value, dict) or info.value.get("little_endian", True) is True else ">"
    objects = _Objects(directory.source, order)
    objects.read_storages(parts["storages"], request.is_cut)
    objects.read_tensors(parts["tensors"], request.is_cut)
    reading = parts["pickle"].pickle(directory.members["pickle"].size, lambda: objects)
    for part in parts.values():
        part.check_end()
    readings = [found for part in parts.values() for _, found in part.found]
    return Checkpoint(
        directory.source,
        format="torch-tar",
        tree=reading.value,
        attributes=reading.attributes,
        facts=facts_of_all(
            reading,
            readings,
            writer="torch.save",
            byteorder="little" if order == "<" else "big",
            saved_on=saved_on(reading, objects.storages.values()),
            **({"sources": objects.sources} if objects.sources else {}),
        ),
        kept=reading.kept,
        traces=tuple(trace for part in parts.values() for trace in part.traces()),
    )


class _Part:
    """One member, read from its beginning to its end."""

    def __init__(self, directory: TarDirectory, name: str, request: Request) -> None:
        member = directory.members.get(name)
        if member is None and request.is_cut and name == _NAMES[-1]:
            member = TarMember(name, directory.source.size, 0)  # it would have come next
        if member is None:
            raise CorruptError(
                "a part of this torch file is missing (of before 0.1.10, in a tar archive)",
                where=shown(directory.source.name),
                found=f"no member {name!r}",
            )
        self.start = member.start
        self.found: list[tuple[int, Reading]] = []
        self.at = 0
        self._name = name
        self._is_cut = request.is_cut
        self.limits: Limits = request.limits
        self.source: Source = directory.source_of(member)

    def pickle(
        self, window: int = _WINDOW, persistent: Callable[[], Callable[[object], object] | None] = lambda: None
    ) -> Reading:
        """The next pickle."""
        reading = read_pickle_inside(self.source, self.at, self.limits, window=window, persistent=persistent)
        self.found.append((self.at, reading))
        self.at += reading.end
        return reading

    def numbers(self, layout: str) -> tuple[int, ...]:
        """The next numbers."""
        form = struct.Struct(layout)
        data = self.source.read(self.at, form.size)
        self.at += form.size
        return form.unpack(data)

    def check_end(self) -> None:
        """Refuse bytes that nobody has read."""
        if self.at < self.source.size and not self._is_cut:
            raise AmbiguousError(
                "there are bytes after the end of a part; other readers may read those instead",
                where=f"member {self._name}, byte {self.at:,}",
            )

    def traces(self) -> list[Trace]:
        """The traces of its pickles."""
        return [trace_inside(reading, at, self._name) for at, reading in self.found]


class _Objects:
    """Storages and tensors by their keys, and what the object's pickle gets for its persistent ids."""

    def __init__(self, source: Source, order: str) -> None:
        self.storages: dict[int, Storage] = {}
        self.sources: dict[str, tuple[str, str]] = {}
        """Class → the file that it was in, and its text."""
        self._tensors: dict[int, TensorRef] = {}
        self._source = source
        self._order = order
        self._coding = "raw" if order == "<" else "big-endian"

    def __call__(self, token: object) -> object:
        """What a persistent id stands for."""
        match token:
            case str() if _KEY.fullmatch(token):
                key = int(token)
                if key in self._tensors:
                    return self._tensors[key]
                if key in self.storages:
                    return self.storages[key]
                raise CorruptError("the object names a tensor that is not in the file", found=shown(token))
            case (Record() as kind, file, text) if type(token) is tuple:
                if isinstance(file, str) and isinstance(text, str):
                    self.sources.setdefault(kind.path, (file, text))
                return kind
        raise CorruptError("unsupported persistent id: neither a tensor nor a class", found=brief(token))

    def read_storages(self, part: _Part, is_cut: bool) -> None:
        """Find every storage; elements are stepped over."""
        try:
            for _ in range(_count(part.pickle().value)):
                self._enter_storage(part)
            views = part.pickle(4096).value
        except TruncatedError:
            if not is_cut:
                raise
            return
        if type(views) is not list:
            raise CorruptError("the list of parts of storages is no list", found=brief(views))
        for view in views:
            self._enter_view(view)

    def _enter_storage(self, part: _Part) -> None:
        match part.pickle().value:
            case (int(key), str(location), kind):
                dtype = dtype_of(kind)
            case other:
                raise CorruptError("a storage's description is broken", found=brief(other))
        (numel,) = part.numbers(self._order + "q")
        nbytes = numel * dtype.itemsize
        if numel < 0 or key in self.storages:
            raise CorruptError(
                "a storage has a negative length, or is there twice",
                where=f"storage {key}",
                found=f"{numel:,} elements",
            )
        start = part.start + part.at
        self.storages[key] = Storage(str(key), dtype, nbytes, location, one_piece, self._piece(start, nbytes), start)
        part.at += nbytes

    def _piece(self, start: int, nbytes: int) -> Piece:
        return Piece(self._source, start, nbytes, coding=self._coding)

    def _enter_view(self, view: object) -> None:
        match view:
            case (int(key), int(root), offset, numel) if is_count(offset) and is_count(numel):
                whole = self.storages.get(root)
            case _:
                raise CorruptError("a part of a storage is broken", found=brief(view))
        if whole is None or key in self.storages or isinstance(whole, StorageView):
            raise CorruptError("a part of a storage has no whole, or two", found=brief(view))
        shift, nbytes = offset * whole.dtype.itemsize, numel * whole.dtype.itemsize
        if shift + nbytes > whole.nbytes:
            raise CorruptError("a part reaches beyond its storage (out of bounds)", found=brief(view))
        start = whole.order + shift
        self.storages[key] = StorageView(
            str(key),
            whole.dtype,
            nbytes,
            whole.location,
            one_piece,
            self._piece(start, nbytes),
            start,
            whole=whole,
            shift=shift,
        )

    def read_tensors(self, part: _Part, is_cut: bool) -> None:
        """Make a reference for every tensor."""
        for _ in range(_count(part.pickle().value)):
            match part.pickle().value:
                case (int(key), int() | None as owner, kind) if key not in self._tensors:
                    storage = self._owner(owner, kind, is_cut)
                case other:
                    raise CorruptError("a tensor's description is broken, or there twice", found=brief(other))
            dimensions, _ = part.numbers(self._order + "i4s")
            if not 0 <= dimensions <= part.limits.dimensions:
                raise CorruptError(f"a tensor has {dimensions:,} dimensions", where=f"tensor {key}")
            numbers = part.numbers(f"{self._order}{2 * dimensions + 1}q")
            shape, strides = numbers[:dimensions], numbers[dimensions:-1]
            if not dimensions and not storage.nbytes:
                shape, strides = (0,), (1,)  # there were no tensors of no dimensions yet: these are the empty ones
            window = window_of(storage.dtype, shape, strides, numbers[-1])
            if is_cut and owner is not None and owner not in self.storages:
                storage = replace(storage, nbytes=window.reach, entry=self._piece(self._source.size, window.reach))
            self._tensors[key] = tensor_on(storage, window, window.reach)

    def _owner(self, key: int | None, kind: object, is_cut: bool) -> Storage:
        """The storage of a tensor; an empty one where it had none, and one that is not there where the file is cut."""
        if key in self.storages:
            return self.storages[key]
        if key is not None and not is_cut:
            raise CorruptError("a tensor's storage is missing from the file", where=f"storage {key}")
        if not isinstance(kind, Record) or kind.name.removesuffix("Tensor") not in BY_STORAGE:
            raise CorruptError("a tensor is of an unknown type", found=brief(kind))
        dtype = BY_STORAGE[kind.name.removesuffix("Tensor")]
        if key is None:
            return Storage("", dtype, 0, "cpu", nowhere)
        return Storage(str(key), dtype, 0, "cpu", one_piece)


def _count(value: object) -> int:
    """How many storages or tensors follow; each takes bytes, so that the file bounds it."""
    if not is_count(value):
        raise CorruptError("the number of storages or tensors is none", found=brief(value))
    return value
