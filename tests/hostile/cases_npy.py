"""N1: numpy arrays whose headers lie or whose objects would run something, alone and in archives."""

from __future__ import annotations

from collections.abc import Callable

from rehydrate.checkpoint.record import Record
from rehydrate.errors import AmbiguousError, CorruptError, LimitError, TruncatedError

from .archives import Entry, zip_of
from .assembler import call, pickle_of, unicode
from .case import BOMB, BROKEN, DISPUTED, REFUSED, Case, calls, harmless, opens, refuses, reports_call

_EVIL = pickle_of(call("os", "system", unicode("id")))


def npy_of(
    header: str | bytes, data: bytes = b"", *, version: int = 1, minor: int = 0, claim: int | None = None
) -> bytes:
    """A file of this header; `claim` is the length it states instead of the true one."""
    raw = header if isinstance(header, bytes) else header.encode("latin-1")
    length = len(raw) if claim is None else claim
    return b"\x93NUMPY" + bytes((version, minor)) + length.to_bytes(2 if version == 1 else 4, "little") + raw + data


def said(descr: str = "'<f4'", order: str = "False", shape: str = "(4,)") -> str:
    """A header as numpy writes it, but for what is given."""
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


def _array(**parts: str) -> Callable[[], bytes]:
    return lambda: npy_of(said(**parts), bytes(16))


_HONEST = npy_of(said(), bytes(16))

_HEADERS = {
    "of two shapes": "{'descr': '<f4', 'fortran_order': False, 'shape': (4,), 'shape': (2,)}",
    "without a shape": "{'descr': '<f4', 'fortran_order': False}",
    "with one thing more": "{'descr': '<f4', 'fortran_order': False, 'shape': (4,), 'x': 1}",
    "that is a call": "__import__('os').system('id')",
    "that is a sum": said().strip() + " | {}",
    "that is a comprehension": "{k: 1 for k in ('descr', 'fortran_order', 'shape')}",
    "that is a name": "shape",
    "that is a tuple": "('descr', '<f4')",
    "that is empty": "",
    "that is spaces": " " * 100,
    "of NULs": "\0" * 100,
    "that goes on after its end": said().strip() + " {}",
    "with an f-string": said(descr="f'{1}'"),
    "with bytes for a type": "{'descr': b'\\xff', 'fortran_order': False, 'shape': ()}",
    "with an escape that is no character": said(descr=r"'\U00110000'"),
    "with half a surrogate": said(descr=r"'\ud800'"),
    "with a sequence that moves the cursor": said(descr=r"'\x1b[2J'"),
    "with a real escape in it": said(descr="'\x1b[2J'"),
    "with a string that does not end": "{'descr': '<f4",
    "with a key of numbers": "{1: 2, 'descr': '<f4'}",
    "with a list for a key": "{[]: 2}",
}
_TYPES = {
    "nothing": "''", "an unknown kind": "'<q8'", "a float of three bytes": "'<f3'",
    "an endless text": "'<U999999999999999999'",
    "a type that is a number": "4", "a type that is None": "None", "a structure of nothing": "[()]",
    "a structure of a name": "['a']", "a structure with a shape that is text": "[('a', '<f4', 'x')]",
    "a structure with a shape below zero": "[('a', '<f4', (-1,))]",
    "a structure of exabytes": "[('a', '<f4', (4294967296, 4294967296))]",
}  # fmt: skip
_SHAPES = {
    "below zero": "(-4,)", "of truth": "(True,)", "of floats": "(4.0,)", "without a comma": "(4)",
    "that is a list": "[4]",
    "beyond 64 bits": "(99999999999999999999,)", "of exabytes": "(4611686018427387904, 4)",
    "of exabytes and none": "(0, 4611686018427387904, 4611686018427387904)",
    "of many dimensions": "(" + "1," * 65 + ")",
    "of very many dimensions": "(" + "1," * 20_000 + ")", "with two commas": "(4,,)", "that is a dict": "{}",
}  # fmt: skip


def _in_zip(*members: tuple[bytes, bytes], **changes: object) -> Callable[[], bytes]:
    return lambda: zip_of(*(Entry(name, data, **changes) for name, data in members))  # type: ignore[arg-type]


def _is_empty_text(checkpoint: object) -> bool:
    return isinstance(checkpoint.tree, Record) and checkpoint.tree.args[0] == (1 << 40,)  # type: ignore[attr-defined]


