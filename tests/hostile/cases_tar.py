"""C3: tar archives that lead elsewhere, count wrongly, or are something else for other readers."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from functools import partial

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.errors import AmbiguousError, LimitError, NotACheckpointError, TruncatedError

from .archives import Entry, torch_zip, zip_of
from .archives_legacy import MAGIC, legacy_stream
from .archives_tar import (
    Member,
    bytes_of,
    record,
    said,
    tar_of,
)
from .assembler import (
    call,
    none,
    pickle_of,
    unicode,
)
from .case import BROKEN, Case, both, harmless, holds_tensor, is_call_of, opens, refuses, reports_call

_SYSTEM = call("os", "system", unicode("id"))
_EVIL = pickle_of(_SYSTEM)
_NET = legacy_stream()


def _tar(*members: Member, **more: object) -> Callable[[], bytes]:
    return partial(tar_of, *members, **more)  # type: ignore[arg-type]


def _one(name: bytes = b"net.pth", data: bytes = _NET, **changes: object) -> Callable[[], bytes]:
    """An archive of one checkpoint, under an odd header."""
    return _tar(Member(name, data, **changes))  # type: ignore[arg-type]


def _holds(member: str) -> Callable[[Checkpoint], bool]:
    return lambda checkpoint: checkpoint.facts["member"] == member and len(checkpoint) == 1


def _is_only_said(checkpoint: Checkpoint) -> bool:
    return is_call_of(checkpoint.tree, "os", "system")


def _is_nothing(checkpoint: Checkpoint) -> bool:
    return checkpoint.tree is None


def _real(name: str, kind: bytes, link: str = "") -> bytes:
    """An archive of Python's with one member that is no file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, link
        archive.addfile(entry)
    return buffer.getvalue()


_SIZES: dict[str, bytes] = {
    "negative in decimal digits (CVE-2025-8194)": b"-0000000512\0",
    "negative in binary (CVE-2025-8194)": b"\xff" * 10 + b"\xfe\x00",
    "the smallest in binary": b"\xff" + bytes(11),
    "with a sign": b"+0000000512\0",
    "with an underscore": b"0000_000512\0",
    "in octal with a prefix": b"0o000000512\0",
    "with a nine": b"00000000919\0",
    "of two numbers": b"000010 0001\0",
    "in letters": b"aaaaaaaaaaa\0",
    "in other digits": "٠٠٠٠٠".encode().ljust(12, b"\0"),
}
_HUGE: dict[str, bytes] = {
    "beyond the file": b"00000777777\0",
    "of eight gigabytes": b"77777777777\0",
    "of a binary number": b"\x80" + bytes(3) + (1 << 40).to_bytes(8, "big"),
    "beyond 64 bits": b"\x80" + b"\xff" * 11,
}
_KINDS = {b"S": "sparse", b"D": "dumped folder", b"M": "continued", b"N": "old long name", b"V": "label", b"?": "odd"}

