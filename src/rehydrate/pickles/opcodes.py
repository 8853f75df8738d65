"""The opcodes of pickle protocols 0 to 5: how each one spells its argument, and what it asks of the machine.

One handler an opcode, in a table of 256. Handlers decode and check arguments; every effect is a method of `Machine`.
Where stock readers disagree about a spelling (`INT 010`, a number with underscores), the answer is `AmbiguousError`:
what is shown must be what anybody else would read. Specification: CPython's `Lib/pickletools.py`.
"""

from __future__ import annotations

import codecs
import re
import struct
from collections.abc import Callable
from sys import getsizeof

from rehydrate.errors import AmbiguousError, LimitError
from rehydrate.pickles.machine import NOWHERE, Handler, Machine

__all__ = ["HANDLERS"]

_DECIMAL = re.compile(rb"-?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(rb"[+-]?(?:[0-9]+\.?[0-9]*(?:[eE][+-]?[0-9]+)?|inf|nan)")
_ESCAPED = re.compile(rb"(?:[^\\]++|\\(?:[\\'\"abfnrtv]|[0-3]?[0-7]{1,2}|x[0-9a-fA-F]{2}))*+", re.DOTALL)
"""The escapes that Python has; any other is a warning of its readers, and is to become an error."""
_HIGHEST_PROTOCOL = 5
_SET = getsizeof(set()) - 80
"""Memory of an empty set beyond that of other values of one byte."""


def _unknown(machine: Machine) -> None:
    code = machine.data[machine.at - 1]
    raise machine.broken(f"{bytes([code])!r} is not an opcode (Unsupported operand {code})")


HANDLERS: list[Handler] = [_unknown] * 256
"""By code; a handler that returns something true ends the run."""


def _on(code: bytes) -> Callable[[Handler], Handler]:
    def enter(handler: Handler) -> Handler:
        HANDLERS[code[0]] = handler
        return handler

    return enter


def _push(code: bytes, make: Callable[[Machine], object]) -> None:
    """An opcode that pushes one value."""

    def push(machine: Machine) -> None:
        value = make(machine)  # first: it may change which stack is on top
        machine.stack.append(value)

    HANDLERS[code[0]] = push


def _text(raw: bytes, machine: Machine) -> str:
    try:
        return raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise machine.broken("a string is not UTF-8") from error


def _python2_string(raw: bytes) -> str:
    """Python 2's `str`: text in most files, bytes in some; latin-1 loses neither."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _quoted(machine: Machine) -> str:
    raw = machine.line()
    if len(raw) < 2 or raw[0] != raw[-1] or raw[:1] not in (b"'", b'"'):
        raise machine.broken("a string is not quoted")
    if not _ESCAPED.fullmatch(raw, 1, len(raw) - 1):
        raise machine.broken("a string has a broken escape")
    return _python2_string(codecs.escape_decode(raw[1:-1])[0])


def _escaped(machine: Machine) -> str:
    try:
        return codecs.raw_unicode_escape_decode(machine.line())[0]  # `decode` would import the codec
    except UnicodeDecodeError as error:
        raise machine.broken("a string has a broken escape") from error


def _number(raw: bytes, machine: Machine) -> int:
    if len(raw) > machine.limits.integer_digits:
        raise LimitError("the pickle holds a number with too many digits", found=f"{len(raw):,}")
    if not _DECIMAL.fullmatch(raw):
        raise AmbiguousError(
            "the pickle spells a number in a way that readers disagree about",
            where=f"byte {machine.at:,} of the pickle",
            found=repr(raw[:40]),
        )
    return int(raw)


def _int(machine: Machine) -> int:
    raw = machine.line()
    return raw == b"01" if raw in (b"00", b"01") else _number(raw, machine)


def _float(machine: Machine) -> float:
    raw = machine.line()
    if len(raw) > machine.limits.integer_digits or not _FLOAT.fullmatch(raw):
        raise machine.broken(f"{raw[:40]!r} is not a number")
    return float(raw)


def _long(machine: Machine, width: int) -> int:
    length = machine.unsigned(width)
    if length > machine.limits.integer_bytes:
        raise LimitError("the pickle holds an integer that is too long", found=f"{length:,} bytes")
    return int.from_bytes(machine.take(length), "little", signed=True)


_push(b"N", lambda m: None)
_push(b"\x88", lambda m: True)
_push(b"\x89", lambda m: False)
_push(b"I", _int)
_push(b"J", lambda m: int.from_bytes(m.take(4), "little", signed=True))
_push(b"K", lambda m: m.unsigned(1))
_push(b"M", lambda m: m.unsigned(2))
_push(b"L", lambda m: _number(m.line().removesuffix(b"L"), m))
_push(b"\x8a", lambda m: _long(m, 1))
_push(b"\x8b", lambda m: _long(m, 4))
_push(b"F", _float)
_push(b"G", lambda m: struct.unpack(">d", m.take(8))[0])
_push(b"S", _quoted)
_push(b"T", lambda m: _python2_string(m.take(m.unsigned(4))))
_push(b"U", lambda m: _python2_string(m.take(m.unsigned(1))))
_push(b"V", _escaped)
_push(b"X", lambda m: _text(m.take(m.unsigned(4)), m))
_push(b"\x8c", lambda m: _text(m.take(m.unsigned(1)), m))
_push(b"\x8d", lambda m: _text(m.take(m.unsigned(8)), m))
_push(b"B", lambda m: m.take(m.unsigned(4)))
_push(b"C", lambda m: m.take(m.unsigned(1)))
_push(b"\x8e", lambda m: m.take(m.unsigned(8)))
_push(b"\x96", lambda m: bytearray(m.take(m.unsigned(8))))
_push(b"]", lambda m: [])
_push(b"}", lambda m: {})
_push(b")", lambda m: ())
_push(b"t", lambda m: tuple(m.to_mark()))
_push(b"l", lambda m: m.to_mark())
_push(b"\x85", lambda m: (m.stack.pop(),))
_push(b"2", lambda m: m.stack[-1])


@_on(b"\x8f")
def _empty_set(machine: Machine) -> None:
    machine.weigh(_SET)
    machine.stack.append(set())


@_on(b"\x80")
def _proto(machine: Machine) -> None:
    version = machine.unsigned(1)
    if version > _HIGHEST_PROTOCOL:
        raise machine.broken(f"unsupported pickle protocol: {version}")
    machine.protocol = max(machine.protocol, version)


@_on(b"\x95")
def _frame(machine: Machine) -> None:
    length = machine.unsigned(8)
    if length > len(machine.data) - machine.at:
        raise machine.cut()
    if machine.boundary != NOWHERE:
        raise AmbiguousError("the pickle begins a frame inside a frame; readers disagree about it")
    machine.boundary = machine.at + length


@_on(b".")
def _stop(machine: Machine) -> bool:
    machine.result = machine.stack.pop()
    if machine.stack or machine.marks:
        raise machine.broken("values are left over at its end")
    if machine.boundary not in (NOWHERE, machine.at):
        raise AmbiguousError("the pickle stops inside a frame; readers disagree about it")
    return True


@_on(b"(")
def _mark(machine: Machine) -> None:
    machine.marks.append(machine.stack)
    machine.stack = []


@_on(b"0")
def _pop(machine: Machine) -> None:
    if machine.stack:
        machine.stack.pop()
    else:
        machine.to_mark()


HANDLERS[ord("1")] = lambda machine: machine.to_mark() and None


@_on(b"\x86")
def _pair(machine: Machine) -> None:
    stack = machine.stack
    second, first = stack.pop(), stack.pop()
    stack.append((first, second))


@_on(b"\x87")
def _triple(machine: Machine) -> None:
    stack = machine.stack
    third, second, first = stack.pop(), stack.pop(), stack.pop()
    stack.append((first, second, third))


@_on(b"d")
def _dict(machine: Machine) -> None:
    items = machine.to_mark()
    made: dict[object, object] = {}
    machine.assign(made, items)
    machine.stack.append(made)


@_on(b"\x91")
def _frozenset(machine: Machine) -> None:
    made = frozenset(machine.collected(machine.to_mark()))
    machine.stack.append(made)


@_on(b"a")
def _append(machine: Machine) -> None:
    item = machine.stack.pop()
    machine.extend(machine.stack[-1], [item])


@_on(b"e")
def _appends(machine: Machine) -> None:
    items = machine.to_mark()
    machine.extend(machine.stack[-1], items)


@_on(b"s")
def _setitem(machine: Machine) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    machine.assign(machine.stack[-1], [key, value])


@_on(b"u")
def _setitems(machine: Machine) -> None:
    items = machine.to_mark()
    machine.assign(machine.stack[-1], items)


@_on(b"\x90")
def _additems(machine: Machine) -> None:
    items = machine.to_mark()
    machine.add(machine.stack[-1], items)


def _slot(machine: Machine) -> int:
    slot = _number(machine.line(), machine)
    if slot < 0:
        raise machine.broken("the number of a memo slot is negative")
    return slot


HANDLERS[ord("g")] = lambda machine: _get(machine, _slot(machine))
HANDLERS[ord("p")] = lambda machine: machine.put(_slot(machine))
HANDLERS[ord("q")] = lambda machine: machine.put(machine.unsigned(1))
HANDLERS[ord("r")] = lambda machine: machine.put(machine.unsigned(4))


@_on(b"\x94")
def _memoize(machine: Machine) -> None:
    if machine.lazy:
        machine.settle()
    machine.put(len(machine.memo))


def _get(machine: Machine, slot: int) -> None:
    value = machine.recall(slot)
    if value is machine.trigger and machine.shortcut is not None and machine.shortcut[1](machine):
        return
    machine.stack.append(value)


HANDLERS[ord("h")] = lambda machine: _get(machine, machine.unsigned(1))
HANDLERS[ord("j")] = lambda machine: _get(machine, machine.unsigned(4))
HANDLERS[ord("c")] = lambda m: m.named(_text(m.line(), m), _text(m.line(), m))


def _extension(machine: Machine, width: int) -> None:
    """Extension codes are looked up in a registry of the process that reads; a file that has one is read without."""
    code = int.from_bytes(machine.take(width), "little", signed=width == 4)
    if code <= 0:
        raise machine.broken("an extension code is not positive")
    machine.named("copyreg", f"extension_{code}")


HANDLERS[0x82] = lambda machine: _extension(machine, 1)
HANDLERS[0x83] = lambda machine: _extension(machine, 2)
HANDLERS[0x84] = lambda machine: _extension(machine, 4)


@_on(b"\x93")
def _stack_global(machine: Machine) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    if type(name) is not str or type(module) is not str:
        raise machine.broken("a name to import is not a string")
    machine.named(module, name)


@_on(b"i")
def _inst(machine: Machine) -> None:
    machine.named(_text(machine.line(), machine), _text(machine.line(), machine))
    function = machine.stack.pop()
    value = machine.call(function, tuple(machine.to_mark()))  # first: the mark changes which stack is on top
    machine.stack.append(value)


@_on(b"o")
def _obj(machine: Machine) -> None:
    function, *args = machine.to_mark() or [None]
    machine.stack.append(machine.call(function, tuple(args)))


@_on(b"R")
@_on(b"\x81")
def _reduce(machine: Machine) -> None:
    args, function = machine.stack.pop(), machine.stack.pop()
    machine.stack.append(machine.call(function, args))


@_on(b"\x92")
def _new_with_keywords(machine: Machine) -> None:
    kwargs, args, function = machine.stack.pop(), machine.stack.pop(), machine.stack.pop()
    if type(kwargs) is not dict:
        raise machine.broken("keyword arguments are not a dictionary")
    machine.spend(len(kwargs))
    if not all(type(key) is str for key in kwargs):
        raise machine.broken("keyword arguments are not a dictionary of strings")
    machine.stack.append(machine.call(function, args, kwargs))


@_on(b"b")
def _build(machine: Machine) -> None:
    state = machine.stack.pop()
    machine.build(state)


HANDLERS[ord("P")] = lambda machine: machine.persist(_text(machine.line(), machine))
HANDLERS[ord("Q")] = lambda machine: machine.persist(machine.stack.pop())


@_on(b"\x97")
@_on(b"\x98")
def _buffer(machine: Machine) -> None:
    raise machine.broken("it wants buffers from outside the file, and there are none")
