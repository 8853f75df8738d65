"""numpy's archives of arrays: what `numpy.savez` and `numpy.savez_compressed` write, and scipy's sparse matrices.

    NAME.npy        one array, see `npy`; stored, or deflated by `savez_compressed`

Every member is an array, and is called by its name without `.npy`. Opening reads the header of each and no data. A
deflated array is inflated when it is asked for, each time. A sparse matrix of scipy's is its arrays: `data`, `indices`
and `indptr`, or `row` and `col`, with `shape` and `format`.
"""

from __future__ import annotations

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.trace import Trace
from rehydrate.errors import RehydrateError
from rehydrate.formats.contract import Request
from rehydrate.formats.facts import told_by
from rehydrate.formats.npy import Array, array_from
from rehydrate.formats.npy_header import read_header
from rehydrate.formats.zip_directory import Member, ZipDirectory
from rehydrate.formats.zip_kind import ZipKind
from rehydrate.formats.zip_members import pieces_of
from rehydrate.storage.source import MemorySource, Source
from rehydrate.storage.views import PartSource
from rehydrate.text import shown

__all__ = ["NPZ"]

_SUFFIX = ".npy"


def _knows(directory: ZipDirectory) -> bool:
    return bool(directory.members) and all(name.endswith(_SUFFIX) for name in directory.members)


def _read(directory: ZipDirectory, request: Request) -> Checkpoint:
    arrays = {name.removesuffix(_SUFFIX): _array(directory, member) for name, member in directory.members.items()}
    traces = tuple(trace for array in arrays.values() for trace in array.traces)
    return Checkpoint(
        directory.source,
        format="npz",
        tree={name: array.value for name, array in arrays.items()},
        attributes={key: value for array in arrays.values() for key, value in array.attributes.items()},
        facts=_facts(directory, arrays, traces),
        kept=tuple(value for array in arrays.values() for value in array.kept),
        traces=traces,
        checksums=directory.checksums,
    )


def _array(directory: ZipDirectory, member: Member) -> Array:
    try:
        (piece,) = pieces_of(directory, member)
        source: Source = piece.source
        if member.method == 0:
            source = PartSource(piece.source, piece.start, piece.length, member.name)
        header = read_header(source, directory.limits)
        if header.itemsize is None:  # a pickle is needed whole, and now
            source = MemorySource(directory.read(member, directory.limits.pickle_bytes), member.name)
        return array_from(source, header, directory.limits, member=member.name)
    except RehydrateError as error:
        error.where = error.where or shown(member.name)
        raise


def _facts(directory: ZipDirectory, arrays: dict[str, Array], traces: tuple[Trace, ...]) -> dict[str, object]:
    is_packed = any(member.method for member in directory.members.values())
    orders = {array.facts["byteorder"] for array in arrays.values()}
    facts: dict[str, object] = {
        "writer": "numpy.savez_compressed" if is_packed else "numpy.savez",
        "byteorder": orders.pop() if len(orders) == 1 else "mixed",
    }
    if traces:
        for fact in ("imports", "calls"):
            facts[fact] = told_by((array.facts for array in arrays.values()), fact)
        facts["protocol"] = max(trace.protocol for trace in traces)
    return facts


NPZ = ZipKind("npz", _knows, _read)
"""The format's row in `zipped.KINDS`."""
