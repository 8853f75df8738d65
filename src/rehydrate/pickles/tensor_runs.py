"""The run of opcodes that torch writes for every tensor, taken in one step.

After the first, each tensor of a state dict is the same thirty-odd opcodes: recall the rebuild function, a persistent
id of five parts, an offset, a shape, strides, a flag, an empty OrderedDict, and seven puts into consecutive memo
slots. Taking them one by one is most of the time of opening a file of many small tensors. Here a regular expression
recognises the whole run, and the machine goes on after it.

Nothing is trusted to be such a run: the memo slots must be the next free ones, the recalled values must be the ones
that torch recalls, lengths must agree. Where anything differs the machine takes the opcodes one by one. Slots that
nobody ever recalls are not filled; `Machine.recall` replays the run when somebody does.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from rehydrate.checkpoint.record import Record
from rehydrate.checkpoint.tensor import NO_TRAITS, Storage, Window
from rehydrate.dtypes import DType
from rehydrate.pickles.machine import NOWHERE, Machine, Shortcut
from rehydrate.pickles.torch_names import REBUILD, REQUIRES_GRAD, storage_dtype, tensor_on

__all__ = ["TENSOR_RUNS"]

_GET = rb"(?:h.|j....)"
_PUT = rb"(?:q.|r....)"
_INT = rb"(?:K.|M..|J....)"
_DIMENSIONS = rb"(?:" + _INT + rb"\x85|" + _INT * 2 + rb"\x86|" + _INT * 3 + rb"\x87|\((?:" + _INT + rb"){4,8}t)"
_RUN = re.compile(
    _GET + rb"\(\("  # the rebuild function; the arguments; the persistent id
    + rb"(" + _GET + _GET + rb")X(.)\0\0\0([0-9]{1,9})(" + _PUT + rb")"  # 'storage', its class; its key
    + rb"(" + _GET + _INT + rb")t(" + _PUT + rb")Q"  # where it was, how many elements
    + rb"(" + _INT + _DIMENSIONS + rb")(" + _PUT + rb")"  # offset, shape
    + rb"(" + _DIMENSIONS + rb")(" + _PUT + rb")"  # strides
    + rb"([\x88\x89]" + _GET + rb")\)"  # requires_grad, OrderedDict
    + rb"(R" + _PUT + rb"t" + _PUT + rb"R" + _PUT + rb")",  # the OrderedDict made, the arguments, the tensor
    re.DOTALL,
)  # fmt: skip
_SLOTS = 7
"""Puts of a run, in order: key, persistent id, shape, strides, OrderedDict, arguments, tensor."""
_LONG_PUTS = struct.Struct("<cIcIcIcI" + "ccI" * 3)
_LONGEST_NAME = 1 << 16
"""Bytes; a longer name is left to the machine."""


def _put(slot: int) -> bytes:
    return b"q" + bytes((slot,)) if slot < 256 else b"r" + slot.to_bytes(4, "little")


def _short_puts(top: int) -> bytes:
    """The puts of a run whose first slot is `top`, with the R, t and R before the last three."""
    one, two, three, four, five, six, seven = map(_put, range(top, top + _SLOTS))
    return one + two + three + four + b"R" + five + b"t" + six + b"R" + seven


def _numbers(spelled: bytes) -> Iterator[int]:
    """The integers in a stretch of K, M and J opcodes; other bytes are the tuple around them."""
    at = 0
    while at < len(spelled):
        width = {75: 1, 77: 2, 74: 4}.get(spelled[at], 0)
        if width:
            yield int.from_bytes(spelled[at + 1 : at + 1 + width], "little", signed=width == 4)
        at += 1 + width


class _Plan(NamedTuple):
    """What the fixed groups of a run mean, decoded once."""

    kind: Record
    dtype: DType
    location: str
    numel: int
    window: Window
    reach: int


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
    classes, place, extents, steps, flags = fixed
    word, kind = _recalled(machine, classes)
    (location,) = _recalled(machine, place)
    (hooks,) = _recalled(machine, flags[1:])
    if word != "storage" or not isinstance(kind, Record) or not isinstance(location, str):
        return None
    if not isinstance(hooks, Record) or hooks.path != "collections.OrderedDict" or hooks.args is not None:
        return None
    numel = next(_numbers(place[2 if place[0] == ord("h") else 5 :]))
    offset, *shape = _numbers(extents)
    strides = tuple(_numbers(steps))
    if len(shape) != len(strides) or min(*shape, *strides, numel, offset) < 0:
        return None
    try:
        dtype = storage_dtype(kind)
    except KeyError:
        return None
    if dtype is None:
        return None
    window = Window(dtype, tuple(shape), strides, offset, REQUIRES_GRAD if flags[0] == 0x88 else NO_TRAITS)
    return _Plan(kind, dtype, location, numel, window, window.reach)


def _take_runs(machine: Machine) -> bool:
    """Take as many runs as follow each other, with the names between them; false if there is not even one."""
    if machine.persistent is None or machine.boundary != NOWHERE:
        return False
    if machine.cache is None:
        machine.cache = {}
    plans: dict[tuple[bytes, ...], _Plan | None] = machine.cache
    data, stack, memo, lazy, persistent = (
        machine.data,
        machine.stack,
        machine.memo,
        machine.lazy,
        machine.persistent,
    )
    opener = _get_before(machine)
    at, top, taken = machine.at - len(opener), machine.top, False
    # One loop over local names, and no calls that can be spared: this is where a file of many tensors is opened.
    match, pack = _RUN.match, _LONG_PUTS.pack
    while run := match(data, at):
        (classes, length, key, put_key, place, put_id, extents, put_size, steps, put_stride, flags,
         tail) = run.groups()  # fmt: skip
        puts = _short_puts(top) if top < 256 else pack(
            b"r", top, b"r", top + 1, b"r", top + 2, b"r", top + 3,
            b"R", b"r", top + 4, b"t", b"r", top + 5, b"R", b"r", top + 6,
        )  # fmt: skip
        if put_key + put_id + put_size + put_stride + tail != puts or length[0] != len(key):
            break
        fixed = (classes, place, extents, steps, flags)
        if fixed not in plans:
            plans[fixed] = _planned(machine, fixed)
        plan = plans[fixed]
        if plan is None:
            break
        kind, dtype, location, numel, window, reach = plan
        storage = persistent(("storage", kind, key.decode("ascii"), location, numel))
        if type(storage) is not Storage or storage.dtype is not dtype:
            break
        tensor = tensor_on(storage, window, reach)
        stack.append(tensor)
        stop = run.end()
        lazy.append((top, _SLOTS, at, stop))
        top += _SLOTS
        memo[top - 1] = tensor
        machine.at, machine.top, taken = stop, top, True
        name, at = _name_at(data, stop, _put(top) + opener)
        if name is None:
            break
        stack.append(name)
        memo[top] = name
        top += 1
        machine.at = at = at - len(opener)
        machine.top = top
    return taken


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
