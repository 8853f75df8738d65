"""Staged tensors in batches: what of the file is read together, into which buffer, and what is made of it there.

A batch is as large as a buffer. Bytes of a storage that several tensors of a batch look at are read once. Nothing here
decides which tensors are staged, and nothing writes to one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from rehydrate.checkpoint.tensor import Storage, TensorRef
from rehydrate.matching.values import Value
from rehydrate.placing.dtypes import torch_dtype
from rehydrate.placing.moving.deriving import derived
from rehydrate.placing.moving.located import Located, refs_of
from rehydrate.placing.moving.pages import bytes_of, empty_tensor
from rehydrate.placing.moving.plan import Staged
from rehydrate.placing.moving.resident import Span, available_memory, is_at_hand
from rehydrate.storage.source import Source

__all__ = ["Batch", "Read", "batches", "hold", "spans_of"]

BATCH = 64 << 20
"""Bytes that are read before anything is made of them."""
_ALIGNMENT = 64
"""Where ranges begin, in a storage and in a buffer alike: a multiple of every element's size."""

Read = Callable[[Source, list[tuple[int, memoryview]]], None]
"""Fills views from a source."""


@dataclass(slots=True, eq=False)
class Batch:
    """Some tensors, and what is read for them."""

    device: torch.device
    is_at_hand: bool
    """Whether it can be read when its turn comes; what is computed or streamed is read before anything is written."""
    staged: list[Staged] = field(default_factory=list)
    ranges: dict[Storage, tuple[int, int]] = field(default_factory=dict)
    """First byte and end of what is wanted of each storage."""
    held: torch.Tensor | None = None
    """What was read beforehand."""

    @property
    def nbytes(self) -> int:
        """Bytes of a buffer."""
        return sum(_room(first, end) for first, end in self.ranges.values())

    def read(self, buffer: torch.Tensor, found: Located, read: Read) -> None:
        """Fill a buffer, whatever order the file has bytes in."""
        view = bytes_of(buffer)
        jobs: dict[Source, list[tuple[int, memoryview]]] = {}
        places = self._places()
        for storage, at in places.items():
            first, end = self.ranges[storage]
            for source, start, length in found.spans(storage, first, end):
                jobs.setdefault(source, []).append((start, view[at : at + length]))
                at += length
        for source, wanted in jobs.items():
            read(source, sorted(wanted, key=lambda job: job[0]))
        for storage, at in places.items():
            if found.coding(storage) == "big-endian":
                first, end = self.ranges[storage]
                _turn_round(buffer[at : at + end - first], storage)

    def values(self, buffer: torch.Tensor) -> Iterable[tuple[Staged, torch.Tensor]]:
        """Each tensor and what goes into it, as far as the CPU makes it: looks at the buffer, or was made of it."""
        places = self._places()

        def tensor_of(ref: TensorRef) -> torch.Tensor:
            return _window(ref, buffer, places[ref.storage] - self.ranges[ref.storage][0]) if ref.numel else _none(ref)

        for staged in self.staged:
            yield staged, derived(staged.source, tensor_of)

    def _places(self) -> dict[Storage, int]:
        places: dict[Storage, int] = {}
        at = 0
        for storage, (first, end) in self.ranges.items():
            places[storage] = at
            at += _room(first, end)
        return places


def batches(staged: Sequence[Staged], found: Located) -> list[Batch]:
    """All of them, neighbours in the file together; those whose order matters last and in their order."""
    wanted = [_wanted(entry, found) for entry in staged]
    in_file = sorted((each for each in wanted if not each.entry.is_ordered), key=_place)
    made: list[Batch] = []
    size = 0
    for entry, ranges, at_hand in (*in_file, *(each for each in wanted if each.entry.is_ordered)):
        device = entry.target.device
        batch = made[-1] if made else None
        grown = {} if batch is None else {key: _joined(batch.ranges.get(key), part) for key, part in ranges.items()}
        more = sum(_room(*part) for part in grown.values())
        more -= sum(_room(*batch.ranges[key]) for key in grown if key in batch.ranges) if batch is not None else 0
        if batch is None or batch.device != device or batch.is_at_hand != at_hand or size + more > BATCH:
            batch = Batch(device, at_hand)
            made.append(batch)
            grown, size = ranges, 0
            more = sum(_room(*part) for part in grown.values())
        batch.staged.append(entry)
        batch.ranges.update(grown)
        size += more
    return made


