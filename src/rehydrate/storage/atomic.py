"""Files that are either the old one or the new one, complete, and never something between.

A new file is written under a temporary name in the same folder, synced, renamed over the old one, and the folder is
synced too: after `commit` returns, both the bytes and the name are on the disk. Until then the old file is untouched,
and `abandon` (or a crash) leaves nothing under the real name. The mode is the old file's, or what the umask allows;
a symbolic link stays, and its target is replaced.
"""

from __future__ import annotations

import os
import secrets
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
        self._target = os.path.realpath(self.path)
        self._folder = os.path.dirname(self._target)
        if os.path.isdir(self._target):
            raise SaveError("a folder has this name; nothing was written", where=shown(self.path))
        name = f".{os.path.basename(self._target)[:100]}.{secrets.token_hex(6)}.part"
        self._temporary = os.path.join(self._folder, name)
        with _named_errors(self.path):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._descriptor = os.open(self._temporary, flags, 0o666)

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
            _copy_mode(self._target, self._descriptor)
            if self._durable:
                os.fsync(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
            os.replace(self._temporary, self._target)
            if self._durable:
                _sync_folder(self._folder)

    def abandon(self) -> None:
        """Forget what was written; the old file is as it was."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        with suppress(FileNotFoundError):  # committed, or the folder is gone with everything in it
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


def _copy_mode(target: str, descriptor: int) -> None:
    """The mode of the file that is replaced; a new one has what the umask left of 0666."""
    try:
        old = os.stat(target)
    except FileNotFoundError:
        return
    os.fchmod(descriptor, stat.S_IMODE(old.st_mode))


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _named_errors(path: str) -> Iterator[None]:
    """The system's errors in words, with the file that was meant."""
    try:
        yield
    except SaveError:
        raise
    except OSError as error:
        raise SaveError(
            f"the file was not saved: {error.strerror or error}; what was there before still is",
            where=shown(path),
        ) from error
