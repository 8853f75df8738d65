"""Our tar walker against Python's: the same files in the same places, whatever wrote them; and never less strict."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rehydrate as rh
from rehydrate.formats.tar_directory import TarDirectory, is_header
from rehydrate.limits import Limits
from rehydrate.storage.source import MemorySource

from ..effort import tried
from ..hostile.archives_tar import BLOCK, Member, bytes_of, record, said, tar_of

WRITERS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
PLAIN = st.text("abc/._-模é ", min_size=1, max_size=12).map(lambda name: name.strip("/ .") or "x")
NAMES = PLAIN | PLAIN.map(lambda name: "/".join([name] * 30)[:400].rstrip("/"))


def walked(data: bytes, **limits: int) -> TarDirectory:
    return TarDirectory(MemorySource(data), Limits(**limits))


@tried(150)
@given(
    st.sampled_from(sorted(WRITERS)),
    st.dictionaries(NAMES, st.binary(max_size=1200), min_size=1, max_size=6),
    st.floats(0, 1e9),
)
def test_files_are_found_where_others_find_them(writer: str, files: dict[str, bytes], time: float) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=WRITERS[writer]) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(content), time if writer == "pax" else int(time)
            try:
                archive.addfile(entry, io.BytesIO(content))
            except ValueError:  # a name that is too long for this kind of archive
                continue
    data = buffer.getvalue()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        theirs = {entry.name: (entry.offset_data, entry.size) for entry in archive}
    if not theirs:
        return
    directory = walked(data)
    ours = {member.name: (member.start, member.size) for member in directory.members.values()}
    assert ours == theirs
    for name, member in directory.members.items():
        assert directory.source_of(member).read(0, member.size) == files[name]


def test_what_is_no_file_is_named_and_not_followed() -> None:
    buffer = io.BytesIO()
    kinds = {"dir": tarfile.DIRTYPE, "sym": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE, "fifo": tarfile.FIFOTYPE}
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, kind in kinds.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "/etc/passwd" if kind in b"12" else ""
            archive.addfile(entry)
    directory = walked(buffer.getvalue())
    assert directory.members == {}
    assert directory.others == {"dir/": "a folder", "sym": "a link", "hard": "a link", "fifo": "a device"}


def test_an_archive_of_before_posix_is_known_by_its_checksum_alone() -> None:
    data = tar_of(Member(b"net.pth", b"x" * 10, kind=b"\0", magic=b""), Member(b"folder/", kind=b"\0", magic=b""))
    assert is_header(data)
    directory = walked(data)
    assert (list(directory.members), directory.others) == (["net.pth"], {"folder/": "a folder"})


def test_a_long_name_of_gnu_and_one_of_pax_are_names() -> None:
    for before in (Member(b"././@LongLink", b"n" * 300 + b"\0", b"L"), said(record(b"path", b"n" * 300))):
        assert list(walked(tar_of(before, Member(b"short", b"x"))).members) == ["n" * 300]


def test_records_that_change_no_bytes_are_passed_over() -> None:
    kept = said(record(b"comment", b"0123abcd"), kind=b"g")
    before = said(record(b"mtime", b"1.5"), record(b"SCHILY.xattr.user.x", b"\xff"), record(b"uname", b""))
    assert list(walked(tar_of(kept, before, Member(b"a", b"x"))).members) == ["a"]


@pytest.mark.parametrize("length", range(1, 4 * BLOCK, 100))
def test_an_archive_that_is_cut_says_how_much_there_is(length: int) -> None:
    data = bytes_of(Member(b"a", b"x" * 600)) + bytes(2 * BLOCK)
    with pytest.raises(rh.TruncatedError, match="early") as caught:
        walked(data[:length])
    assert f"{length:,} of" in str(caught.value)


def test_a_member_beyond_the_end_of_a_cut_archive_is_as_long_as_what_is_there() -> None:
    data = bytes_of(Member(b"a", b"x" * 600)) + bytes_of(Member(b"b", b"y" * 600))[: BLOCK + 100]
    directory = TarDirectory(MemorySource(data), Limits(), is_cut=True)
    assert [directory.source_of(member).size for member in directory.members.values()] == [600, 100]


def test_an_archive_of_too_many_members_is_refused() -> None:
    data = tar_of(*(Member(b"%d" % at) for at in range(20)))
    assert len(walked(data).members) == 20
    with pytest.raises(rh.LimitError, match="too many"):
        walked(data, members=10)
