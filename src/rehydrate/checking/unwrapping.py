"""Bytes inside bytes: what decoding functions would have given, so that a pickle in them can be looked at.

Only known codings, only from plain values, and only so much: a bomb stays packed. Nothing here judges what comes out.
"""

from __future__ import annotations

import base64
import binascii
import bz2
import lzma
import zlib
from collections.abc import Callable, Mapping

__all__ = ["UNWRAPPERS"]

_MOST = 16 << 20
"""Bytes that one value may unpack to."""

Unwrapper = Callable[[tuple[object, ...]], bytes | None]


def _of_bytes(decode: Callable[[bytes], bytes]) -> Unwrapper:
    """A function of the first argument, text or bytes; None where it is neither or cannot be decoded."""

    def unwrap(args: tuple[object, ...]) -> bytes | None:
        packed = args[0] if args else None
        if isinstance(packed, str):
            packed = packed.encode("latin-1", "replace")
        if not isinstance(packed, (bytes, bytearray)) or len(packed) > _MOST:
            return None
        try:
            return decode(bytes(packed))
        except (ValueError, zlib.error, lzma.LZMAError, OSError, EOFError):
            return None

    return unwrap


def _inflated(packed: bytes) -> bytes:
    return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(packed, _MOST)  # of zlib's and of gzip's


def _unbzipped(packed: bytes) -> bytes:
    return bz2.BZ2Decompressor().decompress(packed, _MOST)


def _unxzed(packed: bytes) -> bytes:
    return lzma.LZMADecompressor(memlimit=256 << 20).decompress(packed, _MOST)


_LETTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_TURNED = b"nopqrstuvwxyzabcdefghijklmNOPQRSTUVWXYZABCDEFGHIJKLM"

_CODINGS: Mapping[str, Callable[[bytes], bytes]] = {
    "hex": binascii.unhexlify, "base64": base64.b64decode, "zlib": _inflated, "zip": _inflated, "bz2": _unbzipped,
    "rot13": lambda packed: packed.translate(bytes.maketrans(_LETTERS, _TURNED)),
}  # fmt: skip


def _decoded(args: tuple[object, ...]) -> bytes | None:
    """`codecs.decode(packed, coding)`."""
    coding = args[1] if len(args) > 1 and isinstance(args[1], str) else ""
    decode = _CODINGS.get(coding.lower().removesuffix("_codec").replace("_", ""))
    return _of_bytes(decode)(args) if decode else None


UNWRAPPERS: Mapping[str, Unwrapper] = {
    "base64.b64decode": _of_bytes(base64.b64decode),
    "base64.standard_b64decode": _of_bytes(base64.b64decode),
    "base64.urlsafe_b64decode": _of_bytes(base64.urlsafe_b64decode),
    "base64.decodebytes": _of_bytes(base64.b64decode),
    "base64.decodestring": _of_bytes(base64.b64decode),
    "base64.b32decode": _of_bytes(base64.b32decode),
    "base64.b16decode": _of_bytes(base64.b16decode),
    "base64.b85decode": _of_bytes(base64.b85decode),
    "base64.a85decode": _of_bytes(base64.a85decode),
    "binascii.a2b_base64": _of_bytes(base64.b64decode),
    "binascii.unhexlify": _of_bytes(binascii.unhexlify),
    "binascii.a2b_hex": _of_bytes(binascii.unhexlify),
    "builtins.bytes.fromhex": _of_bytes(binascii.unhexlify),
    "builtins.bytearray.fromhex": _of_bytes(binascii.unhexlify),
    "zlib.decompress": _of_bytes(_inflated),
    "gzip.decompress": _of_bytes(_inflated),
    "bz2.decompress": _of_bytes(_unbzipped),
    "lzma.decompress": _of_bytes(_unxzed),
    "codecs.decode": _decoded,
}
"""Functions that unpack bytes, by name: their arguments → what they would give, None where that is not known."""
