"""Files that are no checkpoint, made by their own libraries where one is at hand: each is named; no checkpoint is."""

from __future__ import annotations

import base64
import csv
import gzip
import io
import json
import math
import pickle
import plistlib
import py_compile
import sqlite3
import struct
import tarfile
import wave
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import rehydrate as rh
from rehydrate.formats.impostors.signatures import SIGNATURES

from ..effort import tried

NUMBERS = numpy.random.default_rng(4).normal(0, 0.1, 4000).astype("<f4").tobytes()


def varint(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*made, value])


def field(number: int, value: int | bytes | str) -> bytes:
    """One field of a protobuf message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def picture(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((24, 24), 60).convert("L").save(buffer, kind)
    return buffer.getvalue()


def recording() -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(1000))
    return buffer.getvalue()


def data_base() -> bytes:
    with sqlite3.connect(":memory:") as base:
        base.execute("create table weights (name text, value real)")
        return base.serialize()


def module(folder: Path) -> bytes:
    (folder / "net.py").write_text("weights = 3\n")
    return Path(py_compile.compile(str(folder / "net.py"), str(folder / "net.pyc"), doraise=True)).read_bytes()


def table() -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([["epoch", "loss", "accuracy"], [1, 0.5, 0.8], [2, 0.4, 0.9], [3, 0.3, 0.95]])
    return buffer.getvalue().encode()


def saved(obj: object, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(obj, buffer, **options)
    return buffer.getvalue()


def darknet() -> bytes:
    return struct.pack("<3iq", 0, 2, 5, 32013312) + NUMBERS


LAYER = field(1, "conv1") + field(2, "Convolution") + field(7, field(5, NUMBERS[:400]))
NODE = field(1, "input") + field(2, "Placeholder") + field(5, b"")
POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 102530333\n"
)

MADE: dict[str, tuple[Callable[[], bytes], tuple[str, ...]]] = {
    # with the library itself
    **{
        kind: ((lambda kind=kind: picture(kind)), (f"this is a {kind} picture",))
        for kind in ("PNG", "JPEG", "GIF", "TIFF", "BMP")
    },
    "WebP": (lambda: picture("WEBP"), ("this is a WebP picture",)),
    "icon": (lambda: picture("ICO"), ("an icon of Windows",)),
    "JPEG 2000": (lambda: picture("JPEG2000"), ("a JPEG 2000 picture",)),
    "PDF": (lambda: picture("PDF"), ("this is a PDF document",)),
    "WAV": (recording, ("a WAV recording",)),
    "SQLite": (data_base, ("an SQLite data base", "sqlite3")),
    "property list": (lambda: plistlib.dumps({"a": 1}, fmt=plistlib.FMT_BINARY), ("a property list",)),
    "CSV": (table, ("a table in text (CSV)", "epoch,loss,accuracy")),
    "JSON": (lambda: json.dumps({"a": [1, 2]}).encode(), ("a JSON document",)),
    "JSON list": (lambda: json.dumps([1, 2, 3]).encode(), ("a JSON document",)),
    "notebook": (
        lambda: json.dumps({"cells": [{"cell_type": "code", "source": []}], "nbformat": 4}, indent=1).encode(),
        ("a Jupyter notebook",),
    ),
    "settings": (
        lambda: json.dumps({"architectures": ["BertModel"], "model_type": "bert"}).encode(),
        ("the settings of a model", "weights are in another file"),
    ),
    "adapter": (lambda: json.dumps({"peft_type": "LORA", "r": 8}).encode(), ("the settings of an adapter",)),
    "empty zip": (lambda: zipfile.ZipFile(out := io.BytesIO(), "w").close() or out.getvalue(), ("an empty zip",)),
    "source code": (lambda: Path(__file__).read_bytes(), ("Python source code",)),
    # web pages and what servers say
    "page": (
        lambda: b"<!DOCTYPE html>\n<html><head><title>resnet18 &middot; Hugging Face</title></head></html>",
        ("a web page: resnet18 · Hugging Face", "/resolve/"),
    ),
    "page with comments": (
        lambda: b"\xef\xbb\xbf\n<!-- a --> <!-- b -->\n<HTML><title>x</title>",
        ("a web page: x",),
    ),
    "Drive": (
        lambda: b"<!DOCTYPE html><html><title>Google Drive - Virus scan warning</title>",
        ("a web page: Google Drive - Virus scan warning", "gdown"),
    ),
    "Drive's limit": (
        lambda: b"<!DOCTYPE html><html><title>Google Drive - Quota exceeded</title>",
        ("Quota exceeded", "copy of your own"),
    ),
    "Drive's sign-in": (
        lambda: b"<!doctype html><html><title>Sign in - Google Accounts</title>",
        ("Sign in - Google Accounts", "not shared with everybody"),
    ),
    "Cloudflare": (
        lambda: b"<!DOCTYPE html><html lang='en-US'><head><title>Just a moment...</title>",
        ("Just a moment", "see a browser"),
    ),
    "GitHub": (
        lambda: b"<!DOCTYPE html><html><title>models/net.pth at main \xc2\xb7 o/r \xc2\xb7 GitHub</title>",
        ("net.pth at main", "/raw/"),
    ),
    "Dropbox": (lambda: b"<!DOCTYPE html><html><title>Dropbox - net.pth</title>", ("dl=1",)),
    "SharePoint": (lambda: b"<!DOCTYPE html><html><title>Sign in</title><script>sharepoint", ("a web page: Sign in",)),
    "404 page": (lambda: b"<html><head><title>404 Not Found</title>", ("404 Not Found", "another link")),
    "S3": (
        lambda: b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code>'
        b"<Message>Request has expired</Message></Error>",
        ("AccessDenied", "Request has expired", "make a new one"),
    ),
    "S3 without a file": (lambda: b"<Error><Code>NoSuchKey</Code></Error>", ("NoSuchKey", "no such file")),
    "XML": (lambda: b'<?xml version="1.0"?><a/>', ("an XML document",)),
    "OpenVINO": (lambda: b'<?xml version="1.0" ?>\n<net name="net" version="11">', ("an OpenVINO model", ".bin")),
    "Entry not found": (lambda: b"Entry not found", ("an error message instead of a file", "Entry not found")),
    "404": (lambda: b"404: Not Found", ("an error message", "404: Not Found")),
    "Not found.": (lambda: b"Not found.", ("an error message", "Not found.")),
    "sign-in": (lambda: b"Invalid username or password.", ("an error message", "hf auth login")),
    "GitHub's JSON": (lambda: b'{"message":"Not Found","status":"404"}', ("an error message in JSON", "Not Found")),
    "Hugging Face's JSON": (
        lambda: b'{"error":"Repository not found"}',
        ("an error message in JSON", "Repository not found"),
    ),
    "an answer with headers": (
        lambda: b"HTTP/1.1 200 OK\r\nContent-Type: x\r\n\r\n" + saved({"w": torch.ones(2)}),
        ("a server's answer with its headers", "tail -c +37"),
    ),
    "an upload": (
        lambda: b"------WebKitFormBoundaryX\r\nContent-Disposition: form-data\r\n\r\n" + saved([1]),
        ("an upload with its borders", "tail -c"),
    ),
    # pointers
    "Git LFS": (lambda: POINTER, ("a Git LFS pointer to a file of 102.5 MB", "git lfs pull --include")),
    "Git LFS on Windows": (lambda: POINTER.replace(b"\n", b"\r\n"), ("pointer to a file of 102.5 MB", "sha256 4d7a")),
    "git-annex": (
        lambda: b"/annex/objects/SHA256E-s4096--" + b"0" * 64 + b".pth\n",
        ("a pointer of git-annex to a file of 4.1 kB", "git annex get"),
    ),
    "DVC": (lambda: b"outs:\n- md5: a304afb96060aad90176268345e10355\n  size: 5\n", ("a pointer of DVC", "dvc pull")),
    "a symbolic link": (lambda: b"../weights/resnet18.pth", ("symbolic link", "../weights/resnet18.pth")),
    # what systems and tools make
    "macOS": (lambda: b"\0\x05\x16\x07\0\x02\0\0Mac OS X" + bytes(100), ("AppleDouble", "without ._")),
    "7-Zip": (lambda: b"7z\xbc\xaf\x27\x1c" + bytes(100), ("a 7-Zip archive", "7z x")),
    "RAR": (lambda: b"Rar!\x1a\x07\x01\0" + bytes(100), ("a RAR archive",)),
    "zstd": (lambda: b"\x28\xb5\x2f\xfd" + NUMBERS, ("zstd-compressed", "zstd -d")),
    "lz4": (lambda: b"\x04\x22\x4d\x18" + NUMBERS, ("lz4-compressed", "lz4 -d")),
    "disc": (lambda: bytes(32769) + b"CD001" + bytes(5000), ("an image of a disc",)),
    "ELF": (lambda: b"\x7fELF\x02\x01\x01" + bytes(100), ("ELF",)),
    "Windows": (lambda: b"MZ" + bytes(200), ("a program for Windows",)),
    "gpg": (lambda: b"-----BEGIN PGP MESSAGE-----\n\nhQ", ("encrypted by gpg", "gpg -o")),
    "a key": (lambda: b"-----BEGIN OPENSSH PRIVATE KEY-----\n", ("a key in PEM", "secrets")),
    # other models
    "ONNX": (
        lambda: field(1, 8) + field(2, "pytorch") + field(3, "2.1.0") + field(7, NUMBERS) + field(8, field(2, 17)),
        ("an ONNX model", "made by pytorch"),
    ),
    "ONNX without a producer": (lambda: field(1, 7) + field(7, NUMBERS) + field(8, field(2, 13)), ("an ONNX model",)),
    "GraphDef": (lambda: field(1, NODE) + field(1, NODE), ("a graph of TensorFlow", "its first node is input")),
    "SavedModel": (lambda: field(1, 1) + field(2, field(1, field(2, b"x")) + NUMBERS), ("a SavedModel of TensorFlow",)),
    "TensorFlow's index": (lambda: NUMBERS[:500] + b"\x57\xfb\x80\x8b\x24\x75\x47\xdb", ("a TensorFlow checkpoint",)),
    "TensorFlow Lite": (lambda: b"\x1c\0\0\0TFL3" + bytes(100), ("a TensorFlow Lite model",)),
    "Core ML": (lambda: field(1, 4) + field(2, field(1, field(1, "x"))) + field(500, NUMBERS), ("a Core ML model",)),
    "Caffe": (lambda: field(1, "CaffeNet") + field(100, LAYER) * 2, ("a Caffe model", "CaffeNet")),
    "Caffe's text": (lambda: b'name: "CaffeNet"\nlayer {\n  name: "data"\n}\n', ("prototxt",)),
    "MXNet": (lambda: struct.pack("<3Q", 0x112, 0, 2) + NUMBERS, ("MXNet",)),
    "Darknet": (darknet, ("Darknet's weights", "version 0.2.5")),
    "Darknet's text": (lambda: b"[net]\nbatch=64\n", ("a Darknet model",)),
    "NCNN": (lambda: b"7767517\n75 83\nInput data 0 1 data\n", ("an NCNN model",)),
    "flax": (lambda: b"\x82\xa6params\x81\xa5Dense" + NUMBERS, ("a msgpack file", "params")),
    "MATLAB": (lambda: b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\1IM" + bytes(100), ("scipy.io",)),
    "word2vec": (lambda: b"3 4\nthe " + struct.pack("<4f", 1, 2, 3, 4) + b"\n", ("word vectors", "word2vec")),
    "GloVe": (lambda: b"the 0.1 -0.2 0.3\nof 0.4 0.5 1.5e-3\n", ("word vectors", "GloVe")),
    "R": (lambda: gzip.compress(b"X\n\0\0\0\2\0\3\6\0" + bytes(40)), ("an R object",)),
    "sentencepiece": (
        lambda: field(1, field(1, "<unk>") + varint(2 << 3 | 5) + struct.pack("<f", 0) + field(3, 2)) * 3,
        ("a sentencepiece vocabulary",),
    ),
    "bare numbers": (lambda: NUMBERS, ("invalid magic number", "float32 numbers and nothing else")),
    # text
    "shell": (lambda: b"#!/bin/bash\nwget https://example.org/net.pth\n", ("a shell script",)),
    "requirements": (lambda: b"torch==2.1.0\nnumpy>=1.24\n", ("a list of packages",)),
    "README": (lambda: b"# My model\n\nDownload it from the releases.\n", ("a README",)),
    "model card": (lambda: b"---\nlicense: mit\n---\n# x\n", ("a model card",)),
    "YAML": (lambda: b"model:\n  name: resnet\n  depth: 18\n", ("settings (YAML)",)),
    "prose": (lambda: b"I had trouble with this file.", ("plain text", "I had trouble")),
    "UTF-16": (lambda: "<html><title>Oops</title>".encode("utf-16"), ("UTF-16", "web page: Oops")),
    "blanks": (lambda: b"\r\n \n\t\n", ("nothing but blanks",)),
    # files that were harmed
    "nothing": (lambda: b"", ("an empty file",)),
    "one byte": (lambda: b"\x80", ("a file of 1 byte",)),
    "zeros": (lambda: bytes(100_000), ("nothing but zeros", "100.0 kB")),
    "zeros at the beginning": (lambda: bytes(50_000) + NUMBERS, ("zeros at its beginning, and data", "byte 50,0")),
    "a blank in front": (lambda: b"\n" + saved({"w": torch.ones(2)}), ("blanks in front", "tail -c +2")),
    "a mark of UTF-8 in front": (lambda: b"\xef\xbb\xbf" + saved([1]), ("blanks in front", "tail -c +4")),
    "base64": (lambda: base64.encodebytes(saved({"w": torch.ones(2)})), ("base64", "base64 -d")),
    "read as Latin-1": (
        lambda: pickle.dumps({"w": [1.5] * 9, "n": 300}, 2).decode("latin-1").encode("utf-8"),
        ("read as text and written again",),
    ),
    "read as UTF-8": (
        lambda: saved({"w": torch.arange(9.0)}, _use_new_zipfile_serialization=False)
        .decode("utf-8", "replace")
        .encode(),
        ("read as text and written again",),
    ),
    "noise": (lambda: numpy.random.default_rng(1).bytes(9001), ("invalid magic number", "like noise")),
}  # fmt: skip


@pytest.mark.parametrize("name", MADE)
def test_what_is_no_checkpoint_is_named_with_what_to_do(name: str, tmp_path: Path) -> None:
    make, words = MADE[name]
    path = tmp_path / "net.pth"
    path.write_bytes(make())
    with pytest.raises(rh.NotACheckpointError) as caught:
        rh.open(path)
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


def test_a_compiled_module_is_named(tmp_path: Path) -> None:
    with pytest.raises(rh.NotACheckpointError, match="a compiled Python module"):
        rh.open(module(tmp_path))


def test_the_command_in_a_hint_names_the_file_so_that_a_shell_takes_it(tmp_path: Path) -> None:
    path = tmp_path / "my net.pth"
    path.write_bytes(POINTER)
    with pytest.raises(rh.NotACheckpointError) as caught:
        rh.open(path)
    assert caught.value.hint == f"git lfs pull --include '{path}'"


@pytest.mark.parametrize("row", SIGNATURES, ids=lambda row: f"{row[2].what} {row[1][:8]!r}")
def test_every_signature_is_met(row: tuple[int, bytes, Any]) -> None:
    at, signature, impostor = row
    with pytest.raises(rh.RehydrateError) as caught:
        rh.open(bytes(at) + signature + bytes(600))
    refused_by_a_format = not isinstance(caught.value, rh.NotACheckpointError)
    assert refused_by_a_format or impostor.what in str(caught.value) or at in (8, 16, 257), str(caught.value)


# Honest files are never called anything else.

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=40)
    | st.binary(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8), inner, max_size=4)
        | st.tuples(inner, inner)
        | st.builds(OrderedDict, st.dictionaries(st.text(max_size=8), inner, max_size=3))
    ),
    max_leaves=12,
)


@tried(400)
@given(value=VALUES, protocol=st.integers(0, 5))
def test_no_pickle_is_called_an_impostor(value: object, protocol: int) -> None:
    with rh.open(pickle.dumps(value, protocol)) as checkpoint:
        assert checkpoint.format == "pickle"


ROOTS: dict[str, object] = {
    "a string like a page": "<!DOCTYPE html><html><title>x</title>",
    "a string like a pointer": POINTER.decode(),
    "bytes like a picture": picture("PNG"),
    "a number like a signature": struct.unpack(">d", b"IF89a\0\0\0")[0],
    "a dictionary like JSON": {"error": "Not found", "message": "x"},
    "a list of strings": ["import os", "404: Not Found"],
    "nothing": None,
    "a tuple": (),
    "a float": math.pi,
    "a long number": 10**40,
    "a set": {1, 2},
    "an array": numpy.arange(5.0),
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", ROOTS)
def test_no_pickle_of_odd_roots_is_called_an_impostor(name: str, protocol: int) -> None:
    with rh.open(pickle.dumps(ROOTS[name], protocol)) as checkpoint:
        assert checkpoint.format == "pickle"


@pytest.mark.parametrize("protocol", range(2, 6))
def test_no_file_of_torch_is_called_an_impostor(protocol: int) -> None:
    tree = {"state_dict": torch.nn.Linear(3, 2).state_dict(), "epoch": 3, "note": "<html>"}
    with rh.open(saved(tree, pickle_protocol=protocol)) as checkpoint:
        assert checkpoint.format == "torch-zip"
    with rh.open(saved(tree, pickle_protocol=protocol, _use_new_zipfile_serialization=False)) as checkpoint:
        assert checkpoint.format == "torch-legacy"


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (["[Content_Types].xml", "word/document.xml"], "a Word document"),
        (["META-INF/MANIFEST.MF", "a/B.class"], "a Java archive"),
        (["net/__init__.py", "net-1.0.dist-info/WHEEL", "net-1.0.dist-info/RECORD"], "a package of Python"),
        (["AndroidManifest.xml", "classes.dex"], "an Android app"),
        (["model/saved_model.pb", "model/variables/variables.index"], "a SavedModel of TensorFlow"),
        (["repo-main/README.md", "repo-main/train.py"], "an archive of source code"),
        (["digits/1.png", "digits/2.png"], "an archive with pictures"),
    ],
)
def test_an_archive_that_is_something_of_its_own_is_named(names: list[str], what: str, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"something that is no checkpoint")
    with pytest.raises(rh.NotACheckpointError, match=f"zip archive, {what}"):
        rh.open(buffer.getvalue())


def test_a_tar_that_holds_no_checkpoint_is_no_checkpoint() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("README.md"))
    with pytest.raises(rh.NotACheckpointError, match="tar"):
        rh.open(buffer.getvalue())
