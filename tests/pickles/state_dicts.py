"""State dicts as torch saves them, taken apart: the pickle, the archive around it, and where its operations begin."""

from __future__ import annotations

import io
import pickletools
import random
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from rehydrate.formats import legacy_storages
from rehydrate.formats.torch_archive import Storages
from rehydrate.formats.zip_directory import ZipDirectory
from rehydrate.limits import Limits
from rehydrate.pickles.tensor_runs import Persistent
from rehydrate.storage.source import MemorySource

from ..hostile.archives import torch_zip
from ..hostile.assembler import (
    RunSlots,
    append,
    dup,
    empty_dict,
    empty_list,
    keep,
    long_binput,
    mark,
    memoize,
    none,
    pop,
    pop_mark,
    proto,
    put,
    recall,
    run_opening,
    setitems,
    stop,
    tensor_run,
    unicode,
)

_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool)
_WORDS = ("weight", "bias", "größe", "模型", "a\nb", "x" * 300, "\ud800", "running_mean", "")


@dataclass(frozen=True)
class Saved:
    """A pickle, and what makes the storages that its persistent ids name; a new one for every reading."""

    pickle: bytes
    archive: bytes
    """The zip file around it; empty for a pickle of a legacy stream."""
    folder: str = "archive/"

    def storages(self) -> Persistent:
        if not self.archive:
            return legacy_storages.Storages()
        return Storages(ZipDirectory(MemorySource(self.archive), Limits()), self.folder + "data/", "raw")

    @cached_property
    def boundaries(self) -> list[int]:
        """Where each operation begins."""
        return [at for _, _, at in pickletools.genops(self.pickle) if at is not None]


def saved(seed: int) -> Saved:
    """A state dict like many: tensors of a few kinds, some on one storage, some of other dtypes, names of all kinds."""
    rng = random.Random(seed)
    protocol = rng.choice((2, 2, 2, 2, 2, 3, 4))
    buffer = io.BytesIO()
    is_legacy = rng.random() < 0.4
    torch.save(_state_dict(rng), buffer, pickle_protocol=protocol, _use_new_zipfile_serialization=not is_legacy)
    if is_legacy:
        return Saved(_fourth(buffer.getvalue()), b"")
    with zipfile.ZipFile(buffer) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
        return Saved(archive.read(name), buffer.getvalue(), name.removesuffix("data.pkl"))


def _fourth(stream: bytes) -> bytes:
    """The object's pickle in a legacy stream."""
    begins = [0]
    for _ in range(4):
        last = max(at for _, _, at in pickletools.genops(stream[begins[-1] :]) if at is not None)
        begins.append(begins[-1] + last + 1)
    return stream[begins[3] : begins[4]]


def _state_dict(rng: random.Random) -> object:
    dtypes = rng.sample(_DTYPES, rng.randrange(1, 4))
    shapes = [[rng.randrange(4) for _ in range(rng.randrange(6))] for _ in range(rng.randrange(1, 4))]
    tensors: dict[object, object] = OrderedDict() if rng.random() < 0.5 else {}
    made: list[torch.Tensor] = []
    for at in range(rng.choice((1, 2, 5, 30, 45, 90))):
        tensor = torch.zeros(rng.choice(shapes), dtype=rng.choice(dtypes))
        if made and rng.random() < 0.15:
            other = rng.choice(made)
            tensor = rng.choice((other, other.transpose(0, -1) if other.dim() else other))
        if tensor.is_floating_point() and rng.random() < 0.2 and tensor.is_leaf:
            tensor.requires_grad_()
        made.append(tensor)
        name = f"{at}.{rng.choice(_WORDS)}" if rng.random() < 0.9 else at
        tensors[name] = tensor if rng.random() < 0.95 else rng.choice((at, None, [tensor, tensor], {"inner": tensor}))
    if isinstance(tensors, OrderedDict) and rng.random() < 0.5:
        tensors._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]
    return {"epoch": 3, "state_dict": tensors, "again": made[0]} if rng.random() < 0.5 else tensors


def edited(base: Saved, seed: int, edits: int) -> bytes:
    """The pickle with whole operations put in, taken out or copied: most of the results are valid programs."""
    rng = random.Random(seed)
    starts = base.boundaries
    pieces = [base.pickle[at:end] for at, end in zip(starts, [*starts[1:], len(base.pickle)], strict=True)]
    for _ in range(edits):
        at = rng.randrange(1, len(pieces))
        top = max(sum(piece[:1] in (b"q", b"r") for piece in pieces[:at]), 1)
        kind = rng.choice((0, 0, 0, 0, 1, 2, 3, 3, 4, 5, 6))
        if kind <= 2:
            pieces.insert(at, _aside(rng, top))
        elif kind == 3:
            pieces[at] = _with_another_slot(pieces[at], rng, top)
        elif kind == 4:
            end = min(at + rng.randrange(1, 80), len(pieces) - 1)
            to = rng.randrange(1, len(pieces))
            pieces[to:to] = pieces[at:end]
        elif kind == 5:
            del pieces[at : at + rng.randrange(1, 3)]
        else:
            run = next((i for i in range(at, len(pieces)) if pieces[i][:1] in (b"q", b"r")), at)
            pieces[run] = _with_another_slot(pieces[run], rng, top)
        if len(pieces) < 2:
            break
    return b"".join(pieces)


