"""An assembler for HDF5 files: a group `g` in the root, and in it a dataset `w` of four floats, contiguous or chunked.

Every address, count and size is a field of `Fields` and can be made to lie; nothing here checks that it makes sense.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

__all__ = ["NOWHERE", "Fields", "hdf5_of"]

NOWHERE = 0xFFFFFFFFFFFFFFFF

ROOT, TREE, HEAP, NAMES, NODE = 96, 200, 300, 340, 400
"""Where the root's header, its B-tree, its heap, that one's names, and its symbols lie."""
GROUP, GROUP_TREE, GROUP_HEAP, GROUP_NAMES, GROUP_NODE = 600, 700, 800, 840, 900
DATASET, DATA, CHUNKS, END = 1000, 1400, 1500, 3700


@dataclass(frozen=True)
class Fields:
    """What the file says."""

    magic: bytes = b"\x89HDF\r\n\x1a\n"
    version: int = 0
    offset_size: int = 8
    base: int = 0
    end: int = END
    root: int = ROOT
    root_tree: int = TREE
    root_heap: int = HEAP
    header_version: int = 1
    messages: int = 4
    header_size: int | None = None
    tree_level: int = 0
    tree_entries: int = 1
    tree_child: int = NODE
    heap_size: int = 32
    heap_data: int = NAMES
    symbols: int = 1
    root_name: bytes = b"g"
    root_link: int = GROUP
    link_kind: int = 0
    group_name: bytes = b"w"
    group_link: int = DATASET
    rank: int = 1
    extents: tuple[int, ...] = (4,)
    type_class: int = 0x11
    type_size: int = 4
    bits: int | None = None
    exponent: tuple[int, int, int, int, int] = (23, 8, 0, 23, 127)
    layout: int = 1
    layout_version: int = 3
    address: int = DATA
    box: tuple[int, ...] = (4, 4)
    chunk_size: int = 16
    chunk_at: int = DATA
    chunk_mask: int = 0
    chunks_level: int = 0
    chunks_entries: int = 1
    chunks_child: int | None = None
    filters: bytes = b""
    more: dict[int, bytes] = field(default_factory=dict)
    """Bytes to put at places, at the end of it all."""


def _header(messages: bytes, count: int, size: int, version: int = 1) -> bytes:
    return struct.pack("<BxHII4x", version, count, 1, size) + messages


def _message(kind: int, data: bytes) -> bytes:
    data += bytes(-len(data) % 8)
    return struct.pack("<HHB3x", kind, len(data), 0) + data


def _group(tree: int, heap: int) -> bytes:
    return _header(_message(0x11, struct.pack("<QQ", tree, heap)), 1, 24)


def _symbol(name: int, header: int, kind: int) -> bytes:
    return struct.pack("<QQI4x16x", name, header, kind)


def _dataset(said: Fields) -> bytes:
    space = struct.pack("<BBB5x", 1, said.rank, 0) + struct.pack(f"<{len(said.extents)}Q", *said.extents)
    kind = struct.pack("<BBBBIHH4BI", said.type_class, 0x20, 0x1F, 0, said.type_size, 0,
                       8 * said.type_size if said.bits is None else said.bits,
                       *said.exponent)  # fmt: skip
    layout = struct.pack("<BB", said.layout_version, said.layout)
    if said.layout == 2:
        layout += struct.pack(f"<BQ{len(said.box)}I", len(said.box), CHUNKS, *said.box)
    else:
        layout += struct.pack("<QQ", said.address, 16)
    messages = _message(1, space) + _message(3, kind) + _message(5, bytes((2, 2, 0, 0))) + _message(8, layout)
    messages += _message(11, said.filters) if said.filters else b""
    size = len(messages) if said.header_size is None else said.header_size
    return _header(messages, said.messages + bool(said.filters), size, said.header_version)


def hdf5_of(said: Fields) -> bytes:
    """The file that says so."""
    tree = b"TREE" + struct.pack("<BBH4Q", 0, said.tree_level, said.tree_entries, NOWHERE, NOWHERE, 0, said.tree_child)
    parts = {
        0: said.magic
        + struct.pack("<8B", said.version, 0, 0, 0, 0, said.offset_size, 8, 0)
        + struct.pack("<HHI4Q", 4, 16, 0, said.base, NOWHERE, said.end, NOWHERE)
        + struct.pack("<QQI4xQQ", 0, said.root, 1, said.root_tree, said.root_heap),
        ROOT: _group(said.root_tree, said.root_heap),
        TREE: tree + struct.pack("<Q", 8),
        HEAP: b"HEAP" + struct.pack("<4xQQQ", said.heap_size, 1, said.heap_data),
        NAMES: bytes(8) + said.root_name + b"\0",
        NODE: b"SNOD" + struct.pack("<BxH", 1, said.symbols) + _symbol(8, said.root_link, said.link_kind),
        GROUP: _group(GROUP_TREE, GROUP_HEAP),
        GROUP_TREE: b"TREE" + struct.pack("<BBH5Q", 0, 0, 1, NOWHERE, NOWHERE, 0, GROUP_NODE, 8),
        GROUP_HEAP: b"HEAP" + struct.pack("<4xQQQ", 32, 1, GROUP_NAMES),
        GROUP_NAMES: bytes(8) + said.group_name + b"\0",
        GROUP_NODE: b"SNOD" + struct.pack("<BxH", 1, 1) + _symbol(8, said.group_link, 0),
        DATASET: _dataset(said),
        DATA: struct.pack("<4f", 1, 2, 3, 4),
        CHUNKS: b"TREE"
        + struct.pack("<BBHQQ", 1, said.chunks_level, said.chunks_entries, NOWHERE, NOWHERE)
        + struct.pack("<II", said.chunk_size, said.chunk_mask)
        + bytes(8 * len(said.box))
        + struct.pack("<Q", said.chunk_at if said.chunks_child is None else said.chunks_child)
        + struct.pack(f"<II{len(said.box)}Q", 0, 0, 4, *[0] * (len(said.box) - 1)),
        **said.more,
    }
    data = bytearray(END)
    for at, part in parts.items():
        data[at : at + len(part)] = part
    return bytes(data[: max(END, max(at + len(part) for at, part in parts.items()))])
