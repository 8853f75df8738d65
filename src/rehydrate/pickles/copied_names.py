"""Ways around a class's own name: how old protocols, and `copyreg`, spell the making of an object.

    copyreg._reconstructor(class, base, state)      protocols 0 and 1; `copy_reg` for Python 2
    copyreg.__newobj__(class, *args)                what NEWOBJ does, as a call
    copyreg.__newobj_ex__(class, args, kwargs)      the same with keywords

Each becomes what the class's own call would have become: the plain value where its name is known, a record of that
class otherwise, and not a record of the way around.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeGuard

from rehydrate.checkpoint.record import Record
from rehydrate.pickles.results import UNFIT, Constructor, Costly, Name

__all__ = ["as_if_called"]

_MODULES = ("copyreg", "copy_reg")
_BUILTINS = ("builtins", "__builtin__")


def as_if_called(constructors: Mapping[Name, Constructor]) -> Mapping[Name, Constructor]:
    """These constructors, and the ways around their names."""

    def called(kind: Record, args: tuple[object, ...]) -> object:
        construct = constructors.get((kind.module, kind.name))
        made = UNFIT if construct is None else construct(args)
        return Record(kind.module, kind.name, args) if made is UNFIT else made

    def reconstructor(args: tuple[object, ...]) -> object:
        kind, base, state = args if len(args) == 3 else (None, None, None)
        if not _is_class(kind) or not _is_class(base) or base.module not in _BUILTINS:
            return UNFIT
        if base.name == "object":
            return called(kind, ()) if state is None else UNFIT
        return _subclass(kind, state)

    def new_object(args: tuple[object, ...]) -> object:
        return called(args[0], args[1:]) if args and _is_class(args[0]) else UNFIT

    def new_object_by_keywords(args: tuple[object, ...]) -> object:
        if len(args) != 3 or not _is_class(args[0]) or type(args[1]) is not tuple or type(args[2]) is not dict:
            return UNFIT
        if not all(type(key) is str for key in args[2]):
            return UNFIT
        return Record(args[0].module, args[0].name, args[1], args[2]) if args[2] else called(args[0], args[1])

    ways: dict[Name, Constructor] = {}
    for module in _MODULES:
        ways[module, "_reconstructor"] = reconstructor
        ways[module, "__newobj__"] = new_object
        ways[module, "__newobj_ex__"] = new_object_by_keywords
    return {**constructors, **ways}


def _subclass(kind: Record, state: object) -> object:
    """An object of a class that inherits from a builtin one, with the content that it had as such."""

    def make() -> object:
        made = Record(kind.module, kind.name, ())
        if isinstance(state, dict):
            made.extend(state.items())
        elif isinstance(state, (list, set, frozenset)):
            made.extend(state)
        else:
            made.args = (state,)
        return made

    return Costly(len(state) if isinstance(state, (dict, list, set, frozenset)) else 0, make)


def _is_class(value: object) -> TypeGuard[Record]:
    return isinstance(value, Record) and value.args is None
