"""What a call would have been, followed through everything that hides it; nothing is called to find out.

`getattr(import_module("os"), "system")("id")` calls `os.system`, and so do `partial`, `map`, `attrgetter`, a name put
together from letters, and `_rebuild_from_type_v2`. A `Folder` turns the calls of one pickle, in the order in which an
unpickler would make them, into the names that would have been reached. A value that it cannot follow stays a call
whose result is unknown, and calling that is never taken for harmless.

Everything is bounded: values that grow (texts put together, arguments collected), and how much is followed in all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import PurePath
from typing import NamedTuple

from rehydrate.checking.severity import Judgement, Severity, is_dunder, judge, modern
from rehydrate.checking.spelling import LATER, UNKNOWN, Bound, Getter, Method, Named, Result, Spelling, cut
from rehydrate.checking.unwrapping import UNWRAPPERS
from rehydrate.checkpoint.record import Record, brief
from rehydrate.text import shown

__all__ = ["Folder", "Reached"]

_ARGUMENTS = 64
"""Arguments of a call, and items of a `map`, that are followed."""
_TEXT = 4096
"""Characters of a text that is put together."""
_DEPTH = 16
"""Calls inside a call (partial, map, methodcaller, …) that are followed."""
_WORK = 100_000
"""Calls inside calls that are followed in one pickle, beside as many as there are calls."""
_MADE = 64 << 20
"""Characters and bytes that may be put together and unpacked in one pickle."""


class Reached(NamedTuple):
    """A name that a call would have reached."""

    judgement: Judgement
    name: str
    call: Spelling
    """The call as somebody would write it; its text is bounded and escaped."""
    loads: bytes | None = None
    """What it would have unpickled, where that is known."""


_PATH = Named(("pathlib", "Path"), 1)
_HIDDEN = Judgement(Severity.DANGEROUS, "hides what it calls")
_CODE = Judgement(Severity.NEEDS_CODE, "code that is not in the file")


class Folder:
    """The calls of one pickle, followed."""

    def __init__(self, calls: int) -> None:
        self._known: dict[int, object] = {}
        self._work = _WORK + calls
        self._room = _MADE
        self._reached: list[Reached] = []

    def follow(self, record: Record) -> list[Reached]:
        """What this call would have reached; calls inside its arguments must have been followed before."""
        self._reached = []
        if record.module or record.name != "call":
            function: object = self.value(Record(record.module, record.name))
            args = record.args or ()
        else:
            function, args = self.value((record.args or (UNKNOWN,))[0]), (record.args or ())[1:]
        folded = tuple(self.value(item) for item in args[:_ARGUMENTS])
        self._known[id(record)] = self._call(function, folded, Spelling(function, folded, record.kwargs), 0)
        return self._reached

    def value(self, value: object) -> object:
        """A value of the tree, or what the call that it is would have given."""
        if not isinstance(value, Record):
            return value
        if value.args is None:
            module = tuple(value.module.split("."))
            return cut((*module, *value.name.split(".")), len(module))
        return self._known.get(id(value), Result(UNKNOWN))

    def _call(self, function: object, args: tuple[object, ...], call: Spelling, depth: int) -> object:
        self._work -= 1
        if depth > _DEPTH or self._work < 0:
            self._note(_HIDDEN, "<too deep>", call)
            return Result(UNKNOWN)
        if isinstance(function, Bound):
            return self._call(function.function, (function.args + args)[:_ARGUMENTS], call, depth + 1)
        if isinstance(function, Getter):
            return self._got(args[0] if args else None, function, call)
        if isinstance(function, Method):
            return self._method(function, args, call, depth)
        if isinstance(function, Result):
            judgement = _HIDDEN if function.of is UNKNOWN else judge(function.of.parts, function.of.module)
            if judgement.severity is Severity.EMBEDS_CODE:
                judgement = Judgement(Severity.DANGEROUS, "runs code that the file brings along")
            self._note(_at_least_code(judgement), f"{function.of}()", call)
            return function
        if not isinstance(function, Named):
            self._note(_HIDDEN, brief(function, 1), call)
            return Result(UNKNOWN)
        return self._named(function, args, call, depth)

    def _named(self, function: Named, args: tuple[object, ...], call: Spelling, depth: int) -> object:
        """A call of something that was imported."""
        parts = modern(function.parts)
        name = ".".join(parts)
        follow = _FOLLOWED.get(name)
        if follow is not None:
            return follow(self, args, call, depth)
        judgement = judge(function.parts, function.module)
        if name in _IMPORTS and args and isinstance(args[0], str):
            return self._imported(function, args, call)
        if name in _LOADS:
            content = args[0] if args else None
            loads = bytes(content) if isinstance(content, (bytes, bytearray)) else None
            self._note(judgement, str(function), call, loads)
            return Result(function)
        unwrap = UNWRAPPERS.get(name)
        if unwrap is not None:
            value = self._made(unwrap(args), call)
            if value is not None:
                return value
        self._note(judgement, str(function), call)
        return Result(function)

    def _imported(self, function: Named, args: tuple[object, ...], call: Spelling) -> object:
        """`import_module("os")`, `resolve_name("os:system")`."""
        spelled = str(args[0])[:_TEXT]
        module, _, inside = spelled.partition(":")
        parts = tuple(module.split("."))
        self._note(judge(function.parts, function.module), str(function), call)
        if _IMPORTS[".".join(modern(function.parts))]:  # what is named may be inside a module
            found = cut((*parts, *inside.split(".")) if inside else parts, len(parts) if inside else 1)
        else:
            found = cut(parts, len(parts))
        self._note(_at_least_code(judge(found.parts, found.module)), str(found), call)
        return found

    def _got(self, owner: object, getter: Getter, call: Spelling) -> object:
        """What an attribute of a value is, or an item of it."""
        key = getter.key
        if isinstance(owner, (str, bytes, bytearray)) and isinstance(key, str) and not is_dunder(key):
            return Method(owner, key)
        if isinstance(owner, Mapping) and getter.is_item and isinstance(key, (str, int)):
            return self.value(owner.get(key))
        if isinstance(owner, (list, tuple)) and getter.is_item and isinstance(key, int):
            return self.value(owner[key]) if -len(owner) <= key < len(owner) else None
        if not isinstance(key, str):
            if getter.is_item:
                return owner
            self._note(_HIDDEN, "getattr", call)
            return Result(UNKNOWN)
        base = owner.of if isinstance(owner, Result) else owner if isinstance(owner, Named) else UNKNOWN
        if isinstance(owner, PurePath):
            base = _PATH
        if base.parts[:2] == ("sys", "modules") and len(base.parts) == 2:
            found = cut(tuple(key.split(".")), key.count(".") + 1)
        else:
            found = cut((*base.parts, *key.split(".")), base.module)
        judgement = judge(found.parts, found.module)
        if judgement.severity > Severity.NEEDS_CODE:
            self._note(judgement, str(found), call)
        return found

    def _method(self, method: Method, args: tuple[object, ...], call: Spelling, depth: int) -> object:
        """A method of a plain value: texts and bytes that are put together; of anything else, an attribute's call."""
        owner = method.owner
        if owner is LATER:
            if not args:
                return Result(UNKNOWN)
            found = self._got(args[-1], Getter(method.name, False), call)  # its own arguments came first
            return self._call(found, args[:-1], call, depth + 1)
        made = self._made(_text_made(owner, method.name, args), call)
        if made is not None:
            return made
        self._note(_at_least_code(_HIDDEN), f"{type(owner).__name__}.{method.name}", call)
        return Result(UNKNOWN)

    def _made(self, value: str | bytes | None, call: Spelling) -> object:
        """A value that was put together, as long as all of them are not too long."""
        self._room -= len(value or ())
        if self._room < 0:
            self._note(_HIDDEN, "<too much>", call)
            return Result(UNKNOWN)
        return value

    def _note(self, judgement: Judgement, name: str, call: Spelling, loads: bytes | None = None) -> None:
        self._reached.append(Reached(judgement, shown(name), call, loads))

    # What is followed, by name: each takes the arguments and gives what the call would have given.

    def _getattr(self, args: tuple[object, ...], call: Spelling, depth: int) -> object:
        if len(args) < 2:
            return Result(UNKNOWN)
        return self._got(args[0], Getter(args[1], False), call)

    def _getitem(self, args: tuple[object, ...], call: Spelling, depth: int) -> object:
        return self._got(args[0], Getter(args[1], True), call) if len(args) > 1 else Result(UNKNOWN)

    def _attrgetter(self, args: tuple[object, ...], call: Spelling, depth: int) -> object:
        return Getter(args[0] if args else None, False)

    def _itemgetter(self, args: tuple[object, ...], call: Spelling, depth: int) -> object:
        return Getter(args[0] if args else None, True)

    def _methodcaller(self, args: tuple[object, ...], call: Spelling, depth: int) -> object:
        if not args or not isinstance(args[0], str):
            self._note(_HIDDEN, "operator.methodcaller", call)
            return Result(UNKNOWN)
        return Bound(Method(LATER, args[0]), args[1:])

    def _partial(self, args: tuple[object, ...], call: Spelling, depth: int) -> object:
        return Bound(args[0], args[1:]) if args else Result(UNKNOWN)

    def _apply(self, args: tuple[object, ...], call: Spelling, depth: int) -> object:
        """`apply(f, args)`, `operator.call(f, *args)`, `Thread(target=f)`."""
        return self._call(args[0], args[1:], call, depth + 1) if args else Result(UNKNOWN)

    def _apply_tuple(self, args: tuple[object, ...], call: Spelling, depth: int) -> object:
        inner = args[1] if len(args) > 1 and isinstance(args[1], (list, tuple)) else ()
        return self._call(args[0], self._items(inner), call, depth + 1) if args else Result(UNKNOWN)

    def _map(self, args: tuple[object, ...], call: Spelling, depth: int) -> object:
        """`map(f, items)`, `filter`: lazy in Python 3, and called as soon as anything walks it."""
        items = self._items(args[1]) if len(args) > 1 else ()
        return [self._call(args[0], (item,), call, depth + 1) for item in items]

    def _starmap(self, args: tuple[object, ...], call: Spelling, depth: int) -> object:
        items = self._items(args[1]) if len(args) > 1 else ()
        return [self._call(args[0], self._items(item), call, depth + 1) for item in items]

    def _reduce(self, args: tuple[object, ...], call: Spelling, depth: int) -> object:
        items = self._items(args[1]) if len(args) > 1 else ()
        if len(args) > 2:
            items = (args[2], *items)
        value: object = items[0] if items else None
        for item in items[1:]:
            value = self._call(args[0], (value, item), call, depth + 1)
        return value

    def _same(self, args: tuple[object, ...], call: Spelling, depth: int) -> object:
        """`list(x)`, `iter(x)`, `BytesIO(x)`: what is walked, or read, is the same."""
        return args[0] if args else ()

    def _next(self, args: tuple[object, ...], call: Spelling, depth: int) -> object:
        items = self._items(args[0]) if args else ()
        return items[0] if items else Result(UNKNOWN)

    def _rebuilt(self, args: tuple[object, ...], call: Spelling, depth: int) -> object:
        """`_rebuild_from_type_v2(function, type, args, state)`: calls the function, and sets attributes."""
        if len(args) < 3 or not isinstance(args[2], (list, tuple)):
            return Result(UNKNOWN)
        inner = self._items(args[2])
        return self._call(args[0], inner, Spelling(args[0], inner, {}), depth + 1)

    def _instance(self, args: tuple[object, ...], call: Spelling, depth: int) -> object:
        """`copyreg.__newobj__(class, *args)`, `_reconstructor(class, base, state)`: an object of that class."""
        if args and isinstance(args[0], Named):
            judgement = judge(args[0].parts, args[0].module)
            self._note(judgement, str(args[0]), call)
            return Result(args[0])
        self._note(_HIDDEN, "copyreg.__newobj__", call)
        return Result(UNKNOWN)

    def _concat(self, args: tuple[object, ...], call: Spelling, depth: int) -> object:
        made = _text_made(args[0], "__add__", args[1:]) if args else None
        return self._made(made, call) or Result(UNKNOWN)

    def _items(self, value: object) -> tuple[object, ...]:
        if isinstance(value, (list, tuple, deque)):
            return tuple(self.value(item) for item in islice(value, _ARGUMENTS))
        if isinstance(value, str):
            return tuple(value[:_ARGUMENTS])
        return (value,)


