"""C2: files that people have under the name of a checkpoint, and that are none; the refusal says what they are."""

from __future__ import annotations

import base64
import io
import tarfile

from .archives import Entry, torch_zip, zip_of
from .assembler import call, empty_dict, pickle_of, setitem, tensor, unicode
from .case import is_no_checkpoint

_PICKLE = pickle_of(empty_dict, unicode("w"), tensor(), setitem)
_EVIL = pickle_of(call("os", "system", unicode("id")))


def _tar(name: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


_POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 102530333\n"
)
_PAGE = b"<!DOCTYPE html>\n<html><head><title>resnet18 &middot; Hugging Face</title></head><body></body></html>"

CASES = (
    is_no_checkpoint("C2 nothing", b"", "an empty file"),
    is_no_checkpoint("C2 zeros", bytes(10_000), "zeros"),
    *(
        is_no_checkpoint(f"C2 the one byte {byte:#x}", bytes((byte,)), "this is")
        for byte in (0x2E, 0x4E, 0x50, 0x80, 0xFF)
    ),
    is_no_checkpoint("C2 a Git LFS pointer", _POINTER, "a Git LFS pointer to a file of 102.5 MB"),
    is_no_checkpoint("C2 a Git LFS pointer without a size", _POINTER.split(b"size")[0], "a Git LFS pointer"),
    is_no_checkpoint(
        "C2 a Git LFS pointer with a size beyond all",
        _POINTER.replace(b"1025", b"9" * 400), "a Git LFS pointer",
    ),
    is_no_checkpoint("C2 a web page", _PAGE, "a web page: resnet18 · Hugging Face"),
    is_no_checkpoint("C2 a web page after empty lines", b"\n\r\n  " + _PAGE, "a web page"),
    is_no_checkpoint("C2 a web page after a mark of UTF-8", b"\xef\xbb\xbf" + _PAGE, "a web page"),
    is_no_checkpoint("C2 a web page without a title", b"<html><body>no", "a web page"),
    is_no_checkpoint(
        "C2 a web page whose title moves the cursor",
        b"<html><title>\x1b[2J\nok: safe file\r&#x2028;\xe2\x80\xae</title>", r"\x1b[2J\nok: safe file\r\u2028\u202e",
    ),
    is_no_checkpoint(
        "C2 a web page with a title of many kilobytes",
        b"<html><title>" + b"A" * 3000 + b"</title>", "a web page",
    ),
    is_no_checkpoint(
        "C2 Google Drive's warning", b"<!DOCTYPE html><title>Google Drive - Virus scan warning</title>", "gdown"
    ),
    is_no_checkpoint(
        "C2 a storage service's error",
        b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML",
    ),
    is_no_checkpoint("C2 JSON", b'{"model_type": "bert"}', "a JSON file"),
    is_no_checkpoint("C2 JSON on several lines", b'{\n  "error": "Not found."\n}', "an error message in JSON"),
    is_no_checkpoint("C2 JSON that ends with a dot", b'["Not found."', "a JSON document"),
    is_no_checkpoint("C2 JSON beyond ASCII", '{"fehler": "gehört dir nicht"}'.encode(), "a JSON document"),
    is_no_checkpoint("C2 JSON that is a list of numbers", b"[1, 2, 3]", "a JSON document"),
    is_no_checkpoint("C2 an error message", b"Not Found", "an error message instead of a file"),
    is_no_checkpoint("C2 an error message with an escape", b"404: \x1b[31m", r"\x1b[31m"),
    is_no_checkpoint("C2 7-Zip", b"7z\xbc\xaf\x27\x1c" + bytes(100), "a 7-Zip archive"),
    *(
        is_no_checkpoint(f"C2 {word}", magic + bytes(100), f"a {word} ")
        for word, magic in (("ggml", b"lmgg"), ("ggmf", b"fmgg"), ("ggjt", b"tjgg"), ("ggla", b"algg"))
    ),
    is_no_checkpoint("C2 RAR", b"Rar!\x1a\x07\x01\x00" + bytes(100), "a RAR archive"),
    is_no_checkpoint("C2 tar", _tar("net.pth"), "a tar archive"),
    is_no_checkpoint("C2 torch's own old tar", _tar("storages"), "a tar archive"),
    is_no_checkpoint("C2 ExecuTorch", b"\x1c\0\0\0ET12" + bytes(100), "an ExecuTorch program"),
    is_no_checkpoint("C2 a picture", b"\x89PNG\r\n\x1a\n" + bytes(100), "a PNG picture"),
    is_no_checkpoint("C2 a PDF", b"%PDF-1.7\n", "a PDF document"),
    is_no_checkpoint("C2 a zip of names that move the cursor", zip_of(Entry(b"\x1b[2J\n", b"x")), r"\x1b[2J\n"),
    is_no_checkpoint(
        "C2 Keras",
        zip_of(Entry(b"metadata.json", b"{}"), Entry(b"model.weights.h5", b"x")), "a zip archive",
    ),
    *(
        is_no_checkpoint(f"C2 {name} that moves the cursor", content, r"\x1b")
        for name, content in (
            ("an annex pointer", b"/annex/objects/SHA256-s5--\x1b[2J"),
            ("a code of a storage service", b"<Error><Code>X</Code><Message>\x1b[2J</Message></Error>"),
            ("a message in JSON", b'{"error": "\x1b[2J"}'),
            ("an answer with headers", b"HTTP/1.1 200 \x1b[2J\r\n\r\n"),
            ("a first line", b"some \x1b[2J words\n"),
        )
    ),
    is_no_checkpoint("C2 a page of comments without end", b"<!--" * 1000, "plain text"),
    is_no_checkpoint("C2 a page of comments and nothing else", b"<!---->" * 580 + b"x", "plain text"),
    is_no_checkpoint("C2 titles without end", b"<html>" + b"<title>" * 580, "a web page"),
    is_no_checkpoint("C2 four hundred and four without end", b"<html><title>" + b"404" * 1350, "a web page"),
    is_no_checkpoint("C2 a pointer of annex without end", b"/annex/objects/" + b"-s1-" * 200, "annex"),
    is_no_checkpoint("C2 a message of fields without end", b"\x08\x01" * 2000, "this is"),
    is_no_checkpoint("C2 a number without end", b"\xff" * 4000, "no checkpoint"),
    is_no_checkpoint("C2 braces without end", b"{" * 4096, "JSON"),
    is_no_checkpoint("C2 a megabyte of blanks", b" " * 1_000_000, "nothing but blanks"),
    is_no_checkpoint("C2 zeros and then a zip", bytes(10_000) + torch_zip(_PICKLE), "zeros at its beginning"),
    is_no_checkpoint("C2 a blank and then a zip", b"\n" + torch_zip(_PICKLE), "blanks in front"),
    is_no_checkpoint("C2 an HTTP header and then a pickle", b"HTTP/1.1 200 OK\r\n\r\n" + _EVIL, "tail -c +20"),
    is_no_checkpoint("C2 a pickle in base64", base64.b64encode(pickle_of(unicode("x" * 200))), "base64"),
    is_no_checkpoint("C2 text of two bytes a character without a partner", b"\xff\xfe\x00\xd8" * 100, "this is"),
    is_no_checkpoint("C2 prose", b"I had trouble with this file.", "plain text"),
    is_no_checkpoint("C2 prose that begins like an old string", b"Very well.\nIt works.", "plain text"),
    is_no_checkpoint("C2 source code", b"import os\nos.system('id').", "Python source code"),
    is_no_checkpoint("C2 a pickle of protocol 200", b"\x80\xc8N.", "no checkpoint"),
    is_no_checkpoint("C2 noise", bytes(range(200, 256)) * 40, "no checkpoint"),
)  # fmt: skip
