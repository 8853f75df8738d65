"""safetensors: an index in JSON, then the tensors' bytes, and nothing else.

    0        N, the bytes of the header, 8 bytes little-endian; at most 100,000,000
    8        the header: one JSON object in UTF-8, beginning with `{`, spaces allowed after it
               name: {"dtype": word, "shape": [extents], "data_offsets": [begin, end]}
               "__metadata__": {text: text}, which may be left out
    8 + N    the buffer, to the end of the file; elements little-endian and row-major

`data_offsets` are bytes of the buffer, `end` excluded. In the order of their offsets, tensors follow one another
without a gap, and the last ends where the file does: a file has no byte that is not accounted for, and no two tensors
share one. `end - begin` is exactly what dtype and shape take. F4 is two elements a byte along the last dimension; torch
counts the pairs. The header's order is kept: the reference writer sorts by element size and then by name.

Everything is proved before a tensor is offered. Source: `safetensors/src/tensor.rs` and the format's README.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from operator import itemgetter
from typing import NamedTuple

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.record import brief
from rehydrate.checkpoint.tensor import Storage, TensorRef, Window, one_piece, row_major
from rehydrate.dtypes import BY_NAME, DType
from rehydrate.errors import AmbiguousError, CorruptError, LimitError, RebuildError, RehydrateError, TruncatedError
from rehydrate.formats.contract import Format, Head, Request
from rehydrate.formats.json_header import parse_json
from rehydrate.limits import Limits
from rehydrate.pickles.machine import Machine
from rehydrate.pickles.opcodes import HANDLERS
from rehydrate.pickles.torch_names import NUMBERS_END, is_countable
from rehydrate.storage.source import Source
from rehydrate.text import counted, dimensions, shown

__all__ = ["SAFETENSORS"]

_LENGTH = 8
"""Bytes of the number before the header."""
_METADATA = "__metadata__"
_TENSOR = 1200
"""Bytes of memory that a reference takes, with its storage, its window and its name."""
_BEGINS = re.compile(rb'\{["} \t\r\n]')
"""How a header begins: with the first name, or the end, of an object."""
_SPACES = " \t\n\r"
"""What JSON takes for nothing; the reference writer pads with spaces."""

_DTYPES: Mapping[str, DType] = {
    word: BY_NAME[name]
    for word, name in {
        "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "F16": "float16",
        "BF16": "bfloat16", "U32": "uint32", "I32": "int32", "F32": "float32", "U64": "uint64", "I64": "int64",
        "F64": "float64", "C64": "complex64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
        "F8_E8M0": "float8_e8m0fnu", "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
        "F4": "float4_e2m1fn_x2",
    }.items()
}  # fmt: skip
"""The format's word → element type. Its F6_E2M3 and F6_E3M2 are missing: no element of torch's has six bits."""

_NUMBER = r"0|[1-9][0-9]{0,18}"
_USUAL = re.compile(
    r'("([^"\\\x00-\x1f]*)":\{"dtype":"(\w+)","shape":\[([0-9,]*)\],'
    rf'"data_offsets":\[({_NUMBER}),({_NUMBER})\]\}}(?:,|\}}\Z))'
)
"""One entry as the reference writes it, with what follows it."""
_TEXT = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_USUAL_METADATA = re.compile(rf'\{{"{_METADATA}":(\{{(?:{_TEXT}:{_TEXT}(?:,{_TEXT}:{_TEXT})*+)?+\}}),', re.DOTALL)
_USUAL_SHAPE = re.compile(rf"(?:(?:{_NUMBER})(?:,(?:{_NUMBER}))*)?")


class _Kind(NamedTuple):
    """What tensors of one dtype and shape have in common."""

    window: Window
    nbytes: int


class _Entry(NamedTuple):
    """What the header says of one tensor."""

    name: str
    kind: _Kind
    begin: int
    end: int


def _sniff(head: Head) -> bool:
    # A header may have any length, but one of a terabyte is something else that happens to go on with a brace.
    return _length(head.first) < 1 << 40 and _BEGINS.match(head.first, _LENGTH) is not None


def _length(first: bytes) -> int:
    return int.from_bytes(first[:_LENGTH], "little")


def _read(source: Source, request: Request) -> Checkpoint:
    header = _header(source, request.limits)
    _refuse_too_many(source, header, request.limits)
    _refuse_pickle(source, header, request.limits)
    described = _Described(source, request.limits)
    entries = described.usual(header) or described.any(header)
    buffer_at = _LENGTH + len(header)
    _check_coverage(source, entries, source.size - buffer_at, is_cut=request.is_cut)

    tree: dict[str, TensorRef] = {}
    for name, (window, nbytes), begin, _ in entries:
        start = buffer_at + begin
        storage = Storage(name, window.dtype, nbytes, "cpu", one_piece, (source, start, nbytes), start)
        tree[name] = TensorRef("", window, storage)
    facts: dict[str, object] = {"byteorder": "little"}
    if described.metadata:
        facts["metadata"] = described.metadata
    return Checkpoint(source, format="safetensors", tree=tree, attributes={}, facts=facts)


def _header(source: Source, limits: Limits) -> bytes:
    """The header's bytes."""
    where = shown(source.name)
    length = _length(source.read(0, min(_LENGTH, source.size)))
    if length > limits.header_bytes:
        raise LimitError(
            "the header of a safetensors file is too long (header too large)", where=where, found=f"{length:,} bytes"
        )
    if length > source.size - _LENGTH:
        raise TruncatedError(
            "the safetensors file is cut within its header",
            where=where,
            found=f"{source.size:,} bytes; the header ends at byte {_LENGTH + length:,}",
            hint="download it again",
        )
    header = source.read(_LENGTH, length)
    if not header.startswith(b"{"):
        raise CorruptError("the header of a safetensors file does not begin with {", where=where)
    return header


