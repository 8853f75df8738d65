"""torch.distributed.checkpoint: a folder that many ranks wrote together.

    .metadata      a pickle of `Metadata`: which tensors there are, which boxes of them were stored, and where
                     state_dict_metadata   name → TensorStorageMetadata(properties, size, chunks), or
                                           BytesStorageMetadata for what is no tensor
                     storage_data          MetadataIndex(fqn, offset) → _StorageInfo(relative_path, offset, length)
                     planner_data          name → path in the nested state dict; not there when it was flat
    *.distcp       what each rank stored, one after the other: every box of a tensor, and every object that is none, is
                   a whole file of `torch.save`

A tensor that is cut into boxes becomes one tensor again, wherever they lie; `boxes` proves that they are the whole.
`.metadata` is read by our machine: the classes in it are records, and torch's own unsafe load of it is not needed. A
tensor's file is opened when its bytes are wanted; objects are opened at once, for they are part of the tree. Source:
`torch/distributed/checkpoint/{metadata,filesystem,default_planner}.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import prod
from typing import NamedTuple

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.record import Record, brief
from rehydrate.checkpoint.tensor import Piece, Storage, TensorRef, Window, row_major
from rehydrate.checkpoint.trace import Checksum
from rehydrate.dtypes import DType
from rehydrate.errors import AmbiguousError, CorruptError, RebuildError, TruncatedError
from rehydrate.formats.beside import files_beside
from rehydrate.formats.boxes import Box, check_cover, pieces_of_boxes
from rehydrate.formats.contract import Format, Head, Request
from rehydrate.formats.facts import facts_of, trace_of
from rehydrate.formats.unflattened import unflattened
from rehydrate.pickles.known import read_known_pickle
from rehydrate.pickles.torch_names import NUMBERS_END, window_of
from rehydrate.storage.source import Source
from rehydrate.storage.views import PartSource, SourceSet
from rehydrate.text import dimensions, shown

__all__ = ["DCP"]

_MODULE = b"torch.distributed.checkpoint.metadata"
_CLASSES = frozenset(
    {
        *(f"{_MODULE.decode()}.{name}" for name in (
            "Metadata", "MetadataIndex", "TensorStorageMetadata", "BytesStorageMetadata", "ChunkStorageMetadata",
            "TensorProperties", "StorageMeta", "_MEM_FORMAT_ENCODING",
        )),
        "torch.distributed.checkpoint.filesystem._StorageInfo",
        "torch.distributed._shard.sharded_tensor.metadata.TensorProperties",
        "torch.distributed._shard.sharded_tensor.metadata.MEM_FORMAT_ENCODING",
    }
)  # fmt: skip
"""The classes of `.metadata`: this format's own words, which hold data and do nothing."""

Extents = tuple[int, ...]
Key = tuple[str, Extents | None]
"""A tensor's name with the offsets of a box; an object's name with None."""


class _Item(NamedTuple):
    """Where one stored thing lies."""

    file: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    """One tensor of the index, its boxes, and where each lies."""

    name: str
    window: Window
    boxes: tuple[tuple[Box, _Item], ...]


def _sniff(head: Head) -> bool:
    return head.first.startswith(b"\x80") and _MODULE in head.first[:64]


def _read(source: Source, request: Request) -> Checkpoint:
    reading = read_known_pickle(source.read(0, source.size), limits=request.limits)
    if reading.end != source.size:
        raise AmbiguousError("there are bytes after the end of the pickle; other readers may read those instead")
    index = _state(reading.value, "Metadata")
    stored = _stored(index.get("storage_data"))
    described = _described(index.get("state_dict_metadata"), stored)
    paths = index.get("planner_data")
    with ExitStack() as closing:
        names = sorted({item.file for item in stored.values()})
        files = _Files(files_beside(names, source, request, closing), stored, request)
        objects = {name: files.open(item, name) for name, item in described.items() if isinstance(item, _Item)}
        tree = unflattened(
            (
                (name, files.reference(what) if isinstance(what, _Tensor) else objects[name].tree)
                for name, what in described.items()
            ),
            paths if isinstance(paths, dict) else {},
        )
        closing.pop_all()
    within = [
        replace(trace, where=f"{name}/{trace.where}") for name, inner in objects.items() for trace in inner.traces
    ]
    return Checkpoint(
        SourceSet([source, *files.sources.values()], source.name),
        format="dcp",
        tree=tree,
        attributes={key: value for inner in objects.values() for key, value in inner.attributes.items()},
        facts=_facts(index, facts_of(reading), [inner.facts for inner in objects.values()]) | {"files": tuple(names)},
        kept=(reading.kept, tuple(objects.values())),
        traces=(trace_of(reading, ".metadata"), *within),
        checksums=files.checksums,
    )