def _at_least_code(judgement: Judgement) -> Judgement:
    return judgement if judgement.severity > Severity.DATA else _CODE


def _text_made(owner: object, name: str, args: tuple[object, ...]) -> str | bytes | None:
    """What a method of a text gives that only puts texts together; None for any other."""
    first = args[0] if args else None
    if isinstance(owner, str):
        owner = owner[:_TEXT]
        if name == "join" and isinstance(first, (list, tuple)):
            items = list(islice(first, _ARGUMENTS))
            return owner.join(item for item in items if isinstance(item, str))[:_TEXT]
        texts = tuple(item[:_TEXT] for item in args if isinstance(item, str))
        if name in _TEXTS and len(texts) == len(args):
            return _TEXTS[name](owner, texts)[:_TEXT]
        if name == "encode":
            return owner.encode("utf-8", "surrogatepass")
    if isinstance(owner, (bytes, bytearray)) and name == "decode" and len(owner) <= _TEXT:
        return bytes(owner).decode("latin-1")
    if isinstance(owner, bytes) and name == "__add__" and isinstance(first, bytes):
        return owner + first if len(owner) + len(first) <= _MADE else None
    return None


_TEXTS: Mapping[str, Callable[[str, tuple[str, ...]], str]] = {
    "__add__": lambda owner, args: owner + "".join(args),
    "replace": lambda owner, args: owner.replace(args[0], args[1]) if len(args) == 2 and args[0] else owner,
    "format": lambda owner, args: owner.replace("{}", args[0] if args else ""),
    "strip": lambda owner, args: owner.strip(),
    "lower": lambda owner, args: owner.lower(),
    "upper": lambda owner, args: owner.upper(),
}


