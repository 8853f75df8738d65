"""The run of opcodes that torch writes for every tensor, taken in one step.

After the first, each tensor of a state dict is the same thirty-odd opcodes: recall the rebuild function, a persistent
id of five parts (in a legacy stream six, the last of them None), an offset, a shape, strides, a flag, an empty
OrderedDict, and seven puts into consecutive memo slots. Taking them one by one is most of the time of opening a file
of many small tensors. Here a regular expression recognises the whole run, and the machine goes on after it.

Nothing is trusted to be such a run: the memo slots must be the next free ones, the recalled values must be the ones
that torch recalls, lengths must agree. Where anything differs the machine takes the opcodes one by one. Slots that
nobody ever recalls are not filled; `Machine.recall` replays the run when somebody does.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from typing import Protocol, cast, runtime_checkable

from rehydrate.checkpoint.record import Record
from rehydrate.checkpoint.tensor import NO_TRAITS, Storage, TensorRef, Window
from rehydrate.pickles.machine import NOWHERE, Machine, Shortcut, Stretch
from rehydrate.pickles.results import Name
from rehydrate.pickles.torch_names import REBUILD, REQUIRES_GRAD, is_countable, storage_dtype

__all__ = ["TENSOR_RUNS", "Persistent"]

_GET = rb"(?:h.|j....)"
_PUT = rb"(?:q.|r....)"
_INT = rb"(?:K.|M..|J....)"
_DIMENSIONS = rb"(?:" + _INT + rb"\x85|" + _INT * 2 + rb"\x86|" + _INT * 3 + rb"\x87|\((?:" + _INT + rb"){4,8}t)"
_RUN = re.compile(
    rb"(" + _GET + rb")\(\("  # the rebuild function; the arguments; the persistent id
    + rb"(" + _GET + _GET + rb")X(.)\0\0\0([0-9]{1,20})(" + _PUT + rb")"  # 'storage', its class; its key
    + rb"(" + _GET + _INT + rb")(N?)t(" + _PUT + rb")Q"  # where it was, how many elements, whether a view
    + rb"(" + _INT + _DIMENSIONS + rb")(" + _PUT + rb")"  # offset, shape
    + rb"(" + _DIMENSIONS + rb")(" + _PUT + rb")"  # strides
    + rb"([\x88\x89]" + _GET + rb")\)"  # requires_grad, OrderedDict
    + rb"(R" + _PUT + rb"t" + _PUT + rb"R" + _PUT + rb")",  # the OrderedDict made, the arguments, the tensor
    re.DOTALL,
)  # fmt: skip
_HOOKS: Name = ("collections", "OrderedDict")
"""What is called for the hooks of a tensor, which has none."""
_LONGEST_KEY = 20
"""Digits: keys are counted, or are addresses of 64 bits."""
_SLOTS = 7
"""Puts of a run, in order: key, persistent id, shape, strides, OrderedDict, arguments, tensor."""
_LAST_SHORT = 255
"""The last memo slot that is put and recalled with one byte."""
_LAST = (1 << 32) - 1
"""The last memo slot that a binary opcode can name."""
_LONGEST_NAME = 1 << 16
"""Bytes; a longer name is left to the machine."""


def _put(slot: int) -> bytes:
    return b"q" + bytes((slot,)) if slot <= _LAST_SHORT else b"r" + slot.to_bytes(4, "little")


def _numbers(spelled: bytes) -> Iterator[int]:
    """The integers in a stretch of K, M and J opcodes; other bytes are the tuple around them."""
    at = 0
    while at < len(spelled):
        width = {75: 1, 77: 2, 74: 4}.get(spelled[at], 0)
        if width:
            yield int.from_bytes(spelled[at + 1 : at + 1 + width], "little", signed=width == 4)
        at += 1 + width


@runtime_checkable
class Persistent(Protocol):
    """What a container offers so that runs can be taken: storages by persistent id, and many of one kind at once."""

    ending: bytes
    """What is pushed after the other parts of a persistent id: nothing, or None for what is no view of a storage."""

    def __call__(self, token: object) -> object:
        """What a persistent id stands for."""

    def alike(self, kind: object, location: str, numel: int) -> tuple[Callable[[str], Storage], int]:
        """For storages that differ in their key only: key → storage, and the bytes that each of them has.

        The function raises what the call with a whole id would raise.
        """


_NAME_PUT = b"r...."
_PUSH, _UNICODE = 5, ord("X")
"""Bytes of an opcode that pushes a string, before the string; and its first."""
_LENGTH = struct.Struct("<I")
Spelling = tuple[Callable[[bytes, int], bytes], int]


class _Plan:
    """What the parts of a run mean that many runs share, decoded once; and how such a run is spelled."""

    __slots__ = ("head", "key_at", "parts", "spellings", "storage_of", "window")

    def __init__(self, fixed: tuple[bytes, ...], storage_of: Callable[[str], Storage], window: Window) -> None:
        self.storage_of = storage_of
        self.window = window
        opener, classes, place, ending, extents, steps, flags = fixed
        self.head = opener + b"((" + classes + b"X"
        self.key_at = len(_NAME_PUT) + len(self.head) + 4
        """Bytes from the end of a tensor's name to its key."""
        self.parts = b"r", place + ending + b"tr", b"Q" + extents + b"r", steps + b"r", flags + b")Rr", b"tr", b"Rr"
        """What stands before each of the seven slots."""
        self.spellings: dict[int, Spelling] = {}

    def spelling(self, digits: int) -> Spelling:
        """For keys of so many digits: what packs the bytes of a name's slot and of the run after it."""
        one, two, three, four, five, six, seven = self.parts
        head = self.head + bytes((digits, 0, 0, 0))
        form = struct.Struct(f"<cI{len(head)}s{digits}s" + "".join(f"{len(part)}sI" for part in self.parts))
        pack = form.pack

        if digits > _LONGEST_KEY:
            return (lambda key, top: b"."), 1  # no run is spelled so

        def spelled(key: bytes, top: int) -> bytes:
            return pack(
                b"r", top, head, key, one, top + 1, two, top + 2, three, top + 3, four, top + 4, five, top + 5,
                six, top + 6, seven, top + 7,
            )  # fmt: skip

        made = self.spellings[digits] = spelled, form.size
        return made


