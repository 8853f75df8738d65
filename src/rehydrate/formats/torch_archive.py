"""What all archives of torch's own zip writer have in common: one folder, records of a word, storages.

    NAME/RECORD                     NAME is the same for all records; torch takes it from the first
    NAME/byteorder                  "little" or "big"; absent before 2.1: little
    NAME/version, NAME/.data/version

    persistent id                   ("storage", torch.FloatStorage, KEY, LOCATION, NUMEL)

torch's reader ignores case when it looks for a record, so two names that differ in capitals are one for it and two for
others: an error here. Source: `caffe2/serialize/inline_container.cc`. Nothing here decides which format it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from rehydrate.checkpoint.record import brief
from rehydrate.checkpoint.tensor import Storage
from rehydrate.checkpoint.tree import tensors_under
from rehydrate.dtypes import DType
from rehydrate.errors import AmbiguousError, CorruptError
from rehydrate.formats.zip_directory import Member, ZipDirectory
from rehydrate.formats.zip_members import pieces_of
from rehydrate.pickles.torch_names import NUMBERS_END, nowhere, storage_dtype
from rehydrate.text import listed, shown

__all__ = ["Storages", "byte_order", "folder_of", "folders_with", "type_untyped", "version_of", "word_of"]

_SPECIAL = frozenset(
    {
        "archive_format", "archive_version", "attributes.pkl", "bytecode.pkl", "byteorder", "constants.pkl", "data.pkl",
        "mobile_debug_handles.pkl", "model.json", "version", ".data/version",
    }
)  # fmt: skip
"""Records that torch looks for by name."""
_MACOS = "__MACOSX/"
"""What macOS puts beside a folder that it packs; torch refuses such an archive, and reads nothing else in it."""
_SMALL = 1 << 16
"""Bytes of the records that hold a word: version, byteorder."""


def folders_with(directory: ZipDirectory, record: str) -> list[str]:
    """The folders that hold this record, the outermost first, if there is one where torch would look."""
    found = [name.removesuffix(record) for name in directory.members if name == record or name.endswith("/" + record)]
    top = sorted(found, key=lambda name: name.count("/"))
    return top if top and top[0].count("/") <= 1 else []


def folder_of(directory: ZipDirectory, record: str, free: tuple[str, ...] = ()) -> str:
    """The folder that holds `record` and everything else, with its slash, or an error that says what is wrong.

    Below the folders in `free` names are anybody's: there may be others in them that differ in capitals. `record` must
    be there, see `folders_with`.
    """
    names = directory.members
    top = folders_with(directory, record)
    prefix = top[0]
    inside = tuple(prefix + folder for folder in free)
    if len([folder for folder in top if not folder.startswith(inside)] if inside else top) > 1:
        raise AmbiguousError(
            "the archive holds two checkpoints; readers disagree which counts",
            found=listed([shown(name) for name in top]),
        )
    _check_spelling([name for name in names if not name.startswith(inside)] if inside else names, prefix)
    records = [name for name in names if not name.startswith(prefix + "data/")]
    outside = next((name for name in records if not name.startswith((prefix, _MACOS))), None)
    if outside is not None and prefix:
        raise AmbiguousError("the archive has entries beside the checkpoint's folder", found=shown(outside))
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


def word_of(directory: ZipDirectory, name: str) -> str | None:
    """The content of a record that holds one word; None where there is no such record."""
    member = directory.members.get(name)
    if member is None:
        return None
    return directory.read(member, _SMALL).decode("ascii", "replace").strip()


def version_of(directory: ZipDirectory, prefix: str) -> str | None:
    """The version that the writer gave the file; old ones kept it under another name."""
    return word_of(directory, prefix + "version") or word_of(directory, prefix + ".data/version")


def byte_order(directory: ZipDirectory, prefix: str) -> str:
    """`little` or `big`."""
    order = word_of(directory, prefix + "byteorder") or "little"
    if order not in ("little", "big"):
        raise CorruptError(
            "the byte order is neither little nor big", where=shown(directory.source.name), found=shown(order)
        )
    return order


def type_untyped(tree: object) -> None:
    """Give untyped storages the type of the tensors on them: newer types are saved so, and bytes have no order."""
    for _, ref in tensors_under(tree):
        if ref.storage.dtype.itemsize == 1:
            ref.storage.dtype = ref.dtype


class Storages:
    """The storages of one pickle, one object for each key, made when the pickle first names them.

    `folder` is where their records lie. Where one archive has several pickles that count their storages from 0,
    `label` is put before each key, so that it names one storage of the file.
    """

    ending = b""

    def __init__(self, directory: ZipDirectory, folder: str, coding: str, label: str = "") -> None:
        self.made: dict[str, Storage] = {}
        self._kinds: dict[int, tuple[object, DType, int]] = {}
        self._members: Mapping[str, Member] = directory.members
        self._folder = folder
        self._directory = directory
        self._pieces = partial(pieces_of, directory, coding=coding)
        self._label = label

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
        member = self._members.get(self.record_of(key))
        if member is None and location != "meta":
            member = self._directory.lost(self.record_of(key), nbytes)
        if member is None or member.size != nbytes:
            self._check_missing(key, member, nbytes, location)
            storage = Storage(self._label + key, dtype, nbytes, location, nowhere)
        else:
            storage = Storage(self._label + key, dtype, nbytes, location, self._pieces, member, member.offset)
        self.made[key] = storage
        return storage

    def record_of(self, key: str) -> str:
        """The name of the member that holds the storage of this key."""
        return self._folder + key

    def alike(self, kind: object, location: str, numel: int) -> tuple[Callable[[str], Storage], int]:
        """See `tensor_runs.Persistent`: the same as a call, with what many storages have in common looked up once."""
        known = self._kinds.get(id(kind)) or self._kind(kind)
        dtype, nbytes = known[1], numel * known[2]
        made, members, folder, label, pieces = self.made, self._members, self._folder, self._label, self._pieces

        def storage_of(key: str) -> Storage:
            member = members.get(folder + key)
            if member is not None and member.size == nbytes:
                storage = Storage(label + key, dtype, nbytes, location, pieces, member, member.offset)
                if made.setdefault(key, storage) is storage:
                    return storage
            return self(("storage", kind, key, location, numel))

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
            raise CorruptError("a storage is missing from the archive", where=shown(self.record_of(key)))
