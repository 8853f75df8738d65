"""C7: files of Torch7 that break their promises, in every spelling: lengths, indices, sizes, keys, and Lua bytecode."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator

import rehydrate as rh
from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.record import Record
from rehydrate.errors import AmbiguousError, CorruptError, LimitError, NotACheckpointError, TruncatedError

from .case import BROKEN, DISPUTED, Case, harmless, holds_tensor, opens, refuses, refuses_to_read
from .torch7_files import ENCODINGS, Counted, Function, Instance, Lua, Storage, Tensor

HUGE = 2**31 - 1
HUGER = 2**62


def stream(encoding: str, *parts: object) -> bytes:
    """A stream by hand: ints are ints, tuples longs, floats doubles, lists whole objects, strings counted."""
    out = Lua(**ENCODINGS[encoding], first=100)
    for part in parts:
        if isinstance(part, int):
            out.integer(part)
        elif isinstance(part, float):
            out.numbers("d", [part])
        elif isinstance(part, tuple):
            out.numbers("q", part)
        elif isinstance(part, list):
            out.object(part[0])
        elif isinstance(part, str):
            out.string(part)
    return bytes(out.out)


def table(encoding: str, *parts: object) -> bytes:
    """A table of one entry, `w`, and what it is by hand."""
    return stream(encoding, 3, 1, 1, ["w"], *parts)


def tensor(encoding: str, *parts: object, kind: str = "Float") -> bytes:
    return table(encoding, 4, 2, "V 1", f"torch.{kind}Tensor", *parts)


def _two(encoding: str) -> bytes:
    out = Lua(**ENCODINGS[encoding])
    return out.of({"a": 1}) + out.of({"b": 2})


STORAGE = (4, 3, "V 1", "torch.FloatStorage")

ByHand = tuple[str, Callable[[str], bytes], tuple[type[rh.RehydrateError], ...]]
"""What it is, what makes it in an encoding, and the errors that are right."""

BY_HAND: tuple[ByHand, ...] = (
    ("a table of two thousand million entries", lambda e: table(e, 3, 2, HUGE, ["w"], [1]), BROKEN),
    ("a table of fewer than none", lambda e: stream(e, 3, 1, 1, ["w"], 3, 2, -1), BROKEN),
    ("a string of two thousand million", lambda e: table(e, 2, HUGE), (TruncatedError,)),
    ("a string of fewer than none", lambda e: table(e, 2, -5), BROKEN),
    ("an object of type 9", lambda e: table(e, 9), (CorruptError,)),
    ("an object of type -1", lambda e: table(e, -1), (CorruptError,)),
    ("bytecode of two thousand million", lambda e: table(e, 8, 2, HUGE), (TruncatedError,)),
    ("a class without a name", lambda e: table(e, 4, 2, "V 1", 0), (CorruptError,)),
    ("a class whose name is too long", lambda e: table(e, 4, 2, "V 1", "x" * 2000, [{}]), (CorruptError,)),
    ("a class whose name moves the cursor", lambda e: table(e, 4, 2, "V 1", "\x1b[2J", [{}]), (CorruptError,)),
    ("a table that is an object later", lambda e: table(e, 4, 1), (CorruptError,)),
    ("a key that is nothing", lambda e: stream(e, 3, 1, 2, [1], ["x"], 0, ["y"]), (CorruptError,)),
    ("a first key that is nothing", lambda e: stream(e, 3, 1, 1, 0, ["x"]), (CorruptError, NotACheckpointError)),
    ("a key that is no number", lambda e: stream(e, 3, 1, 1, 1, float("nan"), ["x"]), (CorruptError,)),
    ("one key twice", lambda e: stream(e, 3, 1, 2, ["w"], [1], ["w"], [2]), (AmbiguousError,)),
    ("a list with one place twice", lambda e: stream(e, 3, 1, 2, [1], ["a"], [1], ["b"]), (AmbiguousError,)),
    ("two thousand million dimensions", lambda e: tensor(e, HUGE), BROKEN),
    ("sixty-five dimensions", lambda e: tensor(e, 65, (1,) * 65, (1,) * 65, (1,), 0), BROKEN),
    ("fewer dimensions than none", lambda e: tensor(e, -1), BROKEN),
    ("a size below nothing", lambda e: tensor(e, 1, (-2,), (1,), (1,), *STORAGE, (0,)), BROKEN),
    ("a stride below nothing", lambda e: tensor(e, 1, (2,), (-1,), (2,), *STORAGE, (0,)), BROKEN),
    ("an offset before the storage", lambda e: tensor(e, 1, (1,), (1,), (0,), *STORAGE, (0,)), BROKEN),
    ("an offset far before the storage", lambda e: tensor(e, 1, (1,), (1,), (-HUGE,), *STORAGE, (0,)), BROKEN),
    ("more than the storage has", lambda e: tensor(e, 1, (9,), (1,), (1,), [Storage("Float", [1, 2])]), BROKEN),
    ("beyond the storage's end", lambda e: tensor(e, 1, (2,), (1,), (2,), [Storage("Float", [1, 2])]), BROKEN),
    ("sizes without a storage", lambda e: tensor(e, 1, (2,), (1,), (1,), 0), BROKEN),
    ("a storage of another type", lambda e: tensor(e, 1, (2,), (1,), (1,), [Storage("Int", [1, 2])]), BROKEN),
    ("a table for a storage", lambda e: tensor(e, 1, (2,), (1,), (1,), [{"a": 1}]), BROKEN),
    ("itself for a storage", lambda e: tensor(e, 1, (2,), (1,), (1,), 4, 2), BROKEN),
    ("its own table for a storage", lambda e: tensor(e, 1, (2,), (1,), (1,), 3, 1), BROKEN),
    ("a tensor for a storage", lambda e: tensor(e, 1, (2,), (1,), (1,), [Tensor("Float", [1, 2])]), BROKEN),
    ("a storage of fewer than no elements", lambda e: table(e, *STORAGE, (-1,)), BROKEN),
    ("a storage of two thousand million elements", lambda e: table(e, *STORAGE, (HUGE,)), BROKEN),
    ("a tds.Vec of two thousand million", lambda e: table(e, 4, 2, "V 0", "tds.Vec", (HUGE,)), BROKEN),
    ("a tds.Hash of fewer than none", lambda e: table(e, 4, 2, "V 0", "tds.Hash", (-1,)), BROKEN),
    ("a second object behind the first", lambda e: _two(e), DISPUTED),
)


def _spelled(cases: Iterable[ByHand]) -> Iterator[Case]:
    for name, build, errors in cases:
        for encoding in ENCODINGS:
            yield refuses(f"C7 {name}, {encoding}", lambda build=build, encoding=encoding: build(encoding), *errors)


def is_inert(checkpoint: Checkpoint) -> bool:
    function = checkpoint.tree["f"]
    return type(function) is Record and len(checkpoint.facts["code"]) == 1


def _deep(count: int) -> bytes:
    """Lists in each other."""
    return b"".join(struct.pack("<4id", 3, at, 1, 1, 1.0) for at in range(1, count + 1)) + bytes(4)


def _deep_objects(count: int) -> bytes:
    """Objects whose fields are objects."""
    return b"".join(struct.pack("<3i3si1s", 4, at, 3, b"V 1", 1, b"A") for at in range(1, count + 1)) + bytes(4)


def _many(part: Callable[[int], bytes], count: int) -> bytes:
    """A table from 1 to `count`."""
    pairs = b"".join(struct.pack("<id", 1, at + 1.0) + part(at) for at in range(count))
    return struct.pack("<3i", 3, 1, count) + pairs


def _empty_table(at: int) -> bytes:
    return struct.pack("<3i", 3, at + 2, 0)


def _class(at: int) -> bytes:
    return struct.pack("<3i3si8si", 4, at + 2, 3, b"V 1", 8, b"c%07d" % at, 0)


def _chosen_keys(count: int) -> bytes:
    """A table of numbers that share their last bits, so that a dictionary of them would be slow."""
    pairs = b"".join(struct.pack("<idi", 1, float(at << 36), 0) for at in range(1, count + 1))
    return struct.pack("<3i", 3, 1, count) + pairs


CASES = (
    *_spelled(BY_HAND),
    *(
        opens(f"C7 bytecode, {encoding}", lambda e=encoding: Lua(**ENCODINGS[e]).of({"f": Function()}), is_inert)
        for encoding in ENCODINGS
    ),
    *(
        opens(
            f"C7 a tensor of a million million numbers that are one, {encoding}",
            lambda e=encoding: tensor(e, 1, (HUGE,), (0,), (1,), [Storage("Float", [1])]),
            refuses_to_read(),
        )
        for encoding in ENCODINGS
    ),
    opens(
        "C7 sizes whose product is beyond all numbers, and one is nothing",
        lambda: tensor("binary", 3, (HUGER, HUGER, 0), (HUGER, 1, 1), (1,), [Storage("Float", [1])]),
        holds_tensor(),
    ),
    refuses(
        "C7 sizes whose product is beyond all numbers",
        lambda: tensor("binary", 2, (HUGER, HUGER), (HUGER, 1), (1,), [Storage("Float", [1])]),
        *BROKEN,
    ),
    refuses("C7 a storage of more elements than there are bytes anywhere",
            lambda: table("binary", *STORAGE, (HUGER,)), TruncatedError),
    refuses("C7 text with a word of many kilobytes",
            lambda: tensor("ascii", 1, (1,), (1,), (1,), *STORAGE) + b"1\n" + b"1" * 100_000, *BROKEN),
    opens("C7 text in place of a number of a tensor",
          lambda: tensor("ascii", 1, (2,), (1,), (1,), *STORAGE) + b"2\n1 \x1b[31m\n", refuses_to_read()),
    opens("C7 a number with an underscore",
          lambda: tensor("ascii", 1, (2,), (1,), (1,), *STORAGE) + b"2\n1_0 1\n", refuses_to_read()),
    opens("C7 a float beyond its type",
          lambda: tensor("ascii", 1, (2,), (1,), (1,), *STORAGE) + b"2\n1 1e99\n", refuses_to_read()),
    refuses("C7 fewer numbers in a line than there should be",
            lambda: tensor("ascii", 1, (2,), (1,), (1,), *STORAGE) + b"3\n1 2\n", CorruptError),
    refuses("C7 an int of a thousand digits", lambda: b"3\n1\n" + b"9" * 5000 + b"\n", *BROKEN,
            NotACheckpointError),
    harmless("C7 an object that is its own fields", lambda: Lua().of(_itself())),
    harmless("C7 a layer that holds itself", lambda: Lua().of(_itself("modules"))),
    harmless("C7 a class that is called like ours", lambda: Lua().of(Instance("lua.function", {"code": Function()}))),
    harmless("C7 keys that move the cursor", lambda: Lua().of({"\x1b[2J\n": Tensor("Float", [1])})),
    harmless("C7 a tds.Hash of tensors for keys", lambda: Lua().of(Counted({"a": [Tensor("Byte", [1])]}))),
)  # fmt: skip

BOMBS = (
    harmless("C7 a hundred thousand lists in each other", lambda: _deep(100_000)),
    harmless("C7 a hundred thousand objects in each other", lambda: _deep_objects(100_000)),
    harmless("C7 two hundred thousand empty tables", lambda: _many(_empty_table, 200_000)),
    harmless("C7 half a million times nothing", lambda: _many(lambda at: bytes(4), 500_000)),
    harmless("C7 fifty thousand objects of one class each", lambda: _many(_class, 50_000)),
    harmless("C7 a hundred thousand numbers that were chosen for a dictionary", lambda: _chosen_keys(100_000)),
    refuses("C7 two hundred thousand classes", lambda: _many(_class, 200_000), LimitError),
)


def _itself(name: str = "self") -> Instance:
    instance = Instance("nn.Odd", {})
    instance.fields[name] = [instance, instance]
    return instance
