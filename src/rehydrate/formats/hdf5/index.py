"""Run by itself, in a process of its own: reads the index of an HDF5 file with pyfive and says what is in it.

The parent (`apart`) speaks first: one line of JSON, `{"size": …, "seconds": …, "room": …}`. Then this process asks
for bytes and says what it finds:

    "R", start u64, length u64      a few bytes of the file, please; they come back, exactly so many
    "O", length u64, JSON           an object, see below
    "E", length u64, JSON           the end: {}, {"missing": "pyfive"} or {"error": what}

It has no file open but the three that it was started with, may write none, and is ended by the system when it has used
its seconds or its room: whatever a hostile file makes pyfive do ends here. It imports nothing of rehydrate.

    {"path": ["a"], "group": 96, "attributes": {…}}                        the number is the same for the same group
    {"path": ["a", "w"], "shape": [2, 3], "dtype": "<f4", "at": 2048}      contiguous
    {…, "data": hex}                                                       compact: in the index itself
    {…, "chunks": [2, 2], "filters": [[1, [4]]], "fill": hex, "index": [[at, size, mask, 0, 2], …]}
    {"path": ["a", "w"], "value": "text"} · {…, "unread": why}
"""

from __future__ import annotations

import faulthandler
import json
import os
import struct
import sys
import warnings
from collections.abc import Iterator
from typing import Any

__all__: list[str] = []

_PAGE = 16 << 10
"""Bytes that are asked for at once: objects lie close together."""
_RESERVED = 256 << 20
"""Address space that each thread's allocator takes without using it; the watchdog is a thread."""
_LISTED = 10_000
"""Elements of text that are part of the answer."""
_DEEPEST = 16
"""Lists in each other in an attribute."""
_NO_ADDRESS = 0xFFFFFFFFFFFFFFFF
_EXTERNAL_FILES = 7
"""The message of a dataset whose numbers lie in other files."""
_DATATYPE = 3
_LAYOUT = 8
_LINK, _SYMBOLS = 6, 17
_GROUP = (2, _LINK, 10, _SYMBOLS)
"""The messages that a group has one of: where its links are, a link, what kind of group it is, a table of symbols."""
_NEWEST, _CHUNKED = 4, 2
"""The layout's version from which on chunks are listed in ways that pyfive does not know."""
_FLOATS = {
    (2, 10, 5, 0, 10, 15): "f2",
    (2, 7, 8, 0, 7, 127): "bfloat16",
    (4, 23, 8, 0, 23, 127): "f4",
    (8, 52, 11, 0, 52, 1023): "f8",
}
"""Bytes, place and width of the exponent, of the fraction, and the bias of the floats that there are."""


class _Pages:
    """The file as pyfive sees it: made of pages, each of which the parent is asked for once."""

    closed = False

    def __init__(self, size: int) -> None:
        self._size = size
        self._at = 0
        self._pages: dict[int, bytes] = {}

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        if self._at < 0:
            raise ValueError("a negative address")
        return self._at

    def read(self, length: int = -1) -> bytes:
        end = self._size if length < 0 else min(self._at + length, self._size)
        if end <= self._at:
            return b""
        first, last = self._at // _PAGE, (end - 1) // _PAGE
        whole = b"".join([self._page(number) for number in range(first, last + 1)])
        data = whole[self._at - first * _PAGE : end - first * _PAGE]
        self._at = end
        return data

    def _page(self, number: int) -> bytes:
        if number not in self._pages:
            start = number * _PAGE
            length = min(_PAGE, self._size - start)
            sys.stdout.buffer.write(b"R" + struct.pack("<QQ", start, length))
            sys.stdout.buffer.flush()
            data = sys.stdin.buffer.read(length)
            if len(data) != length:
                raise EOFError("the parent says no more")
            self._pages[number] = data
        return self._pages[number]

    def close(self) -> None:
        """The file is the parent's."""


def _confine(seconds: int, room: int) -> None:
    """No more processor time, memory or files than these; where the system cannot say so, a watchdog for the time."""
    faulthandler.dump_traceback_later(4 * seconds, exit=True, file=sys.stdout)  # whatever it says is no answer
    try:
        import resource
    except ImportError:
        return
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            mapped, *_, written, _ = (int(pages) * resource.getpagesize() for pages in file.read().split())
    except (OSError, ValueError):
        mapped = written = 1 << 30
    for what, most in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_DATA, written + room),
        (resource.RLIMIT_AS, mapped + room + _RESERVED),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        try:
            resource.setrlimit(what, (bound, hard))
        except (ValueError, OSError):  # a system that does not know this one
            continue


