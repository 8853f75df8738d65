"""The audit hook: while a file is being opened, nothing else may happen.

Python reports every import, every `exec`, every opened file, process and socket to audit hooks, from C, before it
happens. `guarded` lets through a few events that are no effects at all, the opening of the one file that was asked for,
and the start of the one process that reads the index of HDF5 files; any other event ends the test, also one that this
table has never heard of. An event is refused (so the effect does not happen) and remembered (so that code which
swallows the refusal fails all the same).

An audit hook can never be removed; ours is added once in a process and sleeps outside of `guarded`.

`watch_every_opening` puts the same guard around every opening of the session, whichever test it is for: from the moment
when the file is open until its checkpoint is there, the thread that reads may do nothing at all.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from rehydrate.formats import opening
from rehydrate.formats.contract import Request
from rehydrate.formats.hdf5.apart import SCRIPT
from rehydrate.storage.source import Source

HARMLESS = frozenset(
    {
        "builtins.id",
        "object.__getattr__",
        "sys._getframe",
        "sys._getframemodulename",
    }
)
"""Events without an effect: looking at an object's identity, at a frame."""

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class GuardBreached(BaseException):
    """Something happened while a file was being opened."""


class _State:
    """Whether it is awake, and the one path that may be opened. Every thread is watched."""

    is_installed = False
    is_awake = False
    path: str | None = None
    folder: str | None = None
    """Where other files may be read, too, for a checkpoint that is several."""
    breaches: list[str]


class _Reading(threading.local):
    """Whether this thread is just reading a file that some test opened, and what happened meanwhile."""

    is_on = False
    breach = ""


_reading = _Reading()


def _hook(event: str, args: tuple[object, ...]) -> None:
    if event in HARMLESS or _is_the_reader_of_hdf5(event, args):
        return
    if _reading.is_on:
        _reading.is_on = False  # describing the event must not be watched
        _reading.breach = f"while a file was being opened: {event}{args!r}"[:500]
        _reading.is_on = True
        raise GuardBreached(_reading.breach)
    if not _State.is_awake or (event == "open" and _is_the_file(args)):
        return
    _State.is_awake = False  # describing the event must not be watched
    try:
        description = f"{event}{args!r}"[:500]
    finally:
        _State.is_awake = True
    _State.breaches.append(description)
    raise GuardBreached(description)


def _is_the_reader_of_hdf5(event: str, args: tuple[object, ...]) -> bool:
    """Our own script in a process of its own, with nothing of the file in its command; and the two pipes to it.

    It confines itself, see `formats/hdf5/index`. Taking up a descriptor that is open already opens nothing.
    """
    if event == "open":
        return isinstance(args[0], int)
    return event == "subprocess.Popen" and args[:3] == (sys.executable, [sys.executable, "-P", SCRIPT], None)


def _is_the_file(args: tuple[object, ...]) -> bool:
    path, mode, flags = args
    if _State.path is None or not isinstance(path, (str, os.PathLike)):
        return False
    reads = not isinstance(mode, str) or not set(mode) & set("wax+")
    is_it = os.fspath(path) == _State.path or os.path.dirname(os.fspath(path)) == _State.folder
    return reads and isinstance(flags, int) and not flags & _WRITES and is_it


@contextmanager
def guarded(path: str | os.PathLike[str] | None = None, *, beside: bool = False) -> Iterator[None]:
    """Nothing may happen inside but the reading of `path`; modules and folder are afterwards as before.

    `beside` lets files of the same folder be read.

    What opening needs must be imported before; `warm` does it.
    """
    _install()
    modules, folder = set(sys.modules), os.getcwd()
    was_enabled = gc.isenabled()
    gc.disable()  # finalizers of an earlier test are not the reader's doing
    _State.breaches = []
    _State.path = None if path is None else os.fspath(path)
    _State.folder = os.path.dirname(os.fspath(path)) if path is not None and beside else None
    _State.is_awake = True
    try:
        yield
    finally:
        _State.is_awake = False
        if was_enabled:
            gc.enable()
    if _State.breaches:
        raise GuardBreached("; ".join(_State.breaches))
    if set(sys.modules) != modules:
        raise GuardBreached(f"modules changed: {sorted(set(sys.modules) ^ modules)}")
    if os.getcwd() != folder:
        raise GuardBreached(f"the working folder is now {os.getcwd()}")


def _install() -> None:
    if not _State.is_installed:
        sys.addaudithook(_hook)
        _State.is_installed = True


def watch_every_opening() -> None:
    """From now on, nothing may happen while any test's file is read, in the thread that reads it."""
    warm()
    _install()
    read = opening._read

    def watched(source: Source, request: Request) -> object:
        if _State.is_awake or _reading.is_on:
            return read(source, request)
        if request.beside is not None:
            request = replace(request, beside=_unwatched(request.beside))
        _reading.is_on, _reading.breach = True, ""
        try:
            return read(source, request)
        finally:
            _reading.is_on = False
            if _reading.breach:
                raise GuardBreached(_reading.breach)

    opening._read = watched


def _unwatched(open_beside: Callable[[str], Source]) -> Callable[[str], Source]:
    """The one way to another file that a format is given; what it lets through has tests of its own."""

    def opened(name: str) -> Source:
        was_on, _reading.is_on = _reading.is_on, False
        try:
            return open_beside(name)
        finally:
            _reading.is_on = was_on

    return opened


def warm() -> None:
    """Import what opening an honest file imports; nothing that only a hostile file would need."""
    import numpy  # noqa: F401

    import rehydrate as rh

    from .archives import torch_zip
    from .assembler import empty_dict, pickle_of, tensor, unicode
    from .gguf_files import gguf_of, info
    from .hdf5_files import Fields, hdf5_of

    with rh.open(pickle_of(empty_dict)) as checkpoint:
        str(checkpoint)
    with rh.open(hdf5_of(Fields(layout=2))) as checkpoint:
        str(checkpoint)
        checkpoint["g.w"].numpy()
    with rh.open(gguf_of([info("w", (32,), 2)], data=bytes(18))) as checkpoint:
        checkpoint["w"].numpy()
    with rh.open(torch_zip(pickle_of(empty_dict + unicode("w") + tensor() + b"s"))) as checkpoint:
        str(checkpoint)
        checkpoint["w"].numpy()
