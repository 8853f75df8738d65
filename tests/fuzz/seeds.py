"""Small files for a fuzzer to begin with, made here: honest ones by those who write them, hostile ones from the tables.

Each target has some; `seeds` gives them in the order of `targets.TARGETS`.
"""

from __future__ import annotations

import argparse
import bz2
import decimal
import gzip
import io
import json
import lzma
import pathlib
import pickle
import struct
import tempfile
import uuid
import warnings
import zipfile
import zlib
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import joblib
import numpy
import torch
from torch import nn
from torch.package import PackageExporter

from ..hostile.archives_legacy import one_tensor
from ..hostile.archives_tar import Member, record, said, tar_of, tar_storage, tar_tensor, torch_members, torch_tar
from ..hostile.archives_tar import counted as so_many
from ..hostile.archives_tar import views as parts_of_storages
from ..hostile.assembler import empty_dict, pickle_of, setitem, tensor, unicode
from ..hostile.cases_dcp import metadata
from ..hostile.gguf_files import array, gguf_of, info, pair, text
from ..hostile.hdf5_files import NOWHERE, Fields, hdf5_of
from ..hostile.tables import CASES
from ..hostile.torch7_files import ENCODINGS, Counted, Function, Instance, Lua, Storage, Tensor
from .targets import TARGETS

__all__ = ["seeds"]

LONGEST = 6000
"""Bytes of a seed: what a fuzzer changes should be most of what it is."""

_HOSTILE = {
    "impostors": ("C2",), "pickle": ("P1", "P2", "P3", "P4", "P6", "P7"), "values": ("V1",), "torch-zip": ("C1", "P5"),
    "zip": ("C1",), "safetensors": ("S1",), "npy": ("N1",), "npz": ("N1",), "gguf": ("G1",), "hdf5": ("H1",),
    "torch7": ("C7",), "compressed": ("C8",), "torch-legacy": ("C3",), "torch-tar": ("C4",), "tar": ("C4",),
}  # fmt: skip
"""Kinds of hostile cases (see `hostile.test_cases`) that a target begins with."""


