"""G1: GGUF files whose counts, lengths, types and offsets lie."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from rehydrate.errors import AmbiguousError, CorruptError, LimitError, TruncatedError

from .case import BOMB, BROKEN, REFUSED, Case, harmless, holds_tensor, opens, refuses, refuses_to_read
from .gguf_files import array, gguf_of, info, pair, text

_F32, _Q4_0, _IQ1_S = 0, 2, 19
_STRING, _ARRAY = 8, 9
_W = info("w", (8,), _F32)
_MOST = (1 << 64) - 1


def _with(*infos: bytes, pairs: Sequence[bytes] = (), data: int = 32, **claims: int) -> Callable[[], bytes]:
    return lambda: gguf_of(infos, pairs, data=bytes(data), **claims)  # type: ignore[arg-type]


def _key(kind: int, value: bytes, key: str | bytes = "k") -> Callable[[], bytes]:
    return _with(_W, pairs=[pair(key, kind, value)])


def _aligned(value: int, kind: int = 4) -> Callable[[], bytes]:
    return _key(kind, struct.pack("<I", value), "general.alignment")


def _nested(levels: int) -> bytes:
    """Arrays of one array each."""
    return struct.pack("<IQ", _ARRAY, 1) * levels + struct.pack("<IQ", 0, 0)


def _no_doubles(checkpoint: object) -> bool:
    return checkpoint.facts["metadata"] == {"k": [[], []]}  # type: ignore[attr-defined]


CASES: tuple[Case, ...] = (
    *(
        refuses(f"G1 version {version}", _with(_W, version=version), *BROKEN)
        for version in (0, 4, 0x01000000, 0x02000000, 0x04000000, 0xFFFFFFFF)
    ),
    refuses("G1 the magic alone", lambda: b"GGUF", TruncatedError),
    *(
        refuses(f"G1 it says {count:,} tensors", _with(_W, tensors=count), *REFUSED)
        for count in (0, 2, 1 << 20, 1 << 40, _MOST)
    ),
    *(refuses(f"G1 it says {count:,} keys", _with(_W, keys=count), *REFUSED) for count in (2, 1 << 20, 1 << 40, _MOST)),
    harmless("G1 a tensor that is taken for a key", _with(_W, tensors=0, keys=1)),
    # Keys and values.
    *(
        refuses(f"G1 a key of {length:,} letters", _with(_W, pairs=[text("k", claim=length)]), *REFUSED)
        for length in (100, 1 << 31, 1 << 40, _MOST)
    ),
    *(
        refuses(f"G1 a text of {length:,} letters", _key(_STRING, text("v", claim=length)), *REFUSED)
        for length in (100, 1 << 31, 1 << 40, _MOST)
    ),
    *(refuses(f"G1 a value of type {kind:,}", _key(kind, bytes(8)), CorruptError) for kind in (13, 255, 1 << 31)),
    refuses("G1 a truth of 2", _key(7, b"\2"), CorruptError),
    *(
        refuses(f"G1 an array of {count:,} of type {kind}", _key(_ARRAY, array(kind, [], claim=count)), *REFUSED)
        for kind in (0, 8, 9, 10)
        for count in (1 << 21, 1 << 32, 1 << 62, _MOST)
    ),
    refuses("G1 an array of a type that is none", _key(_ARRAY, array(77, [b"\0"])), CorruptError),
    refuses("G1 arrays in each other", _key(_ARRAY, _nested(5000)), LimitError),
    opens("G1 arrays of nothing", _key(_ARRAY, array(_ARRAY, [struct.pack("<IQ", 12, 0)] * 2)), _no_doubles),
    refuses("G1 the same key twice", _with(_W, pairs=[pair("k", 0, b"\1"), pair("k", 0, b"\2")]), AmbiguousError),
    harmless("G1 a key that is no UTF-8", _key(0, b"\1", b"\xff\xfe")),
    harmless("G1 a key that moves the cursor", _key(0, b"\1", "\x1b[2J\n")),
    harmless("G1 a text of control characters", _key(_STRING, text("\x1b]0;x\x07\u202e"))),
    harmless(
        "G1 an architecture of kilobytes", _with(_W, pairs=[pair("general.architecture", _STRING, text("A" * 9000))])
    ),
    harmless(
        "G1 an architecture that is an array", _with(_W, pairs=[pair("general.architecture", _ARRAY, _nested(2))])
    ),
    harmless("G1 shards that are counted below zero", _with(_W, pairs=[pair("split.count", 5, struct.pack("<i", -5))])),
    harmless("G1 shards without end", _with(_W, pairs=[pair("split.count", 10, struct.pack("<Q", _MOST))])),
    *(refuses(f"G1 an alignment of {value:,}", _aligned(value), *REFUSED) for value in (0, 3, 48, 1 << 31)),
    refuses("G1 an alignment that is a text", _key(_STRING, text("32"), "general.alignment"), CorruptError),
    refuses("G1 an alignment that is true", _key(7, b"\1", "general.alignment"), CorruptError),
    # Tensors.
    *(
        refuses(f"G1 a name of {length:,} letters", _with(text("w", claim=length) + _W[9:]), *REFUSED)
        for length in (100, 1 << 40, _MOST)
    ),
    *(
        refuses(f"G1 a tensor of {rank:,} dimensions", _with(info("w", (8,), _F32, rank=rank)), *BOMB, TruncatedError)
        for rank in (65, 1 << 20, 0xFFFFFFFF)
    ),
    *(
        refuses(f"G1 a shape of {words}", _with(info("w", extents, kind)), CorruptError, TruncatedError)
        for words, extents, kind in (
            ("exabytes", (1 << 62, 4), _F32),
            ("exabytes and none", (0, 1 << 62, 1 << 62), _F32),
            ("all bits", (_MOST,), _F32),
            ("what wraps to eight", ((1 << 63) + 8,), _F32),
            ("more than there is", (9,), _F32),
            ("half a block", (16,), _Q4_0),
            ("a block in the wrong dimension", (8, 32), _Q4_0),
        )
    ),
    *(
        refuses(f"G1 a tensor of type {kind:,}", _with(info("w", (8,), kind)), CorruptError)
        for kind in (4, 5, 31, 36, 99, 0xFFFFFFFF)
    ),
    *(
        refuses(f"G1 a tensor at {offset:,}", _with(info("w", (8,), _F32, offset=offset)), *REFUSED)
        for offset in (1, 4, 32, 64, 1 << 40, _MOST - 31)
    ),
    refuses("G1 two tensors of one name", _with(_W, info("w", (8,), _F32, offset=32), data=64), AmbiguousError),
    refuses("G1 two tensors at one place", _with(_W, info("v", (8,), _F32)), CorruptError),
    refuses(
        "G1 two tensors that overlap",
        _with(info("w", (16,), _F32), info("v", (8,), _F32, offset=32), data=64),
        CorruptError,
    ),
    refuses("G1 a gap between tensors", _with(_W, info("v", (8,), _F32, offset=96), data=128), AmbiguousError),
    refuses("G1 bytes after the last tensor", _with(_W, data=64), AmbiguousError),
    refuses("G1 bytes after an index of nothing", _with(data=64), AmbiguousError),
    refuses("G1 no data", _with(_W, data=0), TruncatedError),
    refuses("G1 half of the data", _with(_W, data=16), TruncatedError),
    opens("G1 a tensor whose type is not computed", _with(info("w", (256,), _IQ1_S), data=50), refuses_to_read()),
    opens(
        "G1 scales that are no numbers", lambda: gguf_of([info("w", (32,), _Q4_0)], data=b"\xff" * 18), holds_tensor()
    ),
    harmless("G1 a name that moves the cursor", _with(info("\x1b[2J\r\n\u202e", (8,), _F32))),
    harmless("G1 a name that is no UTF-8", _with(info(b"\xff\xfe", (8,), _F32))),
    harmless("G1 a name of nothing", _with(info("", (8,), _F32))),
    harmless(
        "G1 names that read alike", _with(info("a.b", (8,), _F32), info('["a.b"]', (8,), _F32, offset=32), data=64)
    ),
    harmless("G1 a tensor of no dimensions", _with(info("w", (), _F32), data=4)),
    harmless("G1 a tensor of nothing", _with(info("w", (0, 8), _F32), data=0)),
    harmless("G1 blocks of nothing", _with(info("w", (0,), _Q4_0), data=0)),
)