def _facts(
    index: Mapping[str, object], own: Mapping[str, object], inner: Iterable[Mapping[str, object]]
) -> dict[str, object]:
    """What the index says of itself, and what it and the objects would have had an unpickler import and call."""
    facts: dict[str, object] = {"protocol": own.get("protocol")}
    version = index.get("version")
    if type(version) is str:
        facts["version"] = version
    for key in ("imports", "calls"):
        names = [name for said in (own, *inner) for name in _names(said.get(key)) if name not in _CLASSES]
        facts[key] = tuple(dict.fromkeys(names))
    return facts


def _names(value: object) -> tuple[str, ...]:
    return value if isinstance(value, tuple) else ()


def _state(value: object, kind: str) -> Mapping[str, object]:
    """The fields of one of the format's records."""
    if isinstance(value, Record) and value.name == kind:
        state = {} if value.state is None else value.state
        if isinstance(state, dict) and all(type(key) is str for key in state):
            return state
    raise CorruptError(f"the index is not made as its format says: no {kind}", found=brief(value))


def _extents(value: object) -> Extents:
    """A torch.Size: numbers that torch could hold."""
    if isinstance(value, Record) and value.path == "torch.Size" and value.args:
        value = value.args[0]
    if isinstance(value, (tuple, list)) and all(type(item) is int and 0 <= item < NUMBERS_END for item in value):
        return tuple(value)
    raise CorruptError("a size in the index is not made of whole numbers", found=brief(value))


def _stored(data: object) -> dict[Key, _Item]:
    """Where everything lies, by what it is."""
    if not isinstance(data, dict):
        raise CorruptError("the index does not say where its tensors lie", found=brief(data))
    stored: dict[Key, _Item] = {}
    for key, value in data.items():
        index, info = _state(key, "MetadataIndex"), _state(value, "_StorageInfo")
        name, offsets = index.get("fqn"), index.get("offset")
        item = _Item(info.get("relative_path"), info.get("offset"), info.get("length"))  # type: ignore[arg-type]
        numbers = (item.offset, item.length)
        if not (
            type(name) is str
            and type(item.file) is str
            and all(type(number) is int and 0 <= number < NUMBERS_END for number in numbers)
        ):
            raise CorruptError("an entry of the index is broken", where=brief(key), found=brief(value))
        if info.get("transform_descriptors"):
            raise RebuildError(
                "what this checkpoint stored was compressed or encrypted by an extension",
                where=shown(name),
                found=brief(info["transform_descriptors"]),
                hint="torch.distributed.checkpoint with that extension reads it; save it again without",
            )
        place = name, None if offsets is None else _extents(offsets)
        if place in stored:
            raise AmbiguousError("the index says twice where something lies", where=shown(name), found=brief(key))
        stored[place] = item
    _check_apart(stored)
    return stored


def _check_apart(stored: Mapping[Key, _Item]) -> None:
    """Refuse stored things that share bytes: a small file could describe one that is very much larger."""
    end, last = 0, ""
    for (name, _), item in sorted(stored.items(), key=lambda pair: pair[1]):
        if item.file == last and item.offset < end:
            raise CorruptError(
                "two stored things share bytes", where=f"{shown(item.file)}, byte {item.offset:,}", found=shown(name)
            )
        last, end = item.file, item.offset + item.length


def _described(described: object, stored: Mapping[Key, _Item]) -> dict[str, _Tensor | _Item]:
    """The tensors of the index, and where each object that is none lies, in the index's order."""
    if not isinstance(described, dict) or not all(type(name) is str for name in described):
        raise CorruptError("the index does not say what its tensors are", found=brief(described))
    return {
        name: _item(stored, (name, None))
        if isinstance(value, Record) and value.name == "BytesStorageMetadata"
        else _tensor(name, _state(value, "TensorStorageMetadata"), stored)
        for name, value in described.items()
    }


def _tensor(name: str, fields: Mapping[str, object], stored: Mapping[Key, _Item]) -> _Tensor:
    where = f"tensor {shown(name)!r}"
    dtype, size = _dtype(fields.get("properties"), where), _extents(fields.get("size"))
    chunks = fields.get("chunks")
    if not isinstance(chunks, list):
        raise CorruptError("the index does not say what a tensor is made of", where=where, found=brief(chunks))
    boxes: dict[Box, _Item] = {}
    for chunk in chunks:
        box = _state(chunk, "ChunkStorageMetadata")
        offsets = _extents(box.get("offsets"))
        sizes = _extents(box.get("sizes"))
        item = boxes[Box(offsets, sizes)] = _item(stored, (name, offsets))
        if prod(sizes) * dtype.itemsize > item.length:
            raise CorruptError(
                "a part of a tensor takes more bytes than were stored",
                where=where,
                found=f"{dtype} {dimensions(sizes)} in {item.length:,} bytes",
            )
    check_cover(size, boxes, where)
    return _Tensor(name, window_of(dtype, size, row_major(size), 0), tuple(boxes.items()))


