"""Python's own unpickler with the real classes of those names that we build plain values for, beside ours.

It runs in a process of its own, with little memory and an alarm: a class of Python's may be asked for anything. The
process reads pickles from its standard input and writes, for each, one line of JSON: what came of it, in a word, or
where the two differ.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import resource
import signal
import struct
import subprocess
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

__all__ = ["DIFFERENT", "REFUSED", "SAME", "STRANGE", "outcomes"]

MEMORY = 3 << 30
SECONDS = 20
SAME, REFUSED, STRANGE, DIFFERENT = "same", "one of the two refuses", "we keep it as a record", "different: "
_OLD = {"xrange": "range", "long": "int", "unicode": "str"}
_WAYS = frozenset((module, name) for module in ("copyreg", "copy_reg") for name in ("_reconstructor", "__newobj__"))


def _real() -> type[pickle.Unpickler]:
    from rehydrate.pickles.late_names import CONSTRUCTORS as LATE
    from rehydrate.pickles.python_names import CONSTRUCTORS, TYPES

    allowed = {*CONSTRUCTORS, *LATE, *TYPES, *_WAYS}

    class Real(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> object:
            if (module, name) not in allowed:
                raise pickle.UnpicklingError("a stranger")
            if module == "__builtin__":
                module, name = "builtins", _OLD.get(name, name)
            return getattr(import_module("copyreg" if module == "copy_reg" else module), name)

    return Real


def _theirs(real: type[pickle.Unpickler], data: bytes) -> list[object]:
    """The value in a list; nothing where it refuses, or would read on."""
    file = io.BytesIO(data)
    try:
        value = real(file, fix_imports=False, encoding="utf-8").load()
    except Exception:  # noqa: BLE001 - it refused, for whatever reason
        return []
    return [value] if file.tell() == len(data) else []


def _compared(real: type[pickle.Unpickler], data: bytes) -> str:
    import rehydrate as rh

    from .alike import difference

    theirs = _theirs(real, data)
    try:
        with rh.open(data) as checkpoint:
            ours = checkpoint.tree
    except rh.RehydrateError:
        return REFUSED
    if not theirs:
        return REFUSED
    try:
        said = difference(ours, theirs[0])
    except RecursionError:  # it holds itself
        return STRANGE
    if "checkpoint.record.Record" in said:
        return STRANGE
    return DIFFERENT + said if said else SAME


def main() -> None:
    """Answer until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    real = _real()
    while length := sys.stdin.buffer.read(4):
        data = sys.stdin.buffer.read(struct.unpack("<I", length)[0])
        signal.alarm(SECONDS)
        sys.stdout.write(json.dumps(_compared(real, data)) + "\n")
        signal.alarm(0)


def outcomes(pickles: Sequence[bytes]) -> list[str]:
    """What came of each, in that order."""
    done = subprocess.run(
        [sys.executable, "-c", "from tests.pickles.builder import main; main()"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
        input=b"".join(struct.pack("<I", len(data)) + data for data in pickles),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # Python's bytearray complains there when its state is made up
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]
