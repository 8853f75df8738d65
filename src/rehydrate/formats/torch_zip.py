"""torch's zip files: what `torch.save` has written since 1.6.

    NAME/data.pkl               the object, pickled (protocol 2 by default); every storage is a persistent id
    NAME/data/KEY               one storage's bytes, stored, beginning at a multiple of 64 in files of torch ≥ 1.6
    NAME/version                "3\\n" or older
    NAME/byteorder              "little" or "big"; absent before 2.1: little
    NAME/.format_version, .storage_alignment, .data/serialization_id     since 2.x; not needed to read

    persistent id               ("storage", torch.FloatStorage, KEY, LOCATION, NUMEL); bytes for UntypedStorage

NAME is the file's stem; there is exactly one. A storage's record has exactly NUMEL elements; readers that map the file
without looking would show a neighbour's bytes. Archives that have a program beside it are TorchScript, which is another
format. Source: `torch/serialization.py`; what all archives of torch's zip writer have in common is in `torch_archive`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.formats.contract import Request
from rehydrate.formats.facts import facts_of, saved_on, trace_of
from rehydrate.formats.pickle_inside import check_nothing_after
from rehydrate.formats.torch_archive import Storages, byte_order, folder_of, folders_with, type_untyped, version_of
from rehydrate.formats.zip_directory import ZipDirectory
from rehydrate.formats.zip_kind import ZipKind
from rehydrate.formats.zip_writer import ZipWriter
from rehydrate.pickles.known import read_known_pickle
from rehydrate.storage.atomic import Sink
from rehydrate.text import shown

__all__ = ["TORCH_ZIP", "write_torch_zip"]


def _knows(directory: ZipDirectory) -> bool:
    return bool(folders_with(directory, "data.pkl"))


def _read(directory: ZipDirectory, request: Request) -> Checkpoint:
    source, limits = directory.source, request.limits
    prefix = folder_of(directory, "data.pkl")
    order = byte_order(directory, prefix)
    storages = Storages(directory, prefix + "data/", "raw" if order == "little" else "big-endian")
    member = directory.members[prefix + "data.pkl"]
    reading = read_known_pickle(directory.read(member, limits.pickle_bytes), persistent=storages, limits=limits)
    check_nothing_after(reading, member.size, shown(member.name))
    if order == "big":
        type_untyped(reading.value)
    version = version_of(directory, prefix)
    return Checkpoint(
        source,
        format="torch-zip",
        tree=reading.value,
        attributes=reading.attributes,
        facts=facts_of(
            reading,
            writer="torch.save" + (f" (file version {shown(version)})" if version else ""),
            byteorder=order,
            saved_on=saved_on(reading, storages.made.values()),
        ),
        kept=reading.kept,
        traces=(trace_of(reading, member.name),),
        checksums=directory.checksums,
    )


def write_torch_zip(sink: Sink, name: str, pickle: bytes, storages: Iterable[tuple[str, bytes | memoryview]]) -> None:
    """Write a file that `torch.load(weights_only=True)` of 2.0 and later reads."""
    writer = ZipWriter(sink)
    writer.add(f"{name}/data.pkl", [pickle])
    writer.add(f"{name}/byteorder", [sys.byteorder.encode()])
    for key, content in storages:
        writer.add(f"{name}/data/{key}", [content])
    writer.add(f"{name}/version", [b"3\n"])
    writer.finish()


TORCH_ZIP = ZipKind("torch-zip", _knows, _read)
"""The format's row in `zipped.KINDS`."""
