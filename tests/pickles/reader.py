"""Python's own unpicklers, in C and in Python, in a process of their own with little memory and an alarm.

Nothing that a pickle names is imported: every name gives an inert class of that name, which notes what is done to it.
The process reads pickles from its standard input and writes, for each, one line of JSON: the outlines that both
unpicklers give, null for one that refused. It is the one oracle that opens pickles which we did not write ourselves.
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
from collections.abc import Callable
from pathlib import Path

MEMORY = 2 << 30
SECONDS = 20


class Inert:
    """What every name stands for: a class that does nothing but note what it was given."""

    def __new__(cls, *args: object, **kwargs: object) -> Inert:
        made = object.__new__(cls)
        made.args, made.kwargs, made.state, made.items = args, kwargs, None, []
        return made

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __call__(self, *args: object) -> Inert:
        return Call(self, *args)

    def __setstate__(self, state: object) -> None:
        self.state = state

    def append(self, item: object) -> None:
        self.items.append(item)

    def extend(self, items: list[object]) -> None:
        self.items.extend(items)

    def add(self, item: object) -> None:
        self.items.append(item)

    def __setitem__(self, key: object, value: object) -> None:
        self.items.append((key, value))


class Call(Inert):
    """What calling the result of a call gives."""

    path = ("", "call")


class PersistentId(Inert):
    """What a persistent id gives."""

    path = ("", "persistent_id")


def _reader(base: type) -> type:
    class Reader(base):  # type: ignore[misc]
        def __init__(self, file: io.BytesIO) -> None:
            super().__init__(file, fix_imports=False, encoding="utf-8")
            self.classes: dict[tuple[str, str], type] = {}

        def find_class(self, module: str, name: str) -> type:
            known = self.classes.get((module, name))
            if known is None:
                known = self.classes[module, name] = type("Inert", (Inert,), {"path": (module, name)})
            return known

        def persistent_load(self, token: object) -> object:
            return PersistentId(token)

    return Reader


def _describe(value: object) -> tuple[object, list[object]]:
    if isinstance(value, type) and issubclass(value, Inert):
        return (*value.path, True, 0, [], 0), [None]  # type: ignore[attr-defined]
    if isinstance(value, Inert):
        label = (*value.path, False, len(value.args), sorted(value.kwargs), len(value.items))  # type: ignore[attr-defined]
        return label, [*value.args, *(value.kwargs[key] for key in sorted(value.kwargs)), value.state, *value.items]
    raise TypeError(f"an outline of {type(value)}")


def _read(reader: type, data: bytes) -> str | None:
    from pickles.outlines import outline

    file = io.BytesIO(data)
    try:
        value = reader(file).load()
        return repr(outline(value, _describe)) + f" {file.tell()}"
    except Exception:  # noqa: BLE001 - it refused, for whatever reason
        return None


def main() -> None:
    """Answer until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    readers = _reader(pickle.Unpickler), _reader(pickle._Unpickler)  # type: ignore[attr-defined]
    while length := sys.stdin.buffer.read(4):
        data = sys.stdin.buffer.read(struct.unpack("<I", length)[0])
        signal.alarm(SECONDS)
        answer = [_read(reader, data) for reader in readers]
        signal.alarm(0)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


class Oracle:
    """Both unpicklers, asked from here; started again when a pickle has killed them."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self, data: bytes) -> tuple[str | None, str | None]:
        """The outlines that C and Python give, None where one refuses or dies."""
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(struct.pack("<I", len(data)) + data)
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            self.close()
            return None, None
        in_c, in_python = json.loads(line)
        return in_c, in_python

    def _start(self) -> subprocess.Popen[bytes]:
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from pickles.reader import main; main()"],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        return self._process

    def close(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


Ask = Callable[[bytes], tuple[str | None, str | None]]