class _Plans:
    """The plans of one stream."""

    def __init__(self) -> None:
        self.known: dict[tuple[bytes, ...], _Plan | None] = {}
        """By the groups that runs share; None where the machine has to look by itself."""
        self.after: dict[_Plan, _Plan] = {}
        """The plan of the run that came after the last run of one: most likely it comes again."""


def _plans(machine: Machine) -> _Plans:
    if machine.cache is None:
        machine.cache = _Plans()
    return cast("_Plans", machine.cache)


def _recalled(machine: Machine, gets: bytes) -> Iterator[object]:
    """The values of the GET opcodes at the beginning of `gets`."""
    at = 0
    while gets[at : at + 1] in (b"h", b"j"):
        width = 1 if gets[at] == ord("h") else 4
        yield machine.memo.get(int.from_bytes(gets[at + 1 : at + 1 + width], "little"))
        at += 1 + width


def _planned(machine: Machine, fixed: tuple[bytes, ...]) -> _Plan | None:
    """The plan of a run from the groups that many runs share.

    None where the machine has to look by itself, and perhaps to complain.
    """
    _, classes, place, ending, extents, steps, flags = fixed
    word, kind = _recalled(machine, classes)
    (location,) = _recalled(machine, place)
    (hooks,) = _recalled(machine, flags[1:])
    persistent = cast("Persistent", machine.persistent)  # `_take_runs` has seen that it is one
    if word != "storage" or not isinstance(kind, Record) or not isinstance(location, str):
        return None
    if ending != persistent.ending:
        return None
    if not isinstance(hooks, Record) or (hooks.module, hooks.name) != _HOOKS or hooks.args is not None:
        return None
    numel = next(_numbers(place[2 if place[0] == ord("h") else 5 :]))
    offset, *extent = _numbers(extents)
    shape = tuple(extent)
    strides = tuple(_numbers(steps))
    if len(shape) != len(strides) or min(*shape, *strides, numel, offset) < 0 or not is_countable(shape):
        return None
    try:
        dtype = storage_dtype(kind)
    except KeyError:
        return None
    window = Window(dtype, shape, strides, offset, REQUIRES_GRAD if flags[0] == 0x88 else NO_TRAITS)
    storage_of, nbytes = persistent.alike(kind, location, numel)
    return _Plan(fixed, storage_of, window) if window.reach <= nbytes else None


