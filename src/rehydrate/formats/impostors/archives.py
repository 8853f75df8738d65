"""Zip and tar archives that are something of their own, though no checkpoint: told by the names of what is in them.

Asked when none of the files inside could be opened. Office documents, packages and programs are zips, too, and what is
called `.pth` or `.zip` may be any of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from rehydrate.formats.impostors.impostor import Impostor

__all__ = ["by_members"]

_LOOKED_AT = 1000
"""Names that are looked at."""
_PACKAGE = Impostor("a package of Python, not weights", "pip install FILE installs it, if you trust whoever made it")

_MEMBERS: tuple[tuple[str, Impostor], ...] = (
    (r"word/document\.xml", Impostor("a Word document")),
    (r"xl/workbook\.(xml|bin)", Impostor("an Excel workbook", "pandas.read_excel reads it")),
    (r"ppt/presentation\.xml", Impostor("a PowerPoint presentation")),
    (r"AndroidManifest\.xml", Impostor("an Android app", "a model may be in its assets/: unzip it and look")),
    (r"Payload/[^/]+\.app/.*", Impostor("an iOS app", "a model may be in it: unzip it and look")),
    (r"META-INF/MANIFEST\.MF", Impostor("a Java archive (jar)")),
    (r"META-INF/container\.xml", Impostor("an electronic book (EPUB)")),
    (r"content\.xml", Impostor("an OpenDocument file of LibreOffice")),
    (r"[^/]+\.dist-info/(WHEEL|METADATA)", _PACKAGE),
    (r"([^/]+/)?(EGG-INFO/)?PKG-INFO", _PACKAGE),
    (r"(.*/)?com\.apple\.CoreML/.*|(.*/)?[^/]+\.mlmodelc?(/.*)?", Impostor(
        "a Core ML model", "coremltools reads it; ask for what it was converted from")),
    (r"(.*/)?saved_model\.pb", Impostor(
        "a SavedModel of TensorFlow", "TensorFlow reads it; its weights are in variables/")),
    (r"(.*/)?checkpoint|(.*/)?[^/]+\.ckpt[^/]*\.(index|meta|data-\d+-of-\d+)", Impostor(
        "a TensorFlow checkpoint", "tf.train.load_checkpoint reads it, once it is unpacked")),
    (r"(.*/)?[^/]+\.params", Impostor("a model of MXNet", "mxnet.gluon reads it, once it is unpacked")),
    (r"(.*/)?[^/]+\.onnx", Impostor("an archive with an ONNX model", "onnx.load reads it, once it is unpacked")),
    (r"(.*/)?[^/]+\.(jpe?g|png|bmp|webp)", Impostor("an archive with pictures, and no model among them")),
    (r"(.*/)?[^/]+\.py", Impostor("an archive of source code, and no weights among it")),
)  # fmt: skip
"""What a member is called, and what an archive with it is. The first that any member fits is right."""


def by_members(names: Iterable[str]) -> Impostor | None:
    """What an archive with members of these names is, or None."""
    looked_at = [name.removeprefix("./") for name, _ in zip(names, range(_LOOKED_AT), strict=False)]
    for pattern, impostor in _MEMBERS:
        if any(re.fullmatch(pattern, name) for name in looked_at):
            return impostor
    return None
