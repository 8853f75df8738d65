"""Text in place of a file: pointers to it, settings beside it, code about it, and files that were harmed as text.

Asked only where no format of ours takes the file, because pickles of protocols 0 and 1 are text, too. Quotes what it
found; never parses further than the first bytes.
"""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as NoBase64

from rehydrate.formats.contract import Head
from rehydrate.formats.impostors.impostor import Impostor
from rehydrate.formats.impostors.pages import by_message, by_page, by_xml
from rehydrate.text import shown, size

__all__ = ["by_text", "harmed_as_text", "is_text"]

_BLANKS = b"\xef\xbb\xbf \t\r\n"
_LONG_ERROR = 4000
"""Bytes that no error message has; longer documents talk about errors for other reasons."""
_WIDE = (b"\xff\xfe", b"\xfe\xff")
_CONTROLS = bytes({*range(32)} - set(b"\t\n\r\f\x1b")) + b"\x7f"

_JSON: tuple[tuple[bytes, Impostor], ...] = (
    (rb'"nbformat"|"cell_type"', Impostor("a Jupyter notebook", "it may show how the weights are downloaded")),
    (rb'"weight_map"', Impostor(
        "a JSON file with an index of shards, without the tensors", "open the folder that it lies in")),
    (rb'"(error|errors|message|detail)"\s*:', Impostor("an error message in JSON", "check the link")),
    (rb'"peft_type"|"lora_alpha"', Impostor(
        "a JSON file with the settings of an adapter", "the weights are in adapter_model.safetensors beside it")),
    (rb'"(model_type|architectures|hidden_size|transformers_version|_class_name)"', Impostor(
        "a JSON file with the settings of a model", "the weights are in another file of the same folder")),
    (rb'"(added_tokens|vocab|merges|tokenizer_class)"', Impostor(
        "a JSON file with a tokenizer", "the weights are in another file of the same folder")),
    (rb'"(modelTopology|weightsManifest)"', Impostor(
        "a JSON file with the layers of a TensorFlow.js model", "the weights are in the .bin files beside it")),
    (rb'"class_name"\s*:', Impostor("a JSON file with the layers of a Keras model", "its weights are in a .h5 file")),
    (rb'"(nodes|arg_nodes|attrs)"\s*:', Impostor(
        "a JSON file with the graph of an MXNet model", "the parameters are in the .params file beside it")),
)  # fmt: skip
"""What is in a JSON document, by a word of it."""

_LINES: tuple[tuple[bytes, Impostor], ...] = (
    (rb"#!.*\b(sh|bash|zsh)\b", Impostor("a shell script", "read it before you run it; it may download the weights")),
    (rb"#!.*python", Impostor("Python source code", "it is code about a model, not its weights")),
    (rb"#(include|ifndef|pragma) ", Impostor("C source code", "it is code about a model, not its weights")),
    (rb"7767517\r?$", Impostor("the description of an NCNN model (.param)", "its weights are in a .bin file")),
    (rb"\[(net|network)\]", Impostor("the description of a Darknet model (.cfg)", "its weights are in .weights")),
    (rb"diff --git |--- a/", Impostor("a patch", "apply it in the repository that it is for")),
    (rb"tree\r?$|version=v\d", Impostor("a LightGBM model", "lightgbm.Booster(model_file=...) reads it")),
    (rb"outs:\s*$|- md5: [0-9a-f]{32}", Impostor("a pointer of DVC, not the file itself", "dvc pull FILE")),
    (rb"# xet version", Impostor("a pointer of Xet, not the file itself", "git xet install, then git pull")),
    (rb"[\w.-]+ *(==|>=|~=) *\d[\w.]*(\s*;.*)?\r?$", Impostor("a list of packages to install (requirements)")),
    (rb"---\r?$", Impostor("a page of text with a header (YAML), such as a model card", "the weights are beside it")),
    (rb"#{1,3} \S.*\n\s*\n|.*\n=+\r?$", Impostor(
        "a page of text (Markdown), such as a README", "the weights are beside it")),
    (rb"(solver|net|layers?|name|input|node)\s*(:\s*\".*\"|\{)\s*", Impostor(
        "the description of a Caffe or TensorFlow model (prototxt)", "the weights are in another file beside it")),
    (rb"\[\w[\w .-]*\]\r?$", Impostor("a file of settings (INI or TOML)", "the weights are in another file")),
    (rb"[\w.-]+:( .*)?\r?$", Impostor("a file of settings (YAML)", "the weights are in another file")),
    (rb"\S+( -?\d+\.\d+(e-?\d+)?){3,}\r?$", Impostor("a table of word vectors in text (GloVe)", "gensim reads it")),
    (rb"\d+ \d+\r?$", Impostor("a table of numbers or of word vectors in text", "numpy.loadtxt or gensim reads it")),
)  # fmt: skip
"""What the first line that says anything looks like. The first that fits is right."""

