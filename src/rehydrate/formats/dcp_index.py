"""What the index of a torch.distributed.checkpoint folder says: tensors in boxes, objects, and where each thing lies.

The index is a pickle, see `dcp`; its classes are records here, whose fields are looked at one by one. Things that share
bytes, things that are told twice, boxes that do not make up their tensor: all of that is refused before any file beside
the index is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

from rehydrate.checkpoint.record import Record, brief
from rehydrate.checkpoint.tensor import Window, row_major
from rehydrate.dtypes import DType
from rehydrate.errors import AmbiguousError, CorruptError, RebuildError
from rehydrate.formats.boxes import Box, check_cover
from rehydrate.pickles.torch_names import NUMBERS_END, window_of
from rehydrate.text import dimensions, shown

__all__ = ["BoxedTensor", "Item", "Key", "described_things", "fields_of", "stored_things"]

Extents = tuple[int, ...]
Key = tuple[str, Extents | None]
"""A tensor's name with the offsets of a box; an object's name with None."""


class Item(NamedTuple):
    """Where one stored thing lies."""

    file: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class BoxedTensor:
    """One tensor of the index, its boxes, and where each lies."""

    name: str
    window: Window
    boxes: tuple[tuple[Box, Item], ...]


def fields_of(value: object, kind: str) -> Mapping[str, object]:
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


def stored_things(data: object) -> dict[Key, Item]:
    """Where everything lies, by what it is."""
    if not isinstance(data, dict):
        raise CorruptError("the index does not say where its tensors lie", found=brief(data))
    stored: dict[Key, Item] = {}
    for key, value in data.items():
        index, info = fields_of(key, "MetadataIndex"), fields_of(value, "_StorageInfo")
        name, offsets = index.get("fqn"), index.get("offset")
        item = Item(info.get("relative_path"), info.get("offset"), info.get("length"))  # type: ignore[arg-type]
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


def _check_apart(stored: Mapping[Key, Item]) -> None:
    """Refuse stored things that share bytes: a small file could describe one that is very much larger."""
    end, last = 0, ""
    for (name, _), item in sorted(stored.items(), key=lambda pair: pair[1]):
        if item.file == last and item.offset < end:
            raise CorruptError(
                "two stored things share bytes", where=f"{shown(item.file)}, byte {item.offset:,}", found=shown(name)
            )
        last, end = item.file, item.offset + item.length


def described_things(described: object, stored: Mapping[Key, Item]) -> dict[str, BoxedTensor | Item]:
    """The tensors of the index, and where each object that is none lies, in the index's order."""
    if not isinstance(described, dict) or not all(type(name) is str for name in described):
        raise CorruptError("the index does not say what its tensors are", found=brief(described))
    return {
        name: _item(stored, (name, None))
        if isinstance(value, Record) and value.name == "BytesStorageMetadata"
        else _tensor(name, fields_of(value, "TensorStorageMetadata"), stored)
        for name, value in described.items()
    }


def _tensor(name: str, fields: Mapping[str, object], stored: Mapping[Key, Item]) -> BoxedTensor:
    where = f"tensor {shown(name)!r}"
    dtype, size = _dtype(fields.get("properties"), where), _extents(fields.get("size"))
    chunks = fields.get("chunks")
    if not isinstance(chunks, list):
        raise CorruptError("the index does not say what a tensor is made of", where=where, found=brief(chunks))
    boxes: dict[Box, Item] = {}
    for chunk in chunks:
        box = fields_of(chunk, "ChunkStorageMetadata")
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
    return BoxedTensor(name, window_of(dtype, size, row_major(size), 0), tuple(boxes.items()))


def _dtype(properties: object, where: str) -> DType:
    """The element type of a TensorProperties; its state is (dtype, layout, requires_grad, memory format, pinned)."""
    state = properties.state if isinstance(properties, Record) else None
    dtype = state.get("dtype") if isinstance(state, dict) else state[0] if isinstance(state, tuple) and state else None
    if not isinstance(dtype, DType) or dtype.per_byte > 1 or dtype.kind == "quantized":
        raise CorruptError("the index says of what type no element can be", where=where, found=brief(properties))
    return dtype


def _item(stored: Mapping[Key, Item], key: Key) -> Item:
    item = stored.get(key)
    if item is None:
        name, offsets = key
        what = (
            "an object lies" if offsets is None else f"the part of a tensor lies that begins at {dimensions(offsets)}"
        )
        raise CorruptError(f"the index does not say where {what}", where=shown(name))
    return item
