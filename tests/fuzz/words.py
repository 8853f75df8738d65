"""The words of the formats, for a fuzzer that puts them where it likes: a dictionary as libFuzzer reads it."""

from __future__ import annotations

from collections.abc import Iterator

from rehydrate.dtypes import BY_NAME, BY_STORAGE
from rehydrate.pickles.known import CONSTANTS, KNOWN

from ..hostile.assembler import CONSTANTS as OPCODES
from ..hostile.assembler import global_, unicode

__all__ = ["dictionary"]

SIGNATURES = (
    b"PK\3\4", b"PK\1\2", b"PK\5\6", b"PK\6\6", b"PK\6\7", b"\x93NUMPY\1\0", b"\x93NUMPY\2\0", b"GGUF\3\0\0\0",
    b"\x89HDF\r\n\x1a\n", b"TREE", b"HEAP", b"SNOD", b"OHDR", b"\x1f\x8b\x08\0", b"BZh9", b"\xfd7zXZ\0", b"\x5d\0\0",
    b"\x78\x9c", b"ZF0x", b"ustar\x0000", b"ustar  \0", b"././@LongLink", b"././@PaxHeader",
)  # fmt: skip
WORDS = (
    "data.pkl", "byteorder", "version", "constants.pkl", "bytecode.pkl", ".data/serialization_id", "data/0", "storage",
    "sys_info", "pickle", "tensors", "storages", "cpu", "cuda:0", "meta", "dtype", "shape", "data_offsets",
    "__metadata__", "weight_map", "metadata", "total_size", "format", "F32", "BF16", "F8_E4M3", "descr",
    "fortran_order", "mainModule", "parameters", "submodules", "tensorId", "isBuffer", "dims", "strides", "dataType",
    "config", "path_name", "is_param", "use_pickle", "tensor_meta", "sizes", "as_int", "storage_offset", "layout",
    ":serialized:", "path", "group", "attributes", "chunks", "filters", "fill", "index", "unread", "value", "data",
    "V 1", "torch.FloatTensor", "torch.FloatStorage", "torch.CudaTensor", "tds.Hash", "general.alignment",
    "general.architecture", "state_dict_metadata", "planner_data", "storage_data", "fqn", "offset", "relative_path",
    "<f4", ">f8", "|b1", "|V4", "|O", "<U3", "<M8[ns]",
)  # fmt: skip
MORE_NAMES = (
    ("torch.nn.modules.linear", "Linear"), ("__main__", "Net"), ("builtins", "getattr"), ("os", "system"),
    ("joblib.numpy_pickle", "NumpyArrayWrapper"), ("joblib.numpy_pickle_compat", "NDArrayWrapper"),
    ("torch.distributed.checkpoint.metadata", "Metadata"), ("functools", "partial"), ("pickle", "loads"),
)  # fmt: skip


def dictionary() -> str:
    """A line for each word."""
    lines = ("".join(f"\\x{byte:02x}" for byte in word) for word in dict.fromkeys(_words()))
    return "".join(f'"{line}"\n' for line in lines)


def _words() -> Iterator[bytes]:
    yield from OPCODES.values()
    yield from SIGNATURES
    for word in WORDS:
        yield word.encode()
        yield unicode(word)
    names = {*KNOWN, *CONSTANTS, *MORE_NAMES, *(("torch", f"{kind}Storage") for kind in BY_STORAGE)}
    for module, name in sorted(names):
        yield global_(module, name)
    for name in BY_NAME:
        yield name.encode()
