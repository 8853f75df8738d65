"""Names of Python's own that stand for plain data, and what their calls give.

Each constructor is a pure function of ours over the arguments that the real one is pickled with. It never calls what
a file names, checks the types it is given, and answers `UNFIT` for anything else: the call then stays a record.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Mapping

from rehydrate.checkpoint.record import Record
from rehydrate.pickles.results import UNFIT, Constructor, Filled, Name

__all__ = ["CONSTANTS", "CONSTRUCTORS", "TYPES", "raw_bytes"]

_BUILTIN_TYPES: Mapping[str, type] = {
    "list": list, "dict": dict, "set": set, "tuple": tuple, "frozenset": frozenset, "bool": bool, "int": int,
    "float": float, "complex": complex, "str": str, "bytes": bytes, "bytearray": bytearray,
    "long": int, "unicode": str,  # what protocols 0 to 2 call them, for Python 2
}  # fmt: skip
_FACTORIES: Mapping[Name, type] = {
    **{(module, name): kind for module in ("builtins", "__builtin__") for name, kind in _BUILTIN_TYPES.items()},
    **{("collections", kind.__name__): kind for kind in (OrderedDict, Counter, defaultdict, deque)},
}
"""What a defaultdict may make by itself: values that are empty."""


def raw_bytes(value: object, length: int) -> bytes | bytearray | None:
    """So many bytes, as a pickle holds them; None for anything else.

    Python 2 and old protocols write them as text: latin-1, unless the machine took them for UTF-8. The two never give
    equally many bytes, so the length says which it was.

    >>> raw_bytes("a\\xe9", 2), raw_bytes("a\\xe9", 3), raw_bytes(b"a", 2)
    (b'a\\xe9', b'a\\xc3\\xa9', None)
    """
    if isinstance(value, str) and length <= 4 * len(value) <= 4 * length:
        try:
            value = value.encode("latin-1" if len(value) == length else "utf-8")
        except UnicodeEncodeError:
            return None
    return value if isinstance(value, (bytes, bytearray)) and len(value) == length else None


def _ordered_dict(args: tuple[object, ...]) -> object:
    if not args:
        return OrderedDict()
    pairs = args[0]
    if len(args) > 1 or type(pairs) is not list:
        return UNFIT
    items: list[object] = []
    for pair in pairs:  # Python 2 and protocols 0 and 1 give the pairs as lists
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            return UNFIT
        items.extend(pair)
    return Filled(OrderedDict(), items)


def _default_dict(args: tuple[object, ...]) -> object:
    if not args or args == (None,):
        return defaultdict(None)
    factory = args[0]
    if len(args) == 1 and isinstance(factory, Record) and factory.args is None:
        known = _FACTORIES.get((factory.module, factory.name))
        if known is not None:
            return defaultdict(known)
    return UNFIT


def _counter(args: tuple[object, ...]) -> object:
    if not args:
        return Counter()
    if len(args) == 1 and type(args[0]) is dict:
        counts: Counter[object] = Counter()
        dict.update(counts, args[0])  # the counts as they are, not added up
        return counts
    return UNFIT


def _deque(args: tuple[object, ...]) -> object:
    if not args:
        return deque()
    items = args[0]
    longest = args[1] if len(args) > 1 else None
    if len(args) > 2 or not isinstance(items, (list, tuple)):
        return UNFIT
    if longest is None or (type(longest) is int and 0 <= longest < 1 << 31):
        return deque(items, longest)
    return UNFIT


def _set(args: tuple[object, ...]) -> object:
    items = _members(args)
    return UNFIT if items is None else Filled(set(), items)


def _frozenset(args: tuple[object, ...]) -> object:
    items = _members(args)
    return UNFIT if items is None else Filled(frozenset(), items)


def _members(args: tuple[object, ...]) -> list[object] | tuple[object, ...] | None:
    """Protocols 0 to 3 write a set as a call with a list."""
    if not args:
        return ()
    return args[0] if len(args) == 1 and isinstance(args[0], (list, tuple)) else None


def _complex(args: tuple[object, ...]) -> object:
    if len(args) == 2 and all(type(part) is float for part in args):
        return complex(args[0], args[1])  # type: ignore[call-overload]
    return UNFIT


def _bytearray(args: tuple[object, ...]) -> object:
    if not args:
        return bytearray()
    if len(args) == 1 and type(args[0]) is bytes:
        return bytearray(args[0])
    if len(args) == 2 and type(args[0]) is str and args[1] == "latin-1":  # protocols 0 to 2
        try:
            return bytearray(args[0].encode("latin-1"))
        except UnicodeEncodeError:
            return UNFIT
    return UNFIT  # above all a number: `bytearray(2 << 30)` is a way to ask for memory


def _bytes(args: tuple[object, ...]) -> object:
    return b"" if not args else UNFIT


def _encode(args: tuple[object, ...]) -> object:
    """`_codecs.encode(text, "latin1")`: how protocols 0 to 2 write bytes."""
    if len(args) == 2 and type(args[0]) is str and args[1] in ("latin1", "latin-1"):
        try:
            return args[0].encode("latin-1")
        except UnicodeEncodeError:
            return UNFIT
    return UNFIT


def _is_index(part: object) -> bool:
    """Whether it is an integer that a position can be; a longer one could not even be printed."""
    return type(part) is int and -(1 << 63) <= part < 1 << 63


def _slice(args: tuple[object, ...]) -> object:
    if 1 <= len(args) <= 3 and all(part is None or _is_index(part) for part in args):
        return slice(*args)
    return UNFIT


def _range(args: tuple[object, ...]) -> object:
    numbers = [part for part in args if isinstance(part, int) and _is_index(part)]
    if 1 <= len(numbers) <= 3 and len(numbers) == len(args) and numbers[2:] != [0]:
        return range(*numbers)
    return UNFIT


CONSTANTS: Mapping[Name, object] = {("builtins", "Ellipsis"): ..., ("__builtin__", "Ellipsis"): ...}
"""(module, name) → the value that the name itself is."""

TYPES: frozenset[Name] = frozenset(_FACTORIES) | {("builtins", "object"), ("__builtin__", "object")}
"""Classes of Python's own that do nothing but hold: naming one is no stranger's code."""

_BUILTINS: Mapping[str, Constructor] = {
    "set": _set,
    "frozenset": _frozenset,
    "complex": _complex,
    "bytearray": _bytearray,
    "bytes": _bytes,
    "slice": _slice,
    "range": _range,
    "xrange": _range,
}

CONSTRUCTORS: Mapping[Name, Constructor] = {
    ("collections", "OrderedDict"): _ordered_dict,
    ("collections", "defaultdict"): _default_dict,
    ("collections", "Counter"): _counter,
    ("collections", "deque"): _deque,
    ("_codecs", "encode"): _encode,
    **{("builtins", name): constructor for name, constructor in _BUILTINS.items()},
    **{("__builtin__", name): constructor for name, constructor in _BUILTINS.items()},
}
"""(module, name) → the function that makes the plain value."""
