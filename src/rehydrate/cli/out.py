"""The only place that prints: data on stdout, everything else on stderr, one JSON object where that was asked for.

What comes out of a file has been through `text.shown` by the time it gets here; nothing is interpreted as markup.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TextIO

from rehydrate.errors import MismatchError, RehydrateError
from rehydrate.text import columns

__all__ = [
    "LONGEST_PATH", "WIDTH", "answer", "complain", "failed", "first_columns", "note", "problem_of", "progress", "rows",
    "say",
]  # fmt: skip

SCHEMA_VERSION = 1
WIDTH = 79
"""Columns of a line; a terminal of 80 does not wrap it."""
LONGEST_PATH = 4096
"""Columns of a path that is given whole; systems allow no longer one."""
_LABEL = 12
"""Columns that a labelled line begins with."""


def say(text: str = "") -> None:
    """A line of the answer."""
    _write(sys.stdout, text)


def note(text: str) -> None:
    """A line beside the answer: what went wrong."""
    _write(sys.stderr, text)


def progress(text: str) -> None:
    """A line for somebody who watches; a file or a program that reads stderr gets none."""
    if sys.stderr is not None and sys.stderr.isatty():
        _write(sys.stderr, text)


def _write(stream: TextIO | None, text: str) -> None:
    """A line in whatever encoding the stream has: what it cannot show is escaped, so no terminal fails a report."""
    if stream is None:  # started with the descriptor closed
        return
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    if stream is sys.stderr:
        stream.flush()


def answer(
    command: str,
    results: Sequence[Mapping[str, object]],
    problems: Sequence[Mapping[str, object]] = (),
    *,
    ok: bool = True,
) -> None:
    """The JSON object of a command: one result for each input, also for those that failed."""
    whole = {
        "schema_version": SCHEMA_VERSION,
        "command": command,
        "ok": ok,
        "results": list(results),
        "problems": list(problems),
    }
    try:
        text = json.dumps(whole, allow_nan=False)
    except ValueError:  # JSON has no word for what is not a number
        text = json.dumps(_finite(whole), allow_nan=False)
    _write(sys.stdout, text)


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def failed(error: RehydrateError, *, command: str, as_json: bool) -> int:
    """Say what went wrong, and the exit code for it."""
    if as_json:
        answer(command, [], [problem_of(error)], ok=False)
    else:
        complain(error)
    return 1 if isinstance(error, MismatchError) else 2


def complain(error: RehydrateError) -> None:
    """An error as a person reads it: what happened, where, what was found, what to try."""
    labelled = (("where", error.where), ("found", error.found), ("try", error.hint))
    lines = rows((label, text) for label, text in labelled if text)
    note("\n".join([*_wrapped(f"rehydrate: {error.what}", WIDTH), *lines]))


def problem_of(error: RehydrateError) -> dict[str, object]:
    """An error as one entry of `problems`. The code is its class: `NotACheckpointError` is `not-a-checkpoint`.

    >>> from rehydrate.errors import CorruptError
    >>> problem_of(CorruptError("the index is cut", where="net.pth", found="12 bytes"))["message"]
    'net.pth: the index is cut: 12 bytes'
    """
    name = type(error).__name__.removesuffix("Error")
    code = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("-")
    parts = (error.where, error.what, *error.found.split("\n"))
    return {
        "code": code,
        "severity": "error",
        "message": ": ".join(part for part in parts if part),
        "hint": error.hint,
    }


def rows(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Labelled lines, each wrapped to the width under its own label.

    >>> rows([("holds", "8 tensors"), ("saved on", "cuda:0")])
    ['  holds     8 tensors', '  saved on  cuda:0']
    """
    lines: list[str] = []
    for label, text in pairs:
        for number, piece in enumerate(_wrapped(text, WIDTH - _LABEL)):
            lines.append(f"  {label if number == 0 else '':<9} {piece}")
    return lines


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of at most `width` columns, broken at spaces, and inside a word that is longer."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split(" "):
            if line and columns(line) + 1 + columns(word) > width:
                lines.append(line)
                line = word
            else:
                line = f"{line} {word}" if line else word
            while columns(line) > width:
                first = first_columns(line, width)
                lines.append(first)
                line = line[len(first) :]
        lines.append(line)
    return lines


def first_columns(text: str, width: int) -> str:
    """As much of the beginning as takes at most `width` columns."""
    end = min(len(text), width)
    while columns(text[:end]) > width:
        end -= 1
    return text[:end]