def hold(batches: Iterable[Batch], found: Located, read: Read) -> None:
    """Read what cannot be read twice, and keep it; where it would not fit into memory, only see that it can be read."""
    once = [batch for batch in batches if not batch.is_at_hand]
    room = available_memory()
    fits = room is None or sum(batch.nbytes for batch in once) <= room // 2
    for batch in once:
        buffer = empty_tensor((batch.nbytes,), torch.uint8)
        batch.read(buffer, found, read)
        batch.held = buffer if fits else None


class _Wanted(NamedTuple):
    """A staged tensor, and what it takes."""

    entry: Staged
    ranges: dict[Storage, tuple[int, int]]
    is_at_hand: bool


def _wanted(entry: Staged, found: Located) -> _Wanted:
    ranges = _ranges(entry.source, found)
    return _Wanted(entry, ranges, _is_at_hand(ranges, found))


def _place(wanted: _Wanted) -> tuple[object, ...]:
    """Where it belongs among the others: device, kind of source, and roughly where it lies."""
    ref = refs_of(wanted.entry.source)[0]
    return str(wanted.entry.target.device), wanted.is_at_hand, (ref.storage.order, ref.offset * ref.dtype.itemsize)


def _ranges(value: Value, found: Located) -> dict[Storage, tuple[int, int]]:
    """What is wanted of each storage."""
    ranges: dict[Storage, tuple[int, int]] = {}
    for ref in refs_of(value):
        if ref.numel:
            first = ref.offset * ref.dtype.itemsize
            end = ref.window.reach
            if found.coding(ref.storage) == "big-endian":  # whole elements of the storage, or they cannot be turned
                width = ref.storage.dtype.itemsize
                end = min(-(-end // width) * width, ref.storage.nbytes)
            part = first - first % _ALIGNMENT, end
            ranges[ref.storage] = _joined(ranges.get(ref.storage), part)
    return ranges


def _joined(one: tuple[int, int] | None, other: tuple[int, int]) -> tuple[int, int]:
    return other if one is None else (min(one[0], other[0]), max(one[1], other[1]))


def _room(first: int, end: int) -> int:
    return -(-(end - first) // _ALIGNMENT) * _ALIGNMENT


def _is_at_hand(ranges: dict[Storage, tuple[int, int]], found: Located) -> bool:
    return all(is_at_hand(span[0]) for storage, part in ranges.items() for span in found.spans(storage, *part))


def spans_of(batch: Batch, found: Located) -> list[Span]:
    """What will be read for a batch."""
    return [span for storage, part in batch.ranges.items() for span in found.spans(storage, *part)]


def _window(ref: TensorRef, buffer: torch.Tensor, shift: int) -> torch.Tensor:
    """A tensor of the file in a buffer; `shift` bytes behind where it has it."""
    elements = buffer.view(torch_dtype(ref.dtype))
    tensor = elements.as_strided(ref.shape, ref.strides, ref.offset + shift // ref.dtype.itemsize)
    if "conj" in ref.traits:
        tensor = tensor.conj()
    return torch._neg_view(tensor) if "neg" in ref.traits else tensor


def _none(ref: TensorRef) -> torch.Tensor:
    return torch.empty(0, dtype=torch.uint8, device="cpu").view(torch_dtype(ref.dtype)).view(ref.shape)


def _turn_round(flat: torch.Tensor, storage: Storage) -> None:
    """Big-endian elements as this machine has them; of a complex number, each half."""
    width = storage.dtype.itemsize // (2 if storage.dtype.kind == "complex" else 1)
    elements = flat.view(-1, width)
    elements.copy_(elements.flip(1))
