"""The loop: tensors that exist are filled from a file, all of them or none.

`fill` plans every tensor's way, sees that all of it can be read, takes what an undo needs, and only then writes. Up to
`undo.UNDO` bytes of tensors are kept as they were, so that a failure at any point puts every bit back. Past that a read
that fails is tried once more, and then `TornLoadError` names what was written. Nothing here knows what a model is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from rehydrate.placing.devices import CPU
from rehydrate.placing.moving import undo as undoing
from rehydrate.placing.moving.located import Located, refs_of
from rehydrate.placing.moving.pages import bytes_of
from rehydrate.placing.moving.plan import Direct, Job, Plan, planned
from rehydrate.placing.moving.resident import Span, check_readable, check_unchanged
from rehydrate.placing.moving.ring import Ring, lane_to
from rehydrate.placing.moving.staging import Batch, batches, hold, spans_of
from rehydrate.placing.moving.undo import Kept, Undoing, all_or_nothing
from rehydrate.storage.source import Source

__all__ = ["Filled", "Job", "fill"]

_AT_ONCE = 512 << 20
"""Bytes that are read straight into tensors before it is noted which come next: so exactly can a torn load be told."""
_PAUSE = 0.1
"""Seconds before a read that failed is tried again."""


@dataclass(frozen=True, slots=True)
class Filled:
    """What came of filling."""

    fresh: dict[int, torch.Tensor]
    """For each tensor on the meta device, by `id`, the one that takes its place."""
    told: tuple[str, ...] = ()
    """What to know: where tensors are mapped, and what could not be seen to beforehand. Sentences."""


class _Nothing:
    """There is nothing to undo but the tensors themselves."""

    def put_back(self) -> Sequence[str]:
        """Nothing."""
        return ()


@torch.no_grad()
def fill(
    jobs: Sequence[Job],
    *,
    goal: torch.device = CPU,
    mapped: bool = True,
    before: Callable[[], Undoing] = _Nothing,
    after: Callable[[Filled], object] = lambda filled: None,
) -> Filled:
    """Fill the tensors of `jobs`; those of the meta device become real on `goal`.

    `before` is called when all that can be checked has been, and before the first byte is written: it photographs
    whatever the caller changes besides these tensors, and is asked to `put_back` if something fails; what it changes
    itself, it undoes itself if it fails. `after` is called when
    everything is written and may still fail: there the caller puts `fresh` where it belongs.

    Raises, with every tensor as it was: `MismatchError`, `RebuildError`, `TruncatedError`, `CorruptError` (a file that
    was changed), and whatever reading raises. Raises `TornLoadError` for a load of more than `UNDO` bytes that fails
    after writing had begun.
    """
    found = Located(ref.storage for job in jobs for ref in refs_of(job.source))
    plan = planned(jobs, found, goal=goal, mapped=mapped)
    staged = batches(plan.staged, found)
    reads = _reads(plan.direct)
    spans = list(_spans(plan, staged, found))
    told = check_readable(spans)
    hold(staged, found, _fill)
    moved = [(entry.tensor, entry.made) for entry in plan.mapped if not entry.tensor.is_meta] + plan.renewed
    written: list[str] = []
    kept = Kept(plan.existing, [tensor for tensor, _ in moved], written=written)
    filled = Filled(plan.fresh, (*plan.told, *told))
    undo = before()
    with all_or_nothing((kept, undo)):
        is_large = not kept.has_values or sum(job.source.nbytes for job in jobs) > undoing.UNDO
        read = _fill_or_try_again if is_large else _fill
        for tensor, made in moved:
            tensor.data = made
        _read_direct(reads, written, read)
        for direct in plan.direct:
            _note_change(direct.target)
        _copy_staged(staged, found, written, read)
        check_unchanged({source for source, _, _ in spans})  # somebody who saved over it meanwhile: parts of both
        after(filled)
    return filled


_Read = tuple[str, int, memoryview]
"""A tensor's name, a first byte in a source, and memory of the tensor."""


def _reads(direct: Iterable[Direct]) -> dict[Source, list[_Read]]:
    """What is read from each source, in the order in which it lies there."""
    reads: dict[Source, list[_Read]] = {}
    for entry in direct:
        view = bytes_of(entry.target)
        at = 0
        for source, start, length in entry.spans:
            reads.setdefault(source, []).append((entry.name, start, view[at : at + length]))
            at += length
    for parts in reads.values():
        parts.sort(key=lambda part: part[1])
    return reads


def _spans(plan: Plan, staged: Iterable[Batch], found: Located) -> Iterable[Span]:
    """Everything that will be looked at in files."""
    for direct in plan.direct:
        yield from direct.spans
    for mapped in plan.mapped:
        yield from mapped.spans
    for batch in staged:
        yield from spans_of(batch, found)


def _read_direct(reads: dict[Source, list[_Read]], written: list[str], read: Callable[..., None]) -> None:
    """Straight into the tensors; `written` grows before each read."""
    for source, parts in reads.items():
        together: list[_Read] = []
        size = 0
        for part in parts:
            together.append(part)
            size += len(part[2])
            if size >= _AT_ONCE:
                _read_together(source, together, written, read)
                together, size = [], 0
        if together:
            _read_together(source, together, written, read)


def _read_together(source: Source, parts: list[_Read], written: list[str], read: Callable[..., None]) -> None:
    written.extend(dict.fromkeys(name for name, _, _ in parts))
    read(source, [(start, view) for _, start, view in parts])


def _note_change(tensor: torch.Tensor) -> None:
    """Tell autograd that a tensor has been written to behind its back."""
    if not tensor.is_inference():
        torch.autograd.graph.increment_version(tensor)


def _copy_staged(staged: Iterable[Batch], found: Located, written: list[str], read: Callable[..., None]) -> None:
    """Batch by batch through the buffers of each device."""
    rings: dict[torch.device, Ring] = {}
    try:
        for batch in staged:
            ring = rings.get(batch.device) or rings.setdefault(batch.device, Ring(lane_to(batch.device)))
            buffer = batch.held
            if buffer is None:
                buffer = ring.buffer(batch.nbytes)
                batch.read(buffer, found, read)
            for entry, value in batch.values(buffer):
                written.append(entry.name)
                if nn.parameter.is_lazy(entry.target):
                    entry.target.materialize(value.shape)
                ring.copy(entry.target, value)
            ring.sent()
    finally:  # nothing is on its way any more when this returns: an undo may follow
        for ring in rings.values():
            ring.finish()


def _fill(source: Source, jobs: list[tuple[int, memoryview]]) -> None:
    source.fill(jobs)


def _fill_or_try_again(source: Source, jobs: list[tuple[int, memoryview]]) -> None:
    """A large load is worth a second attempt: a network that was away, a disk that woke up."""
    try:
        source.fill(jobs)
    except OSError:
        time.sleep(_PAUSE)
        source.fill(jobs)
