"""A file with one byte changed opens as it was, or is refused, or differs in the tensor or value whose byte it was.

Every byte of a small file of each kind is changed, a few bits of it in the suite and every way under REHYDRATE_FUZZ.
Where the file carries checksums, `verify` sees each change that tensors show.
"""

from __future__ import annotations

import gzip
import io
import json
import pickle
import re
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import joblib
import numpy
import pytest
import torch
from safetensors.torch import save as save_safetensors

import rehydrate as rh
from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.errors import RehydrateError

from ..effort import FACTOR
from ..hostile.archives import Entry, torch_zip, zip_of
from ..hostile.archives_tar import Member, record, said, tar_of, torch_tar
from ..hostile.assembler import build as build_state
from ..hostile.assembler import empty_dict, empty_tuple, global_, newobj, pickle_of, setitem, tensor, unicode
from ..hostile.cases_dcp import metadata
from ..hostile.examining import check_message, check_text
from ..hostile.gguf_files import gguf_of, info, pair, text
from ..hostile.torch7_files import ENCODINGS, Lua, Tensor
from ..pickles.described import outline_of

FLIPS = (0x01, 0x10, 0x20, 0x80)
"""One bit low, the bit between capitals and small letters, and one high."""


@dataclass(frozen=True)
class Spans:
    """Where a file may differ, by another reader than ours, and how."""

    tensors: list[range] = field(default_factory=list)
    """The bytes of tensors: nothing but a tensor's numbers may differ."""
    values: list[range] = field(default_factory=list)
    """Names, numbers, whole pickles: anything may differ."""
    has_checksums: bool = False


# Files with checksums.


def saved_by_torch() -> bytes:
    buffer = io.BytesIO()
    torch.save({"w": torch.tensor([1.0, 2.0]), "b": torch.tensor([3], dtype=torch.int64), "epoch": 7}, buffer)
    return buffer.getvalue()


def saved_by_rehydrate() -> bytes:
    program = empty_dict + unicode("w") + tensor() + setitem + unicode("n") + unicode("a name") + setitem
    return torch_zip(pickle_of(program), {"0": struct.pack(">4f", 1, 2, 3, 4)}, order=b"big")


def repacked() -> bytes:
    """By hand, with compression, as some do to save room; only the pickle may be compressed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved_by_torch())) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            kind = zipfile.ZIP_STORED if "/data/" in name else zipfile.ZIP_DEFLATED
            new.writestr(name, old.read(name), kind)
    return buffer.getvalue()


def scripted() -> bytes:
    """By hand: torch's own is thirty times as long, most of it code that is not read."""
    code = b'class Net(Module):\n  __parameters__ = ["w", ]\n  __buffers__ = []\n  w : Tensor\n'
    module = global_("__torch__", "Net") + empty_tuple + newobj + empty_dict + unicode("w") + tensor() + setitem
    return zip_of(
        Entry(b"net/data.pkl", pickle_of(module + build_state)),
        Entry(b"net/constants.pkl", pickle_of(empty_tuple)),
        Entry(b"net/data/0", struct.pack("<4f", 1, 2, 3, 4)),
        Entry(b"net/code/__torch__.py", code),
        Entry(b"net/version", b"3\n"),
    )


def arrays(save: Callable[..., None]) -> Callable[[], bytes]:
    def made() -> bytes:
        buffer = io.BytesIO()
        save(buffer, w=numpy.arange(5, dtype="f4"), n=numpy.int64(3))
        return buffer.getvalue()

    return made


def of_zip(data: bytes) -> Spans:
    """Members that hold nothing but a tensor. An array's own header is read without the rest of its member."""
    tensors, values = [], []
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for entry in archive.infolist():
            name, extra = struct.unpack_from("<2H", data, entry.header_offset + 26)
            start = entry.header_offset + 30 + name + extra
            end = start + entry.compress_size
            if "/data/" in entry.filename:
                tensors.append(range(start, end))
            elif entry.filename.endswith(".npy") and entry.compress_type:
                values.append(range(start, end))
            elif entry.filename.endswith(".npy"):
                header = start + 10 + int.from_bytes(data[start + 8 : start + 10], "little")
                tensors.append(range(header, end))
                values += words_in(data, start + 10, header)
    return Spans(tensors, values, has_checksums=True)