def _refuse_too_many(source: Source, header: bytes, limits: Limits) -> None:
    """Refuse a header whose tensors would take memory out of proportion, before anything is made of it."""
    count = header.count(b'"data_offsets"')
    if count * _TENSOR > limits.index_room + limits.index_room_per_byte * source.size:
        raise LimitError(
            "the safetensors file has more tensors than its length explains",
            where=shown(source.name),
            found=counted(count, "tensor"),
        )


def _refuse_pickle(source: Source, header: bytes, limits: Limits) -> None:
    """Refuse a file that an unpickler takes for a pickle: its length may be opcodes that lead to more in a name."""
    machine = Machine(
        source.read(0, _LENGTH) + header, 0, constructors={}, constants={}, persistent=lambda token: token,
        shortcut=None, handlers=HANDLERS, limits=limits,
    )  # fmt: skip
    try:
        machine.run()
    except RehydrateError:
        if not machine.first_seen:
            return
    raise AmbiguousError(
        "this safetensors file is a pickle, too: an unpickler would run what its header spells",
        where=shown(source.name),
        found=f"the pickle names {brief(['.'.join(name) for name in machine.first_seen])}",
    )


class _Described:
    """The entries of one header. Tensors of one kind share their window: a file has few kinds."""

    def __init__(self, source: Source, limits: Limits) -> None:
        self.metadata: dict[str, str] = {}
        self._name = shown(source.name)
        self._limits = limits
        self._kinds: dict[tuple[str, object], _Kind] = {}

    def usual(self, header: bytes) -> list[_Entry] | None:
        """The entries of a header spelled as the reference spells it, which is quick; None for any other."""
        try:
            text = header.decode("utf-8").rstrip(_SPACES)
        except UnicodeDecodeError:
            return None
        first = _USUAL_METADATA.match(text)
        body = text[first.end() if first else 1 :]
        found = _USUAL.findall(body)
        if not body.endswith("]}}") or sum([len(whole) for whole, *_ in found]) != len(body):
            return None
        kinds = self._kinds
        entries: list[_Entry] = []
        for _, name, word, extents, begin, end in found:
            kind = kinds.get((word, extents))
            if kind is None:
                if not _USUAL_SHAPE.fullmatch(extents):
                    return None
                shape = tuple(map(int, extents.split(","))) if extents else ()
                kind = kinds[word, extents] = self._kind(name, word, shape)
            entries.append(_Entry(name, kind, int(begin), int(end)))
        names = {entry.name for entry in entries}
        if len(names) != len(entries) or _METADATA in names:
            return None
        if first:
            self._note(parse_json(first[1].encode(), self._limits, f"{_METADATA} of {self._name}"))
        return entries

    def any(self, header: bytes) -> list[_Entry]:
        """The entries of any header, or what is wrong with it."""
        described = parse_json(header, self._limits, f"the header of {self._name}")
        if not isinstance(described, dict):
            raise CorruptError("the header of a safetensors file is no object", where=self._name)
        self._note(described.pop(_METADATA, None))
        return [self._entry(name, value) for name, value in described.items()]

    def _note(self, metadata: object) -> None:
        if metadata is None:
            return
        if not isinstance(metadata, dict) or not all(type(text) is str for text in metadata.values()):
            raise CorruptError(
                f"{_METADATA} of a safetensors file holds something other than text",
                where=self._name,
                found=brief(metadata),
            )
        self.metadata = metadata

    def _entry(self, name: str, value: object) -> _Entry:
        match value:
            case {"dtype": str(word), "shape": list(extents), "data_offsets": [begin, end]}:
                if all(type(number) is int and 0 <= number < NUMBERS_END for number in (*extents, begin, end)):
                    shape = tuple(extents)
                    kind = self._kinds.get((word, shape)) or self._kind(name, word, shape)
                    self._kinds[word, shape] = kind
                    return _Entry(name, kind, begin, end)
        raise CorruptError(
            "an entry of the safetensors header does not describe a tensor", where=self._at(name), found=brief(value)
        )

    def _kind(self, name: str, word: str, shape: tuple[int, ...]) -> _Kind:
        dtype = _DTYPES.get(word)
        if dtype is None and word.startswith("F6_"):
            raise RebuildError("torch has no elements of six bits", where=self._at(name), found=shown(word))
        if dtype is None:
            raise CorruptError("a tensor has an unknown element type", where=self._at(name), found=shown(word))
        if len(shape) > self._limits.dimensions:
            raise LimitError("a tensor has too many dimensions", where=self._at(name), found=f"{len(shape):,}")
        if max(shape, default=0) >= NUMBERS_END or not is_countable(shape):
            raise CorruptError("a tensor has more elements than torch can count", where=self._at(name))
        if word == "F4":
            if not shape or shape[-1] % 2:
                raise CorruptError(
                    "rows of 4-bit elements do not end with a byte", where=self._at(name), found=dimensions(shape)
                )
            shape = (*shape[:-1], shape[-1] // 2)
        return _Kind(Window(dtype, shape, row_major(shape)), math.prod(shape) * dtype.itemsize)

    def _at(self, name: str) -> str:
        return f"{self._name}, tensor {shown(name)!r}"


def _check_coverage(source: Source, entries: list[_Entry], present: int, *, is_cut: bool) -> None:
    """Hold the offsets against dtypes, shapes, each other, and the bytes that are there."""
    where = shown(source.name)
    at = 0
    for name, kind, begin, end in sorted(entries, key=itemgetter(2, 3)):
        if begin != at:
            raise CorruptError(
                "two tensors share bytes, or there are bytes between them that belong to none (invalid offset)",
                where=f"{where}, tensor {shown(name)!r}",
                found=f"it begins at byte {begin:,} of the buffer, and the one before it ends at {at:,}",
            )
        if end - begin != kind.nbytes:
            raise CorruptError(
                "a tensor's offsets are not what its type and shape take",
                where=f"{where}, tensor {shown(name)!r}",
                found=f"{end - begin:,} bytes for {kind.window.dtype} {dimensions(kind.window.shape)}",
            )
        at = end
    if at > present and not is_cut:
        raise TruncatedError(
            "the safetensors file is cut",
            where=where,
            found=f"{source.size:,} bytes of {source.size - present + at:,}",
            hint="download it again; rh.salvage keeps the tensors that are whole",
        )
    if at < present:
        raise CorruptError(
            "the safetensors file goes on after its last tensor (file not fully covered)",
            where=f"{where}, byte {source.size - present + at:,}",
            found=counted(present - at, "byte"),
        )


SAFETENSORS = Format("safetensors", _sniff, _read)
"""The format's row in `opening.FORMATS`."""