def seeds(hostile: int = 60) -> Mapping[str, list[bytes]]:
    """Target → files; at most so many hostile ones of each kind."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = _honest()
    bad = _from_tables(hostile)
    return {
        target: [seed for seed in (*made[target], *bad.get(target, ())) if len(seed) <= LONGEST] for target in TARGETS
    }


def _from_tables(most: int) -> dict[str, list[bytes]]:
    kinds: dict[str, list[bytes]] = {}
    for case in CASES:
        if not case.beside:
            kinds.setdefault(case.name.split()[0], []).append(case.build())
        elif case.file == ".metadata":
            kinds.setdefault("D1", []).append(case.build())
        else:
            kinds.setdefault("S2", []).append(case.build())
    few = {kind: files[:: len(files) // (most + 1) + 1] for kind, files in kinds.items()}
    return {
        **{target: [file for kind in wanted for file in few[kind]] for target, wanted in _HOSTILE.items()},
        "dcp": few["D1"],
        "shards": few["S2"],
        "torch-zip pickle": _members(few["T1"], "/data.pkl"),
        "torchscript member": [b"\0" + pickle for pickle in _members(few["C1"], "/data.pkl")],
    }


def _members(archives: Iterable[bytes], name: str) -> list[bytes]:
    """The members of that name."""
    found = []
    for data in archives:
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                found += [archive.read(member) for member in archive.namelist() if member.endswith(name)]
        except Exception:  # noqa: BLE001 - hostile files are for our reader, and not for this one
            continue
    return found


def _honest() -> dict[str, list[bytes]]:
    zipped = [_saved(value) for value in _with_tensors()]
    legacy = [_saved(value, new=False) for value in _with_tensors()]
    script, phone = _scripted()
    arrays = [_npy(made) for made in _arrays()]
    plain, values = _dumped(_plain()), _dumped(_values(), (2, 4))
    hdf5 = _hdf5()
    tars = [
        torch_tar(),
        torch_tar(storages=so_many(tar_storage(1), tar_storage(3)) + parts_of_storages((4, 1, 0, 2))),
        torch_tar(tensors=so_many(tar_tensor(2, 1), tar_tensor(5, 1, (2, 2), (2, 1)))),
    ]
    parts = {member.name.decode(): member.data for member in torch_members()}
    package, exported = _packaged(), _exported()
    bundle = _zip({"README.md": b"# x", "net.pth": zipped[0]})
    agent = json.dumps({"n": 1, "p": {":type:": "x", ":serialized:": "gAJdcQAu"}}).encode()
    header = {"__metadata__": {"format": "pt"}, "w": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]}}
    safetensors = json.dumps(header).encode()
    return {
        "anything": [zipped[0], legacy[0], plain[0], values[0], arrays[0], script, hdf5[0], tars[0][:6144]],
        "impostors": [b"<!DOCTYPE html><title>x</title>", b"version https://git-lfs.github.com/spec/v1\noid sha256:"],
        "pickle": plain,
        "values": values,
        "torch-zip": zipped,
        "torch-zip pickle": [*_members(zipped, "/data.pkl"), pickle_of(empty_dict, unicode("w"), tensor(), setitem)],
        "torch-legacy": legacy,
        "torch-legacy pickle": [one_tensor()],
        "torch-tar": [tar[:6144] for tar in tars],
        "torch-tar member": [
            bytes((at,)) + parts[name] for at, name in enumerate(("pickle", "tensors", "storages", "sys_info"))
        ],
        "tar": [tar_of(said(record(b"mtime", b"1.5")), Member(b"net.pth", legacy[0]))[:5120]],
        "torchscript": [script, phone],
        "torchscript member": [
            *(bytes((at,)) + pickle for at, name in enumerate(("data", "constants", "bytecode", "mobile_debug_handles"))
              for pickle in _members((script, phone), f"/{name}.pkl")),
            *(b"\4" + code for code in _members((script,), ".py")),
        ],
        "torchscript model.json": [_model_json()],
        "torch-export": [exported],
        "torch-export json": _members((exported,), "weights_config.json"),
        "torch-package": [package],
        "torch-package pickle": _members((package,), "net.pkl"),
        "zip": [bundle, _zip({"data": agent, "policy.pth": zipped[0]}), _zip({"a/b.npy": arrays[0], "x.txt": b"x"})],
        "agent json": [agent],
        "safetensors": [struct.pack("<Q", len(safetensors)) + safetensors + bytes(64)],
        "safetensors header": [safetensors],
        "shards": [json.dumps({"metadata": {"total_size": 16}, "weight_map": {"w": "a.safetensors"}}).encode()],
        "dcp": [metadata()()],
        "dcp part": [first + pickle for first in (b"\0", b"\xff") for pickle in _members(zipped, "/data.pkl")],
        "npy": arrays,
        "npy header": [made[10:-24] for made in arrays[:2]],
        "npz": [_zip({"w.npy": arrays[0], "b.npy": arrays[1]}, method) for method in (0, 8)],
        "npz member": arrays,
        "gguf": _gguf(),
        "hdf5": hdf5,
        "hdf5 index": [b"\n".join(json.dumps(one).encode() for one in _SAID)],
        "torch7": [Lua(**how).of(value) for how in ENCODINGS.values() for value in _lua()],
        "joblib": _joblib(),
        "compressed": [
            pack(plain[0]) for pack in (gzip.compress, bz2.compress, lzma.compress, zlib.compress)
        ],
        "compressed inside": [bytes((at,)) + made for at in range(6) for made in (plain[0], zipped[0])],
        "salvage": [*zipped, *(made[: len(made) * 2 // 3] for made in zipped), *legacy],
    }  # fmt: skip


_SAID: list[dict[str, object]] = [
    {"path": [], "group": 96, "attributes": {"keras_version": "2.1"}},
    {"path": ["w"], "shape": [2, 2], "dtype": "<f4", "at": 1400},
    {"path": ["c"], "shape": [4], "dtype": "<f4", "data": "00" * 16},
    {"path": ["d"], "shape": [4], "dtype": ">f4", "chunks": [2], "filters": [[1, [4]], [2, [4]], [3, [0]]],
     "fill": "0000803f", "index": [[1400, 8, 0, 0], [1408, 8, 0, 2]]},
    {"path": ["e"], "shape": [4], "dtype": "<i2", "chunks": [4], "filters": [[32000, [4]]], "index": [[1400, 8, 0, 0]]},
    {"path": ["t"], "value": "text"},
    {"path": ["u"], "unread": "why"},
]  # fmt: skip


def _plain() -> list[object]:
    return [
        {"w": [1, 2.5, None, True], "s": {1, 2}, "b": b"x", ("a", 1): -(1 << 70), "f": frozenset("ab")},
        OrderedDict(a=defaultdict(list, {"x": [1]}), b=Counter("aab"), c=deque([1, 2], 3)),
    ]


def _values() -> list[object]:
    return [
        argparse.Namespace(lr=0.1, path=pathlib.PurePosixPath("a/b"), when=datetime(2020, 1, 2, tzinfo=UTC)),
        [
            SimpleNamespace(a=timedelta(3)),
            decimal.Decimal("1.5"),
            uuid.UUID(int=3),
            range(3),
            slice(1),
            1j,
            bytearray(2),
        ],
        {"w": numpy.arange(6, dtype="float32").reshape(2, 3), "n": numpy.float64(0.5), "d": numpy.dtype("<i2")},
        [numpy.array(["a", None], object), numpy.arange(3, dtype=">u2"), numpy.asfortranarray(numpy.ones((2, 2)))],
        numpy.random.RandomState(1).get_state()[2:],
    ]


def _dumped(values: Iterable[object], protocols: Iterable[int] = range(6)) -> list[bytes]:
    return [pickle.dumps(value, protocol) for value in values for protocol in protocols]


def _with_tensors() -> list[object]:
    whole = torch.arange(6.0)
    indices = torch.tensor([[0, 1], [2, 0]])
    return [
        {"w": whole, "part": whole[1:3], "turned": whole.reshape(2, 3).t(), "n": 3, "b": torch.ones(2).bfloat16()},
        nn.Linear(2, 2),
        [torch.sparse_coo_tensor(indices, torch.ones(2), (2, 3)), torch.ones(2, dtype=torch.complex64).conj()],
        [torch.quantize_per_tensor(whole, 0.1, 3, torch.qint8), nn.Parameter(whole), torch.empty(2, device="meta")],
        torch.optim.Adam([nn.Parameter(whole)]).state_dict(),
    ]


def _saved(value: object, *, new: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=new)
    return buffer.getvalue() if not new else _squeezed(buffer.getvalue())


def _squeezed(archive: bytes) -> bytes:
    """The same members without torch's padding to 64 bytes: it is most of a small file."""
    with zipfile.ZipFile(io.BytesIO(archive)) as members:
        return _zip({name: members.read(name) for name in members.namelist()}, 0)


