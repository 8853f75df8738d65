"""Files that are either the old one or the new one, complete, and never something between.

A new file is written under a temporary name in the same folder, synced, renamed over the old one, and the folder is
synced too: after `commit` returns, both the bytes and the name are on the disk. Until then the old file is untouched,
and `abandon` (or a crash) leaves nothing under the real name. The mode is the old file's, or what the umask allows;
until the new file has it, nobody else can read along. A symbolic link stays, and its target is replaced.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rehydrate.errors import SaveError
from rehydrate.text import shown

__all__ = ["Sink", "replacing"]

_LARGEST_WRITE = 1 << 30
"""Bytes of one write call; the kernel cuts longer ones."""


class Sink:
    """Bytes being written, one after the other, to what will be `path`."""

    def __init__(self, path: str | os.PathLike[str], *, durable: bool = True) -> None:
        self.path = os.fspath(path)
        self.position = 0
        self._durable = durable
        with _named_errors(self.path):
            self._target = os.path.realpath(self.path)
            self._folder, name = os.path.split(self._target)
            self._mode = _mode_of(self._target)
            self._temporary = os.path.join(self._folder, _temporary_name(name))
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            flags |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)  # Unix has the one, Windows the other
            self._descriptor = os.open(self._temporary, flags, 0o666 if self._mode is None else 0o600)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes."""
        view = memoryview(data).cast("B")
        with _named_errors(self.path):
            while view:
                count = os.write(self._descriptor, view[:_LARGEST_WRITE])
                self.position += count
                view = view[count:]

    def commit(self) -> None:
        """Make what was written the file, on the disk."""
        with _named_errors(self.path):
            if self._mode is not None:
                os.chmod(self._temporary, self._mode)
            if self._durable:
                os.fsync(self._descriptor)
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)
            os.replace(self._temporary, self._target)
        if self._durable:
            _sync_folder(self._folder, self.path)

    def abandon(self) -> None:
        """Forget what was written; the old file is as it was."""
        with suppress(OSError):  # committed, or the folder is gone: there is an error already, and it says more
            if self._descriptor >= 0:
                descriptor, self._descriptor = self._descriptor, -1
                os.close(descriptor)
        with suppress(OSError):
            os.unlink(self._temporary)


@contextmanager
def replacing(path: str | os.PathLike[str], *, durable: bool = True) -> Iterator[Sink]:
    """A sink that is committed at the end of the block, and abandoned if the block raises.

    Raises `SaveError` for everything that the system may refuse; the old file is then untouched.
    """
    sink = Sink(path, durable=durable)
    try:
        yield sink
        sink.commit()
    except BaseException:
        sink.abandon()
        raise


def _temporary_name(name: str) -> str:
    """A name in the same folder that no other writer has; a long name is cut, for systems count its bytes."""
    stem = name.encode("utf-8", "ignore")[:100].decode("utf-8", "ignore")
    return f".{stem}.{os.urandom(6).hex()}.part"


def _mode_of(target: str) -> int | None:
    """The mode of the file that is replaced; None for a new one, which has what the umask leaves of 0666."""
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "something that is not a regular file"
        raise SaveError(f"{what} has this name; nothing was written", where=shown(target))
    return stat.S_IMODE(mode)


def _sync_folder(folder: str, path: str) -> None:
    """Put the new name on the disk."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows opens no folder, and keeps names in a journal
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOTSUP):  # a file system whose folders cannot be synced
            return
        raise SaveError(
            f"the new file is in its place, but the system did not confirm its name: {error.strerror or error}",
            where=shown(path),
            hint="it may be lost if the machine stops now; save it again",
        ) from error


@contextmanager
def _named_errors(path: str) -> Iterator[None]:
    """The system's errors in words, with the file that was meant."""
    try:
        yield
    except SaveError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise SaveError(
            f"the file was not saved: {reason}; what was there before still is",
            where=shown(path),
            hint=_advice(error, path),
        ) from error


def _advice(error: Exception, path: str) -> str:
    folder = os.path.dirname(os.path.abspath(path)) if "\0" not in path else ""
    if isinstance(error, FileNotFoundError) and not os.path.isdir(folder):
        return f"there is no folder {shown(folder)}: make it first"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "make room, or save somewhere else"
    return ""
