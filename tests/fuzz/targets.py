"""What is fuzzed: one target for every reader. A target takes any bytes, and only our own errors may come out of it.

Where a format guards what it holds with a checksum or a length, the target writes the container around the bytes, so
that a fuzzer gets past the door. Whatever a file is, the same is asked of it: open it, as a whole and as one that was
cut; look at it; read a few tensors; audit it; verify it. What is said of it must be short, and only show.

Nothing here imports torch but the target that salvages: a process of a fuzzer starts quickly and stays small.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import rehydrate as rh
from rehydrate.formats.opening import open_checkpoint
from rehydrate.limits import Limits

from ..hostile.archives import Entry, torch_zip, zip_of
from ..hostile.archives_legacy import legacy_stream
from ..hostile.archives_tar import torch_tar
from ..hostile.assembler import pickle_of, tensor, unicode
from ..hostile.cases_dcp import metadata
from ..hostile.examining import check_message, check_text
from ..hostile.hdf5_files import Fields, hdf5_of
from .apart import folder, indexed_here, told_by

__all__ = ["TARGETS", "Target"]

LIMITS = Limits(operations=200_000, unpacked_bytes=32 << 20)
"""A fuzzer's files are small; what a bomb may ask for is bounded so that a process of it stays small, too."""
MOST_READ = 20
"""Tensors of a file that are read; they are all alike to a reader."""
LARGEST_READ = 1 << 20
"""Bytes of a tensor that is read: a few bytes may describe an expanded one of a gigabyte, which is no fault."""


@dataclass(frozen=True)
class Target:
    """One reader, and how its inputs are made from each other."""

    run: Callable[[bytes], None]
    changes: str = "bytes"
    """A key of `changing.CHANGES`."""


def looked_at(where: bytes | Path) -> None:
    """Ask of a file whatever anybody may ask."""
    with indexed_here():
        _looked_at(where)


def _looked_at(where: bytes | Path) -> None:
    for is_cut in (False, True):
        with _ours(), open_checkpoint(where, limits=LIMITS, is_cut=is_cut) as checkpoint:
            check_text(str(checkpoint))
            for ref in islice(checkpoint.values(), MOST_READ):
                if ref.nbytes <= LARGEST_READ and ref.storage.nbytes <= LARGEST_READ:
                    with _ours():
                        ref.numpy()
                with _ours():
                    _ = ref.is_whole
            with _ours():
                checkpoint.weights()
    with _ours():
        check_text(str(rh.audit(where))[:1000])
    with _ours():
        check_text(str(rh.verify(where, values=True))[:1000])


@contextmanager
def _ours() -> Iterator[None]:
    """Our errors are answers; their messages are looked at, too."""
    try:
        yield
    except rh.RehydrateError as error:
        check_message(error)


def _torch_zip(data: bytes) -> None:
    looked_at(torch_zip(data, {str(key): bytes(16) for key in range(4)}))


def _torch_legacy(data: bytes) -> None:
    looked_at(legacy_stream(data))


def _torch_tar(data: bytes) -> None:
    """The first byte says which member."""
    members = ("pickle", "tensors", "storages", "sys_info")
    looked_at(torch_tar(**{members[data[0] % 4]: data[1:]}) if data else b"")


_PICKLES = ("data", "constants", "bytecode", "mobile_debug_handles")
_MODULE = pickle_of(b"c__torch__\nNet\n)\x81}", unicode("w"), b"Nsb")
_CODE = b'class Net(Module):\n  __parameters__ = ["w", ]\n  __buffers__ = []\n  w : Tensor\n'


def _script(data: bytes) -> None:
    """The first byte says which pickle, or that it is the program."""
    chosen, data = (data[0] % 5, data[1:]) if data else (0, b"")
    records = {"data": _MODULE, "constants": b"\x80\x02)."}
    if chosen < 4:
        records[_PICKLES[chosen]] = data
    looked_at(
        zip_of(
            *(Entry(f"net/{name}.pkl".encode(), record) for name, record in records.items()),
            *(Entry(f"net/{name}/0".encode(), bytes(16)) for name in _PICKLES[:3]),
            Entry(b"net/code/__torch__.py", data if chosen == 4 else _CODE),
            Entry(b"net/version", b"3\n"),
        )
    )


def _model_json(data: bytes) -> None:
    looked_at(zip_of(Entry(b"m/model.json", data), Entry(b"m/tensors/0", bytes(16)), Entry(b"m/code/m.py", b"")))


def _export(data: bytes) -> None:
    looked_at(
        zip_of(
            Entry(b"net/archive_format", b"pt2"),
            Entry(b"net/archive_version", b"0"),
            Entry(b"net/models/model.json", b"{}"),
            Entry(b"net/data/weights/model_weights_config.json", data),
            *(Entry(b"net/data/weights/weight_%d" % number, bytes(16)) for number in range(2)),
            Entry(b"net/data/constants/model_constants_config.json", b'{"config": {}}'),
        )
    )


