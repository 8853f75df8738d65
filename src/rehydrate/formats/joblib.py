"""joblib's files, which are how scikit-learn's models are kept: a pickle with the arrays' bytes in the middle of it.

    since 0.10      a pickle; each array is a NumpyArrayWrapper in it, and after the BUILD of that come
                        n       one byte, since 1.2 (where the wrapper has `numpy_array_alignment_bytes`)
                        ff …    n bytes, so that the array begins at a multiple of 16
                        bytes   the array as it is in memory, C or Fortran order; or a pickle, for objects
                    and then the pickle goes on
    until 0.9       a pickle; each array is an NDArrayWrapper, which names a .npy file beside it
    until 0.9, compressed
                    "ZF" and the length in hex, to 21 bytes, perhaps a space, and zlib: the pickle so; each array is a
                    ZNDArrayWrapper, which names such a file of its bytes beside it, and knows its shape and type

    NumpyArrayWrapper       BUILD {"subclass", "shape", "order", "dtype", "allow_mmap", "numpy_array_alignment_bytes"}
    NDArrayWrapper          BUILD {"filename", "subclass", "allow_mmap"}
    ZNDArrayWrapper         BUILD {"filename", "init_args", "state"}

Only here do these names ask for bytes: in any other pickle they are strangers. A pickle without arrays is a plain one.
What compresses a whole file (zlib, gzip, bz2, xz, lzma) is around this format. Arrays in files that are missing stay
records. Source: `joblib/numpy_pickle.py` and `numpy_pickle_compat.py`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.record import Record
from rehydrate.checkpoint.tensor import Piece
from rehydrate.checkpoint.trace import Trace
from rehydrate.errors import CorruptError, LimitError, RehydrateError, TruncatedError
from rehydrate.formats.contract import Format, Head, Request
from rehydrate.formats.facts import facts_of_all, trace_of
from rehydrate.formats.npy_header import MAGIC
from rehydrate.formats.pickle_inside import check_nothing_after
from rehydrate.formats.plain_pickle import PLAIN_PICKLE, looks_like_pickle, not_a_pickle
from rehydrate.formats.tensor_bytes import TensorBytes
from rehydrate.limits import Limits
from rehydrate.pickles.known import read_known_pickle
from rehydrate.pickles.numpy_names import array_from, array_of, bytes_of_element, element_of, grown, is_shape
from rehydrate.pickles.reading import Reading
from rehydrate.pickles.results import UNFIT, Constructor, Following, Growing, Name
from rehydrate.storage.source import MemorySource, Source
from rehydrate.storage.views import SourceSet
from rehydrate.text import shown, size

__all__ = ["JOBLIB"]

_ZFILE = b"ZF"
_HEADER = 21
"""Bytes before the compressed ones."""
_MODULES = ("joblib.numpy_pickle", "joblib.numpy_pickle_compat")
_HOMES = ("", "sklearn.externals.")
"""scikit-learn had a joblib of its own until 0.23."""
_MARKS = (b"NumpyArrayWrapper", b"NDArrayWrapper")
_WINDOW = 1 << 20
"""Bytes that are looked through at once for the name of a wrapper."""


def _sniff(head: Head) -> bool:
    return head.first.startswith(_ZFILE + b"0x") or looks_like_pickle(head)


def _read(source: Source, request: Request) -> Checkpoint:
    if source.read(0, min(2, source.size)) == _ZFILE:
        inner = MemorySource(_inflated(source, request.limits), source.name)
        source.close()
        source = inner
    found = _opened(source, request) if _names_wrapper(source) else None
    return PLAIN_PICKLE.read(source, request) if found is None else found


def _names_wrapper(source: Source) -> bool:
    """Whether the name of a wrapper stands anywhere in the file."""
    overlap = max(map(len, _MARKS)) - 1
    for at in range(0, source.size, _WINDOW):
        window = source.read(at, min(_WINDOW + overlap, source.size - at))
        if any(mark in window for mark in _MARKS):
            return True
    return False


def _opened(source: Source, request: Request) -> Checkpoint | None:
    """The file, or None if it turns out that no array of joblib's is in it."""
    data = source.read(0, source.size)
    arrays = _Arrays(source, request)
    try:
        reading = read_known_pickle(data, limits=request.limits, more=arrays.names)
    except RehydrateError as error:
        for opened in arrays.sources:
            opened.close()
        if isinstance(error, (CorruptError, TruncatedError)):
            raise not_a_pickle(source, data, error) from error
        raise
    if not arrays.met:
        return None
    check_nothing_after(reading, source.size, shown(source.name))
    readings = (reading, *arrays.readings)
    return Checkpoint(
        SourceSet((source, *arrays.sources), source.name) if arrays.sources else source,
        format="joblib",
        tree=reading.value,
        attributes={key: state for each in readings for key, state in each.attributes.items()},
        facts=facts_of_all(reading, arrays.readings, writer="joblib.dump"),
        kept=tuple(value for each in readings for value in each.kept),
        traces=tuple(map(trace_of, readings)) + tuple(arrays.traces),
    )


