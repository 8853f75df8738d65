"""C8: what compression can hide, claim and cost."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import zlib
from collections.abc import Callable

from rehydrate.errors import AmbiguousError, CorruptError, LimitError, NotACheckpointError, TruncatedError

from .archives import torch_zip
from .assembler import call, empty_dict, pickle_of, setitem, tensor, unicode
from .case import BOMB, BROKEN, calls, harmless, holds_tensor, opens, refuses

_PICKLE = pickle_of(empty_dict, unicode("w"), tensor(), setitem)
_EVIL = pickle_of(call("os", "system", unicode("id")))
_ZIP = torch_zip(_PICKLE)

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "zlib": zlib.compress,
}


def _gzip_header(flags: int, more: bytes) -> bytes:
    """A member whose header has more than most."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = packer.compress(_ZIP) + packer.flush()
    return b"\x1f\x8b\x08" + bytes([flags]) + bytes(6) + more + body + struct.pack("<2L", zlib.crc32(_ZIP), len(_ZIP))


def _nested(times: int) -> bytes:
    data = _ZIP
    for _ in range(times):
        data = gzip.compress(data)
    return data


CASES = (
    *(opens(f"C8 a call of os.system in {name}", lambda pack=pack: pack(_EVIL), calls("os", "system", "id"))
      for name, pack in PACKERS.items()),
    *(opens(f"C8 an honest file in {name}", lambda pack=pack: pack(_ZIP), holds_tensor())
      for name, pack in PACKERS.items()),
    *(refuses(f"C8 a second file behind the first, in {name}", lambda pack=pack: pack(_ZIP) + _ZIP, AmbiguousError)
      for name, pack in PACKERS.items()),
    *(refuses(f"C8 the first half of {name}", lambda pack=pack: pack(_ZIP)[:200], TruncatedError)
      for name, pack in PACKERS.items()),
    *(refuses(f"C8 nothing at all in {name}", lambda pack=pack: pack(b""), NotACheckpointError)
      for name, pack in PACKERS.items() if name not in ("lzma", "zlib")),
    *(refuses(f"C8 {name} in {name} in {name} in {name} in {name}",
              lambda pack=pack: pack(pack(pack(pack(pack(_ZIP))))), LimitError)
      for name, pack in PACKERS.items()),
    refuses("C8 thirty layers of gzip", lambda: _nested(30), LimitError),
    refuses("C8 two streams, the second of which is cut", lambda: gzip.compress(_ZIP) + gzip.compress(b"x")[:-3],
            TruncatedError),
    refuses("C8 two streams of two kinds", lambda: gzip.compress(_ZIP) + bz2.compress(b"x"), AmbiguousError),
    refuses("C8 a bad CRC", lambda: gzip.compress(_ZIP)[:-8] + bytes(4) + gzip.compress(_ZIP)[-4:], CorruptError,
            says="bad CRC"),
    refuses("C8 a bad length", lambda: gzip.compress(_ZIP)[:-4] + bytes(4), CorruptError, says="bad CRC"),
    refuses("C8 gzip of a method that does not exist", lambda: b"\x1f\x8b\x07" + bytes(100), *BROKEN),
    refuses("C8 gzip with flags that do not exist", lambda: b"\x1f\x8b\x08\xe0" + bytes(100), *BROKEN),
    opens("C8 gzip with a name that moves the cursor", lambda: _gzip_header(8, b"\x1b[2J../../etc\0"), holds_tensor()),
    opens("C8 gzip with a long extra field", lambda: _gzip_header(4, b"\xff\xff" + bytes(65535)), holds_tensor()),
    refuses("C8 gzip with a name without an end", lambda: b"\x1f\x8b\x08\x08" + bytes(6) + b"x" * 5000, *BROKEN),
    refuses("C8 xz whose dictionary is four gigabytes",
            lambda: b"\xfd7zXZ\0\0\1\x69\x22\xde\x36\x02\0\x21\1\x28\0\0\0" + bytes(100), *BROKEN, *BOMB),
    refuses("C8 lzma whose dictionary is four gigabytes", lambda: b"\x5d\0\0\xff\xff" + b"\xff" * 8 + bytes(100),
            *BROKEN, *BOMB, NotACheckpointError),
    refuses("C8 lzma that says it unpacks to all there is", lambda: PACKERS["lzma"](_ZIP)[:5] + b"\xff" * 7 + b"\x7f"
            + PACKERS["lzma"](_ZIP)[13:], *BROKEN, NotACheckpointError),
    refuses("C8 bzip2 that is a signature", lambda: b"BZh9", TruncatedError),
    refuses("C8 bzip2 of another level than it says", lambda: b"BZh0" + bz2.compress(_ZIP)[4:], NotACheckpointError),
    refuses("C8 zlib that needs a dictionary", lambda: b"\x78\xbb" + bytes(100), NotACheckpointError),
    refuses("C8 zeros behind xz that are not four", lambda: lzma.compress(_ZIP) + bytes(2), AmbiguousError),
    harmless("C8 zeros behind gzip", lambda: gzip.compress(_ZIP) + bytes(1000), holds_tensor()),
    refuses("C8 zeros and then something behind gzip", lambda: gzip.compress(_ZIP) + bytes(99_999) + _ZIP,
            AmbiguousError),
    refuses("C8 a web page", lambda: gzip.compress(b"<html><title>x</title>"), NotACheckpointError,
            says="a web page: x"),
)  # fmt: skip

_ZEROS = 80 << 20

BOMBS = (
    *(refuses(f"C8 eighty megabytes of zeros in {name}", lambda pack=pack: pack(bytes(_ZEROS)), LimitError)
      for name, pack in PACKERS.items()),
    refuses("C8 eighty megabytes of zeros in gzip in gzip",
            lambda: gzip.compress(gzip.compress(bytes(_ZEROS))), LimitError),
    refuses("C8 a gigabyte of zeros in gzip in sixty megabytes of gzip",
            lambda: gzip.compress(gzip.compress(bytes(1 << 20)) * 50_000), LimitError),
    harmless("C8 fifty thousand streams of nothing", lambda: gzip.compress(b"") * 50_000),
    harmless("C8 fifty thousand streams of bzip2 of nothing", lambda: bz2.compress(b"") * 50_000),
    harmless("C8 thirty thousand streams of xz of nothing", lambda: lzma.compress(b"") * 30_000),
    harmless("C8 a million zeros behind gzip", lambda: gzip.compress(_ZIP) + bytes(1_000_000), holds_tensor()),
)  # fmt: skip
