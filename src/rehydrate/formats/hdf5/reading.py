"""HDF5: what Keras writes as `.h5`, `.hdf5` and `.weights.h5`, and the file inside of `.keras`.

    superblock      89 "HDF" 0d 0a 1a 0a, at byte 0, 512, 1024, 2048 or 4096: what is before is the user's
                    version 0 or 1: base address @24 (28), end of file @40 (44); 2 or 3: base @12, end of file @28
    everything else a graph of headers, heaps and B-trees, which `index` reads in a process of its own

A group is a dict, a dataset of numbers a tensor, text is text; `facts["attributes"]` has what is written on groups and
datasets: Keras keeps there its version, the model's configuration, and the order of layers and weights. A tensor whose
elements lie side by side is read as it lies; one in chunks is put together from those that are wanted (`chunks`).
What cannot be read (a link, a structure, a layout that only newer writers make) is a record that says so.
Specification: HDF5 File Format Specification 3.0. Needs the extra `hdf5`.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.record import Record
from rehydrate.checkpoint.tensor import Piece, Storage, TensorRef, Window, one_piece, row_major
from rehydrate.dtypes import BY_NAME, DType, dtype_of_typestring
from rehydrate.errors import CorruptError, LimitError, TruncatedError
from rehydrate.formats.contract import Format, Head, Request
from rehydrate.formats.hdf5.apart import read_index
from rehydrate.limits import Limits
from rehydrate.storage.source import MemorySource, Source
from rehydrate.storage.views import ComputedSource
from rehydrate.text import dimensions, shown, size

__all__ = ["HDF5"]

MAGIC = b"\x89HDF\r\n\x1a\n"
_PLACES = (0, 512, 1024, 2048)
"""Where the superblock may begin, as far as it is looked for."""
_FILLED = 64 << 20
"""Bytes of a tensor that may be nothing but fill value: a file of a kilobyte can describe exabytes of it."""
_INFLATION = 1032
"""Bytes that deflate can make of one."""


def _sniff(head: Head) -> bool:
    return _superblock(head.first) >= 0


def _superblock(first: bytes) -> int:
    return next((at for at in _PLACES if first.startswith(MAGIC, at)), -1)


def _read(source: Source, request: Request) -> Checkpoint:
    if not request.is_cut:
        _check_end(source)
    tree: dict[str, object] = {}
    groups: dict[object, dict[str, object]] = {}
    inside: dict[tuple[str, ...], dict[str, object]] = {}
    attributes: dict[str, object] = {}
    builder = _Builder(source, request)
    for said in read_index(source):
        path = _path(said)
        if said.get("attributes"):
            attributes["/" + "/".join(path)] = said["attributes"]
        value: object
        if "group" in said:
            value = inside[path] = groups.setdefault(said["group"], {} if path else tree)
        else:
            value = builder.dataset(said, "/".join(path))
        if path and path[:-1] in inside:
            inside[path[:-1]][path[-1]] = value
    builder.check_overlaps()
    own = {name: value for name, value in tree.items() if name not in _OF_MATLAB}
    return Checkpoint(
        source,
        format="hdf5",
        tree=tree,
        attributes={},
        facts=_facts(attributes, builder),
        model=None if len(own) == len(tree) else lambda: own,
    )


def _path(said: dict[str, object]) -> tuple[str, ...]:
    path = said.get("path")
    if not isinstance(path, list) or not all(isinstance(name, str) for name in path):
        raise CorruptError("an object of the HDF5 file has no path")
    return tuple(path)


def _check_end(source: Source) -> None:
    """Whether the file is as long as its superblock says."""
    first = source.read(0, min(4096, source.size))
    at = _superblock(first)
    version = first[at + 8] if at + 8 < len(first) else 0
    where = at + {0: 40, 1: 44}.get(version, 28)
    field = first[where : where + 8]
    end = int.from_bytes(field, "little")
    if len(field) < 8 or end > source.size:
        raise TruncatedError(
            "the HDF5 file is cut",
            where=shown(source.name),
            found=f"{size(source.size)} of {size(end)}" if len(field) == 8 else size(source.size),
            hint="download it again",
        )


_OF_MATLAB = frozenset({"#refs#", "#subsystem#"})
"""Groups in which MATLAB 7.3 keeps what its own values consist of; they are no variables."""


class _Builder:
    """Makes tensors of what the index says; those at one place share their storage, as hard links do."""

    def __init__(self, source: Source, request: Request) -> None:
        self._source = source
        self._is_cut = request.is_cut
        self._limits = request.limits
        self._at: dict[tuple[int, str], Storage] = {}
        self.orders: set[str] = set()

    def dataset(self, said: dict[str, object], name: str) -> object:
        """The tensor, the value, or the record of a dataset."""
        if "value" in said:
            return said["value"]
        if "dtype" not in said:
            return Record("hdf5", "Dataset", (said.get("unread", ""),))
        dtype, is_big = self._element(said["dtype"])
        shape = _numbers(said.get("shape"), "shape")
        if len(shape) > self._limits.dimensions or math.prod(max(extent, 1) for extent in shape) >= 1 << 56:
            raise CorruptError("a dataset is larger than anything", where=shown(name), found=dimensions(shape))
        self.orders.add("big" if is_big else "little")
        storage = self._storage(said, name, dtype, shape, "big-endian" if is_big else "raw")
        return TensorRef("", Window(dtype, shape, row_major(shape)), storage)

    def _element(self, said: object) -> tuple[DType, bool]:
        known = (BY_NAME["bfloat16"], False) if said == "bfloat16" else dtype_of_typestring(str(said))
        if known is None:
            raise CorruptError("a dataset has elements that no tensor has", found=shown(said))
        return known

    def _storage(
        self, said: dict[str, object], name: str, dtype: DType, shape: tuple[int, ...], coding: str
    ) -> Storage:
        nbytes = math.prod(shape) * dtype.itemsize
        if "at" in said:
            (at,) = _numbers([said["at"]], "place")
            if at + nbytes > self._source.size and not self._is_cut:
                raise TruncatedError(
                    "a dataset reaches beyond the end of the file",
                    where=shown(name),
                    found=f"{size(max(self._source.size - at, 0))} of {size(nbytes)}",
                )
            piece = Piece(self._source, at, nbytes, 0, coding)
            storage = Storage(name, dtype, nbytes, "cpu", one_piece, piece, order=at)
            return self._at.setdefault((at, f"{dtype}{nbytes}"), storage)
        if "data" in said:
            data = _from_hex(said["data"])
            if len(data) < nbytes:
                raise CorruptError("a dataset has less data than elements", where=shown(name), found=size(len(data)))
            piece = Piece(MemorySource(data, name), 0, nbytes, 0, coding)
            return Storage(name, dtype, nbytes, "cpu", one_piece, piece)
        entry = _Scattered(self._source, name, said, shape, dtype.itemsize, coding, self._limits)
        return Storage(name, dtype, nbytes, "cpu", _in_chunks, entry)

    def check_overlaps(self) -> None:
        """Datasets lie beside each other, unless they are one."""
        end = 0
        for storage in sorted(self._at.values(), key=lambda storage: (storage.order, storage.nbytes)):
            if storage.nbytes and storage.order < end:
                raise CorruptError("datasets of the HDF5 file overlap", where=shown(storage.key))
            end = storage.order + storage.nbytes


class _Scattered(NamedTuple):
    """A dataset in chunks, as the index has it."""

    source: Source
    name: str
    said: dict[str, object]
    shape: tuple[int, ...]
    itemsize: int
    coding: str
    limits: Limits


def _in_chunks(data: _Scattered) -> tuple[Piece, ...]:
    """A source that puts the elements together, once it is sure that they are not much more than the file holds."""
    from rehydrate.formats.hdf5.chunks import Chunked, elements_of

    source, name, said, shape, itemsize, coding, limits = data
    rows = tuple(_numbers(row, "chunk") for row in _listed(said.get("index")))
    box = _numbers(said.get("chunks"), "chunk") or shape or (1,)
    filters = tuple((_numbers(one[:1], "filter")[0], _arguments(one[1:])) for one in _listed(said.get("filters")))
    nbytes, stored = math.prod(shape) * itemsize, sum(row[1] for row in rows)
    if len(box) != max(len(shape), 1) or stored > source.size or not _is_a_grid([row[3:] for row in rows], box, shape):
        raise CorruptError("the chunks of a dataset are not what they should be", where=shown(name))
    bound = _FILLED + stored * (_INFLATION if filters else 1)
    if max(nbytes, math.prod(box) * itemsize if rows else 0) > min(bound, limits.unpacked_bytes):
        raise LimitError(
            "a dataset is very much larger than what the file holds of it",
            where=f"{shown(name)} {dimensions(shape)}",
            found=f"{size(stored)} for {size(nbytes)}",
        )
    fill = _from_hex(said.get("fill", ""))
    if fill and len(fill) != itemsize:
        raise CorruptError("the fill value of a dataset is no element of it", where=shown(name))
    chunked = Chunked(source, name, shape, itemsize, box, filters, fill, rows)
    return (Piece(ComputedSource(nbytes, partial(elements_of, chunked), name), 0, nbytes, 0, coding),)


def _is_a_grid(corners: list[tuple[int, ...]], box: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether every chunk begins at a multiple of its extents, inside of the dataset, and where no other does."""
    if not corners:
        return True
    return (
        0 not in box
        and len(set(corners)) == len(corners)
        and all(len(corner) == len(box) == len(shape) for corner in corners)
        and all(
            at % step == 0 and at < extent
            for corner in corners
            for at, step, extent in zip(corner, box, shape, strict=True)
        )
    )