_Follow = Callable[[Folder, tuple[object, ...], Spelling, int], object]
_FOLLOWED: Mapping[str, _Follow] = {
    "builtins.getattr": Folder._getattr,
    "inspect.getattr_static": Folder._getattr,
    "dill._dill._get_attr": Folder._getattr,
    "object.__getattribute__": Folder._getattr,
    "builtins.object.__getattribute__": Folder._getattr,
    "builtins.type.__getattribute__": Folder._getattr,
    "operator.getitem": Folder._getitem,
    "builtins.dict.get": Folder._getitem,
    "builtins.dict.__getitem__": Folder._getitem,
    "operator.attrgetter": Folder._attrgetter,
    "operator.itemgetter": Folder._itemgetter,
    "operator.methodcaller": Folder._methodcaller,
    "operator.call": Folder._apply,
    "operator.concat": Folder._concat,
    "operator.add": Folder._concat,
    "functools.partial": Folder._partial,
    "functools.partialmethod": Folder._partial,
    "types.MethodType": Folder._partial,
    "functools.reduce": Folder._reduce,
    "builtins.reduce": Folder._reduce,
    "builtins.apply": Folder._apply_tuple,
    "builtins.map": Folder._map,
    "builtins.filter": Folder._map,
    "itertools.imap": Folder._map,
    "itertools.starmap": Folder._starmap,
    **dict.fromkeys(
        ("builtins.list", "builtins.tuple", "builtins.iter", "builtins.set", "builtins.frozenset", "builtins.reversed",
         "builtins.bytes", "builtins.bytearray", "io.BytesIO", "cStringIO.StringIO", "StringIO.StringIO",
         "collections.deque", "itertools.chain", "builtins.str", "builtins.memoryview", "builtins.vars"),
        Folder._same,
    ),
    "builtins.next": Folder._next,
    "torch._tensor._rebuild_from_type_v2": Folder._rebuilt,
    "copyreg.__newobj__": Folder._instance,
    "copyreg.__newobj_ex__": Folder._instance,
    "copyreg._reconstructor": Folder._instance,
}  # fmt: skip
"""What is followed and is no finding itself; what it leads to is."""

_IMPORTS = {
    "builtins.__import__": False, "importlib.import_module": False, "importlib.__import__": False,
    "importlib._bootstrap._gcd_import": False, "dill._dill._import_module": True,
    "cloudpickle.cloudpickle.subimport": False, "cloudpickle.subimport": False, "six._import_module": False,
    "pkgutil.resolve_name": True, "pydoc.locate": True, "pydoc.resolve": True, "pydoc.safeimport": False,
}  # fmt: skip
"""What imports, and whether the name that it is given may be of something inside a module."""

_LOADS = frozenset({
    "pickle.loads", "pickle.load", "pickle._loads", "pickle._load", "pickle.Unpickler", "pickle._Unpickler",
    "torch.load", "torch.serialization.load", "torch.storage._load_from_bytes", "torch.jit.load", "joblib.load",
    "joblib.numpy_pickle.load", "sklearn.externals.joblib.load", "dill.loads", "dill.load", "dill._dill.loads",
    "dill._dill.load", "cloudpickle.loads", "cloudpickle.load", "numpy.load", "pandas.read_pickle",
})  # fmt: skip
"""What unpickles what it is given."""