class _Arrays:
    """What joblib's wrappers stand for, in one file."""

    def __init__(self, source: Source, request: Request) -> None:
        self.met = 0
        self.readings: list[Reading] = []
        """The pickles of arrays of objects."""
        self.sources: list[Source] = []
        """Files beside this one that have been opened."""
        inside = TensorBytes(request)
        self.traces: list[Trace] = inside.traces
        self.names: dict[Name, Constructor] = dict(inside.names)
        for home in _HOMES:
            for module in (home + name for name in _MODULES):
                self._enter((module, "NumpyArrayWrapper"), self._following)
                self._enter((module, "NDArrayWrapper"), self._beside)
                self._enter((module, "ZNDArrayWrapper"), self._compressed)
        self._inside = inside
        self._source = source
        self._request = request
        self._work = request.limits.work + request.limits.work_per_byte * source.size
        self._opened: dict[str, object] = {}

    def _enter(self, name: Name, grow: Callable[[dict[object, object]], object]) -> None:
        def grown_from(made: object, state: object) -> object:
            self.met += 1
            return grow(state) if isinstance(state, dict) else UNFIT

        def construct(args: tuple[object, ...]) -> object:
            return UNFIT if args else Growing(Record(*name, ()), grown_from)

        self.names[name] = construct

    def _following(self, state: dict[object, object]) -> object:
        """An array whose bytes come next."""
        shape, dtype, order = state.get("shape"), state.get("dtype"), state.get("order")
        is_padded = state.get("numpy_array_alignment_bytes") is not None
        width = bytes_of_element(dtype)
        if not is_shape(shape) or order not in ("C", "F") or width is None:
            raise CorruptError(
                "joblib's wrapper of an array does not say what is in it", where=shown(self._source.name)
            )
        if not width:
            return Following(self._objects)
        nbytes = width
        for extent in shape:
            nbytes *= extent
        return Following(partial(self._array, dtype, shape, order == "F", is_padded, nbytes))

    def _array(
        self,
        dtype: object,
        shape: tuple[int, ...],
        is_fortran: bool,
        is_padded: bool,
        nbytes: int,
        data: bytes,
        at: int,
    ) -> tuple[object, int]:
        if is_padded:
            at += 1 + int.from_bytes(data[at : at + 1], "little")
        end = at + nbytes
        if end > len(data):
            raise TruncatedError(
                "the file ends inside an array",
                where=shown(self._source.name),
                found=f"{size(max(len(data) - at, 0))} of {size(nbytes)}",
                hint="download it again",
            )
        element = element_of(dtype)
        if element is not None and len(element) == 2:
            coding = "big-endian" if element[1] and element[0].itemsize > 1 else "raw"
            piece = Piece(self._source, at, nbytes, 0, coding)
            return array_of(element[0], shape, is_fortran=is_fortran, piece=piece), end
        value = array_from(dtype, shape, is_fortran, data[at:end])
        return Record("numpy", "ndarray", (shape, dtype), state=data[at:end]) if value is UNFIT else value, end

    def _objects(self, data: bytes, at: int) -> tuple[object, int]:
        """An array of objects, which is a pickle with a memo of its own; together they may work as much as one."""
        limits = replace(self._request.limits, work=self._work, work_per_byte=0)
        reading = read_known_pickle(data, at=at, limits=limits, more=self._inside.names)
        self._work = reading.work
        self.readings.append(reading)
        return reading.value, reading.end

    def _beside(self, state: dict[object, object]) -> object:
        """An array in a .npy file beside this one."""
        name = state.get("filename")
        if type(name) is not str or name not in self._opened:
            source = self._file(name)
            if source is None or not isinstance(name, str) or source.read(0, min(len(MAGIC), source.size)) != MAGIC:
                return UNFIT
            checkpoint = self._request.inside(source)
            self.traces.extend(replace(trace, where=name) for trace in checkpoint.traces)
            self._opened[name] = checkpoint.tree
        return self._opened[name]

    def _compressed(self, state: dict[object, object]) -> object:
        """An array whose bytes are compressed in a file beside this one."""
        name, described = state.get("filename"), state.get("state")
        source = self._file(name)
        if source is None or not isinstance(described, tuple) or source.read(0, min(2, source.size)) != _ZFILE:
            return UNFIT
        return grown((*described, _inflated(source, self._request.limits)))

    def _file(self, name: object) -> Source | None:
        """The file of that name in the same folder, if there is one."""
        if type(name) is not str or self._request.beside is None:
            return None
        try:
            source = self._request.beside(name)
        except RehydrateError:
            return None
        self.sources.append(source)
        return source


def _inflated(source: Source, limits: Limits) -> bytes:
    """What a file with "ZF" in front unpacks to; its length is in the header."""
    header = source.read(0, min(_HEADER + 1, source.size))
    digits = header[len(_ZFILE) : _HEADER].strip()
    if len(header) <= _HEADER or not digits.startswith(b"0x") or not digits[2:].isalnum():
        raise CorruptError("the header of joblib's compressed file is broken", where=shown(source.name))
    try:
        length = int(digits, 16)
    except ValueError as error:
        raise CorruptError("the header of joblib's compressed file is broken", where=shown(source.name)) from error
    if length > min(source.size * limits.inflation, limits.unpacked_bytes):
        raise LimitError("joblib's compressed file unpacks to too much", where=shown(source.name), found=size(length))
    start = _HEADER + (header[_HEADER:] == b" ")
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(source.read(start, source.size - start), length + 1)
    except zlib.error as error:
        raise CorruptError("joblib's compressed file is damaged", where=shown(source.name)) from error
    if len(data) != length or not inflater.eof or inflater.unused_data:
        raise CorruptError(
            "joblib's compressed file does not unpack to what it says",
            where=shown(source.name),
            found=f"{len(data):,} bytes, or more, for {length:,}",
        )
    return data


JOBLIB = Format("joblib", _sniff, _read)
"""The format's row in `opening.FORMATS`."""