def _objects(file: Any) -> Iterator[dict[str, object]]:
    """Every group and dataset, the root first; a group that is reached again is named again and not entered."""
    yield _group([], file)
    stack: list[tuple[list[str], Any]] = [([], file)]
    seen = {file._dataobjects.offset}
    while stack:
        path, group = stack.pop()
        _check_names(group)
        for name, link in group._links.items():
            if not name or "/" in name or name in (".", ".."):
                raise ValueError("a name that no object can have")
            inside = [*path, name]
            if isinstance(link, str):
                yield {"path": inside, "unread": f"a link to {link}"}
                continue
            messages = file._get_dataobjects(link)
            if messages.is_dataset:
                yield {"path": inside, **_dataset(file, name, messages, group)}
            elif messages.is_datatype:
                yield {"path": inside, "unread": "a type without data"}
            elif not any(map(messages.find_msg_type, _GROUP)):
                raise ValueError("an object that is neither a group nor a dataset")
            else:
                below = group.get_lazy_view(name)
                yield _group(inside, below)
                if link not in seen:
                    seen.add(link)
                    stack.append((inside, below))
            file._dataobjects_cache.clear()  # it would keep all that there is


def _check_names(group: Any) -> None:
    """pyfive keeps the last of two things of one name, and leaves out symbols of a kind that it does not know."""
    from pyfive.btree import BTreeV1Groups
    from pyfive.misc_low_level import SymbolTable

    messages = group._dataobjects
    count = len(messages.find_msg_type(_LINK))
    for message in messages.find_msg_type(_SYMBOLS):
        (tree,) = struct.unpack_from("<Q", messages.msg_data, message["offset_to_message"])
        tables = BTreeV1Groups(messages.fh, tree).symbol_table_addresses()
        count += sum(len(SymbolTable(messages.fh, address).entries) for address in tables)
    if count > len(group._links):
        raise ValueError("two things in a group have the same name, or one is of a kind that is not known")


def _group(path: list[str], group: Any) -> dict[str, object]:
    try:
        attributes = _attributes(group.attrs)
    except Exception as error:
        if not _is_lacking(error):
            raise
        attributes = {}
    return {"path": path, "group": group._dataobjects.offset, "attributes": attributes}


def _dataset(file: Any, name: str, messages: Any, group: Any) -> dict[str, object]:
    """What one dataset is, and where its numbers lie."""
    if messages.shape is None:
        return {"value": None}
    (layout, *_) = messages.find_msg_type(_LAYOUT)
    at = layout["offset_to_message"]
    version, kind = messages.msg_data[at], messages.msg_data[at + 1]
    if version > _NEWEST or (version == _NEWEST and kind == _CHUNKED):
        return {"unread": "a layout that only files written with libver='latest' have"}
    try:
        dtype = _dtype(messages)
        dataset = group.get_lazy_view(name)
        if messages.find_msg_type(_EXTERNAL_FILES):
            return {"unread": "its numbers lie in other files"}
        attributes = _attributes(dataset.attrs)
        found: dict[str, object] = {"attributes": attributes} if attributes else {}
        if dtype is None:
            is_short = dataset.dtype.kind in "OSU" and dataset.size <= _LISTED
            return found | ({"value": _plain(dataset[()])} if is_short else {"unread": f"elements of {dataset.dtype}"})
        found |= {"shape": list(map(int, dataset.shape)), "dtype": dtype}
        return found | _place(file, dataset)
    except Exception as error:
        if not _is_lacking(error):
            raise
        return {"unread": str(error)[:200]}


def _is_lacking(error: Exception) -> bool:
    """Whether pyfive says that it does not read such a thing, and not that the file is broken."""
    if type(error).__name__ == "InvalidHDF5File":
        return "datatype class" in str(error)  # complex numbers as of HDF5 2.0 are a class of their own
    return isinstance(error, (NotImplementedError, RuntimeError)) and not isinstance(error, RecursionError)