def _take_runs(machine: Machine) -> bool:
    """Take as many runs as follow each other, with the names between them; false if there is not even one."""
    if not isinstance(machine.persistent, Persistent) or machine.boundary != NOWHERE:
        return False
    data, opener = machine.data, _get_before(machine)
    size, length_of = len(data), _LENGTH.unpack_from
    start = at = stop = machine.at - len(opener)
    first = top = machine.top
    after = _plans(machine).after
    tensors: list[object] = []
    names: list[object] = []
    found = _recognised(machine, opener, at, top)
    plan: _Plan | None = None
    # One loop over local names: this is where a file of many tensors is opened.
    while found is not None:
        if plan is not None:
            after[plan] = found[0]
        plan, key, stop = found
        tensors.append(TensorRef("", plan.window, plan.storage_of(key.decode("ascii"))))
        top += _SLOTS
        # Most runs are like the one that came after the last of their kind: those are only compared.
        while top > _LAST_SHORT and (following := after.get(plan)) is not None and top + _SLOTS < _LAST:
            name_at = stop + _PUSH
            last = name_at + length_of(data, stop + 1)[0] if name_at <= size else size
            key_at = last + following.key_at
            if key_at >= size or last - name_at > _LONGEST_NAME:
                break
            digits = data[key_at - 4]
            spelled, run = following.spellings.get(digits) or following.spelling(digits)
            key = data[key_at : key_at + digits]
            if not data.startswith(spelled(key, top), last) or data[stop] != _UNICODE or not key.isdigit():
                break
            try:
                known = data[name_at:last].decode("utf-8", "surrogatepass")
            except UnicodeDecodeError:
                break
            tensors.append(TensorRef("", following.window, following.storage_of(key.decode("ascii"))))
            names.append(known)
            plan = following
            top += 1 + _SLOTS
            stop = last + run
        name, at = _name_at(data, stop, _put(top) + opener)
        if name is None:
            break
        names.append(name)
        top += 1
        stop = at = at - len(opener)
        found = _recognised(machine, opener, at, top)
    if not tensors:
        return False
    # The names lie between the tensors: as many as those, or one fewer.
    values: list[object] = [None] * (len(tensors) + len(names))
    values[::2], values[1::2] = tensors, names
    machine.stack.extend(values)
    slots = (range(first + _SLOTS - 1, top, _SLOTS + 1), tensors), (range(first + _SLOTS, top, _SLOTS + 1), names)
    machine.lazy.append(Stretch(first, top - first, start, stop, slots))
    machine.called.update((REBUILD, _HOOKS))
    machine.at, machine.top = stop, top
    return True


def _recognised(machine: Machine, opener: bytes, at: int, top: int) -> tuple[_Plan, bytes, int] | None:
    """The plan, the key and the end of the run at `at` whose slots begin at `top`, if there is one."""
    run = _RUN.match(machine.data, at)
    if run is None or top + _SLOTS > _LAST:
        return None
    (get, classes, length, key, put_key, place, ending, put_id, extents, put_size, steps, put_stride, flags,
     tail) = run.groups()  # fmt: skip
    one, two, three, four, five, six, seven = map(_put, range(top, top + _SLOTS))
    puts = one + two + three + four + b"R" + five + b"t" + six + b"R" + seven
    if get != opener or put_key + put_id + put_size + put_stride + tail != puts or length[0] != len(key):
        return None
    known = _plans(machine).known
    fixed = (opener, classes, place, ending, extents, steps, flags)
    if fixed not in known:
        known[fixed] = _planned(machine, fixed)
    plan = known[fixed]
    return None if plan is None else (plan, key, run.end())


def _get_before(machine: Machine) -> bytes:
    """The opcode that has just recalled the rebuild function: two bytes or five."""
    data, at = machine.data, machine.at
    is_short = data[at - 2 : at - 1] == b"h" and machine.memo.get(data[at - 1]) is machine.trigger
    return data[at - 2 : at] if is_short else data[at - 5 : at]


def _name_at(data: bytes, at: int, follows: bytes) -> tuple[str | None, int]:
    """The string that is pushed at `at`, if `follows` comes after it, and where that ends."""
    first = at + 5
    last = first + int.from_bytes(data[at + 1 : first], "little")
    if data[at : at + 1] != b"X" or last - first > _LONGEST_NAME or not data.startswith(follows, last):
        return None, at
    try:
        return data[first:last].decode("utf-8", "surrogatepass"), last + len(follows)
    except UnicodeDecodeError:
        return None, at


TENSOR_RUNS: Shortcut = (REBUILD, _take_runs)
"""For `read_pickle(shortcut=…)` of a torch file."""
