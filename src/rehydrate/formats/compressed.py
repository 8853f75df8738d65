"""Compression around any format: gzip, bzip2, xz, lzma, zlib. What is inside is opened as whatever it is.

    the compressed bytes and nothing else; how each kind is recognised and unpacked is in `compressions`

The whole is unpacked once, into memory and never to disk, because the formats inside are read at any offset. How large
it may become is bounded by the length of what is there. Checksums are checked on the way. What Python cannot unpack
(zstd, lz4, 7z, rar) is in `impostors/signatures`.
"""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from io import BytesIO

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.trace import Checksum
from rehydrate.errors import AmbiguousError, CorruptError, LimitError, TruncatedError
from rehydrate.formats.compressions import DICTIONARY, Compression, Unpacker, compression_of
from rehydrate.formats.contract import FIRST, Format, Head, Request
from rehydrate.formats.inside import traces_inside
from rehydrate.limits import Limits
from rehydrate.storage.source import MemorySource, Source
from rehydrate.text import shown, size

__all__ = ["COMPRESSED"]

READ = 1 << 14
"""Bytes that are read at once: what follows a stream is copied for each, and streams may be of twenty bytes."""
WRITE = 1 << 20
"""Bytes that are unpacked at once."""
FLOOR = 32 << 20
"""Bytes that anything may unpack to, however short it is: files of zeros are honest, too."""


def _sniff(head: Head) -> bool:
    return compression_of(head.first) is not None


def _read(source: Source, request: Request) -> Checkpoint:
    compression = compression_of(source.read(0, min(FIRST, source.size)))
    if compression is None:
        raise CorruptError("this is not compressed in a way that is known", where=shown(source.name))
    unpacked = _Unpacking(source, compression, request.limits)
    data = unpacked.all(is_cut=request.is_cut)
    inner = replace(request, limits=unpacked.left(len(data)))
    checkpoint = inner.inside(MemorySource(data, _inner_name(source.name, compression)), member=request.member)
    checkpoint.source = MemorySource(data, source.name)  # it is the file that people know, though read from memory
    checkpoint.traces = traces_inside(checkpoint, "unpacked")
    checkpoint.format = f"{compression.name}+{checkpoint.format}"
    checkpoint.facts = {**checkpoint.facts, "compressed": source.size}
    checksums = _trailing(source, compression, data) if unpacked.streams == 1 and not unpacked.is_cut else None
    if checksums is not None:
        checkpoint.checksums = partial(_all_of, checksums, checkpoint.checksums)
    source.close()
    return checkpoint


