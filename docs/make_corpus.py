"""Makes docs/corpus.md: every real file of the test data, what it is, what came out, and torch's answer beside ours.

    REHYDRATE_TEST_DATA=... python docs/make_corpus.py            writes the page
    REHYDRATE_TEST_DATA=... python docs/make_corpus.py --check    exit code 1 if the page is not what it would write

torch's answers are those of the index that lies beside the files; nothing here calls torch. "Opens" means more than an
index: every tensor is read.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import rehydrate as rh
from rehydrate.errors import RebuildError
from rehydrate.text import counted, shown, size

PAGE = Path(__file__).with_name("corpus.md")
LONGEST = 110
"""Characters of a cell."""


@dataclass(frozen=True)
class Row:
    """One file."""

    path: str
    kind: str
    nbytes: int
    ours: str
    is_open: bool
    torch: str
    is_open_in_torch: bool


def looked_at(folder: Path, entry: dict[str, object]) -> Row:
    """What rehydrate makes of one file."""
    path = str(entry["path"])
    try:
        with rh.open(folder / path) as checkpoint:
            unread = sum(not _reads(ref) for ref in checkpoint.values())
            ours, is_open = _said(checkpoint) + (f"; the numbers of {unread:,} are elsewhere" if unread else ""), True
    except rh.RehydrateError as error:
        ours, is_open = f"{type(error).__name__}: {error.what}", False
    torch_opens = bool(entry["torch_load_weights_only"])
    said = "opens" if torch_opens else str(entry["torch_error"]).split(". ")[0]
    return Row(path, str(entry["kind"]), int(str(entry["size"])), ours, is_open, said, torch_opens)


def _reads(ref: rh.TensorRef) -> bool:
    """Whether the numbers are in this file; not those of the meta device, nor of a pickle without its zip."""
    try:
        ref.numpy()
    except RebuildError:
        return False
    return True


def _said(checkpoint: rh.Checkpoint) -> str:
    try:
        weights = checkpoint.weights()
        model = f"; model: {counted(len(weights), 'tensor')}" if len(weights) != len(checkpoint) else ""
    except rh.RehydrateError as error:
        model = f"; {error.what}" if len(checkpoint) else ""
    return f"{checkpoint.format}, {counted(len(checkpoint), 'tensor')}{model}"


def page(rows: list[Row]) -> Iterator[str]:
    """The page's lines."""
    ours, theirs = sum(row.is_open for row in rows), sum(row.is_open_in_torch for row in rows)
    yield "# The corpus"
    yield ""
    yield (
        f"{len(rows)} real checkpoint files from public repositories. rehydrate opens {ours} of them and reads every "
        f"tensor that is in them; `torch.load(weights_only=True)` (2.13) opens {theirs}. What does not open is no file "
        "of tensors, and the sentence says what it is instead."
    )
    yield ""
    yield "Made by `docs/make_corpus.py`; the files themselves are not part of the project."
    yield ""
    kinds: dict[str, list[Row]] = {}
    for row in rows:
        kinds.setdefault(row.kind, []).append(row)
    yield "| kind | files | rehydrate opens | torch opens |"
    yield "|---|--:|--:|--:|"
    for kind, members in sorted(kinds.items(), key=lambda pair: -len(pair[1])):
        opened, in_torch = sum(row.is_open for row in members), sum(row.is_open_in_torch for row in members)
        yield f"| {_cell(kind)} | {len(members)} | {opened} | {in_torch} |"
    for kind, members in sorted(kinds.items(), key=lambda pair: -len(pair[1])):
        yield ""
        yield f"## {kind}"
        yield ""
        yield "| file | size | rehydrate | torch.load(weights_only=True) |"
        yield "|---|--:|---|---|"
        for row in members:
            yield f"| {_cell(row.path)} | {size(row.nbytes)} | {_cell(row.ours)} | {_cell(row.torch)} |"


def _cell(text: str) -> str:
    """Text of anybody's, so that it is only text in a table."""
    safe = shown(text, LONGEST)
    for sign in "\\|<>`*_[]":
        safe = safe.replace(sign, f"\\{sign}" if sign != "<" else "&lt;")
    return safe


def main() -> int:
    """Write the page, or compare it."""
    data = os.environ.get("REHYDRATE_TEST_DATA")
    if not data:
        sys.exit("REHYDRATE_TEST_DATA names no folder of real files")
    folder = Path(data, "checkpoints")
    entries = json.loads((folder / "index.json").read_text())
    text = "\n".join(page([looked_at(folder, entry) for entry in entries])) + "\n"
    if "--check" in sys.argv[1:]:
        return int(text != PAGE.read_text())
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
