"""Models of other libraries that have no signature: told by how their first fields are laid out.

    protobuf       a field is a varint (number << 3 | kind), then: 0 a varint, 1 eight bytes, 2 a length and as many
                   bytes, 5 four bytes. Which numbers come first, and what is in them, tells ONNX from TensorFlow,
                   Caffe, Core ML, Paddle and sentencepiece
    table          TensorFlow's checkpoints end like LevelDB's tables: 57 fb 80 8b 24 75 47 db
    Darknet        int32 major, minor, revision, an int32 or int64 of pictures seen, then float32 without end
    msgpack        a map of a few names, as flax writes its parameters
    word2vec       a line of two counts, then for each word its letters, a space, and as many float32

A guess, and only asked for where no format of ours takes the file. Looks at the first bytes and never parses further.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from rehydrate.formats.contract import Head
from rehydrate.formats.impostors.impostor import Impostor
from rehydrate.text import shown

__all__ = ["bare_numbers", "by_layout"]

_TABLE = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
_MOST = 64
"""Fields that are looked at."""
_WORD_VECTORS = re.compile(rb"\d{1,10} \d{1,5}\n[^\s\0]{1,200} .{0,64}[\0-\x08\x80-\xff]", re.DOTALL)
_NAME = re.compile(rb"[\x20-\x7e]{1,200}")


@dataclass(frozen=True, slots=True)
class _Field:
    """One field of a protobuf message."""

    number: int
    kind: int
    value: int
    """Of a varint; of bytes, how many there are."""
    content: bytes = b""
    """The bytes, as far as they are at hand."""

    @property
    def is_text(self) -> bool:
        """Whether the content is a name."""
        return self.kind == _BYTES and _NAME.fullmatch(self.content) is not None


def by_layout(head: Head) -> Impostor | None:
    """What the layout of the first fields says, or None."""
    if head.last.endswith(_TABLE):
        return Impostor(
            "a TensorFlow checkpoint's index, or one of before 2017",
            "tf.train.load_checkpoint reads it, with the .data files beside it",
        )
    if _WORD_VECTORS.match(head.first):
        return Impostor("a table of word vectors in binary (word2vec)", "gensim's KeyedVectors reads it")
    fields = list(_fields(head.first, head.size))
    return _protobuf(fields) or _msgpack(head.first) or _darknet(head)


def bare_numbers(head: Head) -> bool:
    """Whether the file could be float32 numbers and nothing else, as the .bin beside an OpenVINO or NCNN model is."""
    first = head.first[: len(head.first) // 4 * 4]
    return head.size % 4 == 0 and len(first) >= 256 and _plausible(first)


def _fields(data: bytes, size: int) -> Iterator[_Field]:
    """The fields that a message begins with; none at all if the bytes are no message."""
    at = 0
    found: list[_Field] = []
    while at < len(data) and len(found) < _MOST:
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if at < 0 or not 0 < number < 1 << 20:
            return
        value = 0
        content = b""
        if kind in (_VARINT, _BYTES):
            value, at = _varint(data, at)
            if at < 0:
                break
        if kind == _BYTES:
            if value > size - at:
                return
            content = data[at : at + value]
        elif kind not in (_VARINT, _EIGHT, _FOUR):
            return
        found.append(_Field(number, kind, value, content))
        at += {_VARINT: 0, _EIGHT: 8, _FOUR: 4, _BYTES: value}[kind]
    yield from found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A varint and the place after it, which is -1 where there is none."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            return 0, -1
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    return 0, -1


def _protobuf(fields: list[_Field]) -> Impostor | None:
    if not fields:
        return None
    first = fields[0]
    others = {field.number: field for field in reversed(fields[1:])}
    if first.number == 1 and first.kind == _VARINT:
        return _versioned(first.value, others)
    if first.number != 1 or first.kind != _BYTES:
        return None
    inner = list(_fields(first.content, len(first.content)))
    if first.is_text and _is_caffe(fields[1:]):
        return Impostor(
            "a Caffe model (caffemodel)",
            "Caffe reads it; export its blobs with numpy.savez",
            f"the network {shown(first.content.decode('latin-1'))}",
        )
    if len(inner) < 2:
        return None
    if inner[0].is_text and inner[1].number == 2 and inner[1].is_text:
        return Impostor(
            "a graph of TensorFlow (GraphDef)",
            "tf.compat.v1.GraphDef reads it; ask for the PyTorch weights",
            f"its first node is {shown(inner[0].content.decode('latin-1'))}",
        )
    if inner[0].number == 1 and inner[0].is_text and (inner[1].number, inner[1].kind) == (2, _FOUR):
        return Impostor("a sentencepiece vocabulary", "sentencepiece reads it; the weights are in another file")
    if (inner[0].number, inner[0].kind, inner[0].value) == (1, _VARINT, 0) and inner[1].number == 2:
        return Impostor("a program of Paddle", "paddle.inference reads it; its .pdparams is opened by rehydrate")
    return None


def _versioned(version: int, others: dict[int, _Field]) -> Impostor | None:
    """Messages that begin with a version: ONNX, Core ML, a SavedModel."""
    second = others.get(2)
    if 0 < version <= 30 and {number for number in others if number < 100} <= {2, 3, 4, 5, 6, 7, 8, 14, 20, 25}:
        if second is not None and second.is_text:
            producer = shown(second.content.decode("latin-1"))
            return Impostor("an ONNX model", _ONNX, f"made by {producer}, version {version} of the format")
        if {7, 8} & set(others) and others.get(7, others.get(8)) is not None and second is None:
            return Impostor("an ONNX model", _ONNX, f"version {version} of the format")
    if second is None or second.kind != _BYTES:
        return None
    if any(number >= 200 for number in others) or (second.content[:1] == b"\x0a" and version > 1):
        return Impostor("a Core ML model", "coremltools reads it; ask for what it was converted from")
    if version == 1 and second.content[:1] == b"\x0a":
        return Impostor("a SavedModel of TensorFlow", "TensorFlow reads it; its weights are in variables/ beside it")
    return None


_ONNX = "onnx.load reads it; onnx.numpy_helper.to_array gives its initializers as arrays"


def _is_caffe(fields: list[_Field]) -> bool:
    """Whether these follow the name of a Caffe network: inputs (3, 4, 8), layers (2, or 100)."""
    numbers = [field.number for field in fields]
    return bool(numbers) and set(numbers) <= {2, 3, 4, 5, 6, 7, 8, 100} and fields[0].kind in (_BYTES, _VARINT)


def _msgpack(first: bytes) -> Impostor | None:
    """A map of at most 15 entries whose first key is a word."""
    if len(first) < 4 or not 0x81 <= first[0] <= 0x8F or not 0xA1 <= first[1] <= 0xBF:
        return None
    key = first[2 : 2 + (first[1] & 0x1F)]
    if len(key) != first[1] & 0x1F or not re.fullmatch(rb"\w+", key):
        return None
    found = f"its first key is {shown(key.decode('latin-1'))}"
    return Impostor("a msgpack file, such as flax writes", "flax.serialization.msgpack_restore reads it", found)


def _darknet(head: Head) -> Impostor | None:
    if len(head.first) < 276 or (head.size % 4):
        return None
    major, minor, revision = struct.unpack("<3i", head.first[:12])
    if major != 0 or not 1 <= minor <= 3 or not 0 <= revision <= 10 or not _plausible(head.first[20:276]):
        return None
    return Impostor(
        "a file of Darknet's weights (YOLO)",
        "its layers are in the .cfg beside it; convert it with that",
        f"version {major}.{minor}.{revision}",
    )


def _plausible(data: bytes) -> bool:
    """Whether bytes are numbers as weights are: not all the same, none huge, few tiny."""
    numbers = struct.unpack(f"<{len(data) // 4}f", data[: len(data) // 4 * 4])
    usual = sum(number == 0 or 1e-10 < abs(number) < 1e5 for number in numbers)
    return len(set(numbers)) > len(numbers) // 4 and usual == len(numbers) and all(map(math.isfinite, numbers))
