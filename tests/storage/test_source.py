"""Reading into memory that a caller owns: the bytes of every job, however the jobs lie to each other."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rehydrate as rh
from rehydrate.storage import source as module
from rehydrate.storage.source import FileSource, MemorySource, StreamSource

from ..effort import tried

CONTENT = bytes(at * 7 % 251 for at in range(40_000))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("source") / "file"
    made.write_bytes(CONTENT)
    return made


@st.composite
def jobs(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Where each job begins and how long it is: most follow the one before, at a distance."""
    found: list[tuple[int, int]] = []
    at = 0
    for _ in range(draw(st.integers(0, 12))):
        step = draw(st.sampled_from((0, 0, 8, 8, 100, 4096, 4097, -5, -3000)))
        at = min(max(at + step, 0), len(CONTENT))
        length = min(draw(st.sampled_from((0, 1, 16, 900, 5000))), len(CONTENT) - at)
        found.append((at, length))
        at += length
    return found


@tried(200)
@given(jobs(), st.sampled_from((3, 1000)), st.sampled_from((1000, 8 << 20)))
def test_every_job_gets_its_bytes(path: Path, wanted: list[tuple[int, int]], views: int, chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch, path.open("rb") as stream:
        patch.setattr(module, "_VIEWS", views)
        patch.setattr(module, "CHUNK", chunk)
        for source in (FileSource(path), MemorySource(CONTENT), StreamSource(stream)):
            memory = [(start, bytearray(length)) for start, length in wanted]
            source.fill([(start, memoryview(held)) for start, held in memory])
            assert [bytes(held) for _, held in memory] == [CONTENT[at : at + length] for at, length in wanted]
            source.close()


@pytest.mark.parametrize("job", [(-1, 4), (len(CONTENT) - 3, 4), (len(CONTENT) + 1, 0), (1 << 62, 1)])
def test_a_job_that_reaches_beyond_the_file_is_refused_before_anything_is_read(
    path: Path, job: tuple[int, int]
) -> None:
    start, length = job
    first = bytearray(8)
    source = FileSource(path)
    with pytest.raises(rh.TruncatedError, match="ends early"):
        source.fill([(0, memoryview(first)), (start, memoryview(bytearray(length)))])
    assert first == bytes(8)
    source.close()