def _dtype(properties: object, where: str) -> DType:
    """The element type of a TensorProperties; its state is (dtype, layout, requires_grad, memory format, pinned)."""
    state = properties.state if isinstance(properties, Record) else None
    dtype = state.get("dtype") if isinstance(state, dict) else state[0] if isinstance(state, tuple) and state else None
    if not isinstance(dtype, DType) or dtype.per_byte > 1 or dtype.kind == "quantized":
        raise CorruptError("the index says of what type no element can be", where=where, found=brief(properties))
    return dtype


def _item(stored: Mapping[Key, _Item], key: Key) -> _Item:
    item = stored.get(key)
    if item is None:
        name, offsets = key
        what = (
            "an object lies" if offsets is None else f"the part of a tensor lies that begins at {dimensions(offsets)}"
        )
        raise CorruptError(f"the index does not say where {what}", where=shown(name))
    return item


class _Stored(PartSource):
    """One stored thing as a file of its own. Others lie in the same file, which closing it must not close."""

    def outside(self, piece: Piece) -> Piece:
        """The same bytes in the file itself, so that neighbours can be read together."""
        return piece._replace(source=self._source, start=self._start + piece.start)

    def close(self) -> None:
        """Leave the file to whoever opened it."""


class _Files:
    """The files of one checkpoint, and what is stored in them. Nothing that was opened there is kept: there is much."""

    def __init__(self, sources: dict[str, Source], stored: Mapping[Key, _Item], request: Request) -> None:
        self.sources = sources
        self._stored = stored
        self._request = request
        self._begins: dict[str, int] = {}
        begin = 0
        for name, source in sources.items():
            self._begins[name] = begin
            begin += source.size
        for (name, _), item in stored.items():
            if item.offset + item.length > sources[item.file].size and not request.is_cut:
                raise TruncatedError(
                    "a file of this checkpoint is cut",
                    where=shown(sources[item.file].name),
                    found=f"{sources[item.file].size:,} bytes; {shown(name)!r} ends at {item.offset + item.length:,}",
                    hint="download it again",
                )

    def open(self, item: _Item, name: str) -> Checkpoint:
        """Open one stored thing, which is a checkpoint of its own."""
        part = _Stored(self.sources[item.file], item.offset, item.length, f"{item.file}, {name}")
        return self._request.inside(part)

    def reference(self, tensor: _Tensor) -> TensorRef:
        """A reference to a whole tensor, whose parts are opened when bytes are wanted."""
        window = tensor.window
        nbytes = window.reach
        order = min((self._begins[item.file] + item.offset for _, item in tensor.boxes), default=0)
        storage = Storage(tensor.name, window.dtype, nbytes, "cpu", self._pieces, tensor, order)
        return TensorRef("", window, storage)

    def checksums(self) -> Iterator[Checksum]:
        """What the writer says about the bytes of everything that is stored."""
        for (name, _), item in self._stored.items():
            inner = self.open(item, name)
            for checksum in inner.checksums() if inner.checksums else ():
                yield replace(checksum, name=f"{name}/{checksum.name}")

    def _pieces(self, tensor: _Tensor) -> tuple[Piece, ...]:
        missing = next((item for _, item in tensor.boxes if not self._is_there(item)), None)
        if missing is not None:  # only where the caller said that files may end early
            source = self.sources[missing.file]
            return (Piece(source, source.size, tensor.window.reach),)
        parts = [(box, self._part(tensor, box, item)) for box, item in tensor.boxes if 0 not in box.sizes]
        pieces = pieces_of_boxes(tensor.window.shape, parts, shown(tensor.name))
        return tuple(piece.source.outside(piece) if isinstance(piece.source, _Stored) else piece for piece in pieces)

    def _is_there(self, item: _Item) -> bool:
        return item.offset + item.length <= self.sources[item.file].size

    def _part(self, tensor: _Tensor, box: Box, item: _Item) -> TensorRef:
        """The tensor that one box was stored as."""
        tree = self.open(item, tensor.name).tree
        if not isinstance(tree, TensorRef) or tree.shape != box.sizes or tree.dtype is not tensor.window.dtype:
            raise CorruptError(
                "a stored part of a tensor is something else than the index says",
                where=f"{shown(item.file)}, byte {item.offset:,}, tensor {shown(tensor.name)!r}",
                found=f"{brief(tree)}; the index says {tensor.window.dtype} {dimensions(box.sizes)}",
            )
        return tree


DCP = Format("dcp", _sniff, _read)
"""The format's row in `opening.FORMATS`."""