def _slot(rng: random.Random, top: int) -> int:
    """Most often a slot that was filled before, or is going to be; now and then any."""
    return rng.randrange(top) if rng.random() < 0.95 else rng.randrange(1000)


def _aside(rng: random.Random, top: int) -> bytes:
    """Operations that leave the stack as it was, but not always the memo."""
    slot = _slot(rng, top)
    return rng.choice((
        recall(slot) + pop,
        none + keep(slot) + pop,
        none + memoize + pop,
        recall(slot) + memoize + pop,
        recall(slot) + keep(_slot(rng, top)) + pop,
        none + long_binput(rng.choice((5000, 0xFFFFFFFF, 0xFFFFFFF0))) + pop,
        none + put(str(1 << 40)) + pop,
        mark + recall(slot) + pop_mark,
        unicode("storage") + keep(slot) + pop,
        empty_list + recall(slot) + append + pop,
    ))  # fmt: skip


def _with_another_slot(piece: bytes, rng: random.Random, top: int) -> bytes:
    """A GET or a PUT of another slot."""
    slot = _slot(rng, top)
    if piece[:1] in (b"h", b"j"):
        return recall(slot)
    return keep(slot) if piece[:1] in (b"q", b"r") else piece


def assembled(seed: int, length: int) -> Saved:
    """Runs spelled one by one, honest ones and such as only look like it, between names and operations on the memo."""
    rng = random.Random(seed)
    first = rng.choice((0, 0, 3, 250, 300))
    opening, slots = run_opening(kind=rng.choice(("FloatStorage", "ByteStorage")), first=first)
    width = 4 if b"Float" in opening else 1
    is_legacy = rng.random() < 0.4
    parts, top = [empty_dict, mark, opening] if rng.random() < 0.5 else [opening, empty_dict, mark], first + 5
    for _ in range(length):
        parts.append(unicode(rng.choice(_WORDS)))
        if rng.random() < 0.9:
            parts.append(keep(top))
            top += 1
        run, used = _some_run(rng, slots, top, width, is_legacy)
        parts.append(run)
        top += used
        if rng.random() < 0.15:
            parts.append(_aside(rng, top))
    parts.append(setitems)
    end: Callable[[], bytes] = rng.choice((lambda: b"", lambda: dup + pop, lambda: recall(_slot(rng, top)) + pop))
    storages = {str(key): bytes(16) for key in range(4)}
    archive = b"" if is_legacy else torch_zip(none, storages)
    return Saved(proto(2) + b"".join(parts) + end() + stop, archive)


def _some_run(rng: random.Random, slots: RunSlots, top: int, width: int, is_legacy: bool) -> tuple[bytes, int]:
    """A run and the slots it takes; one in ten is not what it should be."""
    numel = 16 // width
    size, stride, offset = [2, 2], [2, 1], 0
    key = str(rng.randrange(4) + (94155202811312 if is_legacy and rng.random() < 0.9 else 0))
    ending = none if is_legacy else b""
    puts: list[int | None] = list(range(top, top + 7))
    if rng.random() < 0.12:
        fault = rng.randrange(10)
        if fault == 0:
            puts[rng.randrange(7)] = rng.choice((None, _slot(rng, top)))
        elif fault == 1:
            rng.shuffle(puts)
        elif fault == 2:
            numel = rng.choice((numel + 1, 0, 1 << 31, -1))
        elif fault == 3:
            key = rng.choice(("", "9", "00", "١", "x", "9" * 20, "9" * 21))
        elif fault == 4:
            size = rng.choice(([1 << 20, 2], [], [0, 0], [1], [2] * 9, [-1, 2]))
        elif fault == 5:
            offset = rng.choice((1, -1, 255, 1 << 20))
        elif fault == 6:
            puts = [None] * 7
        elif fault == 7:
            five = (slots.rebuild, slots.word, slots.kind, slots.location, slots.hooks)
            part = rng.choice(("rebuild", "word", "kind", "location", "hooks"))
            slots = replace(slots, **{part: rng.choice((*five, _slot(rng, top)))})
        elif fault == 8:
            ending = rng.choice((none, b"", empty_list, none + none))
        else:
            stride = rng.choice(([0, 0], [1 << 20, 1 << 20], [1, 1, 1], []))
    grads = rng.random() < 0.3
    run = tensor_run(slots, key, numel, size, stride, offset=offset, puts=puts, requires_grad=grads, ending=ending)
    if rng.random() < 0.02:
        run = run[: rng.randrange(1, len(run))] + run
    return run, 7
