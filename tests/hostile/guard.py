"""The audit hook: while a file is being opened, nothing else may happen.

Python reports every import, every `exec`, every opened file, process and socket to audit hooks, from C, before it
happens. `guarded` lets through a few events that are no effects at all, and the opening of the one file that was
asked for; any other event ends the test, also one that this table has never heard of. An event is refused (so the
effect does not happen) and remembered (so that code which swallows the refusal fails all the same).

An audit hook can never be removed; ours is added once in a process and sleeps outside of `guarded`.

`watch_every_opening` puts the same guard around every opening of the session, whichever test it is for: from the moment
when the file is open until its checkpoint is there, the thread that reads may do nothing at all.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rehydrate.formats import opening

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
    breaches: list[str]


class _Reading(threading.local):
    """Whether this thread is just reading a file that some test opened, and what happened meanwhile."""

    is_on = False
    breach = ""


_reading = _Reading()


def _hook(event: str, args: tuple[object, ...]) -> None:
    if event in HARMLESS:
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


def _is_the_file(args: tuple[object, ...]) -> bool:
    path, mode, flags = args
    if _State.path is None or not isinstance(path, (str, os.PathLike)):
        return False
    reads = not isinstance(mode, str) or not set(mode) & set("wax+")
    return reads and isinstance(flags, int) and not flags & _WRITES and os.fspath(path) == _State.path


@contextmanager
def guarded(path: str | os.PathLike[str] | None = None) -> Iterator[None]:
    """Nothing may happen inside but the reading of `path`; modules and folder are afterwards as before.

    What opening needs must be imported before; `warm` does it.
    """
    _install()
    modules, folder = set(sys.modules), os.getcwd()
    was_enabled = gc.isenabled()
    gc.disable()  # finalizers of an earlier test are not the reader's doing
    _State.breaches = []
    _State.path = None if path is None else os.fspath(path)
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

    def watched(*args: object) -> object:
        if _State.is_awake or _reading.is_on:
            return read(*args)
        _reading.is_on, _reading.breach = True, ""
        try:
            return read(*args)
        finally:
            _reading.is_on = False
            if _reading.breach:
                raise GuardBreached(_reading.breach)

    opening._read = watched


def warm() -> None:
    """Import what opening an honest file imports; nothing that only a hostile file would need."""
    import numpy  # noqa: F401

    import rehydrate as rh

    from .archives import torch_zip
    from .assembler import empty_dict, pickle_of, tensor, unicode

    with rh.open(pickle_of(empty_dict)) as checkpoint:
        str(checkpoint)
    with rh.open(torch_zip(pickle_of(empty_dict + unicode("w") + tensor() + b"s"))) as checkpoint:
        str(checkpoint)
        checkpoint["w"].numpy()
