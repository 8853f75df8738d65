"""What a file is when it is no checkpoint, or none that is read yet: one sentence each, and what to do.

Looks at the first bytes only and never parses further. Each row is something that people really have under the name
of a checkpoint.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

from rehydrate.formats.contract import Head
from rehydrate.text import shown, size

__all__ = ["Impostor", "what_it_is"]

_LEGACY_MAGIC = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
"""0x1950a86a20f9469cfc6c as a LONG1 opcode: the first value of torch's files before 1.6."""


@dataclass(frozen=True, slots=True)
class Impostor:
    """What the file is, in words that follow "this is"."""

    what: str
    hint: str = ""
    """What to do; FILE stands for the file's own name."""
    found: str = ""


_ELSEWHERE = "rehydrate reads torch zip files and plain pickles; open it with torch and save it again"

_SIGNATURES: tuple[tuple[int, bytes, Impostor], ...] = (
    (0, b"\x1f\x8b", Impostor("gzip-compressed", "unpack it first: gunzip -c FILE > unpacked.pth")),
    (0, b"BZh", Impostor("bzip2-compressed", "unpack it first: bunzip2 -c FILE > unpacked.pth")),
    (0, b"\xfd7zXZ\0", Impostor("xz-compressed", "unpack it first: unxz -c FILE > unpacked.pth")),
    (0, b"7z\xbc\xaf\x27\x1c", Impostor("a 7-Zip archive", "unpack it first: 7z x FILE")),
    (0, b"Rar!", Impostor("a RAR archive", "unpack it first: unrar x FILE")),
    (257, b"ustar", Impostor("a tar archive", "if it contains a checkpoint, unpack it: tar -xf FILE")),
    (0, b"\x89HDF\r\n\x1a\n", Impostor("an HDF5 file, such as Keras writes")),
    (0, b"\x93NUMPY", Impostor("a numpy array", "numpy.load reads it")),
    (0, b"GGUF", Impostor("a GGUF file, such as llama.cpp reads")),
    (4, b"ET12", Impostor("an ExecuTorch program")),
    (0, b"\x89PNG", Impostor("a PNG picture")),
    (0, b"\xff\xd8\xff", Impostor("a JPEG picture")),
    (0, b"%PDF", Impostor("a PDF document")),
    (8, b"\x03\0\0\0V 1", Impostor("a file of Torch7 for Lua, from before PyTorch")),
    (2, _LEGACY_MAGIC, Impostor("a torch file from before 1.6 (legacy stream)", _ELSEWHERE)),
)


_SAFETENSORS = Impostor("a safetensors file", "safetensors.torch.load_file reads it")


def what_it_is(head: Head) -> Impostor | None:
    """The sentence for what the file is, or None when a format may try."""
    first = head.first
    if not first:
        return Impostor("an empty file", "the download or the save did not happen; get it again")
    if not first.strip(b"\0"):
        return Impostor(
            "nothing but zeros at its beginning",
            "it was never written out; get it again",
            size(head.size),
        )
    for at, signature, impostor in _SIGNATURES:
        if first[at : at + len(signature)] == signature:
            return impostor
    # Eight bytes for the length of a header in JSON: that it fits into the file tells it from a pickle.
    if first[8:10] == b'{"' and int.from_bytes(first[:8], "little") <= head.size - 8:
        return _SAFETENSORS
    return _text(head)


def _text(head: Head) -> Impostor | None:
    """Text that came instead of a file: a web page, a Git LFS pointer, an error body."""
    first = head.first.lstrip(b"\xef\xbb\xbf \t\r\n")
    if first.startswith(b"version https://git-lfs.github.com/spec/"):
        return _pointer(first)
    if re.match(rb"(?i)<(!doctype html|html|head|body|script)", first):
        return _page(first)
    if first.startswith((b"<?xml", b"<Error")):
        return Impostor("an XML document, such as a storage service sends instead of a file", "check the link")
    if re.match(rb'[{\[]\s*(["{\[\]}0-9tfn-]|$)', first) and b"\0" not in first:
        return Impostor("a JSON document", "an index or an error message; the weights are in another file")
    if re.match(rb"(?i)(404|403|not found|access denied|invalid username)", first):
        return Impostor(
            "an error message instead of a file",
            "check the link",
            shown(first[:60].decode("latin-1")),
        )
    return None


def _pointer(first: bytes) -> Impostor:
    length = re.search(rb"^size (\d{1,18})$", first, re.MULTILINE)
    oid = re.search(rb"^oid sha256:([0-9a-f]{64})$", first, re.MULTILINE)
    found = f"sha256 {oid[1].decode()}" if oid else ""
    what = f" to a file of {size(int(length[1]))}" if length else ""
    return Impostor(f"a Git LFS pointer{what}, not the file itself", "git lfs pull", found)


def _page(first: bytes) -> Impostor:
    title = re.search(rb"(?is)<title[^>]*>(.*?)</title", first)
    words = html.unescape(title[1].decode("utf-8", "replace")).strip() if title else ""
    hint = "the link leads to a page about the file; download the file itself"
    if "virus scan" in words.lower():
        hint = "Google Drive asks for a confirmation first; use gdown with the file's id"
    return Impostor("a web page" + (f": {shown(words)}" if words else ""), hint)
