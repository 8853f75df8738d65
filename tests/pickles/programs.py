"""Pickle programs that no pickler writes: drawn at random with an eye on the stack, so that many of them are valid.

A program is decided by a seed and a length: a shorter one is the beginning of a longer one. `mutated` changes a pickle.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from ..hostile.assembler import (
    additems,
    append,
    appends,
    binbytes,
    binbytes8,
    binfloat,
    binstring,
    build,
    bytearray8,
    dict_,
    dup,
    empty_dict,
    empty_list,
    empty_set,
    empty_tuple,
    float_,
    frame,
    frozenset_,
    get,
    global_,
    inst,
    int_,
    integer,
    keep,
    list_,
    long,
    long1,
    long4,
    long_binget,
    long_binput,
    mark,
    memoize,
    newfalse,
    newobj,
    newobj_ex,
    newtrue,
    none,
    obj,
    persid_binary,
    pop,
    pop_mark,
    proto,
    put,
    recall,
    reduce,
    setitem,
    setitems,
    short_binbytes,
    short_binstring,
    short_unicode,
    stack_global,
    stop,
    string,
    tuple1,
    tuple2,
    tuple3,
    tuple_,
    unicode,
    unicode8,
    unicode_line,
)

_NAMES = (("a", "f"), ("a", "g"), ("b.c", "f"))
_TEXTS = ("", "a", "id", "a b", "\n", "\ud800", "é", "x" * 300)
_NUMBERS = (0, 1, 2, 255, 256, 65535, 65536, 1 << 31, -1, -(1 << 31), 1 << 70)


def _atom(rng: random.Random) -> bytes:
    """One value that is no container, spelled in one of its ways."""
    number, text = rng.choice(_NUMBERS), rng.choice(_TEXTS)
    raw = text.encode("utf-8", "surrogatepass")
    return rng.choice((
        none, newtrue, newfalse, integer(number), int_(number), long(number), int_(rng.choice(("00", "01"))),
        binfloat(rng.choice((0.0, -0.0, 1.5, float("nan")))), float_(rng.choice(("1.5", "-0.0", "1e16", "inf", "nan"))),
        unicode(text), short_unicode(raw[:255]) if raw.isascii() else unicode(text), unicode8(text),
        unicode_line(text.encode("raw-unicode-escape").replace(b"\n", b"\\u000a")), string("'o\\x41ld'"),
        binbytes(raw), short_binbytes(raw[:255]), binbytes8(raw), bytearray8(raw), binstring(b"old"),
        short_binstring(b"old"), empty_list, empty_dict, empty_tuple, empty_set, long1(b""), long4(number),
        global_(*rng.choice(_NAMES)),
    ))  # fmt: skip


KEY, ANY, LIST, DICT, SET, NAME, INERT = "key", "any", "list", "dict", "set", "name", "inert"
ROW, KEY_ROW = "row", "row of keys"
"""What a value is good for: a key, nothing special, a container, a class, an instance of one, a tuple."""

_HASHABLE = (KEY, NAME, INERT, KEY_ROW)


class _Writer:
    """A program being written, and what it knows of the stack: a frame of kinds above each mark."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.frames: list[list[str]] = [[]]
        self.memo: dict[int, str] = {}
        self.parts: list[bytes] = []

    def write(self, code: bytes, *, takes: int = 0, gives: str | None = None) -> None:
        self.parts.append(code)
        top = self.frames[-1]
        del top[len(top) - takes :]
        if gives is not None:
            top.append(gives)

    def close(self, code: bytes, gives: str | None = None) -> None:
        """An opcode that takes everything above the mark."""
        self.frames.pop()
        self.write(code, gives=gives)

    def step(self) -> None:
        """One operation, most often one that fits."""
        rng = self.rng
        if rng.random() < 0.005:
            self.write(bytes((rng.randrange(256),)))
            return
        fitting = [*self._pushing(), *self._closing(), *self._closing()]
        if self.frames[-1]:
            fitting += [*self._changing(), *self._filling() * 3]
        rng.choice(fitting)()

    def _pushing(self) -> list[Callable[[], None]]:
        made: list[Callable[[], None]] = [
            self.atom, self.atom, self.key, self.key, self.key, self.container, self.name,
            lambda: self.open(b""),
            lambda: self.write(proto(self.rng.choice((0, 2, 4, 5)))),
        ]  # fmt: skip
        return made + [self.recall] * 3 if self.memo else made

    def _changing(self) -> list[Callable[[], None]]:
        """Operations on whatever is on top."""
        top = self.frames[-1][-1]
        row = KEY_ROW if top in _HASHABLE else ROW
        return [
            self.keep, self.keep, self.memoize,
            lambda: self.write(dup, gives=top),
            lambda: self.write(pop, takes=1),
            lambda: self.write(tuple1, takes=1, gives=row),
            lambda: self.write(persid_binary, takes=1, gives=INERT),
        ]  # fmt: skip

    def _filling(self) -> list[Callable[[], None]]:
        """Operations on the two or three values on top that fit together."""
        frame = self.frames[-1]
        one, two, three = (*frame[::-1], "", "", "")[:3]
        row = KEY_ROW if one in _HASHABLE and two in _HASHABLE else ROW
        made: list[Callable[[], None]] = []
        if two:
            made.append(lambda: self.write(tuple2, takes=2, gives=row))
        if two in (LIST, INERT):
            made.append(lambda: self.write(append, takes=1))
        if two == INERT:
            made.append(lambda: self.write(build, takes=1))
        if two == NAME and one in (ROW, KEY_ROW):
            made.append(lambda: self.write(self.rng.choice((reduce, newobj)), takes=2, gives=INERT))
            made.append(
                lambda: self.write(empty_dict + unicode("k") + none + setitem + newobj_ex, takes=2, gives=INERT)
            )
        if three and row == ROW:
            made.append(lambda: self.write(tuple3, takes=3, gives=ROW))
        if three in (DICT, INERT) and two in _HASHABLE:
            made.append(lambda: self.write(setitem, takes=2))
        return made

    def _closing(self) -> list[Callable[[], None]]:
        """Operations that take a frame of the stack, where there is one that they fit."""
        if len(self.frames) < 2:
            return []
        frame, below = self.frames[-1], (self.frames[-2] or [""])[-1]
        all_keys = all(kind in _HASHABLE for kind in frame)
        are_pairs = len(frame) % 2 == 0 and all(kind in _HASHABLE for kind in frame[::2])
        made: list[Callable[[], None]] = [
            lambda: self.close(tuple_, KEY_ROW if all_keys else ROW),
            lambda: self.close(list_, LIST),
            lambda: self.close(pop_mark),
            lambda: self.close(inst("a", "f"), INERT),
        ]
        if all_keys:
            made.append(lambda: self.close(frozenset_, KEY))
        if are_pairs:
            made.append(lambda: self.close(dict_, DICT))
        if frame and frame[0] == NAME:
            made += [lambda: self.close(obj, INERT)] * 3
        if below in (LIST, INERT):
            made += [lambda: self.close(appends)] * 3
        if (below == DICT and are_pairs and frame) or (below == INERT and are_pairs):
            made += [lambda: self.close(setitems)] * 3
        if below in (SET, INERT) and all_keys:
            made += [lambda: self.close(additems)] * 3
        return made

    def atom(self) -> None:
        self.write(_atom(self.rng), gives=ANY)

    def key(self) -> None:
        number, text = self.rng.choice(_NUMBERS), self.rng.choice(_TEXTS)
        self.write(
            self.rng.choice((integer(number), unicode(text), none, newtrue, binfloat(1.0), empty_tuple)), gives=KEY
        )

    def container(self) -> None:
        """One that can be filled, most often with a mark above it."""
        code, kind = self.rng.choice(((empty_list, LIST), (empty_dict, DICT), (empty_set, SET)))
        self.write(code, gives=kind)
        if self.rng.random() < 0.5:
            self.keep()
        if self.rng.random() < 0.7:
            self.open(b"")

    def name(self) -> None:
        module, name = self.rng.choice(_NAMES)
        by_stack = short_unicode(module) + short_unicode(name) + stack_global
        self.write(self.rng.choice((global_(module, name), by_stack)), gives=NAME)
        if self.rng.random() < 0.5:
            self.open(b"")

    def open(self, code: bytes) -> None:
        self.parts.append(code + mark)
        self.frames.append([])

    def keep(self) -> None:
        if not self.frames[-1]:
            return
        slot = len(self.memo) if self.rng.random() < 0.8 else self.rng.randrange(300)
        self.memo[slot] = self.frames[-1][-1]
        self.write(self.rng.choice((keep(slot), long_binput(slot), put(slot))))

    def memoize(self) -> None:
        self.memo[len(self.memo)] = self.frames[-1][-1]
        self.write(memoize)

    def recall(self) -> None:
        slot = self.rng.choice(list(self.memo))
        self.write(self.rng.choice((recall(slot), long_binget(slot), get(slot))), gives=self.memo[slot])

    def finish(self) -> bytes:
        """The program, with whatever is on the stack in a tuple at its end."""
        while len(self.frames) > 1:
            self.close(tuple_, ROW)
        if len(self.frames[0]) == 1:
            return b"".join(self.parts) + stop
        return mark + b"".join(self.parts) + tuple_ + stop