CASES: tuple[Case, ...] = (
    *(
        refuses(f"N1 a header {words}", lambda text=text: npy_of(text, bytes(16)), *REFUSED)
        for words, text in _HEADERS.items()
    ),
    *(refuses(f"N1 {words} for a type", _array(descr=text), *REFUSED) for words, text in _TYPES.items()),
    *(refuses(f"N1 a shape {words}", _array(shape=text), *REFUSED) for words, text in _SHAPES.items()),
    *(
        refuses(f"N1 brackets in each other, {count:,} of {bracket}", lambda text=bracket * count: npy_of(text), *BOMB)
        for bracket in "([{"
        for count in (17, 60_000)
    ),
    refuses("N1 an order that is a number", _array(order="0"), CorruptError),
    refuses("N1 a header that is longer than the file", lambda: npy_of(said(), claim=60_000), TruncatedError),
    refuses("N1 a header of four gigabytes", lambda: npy_of(said(), version=2, claim=0xFFFFFFFF), *BROKEN),
    refuses("N1 a header of megabytes", lambda: npy_of(said() + " " * (2 << 20), bytes(16), version=2), LimitError),
    refuses("N1 a header that is no UTF-8", lambda: npy_of(b"\xff" * 60, version=3), CorruptError),
    refuses("N1 version 0", lambda: npy_of(said(), bytes(16), version=0), CorruptError),
    refuses("N1 version 4", lambda: npy_of(said(), bytes(16), version=4), CorruptError),
    refuses("N1 version 1.1", lambda: npy_of(said(), bytes(16), minor=1), CorruptError),
    refuses("N1 half of the data", lambda: npy_of(said(), bytes(8)), TruncatedError),
    refuses("N1 no data", lambda: npy_of(said()), TruncatedError),
    refuses("N1 a byte more than the data", lambda: _HONEST + b"\0", AmbiguousError),
    refuses("N1 a pickle after the data", lambda: _HONEST + _EVIL, AmbiguousError),
    refuses("N1 a second array after the first", lambda: _HONEST + _HONEST, AmbiguousError),
    opens("N1 objects that are a call", lambda: npy_of(said("'|O'", shape="(1,)"), _EVIL), calls("os", "system", "id")),
    opens("N1 the call of objects is told", lambda: npy_of(said("'|O'"), _EVIL), reports_call("os.system")),
    opens(
        "N1 an object inside a structure",
        lambda: npy_of(said("[('a', '<f4'), ('b', [('c', '|O')])]"), _EVIL),
        reports_call("os.system"),
    ),
    refuses("N1 a pickle after the objects", lambda: npy_of(said("'|O'"), _EVIL + _EVIL), *DISPUTED),
    refuses("N1 objects without a pickle", lambda: npy_of(said("'|O'")), *REFUSED),
    refuses("N1 text that is no character", lambda: npy_of(said("'<U1'", shape="(1,)"), b"\xff" * 4), CorruptError),
    harmless("N1 text of surrogates", lambda: npy_of(said("'<U1'", shape="(1,)"), b"\0\xd8\0\0")),
    opens("N1 empty text without end", lambda: npy_of(said("'<U0'", shape="(1099511627776,)")), _is_empty_text),
    harmless("N1 lists of nothing", lambda: npy_of(said("'<U1'", shape="(100000000, 0)"))),
    opens(
        "N1 an archive whose objects are a call",
        _in_zip((b"a.npy", _HONEST), (b"o.npy", npy_of(said("'|O'"), _EVIL))),
        reports_call("os.system"),
    ),
    opens(
        "N1 a packed archive whose objects are a call",
        _in_zip((b"a.npy", _HONEST), (b"o.npy", npy_of(said("'|O'"), _EVIL)), method=8),
        reports_call("os.system"),
    ),
    refuses("N1 an archive with a member that is no array", _in_zip((b"a.npy", b"x" * 50)), CorruptError),
    refuses("N1 an archive with an empty member", _in_zip((b"a.npy", b"")), *BROKEN),
    refuses("N1 an archive with a member that is cut", _in_zip((b"a.npy", _HONEST[:-1])), TruncatedError),
    refuses("N1 an archive with more in a member", _in_zip((b"a.npy", _HONEST + b"x")), AmbiguousError),
    refuses(
        "N1 a packed archive that says less than there is",
        _in_zip((b"a.npy", npy_of(said(shape="(1000,)"), bytes(4000))), method=8, size=200),
        *REFUSED,
    ),
    harmless(
        "N1 a packed member that says more than there is",
        _in_zip((b"a.npy", npy_of(said(shape="(1000,)"), bytes(400))), method=8, size=4000 + len(_HONEST)),
    ),
    harmless(
        "N1 an archive with names that lead elsewhere", _in_zip((b"../../a.npy", _HONEST), (b"/etc/b.npy", _HONEST))
    ),
    harmless("N1 an archive with a name that moves the cursor", _in_zip((b"\x1b[2J\n.npy", _HONEST))),
    harmless("N1 an archive whose member is called .npy", _in_zip((b".npy", _HONEST))),
)
