"""GGUF: what llama.cpp and its kin read. One file has the model's numbers and everything about it.

    "GGUF"                      four bytes
    version                     u32, 1 to 3; of 3 there are big-endian files, known by their version's bytes
    tensors, keys               two u64 (u32 in version 1): how many of each follow
    keys × (name string, value)                         see `values`
    tensors × (name string, dimensions u32, extents, fastest first, u64 (u32 in version 1), type u32, offset u64)
    padding to a multiple of `general.alignment`, 32 where it is not said
    data                        each tensor at its offset from here, a multiple of the alignment

An extent list is numpy's the other way round. A tensor's numbers are stored as they are or in blocks along its fastest
dimension; those are given as float32 (`blocks`), of which only the blocks that are wanted are computed, and
`facts["quantized"]` says how many tensors came in which. Numbers of tensors follow each other with less than one
alignment between them: bytes that belong to nothing are an error. Source: `ggml/docs/gguf.md`, `ggml/src/gguf.cpp`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.tensor import Piece, Storage, TensorRef, Window, one_piece, row_major
from rehydrate.dtypes import BY_NAME
from rehydrate.errors import AmbiguousError, CorruptError, LimitError, RebuildError, TruncatedError
from rehydrate.formats.contract import Format, Head, Request
from rehydrate.formats.gguf.values import Values
from rehydrate.limits import Limits
from rehydrate.pickles.torch_names import NUMBERS_END
from rehydrate.storage.source import Source
from rehydrate.storage.views import ComputedSource
from rehydrate.text import counted, dimensions, shown, size

__all__ = ["GGUF"]

MAGIC = b"GGUF"
_ALIGNMENT = 32
_MOST = 100_000
"""Tensors, and keys. The largest models have some thousand; what is known of a tensor takes seven hundred bytes."""
_AT_ONCE = 1 << 18
"""Numbers that are computed at once: what they take on the way is a few times four bytes each."""


class _Kind(NamedTuple):
    """One type of tensor."""

    name: str
    numbers: int
    """Numbers in one block."""
    nbytes: int
    dtype: str = ""
    """The element type, where numbers are stored as they are."""


_KINDS: dict[int, _Kind] = {
    0: _Kind("F32", 1, 4, "float32"),
    1: _Kind("F16", 1, 2, "float16"),
    2: _Kind("Q4_0", 32, 18),
    3: _Kind("Q4_1", 32, 20),
    6: _Kind("Q5_0", 32, 22),
    7: _Kind("Q5_1", 32, 24),
    8: _Kind("Q8_0", 32, 34),
    9: _Kind("Q8_1", 32, 36),
    10: _Kind("Q2_K", 256, 84),
    11: _Kind("Q3_K", 256, 110),
    12: _Kind("Q4_K", 256, 144),
    13: _Kind("Q5_K", 256, 176),
    14: _Kind("Q6_K", 256, 210),
    15: _Kind("Q8_K", 256, 292),
    16: _Kind("IQ2_XXS", 256, 66),
    17: _Kind("IQ2_XS", 256, 74),
    18: _Kind("IQ3_XXS", 256, 98),
    19: _Kind("IQ1_S", 256, 50),
    20: _Kind("IQ4_NL", 32, 18),
    21: _Kind("IQ3_S", 256, 110),
    22: _Kind("IQ2_S", 256, 82),
    23: _Kind("IQ4_XS", 256, 136),
    24: _Kind("I8", 1, 1, "int8"),
    25: _Kind("I16", 1, 2, "int16"),
    26: _Kind("I32", 1, 4, "int32"),
    27: _Kind("I64", 1, 8, "int64"),
    28: _Kind("F64", 1, 8, "float64"),
    29: _Kind("IQ1_M", 256, 56),
    30: _Kind("BF16", 1, 2, "bfloat16"),
    34: _Kind("TQ1_0", 256, 54),
    35: _Kind("TQ2_0", 256, 66),
    39: _Kind("MXFP4", 32, 17),
    40: _Kind("NVFP4", 64, 36),
    41: _Kind("Q1_0", 128, 18),
}
"""By the number in the file. 4, 5, 31 to 33 and 36 to 38 were taken back before a release, or never written."""


class _Info(NamedTuple):
    """What the index says of one tensor."""

    name: str
    shape: tuple[int, ...]
    kind: _Kind
    numel: int
    offset: int
    """From the beginning of the data."""

    @property
    def nbytes(self) -> int:
        return self.numel // self.kind.numbers * self.kind.nbytes


def _sniff(head: Head) -> bool:
    return head.first.startswith(MAGIC)


def _read(source: Source, request: Request) -> Checkpoint:
    version, is_big = _version(source)
    values = Values(source, 8, order=">" if is_big else "<", has_short_counts=version == 1)
    tensors, keys = values.count(), values.count()
    if max(tensors, keys) > _MOST:
        raise LimitError("the GGUF file says that it has too many tensors or keys", found=f"{tensors:,}, {keys:,}")
    metadata = _metadata(values, keys)
    infos = [_info(values, request.limits, version) for _ in range(tensors)]
    alignment = _alignment(metadata)
    begin = -(-values.at // alignment) * alignment
    _check_places(source, infos, begin, alignment, is_cut=request.is_cut)
    refs = {info.name: _tensor(source, info, begin, is_big=is_big) for info in infos}
    if len(refs) != len(infos):
        raise _twice("tensors", (info.name for info in infos))
    return Checkpoint(
        source, format="gguf", tree=refs, attributes={}, facts=_facts(version, metadata, infos, is_big=is_big)
    )


def _version(source: Source) -> tuple[int, bool]:
    """The version, and whether the file is big-endian."""
    if source.size < 8:
        raise TruncatedError("the GGUF file is cut in its first bytes", where=shown(source.name))
    raw = source.read(4, 4)
    for is_big in (False, True):
        version = int.from_bytes(raw, "big" if is_big else "little")
        if version == 3 or (version in (1, 2) and not is_big):
            return version, is_big
    raise CorruptError(
        "this GGUF file is of a version that is not known", where=shown(source.name), found=f"bytes {raw.hex(' ')}"
    )


def _metadata(values: Values, count: int) -> dict[str, object]:
    metadata: dict[str, object] = {}
    for _ in range(count):
        key = values.string()
        if key in metadata:
            raise _twice("keys", (key, key))
        metadata[key] = values.value()
    return metadata


def _twice(what: str, names: Iterable[str]) -> AmbiguousError:
    name = Counter(names).most_common(1)[0][0]
    return AmbiguousError(f"two {what} have the same name; readers disagree which counts", where=shown(name))


def _info(values: Values, limits: Limits, version: int) -> _Info:
    name, rank = values.string(), values.number("I")
    if rank > limits.dimensions:
        raise LimitError("a tensor has too many dimensions", where=shown(name), found=f"{rank:,}")
    extents = values.integers("I" if version == 1 else "Q", rank)
    number, offset = values.number("I"), values.number("Q")
    kind = _KINDS.get(number)
    if kind is None:
        raise CorruptError("a tensor is of a type that is not known", where=shown(name), found=f"type {number:,}")
    shape = extents[::-1]
    numel = span = 1
    for extent in shape:
        numel, span = numel * extent, span * max(extent, 1)
        if span * max(kind.nbytes, 4) >= NUMBERS_END:
            raise CorruptError("a tensor has more elements than can be counted", where=shown(name))
    if (extents[0] if extents else 1) % kind.numbers:
        raise CorruptError(
            f"a row of a tensor does not end with a block: {kind.name} has {kind.numbers} numbers in each",
            where=f"{shown(name)} {dimensions(shape)}",
        )
    return _Info(name, shape, kind, numel, offset)


def _alignment(metadata: dict[str, object]) -> int:
    alignment = metadata.get("general.alignment", _ALIGNMENT)
    if type(alignment) is not int or not 0 < alignment < 1 << 32 or alignment & (alignment - 1):
        raise CorruptError("general.alignment is no power of two", found=shown(alignment))
    return alignment


def _check_places(source: Source, infos: list[_Info], begin: int, alignment: int, *, is_cut: bool) -> None:
    """Every tensor lies at a multiple of the alignment, after the one before it, and the file ends with the last."""
    end = 0
    for info in sorted(infos, key=lambda info: (info.offset, info.nbytes)):
        if info.offset % alignment:
            raise CorruptError(
                f"a tensor does not begin at a multiple of {alignment}",
                where=shown(info.name),
                found=f"byte {info.offset:,} of the data",
            )
        if info.offset < end:
            raise CorruptError("tensors of the GGUF file overlap", where=shown(info.name))
        if info.offset - end >= alignment:
            raise AmbiguousError(
                "there are bytes before a tensor that belong to none",
                where=shown(info.name),
                found=size(info.offset - end),
            )
        end = info.offset + info.nbytes
    there = max(source.size - begin, 0)
    if end > there and not is_cut:
        raise TruncatedError(
            "the GGUF file is cut",
            where=shown(source.name),
            found=f"{size(there)} of {size(end)} of its tensors",
            hint="download it again",
        )
    if there - end >= alignment:
        raise AmbiguousError(
            "there are bytes after the last tensor that belong to none",
            where=shown(source.name),
            found=size(there - end),
        )


def _tensor(source: Source, info: _Info, begin: int, *, is_big: bool) -> TensorRef:
    dtype = BY_NAME[info.kind.dtype or "float32"]
    piece = Piece(source, begin + info.offset, info.nbytes, 0, "big-endian" if is_big else "raw")
    nbytes = info.numel * dtype.itemsize
    if info.kind.dtype:
        storage = Storage(info.name, dtype, nbytes, "cpu", one_piece, piece, order=piece.start)
    else:
        storage = Storage(info.name, dtype, nbytes, "cpu", _in_blocks, (info, piece), order=piece.start)
    return TensorRef("", Window(dtype, info.shape, row_major(info.shape)), storage)


def _in_blocks(entry: tuple[_Info, Piece]) -> tuple[Piece, ...]:
    """A source of float32, as long as there are whole blocks in the file."""
    info, stored = entry
    blocks = max(min(stored.length, stored.source.size - stored.start), 0) // info.kind.nbytes
    there = ComputedSource(blocks * info.kind.numbers * 4, partial(_computed, info, stored), info.name)
    return (Piece(there, 0, info.numel * 4),)


def _computed(info: _Info, stored: Piece, start: int, length: int) -> bytearray:
    """Bytes of the float32 numbers; only the blocks that they lie in are read, some at once."""
    import numpy

    from rehydrate.formats.gguf.blocks import dequantized

    kind = info.kind
    width = kind.numbers * 4
    at, last = start // width, -(-(start + length) // width)
    made = bytearray(length)
    filled = 0
    while at < last:
        count = min(last - at, max(_AT_ONCE // kind.numbers, 1))
        raw = stored.source.read(stored.start + at * kind.nbytes, count * kind.nbytes)
        blocks = numpy.frombuffer(raw, numpy.uint8).reshape(count, kind.nbytes)
        numbers = None if stored.coding == "big-endian" else dequantized(kind.name, blocks)
        if numbers is None:
            raise RebuildError(
                f"the numbers of this tensor are stored as {_of(stored)}{kind.name}, which rehydrate does not compute",
                where=f"{shown(info.name)} {dimensions(info.shape)}",
                hint="llama.cpp's llama-quantize --allow-requantize makes a file of F16 or Q8_0 of it",
            )
        part = numbers.reshape(-1).view(numpy.uint8).data[max(start - at * width, 0) : start + length - at * width]
        made[filled : filled + len(part)] = part
        filled += len(part)
        at += count
    return made


def _of(stored: Piece) -> str:
    return "big-endian " if stored.coding == "big-endian" else ""


def _facts(version: int, metadata: dict[str, object], infos: list[_Info], *, is_big: bool) -> dict[str, object]:
    facts: dict[str, object] = {
        "version": version,
        "byteorder": "big" if is_big else "little",
        "metadata": metadata,
    }
    packed = Counter(info.kind.name for info in infos if not info.kind.dtype)
    if packed:
        facts["quantized"] = dict(packed.most_common())
    part = metadata.get("split.count")
    if type(part) is int and part > 1:
        facts["shards"] = f"this is one of {counted(part, 'file')}"
    return facts


GGUF = Format("gguf", _sniff, _read)
"""The format's row in `opening.FORMATS`."""
