"""torch's zip files: what `torch.save` has written since 1.6.

    NAME/data.pkl               the object, pickled (protocol 2 by default); every storage is a persistent id
    NAME/data/KEY               one storage's bytes, stored, beginning at a multiple of 64 in files of torch ≥ 1.6
    NAME/version                "3\\n" or older
    NAME/byteorder              "little" or "big"; absent before 2.1: little
    NAME/.format_version, .storage_alignment, .data/serialization_id     since 2.x; not needed to read

    persistent id               ("storage", torch.FloatStorage, KEY, LOCATION, NUMEL); bytes for UntypedStorage

NAME is the file's stem; there is exactly one. A storage's record has exactly NUMEL elements; readers that map the file
without looking would show a neighbour's bytes. Archives with `constants.pkl` or `code/` are TorchScript, which is
another format and is never run. Source: `torch/serialization.py` and `caffe2/serialize/inline_container.cc`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.record import brief
from rehydrate.checkpoint.tensor import Piece, Storage
from rehydrate.checkpoint.tree import tensors_under
from rehydrate.dtypes import DType
from rehydrate.errors import AmbiguousError, CorruptError, NotACheckpointError
from rehydrate.formats.contract import Request
from rehydrate.formats.facts import facts_of, trace_of
from rehydrate.formats.zip_directory import Member, ZipDirectory
from rehydrate.formats.zip_kind import ZipKind
from rehydrate.formats.zip_members import pieces_of
from rehydrate.formats.zip_writer import ZipWriter
from rehydrate.pickles.known import read_known_pickle
from rehydrate.pickles.reading import Reading
from rehydrate.pickles.torch_names import BY_DEVICE, NUMBERS_END, nowhere, storage_dtype
from rehydrate.storage.atomic import Sink
from rehydrate.storage.source import Source
from rehydrate.text import listed, shown

__all__ = ["TORCH_ZIP", "write_torch_zip"]

_SPECIAL = frozenset({"data.pkl", "byteorder", "version", ".data/version", "constants.pkl"})
"""Records that torch looks for."""
_SMALL = 1 << 16
"""Bytes of the records that hold a word: version, byteorder."""


def _knows(directory: ZipDirectory) -> bool:
    return bool(_folders(directory))


def _read(directory: ZipDirectory, request: Request) -> Checkpoint:
    source, limits = directory.source, request.limits
    prefix = _prefix(directory, source)
    order = _word(directory, prefix + "byteorder") or "little"
    if order not in ("little", "big"):
        raise CorruptError("the byte order is neither little nor big", where=shown(source.name), found=shown(order))
    storages = _Storages(directory, prefix, "raw" if order == "little" else "big-endian")
    reading = read_known_pickle(
        directory.read(directory.members[prefix + "data.pkl"], limits.pickle_bytes),
        persistent=storages,
        limits=limits,
    )
    if reading.end != directory.members[prefix + "data.pkl"].size:
        raise AmbiguousError("there are bytes after the end of the pickle; other readers may read those instead")
    if order == "big":
        _type_untyped(reading.value)
    version = _word(directory, prefix + "version") or _word(directory, prefix + ".data/version")
    return Checkpoint(
        source,
        format="torch-zip",
        tree=reading.value,
        attributes=reading.attributes,
        facts=facts_of(
            reading,
            writer="torch.save" + (f" (file version {shown(version)})" if version else ""),
            byteorder=order,
            saved_on=tuple(sorted(_locations(reading, storages.made.values()))),
        ),
        kept=reading.kept,
        traces=(trace_of(reading, prefix + "data.pkl"),),
        checksums=directory.checksums,
    )


def _type_untyped(tree: object) -> None:
    """Give untyped storages the type of the tensors on them: newer types are saved so, and bytes have no order."""
    for _, ref in tensors_under(tree):
        if ref.storage.dtype.itemsize == 1:
            ref.storage.dtype = ref.dtype


def _locations(reading: Reading, storages: Iterable[Storage]) -> set[str]:
    """Where the tensors lived. Those that were saved through the CPU have their own device beside the storage's."""
    if BY_DEVICE in reading.called:
        return {ref.storage.location for _, ref in tensors_under(reading.value)}
    return {storage.location for storage in storages}


def _folders(directory: ZipDirectory) -> list[str]:
    """The folders that hold a data.pkl, the outermost first, if there is one where torch would look."""
    names = directory.members
    found = [name.removesuffix("data.pkl") for name in names if name == "data.pkl" or name.endswith("/data.pkl")]
    top = sorted(found, key=lambda name: name.count("/"))
    return top if top and top[0].count("/") <= 1 else []