def _package(data: bytes) -> None:
    looked_at(
        zip_of(
            Entry(b"net/.data/extern_modules", b"torch\n"),
            Entry(b"net/model/net.pkl", data),
            *(Entry(b"net/.data/%d.storage" % number, bytes(length)) for number, length in enumerate((8, 4, 8, 16))),
            Entry(b"net/.data/ts_code/0/data.pkl", _MODULE),
        )
    )


def _agent(data: bytes) -> None:
    looked_at(zip_of(Entry(b"data", data), Entry(b"policy.pth", torch_zip(b"\x80\x02}."))))


def _npz(data: bytes) -> None:
    looked_at(zip_of(Entry(b"w.npy", data)))


def _npy_header(data: bytes) -> None:
    looked_at(b"\x93NUMPY\1\0" + struct.pack("<H", len(data) & 0xFFFF) + data + bytes(24))


def _safetensors(data: bytes) -> None:
    looked_at(struct.pack("<Q", len(data)) + data + bytes(64))


def _shards(data: bytes) -> None:
    header = b'{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'
    shard = struct.pack("<Q", len(header)) + header + bytes(16)
    looked_at(folder({"a.safetensors": shard, "model.safetensors.index.json": data}) / "model.safetensors.index.json")


_ITEM = torch_zip(pickle_of(tensor()))
_METADATA = metadata()()


def _dcp(data: bytes) -> None:
    looked_at(folder({".metadata": data, "__0_0.distcp": _ITEM}) / ".metadata")


def _dcp_part(data: bytes) -> None:
    """The file of a rank, of which the first byte says whether it lies by itself."""
    inside = torch_zip(data[1:])
    looked_at(inside if data[:1] < b"\x80" else folder({".metadata": _METADATA, "__0_0.distcp": inside}))


_HDF5 = hdf5_of(Fields())


def _hdf5_said(data: bytes) -> None:
    """What the process says that reads the index, each object on a line."""
    with told_by(data):
        _looked_at(_HDF5)


_COMPRESSORS: tuple[Callable[[bytes], bytes], ...] = (
    lambda data: gzip.compress(data, 1),
    bz2.compress,
    lzma.compress,
    lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    lambda data: zlib.compress(data, 1),
    lambda data: b"ZF" + hex(len(data)).encode().ljust(19) + zlib.compress(data, 1),
)


def _compressed(data: bytes) -> None:
    """The first byte says how."""
    looked_at(_COMPRESSORS[data[0] % len(_COMPRESSORS)](data[1:]) if data else b"")


def _salvaged(data: bytes) -> None:
    with indexed_here(), _ours():
        check_text(str(rh.salvage(data, folder({}) / "saved.pth"))[:1000])


TARGETS: Mapping[str, Target] = {
    "anything": Target(looked_at),
    "impostors": Target(looked_at),
    "pickle": Target(looked_at, "opcodes"),
    "values": Target(looked_at, "opcodes"),
    "torch-zip": Target(looked_at, "members"),
    "torch-zip pickle": Target(_torch_zip, "opcodes"),
    "torch-legacy": Target(looked_at, "opcodes"),
    "torch-legacy pickle": Target(_torch_legacy, "opcodes"),
    "torch-tar": Target(looked_at, "headers"),
    "torch-tar member": Target(_torch_tar, "opcodes"),
    "tar": Target(looked_at, "headers"),
    "torchscript": Target(looked_at, "members"),
    "torchscript member": Target(_script, "opcodes"),
    "torchscript model.json": Target(_model_json),
    "torch-export": Target(looked_at, "members"),
    "torch-export json": Target(_export),
    "torch-package": Target(looked_at, "members"),
    "torch-package pickle": Target(_package, "opcodes"),
    "zip": Target(looked_at, "members"),
    "agent json": Target(_agent),
    "safetensors": Target(looked_at),
    "safetensors header": Target(_safetensors),
    "shards": Target(_shards),
    "dcp": Target(_dcp, "opcodes"),
    "dcp part": Target(_dcp_part, "opcodes"),
    "npy": Target(looked_at),
    "npy header": Target(_npy_header),
    "npz": Target(looked_at, "members"),
    "npz member": Target(_npz),
    "gguf": Target(looked_at),
    "hdf5": Target(looked_at),
    "hdf5 index": Target(_hdf5_said),
    "torch7": Target(looked_at),
    "joblib": Target(looked_at, "opcodes"),
    "compressed": Target(looked_at),
    "compressed inside": Target(_compressed, "opcodes"),
    "salvage": Target(_salvaged, "members"),
}
"""Name → what to do with some bytes, and how to make others from them."""