class _Unpacking:
    """The unpacking of one file, from its beginning to its end."""

    def __init__(self, source: Source, compression: Compression, limits: Limits) -> None:
        self._source = source
        self._compression = compression
        self._limits = limits
        self._most = min(max(source.size * limits.inflation, FLOOR), limits.unpacked_bytes)
        self._at = 0
        self.streams = 0
        self.is_cut = False

    def all(self, *, is_cut: bool) -> bytes:
        """Everything that is in there.

        Raises `TruncatedError` (unless `is_cut`: then what there is), `CorruptError` where the data or a checksum is
        broken, `AmbiguousError` for bytes that belong to no stream, `LimitError` for too much.
        """
        kept = BytesIO()
        rest = b""
        while rest or self._at < self._source.size:
            if self.streams:
                rest = self._after(rest)
                if not rest:
                    break
            rest = self._stream(rest, kept, is_cut=is_cut)
            self.streams += 1
            if self.is_cut:
                break
        return kept.getvalue()  # of a BytesIO that nobody else looks at, this is no copy

    def left(self, length: int) -> Limits:
        """The limits for what is inside, of which so much has been used up.

        Streams in streams would otherwise multiply: a few kilobytes become gigabytes at the second level.
        """
        ratio = max(length // max(self._source.size, 1), 1)
        return replace(
            self._limits,
            inflation=max(self._limits.inflation // ratio, 1),
            unpacked_bytes=max(self._most - length, 0),
        )

    def _stream(self, rest: bytes, kept: BytesIO, *, is_cut: bool) -> bytes:
        """Unpack one stream; what follows it, as far as it has been read."""
        unpacker = self._compression.unpacker()
        while not unpacker.eof:
            if unpacker.needs_input and not rest:
                rest = self._more()
                if not rest:
                    self._end_early(kept, is_cut=is_cut)
                    return b""
            kept.write(self._unpacked(unpacker, rest))
            rest = b""
            if kept.tell() > self._most:
                raise LimitError(
                    f"this {self._compression.name} file unpacks to too much",
                    where=shown(self._source.name),
                    found=f"more than {size(self._most)} from {size(self._source.size)}",
                    hint="if you trust it, raise Limits(inflation=..., unpacked_bytes=...)",
                )
        return unpacker.unused_data

    def _unpacked(self, unpacker: Unpacker, data: bytes) -> bytes:
        try:
            return unpacker.decompress(data, WRITE)
        except (zlib.error, OSError, lzma.LZMAError, EOFError, ValueError) as error:
            raise self._broken(str(error)) from error

    def _more(self) -> bytes:
        data = self._source.read(self._at, min(READ, self._source.size - self._at))
        self._at += len(data)
        return data

    def _end_early(self, kept: BytesIO, *, is_cut: bool) -> None:
        self.is_cut = True
        if not is_cut:
            raise TruncatedError(
                f"the file ends early: its {self._compression.name} stream is not complete",
                where=shown(self._source.name),
                found=f"{size(self._source.size)}, which unpack to {size(kept.tell())} so far",
                hint="download it again",
            )

    def _after(self, rest: bytes) -> bytes:
        """The beginning of the next stream, if there is one after the last."""
        compression = self._compression
        zeros = 0
        while True:
            left = rest.lstrip(b"\0") if compression.padding else rest
            zeros += len(rest) - len(left)
            if left or not (rest := self._more()):
                break
        if left and len(left) < 16:
            left += self._more()
        is_next = left and compression.has_streams and compression.knows(left)
        if (left and not is_next) or (compression.padding and zeros % compression.padding):
            raise AmbiguousError(
                f"there are bytes after the end of the {compression.name} stream; other readers may ignore them",
                where=shown(self._source.name),
                found=f"{len(left) + zeros + self._source.size - self._at:,} bytes",
            )
        return left

    def _broken(self, error: str) -> CorruptError | LimitError:
        name = self._compression.name
        if "Memory usage limit" in error:
            return LimitError(
                f"unpacking this {name} file takes too much memory",
                where=shown(self._source.name),
                found=f"more than {size(DICTIONARY)} beside the data",
                hint=f"unpack it yourself: {name} -dk {shown(self._source.name)}",
            )
        if "data check" in error or "length check" in error:
            return CorruptError(
                f"bad CRC: what this {name} file unpacks to is not what was packed",
                where=shown(self._source.name),
                hint="the file was damaged on its way; download it again",
            )
        return CorruptError(
            f"this {name} file is damaged (bad CRC or broken data)",
            where=shown(self._source.name),
            found=shown(error),
            hint="download it again",
        )


def _inner_name(name: str, compression: Compression) -> str:
    """The name without the suffix that compressing has put there."""
    for suffix in compression.suffixes:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)] + (".tar" if suffix.startswith(".t") else "")
    return name


def _trailing(source: Source, compression: Compression, data: bytes) -> Checksum | None:
    """The checksum of everything, where the format has it at its end."""
    if compression.name not in ("gzip", "zlib") or source.size < 8:
        return None
    last = source.read(source.size - 8, 8)
    if compression.name == "zlib":
        return Checksum("", "adler32", int.from_bytes(last[4:], "big"), partial(_slices, data))
    if int.from_bytes(last[4:], "little") != len(data) & 0xFFFFFFFF:
        return None  # zeros stand after the stream
    return Checksum("", "crc32", int.from_bytes(last[:4], "little"), partial(_slices, data))


def _slices(data: bytes) -> Iterable[bytes]:
    return (data[at : at + WRITE] for at in range(0, len(data), WRITE))


def _all_of(first: Checksum, others: Callable[[], Iterable[Checksum]] | None) -> Iterable[Checksum]:
    yield first
    if others is not None:
        yield from others()


COMPRESSED = Format("compressed", _sniff, _read)
"""The row of all of them in `opening.FORMATS`."""