def _prefix(directory: ZipDirectory, source: Source) -> str:
    """The folder that holds data.pkl, or an error that says what is wrong with the archive."""
    names = directory.members
    top = _folders(directory)
    if len(top) > 1:
        raise AmbiguousError(
            "the archive holds two checkpoints; readers disagree which counts",
            found=listed([shown(name) for name in top]),
        )
    prefix = top[0]
    _check_spelling(names, prefix)
    records = [name for name in names if not name.startswith(prefix + "data/")]
    outside = next((name for name in records if not name.startswith(prefix)), None)
    if outside is not None and prefix:
        raise AmbiguousError("the archive has entries beside the checkpoint's folder", found=shown(outside))
    if prefix + "constants.pkl" in names or any(name.startswith(prefix + "code/") for name in records):
        raise NotACheckpointError(
            "this is a TorchScript archive: a program with its weights, not a file of torch.save",
            where=shown(source.name),
            hint="torch.jit.load runs it; only do so if you trust whoever wrote it",
        )
    for name in records:  # a record that is not looked for, such as a byte order, may be another under its own header
        directory.start_of(names[name])
    return prefix


def _check_spelling(names: Iterable[str], prefix: str) -> None:
    """Refuse names that torch's reader, which ignores case, may take for others.

    Of many thousand names, all in one: nobody waits for this.
    """
    together = "\n".join(names)
    if together == together.lower():
        return
    inside = {name.removeprefix(prefix) for name in names}
    odd = next((name for name in inside if name.lower() != name and name.lower() in inside | _SPECIAL), None)
    if odd is not None:
        raise AmbiguousError("an entry is told from another only by capitals; readers disagree", found=shown(odd))


def _word(directory: ZipDirectory, name: str) -> str | None:
    """The content of a record that holds one word."""
    member = directory.members.get(name)
    if member is None:
        return None
    return directory.read(member, _SMALL).decode("ascii", "replace").strip()


class _Storages:
    """The storages of one file, one object for each key, made when the pickle first names them."""

    def __init__(self, directory: ZipDirectory, prefix: str, coding: str) -> None:
        self.made: dict[str, Storage] = {}
        self._kinds: dict[int, tuple[object, DType, int]] = {}
        self._members: Mapping[str, Member] = directory.members
        self._folder = prefix + "data/"
        self._directory = directory
        self._coding = coding

    def __call__(self, token: object) -> Storage:
        """The storage of a persistent id; what the id claims is held against the record."""
        if type(token) is not tuple or len(token) != 5 or token[0] != "storage":
            raise CorruptError("unsupported persistent id: not a storage of torch's", found=brief(token))
        _, kind, key, location, numel = token
        if type(key) is not str or type(location) is not str or type(numel) is not int or not 0 <= numel < NUMBERS_END:
            raise CorruptError("a storage's persistent id is broken", found=brief(token))
        known = self._kinds.get(id(kind)) or self._kind(kind)
        dtype, width = known[1], known[2]
        nbytes = numel * width
        storage = self.made.get(key)
        if storage is not None:
            if storage.dtype is not dtype or storage.nbytes != nbytes:
                raise CorruptError(
                    "one storage is named with two types or lengths",
                    where=f"storage {shown(key)}",
                    found=f"{storage.dtype}, {storage.nbytes:,} bytes; {dtype}, {nbytes:,} bytes",
                )
            return storage
        member = self._members.get(self._folder + key)
        if member is None or member.size != nbytes:
            self._check_missing(key, member, nbytes, location)
            storage = Storage(key, dtype, nbytes, location, nowhere)
        else:
            storage = Storage(key, dtype, nbytes, location, self._pieces, member, member.offset)
        self.made[key] = storage
        return storage

    def alike(self, kind: object, location: str, numel: int) -> tuple[Callable[[str], Storage], int]:
        """See `tensor_runs.Persistent`: the same as a call, with what many storages have in common looked up once."""
        known = self._kinds.get(id(kind)) or self._kind(kind)
        dtype, nbytes = known[1], numel * known[2]
        made, members, folder, pieces = self.made, self._members, self._folder, self._pieces

        def storage_of(key: str) -> Storage:
            member = members.get(folder + key)
            if key in made or member is None or member.size != nbytes:
                return self(("storage", kind, key, location, numel))
            storage = made[key] = Storage(key, dtype, nbytes, location, pieces, member, member.offset)
            return storage

        return storage_of, nbytes

    def _kind(self, kind: object) -> tuple[object, DType, int]:
        """A storage class, its element type, and the bytes of one element."""
        try:
            dtype = storage_dtype(kind)
        except KeyError as error:
            raise CorruptError("a storage of an unknown kind", found=brief(kind)) from error
        known = (kind, dtype, dtype.itemsize)
        self._kinds[id(kind)] = known
        return known

    def _check_missing(self, key: str, member: Member | None, nbytes: int, location: str) -> None:
        """Only a storage of the meta device may lack its record."""
        if member is not None:
            raise CorruptError(
                "a storage's record has another length than the storage",
                where=shown(member.name),
                found=f"{member.size:,} bytes for {nbytes:,}",
                hint="the file was damaged, or made to be read wrongly",
            )
        if location != "meta":
            raise CorruptError("a storage is missing from the archive", where=shown(self._folder + key))

    def _pieces(self, member: Member) -> tuple[Piece, ...]:
        return pieces_of(self._directory, member, self._coding)


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