_PYTHON = re.compile(
    rb"^(import \w[\w.]*( as \w+)?|from \w[\w.]* import .*|def \w+\(.*|class \w+.*:)\r?$", re.MULTILINE
)
"""A line that is Python and nothing else; before it there are comments."""

_PACKED = re.compile(
    rb"PK\x03\x04|\x80[\x02\x03]([}\])(XU]|c[a-z]|\x8a\n)|\x80[\x04\x05]\x95|\x1f\x8b\x08|\x93NUMPY|\x89HDF"
)
"""What the files begin with that people send as base64, or with something in front."""
_HARMED = (b"\xef\xbf\xbd", b"\xc2\x80\x02", b"\xc2\x80\x03", b"\xc2\x80\x04", b"\xc2\x80\x05", b"\x1f\xc2\x8b")
"""What becomes of a byte above 7f that was read as text: the mark for "no character", or two bytes."""


_ANNEX = re.compile(rb"(\.\./)*(\.git)?/?annex/objects/\S*?(?:-s(\d{1,18}))?(?:-\S*)?\s*$")
"""What git-annex leaves: a path to the content, whose name tells the kind of its hash and its length."""


def is_text(data: bytes) -> bool:
    """Whether this is text in UTF-8, apart from a character that the end cuts in two."""
    try:
        data[:-3].decode("utf-8")
        data.decode("utf-8", "ignore")
    except UnicodeDecodeError:
        return False
    return data.translate(None, _CONTROLS) == data


def by_text(head: Head) -> Impostor | None:
    """What a text is, or None where the file is none."""
    first = head.first
    if first[:2] in _WIDE and len(first) >= 4:
        return _wide(first)
    body = first.lstrip(_BLANKS)
    special = _pointer(body) or by_page(body) or by_xml(body) or _in_front(first, body)
    if special is not None:
        return special
    if not is_text(first):
        return None
    if not body:
        return Impostor("nothing but blanks", "the download or the save did not happen; get it again")
    return (
        by_message(body)
        or _json(body, head.size)
        or _base64(body, head.size)
        or _symbolic_link(first, head)
        or _plain(body)
    )


def harmed_as_text(head: Head) -> Impostor | None:
    """A binary file that was read as text and written again: every byte above 7f is lost or became two."""
    first = head.first
    at = min((at for mark in _HARMED if 0 <= (at := first.find(mark)) < 512), default=-1)
    if at < 0 or is_text(first):
        return None
    try:
        first[:-3].decode("utf-8")
    except UnicodeDecodeError:
        return None
    return Impostor(
        "a binary file that was read as text and written again; bytes of it are lost",
        "download it again as binary, and mark it so in .gitattributes: *.pth binary",
        f"{first[max(at - 4, 0) : at + 8].hex(' ')} at byte {max(at - 4, 0):,}",
    )


