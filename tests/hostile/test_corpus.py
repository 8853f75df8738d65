"""Real files of strangers, opened under the guard: each opens or is refused with a reason, and nothing happens."""

from __future__ import annotations

import json
from pathlib import Path

import rehydrate as rh
from rehydrate.errors import RehydrateError

from .examining import check_message, look
from .guard import guarded


def test_opening_any_real_file_does_nothing_but_read_it(guard: object, test_data: Path) -> None:
    folder = test_data / "checkpoints"
    entries = json.loads((folder / "index.json").read_text("utf-8"))
    opened = 0
    for entry in entries:
        path = folder / entry["path"]
        with guarded(path, beside=True):  # some are one file of a set
            try:
                checkpoint = rh.open(path)
            except RehydrateError as error:
                check_message(error)
            else:
                opened += 1
                with checkpoint:
                    look(checkpoint)
    assert opened >= len([entry for entry in entries if entry["kind"] == "torch zip"])
