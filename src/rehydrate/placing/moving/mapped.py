"""Private mappings of files: memory for tensors that have none yet, without anything being read or copied.

What is written to such a tensor stays with it and never reaches the file. What somebody does to the file may reach the
tensor, and a file that is cut ends the process that looks at it; so only files of local disks are mapped, only while
they are as they were when they were opened, and whoever loads is told. Existing memory is never mapped over here.
"""

from __future__ import annotations

import ctypes
import mmap
from functools import cache
from typing import Any

import torch

from rehydrate.placing.moving.resident import check_unchanged
from rehydrate.storage.source import FileSource, Source
from rehydrate.text import counted, listed, shown

__all__ = ["Mappings", "is_local"]

_LOCAL = {
    0xEF53: "ext2, ext3, ext4",
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0x01021994: "tmpfs",
    0x858458F6: "ramfs",
    0xF2F52010: "f2fs",
    0x2FC12FC1: "zfs",
    0xCA451A4E: "bcachefs",
    0x794C7630: "overlayfs, of containers",
    0x73717368: "squashfs",
    0xE0F5E1E2: "erofs",
    0x3153464A: "jfs",
    0x52654973: "reiserfs",
    0x7366746E: "ntfs3",
    0x2011BAB0: "exfat",
    0x4D44: "fat",
}
"""File systems of disks in this machine, by the numbers that Linux has for them. Any other, such as NFS, SMB, Lustre,
Ceph, GPFS or one in user space (FUSE), is read: over a network, a mapping is slow at best and ends the process at
worst."""


class Mappings:
    """The files that are mapped for one load, each once."""

    def __init__(self) -> None:
        self._files: dict[Source, mmap.mmap | None] = {}
        self._counts: dict[str, int] = {}

    def bytes_of(self, source: Source, start: int, length: int) -> torch.Tensor | None:
        """These bytes of a file as a tensor of uint8; None where the file cannot be mapped.

        Raises `CorruptError` or `TruncatedError` for a file that has changed since it was opened.
        """
        if source not in self._files:
            self._files[source] = _mapping(source)
        memory = self._files[source]
        if memory is None or start + length > len(memory):
            return None
        self._counts[source.name] = self._counts.get(source.name, 0) + 1
        return torch.frombuffer(memory, dtype=torch.uint8, count=length, offset=start)

    def told(self) -> tuple[str, ...]:
        """What somebody should know whose tensors are mapped."""
        if not self._counts:
            return ()
        files = listed([shown(name) for name in self._counts], 4)
        return (
            f"{counted(sum(self._counts.values()), 'tensor')} mapped from {files}: keep the "
            f"{'file as it is' if len(self._counts) == 1 else 'files as they are'} while the model lives, or load "
            "with mapped=False",
        )


def is_local(descriptor: int) -> bool:
    """Whether a file lies on a disk of this machine, as far as the system says so."""
    return _file_system(descriptor) in _LOCAL


def _mapping(source: Source) -> mmap.mmap | None:
    if not isinstance(source, FileSource) or not source.size or not hasattr(mmap, "MAP_PRIVATE"):  # Windows
        return None
    if not is_local(source.descriptor):
        return None
    check_unchanged([source])
    try:
        return mmap.mmap(source.descriptor, source.size, access=mmap.ACCESS_COPY)
    except (OSError, ValueError):  # memory that is promised is limited here, or the file has just been cut
        return None


def _file_system(descriptor: int) -> int | None:
    """Linux's number for the file system; Python's own `statvfs` does not tell it."""
    call = _fstatfs()
    if call is None:
        return None
    answer = (ctypes.c_ulong * 64)()  # more than the structure takes; its first word is what is asked for
    return int(answer[0]) & 0xFFFFFFFF if call(descriptor, answer) == 0 else None


@cache
def _fstatfs() -> Any:
    return getattr(ctypes.CDLL(None), "fstatfs", None) if hasattr(mmap, "MAP_POPULATE") else None