CASES: tuple[Case, ...] = (
    opens("C3 an honest archive", _one(), _holds("net.pth")),
    *(refuses(f"C3 a size {name}", _one(size=field), *BROKEN) for name, field in _SIZES.items()),
    *(refuses(f"C3 a size {name}", _one(size=field), TruncatedError) for name, field in _HUGE.items()),
    refuses("C3 a size that ends in the next member", _tar(Member(b"a", _NET, size=600), Member(b"b", _NET))),
    *(
        refuses(f"C3 a checksum that is {name}", _tar(Member(b"a", _NET), Member(b"b", _NET, checksum=field)), *BROKEN)
        for name, field in {"wrong": b"000001\0 ", "none": bytes(8)}.items()
    ),
    *(
        refuses(f"C3 a member of kind {kind.decode()!r}, {name}", _one(kind=kind), NotACheckpointError, says="kind")
        for kind, name in _KINDS.items()
    ),
    refuses(
        "C3 a sparse file in records",
        _tar(said(record(b"GNU.sparse.major", b"1")), Member(b"a", _NET)), NotACheckpointError, says="sparse",
    ),
    refuses("C3 a link", partial(_real, "net.pth", tarfile.SYMTYPE, "/etc/passwd"), NotACheckpointError),
    refuses("C3 a hard link", partial(_real, "net.pth", tarfile.LNKTYPE, "../../net.pth"), NotACheckpointError),
    refuses("C3 a device", partial(_real, "net.pth", tarfile.CHRTYPE), NotACheckpointError),
    refuses("C3 a pipe", partial(_real, "net.pth", tarfile.FIFOTYPE), NotACheckpointError),
    refuses("C3 a link with bytes", _one(kind=b"2", link=b"net.pth"), AmbiguousError),
    refuses("C3 a hard link with bytes", _one(kind=b"1", link=b"net.pth"), AmbiguousError),
    refuses("C3 a folder with bytes", _one(kind=b"5"), AmbiguousError),
    refuses("C3 a folder by its slash, with bytes", _one(b"net/"), AmbiguousError),
    refuses("C3 two members of one name", _tar(Member(b"a", _NET), Member(b"a", _EVIL)), AmbiguousError),
    refuses("C3 a link named like a member", _tar(Member(b"a", _NET), Member(b"a", kind=b"2", link=b"/b"))),
    refuses(
        "C3 two members of one name, one of them by a record",
        _tar(Member(b"a", _NET), said(record(b"path", b"a")), Member(b"b", _EVIL)), AmbiguousError,
    ),
    refuses(
        "C3 two members of one name, one of them by its prefix",
        _tar(Member(b"a/b", _NET), Member(b"b", _EVIL, prefix=b"a")), AmbiguousError,
    ),
    *(
        opens(f"C3 a name that leads {where}", _one(name), _holds(name.decode()))
        for where, name in {
            "up": b"../../net.pth", "to the root": b"/etc/cron.d/net", "to a drive": b"C:\\net.pth",
        }.items()
    ),
    opens("C3 a name that moves the cursor", _one(b"\x1b[31m\n.pth"), _holds("\x1b[31m\n.pth")),
    opens("C3 a name that is not UTF-8", _one(b"\xff\xfe.pth"), holds_tensor()),
    refuses("C3 names that move the cursor", _tar(Member(b"\x1b[31m\n", b"x"), Member(b"\x1b[2J", b"y")), says=r"\x1b"),
    refuses("C3 a record of no length", _tar(said(b" path=a\n"), Member(b"a", _NET)), *BROKEN),
    refuses("C3 a record of length 0", _tar(said(b"0 path=a\n"), Member(b"a", _NET)), *BROKEN),
    refuses("C3 a record of length -1", _tar(said(b"-1 path=a\n"), Member(b"a", _NET)), *BROKEN),
    refuses("C3 a record that is longer than its header", _tar(said(b"99 path=a\n"), Member(b"a", _NET)), *BROKEN),
    refuses("C3 a record of 10^7 bytes", _tar(said(b"9999999 path=a\n"), Member(b"a", _NET)), *BROKEN),
    refuses("C3 a record without a newline", _tar(said(b"8 path=ab"), Member(b"a", _NET)), *BROKEN),
    refuses("C3 a record without a value", _tar(said(b"7 path\n"), Member(b"a", _NET)), *BROKEN),
    refuses("C3 a record in other digits", _tar(said("٩ path=a\n".encode()), Member(b"a", _NET)), *BROKEN),
    refuses("C3 a record with a NUL in a name", _tar(said(record(b"path", b"a\0b")), Member(b"a", _NET)), *BROKEN),
    refuses("C3 a record of an empty name", _tar(said(record(b"path", b"")), Member(b"a", _NET)), *BROKEN),
    refuses("C3 two names in records", _tar(said(record(b"path", b"a"), record(b"path", b"b")), Member(b"a", _NET))),
    refuses(
        "C3 a long name and a record's",
        _tar(Member(b"L", b"a\0", b"L"), said(record(b"path", b"b")), Member(b"a", _NET)), *BROKEN,
    ),
    refuses("C3 two long names", _tar(Member(b"L", b"a\0", b"L"), Member(b"L", b"b\0", b"L"), Member(b"a", _NET))),
    refuses("C3 a long name of nothing", _tar(Member(b"L", b"", b"L"), Member(b"a", _NET)), *BROKEN),
    refuses("C3 a size in a record that is another", _tar(said(record(b"size", b"7")), Member(b"a", _NET))),
    refuses(
        "C3 a size in a record beside none",
        _tar(said(record(b"size", b"%d" % len(_NET))), Member(b"a", _NET, size=0)), AmbiguousError,
    ),
    refuses("C3 a size in a record that is negative", _tar(said(record(b"size", b"-7")), Member(b"a", _NET)), *BROKEN),
    refuses("C3 a size in a record of 2^80", _tar(said(record(b"size", b"%d" % (1 << 80))), Member(b"a", _NET))),
    refuses("C3 a size in a record of 10^4 digits", _tar(said(record(b"size", b"9" * 10_000)), Member(b"a", _NET))),
    refuses(
        "C3 a size in a record of 2^40 beside none",
        _tar(said(record(b"size", b"%d" % (1 << 40))), Member(b"a", b"", size=0)), TruncatedError,
    ),
    refuses("C3 a name for all members", _tar(said(record(b"path", b"a"), kind=b"g"), Member(b"b", _NET))),
    refuses("C3 a size for all members", _tar(said(record(b"size", b"1"), kind=b"g"), Member(b"b", _NET))),
    refuses("C3 records for nobody", _tar(Member(b"a", _NET), said(record(b"path", b"a"))), *BROKEN),
    refuses("C3 records of two megabytes", lambda: tar_of(said(record(b"comment", bytes(2 << 20)))), LimitError),
    refuses("C3 records that are cut", lambda: bytes_of(Member(b"", kind=b"x", size=4000)) + bytes(9), TruncatedError),
    refuses("C3 no end", _tar(Member(b"net.pth", _NET), end=b""), TruncatedError, says="end"),
    refuses("C3 half an end", lambda: bytes_of(Member(b"net.pth", _NET)) + bytes(512), TruncatedError),
    *(
        refuses(
            f"C3 {blocks} headers of zeros and then a member",
            _tar(Member(b"a", _NET), end=bytes(512 * blocks), after=tar_of(Member(b"b", _EVIL))), AmbiguousError,
        )
        for blocks in (1, 2, 3)
    ),
    refuses("C3 junk after the end", _tar(Member(b"net.pth", _NET), after=b"junk"), AmbiguousError),
    refuses("C3 a pickle after the end", _tar(Member(b"net.pth", _NET), after=_EVIL), AmbiguousError),
    refuses("C3 a zip after the end", _tar(Member(b"net.pth", _NET), after=torch_zip(_EVIL)), AmbiguousError),
    refuses("C3 bytes that fill up a member", _one(data=b"x" * 500, padding=b"y" * 12), AmbiguousError),
    refuses(
        "C3 the end of a zip that fills up a member",
        lambda: tar_of(Member(b"a", _NET, padding=zip_of().ljust(-len(_NET) % 512, b"\0"))), AmbiguousError,
    ),
    refuses("C3 an archive of nothing but its end", lambda: bytes(10_240)),
    refuses("C3 an archive of a folder", _tar(Member(b"a/", kind=b"5")), NotACheckpointError, says="no file"),
    refuses("C3 a name that is a pickle", _one(b"cos\nsystem\n(S'id'\ntR."), AmbiguousError, says="a pickle"),
    refuses("C3 a name that is a pickle of protocol 2", _one(b"\x80\x02cos\nsystem\nU\2id\x85R."), AmbiguousError),
    refuses("C3 a name that is torch's magic number", _one(b"L%dL\n." % MAGIC), AmbiguousError),
    refuses(
        "C3 a name that skips its header in a string of a pickle",
        _one(b"(X\0\2\0\0", data=b"xxxxxxcos\nsystem\n(S'id'\ntRt."), AmbiguousError, says="a pickle",
    ),
    refuses("C3 a name that is a zip's", _one(b"PK\3\4"), AmbiguousError, says="a zip"),
    opens(
        "C3 nothing but a call in the one member",
        _one(data=_EVIL), both(reports_call("os.system"), _is_only_said),
    ),
    refuses("C3 two members that are checkpoints", _tar(Member(b"a", _NET), Member(b"b", _NET)), says="2 checkpoints"),
    opens("C3 a zip as the last member", _one(data=torch_zip(pickle_of(none), {})), _is_nothing),
    refuses("C3 a zip in a tar, and another after it", lambda: tar_of(Member(b"a", _NET)) + zip_of(Entry(b"x", b"y"))),
    harmless("C3 a thousand members of nothing", _tar(*(Member(b"%d" % at) for at in range(1000)), Member(b"n", _NET))),
    harmless("C3 a thousand members of text", _tar(*(Member(b"%d" % at, b"# text\n") for at in range(1000)))),
)  # fmt: skip
