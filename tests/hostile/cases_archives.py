"""C1: zip archives that are broken, or that show different things to different readers."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import replace

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.errors import AmbiguousError, CorruptError, NotACheckpointError

from .archives import Entry, torch_entries, torch_zip, zip_of
from .assembler import call, empty_dict, pickle_of, setitem, tensor, unicode
from .case import (
    BOMB,
    BROKEN,
    DISPUTED,
    REFUSED,
    harmless,
    holds_tensor,
    opens,
    refuses,
    refuses_to_read,
)

_PICKLE = pickle_of(empty_dict, unicode("w"), tensor(), setitem)
_EVIL = pickle_of(call("os", "system", unicode("id")))
_HONEST = torch_entries(_PICKLE)
_DATA_PKL, _ORDER, _STORAGE, _VERSION = _HONEST


def _zip(*entries: Entry, **more: object) -> Callable[[], bytes]:
    return lambda: zip_of(*entries, **more)  # type: ignore[arg-type]


def _with_pickle(**changes: object) -> Callable[[], bytes]:
    """An honest archive but for the entry of its pickle."""
    return lambda: torch_zip(_PICKLE, data_pkl=Entry(b"archive/data.pkl", _PICKLE, **changes))  # type: ignore[arg-type]


def _with_storage(**changes: object) -> Callable[[], bytes]:
    """An honest archive but for the entry of its storage."""
    return _zip(_DATA_PKL, _ORDER, Entry(b"archive/data/0", bytes(16), **changes), _VERSION)  # type: ignore[arg-type]


def _and(*more: Entry) -> Callable[[], bytes]:
    return _zip(*_HONEST, *more)


def _descriptor(data: bytes, layout: str = "<4s3L") -> bytes:
    return struct.pack(layout, b"PK\7\x08", zlib.crc32(data), len(data), len(data))


def _tensor_is_zero(checkpoint: Checkpoint) -> bool:
    return checkpoint["w"].numpy().tolist() == [0.0] * 4


_whole = holds_tensor()
_PLAIN = _zip(*_HONEST)
_IS_64 = _zip(*_HONEST, has_zip64=True)


def _patched(at: int, layout: str, value: int, of: Callable[[], bytes] = _PLAIN) -> Callable[[], bytes]:
    """An archive with one field of its end record, counted from the end of the file, overwritten."""

    def build() -> bytes:
        data = bytearray(of())
        struct.pack_into("<" + layout, data, len(data) + at, value)
        return bytes(data)

    return build


CASES = (
    opens("C1 an honest archive", _PLAIN, _whole),
    refuses("C1 a bad checksum of the pickle (CVE-2025-10156)", _with_pickle(crc=1), CorruptError, says="checksum"),
    harmless("C1 a bad checksum in the pickle's own header", _with_pickle(local_crc=1), _whole),
    opens("C1 a bad checksum of a storage is for `verify` to find", _with_storage(crc=1), _whole),
    *(
        refuses(f"C1 flag {flag:#x} of the pickle, in both headers (CVE-2025-1945)", _with_pickle(flags=flag), *BROKEN)
        for flag in (0x1, 0x20, 0x40, 0x2000)
    ),
    *(
        refuses(f"C1 flag {flag:#x} of the pickle, in its own header only", _with_pickle(local_flags=flag), *BROKEN)
        for flag in (0x1, 0x20, 0x40, 0x2000)
    ),
    *(
        refuses(f"C1 flag {flag:#x} of a storage, in the directory", _with_storage(flags=flag, local_flags=0), *BROKEN)
        for flag in (0x1, 0x20, 0x40, 0x2000)
    ),
    opens("C1 a storage that is encrypted, says its own header", _with_storage(local_flags=1), refuses_to_read()),
    refuses(
        "C1 the pickle has another name in its own header (CVE-2025-1944)",
        _with_pickle(local_name=b"archive/data.txt"), *DISPUTED,
    ),
    refuses(
        "C1 the pickle has a longer name in its own header",
        _with_pickle(local_name=b"archive/data.pkl "), *DISPUTED,
    ),
    opens(
        "C1 a storage has another name in its own header",
        _with_storage(local_name=b"archive/data/1"), refuses_to_read(),
    ),
    refuses("C1 the pickle is compressed, says its own header", _with_pickle(local_method=8), *BROKEN),
    refuses("C1 the pickle is stored, says its own header", _with_pickle(method=8, local_method=0), *BROKEN),
    refuses("C1 the pickle has another length in its own header", _with_pickle(local_size=1), *DISPUTED),
    refuses("C1 the pickle has another packed length in its own header", _with_pickle(local_packed_size=1), *DISPUTED),
    opens("C1 a storage has another length in its own header", _with_storage(local_size=8), refuses_to_read()),
    refuses("C1 the pickle is stored, in fewer bytes than it has", _with_pickle(packed_size=1), *BROKEN),
    opens("C1 the pickle is compressed", _with_pickle(method=8), _whole),
    refuses("C1 the pickle is compressed to something else", _with_pickle(method=8, packed=b"\xff" * 20), *BROKEN),
    refuses("C1 the pickle is compressed, and longer than it says", _with_pickle(method=8, size=10), *BROKEN),
    refuses("C1 the pickle is compressed, and shorter than it says", _with_pickle(method=8, size=999), *BROKEN),
    refuses("C1 the pickle is compressed, and cut", lambda: torch_zip(
        _PICKLE, data_pkl=Entry(b"archive/data.pkl", _PICKLE, 8, packed=b"\x4b"))),
    *(
        refuses(f"C1 the pickle is packed by method {method}", _with_pickle(method=method, packed=_PICKLE), *BROKEN)
        for method in (1, 9, 12, 14, 93, 95, 99)
    ),
    refuses(
        "C1 a pickle of 30 MB in 30 kB (42.zip)",
        lambda: torch_zip(b"", data_pkl=Entry(b"archive/data.pkl", b"\x80\x02" + bytes(30_000_000), 8)), *BOMB,
    ),
    refuses("C1 a pickle of a terabyte, says the directory", _with_pickle(method=8, size=0xFFFFFFFE), *BOMB),
    opens(
        "C1 the sizes follow the data",
        _with_pickle(flags=8, local_size=0, local_packed_size=0, local_crc=0, descriptor=_descriptor(_PICKLE)), _whole,
    ),
    refuses("C1 two pickles of one name", _and(Entry(b"archive/data.pkl", _EVIL)), AmbiguousError),
    refuses("C1 two storages of one name", _and(Entry(b"archive/data/0", b"\1" * 16)), AmbiguousError),
    refuses("C1 the pickle again in capitals", _and(Entry(b"archive/DATA.PKL", _EVIL)), AmbiguousError),
    refuses("C1 the pickle only in capitals", _zip(
        Entry(b"archive/DATA.PKL", _PICKLE), _ORDER, _STORAGE, _VERSION), NotACheckpointError, AmbiguousError),
    refuses("C1 the byte order again in capitals", _and(Entry(b"archive/ByteOrder", b"big")), AmbiguousError),
    refuses("C1 TorchScript in capitals", _and(Entry(b"archive/Constants.pkl", _EVIL)), AmbiguousError),
    opens("C1 a folder with capitals", lambda: torch_zip(_PICKLE, folder=b"MyNet/"), _whole),
    refuses(
        "C1 the same name, says a reader that stops at NUL",
        _and(Entry(b"archive/data.pkl\0.txt", _EVIL)), AmbiguousError,
    ),
    harmless("C1 a name with a backslash", _and(Entry(b"archive\\data.pkl", _EVIL))),
    harmless("C1 a name that is not UTF-8", _and(Entry(b"archive/\xff\xfe", b"x")), _whole),
    harmless("C1 names of one byte that is not UTF-8", _and(Entry(b"archive/\xff"), Entry(b"archive/\xfe")), _whole),
    refuses("C1 a second checkpoint in another folder", _and(Entry(b"evil/data.pkl", _EVIL)), AmbiguousError),
    refuses("C1 a second checkpoint at the root", _and(Entry(b"data.pkl", _EVIL)), AmbiguousError),
    refuses("C1 an entry beside the folder", _and(Entry(b"readme.txt", b"x")), AmbiguousError),
    refuses("C1 an entry above the folder", _and(Entry(b"../../etc/passwd", b"x")), AmbiguousError),
    refuses("C1 an absolute entry", _and(Entry(b"/etc/passwd", b"x")), AmbiguousError),
    refuses("C1 an entry on a drive", _and(Entry(b"C:\\autoexec.bat", b"x")), AmbiguousError),
    harmless("C1 an entry that climbs out of the folder", _and(Entry(b"archive/../../evil", b"x")), _whole),
    harmless("C1 a pickle that is a symbolic link", _with_pickle(attributes=0o120777 << 16), _whole),
    refuses("C1 a checkpoint that is called as a folder is, beside another",
            lambda: zip_of(Entry(b"a.pth", torch_zip(_PICKLE)), Entry(b"b.pth/", torch_zip(_EVIL))), AmbiguousError),
    harmless("C1 a folder as an entry", _and(Entry(b"archive/", b"")), _whole),
    harmless("C1 no folder", lambda: torch_zip(_PICKLE, folder=b""), _whole),
    harmless("C1 an entry without a name", _and(Entry(b"", b"x"))),
    refuses(
        "C1 TorchScript (CVE-2025-32434)",
        _and(Entry(b"archive/constants.pkl", _EVIL)), AmbiguousError, says="program",
    ),
    refuses(
        "C1 TorchScript's code",
        _and(Entry(b"archive/code/__torch__.py", b"import os")), AmbiguousError, says="program",
    ),
    opens(
        "C1 what newer versions of torch add",
        _and(
            Entry(b"archive/.format_version", b"1"), Entry(b"archive/.storage_alignment", b"64"),
            Entry(b"archive/.data/serialization_id", b"0" * 40),
        ),
        _whole,
    ),
    opens("C1 a zip in a zip", _zip(Entry(b"archive/net.pth", torch_zip(_PICKLE))), _whole),
    refuses("C1 a zip for a pickle", lambda: torch_zip(torch_zip(_PICKLE)), *BROKEN),
    refuses("C1 a pickle of nothing", lambda: torch_zip(b""), *BROKEN),
    refuses("C1 bytes after the pickle", lambda: torch_zip(_PICKLE + b"\0"), *DISPUTED),
    refuses("C1 a second pickle after the pickle", lambda: torch_zip(_PICKLE + _EVIL), *DISPUTED),
    refuses(
        "C1 an archive of nothing but hidden entries",
        _zip(*(replace(entry, is_hidden=True) for entry in _HONEST)),
    ),
    refuses("C1 an archive of nothing", _zip(), NotACheckpointError),
    refuses("C1 junk before the archive", _zip(*_HONEST, before=b"#!/bin/sh\n")),
    refuses("C1 a pickle before the archive", _zip(*_HONEST, before=_EVIL), *DISPUTED),
    refuses(
        "C1 a hidden entry before the archive",
        _zip(Entry(b"archive/data.pkl", _EVIL, is_hidden=True), *_HONEST), *DISPUTED,
    ),
    refuses("C1 a hidden entry after the pickle", _zip(_DATA_PKL, Entry(b"x", _EVIL, is_hidden=True), *_HONEST[1:])),
    opens(
        "C1 a hidden entry after a storage",
        _zip(_DATA_PKL, _STORAGE, Entry(b"x", _EVIL, is_hidden=True), _VERSION),
        refuses_to_read(),
    ),
    opens(
        "C1 a storage that its own header shifts over its descriptor",
        _with_storage(flags=8, local_extra=b"FB\0\0", descriptor=_descriptor(bytes(16))[:12]),
        refuses_to_read(),
    ),
    *(
        opens(
            f"C1 a storage and a descriptor of {len(_descriptor(bytes(16), layout)) - skip} bytes",
            _with_storage(
                flags=8, local_size=0, local_packed_size=0, descriptor=_descriptor(bytes(16), layout)[skip:]
            ),
            refuses_to_read() if skip else _tensor_is_zero,
        )
        for layout in ("<4s3L", "<4sL2Q")
        for skip in (0, 4)
    ),
    opens(
        "C1 a storage and a descriptor of something else",
        _with_storage(flags=8, local_size=0, local_packed_size=0, descriptor=_descriptor(b"", "<4sL2Q")),
        refuses_to_read(),
    ),
    refuses("C1 junk after the archive", _zip(*_HONEST, after=b"junk")),
    refuses("C1 a pickle after the archive", _zip(*_HONEST, after=_EVIL)),
    refuses(
        "C1 another archive after the archive",
        lambda: zip_of(*_HONEST) + zip_of(Entry(b"archive/data.pkl", _EVIL)), *DISPUTED,
    ),
    opens("C1 a comment", _zip(*_HONEST, comment=b"hello"), _whole),
    refuses("C1 a comment that is longer than the file", _patched(-2, "H", 9)),
    refuses("C1 a comment with an end record", lambda: zip_of(*_HONEST, comment=zip_of()), *DISPUTED),
    refuses(
        "C1 a comment with the beginning of an end record",
        _zip(*_HONEST, comment=b"PK\5\6" + bytes(40)), *DISPUTED,
    ),
    refuses("C1 a comment with an archive", lambda: zip_of(*_HONEST, comment=torch_zip(_EVIL)), *DISPUTED),
    refuses("C1 bytes between the directory and the end record", _zip(*_HONEST, middle=b"x" * 8), *DISPUTED),
    refuses("C1 a second directory, which only the end record's offset hides", _zip(
        *_HONEST, at=0, length=10), *DISPUTED),
    refuses("C1 fewer entries than there are, says the end record", _zip(*_HONEST, count=2), *DISPUTED),
    refuses("C1 more entries than there are, says the end record", _zip(*_HONEST, count=9), *BROKEN),
    refuses("C1 sixty thousand entries, says the end record", _zip(*_HONEST, count=60_000), *BROKEN),
    refuses("C1 no entries, says the end record", _zip(*_HONEST, count=0), *REFUSED),
    refuses("C1 a shorter directory, says the end record", _zip(*_HONEST, length=50), *DISPUTED),
    refuses("C1 a directory beyond the file, says the end record", _zip(*_HONEST, at=1 << 31)),
    refuses("C1 a directory of the whole file, says the end record", _zip(*_HONEST, at=0, length=1 << 31)),
    refuses("C1 one part of several", _patched(-18, "H", 1), *BROKEN),
    refuses("C1 an entry on another disk", _patched(-16, "H", 3), *BROKEN),
    refuses("C1 fewer entries on this disk", _patched(-14, "H", 1), *DISPUTED),
    opens("C1 zip64 records", _IS_64, _whole),
    refuses(
        "C1 a zip64 locator that points elsewhere (CVE-2025-8291)",
        _zip(*_HONEST, has_zip64=True, locator_at=0), *DISPUTED,
    ),
    refuses("C1 a zip64 locator that points beyond the file", _zip(*_HONEST, has_zip64=True, locator_at=1 << 62)),
    refuses("C1 zip64 values without zip64 records", _patched(-6, "L", 0xFFFFFFFF)),
    refuses("C1 2^40 entries, say the zip64 records", _zip(*_HONEST, has_zip64=True, count=1 << 40)),
    refuses("C1 the two end records disagree", _patched(-12, "H", 1, _IS_64), *DISPUTED),
    refuses("C1 the two end records disagree about where", _patched(-6, "L", 7, _IS_64), *DISPUTED),
    refuses("C1 an entry's zip64 sizes are missing", _with_storage(size=0xFFFFFFFF, packed_size=0xFFFFFFFF), *BROKEN),
    refuses(
        "C1 an entry's zip64 sizes are cut",
        _with_storage(size=0xFFFFFFFF, packed_size=0xFFFFFFFF, extra=struct.pack("<HHQ", 1, 16, 16)), *BROKEN,
    ),
    refuses(
        "C1 an entry's zip64 sizes are beyond all memory",
        _with_storage(size=0xFFFFFFFF, packed_size=0xFFFFFFFF, extra=struct.pack("<HHQQ", 1, 16, 1 << 62, 1 << 62)),
        *BROKEN,
    ),
    opens(
        "C1 an entry's zip64 sizes",
        _with_storage(size=0xFFFFFFFF, packed_size=0xFFFFFFFF, extra=struct.pack("<HHQQ", 1, 16, 16, 16)), _whole,
    ),
    harmless(
        "C1 an entry with two zip64 fields",
        _with_storage(
            size=0xFFFFFFFF, packed_size=0xFFFFFFFF,
            extra=struct.pack("<HHQQ", 1, 16, 16, 16) + struct.pack("<HHQQ", 1, 16, 8, 8),
        ),
    ),
    refuses(
        "C1 two entries over each other (CVE-2024-0450)",
        _zip(_DATA_PKL, _ORDER, _STORAGE, Entry(b"archive/data/1", bytes(16), offset=0)), *DISPUTED,
    ),
    refuses("C1 an entry that quotes the next", _with_pickle(packed_size=400, size=400), *DISPUTED),
    refuses("C1 an entry in the directory", _and(Entry(b"archive/x", b"x", offset=1 << 20)), *DISPUTED),
    refuses("C1 an entry at the end of the file", _and(Entry(b"archive/x", b"x", offset=0xFFFFFFFE)), *DISPUTED),
    opens("C1 a pickle whose own header has a long extra field", _with_pickle(local_extra=b"x" * 30_000), _whole),
    refuses("C1 a directory that ends in a name", _patched(-10, "L", 30), *DISPUTED),
    refuses("C1 the archive is cut before its directory", lambda: zip_of(*_HONEST)[:200], says="cut"),
    refuses("C1 the archive is cut in its end record", lambda: zip_of(*_HONEST)[:-1], says="cut"),
    refuses("C1 only the first four bytes", lambda: b"PK\3\4"),
    refuses(
        "C1 a version of a megabyte",
        _zip(_DATA_PKL, _STORAGE, Entry(b"archive/version", b"3" * 1_000_000)), *BOMB,
    ),
    harmless("C1 a version that is no number", _zip(_DATA_PKL, _STORAGE, Entry(b"archive/version", b"\x1b[31m\xff\n"))),
)  # fmt: skip
