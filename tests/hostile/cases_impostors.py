"""C2: files that people have under the name of a checkpoint, and that are none; the refusal says what they are."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import struct
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
_JSON_HEADER = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
_SAFETENSORS = struct.pack("<Q", len(_JSON_HEADER)) + _JSON_HEADER + bytes(4)
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03." + _EVIL

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
    is_no_checkpoint("C2 JSON", b'{"weight_map": {"w": "model-00001.safetensors"}}', "a JSON document"),
    is_no_checkpoint("C2 JSON on several lines", b'{\n  "error": "Not found."\n}', "a JSON document"),
    is_no_checkpoint("C2 JSON that ends with a dot", b'["Not found."', "a JSON document"),
    is_no_checkpoint("C2 JSON beyond ASCII", '{"fehler": "gehört dir nicht"}'.encode(), "a JSON document"),
    is_no_checkpoint("C2 JSON that is a list of numbers", b"[1, 2, 3]", "a JSON document"),
    is_no_checkpoint("C2 an error message", b"Not Found", "an error message instead of a file"),
    is_no_checkpoint("C2 an error message with an escape", b"404: \x1b[31m", r"\x1b[31m"),
    is_no_checkpoint("C2 7-Zip", b"7z\xbc\xaf\x27\x1c" + bytes(100), "a 7-Zip archive"),
    is_no_checkpoint("C2 RAR", b"Rar!\x1a\x07\x01\x00" + bytes(100), "a RAR archive"),
    is_no_checkpoint("C2 gzip", gzip.compress(torch_zip(_PICKLE)), "gzip-compressed"),
    is_no_checkpoint("C2 bzip2", bz2.compress(_EVIL), "bzip2-compressed"),
    is_no_checkpoint("C2 xz", lzma.compress(_EVIL), "xz-compressed"),
    is_no_checkpoint("C2 tar", _tar("net.pth"), "a tar archive"),
    is_no_checkpoint("C2 torch's own old tar", _tar("storages"), "a tar archive"),
    is_no_checkpoint("C2 a tar of a name that begins like a pickle", _tar("cos\nsystem\n(S'id'\ntR."), "a tar archive"),
    is_no_checkpoint("C2 HDF5", b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file"),
    is_no_checkpoint("C2 a numpy array", b"\x93NUMPY\x01\x00v\x00{'descr': '<f4'}", "a numpy array"),
    is_no_checkpoint("C2 safetensors", _SAFETENSORS, "a safetensors file"),
    is_no_checkpoint("C2 GGUF", b"GGUF\x03\0\0\0" + bytes(100), "a GGUF file"),
    is_no_checkpoint("C2 ExecuTorch", b"\x1c\0\0\0ET12" + bytes(100), "an ExecuTorch program"),
    is_no_checkpoint("C2 Torch7", b"\x04\0\0\0\x01\0\0\0\x03\0\0\0V 1\x0d\0\0\0nn.Sequential", "Torch7"),
    is_no_checkpoint("C2 a picture", b"\x89PNG\r\n\x1a\n" + bytes(100), "a PNG picture"),
    is_no_checkpoint("C2 a PDF", b"%PDF-1.7\n", "a PDF document"),
    is_no_checkpoint("C2 a torch file from before 1.6", _LEGACY, "legacy stream"),
    is_no_checkpoint("C2 numpy arrays in a zip", zip_of(Entry(b"w.npy", b"\x93NUMPY")), "a zip archive"),
    is_no_checkpoint("C2 a zip of names that move the cursor", zip_of(Entry(b"\x1b[2J\n.npy")), r"\x1b[2J\n.npy"),
    is_no_checkpoint(
        "C2 Keras",
        zip_of(Entry(b"metadata.json", b"{}"), Entry(b"model.weights.h5", b"x")), "a zip archive",
    ),
    is_no_checkpoint("C2 prose", b"I had trouble with this file.", "no checkpoint"),
    is_no_checkpoint("C2 prose that begins like an old string", b"Very well.\nIt works.", "no checkpoint"),
    is_no_checkpoint("C2 source code", b"import os\nos.system('id').", "no checkpoint"),
    is_no_checkpoint("C2 a pickle of protocol 200", b"\x80\xc8N.", "no checkpoint"),
    is_no_checkpoint("C2 noise", bytes(range(200, 256)) * 40, "no checkpoint"),
)  # fmt: skip