def program(seed: int, length: int) -> bytes:
    """A program of about so many operations; in a frame, now and then."""
    writer = _Writer(random.Random(seed))
    for _ in range(length):
        writer.step()
    body = writer.finish()
    if seed % 7 == 0:
        return proto(4) + frame(body)
    if seed % 7 == 1:
        cut = random.Random(seed).randrange(len(body))
        return proto(4) + frame(body[:cut]) + frame(body[cut:])
    return proto(2 + seed % 4) + body


def mutated(data: bytes, seed: int, changes: int) -> bytes:
    """The same with bytes changed, removed, doubled, moved, or replaced by opcodes."""
    rng = random.Random(seed)
    made = bytearray(data)
    for _ in range(changes):
        at = rng.randrange(len(made) + 1)
        kind = rng.randrange(6)
        if kind == 0 and at < len(made):
            made[at] = rng.randrange(256)
        elif kind == 1 and at < len(made):
            made[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del made[at : at + rng.randrange(1, 5)]
        elif kind == 3:
            piece = made[at : at + rng.randrange(1, 30)]
            to = rng.randrange(len(made) + 1)
            made[to:to] = piece
        elif kind == 4:
            made[at:at] = _atom(rng)
        else:
            made[at:at] = bytes(rng.choices(_OPCODES, k=rng.randrange(1, 4)))
        if not made:
            break
    return bytes(made)


_OPCODES = b"(.012NQRabdelostu)]}\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94\x97\x98hqKCU"
