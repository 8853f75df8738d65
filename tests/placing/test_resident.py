"""What is in memory is not read again, and what is not is, in whichever way the system tells."""

from __future__ import annotations

import mmap
import os
import sys
from pathlib import Path

import pytest

import rehydrate as rh
from rehydrate.placing.moving import resident
from rehydrate.placing.moving.resident import available_memory, check_readable, is_at_hand
from rehydrate.storage.source import FileSource, MemorySource, StreamSource

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux says what its page cache holds"
)

SIZE = 40 << 20


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("resident") / "x"
    path.write_bytes(os.urandom(SIZE))
    return path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Where each read begins, and how long it is."""
    seen: list[tuple[int, int]] = []
    real = os.preadv

    def preadv(descriptor: int, views: list[memoryview], start: int) -> int:
        seen.append((start, sum(map(len, views))))
        return real(descriptor, views, start)

    monkeypatch.setattr(os, "preadv", preadv)
    return seen


def evict(path: Path, start: int, length: int) -> bool:
    """Whether a part of the file has left the page cache; files of a file system in memory never do."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, start, length, os.POSIX_FADV_DONTNEED)
    gone = resident._count(descriptor, start, length)
    os.close(descriptor)
    return 0 <= gone < length // mmap.PAGESIZE


@pytest.mark.parametrize("way", ["cachestat", "mincore", "neither"])
def test_only_what_is_missing_is_read(
    way: str, path: Path, reads: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    if way != "cachestat":
        monkeypatch.setattr(resident, "_count", lambda *part: -1)
    if way == "neither":
        monkeypatch.setattr(resident, "_may_ask", lambda source: False)
    path.read_bytes()
    source = FileSource(path)
    assert check_readable([(source, 5, SIZE - 5)]) == ()
    if way == "neither":
        assert sum(length for _, length in reads) == SIZE - 5
        return
    assert not reads
    monkeypatch.undo()


@pytest.mark.parametrize("way", ["cachestat", "mincore"])
def test_a_hole_in_the_page_cache_is_read(way: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.read_bytes()
    if not evict(path, 20 << 20, 8 << 20):
        pytest.skip("this file system keeps its files in memory, or the system does not count pages")
    if way == "mincore":
        monkeypatch.setattr(resident, "_count", lambda *part: -1)
    seen: list[tuple[int, int]] = []
    real = os.preadv

    def preadv(descriptor: int, views: list[memoryview], start: int) -> int:
        seen.append((start, sum(map(len, views))))
        return real(descriptor, views, start)

    monkeypatch.setattr(os, "preadv", preadv)
    check_readable([(FileSource(path), 0, SIZE)])
    assert any(start + length >= 20 << 20 and start < 28 << 20 for start, length in seen)
    assert sum(length for _, length in seen) < SIZE, "what is there is not read"
    seen.clear()
    check_readable([(FileSource(path), 0, SIZE)])
    assert not seen


def test_a_file_that_became_shorter_is_said_before_anything_else(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(10_000))
    source = FileSource(tmp_path / "x")
    os.truncate(tmp_path / "x", 100)
    with pytest.raises(rh.TruncatedError, match="shorter since it was opened"):
        check_readable([(source, 0, 5000)])


def test_what_failed_to_be_read_does_not_count_as_there_the_next_time(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.read_bytes()
    dropped: list[tuple[int, int]] = []
    monkeypatch.setattr(resident, "_may_ask", lambda source: False)
    monkeypatch.setattr(os, "posix_fadvise", lambda descriptor, start, length, how: dropped.append((start, length)))

    def fails(*args: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "preadv", fails)
    with pytest.raises(OSError, match="Input/output"):
        check_readable([(FileSource(path), 0, 1000)])
    assert dropped == [(0, 1000)]


def test_only_files_and_memory_are_at_hand(path: Path) -> None:
    assert is_at_hand(FileSource(path))
    assert is_at_hand(MemorySource(b"x"))
    with path.open("rb") as stream:
        assert not is_at_hand(StreamSource(stream))


def test_the_memory_that_is_left_is_what_the_system_says() -> None:
    available = available_memory()
    assert available is not None
    assert 0 < available < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
