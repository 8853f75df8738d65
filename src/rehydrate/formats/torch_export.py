"""Exported programs: what `torch.export.save` writes, `.pt2`. A graph in JSON, and its weights beside it.

    since 2.7, in torch's own zip writer
    NAME/archive_format                      "pt2"
    NAME/archive_version                     "0"
    NAME/models/MODEL.json                   the graph; never run and not read
    NAME/data/weights/MODEL_weights_config.json       {"config": {NAME IN THE STATE DICT: PAYLOAD}}
    NAME/data/weights/weight_N               a whole storage's bytes, or a file of torch.save
    NAME/data/constants/MODEL_constants_config.json   the same for what is no part of the state dict
    NAME/data/constants/tensor_N, custom_obj_N, opaque_obj_N
    NAME/data/weights/MODEL.pt, constants/MODEL.pt    instead of the two, in 2.7
    NAME/data/sample_inputs/MODEL.pt         a file of torch.save, as are all .pt
    NAME/data/aotinductor/*                  compiled code; never loaded

    before, in a plain zip
    serialized_exported_program.json, serialized_state_dict.pt, serialized_constants.pt, serialized_example_inputs.pt,
    version; `.json` instead of `.pt` at first

    PAYLOAD    {"path_name", "is_param", "use_pickle", "tensor_meta": {"dtype": 7, "sizes": [{"as_int": 3}], "strides",
               "storage_offset", "requires_grad", "device": {"type", "index"}, "layout": 7}}

The tree is {"state_dict", "constants", "example_inputs"}; where there are several models, one of these under each name.
Sources: `torch/export/pt2_archive/_package.py`, `torch/_export/serde/schema.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.record import brief
from rehydrate.checkpoint.tensor import NO_TRAITS, Storage, TensorRef
from rehydrate.dtypes import BY_NAME, DType
from rehydrate.errors import CorruptError, NotACheckpointError
from rehydrate.formats.contract import Request
from rehydrate.formats.inside import Parts
from rehydrate.formats.json_header import parse_json
from rehydrate.formats.torch_archive import byte_order, folder_of, folders_with, word_of
from rehydrate.formats.zip_directory import Member, ZipDirectory
from rehydrate.formats.zip_kind import ZipKind
from rehydrate.formats.zip_members import pieces_of
from rehydrate.pickles.torch_names import REQUIRES_GRAD, nowhere, tensor_on, window_of
from rehydrate.text import shown

__all__ = ["TORCH_EXPORT"]

_DTYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64",
    9: "complex32", 10: "complex64", 11: "complex128", 12: "bool", 13: "bfloat16", 28: "uint16", 29: "float8_e4m3fn",
    30: "float8_e5m2", 31: "float8_e4m3fnuz", 32: "float8_e5m2fnuz", 33: "float8_e8m0fnu", 34: "uint32", 35: "uint64",
}  # fmt: skip
"""`schema.ScalarType`."""
_STRIDED = 7
"""`schema.Layout`; tensors of other layouts are pickled."""
_FORMAT, _GRAPH = "archive_format", "serialized_exported_program.json"
_COMPILED = "data/aotinductor/"
_FREE = ("models/", "data/", "extra/")
"""Folders whose names are the models' own."""
_OLD = {"state_dict": "serialized_state_dict", "constants": "serialized_constants",
        "example_inputs": "serialized_example_inputs"}  # fmt: skip
_NEW = {"state_dict": "weights", "constants": "constants"}

Model = dict[str, object]


def _knows(directory: ZipDirectory) -> bool:
    return _GRAPH in directory.members or _is_pt2(directory)


def _is_pt2(directory: ZipDirectory) -> bool:
    folders = folders_with(directory, _FORMAT)
    return bool(folders) and word_of(directory, folders[0] + _FORMAT) == "pt2"


def _read(directory: ZipDirectory, request: Request) -> Checkpoint:
    parts = Parts(directory, request)
    if _GRAPH in directory.members:
        prefix, models = "", {"": _old_model(parts)}
        version = word_of(directory, "version")
    else:
        prefix = folder_of(directory, _FORMAT, _FREE)
        archive = _Archive(parts, prefix)
        models = {name: archive.model(name) for name in archive.names()}
        version = word_of(directory, prefix + "archive_version")
    if not models:
        raise NotACheckpointError(
            "this is a package of compiled code (AOTInductor) without an exported program",
            where=shown(directory.source.name),
            hint="its weights are inside the code; the program that it was compiled from has them",
        )
    tree = next(iter(models.values())) if len(models) == 1 else models
    dicts = {name: {"state_dict": model["state_dict"]} for name, model in models.items()}
    return Checkpoint(
        directory.source,
        format="torch-export",
        tree=tree,
        attributes=parts.attributes,
        facts={
            "writer": "torch.export.save" + (f" (file version {shown(version)})" if version else ""),
            "programs": tuple(models) if "" not in models else (),
            "code": _code(directory, prefix),
            "imports": parts.told("imports"),
            "calls": parts.told("calls"),
        },
        kept=parts.kept,
        traces=parts.traces,
        checksums=directory.checksums,
        model=lambda: next(iter(dicts.values())) if len(dicts) == 1 else dicts,
    )


def _code(directory: ZipDirectory, prefix: str) -> tuple[str, ...]:
    """The members that are program. Loading a graph evaluates the expressions that its sizes are written in."""
    graphs, compiled = (prefix + "models/", prefix + _COMPILED)
    return tuple(name for name in directory.members if name == _GRAPH or name.startswith((graphs, compiled)))