def gzipped() -> bytes:
    return gzip.compress(saved_before_1_6(), mtime=0)


def of_gzip(data: bytes) -> Spans:
    """What is compressed; its checksum comes after it."""
    return Spans([range(10, len(data) - 8)], has_checksums=True)


# Files without.


def saved_before_1_6() -> bytes:
    whole = torch.arange(4.0)
    buffer = io.BytesIO()
    torch.save({"w": whole, "part": whole[1:], "n": 3}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def of_stream(data: bytes) -> Spans:
    """Five pickles, then the number of elements and the elements of the one storage."""
    ends = [match.end() for match in re.finditer(rb"\.(?=\x80\x02|.{8}\0\0\0\0)", data, re.DOTALL)]
    assert len(data) - ends[-1] == 8 + 16
    return Spans([range(len(data) - 16, len(data))], [range(ends[-1])])


def safe() -> bytes:
    return save_safetensors({"w": torch.arange(4.0), "b": torch.ones(2, 2).bfloat16()}, {"format": "pt"})


def of_safetensors(data: bytes) -> Spans:
    length = int.from_bytes(data[:8], "little")
    json.loads(data[8 : 8 + length])
    return Spans([range(8 + length, len(data))], words_in(data, 8, 8 + length))


def array() -> bytes:
    buffer = io.BytesIO()
    numpy.save(buffer, numpy.arange(6, dtype="<f4").reshape(2, 3))
    return buffer.getvalue()


def of_npy(data: bytes) -> Spans:
    end = 10 + int.from_bytes(data[8:10], "little")
    return Spans([range(end, len(data))], words_in(data, 10, end))


def words_in(data: bytes, start: int, end: int) -> list[range]:
    """What stands between quotation marks, and numbers: the values of a header that is text."""
    words = re.compile(rb"""(?<=")[^"]*(?=")|(?<=')[^']*(?=')|\d+|True|False""")
    return [range(*match.span()) for match in words.finditer(data, start, end)]


def gguf() -> bytes:
    pairs = [pair("name", 8, text("a net")), pair("yes", 7, b"\1")]
    return gguf_of([info("w", (32,), 8), info("v", (4,), 0, offset=64)], pairs, data=bytes(range(80)))


def of_gguf(data: bytes) -> Spans:
    """Keys, texts, the flag, names (and how long each is), kinds and extents; counts and offsets are no values."""
    words = []
    for word in (b"name", b"a net", b"yes", b"w", b"v"):
        start = data.index(struct.pack("<Q", len(word)) + word)
        words.append(range(start, start + 8 + len(word)))
    flag, first, second = words[2].stop + 4, words[3].stop, words[4].stop
    words += [range(words[2].stop, flag + 1), range(first, first + 16), range(second, second + 16)]
    return Spans([range(len(data) - 80, len(data))], words)


def kept_by_joblib() -> bytes:
    buffer = io.BytesIO()
    joblib.dump({"w": numpy.arange(4.0), "n": 1}, buffer)
    return buffer.getvalue()


def of_joblib(data: bytes) -> Spans:
    start = data.index(numpy.arange(4.0).tobytes())
    return Spans([range(start, start + 32)], [range(start), range(start + 32, len(data))])


KINDS: dict[str, tuple[Callable[[], bytes], Callable[[bytes], Spans]]] = {
    "torch zip": (saved_by_torch, of_zip),
    "torch zip by rehydrate": (saved_by_rehydrate, of_zip),
    "torch zip, repacked": (repacked, of_zip),
    "torchscript": (scripted, of_zip),
    "npz": (arrays(numpy.savez), of_zip),
    "npz, deflated": (arrays(numpy.savez_compressed), of_zip),
    "legacy stream in gzip": (gzipped, of_gzip),
    "legacy stream": (saved_before_1_6, of_stream),
    "safetensors": (safe, of_safetensors),
    "npy": (array, of_npy),
    "gguf": (gguf, of_gguf),
    "joblib": (kept_by_joblib, of_joblib),
}


def contents(checkpoint: Checkpoint) -> tuple[str, dict[str, bytes | None]]:
    """The tree, and the bytes of each tensor; None for those that are refused when they are read."""
    tokens = [token[:-1] if token[:1] == ("storage",) else token for token in outline_of(checkpoint.tree)]  # type: ignore[index]
    return repr(tokens), {name: _bytes_of(checkpoint, name) for name in checkpoint}


def _bytes_of(checkpoint: Checkpoint, name: str) -> bytes | None:
    try:
        return numpy.ascontiguousarray(checkpoint[name].numpy()).tobytes()
    except RehydrateError as error:
        check_message(error)
        return None


def opened(where: bytes | Path) -> tuple[str, dict[str, bytes | None]] | None:
    """The contents; None for what is refused."""
    try:
        checkpoint = rh.open(where)
    except RehydrateError as error:
        check_message(error)
        return None
    with checkpoint:
        check_text(str(checkpoint))
        return contents(checkpoint)


def flipped(data: bytes) -> Iterator[tuple[int, bytes]]:
    flips = range(1, 256) if FACTOR > 1 else FLIPS
    for at in range(len(data)):
        for flip in flips:
            yield at, data[:at] + bytes((data[at] ^ flip,)) + data[at + 1 :]


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_byte_changes_only_what_it_belongs_to(kind: str) -> None:
    make, spans_of = KINDS[kind]
    data = make()
    spans = spans_of(data)
    honest = opened(data)
    assert honest is not None
    tree, tensors = honest
    refused = same = 0
    for at, changed in flipped(data):
        found = opened(changed)
        refused += found is None
        if found is None:
            continue
        its_tree, its_tensors = found
        different = [name for name, raw in its_tensors.items() if raw is not None and raw != tensors.get(name)]
        if its_tree == tree and not different:
            same += 1
            continue
        assert not spans.has_checksums or not rh.verify(changed), f"byte {at} changed the file, and verify is content"
        if not any(at in span for span in spans.values):
            assert its_tree == tree, f"byte {at} changed the tree"
            assert any(at in span for span in spans.tensors), f"byte {at} changed {different}"
    assert refused > 20
    assert same > 20 or not spans.has_checksums


def test_a_changed_byte_of_what_a_rank_wrote_changes_only_the_tensor_it_belongs_to(tmp_path: Path) -> None:
    (tmp_path / ".metadata").write_bytes(metadata()())
    data = torch_zip(pickle_of(tensor()))
    (tmp_path / "__0_0.distcp").write_bytes(data)
    honest = opened(tmp_path)
    assert honest is not None
    spans = of_zip(data)
    for at, changed in flipped(data):
        (tmp_path / "__0_0.distcp").write_bytes(changed)
        found = opened(tmp_path)
        if found is None or None in found[1].values() or found[1] == honest[1]:
            continue
        assert found[0] == honest[0]
        assert any(at in span for span in spans.tensors), f"byte {at} changed a tensor"
        assert not rh.verify(tmp_path)


def packed_in_a_tar() -> bytes:
    return tar_of(said(record(b"mtime", b"1.5")), Member(b"net.pth", saved_before_1_6()))[:3584]


def of_torch7(encoding: str) -> Callable[[], bytes]:
    return lambda: Lua(**ENCODINGS[encoding]).of({"w": Tensor("Float", [1, 2]), "n": 3})


@pytest.mark.parametrize(
    "make",
    [packed_in_a_tar, lambda: torch_tar()[:6144], metadata(), *map(of_torch7, ENCODINGS)],
)
def test_a_changed_byte_of_a_file_that_is_values_throughout_is_read_or_refused(make: Callable[[], bytes]) -> None:
    for _, changed in flipped(make()):
        opened(changed)


@pytest.mark.parametrize("protocol", range(6))
def test_a_changed_byte_of_a_pickle_is_read_or_refused(protocol: int) -> None:
    for _, changed in flipped(pickle.dumps({"a": [1, 2.5, ("b", None)], 3: {"c", "d"}, "e": b"f"}, protocol)):
        opened(changed)


@pytest.mark.parametrize(
    "make",
    [*(make for make, _ in KINDS.values()), lambda: pickle.dumps([1, "a"] * 9, 4)],
    ids=[*KINDS, "pickle"],
)
def test_a_file_that_is_cut_anywhere_is_refused(make: Callable[[], bytes]) -> None:
    data = make()
    for end in range(len(data)):
        with pytest.raises(RehydrateError) as caught:
            rh.open(data[:end])
        check_message(caught.value)
