"""TorchScript archives of before 1.3: a program whose modules and tensors are listed in JSON.

    NAME/model.json        {"mainModule": MODULE, "tensors": [TENSOR], "producerName", "producerVersion", ...}
    NAME/tensors/N         the storage of one tensor or of several, little-endian
    NAME/attributes.pkl    a tuple, in 1.0 a list, of what attributes are that are no tensors; absent at first
    NAME/code/*.py         the program; never run
    NAME/version           "1" or "2"

    MODULE                 {"name", "parameters": [{"name", "tensorId", "isBuffer"}], "submodules": [MODULE],
                           "attributes": [{"name", "type", "id"}], "torchscriptArena": {"key"}, "optimize"}
    TENSOR                 {"dims", "strides", "offset", "dataType": "FLOAT", "requiresGrad", "data": {"key"}, "device"}

It is a protobuf message written as JSON, so numbers of 64 bits are strings, and what is zero or empty may be absent. A
module becomes what a pickled one is, with parameters, buffers and modules apart. In attributes a tensor is a call of
`build_tensor_from_id` with its place among the tensors. Sources: `caffe2/proto/torch.proto`,
`torch/csrc/jit/serialization/import_legacy.cpp`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.record import Record, brief
from rehydrate.checkpoint.tensor import NO_TRAITS, Storage, TensorRef
from rehydrate.dtypes import BY_NAME, DType
from rehydrate.errors import AmbiguousError, CorruptError
from rehydrate.formats.contract import Request
from rehydrate.formats.facts import facts_of, trace_of
from rehydrate.formats.json_header import parse_json
from rehydrate.formats.pickle_inside import check_nothing_after
from rehydrate.formats.script_classes import PACKAGE
from rehydrate.formats.torch_archive import folder_of, folders_with
from rehydrate.formats.torchscript import program_facts
from rehydrate.formats.zip_directory import ZipDirectory
from rehydrate.formats.zip_kind import ZipKind
from rehydrate.formats.zip_members import pieces_of
from rehydrate.pickles.known import read_known_pickle
from rehydrate.pickles.reading import Reading
from rehydrate.pickles.results import UNFIT
from rehydrate.pickles.script_names import MODULE
from rehydrate.pickles.torch_names import REQUIRES_GRAD, tensor_on, window_of
from rehydrate.text import shown

__all__ = ["SCRIPT_MODEL_JSON"]

_DTYPES = {
    "FLOAT": "float32", "DOUBLE": "float64", "FLOAT16": "float16", "INT8": "int8", "INT16": "int16", "INT32": "int32",
    "INT64": "int64", "UINT8": "uint8", "BYTE": "uint8", "BOOL": "bool",
}  # fmt: skip
"""`caffe2.TensorProto.DataType`, as far as torch wrote it."""
_TRAITS = {False: NO_TRAITS, True: REQUIRES_GRAD}


def _knows(directory: ZipDirectory) -> bool:
    folders = folders_with(directory, "model.json")
    return bool(folders) and any(name.startswith(folders[0] + "code/") for name in directory.members)


def _read(directory: ZipDirectory, request: Request) -> Checkpoint:
    prefix = folder_of(directory, "model.json", ("code/", "extra/"))
    if folders_with(directory, "data.pkl"):
        raise AmbiguousError("the archive has both a model.json and a data.pkl; readers disagree which counts")
    model = parse_json(
        directory.read(directory.members[prefix + "model.json"], directory.limits.header_bytes),
        directory.limits,
        shown(prefix + "model.json"),
    )
    if not isinstance(model, dict):
        raise CorruptError("a program's model.json is no object", found=brief(model))
    tensors = _Tensors(directory, prefix).read(_list(model, "tensors"))
    reading = _attributes(directory, prefix, tensors)
    values = reading.value if reading is not None else ()
    if not isinstance(values, (tuple, list)):
        raise CorruptError("a program's attributes are no tuple", found=brief(values))
    facts = program_facts(directory, prefix)
    producer = model.get("producerVersion")
    return Checkpoint(
        directory.source,
        format="torchscript",
        tree=_modules(_object(model, "mainModule"), tensors, values),
        attributes=reading.attributes if reading is not None else {},
        facts={
            **(facts_of(reading) if reading is not None else {}),
            **facts,
            **({"producer": shown(producer)} if isinstance(producer, str) else {}),
            "saved_on": tuple(sorted({ref.storage.location for ref in tensors})),
        },
        kept=reading.kept if reading is not None else (),
        traces=() if reading is None else (trace_of(reading, prefix + "attributes.pkl"),),
        checksums=directory.checksums,
    )


class _Tensors:
    """The list of tensors; those with one key share a storage."""

    def __init__(self, directory: ZipDirectory, prefix: str) -> None:
        self._members = directory.members
        self._pieces = partial(pieces_of, directory)
        self._prefix = prefix
        self._storages: dict[str, Storage] = {}

    def read(self, entries: list[object]) -> list[TensorRef]:
        """A reference for each."""
        return [self._tensor(entry) for entry in entries]

    def _tensor(self, entry: object) -> TensorRef:
        if not isinstance(entry, dict):
            raise CorruptError("a tensor of model.json is no object", found=brief(entry))
        kind = entry.get("dataType")
        if not isinstance(kind, str) or kind not in _DTYPES:
            raise CorruptError("a tensor of model.json is of an unknown type", found=brief(kind))
        dtype = BY_NAME[_DTYPES[kind]]
        storage = self._storage(entry, dtype)
        sizes, strides = (tuple(_number(number) for number in _list(entry, name)) for name in ("dims", "strides"))
        traits = _TRAITS[entry.get("requiresGrad") is True]
        window = window_of(dtype, sizes, strides, _number(entry.get("offset", 0)), traits)
        return tensor_on(storage, window, window.reach)

    def _storage(self, entry: dict[str, object], dtype: DType) -> Storage:
        key, device = _object(entry, "data").get("key"), entry.get("device", "cpu")
        if not isinstance(key, str) or not isinstance(device, str):
            raise CorruptError("a tensor of model.json does not say where its data is", found=brief(entry))
        storage = self._storages.get(key)
        if storage is None:
            member = self._members.get(self._prefix + key)
            if member is None:
                raise CorruptError("a storage is missing from the archive", where=shown(self._prefix + key))
            storage = Storage(key, dtype, member.size, device, self._pieces, member, member.offset)
            self._storages[key] = storage
        if storage.dtype is not dtype:
            raise CorruptError("one storage is named with two types", where=f"storage {shown(key)}")
        return storage


def _attributes(directory: ZipDirectory, prefix: str, tensors: list[TensorRef]) -> Reading | None:
    """What attributes.pkl says, its tensors being those of the list."""
    member = directory.members.get(prefix + "attributes.pkl")
    if member is None:
        return None

    def tensor(args: tuple[object, ...]) -> object:
        number = args[0] if len(args) == 1 else None
        return tensors[number] if type(number) is int and 0 <= number < len(tensors) else UNFIT

    data = directory.read(member, directory.limits.pickle_bytes)
    reading = read_known_pickle(data, limits=directory.limits, more={(MODULE, "build_tensor_from_id"): tensor})
    check_nothing_after(reading, member.size, shown(member.name))
    return reading


def _modules(main: dict[str, object], tensors: list[TensorRef], values: tuple[object, ...] | list[object]) -> Record:
    """The main module with all below it, each as a pickled module would be."""
    root = _Module.of(main)
    waiting = [(main, root)]
    while waiting:
        entry, module = waiting.pop()
        for parameter in _entries(entry, "parameters"):
            table = module.buffers if parameter.get("isBuffer") is True else module.parameters
            module.add(table, parameter, _at(tensors, parameter.get("tensorId", 0)))
        for attribute in _entries(entry, "attributes"):
            value = _at(values, attribute.get("id", 0))
            is_tensor = isinstance(value, TensorRef) and attribute.get("type") == "Tensor"
            module.add(module.buffers if is_tensor else module.state, attribute, value)
        for below in _entries(entry, "submodules"):
            inner = _Module.of(below)
            module.add(module.modules, below, inner.record)
            waiting.append((below, inner))
    return root.record


@dataclass(slots=True)
class _Module:
    """A module while it is filled."""

    record: Record
    state: dict[object, object]
    """What its record has; the three tables are in it."""
    parameters: dict[object, object] = field(default_factory=dict)
    buffers: dict[object, object] = field(default_factory=dict)
    modules: dict[object, object] = field(default_factory=dict)

    @classmethod
    def of(cls, entry: dict[str, object]) -> _Module:
        """One that holds nothing yet."""
        name = entry.get("name", "")
        if not isinstance(name, str):
            raise CorruptError("a module of model.json has no name", found=brief(name))
        state: dict[object, object] = {}
        module = cls(Record(PACKAGE, name, (), state=state), state)
        state.update(_parameters=module.parameters, _buffers=module.buffers, _modules=module.modules)
        return module

    def add(self, table: dict[object, object], entry: dict[str, object], value: object) -> None:
        """Put a value under its name, which nothing else of the module may have."""
        name = entry.get("name")
        if not isinstance(name, str):
            raise CorruptError("something in a module of model.json has no name", found=brief(entry))
        if any(name in taken for taken in (self.state, self.parameters, self.buffers, self.modules)):
            raise AmbiguousError(
                "two things in a module have one name; readers disagree which counts", found=shown(name)
            )
        table[name] = value


def _at(values: list[TensorRef] | tuple[object, ...] | list[object], number: object) -> object:
    at = _number(number)
    if not 0 <= at < len(values):
        raise CorruptError(
            "model.json names something by a number that nothing has", found=f"{at:,} of {len(values):,}"
        )
    return values[at]


def _number(value: object) -> int:
    """A number of 64 bits: JSON's own, or in a string, as protobuf writes it."""
    if type(value) is int:
        return value
    if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit() and len(value) <= 20:
        return int(value)
    raise CorruptError("a number of model.json is none", found=brief(value))


def _list(owner: dict[str, object], name: str) -> list[object]:
    value = owner.get(name, [])
    if not isinstance(value, list):
        raise CorruptError(f"{name!r} of model.json is no list", found=brief(value))
    return value


def _entries(owner: dict[str, object], name: str) -> Iterator[dict[str, object]]:
    for entry in _list(owner, name):
        if not isinstance(entry, dict):
            raise CorruptError(f"an entry of {name!r} of model.json is no object", found=brief(entry))
        yield entry


def _object(owner: dict[str, object], name: str) -> dict[str, object]:
    value = owner.get(name)
    if not isinstance(value, dict):
        raise CorruptError(f"{name!r} of model.json is no object", found=brief(value))
    return value


SCRIPT_MODEL_JSON = ZipKind("torchscript", _knows, _read)
"""The format's row in `zipped.KINDS`."""
