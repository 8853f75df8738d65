"""An assembler for GGUF files: every count, length, type and offset can be made to lie."""

from __future__ import annotations

import struct
from collections.abc import Sequence

__all__ = ["array", "gguf_of", "info", "pair", "text"]


def _count(value: int, version: int) -> bytes:
    return struct.pack("<I" if version == 1 else "<Q", value & (0xFFFFFFFF if version == 1 else (1 << 64) - 1))


def text(words: str | bytes, *, claim: int | None = None, version: int = 3) -> bytes:
    """A counted string."""
    raw = words if isinstance(words, bytes) else words.encode()
    return _count(len(raw) if claim is None else claim, version) + raw


def pair(key: str | bytes, kind: int, value: bytes, *, version: int = 3) -> bytes:
    """A key and its value."""
    return text(key, version=version) + struct.pack("<I", kind) + value


def array(kind: int, items: Sequence[bytes], *, claim: int | None = None, version: int = 3) -> bytes:
    """The value of an array."""
    return struct.pack("<I", kind) + _count(len(items) if claim is None else claim, version) + b"".join(items)


def info(
    name: str | bytes,
    extents: Sequence[int],
    kind: int,
    *,
    offset: int = 0,
    rank: int | None = None,
    version: int = 3,
) -> bytes:
    """What the index says of a tensor; extents as ggml has them, the fastest first."""
    return (
        text(name, version=version)
        + struct.pack("<I", len(extents) if rank is None else rank)
        + b"".join(_count(extent, version) for extent in extents)
        + struct.pack("<IQ", kind, offset)
    )


def gguf_of(
    infos: Sequence[bytes],
    pairs: Sequence[bytes] = (),
    *,
    data: bytes = b"",
    version: int = 3,
    tensors: int | None = None,
    keys: int | None = None,
    alignment: int = 32,
    magic: bytes = b"GGUF",
) -> bytes:
    """A whole file; `tensors` and `keys` are what it says that it has."""
    index = (
        magic
        + struct.pack("<I", version)
        + _count(len(infos) if tensors is None else tensors, version)
        + _count(len(pairs) if keys is None else keys, version)
        + b"".join(pairs)
        + b"".join(infos)
    )
    return index + bytes(-len(index) % alignment) + data
