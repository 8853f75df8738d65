"""An assembler for torch's legacy streams: honest where nothing else is said, and every part can be made to lie."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from .assembler import (
    appends,
    empty_dict,
    empty_list,
    integer,
    long1,
    mark,
    newfalse,
    newtrue,
    none,
    persid_binary,
    pickle_of,
    setitem,
    storage_id,
    tensor,
    tuple_of,
    unicode,
)

MAGIC = 0x1950A86A20F9469CFC6C


def view_of(key: str, offset: bytes | int, numel: bytes | int) -> bytes:
    """What a persistent id says last of a part of a storage."""
    return tuple_of(
        unicode(key),
        offset if isinstance(offset, bytes) else integer(offset),
        numel if isinstance(numel, bytes) else integer(numel),
    )


def legacy_storage(
    key: bytes | str = "0", numel: bytes | int = 4, *, view: bytes = none, **parts: bytes | str
) -> bytes:
    """A storage by its persistent id of six parts."""
    return storage_id(key, numel, ending=view, **parts) + persid_binary


def legacy_tensor(storage: bytes | None = None, **parts: object) -> bytes:
    """A tensor on such a storage."""
    return tensor(storage=legacy_storage() if storage is None else storage, **parts)  # type: ignore[arg-type]


def one_tensor(storage: bytes | None = None, **parts: object) -> bytes:
    """The pickle of `{"w": tensor}`."""
    return pickle_of(empty_dict, unicode("w"), legacy_tensor(storage, **parts), setitem)


def sys_info(little: bytes = newtrue) -> bytes:
    """The pickle of what the writer says of its machine."""
    return pickle_of(
        empty_dict, unicode("protocol_version"), integer(1001), setitem, unicode("little_endian"), little, setitem
    )


def key_list(keys: Sequence[str]) -> bytes:
    """The pickle of the list of keys."""
    return pickle_of(empty_list, mark, *map(unicode, keys), appends)


def legacy_stream(
    pickle: bytes | None = None,
    storages: Mapping[str, bytes] | None = None,
    *,
    magic: bytes | None = None,
    version: bytes | None = None,
    info: bytes | None = None,
    keys: bytes | None = None,
    counts: Mapping[str, int | bytes] | None = None,
    width: int = 4,
    after: bytes = b"",
) -> bytes:
    """A whole file: one tensor of four float32 unless told otherwise. `counts` lie about single storages."""
    held = {"0": bytes(16)} if storages is None else storages
    parts = [
        pickle_of(long1(MAGIC)) if magic is None else magic,
        pickle_of(integer(1001)) if version is None else version,
        sys_info() if info is None else info,
        one_tensor() if pickle is None else pickle,
        key_list(list(held)) if keys is None else keys,
    ]
    for key, content in held.items():
        count = (counts or {}).get(key, len(content) // width)
        parts += [count if isinstance(count, bytes) else struct.pack("<q", count), content]
    return b"".join(parts) + after


BIG_ENDIAN = newfalse
"""For `sys_info`."""
