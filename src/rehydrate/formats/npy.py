"""numpy's array files: what `numpy.save` writes, one array each.

    header      see `npy_header`: element type, order, shape
    data        the elements side by side, the last dimension fastest, or the first where the order is Fortran's;
                a pickle of the whole array where the elements are objects; nothing after it

What is an array of numbers to torch, too, is a tensor. Text is lists of text. Objects are what their pickle says,
read as data: `numpy.load(allow_pickle=True)` would run it. Anything else (structures, times, numbers that torch has
not, types that numpy itself only knows as bytes: ml_dtypes' bfloat16 is `<V2`) is a record with its bytes as a tensor.

    >>> import rehydrate as rh, numpy, io
    >>> buffer = io.BytesIO(); numpy.save(buffer, numpy.arange(6.0, dtype="float32").reshape(2, 3))
    >>> with rh.open(buffer) as checkpoint:
    ...     print(checkpoint.tree)
    <float32 [2, 3]>
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.record import Record, brief
from rehydrate.checkpoint.tensor import Piece, Storage, TensorRef, Window, one_piece, row_major
from rehydrate.checkpoint.trace import Trace
from rehydrate.dtypes import BY_NAME, DType, dtype_of_typestring
from rehydrate.errors import AmbiguousError, CorruptError, TruncatedError
from rehydrate.formats.contract import Format, Head, Request
from rehydrate.formats.facts import facts_of, trace_of
from rehydrate.formats.npy_header import MAGIC, Header, read_header
from rehydrate.limits import Limits
from rehydrate.pickles.known import read_known_pickle
from rehydrate.pickles.numpy_names import nested
from rehydrate.storage.source import Source
from rehydrate.text import shown, size

__all__ = ["NPY", "Array", "array_from"]

_LISTED = 200_000
"""Texts, and lists around them, that are read when the file is opened; each takes sixty bytes however short it is."""
_LETTERS = 4 << 20
"""Bytes of those texts; a letter of four bytes takes forty for a moment."""


@dataclass(frozen=True, slots=True)
class Array:
    """One array file."""

    value: object
    """A tensor reference, nested lists of text, or what its pickle says."""
    facts: Mapping[str, object]
    attributes: Mapping[int, object] = field(default_factory=dict)
    kept: tuple[object, ...] = ()
    traces: tuple[Trace, ...] = ()


def array_from(source: Source, header: Header, limits: Limits, *, member: str = "", is_cut: bool = False) -> Array:
    """The array whose header was read; `member` is what the file is called inside of another.

    Raises `TruncatedError` where data is missing (not if the file `is_cut`), `AmbiguousError` for bytes after it.
    """
    if header.itemsize is None:
        return _objects(source, header, limits, member)
    missing = header.end + header.nbytes - source.size
    if missing < 0:
        raise AmbiguousError(
            "there are bytes after the array; readers disagree whether those count",
            where=shown(member or source.name),
            found=_after(source, header),
            hint="numpy.save was perhaps called several times on one file; numpy.savez keeps several arrays",
        )
    if missing and not is_cut:
        raise TruncatedError(
            "the numpy array is cut",
            where=shown(member or source.name),
            found=f"{size(source.size - header.end)} of {size(header.nbytes)}",
            hint="download it again",
        )
    return Array(_value(source, header, member, is_there=missing <= 0), _facts(header))


def _after(source: Source, header: Header) -> str:
    end = header.end + header.nbytes
    is_array = source.read(end, min(len(MAGIC), source.size - end)) == MAGIC
    return f"{size(source.size - end)}{', beginning with another array' if is_array else ''}"


def _facts(header: Header) -> dict[str, object]:
    descr = header.descr
    return {
        "writer": f"numpy.save (file version {header.version[0]}.{header.version[1]})",
        "byteorder": "big" if isinstance(descr, str) and descr[:1] == ">" else "little",
        "dtype": descr if isinstance(descr, str) else brief(descr),
        "order": "Fortran" if header.is_fortran else "C",
    }


def _value(source: Source, header: Header, member: str, *, is_there: bool) -> object:
    descr, itemsize = header.descr, header.itemsize or 0
    if isinstance(descr, str):
        known = dtype_of_typestring(descr)
        if known is not None:
            return _tensor(source, header, member, known)
        if is_there and not header.is_fortran and _is_short_text(descr, header):
            return nested(_texts(source.read(header.end, header.nbytes), descr, header), header.shape)
    strides = (*(stride * itemsize for stride in _strides(header)), 1)
    window = Window(BY_NAME["uint8"], (*header.shape, itemsize), strides)
    state = {"bytes": TensorRef("", window, _storage(source, header, member, (window.dtype, False)))}
    return Record("numpy", "ndarray", (header.shape, descr), state=state)


def _tensor(source: Source, header: Header, member: str, known: tuple[DType, bool]) -> TensorRef:
    return TensorRef("", Window(known[0], header.shape, _strides(header)), _storage(source, header, member, known))


def _storage(source: Source, header: Header, member: str, known: tuple[DType, bool]) -> Storage:
    dtype, is_big = known
    piece = Piece(source, header.end, header.nbytes, 0, "big-endian" if is_big and dtype.itemsize > 1 else "raw")
    return Storage(member or "data", dtype, header.nbytes, "cpu", one_piece, piece)


def _strides(header: Header) -> tuple[int, ...]:
    """Elements between neighbours along each dimension."""
    return row_major(header.shape[::-1])[::-1] if header.is_fortran else row_major(header.shape)


def _is_short_text(descr: str, header: Header) -> bool:
    is_text = descr.lstrip("<>|=")[:1] in ("U", "S", "a")
    return is_text and header.nbytes <= _LETTERS and _lists(header.shape) <= _LISTED


def _lists(shape: tuple[int, ...]) -> int:
    """Values that nested lists of this shape have, the lists included, at most."""
    total = width = 1
    for extent in shape:
        width *= max(extent, 1)
        total += width
    return total


def _texts(raw: bytes, descr: str, header: Header) -> list[object]:
    """Each element without the NULs that pad it."""
    width = header.itemsize or 0
    if descr.lstrip("<>|=")[0] != "U":
        return [raw[at * width : (at + 1) * width].rstrip(b"\0") for at in range(header.numel)]
    codes = struct.unpack(f"{'>' if descr[0] == '>' else '<'}{len(raw) // 4}I", raw)
    if max(codes, default=0) > 0x10FFFF:
        raise CorruptError("a numpy array of text holds what is no character", found=f"{max(codes):#x}")
    text = "".join(map(chr, codes))
    return [text[at * width // 4 : (at + 1) * width // 4].rstrip("\0") for at in range(header.numel)]


def _objects(source: Source, header: Header, limits: Limits, member: str) -> Array:
    reading = read_known_pickle(source.read(header.end, source.size - header.end), limits=limits)
    if header.end + reading.end != source.size:
        raise AmbiguousError(
            "there are bytes after the pickle of an array of objects; readers disagree whether those count",
            where=shown(member or source.name),
            found=size(source.size - header.end - reading.end),
        )
    return Array(
        reading.value,
        facts_of(reading, **_facts(header)),
        reading.attributes,
        reading.kept,
        (trace_of(reading, member),),
    )


def _sniff(head: Head) -> bool:
    return head.first.startswith(MAGIC)


def _read(source: Source, request: Request) -> Checkpoint:
    array = array_from(source, read_header(source, request.limits), request.limits, is_cut=request.is_cut)
    return Checkpoint(
        source,
        format="npy",
        tree=array.value,
        attributes=array.attributes,
        facts=array.facts,
        kept=array.kept,
        traces=array.traces,
    )


NPY = Format("npy", _sniff, _read)
"""The format's row in `opening.FORMATS`."""
