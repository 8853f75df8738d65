"""H1: HDF5 files whose addresses, counts and sizes lie. Their index is read in a process of its own."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

from rehydrate.checkpoint.record import Record
from rehydrate.errors import CorruptError, TruncatedError

from .case import BOMB, BROKEN, REFUSED, Case, harmless, opens, refuses, refuses_to_read
from .hdf5_files import CHUNKS, DATASET, GROUP, NODE, NOWHERE, ROOT, TREE, Fields, hdf5_of

_DEFLATE = struct.pack("<BB6xHHHHI4x", 1, 1, 1, 0, 1, 1, 6)
_BOMB = zlib.compress(bytes(1 << 20))


def _file(**lies: object) -> Callable[[], bytes]:
    return lambda: hdf5_of(Fields(**lies))  # type: ignore[arg-type]


def _is_record(checkpoint: object) -> bool:
    return isinstance(checkpoint.tree["g"]["w"], Record)  # type: ignore[attr-defined]


def _holds_itself(checkpoint: object) -> bool:
    return checkpoint.tree["g"] is checkpoint.tree  # type: ignore[attr-defined]


CASES: tuple[Case, ...] = (
    refuses("H1 the magic alone", lambda: Fields().magic, *BROKEN),
    refuses("H1 a version that is none", _file(version=9), *REFUSED),
    refuses("H1 an end beyond the file", _file(end=1 << 40), TruncatedError),
    refuses("H1 addresses of two bytes", _file(offset_size=2), *REFUSED),
    refuses("H1 a base of exabytes", _file(base=1 << 62), *REFUSED),
    *(refuses(f"H1 a root at {at:,}", _file(root=at), *REFUSED) for at in (0, 1 << 40, NOWHERE)),
    *(refuses(f"H1 a tree at {at:,}", _file(root_tree=at), *REFUSED) for at in (0, ROOT, 1 << 62)),
    refuses("H1 a tree of itself", _file(tree_level=1, tree_child=TREE), *BOMB),
    refuses("H1 a tree of 255 levels", _file(tree_level=255), *BOMB),
    refuses("H1 a tree of 65,535 entries", _file(tree_entries=65535), *REFUSED),
    refuses("H1 a heap at its names", _file(root_heap=NODE), *REFUSED),
    harmless("H1 a heap of exabytes", _file(heap_size=1 << 62)),
    refuses("H1 a heap whose names are nowhere", _file(heap_data=1 << 40), *REFUSED),
    refuses("H1 65,535 symbols", _file(symbols=65535), *REFUSED),
    opens("H1 a group that is its own root", _file(root_link=ROOT), _holds_itself),
    harmless("H1 a group that holds itself", _file(group_link=GROUP)),
    refuses(
        "H1 two things of one name",
        _file(symbols=2, more={NODE + 48: struct.pack("<QQI20x", 8, DATASET, 0)}),
        CorruptError,
        says="the same name",
    ),
    harmless("H1 a link to itself", _file(link_kind=2)),
    *(
        refuses(f"H1 a name that is {name!r}", _file(group_name=name), CorruptError)
        for name in (b".", b"..", b"../../etc", b"a/b", b"/", b"")
    ),
    refuses("H1 a name that is no UTF-8", _file(group_name=b"\xff\xfe"), *REFUSED),
    harmless("H1 a name that moves the cursor", _file(group_name=b"\x1b[2J\r\n")),
    refuses("H1 a header of 65,535 messages", _file(messages=65535), *REFUSED),
    harmless("H1 a header of gigabytes", _file(header_size=0xFFFFFFFF)),
    refuses(
        "H1 a header that continues in itself",
        _file(more={DATASET + 16: struct.pack("<HHB3xQQ", 16, 16, 0, DATASET, 2048)}),
        *REFUSED,
    ),
    *(
        refuses(f"H1 a shape of {words}", _file(extents=extents, rank=len(extents)), *REFUSED)
        for words, extents in (
            ("exabytes", (1 << 62,)),
            ("exabytes and none", (0, 1 << 62)),
            ("all bits", (NOWHERE,)),
            ("more than there is", (1000,)),
        )
    ),
    refuses("H1 a dataset of 255 dimensions", _file(rank=255), *REFUSED),
    harmless("H1 floats of three bytes", _file(type_size=3)),
    opens("H1 floats that are no IEEE floats", _file(exponent=(20, 8, 0, 20, 100)), _is_record),
    harmless("H1 a type that is no class", _file(type_class=0x1F)),
    refuses("H1 data beyond the end", _file(address=1 << 40), TruncatedError),
    opens("H1 a layout from the future", _file(layout_version=9), _is_record),
    harmless("H1 a layout that is none", _file(layout=7)),
    # Chunks.
    opens("H1 chunks that are nowhere", _file(layout=2, chunk_at=1 << 40), refuses_to_read("g.w")),
    opens("H1 a chunk of half its size", _file(layout=2, chunk_size=8), refuses_to_read("g.w")),
    opens("H1 a chunk of gigabytes", _file(layout=2, chunk_size=0xFFFFFFFF), refuses_to_read("g.w")),
    opens("H1 a chunk of exabytes", _file(layout=2, box=(0xFFFFFFFF, 4)), refuses_to_read("g.w")),
    opens("H1 a chunk without extent", _file(layout=2, box=(0, 4)), refuses_to_read("g.w")),
    harmless("H1 chunks of another number of dimensions", _file(layout=2, box=(4, 4, 4))),
    refuses("H1 a tree of chunks that holds itself", _file(layout=2, chunks_level=1, chunks_child=CHUNKS), *BOMB),
    refuses("H1 a tree of 65,535 chunks", _file(layout=2, chunks_entries=65535), *REFUSED),
    opens("H1 exabytes of chunks that are not there", _file(layout=2, extents=(1 << 40,)), refuses_to_read("g.w")),
    opens("H1 a chunk that is no deflate", _file(layout=2, filters=_DEFLATE), refuses_to_read("g.w")),
    opens(
        "H1 a chunk that unpacks to very much more",
        lambda: hdf5_of(Fields(layout=2, filters=_DEFLATE, chunk_size=len(_BOMB), chunk_at=3700, more={3700: _BOMB})),
        refuses_to_read("g.w"),
    ),
    opens(
        "H1 a filter that is not known",
        _file(layout=2, filters=struct.pack("<BB6xHHHH", 1, 1, 32015, 0, 1, 0)),
        refuses_to_read("g.w"),
    ),
)
