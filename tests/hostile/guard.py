"""The audit hook: while a file is being opened, nothing else may happen.

Python reports every import, every `exec`, every opened file, process and socket to audit hooks, from C, before it
happens. `guarded` lets through a few events that are no effects at all, and the opening of the one file that was
asked for; any other event ends the test, also one that this table has never heard of. An event is refused (so the
effect does not happen) and remembered (so that code which swallows the refusal fails all the same).

An audit hook can never be removed; ours is added once in a process and sleeps outside of `guarded`.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

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


class GuardBreached(BaseException):  # noqa: N818 - not an Exception: no `except Exception` may swallow it
    """Something happened while a file was being opened."""


class _State:
    """Whether it is awake, and the one path that may be opened. Every thread is watched."""

    is_installed = False
    is_awake = False
    path: str | None = None
    breaches: list[str]


def _hook(event: str, args: tuple[object, ...]) -> None:
    if not _State.is_awake or event in HARMLESS:
        return
    if event == "open" and _is_the_file(args):
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
    if not _State.is_installed:
        sys.addaudithook(_hook)
        _State.is_installed = True
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


def warm() -> None:
    """Import what opening an honest file imports; nothing that only a hostile file would need."""
    import numpy  # noqa: F401

    import rehydrate as rh

    from .assembler import empty_dict, pickle_of, tensor, torch_zip, unicode

    with rh.open(pickle_of(empty_dict)) as checkpoint:
        str(checkpoint)
    with rh.open(torch_zip(pickle_of(empty_dict + unicode("w") + tensor() + b"s"))) as checkpoint:
        str(checkpoint)