def _zip(files: Mapping[str, bytes], method: int = 8) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 2)
        self.some: list[torch.Tensor] = [torch.zeros(2)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x) + self.some[0] + torch.tensor([1.0, 2.0])


def _scripted() -> tuple[bytes, bytes]:
    """For computers and for phones."""
    module = torch.jit.script(_Net().eval())
    buffer = io.BytesIO()
    torch.jit.save(module, buffer)
    return _lean(buffer.getvalue()), _lean(module._save_to_buffer_for_lite_interpreter())


def _lean(archive: bytes) -> bytes:
    """Without what no reader looks into."""
    with zipfile.ZipFile(io.BytesIO(archive)) as members:
        names = [name for name in members.namelist() if not name.endswith(".debug_pkl")]
        return _zip({name: members.read(name) for name in names}, 0)


def _model_json() -> bytes:
    where = {"tensorId": "0", "isBuffer": False, "name": "w"}
    described = {"dims": ["4"], "offset": "0", "strides": ["1"], "requiresGrad": True, "dataType": "FLOAT"}
    main = {"name": "m", "parameters": [where], "submodules": [{"name": "s", "parameters": [where], "attributes": []}]}
    tensors = [{**described, "data": {"key": "tensors/0"}, "device": "cpu"}]
    return json.dumps({"protoVersion": "6", "mainModule": main, "tensors": tensors}).encode()


