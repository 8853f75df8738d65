"""S1: safetensors files that break a rule of their format, one each. S2: shards with an index that lies.

The names of the reference's own unit tests are in brackets where it has one for the same thing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from rehydrate.errors import (
    AmbiguousError,
    CorruptError,
    LimitError,
    MissingFileError,
    NotACheckpointError,
    RebuildError,
    RehydrateError,
    TruncatedError,
)

from .archives import torch_zip
from .assembler import call, pickle_of, unicode
from .case import REFUSED, Case, Shows, holds_tensor, opens, refuses

Header = dict[str, object] | list[object] | str | bytes


def safetensors(header: Header, data: bytes = b"", *, length: int | None = None) -> bytes:
    """A file with this header, dumped where it is no text yet; `length` is what the first eight bytes say instead."""
    if isinstance(header, (dict, list)):
        header = json.dumps(header, separators=(",", ":"))
    if isinstance(header, str):
        header = header.encode("utf-8", "surrogatepass")
    return (len(header) if length is None else length).to_bytes(8, "little") + header + data


def entry(dtype: object = "U8", shape: object = (1,), begin: object = 0, end: object = 1) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def _refuses(name: str, header: Header, data: bytes, *errors: type[RehydrateError], says: str = "") -> Case:
    return refuses(f"S1 {name}", lambda: safetensors(header, data), *errors, says=says)


def _one(name: str, said: object, *errors: type[RehydrateError], data: bytes = b"x") -> Case:
    """A file whose only tensor is described so."""
    return _refuses(name, {"w": said}, data, *(errors or (CorruptError,)))


def _text(name: str, text: str | bytes, *errors: type[RehydrateError], data: bytes = b"x") -> Case:
    return _refuses(name, text, data, *(errors or (CorruptError,)))


def _is_bytes(content: bytes) -> Shows:
    return lambda checkpoint: checkpoint["w"].numpy().tobytes() == content


_W = entry()
_GOOD = '"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}'
_EVIL = pickle_of(call("os", "system", unicode("id")))

LENGTHS = (
    refuses("S1 a header of 2^63 bytes [header_too_large]", lambda: safetensors({"w": _W}, b"x", length=1 << 63)),
    refuses("S1 a header of 2^64 - 1 bytes", lambda: safetensors({"w": _W}, b"x", length=(1 << 64) - 1)),
    refuses(
        "S1 a header longer than the file [invalid_header_length]",
        lambda: safetensors({"w": _W}, b"x", length=1000), TruncatedError, says="cut within its header",
    ),
    refuses("S1 a header of a gigabyte", lambda: safetensors({"w": _W}, b"x", length=1 << 30), LimitError),
    refuses("S1 a header of no bytes", lambda: safetensors("{}", length=0), CorruptError),
    refuses("S1 a header of one byte", lambda: safetensors("{}", length=1), CorruptError),
    refuses("S1 seven bytes [header_too_small]", lambda: b"\0\0\0\0\0\0\1"),
    refuses("S1 a header that ends early", lambda: safetensors("{" + _GOOD + "}", b"x", length=20), CorruptError),
    refuses(
        "S1 a length that is one too many",
        lambda: safetensors({"w": _W}, b"x", length=len(_GOOD) + 3), CorruptError,
    ),
)  # fmt: skip

JSON = (
    _text("a header that is no object [not_json]", b"[" + b" " * 20 + b"]", *REFUSED),
    _text("a header that begins with a space [whitespace_leading]", " {" + _GOOD + "}", *REFUSED),
    _text("a mark of UTF-8 before the header", b"\xef\xbb\xbf{" + _GOOD.encode() + b"}", *REFUSED),
    opens(
        "S1 a header padded with spaces [whitespace_trailing]",
        lambda: safetensors("{" + _GOOD + "}   ", b"x"), _is_bytes(b"x"),
    ),
    _text("a header padded with zeros", "{" + _GOOD + "}\0\0\0"),
    _text("a header followed by another", "{" + _GOOD + "}{}"),
    _text("a header that is not UTF-8 [header_non_utf8]", b'{"\xff":' + _GOOD.encode()[4:] + b"}"),
    _text("half a surrogate pair in a name", '{"\\ud800":' + _GOOD[4:] + "}"),
    _text("half a surrogate pair in its bytes", b'{"\xed\xa0\x80":' + _GOOD.encode()[4:] + b"}"),
    _text("half a surrogate pair in the metadata", '{"__metadata__":{"a":"\\udfff"},' + _GOOD + "}"),
    _text("a name with a control character", '{"\x07":' + _GOOD[4:] + "}"),
    _text("a comma too many", "{" + _GOOD + ",}"),
    _text("a comment", "{" + _GOOD + "/* */}"),
    _text("names in single quotes", "{'w':{}}", *REFUSED),
    _text("a name twice", "{" + _GOOD + "," + _GOOD + "}", AmbiguousError),
    _text("a name twice, once escaped", "{" + _GOOD + ',"\\u0077":' + _GOOD[4:] + "}", AmbiguousError),
    _text(
        "a field twice", '{"w":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}}', AmbiguousError
    ),
    _text("metadata twice", '{"__metadata__":{},"__metadata__":{"a":"b"},' + _GOOD + "}", AmbiguousError),
    _text("a key of the metadata twice", '{"__metadata__":{"a":"1","a":"2"},' + _GOOD + "}", AmbiguousError),
    _text("NaN for an extent", '{"w":{"dtype":"U8","shape":[NaN],"data_offsets":[0,1]}}'),
    _text("1e999 for an offset", '{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1e999]}}'),
    _text("a number of ten thousand digits", '{"w":{"shape":[' + "9" * 10_000 + "]}}", LimitError),
    _text("a number of twenty digits", '{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,' + "9" * 20 + "]}}"),
    _text("a number that begins with zero", '{"w":{"dtype":"U8","shape":[01],"data_offsets":[0,1]}}'),
    _text("a shape with a comma too many", '{"w":{"dtype":"U8","shape":[1,,1],"data_offsets":[0,1]}}'),
    _text("lists in lists [json_attack]", '{"w":' + "[" * 50_000, LimitError, CorruptError),
    _text("objects in objects", '{"w":' * 50_000, LimitError, CorruptError),
)  # fmt: skip

METADATA = (
    _refuses("metadata that is a number", {"__metadata__": {"a": 1}, "w": _W}, b"x", CorruptError),
    _refuses("metadata that is nested", {"__metadata__": {"a": {"b": "c"}}, "w": _W}, b"x", CorruptError),
    _refuses("metadata that is a list", {"__metadata__": ["a"], "w": _W}, b"x", CorruptError),
    _refuses("metadata that is a tensor", {"__metadata__": _W}, b"x", CorruptError),
    opens(
        "S1 metadata that moves the cursor",
        lambda: safetensors({"__metadata__": {"\x1b[2J": "\x1b[2J"}, "w": _W}, b"x"), _is_bytes(b"x"),
    ),
)  # fmt: skip

ENTRIES = (
    _one("an entry that is nothing [invalid_info]", None),
    _one("an entry that is a list", ["U8", [1], [0, 1]]),
    _one("an entry without offsets", {"dtype": "U8", "shape": [1]}),
    _one("an element type that is a number", entry(8)),
    _one("an element type in small letters", entry("u8")),
    _one("an element type that nobody knows", entry("F1024")),
    _one("an element type that moves the cursor", entry("\x1b[2J")),
    _one("elements of six bits", entry("F6_E2M3", (4,), 0, 3), RebuildError, data=b"xxx"),
    _one("4-bit elements that end within a byte [fp4_misaligned]", entry("F4", (3,), 0, 1)),
    _one("rows of 4-bit elements that end within a byte", entry("F4", (2, 1), 0, 1)),
    _one("one 4-bit element", entry("F4", (), 0, 1)),
    _one("a shape that is text", entry("U8", "1")),
    _one("a shape that is a number", entry("U8", 1)),
    _one("a negative extent", entry("U8", (-1,), 0, 1)),
    _one("two negative extents", entry("U8", (-1, -1), 0, 1)),
    _one("an extent that is true", entry("U8", (True,), 0, 1)),
    _one("an extent that is a fraction", entry("U8", (1.0,), 0, 1)),
    _one("an extent in an extent", entry("U8", ((1,),), 0, 1)),
    _one("more elements than 2^64 [validation_overflow]", entry("F64", (1 << 62, 4), 0, 0), data=b""),
    _one("more elements than 2^64, and then none", entry("F64", (1 << 62, 4, 0), 0, 0), data=b""),
    _one("an extent of 2^63 beside none", entry("U8", (0, 1 << 63), 0, 0), data=b""),
    _one("bytes that wrap around 2^64", entry("F64", (1 << 61,), 0, 0), data=b""),
    _one("65 dimensions", entry("U8", (1,) * 65), LimitError),
    _one("three offsets", {"dtype": "U8", "shape": [1], "data_offsets": [0, 1, 1]}),
    _one("one offset", {"dtype": "U8", "shape": [1], "data_offsets": [0]}),
    _one("offsets that are text", entry("U8", (1,), "0", "1")),
    _one("offsets that are true and false", entry("U8", (1,), False, True)),
    _one("a negative offset", entry("U8", (1,), -1, 0)),
    _one("an offset of 2^63", entry("U8", (1,), 1 << 63, (1 << 63) + 1)),
    _one("an end before the beginning", entry("U8", (1,), 1, 0)),
    _one("fewer bytes than the shape takes", entry("F32", (4,), 0, 15), data=bytes(15)),
    _one("more bytes than the shape takes", entry("F32", (4,), 0, 17), data=bytes(17)),
    opens(
        "S1 an empty tensor as large as can be, which numpy has no array for",
        lambda: safetensors({"w": entry("U8", (0, 1 << 62), 0, 0)}), holds_tensor(),
    ),
    opens("S1 an empty name", lambda: safetensors({"": _W, "w": entry("U8", (0,), 1, 1)}, b"x"), _is_bytes(b"")),
    opens(
        "S1 names that move the cursor",
        lambda: safetensors({"\x1b[2J\u202e": _W, "w": entry("U8", (1,), 1, 2)}, b"xy"), _is_bytes(b"y"),
    ),
)  # fmt: skip

COVERAGE = (
    _refuses("two tensors on the same bytes", {"v": _W, "w": _W}, b"x", CorruptError),
    _refuses(
        "tensors that overlap", {"v": entry("U8", (2,), 0, 2), "w": entry("U8", (2,), 1, 3)}, b"xxx", CorruptError
    ),
    _refuses("a hole between tensors", {"v": _W, "w": entry("U8", (1,), 2, 3)}, b"xxx", CorruptError),
    _refuses("a hole before the first tensor", {"w": entry("U8", (1,), 1, 2)}, b"xx", CorruptError),
    _refuses("an empty tensor beyond the others", {"v": _W, "w": entry("U8", (0,), 5, 5)}, b"x", CorruptError),
    _refuses(
        "bytes after the last tensor [metadata_incomplete_buffer]", {"w": _W}, b"xy", CorruptError, says="1 byte"
    ),
    _refuses("a pickle after the last tensor", {"w": _W}, b"x" + _EVIL, CorruptError),
    refuses(
        "S1 a zip after the last tensor", lambda: safetensors({"w": _W}, b"x" + torch_zip(_EVIL)), CorruptError
    ),
    refuses("S1 two files, one after the other", lambda: safetensors({"w": _W}, b"x") * 2, CorruptError),
    _refuses("no tensor, and bytes", {}, b"x", CorruptError),
    _refuses("bytes that are not there", {"w": entry("U8", (4,), 0, 4)}, b"xx", TruncatedError, says="is cut"),
)  # fmt: skip


def _polyglot() -> bytes:
    """Its length is the opcode of a string of eight bytes, which ends in the first name; the rest of it is opcodes."""
    header = '{"0N.":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    return safetensors(header.ljust(0x0855), b"x")


def _import_polyglot() -> bytes:
    """The same, and what follows is broken after it has named something."""
    header = '{"0cos":\n{"dtype":"U8",\n"shape":[1],"data_offsets":[0,1]}}'
    return safetensors(header.ljust(0x0855), b"x")


DISGUISED = (
    refuses("S1 a file that is a pickle, too", _polyglot, AmbiguousError, says="is a pickle, too"),
    refuses("S1 a file that is the beginning of a pickle, too", _import_polyglot, AmbiguousError),
)

MANY = 20_000
BOMBS = (
    refuses(
        "S1 many tensors on the same bytes (safetensors_abuse_attempt_2)",
        lambda: safetensors(
            {f"{number}": entry("F32", (1 << 16,), 0, 1 << 18) for number in range(MANY)}, bytes(1 << 18)
        ),
        CorruptError,
    ),
    refuses(
        "S1 many names that are one",
        lambda: safetensors("{" + ",".join([_GOOD] * MANY) + "}", b"x"), AmbiguousError,
    ),
    refuses(
        "S1 megabytes of digits", lambda: safetensors('{"w":' + "7" * (2 << 20) + "}"), LimitError,
    ),
    refuses("S1 a megabyte of brackets", lambda: safetensors('{"w":' + "[" * (1 << 20)), LimitError, CorruptError),
    refuses("S1 a megabyte of empty lists", lambda: safetensors('{"w":[' + "[]," * (1 << 19) + "[]]}"), CorruptError),
    refuses(
        "S1 metadata that nearly ends, again and again",
        lambda: safetensors('{"__metadata__":{' + '"a":"b",' * (1 << 17) + '"c"}}'), CorruptError,
    ),
    refuses("S1 a quote that nothing closes", lambda: safetensors('{"' + "\\\\" * (1 << 20)), CorruptError),
    opens(
        "S1 many empty tensors",
        lambda: safetensors({"w": entry("U8", (0,), 0, 0)} | {f"{n}": entry("U8", (0,), 0, 0) for n in range(MANY)}),
        _is_bytes(b""),
    ),
)  # fmt: skip
"""Examined by `bombs`, with little time and memory."""

# Shards.

_SHARD = safetensors({"w": _W}, b"x")


def _index(places: object, **more: object) -> Callable[[], bytes]:
    return lambda: json.dumps({"metadata": {"total_size": 1}, "weight_map": places, **more}).encode()


def _set(case: Case, **files: bytes) -> Case:
    """The index beside these files; `a.safetensors` is a good one unless it is said otherwise."""
    beside = {"a.safetensors": _SHARD, **{f"{name}.safetensors": content for name, content in files.items()}}
    return replace(case, name=f"S2 {case.name}", file="m.index.json", beside=beside)


def _lies(name: str, places: object, *errors: type[RehydrateError], says: str = "", **files: bytes) -> Case:
    return _set(refuses(name, _index(places), *errors, says=says), **files)


_A = "a.safetensors"

SHARDS = (
    _set(opens("shards as they should be", _index({"w": _A}), _is_bytes(b"x"))),
    *(
        _lies(f"a shard {where}", {"w": name}, NotACheckpointError, says="another folder")
        for where, name in {
            "above the folder": "../a.safetensors", "at the root": "/etc/passwd", "in a folder": "b/a.safetensors",
            "behind a backslash": "..\\a.safetensors", "that is the folder": ".", "that is the folder above": "..",
            "without a name": "", "with a NUL": "a.safetensors\0.txt",
        }.items()
    ),
    _lies("a shard that is missing", {"w": _A, "v": "b.safetensors"}, MissingFileError, says="1 of the 2 files"),
    _lies("a missing shard that moves the cursor", {"w": "\x1b[2J"}, MissingFileError, says=r"\x1b[2J"),
    _lies("ten thousand missing shards", {f"{n}": f"{n}.bin" for n in range(10_000)}, MissingFileError),
    _lies("a tensor that is not in its shard", {"w": _A, "v": _A}, CorruptError, says="it does not"),
    _lies("a shard that is the index itself", {"w": "m.index.json"}, NotACheckpointError),
    _lies("a shard that is cut", {"w": _A}, TruncatedError, a=_SHARD[:-1]),
    _lies("a shard that is a page", {"w": _A}, NotACheckpointError, says="a web page", a=b"<html><body>no"),
    _lies("a shard that is empty", {"w": _A}, NotACheckpointError, a=b""),
    _lies("a shard that is a command", {"w": _A}, CorruptError, a=_EVIL),
    _set(
        opens(
            "a shard with more than the index says",
            _index({"w": _A}), lambda checkpoint: checkpoint.facts["unlisted"] == ("a.safetensors: v",),
        ),
        a=safetensors({"v": _W, "w": entry("U8", (1,), 1, 2)}, b"xy"),
    ),
    _lies("a map that is a list", [_A], CorruptError),
    _lies("a map of nothing", {}, CorruptError),
    _lies("a map to numbers", {"w": 1}, CorruptError),
    _lies("a map to lists", {"w": [_A]}, CorruptError),
    _set(
        refuses(
            "a tensor in two shards",
            lambda: b'{"weight_map":{"w":"a.safetensors","w":"b.safetensors"}}', AmbiguousError,
        ),
        b=_SHARD,
    ),
    _set(refuses("two maps", lambda: b'{"weight_map":{"w":"a.safetensors"},"weight_map":{}}', AmbiguousError)),
    _set(refuses("a map without an end", lambda: b'{"weight_map":{"w":"a.safetensors"', CorruptError)),
    _set(
        opens(
            "a size that is no number", lambda: b'{"weight_map":{"w":"a.safetensors"},"metadata":{"total_size":[]}}',
            _is_bytes(b"x"),
        )
    ),
    _set(
        opens(
            "metadata that is none",
            lambda: b'{"weight_map":{"w":"a.safetensors"},"metadata":7}', _is_bytes(b"x"),
        )
    ),
    _set(
        opens(
            "a size as large as a number can be",
            lambda: b'{"weight_map":{"w":"a.safetensors"},"metadata":{"total_size":1.7e308}}', _is_bytes(b"x"),
        )
    ),
)  # fmt: skip

CASES: tuple[Case, ...] = (*LENGTHS, *JSON, *METADATA, *ENTRIES, *COVERAGE, *DISGUISED, *SHARDS)