def _pointer(body: bytes) -> Impostor | None:
    """What a tool leaves in place of a large file."""
    if body.startswith((b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/")):
        length = re.search(rb"^size (\d{1,18})\r?$", body, re.MULTILINE)
        oid = re.search(rb"^oid sha256:([0-9a-f]{64})\r?$", body, re.MULTILINE)
        what = f" to a file of {size(int(length[1]))}" if length else ""
        return Impostor(
            f"a Git LFS pointer{what}, not the file itself",
            "git lfs pull --include FILE",
            f"sha256 {oid[1].decode()}" if oid else "",
        )
    annex = _ANNEX.match(body) if len(body) < 1000 else None
    if annex:
        what = f" to a file of {size(int(annex[3]))}" if annex[3] else ""
        return Impostor(f"a pointer of git-annex{what}, not the file itself", "git annex get FILE", _line(body))
    return None


def _in_front(first: bytes, body: bytes) -> Impostor | None:
    """A file with something in front of it: the headers of a server's answer, the borders of an upload, a blank."""
    response = re.match(rb"HTTP/\d(\.\d)? (\d{3})[^\n]*\n", first)
    end = re.search(rb"\r?\n\r?\n", first)
    at = end.end() if end else 0
    if response:
        inside = by_page(first[at:].lstrip(_BLANKS)) if at else None
        what = f", and then {inside.what}" if inside else ""
        hint = inside.hint if inside else _cut(at)
        return Impostor("a server's answer with its headers" + what, hint, _line(first))
    if first.startswith(b"--") and end and re.search(rb"(?i)content-disposition:", first[:at]):
        return Impostor("an upload with its borders, not the file alone", _cut(at), _line(first))
    at = len(first) - len(body)
    if at and _PACKED.match(body):
        return Impostor("a file with blanks in front of it", _cut(at), first[:at].hex(" ", 1)[:60])
    return None


def _cut(at: int) -> str:
    return f"take them off and open what is left: tail -c +{at + 1} FILE > whole.pth" if at else "download it again"


def _json(body: bytes, length: int) -> Impostor | None:
    if not re.match(rb'[{\[]\s*(["{\[\]}0-9-]|true|false|null|$)', body):
        return None
    found = next((impostor for pattern, impostor in _JSON if re.search(pattern, body)), None)
    if found is None or ("error" in found.what and length > _LONG_ERROR):
        return Impostor("a JSON document", "an index or an error message; the weights are in another file", _line(body))
    if "error" not in found.what:
        return found
    said = re.search(rb'"(?:error|errors|message|detail)"\s*:\s*"([^"]{1,300})', body)
    return Impostor(found.what, found.hint, shown(said[1].decode("utf-8", "replace"), 80) if said else _line(body))


def _base64(body: bytes, length: int) -> Impostor | None:
    """A file that was sent as letters."""
    line = body.split(None, 1)[0][:64]
    if length < 100 or len(line) < 32:
        return None
    try:
        data = b64decode(line[: len(line) // 4 * 4], validate=True)
    except NoBase64:
        return None
    if not _PACKED.match(data):
        return None
    return Impostor("a file in base64: letters that stand for its bytes", "base64 -d FILE > decoded.pth", _line(body))


def _symbolic_link(first: bytes, head: Head) -> Impostor | None:
    """A line that is a path and nothing else: how git stores a symbolic link, and what Windows makes of it."""
    if head.size > 300 or not re.fullmatch(rb"[\w. /\\:+@-]*[/\\][\w. +@-]*\.\w{1,12}", first):
        return None
    return Impostor(
        "a path, as git leaves it where there was a symbolic link", "open the file that it names", _line(first)
    )


def _plain(body: bytes) -> Impostor:
    line = next(line for line in body.splitlines() if line.strip())
    for pattern, impostor in _LINES:
        if re.match(pattern, body, re.MULTILINE):
            return Impostor(impostor.what, impostor.hint, _line(line))
    if _PYTHON.search(body):
        return Impostor("Python source code", "it is code about a model, not its weights", _line(line))
    rows = body.splitlines()[:5]
    commas = {row.count(b",") for row in rows[: max(len(rows) - 1, 1)]}
    if len(commas) == 1 and commas != {0} and len(rows) > 1:
        return Impostor("a table in text (CSV)", "pandas.read_csv reads it", _line(line))
    return Impostor("plain text", "look at it; it may say where the file is", _line(line))


def _wide(first: bytes) -> Impostor | None:
    """Text of two bytes a character, as PowerShell writes what goes through `>`; of English, every other is zero."""
    at = 2 if first[:2] == _WIDE[0] else 3
    text = first[at::2]
    if first[5 - at :: 2].strip(b"\0") or not is_text(text) or not text.strip():
        return None
    inside = by_text(Head(text, b"", len(text)))
    what = f": {inside.what.removeprefix('a ')}" if inside else ""
    return Impostor(
        "text of two bytes a character (UTF-16)" + what, "PowerShell's > writes it; use -OutFile", _line(text)
    )


def _line(text: bytes) -> str:
    """The first line, as far as one reads it."""
    lines = text[:400].splitlines()
    return shown(lines[0].decode("utf-8", "replace").strip(), 80) if lines else ""
