"""The only place that prints: data on stdout, everything else on stderr, one JSON object where that was asked for.

What comes out of a file has been through `text.shown` by the time it gets here; nothing is interpreted as markup.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence

from rehydrate.errors import MismatchError, RehydrateError

__all__ = ["WIDTH", "answer", "failed", "note", "problem_of", "rows", "say"]

SCHEMA_VERSION = 1
WIDTH = 79
"""Columns of a line; a terminal of 80 does not wrap it."""


def say(text: str = "") -> None:
    """A line of the answer."""
    sys.stdout.write(_encodable(text, sys.stdout.encoding) + "\n")


def note(text: str) -> None:
    """A line beside the answer: progress, errors."""
    sys.stderr.write(_encodable(text, sys.stderr.encoding) + "\n")
    sys.stderr.flush()


def answer(
    command: str,
    results: Sequence[Mapping[str, object]],
    problems: Sequence[Mapping[str, object]] = (),
    *,
    ok: bool = True,
) -> None:
    """The JSON object of a command."""
    whole = {
        "schema_version": SCHEMA_VERSION,
        "command": command,
        "ok": ok,
        "results": list(results),
        "problems": list(problems),
    }
    sys.stdout.write(json.dumps(whole, ensure_ascii=True, allow_nan=False) + "\n")


def failed(error: RehydrateError, *, command: str, as_json: bool) -> int:
    """Say what went wrong, and the exit code for it."""
    if as_json:
        answer(command, [], [problem_of(error)], ok=False)
    else:
        note(f"rehydrate: {error}")
    return 1 if isinstance(error, MismatchError) else 2


def problem_of(error: RehydrateError) -> dict[str, object]:
    """An error as one entry of `problems`."""
    words = re.findall(r"[A-Z][a-z]*", type(error).__name__.removesuffix("Error"))
    return {
        "code": "-".join(word.lower() for word in words),
        "severity": "error",
        "message": error.what,
        "hint": error.hint,
        "where": error.where,
    }


def rows(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Labelled lines, each wrapped to the width under its own label.

    >>> rows([("holds", "8 tensors"), ("saved on", "cuda:0")])
    ['  holds     8 tensors', '  saved on  cuda:0']
    """
    lines: list[str] = []
    for label, text in pairs:
        for number, piece in enumerate(_wrapped(text, WIDTH - 12)):
            lines.append(f"  {label if number == 0 else '':<9} {piece}")
    return lines


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of at most `width`, broken at spaces, and inside a word that is longer."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split(" "):
            if line and len(line) + 1 + len(word) > width:
                lines.append(line)
                line = word
            else:
                line = f"{line} {word}" if line else word
            while len(line) > width:
                lines.append(line[:width])
                line = line[width:]
        lines.append(line)
    return lines


def _encodable(text: str, encoding: str | None) -> str:
    """The text with what the stream cannot show replaced, so that no terminal makes a report fail."""
    name = encoding or "ascii"
    return text.encode(name, "backslashreplace").decode(name)
