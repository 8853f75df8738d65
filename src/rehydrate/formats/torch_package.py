"""Packages of `torch.package`: pickles with the Python sources that their classes are in.

    NAME/.data/extern_modules     names of modules that are not in it, one a line
    NAME/.data/python_version, version
    NAME/PACKAGE/*.py             sources; never run
    NAME/PACKAGE/RESOURCE         a pickle by `save_pickle`, or anything else
    NAME/.data/KEY.storage        the storages of all pickles
    NAME/.data/ts_code/N/data.pkl a scripted module, its program in ts_code/code/; see `torchscript`

    persistent id                 ("storage", torch.FloatStorage, KEY, LOCATION, NUMEL), or
                                  ("reduce_package", ID, FUNCTION, ARGUMENTS): a call; ID is absent at first

The tree is {"PACKAGE/RESOURCE": what was pickled}. Source: `torch/package/package_exporter.py`, `package_importer.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.record import Record, brief
from rehydrate.checkpoint.tensor import Storage
from rehydrate.checkpoint.trace import Call, Trace
from rehydrate.errors import CorruptError
from rehydrate.formats.contract import Request
from rehydrate.formats.facts import trace_of
from rehydrate.formats.pickle_inside import check_nothing_after
from rehydrate.formats.torch_archive import Storages, byte_order, folder_of, folders_with, word_of
from rehydrate.formats.zip_directory import Member, ZipDirectory
from rehydrate.formats.zip_kind import ZipKind
from rehydrate.formats.zip_members import pieces_of
from rehydrate.pickles.known import is_harmless, read_known_pickle
from rehydrate.pickles.reading import Reading
from rehydrate.pickles.torch_names import NUMBERS_END
from rehydrate.text import shown

__all__ = ["TORCH_PACKAGE"]

_SIGN = ".data/extern_modules"
_SCRIPTED = ("torch.jit._script", "unpackage_script_module")
_CODE = ".data/ts_code/"
_LEAST = 4
"""Bytes of the shortest pickle of protocol 2."""


def _knows(directory: ZipDirectory) -> bool:
    return bool(folders_with(directory, _SIGN))


def _read(directory: ZipDirectory, request: Request) -> Checkpoint:
    prefix = folder_of(directory, _SIGN)
    package = _Package(directory, prefix)
    tree = {
        name.removeprefix(prefix): package.resource(member)
        for name, member in directory.members.items()
        if not name.startswith(prefix + ".data/") and not name.endswith((".py", "/")) and _is_pickle(directory, member)
    }
    traces = tuple(package.traces())
    foreign = [
        (f"{module}.{name}", (module, name) in trace.called)
        for trace in traces
        for module, name in trace.names
        if not is_harmless((module, name))
    ]
    python = word_of(directory, prefix + ".data/python_version")
    return Checkpoint(
        directory.source,
        format="torch-package",
        tree=tree,
        attributes={key: value for reading in package.readings.values() for key, value in reading.attributes.items()},
        facts={
            "writer": "torch.package" + (f" (Python {shown(python, 40)})" if python else ""),
            "code": tuple(name for name in directory.members if name.endswith(".py") and name.startswith(prefix)),
            "saved_on": tuple(sorted({storage.location for storage in package.storages.made.values()})),
            "imports": tuple(dict.fromkeys(name for name, _ in foreign)),
            "calls": tuple(dict.fromkeys(name for name, is_called in foreign if is_called)),
        },
        kept=tuple(value for reading in package.readings.values() for value in reading.kept),
        traces=traces,
        checksums=directory.checksums,
    )


class _Package:
    """The pickles of one package as they are read, and what they share."""

    def __init__(self, directory: ZipDirectory, prefix: str) -> None:
        coding = "raw" if byte_order(directory, prefix) == "little" else "big-endian"
        self.readings: dict[str, Reading] = {}
        self.storages = _PackageStorages(directory, prefix + ".data/", coding)
        self._directory = directory
        self._prefix = prefix
        self._called: dict[str, list[Record]] = {}

    def resource(self, member: Member) -> object:
        """What a pickle of the package says."""
        persistent = _Persistent(self)
        value = self._read(member, persistent)
        self._called[member.name] = persistent.calls
        return value

    def _read(self, member: Member, persistent: Callable[[object], object]) -> object:
        limits = self._directory.limits
        reading = read_known_pickle(
            self._directory.read(member, limits.pickle_bytes), persistent=persistent, limits=limits
        )
        check_nothing_after(reading, member.size, shown(member.name))
        self.readings[member.name] = reading
        return reading.value

    def scripted(self, number: str) -> object:
        """The scripted module of this number, or None where there is none."""
        member = self._directory.members.get(f"{self._prefix}{_CODE}{number}/data.pkl")
        if member is None:
            return None
        known = self.readings.get(member.name)
        return self._read(member, self.storages) if known is None else known.value

    def traces(self) -> Iterator[Trace]:
        """Of every pickle; persistent ids, too, make calls."""
        for name, reading in self.readings.items():
            trace = trace_of(reading, name)
            called = self._called.get(name, [])
            yield replace(
                trace,
                called=trace.called | {(record.module, record.name) for record in called},
                calls=(*trace.calls, *(Call(trace.start, record) for record in called)),
            )


class _PackageStorages(Storages):
    """The storages of a package, which all its pickles share."""

    def __call__(self, token: object) -> Storage:
        if type(token) is tuple and len(token) == 5 and type(token[2]) is int and 0 <= token[2] < NUMBERS_END:
            token = (*token[:2], str(token[2]), *token[3:])
        return super().__call__(token)

    def record_of(self, key: str) -> str:
        return super().record_of(key.removesuffix(".storage") + ".storage")


class _Persistent:
    """What the persistent ids of a package's own pickles stand for; scripted modules inside have storages only."""

    def __init__(self, package: _Package) -> None:
        self.calls: list[Record] = []
        self._package = package

    def __call__(self, token: object) -> object:
        if type(token) is not tuple or len(token) not in (3, 4) or token[0] != "reduce_package":
            return self._package.storages(token)
        function, args = token[-2:]
        if not isinstance(function, Record) or type(args) is not tuple:
            raise CorruptError("a call in a package is none", found=brief(token))
        record = Record(function.module, function.name, args)
        self.calls.append(record)
        if (function.module, function.name) == _SCRIPTED and len(args) == 1 and type(args[0]) is str:
            record.state = self._package.scripted(args[0])
        return record


def _is_pickle(directory: ZipDirectory, member: Member) -> bool:
    """Whether a resource begins as `save_pickle` writes it."""
    if member.size < _LEAST:
        return False
    (piece,) = pieces_of(directory, member)
    return piece.source.read(piece.start, 2) in (b"\x80\2", b"\x80\3", b"\x80\4", b"\x80\5")


TORCH_PACKAGE = ZipKind("torch-package", _knows, _read)
"""The format's row in `zipped.KINDS`."""