def _dtype(messages: Any) -> str | None:
    """A numpy typestring, or `bfloat16`; None for elements that are no numbers to torch."""
    kind = messages.ptype
    words = type(kind).__name__
    (message, *_) = messages.find_msg_type(_DATATYPE)
    at = message["offset_to_message"]
    size, skipped, bits = struct.unpack_from("<IHH", messages.msg_data, at + 4)
    if words in ("P5FloatType", "P5IntegerType") and (skipped, bits) != (0, 8 * size):
        raise NotImplementedError(f"numbers of {bits} bits in {size} bytes")
    if words == "P5FloatType":
        exponent, width, fraction, digits, bias = struct.unpack_from("<4BI", messages.msg_data, at + 12)
        name = _FLOATS.get((size, exponent, width, fraction, digits, bias))
        if name is None or (name == "bfloat16" and kind.dtype.str[0] == ">"):
            raise NotImplementedError(f"floats of {size} bytes, {width} of them for the exponent")
        return name if name == "bfloat16" else kind.dtype.str[0] + name
    if words == "P5EnumType":  # how h5py writes bool; by its bytes, for pyfive misreads the names of newer versions
        said = messages.msg_data[at : at + message["size"]]
        return "|b1" if said[1] == 2 and b"FALSE\0" in said and b"TRUE\0" in said else kind.dtype.str
    return kind.dtype.str if kind.dtype.kind in "iufc" else None


def _place(file: Any, dataset: Any) -> dict[str, object]:
    """Where the numbers lie: at one place, in the index itself, or in chunks."""
    store = dataset.id
    base = file.userblock_size
    if store.layout_class == 0:
        data = store._data
        return {"data": bytes(data).hex()} if data is not None else {"chunks": [], "fill": _fill(dataset), "index": []}
    if store.layout_class == 1 and store.data_offset != _NO_ADDRESS:
        return {"at": store.data_offset + base}
    chunks = list(map(int, store.chunks or ()))
    found: dict[str, object] = {"chunks": chunks, "fill": _fill(dataset)}
    filters = [[int(one["filter_id"]), list(map(int, one["client_data"]))] for one in store.filter_pipeline or ()]
    index = store.index if store.layout_class == 2 else {}
    rows = [[one.byte_offset + base, one.size, one.filter_mask, *one.chunk_offset] for one in index.values()]
    return found | {"filters": filters, "index": rows}


def _fill(dataset: Any) -> str:
    """What elements are that were never written: bytes in the file's order; empty for zero."""
    import numpy  # pyfive has loaded it

    value = dataset.fillvalue  # a number of this machine's order, or plain zero
    return numpy.asarray(value, dataset.dtype).tobytes().hex() if hasattr(value, "tobytes") else ""


def _attributes(attributes: Any) -> dict[str, object]:
    return {str(name): _plain(value) for name, value in attributes.items()}


def _plain(value: Any, depth: int = 0) -> object:
    """A value that JSON has."""
    if isinstance(value, bytes):
        return value.rstrip(b"\0").decode("utf-8", "surrogateescape")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if hasattr(value, "tolist") and depth < _DEEPEST:
        return _plain(value.tolist(), depth + 1)
    if isinstance(value, (list, tuple)) and depth < _DEEPEST:
        return [_plain(item, depth + 1) for item in value]
    return f"<{type(value).__name__}>"


def _say(word: bytes, says: dict[str, object]) -> None:
    text = json.dumps(says).encode("ascii")
    sys.stdout.buffer.write(word + struct.pack("<Q", len(text)) + text)


def _main() -> None:
    warnings.simplefilter("ignore")  # nobody would see them, and the caller's settings may make them errors
    asked = json.loads(sys.stdin.buffer.readline())
    try:
        import pyfive
    except ImportError:
        _say(b"E", {"missing": "pyfive"})
        return
    _confine(asked["seconds"], asked["room"])
    os.close(2)  # from here on, what is said is about the file, and said in the answer
    sys.stderr = None
    try:
        file = pyfive.File(_Pages(asked["size"]))
        for said in _objects(file):
            _say(b"O", said)
        _say(b"E", {})
    except Exception as error:  # noqa: BLE001 - a hostile file can make a parser raise anything, and all of it is said
        _say(b"E", {"error": f"{type(error).__name__}: {error}"[:300]})


if __name__ == "__main__":
    _main()
    sys.stdout.buffer.flush()
    os._exit(0)  # without the finalizers of what pyfive still holds