def _exported() -> bytes:
    """Put together by hand: what torch writes is forty kilobytes of graph."""
    meta = {"dtype": 7, "sizes": [{"as_int": 4}], "strides": [{"as_int": 1}], "storage_offset": {"as_int": 0},
            "requires_grad": True, "device": {"type": "cpu", "index": None}, "layout": 7}  # fmt: skip
    weight = {"path_name": "weight_0", "is_param": True, "use_pickle": False, "tensor_meta": meta}
    pickled = {"path_name": "tensor_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    files = {
        "archive_format": b"pt2",
        "archive_version": b"0",
        "byteorder": b"little",
        "models/model.json": b"{}",
        "data/weights/model_weights_config.json": json.dumps({"config": {"fc.weight": weight}}).encode(),
        "data/weights/weight_0": bytes(16),
        "data/constants/model_constants_config.json": json.dumps({"config": {"c": pickled}}).encode(),
        "data/constants/tensor_0": _saved(torch.ones(2)),
        "data/sample_inputs/model.pt": _saved(((torch.ones(1, 2),), {})),
    }
    return _zip({"net/" + name: content for name, content in files.items()}, 0)


def _packaged() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        with PackageExporter(Path(folder, "net.pt")) as exporter:
            exporter.extern(["torch.**"])
            exporter.save_pickle("model", "net.pkl", {"net": nn.Linear(2, 1), "scale": torch.ones(2), "epoch": 3})
            exporter.save_text("model", "notes.txt", "hello")
        return _squeezed(Path(folder, "net.pt").read_bytes())


def _arrays() -> list[numpy.ndarray]:
    return [
        numpy.arange(6, dtype="<f4").reshape(2, 3),
        numpy.arange(3, dtype=">i8"),
        numpy.asfortranarray(numpy.ones((2, 2))),
        numpy.zeros(2, [("a", "<f4"), ("b", "i1", 2)]),
        numpy.array(["ab", "c"]),
        numpy.array([None, 1, "x"], object),
    ]


def _npy(made: numpy.ndarray) -> bytes:
    buffer = io.BytesIO()
    numpy.save(buffer, made, allow_pickle=True)
    return buffer.getvalue()


def _gguf() -> list[bytes]:
    pairs = [
        pair("general.architecture", 8, text("llama")), pair("general.alignment", 4, struct.pack("<I", 32)),
        pair("a", 9, array(8, [text("x"), text("y")])), pair("f", 6, struct.pack("<f", 1.5)),
    ]  # fmt: skip
    return [
        gguf_of([info("w", (4,), 0), info("q", (32, 2), 8, offset=32)], pairs, data=bytes(128)),
        *(gguf_of([info("w", (256,), kind)], pairs[:2], data=bytes(512)) for kind in (2, 3, 6, 7, 10, 11, 12, 13, 14)),
    ]


def _hdf5() -> list[bytes]:
    chunked = Fields(layout=2, box=(4, 4))
    return [hdf5_of(Fields()), hdf5_of(chunked), hdf5_of(Fields(address=NOWHERE))]


def _lua() -> list[object]:
    shared = Storage("Float", [1, 2, 3, 4])
    return [
        {"w": Tensor("Float", [1, 2]), "n": 3, "b": True, "s": "x"},
        [Tensor("Double", shared, [2], [1], 2), Tensor("Float", shared), Tensor("Float", [1], prefix="Cuda")],
        Instance("nn.Linear", {"weight": Tensor("Float", [1, 2], [1, 2]), "f": Function(), "h": Counted({"a": 1})}),
    ]


def _joblib() -> list[bytes]:
    found = []
    for value in ({"w": numpy.arange(6.0).reshape(2, 3), "n": 1}, [numpy.array([None, "x"], object), numpy.ones(3)]):
        for protocol in (2, 4):
            buffer = io.BytesIO()
            joblib.dump(value, buffer, protocol=protocol)
            found.append(buffer.getvalue())
    return found