def _listed(value: object) -> list[list[object]]:
    return [one for one in value if isinstance(one, list)] if isinstance(value, list) else []


def _arguments(value: list[object]) -> tuple[int, ...]:
    """The arguments of a filter, which are any numbers at all."""
    inner = value[0] if value and isinstance(value[0], list) else []
    return tuple(number for number in inner if type(number) is int)


def _numbers(value: object, what: str) -> tuple[int, ...]:
    """Whole numbers that an address or an extent can be."""
    if not isinstance(value, list) or not all(type(number) is int and 0 <= number < 1 << 64 for number in value):
        raise CorruptError(f"the {what} of a dataset is not made of whole numbers")
    return tuple(value)


def _from_hex(value: object) -> bytes:
    try:
        return bytes.fromhex(str(value))
    except ValueError as error:
        raise CorruptError("the bytes of a dataset are not said in hexadecimal digits") from error


def _facts(attributes: dict[str, object], builder: _Builder) -> dict[str, object]:
    said: dict[str, object] = {}
    for path in ("/model_weights", "/"):
        found = attributes.get(path)
        said |= found if isinstance(found, dict) else {}
    version, backend = said.get("keras_version"), said.get("backend")
    writer = f"Keras {shown(version, 20)}" + (f" on {shown(backend, 20)}" if backend else "")
    return {
        **({"writer": writer} if version else {}),
        "byteorder": builder.orders.pop() if len(builder.orders) == 1 else "mixed" if builder.orders else "little",
        "attributes": attributes,
    }


HDF5 = Format("hdf5", _sniff, _read)
"""The format's row in `opening.FORMATS`."""