def _old_model(parts: Parts) -> Model:
    members = parts.directory.members
    model: Model = {}
    for name, stem in _OLD.items():
        member = members.get(stem + ".pt") or members.get(stem + ".json")
        model[name] = parts.open(member).tree if member is not None and member.size else {}
    return model


class _Archive:
    """An archive of the newer kind: its models one by one."""

    def __init__(self, parts: Parts, prefix: str) -> None:
        self._parts = parts
        self._prefix = prefix
        self._members = parts.directory.members
        self._storages: dict[str, Storage] = {}
        self._coding = "raw" if byte_order(parts.directory, prefix) == "little" else "big-endian"
        self._pieces = partial(pieces_of, parts.directory, coding=self._coding)

    def names(self) -> Iterator[str]:
        """The models' names."""
        folder = self._prefix + "models/"
        for name in self._members:
            if name.startswith(folder) and name.endswith(".json"):
                yield name.removeprefix(folder).removesuffix(".json")

    def model(self, name: str) -> Model:
        """Its tensors, and what it was exported with."""
        inputs = self._members.get(f"{self._prefix}data/sample_inputs/{name}.pt")
        return {
            **{part: self._values(f"{self._prefix}data/{folder}/", folder, name) for part, folder in _NEW.items()},
            "example_inputs": self._parts.open(inputs).tree if inputs is not None and inputs.size else (),
        }

    def _values(self, folder: str, kind: str, name: str) -> object:
        whole = self._members.get(f"{folder}{name}.pt")
        if whole is not None:
            return self._parts.open(whole).tree if whole.size else {}
        member = self._members.get(f"{folder}{name}_{kind}_config.json")
        if member is None:
            raise CorruptError(f"a program's {kind} are missing from the archive", where=shown(f"{folder}{name}"))
        limits = self._parts.request.limits
        where = shown(member.name)
        config = parse_json(self._parts.directory.read(member, limits.header_bytes), limits, where)
        payloads = config.get("config") if isinstance(config, dict) else None
        if not isinstance(payloads, dict):
            raise CorruptError("the list of a program's payloads is no object", where=where, found=brief(config))
        return {key: self._value(folder, key, payload) for key, payload in payloads.items()}

    def _value(self, folder: str, key: str, payload: object) -> object:
        path = payload.get("path_name") if isinstance(payload, dict) else None
        member = self._members.get(folder + path) if isinstance(path, str) else None
        if not isinstance(payload, dict) or member is None:
            raise CorruptError("a payload is missing from the archive", where=shown(key), found=brief(payload))
        if payload.get("use_pickle") is True:
            opened = self._parts.opened.get(member.name)
            return (self._parts.open(member) if opened is None else opened).tree
        meta = payload.get("tensor_meta")
        if not isinstance(meta, dict) or meta.get("layout") != _STRIDED:
            raise CorruptError("a payload does not say what tensor it is", where=shown(key), found=brief(payload))
        ref = self._tensor(member, meta)
        if payload.get("is_param") is True:
            ref.window = replace(ref.window, traits=ref.traits | {"parameter"})
        return ref

    def _tensor(self, member: Member, meta: dict[str, object]) -> TensorRef:
        number = meta.get("dtype")
        if type(number) is not int or number not in _DTYPES:
            raise CorruptError("a tensor of an unknown type", where=shown(member.name), found=brief(number))
        dtype = BY_NAME[_DTYPES[number]]
        sizes, strides = (_integers(meta.get(name)) for name in ("sizes", "strides"))
        (offset,) = _integers([meta.get("storage_offset")])
        traits = REQUIRES_GRAD if meta.get("requires_grad") is True else NO_TRAITS
        window = window_of(dtype, sizes, strides, offset, traits)
        if not member.size and window.reach:  # exported from tensors without data
            return TensorRef("", window, Storage(member.name, dtype, window.reach, "meta", nowhere))
        return tensor_on(self._storage(member, dtype, meta.get("device")), window, window.reach)

    def _storage(self, member: Member, dtype: DType, device: object) -> Storage:
        """The storage that a member is; views of one share it, whatever they take its elements for."""
        storage = self._storages.get(member.name)
        if storage is None:
            storage = Storage(member.name, dtype, member.size, _location(device), self._pieces, member, member.offset)
            self._storages[member.name] = storage
        if storage.dtype.itemsize != dtype.itemsize and self._coding != "raw":
            raise CorruptError("two views of one storage would be turned round differently", where=shown(member.name))
        return storage


def _integers(values: object) -> tuple[object, ...]:
    """The numbers of a list of `{"as_int": 3}`; what is none is left for `window_of` to refuse."""
    if not isinstance(values, list):
        raise CorruptError("a tensor's sizes are no list", found=brief(values))
    return tuple(value.get("as_int") if isinstance(value, dict) else None for value in values)


def _location(device: object) -> str:
    kind, index = (device.get("type"), device.get("index")) if isinstance(device, dict) else (None, None)
    if not isinstance(kind, str):
        raise CorruptError("a tensor's device is none", found=brief(device))
    return f"{kind}:{index}" if type(index) is int else kind


TORCH_EXPORT = ZipKind("torch-export", _knows, _read)
"""The format's row in `zipped.KINDS`."""
