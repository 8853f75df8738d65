"""What the zip reader reads, Python's reads alike; where they might not, it refuses. Some archives here lie."""

from __future__ import annotations

import io
import random
import warnings
import zipfile
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehydrate.errors import LimitError, RehydrateError
from rehydrate.formats.zip_directory import ZipDirectory
from rehydrate.limits import Limits
from rehydrate.storage.source import MemorySource

from ..effort import tried
from ..hostile.archives import Entry, zip_of
from ..hostile.examining import check_message

SEEDS = st.integers(0, (1 << 64) - 1)
MOST = 1 << 20

NAMES = st.text(
    st.characters(min_codepoint=1, max_codepoint=0xFFFF, exclude_categories=("Cs",)), min_size=1, max_size=8
)
MEMBERS = st.dictionaries(NAMES, st.tuples(st.binary(max_size=200), st.sampled_from((0, 8)), st.booleans()), max_size=6)


def read_by_us(data: bytes) -> dict[str, bytes] | None:
    """Every member that is read, or None where the directory is refused."""
    try:
        directory = ZipDirectory(MemorySource(data), Limits())
    except RehydrateError as error:
        check_message(error)
        return None
    found: dict[str, bytes] = {}
    for name, member in directory.members.items():
        try:
            found[name] = directory.read(member, MOST)
            if member.method == zipfile.ZIP_STORED:
                start = directory.start_of(member)
                assert data[start : start + member.size] == found[name]
        except RehydrateError as error:
            check_message(error)
    return found


def read_by_python(data: bytes) -> dict[str, bytes] | None:
    """The same by Python's reader."""
    found: dict[str, bytes] = {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            archive = zipfile.ZipFile(io.BytesIO(data))
    except Exception:  # noqa: BLE001 - it refuses in many ways
        return None
    with archive:
        for info in archive.infolist():
            try:
                found[info.filename] = archive.read(info)
            except Exception:  # noqa: BLE001
                continue
    return found


@tried(200)
@given(MEMBERS, st.binary(max_size=20), st.booleans())
def test_what_python_packs_is_read_whole(
    members: dict[str, tuple[bytes, int, bool]], comment: bytes, is_streamed: bool
) -> None:
    buffer = io.BytesIO()
    file = _Stream(buffer) if is_streamed else buffer
    with zipfile.ZipFile(file, "w") as archive:  # type: ignore[arg-type]
        for name, (content, method, is_large) in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            with archive.open(info, "w", force_zip64=is_large) as member:
                member.write(content)
        archive.comment = comment
    if b"PK" in comment or len({name.split("\0")[0] for name in members}) < len(members):
        return
    read = read_by_us(buffer.getvalue())
    assert read == {name: content for name, (content, _, _) in members.items()}


class _Stream:
    """A file that cannot be moved about in: the packer then writes sizes after the data."""

    def __init__(self, buffer: io.BytesIO) -> None:
        self.write = buffer.write
        self.flush = buffer.flush


def honest(rng: random.Random) -> list[Entry]:
    return [
        Entry(name, rng.randbytes(rng.randrange(60)), method=rng.choice((0, 0, 8)))
        for name in rng.sample([b"a", b"b", b"a/b", b"data.pkl", b"x" * 40, "ü".encode()], rng.randrange(1, 6))
    ]


def lying(entry: Entry, rng: random.Random) -> Entry:
    """The same with one field that is not true."""
    field = rng.choice((
        "flags", "local_flags", "crc", "local_crc", "size", "local_size", "packed_size", "local_packed_size",
        "local_name", "local_method", "offset", "method", "local_extra", "extra", "descriptor", "is_hidden", "name",
    ))  # fmt: skip
    near = len(entry.data) + rng.choice((-1, 1, 4, 16))
    value: object = {
        "flags": 1 << rng.randrange(14), "local_flags": 1 << rng.randrange(14), "method": rng.choice((0, 8, 12)),
        "local_method": rng.choice((0, 8)), "local_name": rng.choice((b"a", b"b", b"zz", b"")),
        "name": rng.choice((b"a", b"b", b"a\0b", b"")), "offset": rng.choice((0, 1, 31, 60, 1 << 31)),
        "local_extra": rng.randbytes(rng.randrange(1, 9)), "extra": rng.randbytes(rng.randrange(1, 9)),
        "descriptor": rng.randbytes(rng.choice((4, 12, 16, 20, 24))), "is_hidden": True,
    }.get(field, rng.choice((max(near, 0), 0, 0xFFFFFFFF, zlib.crc32(b"x"))))  # fmt: skip
    return replace(entry, **{field: value})


@tried(1500)
@given(SEEDS)
def test_an_archive_that_lies_is_refused_or_reads_as_python_reads_it(seed: int) -> None:
    rng = random.Random(seed)
    entries = honest(rng)
    for _ in range(rng.randrange(3)):
        at = rng.randrange(len(entries))
        entries[at] = lying(entries[at], rng)
    more: dict[str, object] = {}
    if rng.random() < 0.5:
        more[rng.choice(("before", "after", "middle", "comment"))] = rng.choice(
            (b"x", b"PK\5\6", b"PK\6\7" + bytes(16), zip_of(), zip_of(*honest(rng)), bytes(22))
        )
    if rng.random() < 0.3:
        more["has_zip64"] = True
    if rng.random() < 0.3:
        more[rng.choice(("count", "length", "at"))] = rng.choice((0, 1, 46, 99, 0xFFFF))
    data = bytearray(zip_of(*entries, **more))  # type: ignore[arg-type]
    for _ in range(rng.choice((0, 0, 1, 2))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    _compare(bytes(data))


def _compare(data: bytes) -> None:
    ours, pythons = read_by_us(data), read_by_python(data)
    if ours is None or pythons is None:
        return
    for name, content in ours.items():
        if name.isascii() and name in pythons:
            assert content == pythons[name], (name, data)
        assert not name.isascii() or name in pythons or _cannot(data, name), (name, data)


def _cannot(data: bytes, name: str) -> bool:
    """Whether Python knows the entry and refuses to read it."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return name.split("\0")[0] in {info.filename for info in archive.infolist()}


def test_a_compressed_member_may_shrink_as_much_as_pickles_do_and_no_more() -> None:
    repeated = b"conv1.weight" * 2000
    directory = ZipDirectory(MemorySource(zip_of(Entry(b"a", repeated, 8))), Limits())
    assert directory.read(directory.members["a"], MOST) == repeated
    directory = ZipDirectory(MemorySource(zip_of(Entry(b"a", bytes(1_000_000), 8))), Limits())
    with pytest.raises(LimitError, match="bomb"):
        directory.read(directory.members["a"], MOST)


def test_an_archive_of_more_entries_than_the_limit_is_refused_before_they_are_read() -> None:
    data = zip_of(*(Entry(b"%d" % at) for at in range(100)))
    assert len(ZipDirectory(MemorySource(data), Limits(members=100)).members) == 100
    with pytest.raises(LimitError, match="too many entries"):
        ZipDirectory(MemorySource(data), Limits(members=99))
