"""Jobs → a plan: for each tensor that is to be filled, which bytes of which file go to which memory, and on which way.

Direct: the file's bytes are the tensor's, and are read into its own memory. Mapped: there is no memory yet, or nobody
has looked at it, and the file itself can be that memory. Staged: everything else (another dtype, a strided or computed
value, another device, other coding) is read into memory of our own, made what it shall be, and copied.

Whatever can be wrong is found here: nothing is read, and no tensor is touched.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter

import torch
from torch import nn

from rehydrate.checkpoint.tensor import Storage, TensorRef, Window
from rehydrate.errors import MismatchError, RebuildError
from rehydrate.matching.values import Value
from rehydrate.placing.afterwards import like
from rehydrate.placing.devices import CPU
from rehydrate.placing.dtypes import dtype_of
from rehydrate.placing.moving.located import Located, refs_of, refuse_without_data
from rehydrate.placing.moving.mapped import Mappings
from rehydrate.placing.moving.pages import LARGE, empty_tensor, in_a_row
from rehydrate.placing.moving.resident import Span, is_at_hand
from rehydrate.placing.targets import check_kinds
from rehydrate.text import dimensions, shown

__all__ = ["Direct", "Job", "Mapped", "Plan", "Staged", "planned"]

PART = 64 << 20
"""Bytes of a file that are staged at a time, so that staging takes little memory however large tensors are."""


@dataclass(frozen=True, slots=True)
class Job:
    """A tensor that is to be filled."""

    name: str
    tensor: torch.Tensor
    """Memory that exists, on any device; or on meta: then it is replaced."""
    source: Value
    part: tuple[tuple[int, int], ...] = ()
    """What of it is filled: for each dimension the first and the one behind the last; () for all of it."""
    is_fresh: bool = False
    """Nobody has looked at its memory yet, so that it may be given another."""
    may_map: bool = True
    """Whether other memory may be a mapping of the file; not for what people save over the file that it came from."""


# One of these is made for every tensor of a file, and a frozen dataclass takes twice as long to make; nothing changes
# them.


@dataclass(slots=True, eq=False)
class Direct:
    """A tensor on the CPU into whose memory the bytes of a file are read."""

    name: str
    target: torch.Tensor
    spans: list[Span]


@dataclass(slots=True, eq=False)
class Mapped:
    """A tensor whose memory a file becomes."""

    name: str
    tensor: torch.Tensor
    made: torch.Tensor
    spans: list[Span]


@dataclass(slots=True, eq=False)
class Staged:
    """A tensor into which something is copied."""

    name: str
    target: torch.Tensor
    source: Value
    is_ordered: bool = False
    """Another tensor is filled that shares memory with it: whichever comes later stays."""


@dataclass(slots=True, eq=False)
class Plan:
    """What is to be done."""

    direct: list[Direct] = field(default_factory=list)
    mapped: list[Mapped] = field(default_factory=list)
    staged: list[Staged] = field(default_factory=list)
    fresh: dict[int, torch.Tensor] = field(default_factory=dict)
    """For tensors on the meta device, by `id`: those that take their place."""
    renewed: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)
    """Fresh tensors, and those on faster pages whose memory they take."""
    existing: list[torch.Tensor] = field(default_factory=list)
    """Tensors that are written to and were there before."""
    told: tuple[str, ...] = ()


def planned(jobs: Sequence[Job], found: Located, *, goal: torch.device = CPU, mapped: bool = True) -> Plan:
    """The plan for some jobs; `goal` is where tensors of the meta device become real.

    Raises `MismatchError` and `RebuildError` for what cannot be done.
    """
    _check(jobs)
    plan = Plan()
    mappings = Mappings()
    jobs = _once(jobs)
    shared = _sharing(jobs)
    taken: set[Storage] = set()
    for job in jobs:
        may_map = mapped and job.may_map and goal == CPU and not job.part
        if may_map and (job.tensor.is_meta or job.is_fresh) and _map(plan, job, found, mappings, taken):
            continue
        if job.tensor.is_meta:
            job = replace(job, tensor=_real(plan, job, goal))
        elif job.is_fresh and _gains_by_renewal(job):
            made = empty_tensor(tuple(job.tensor.shape), job.tensor.dtype)
            plan.renewed.append((job.tensor, made))
            job = replace(job, tensor=made)
        elif not nn.parameter.is_lazy(job.tensor):
            plan.existing.append(job.tensor)
        _place(plan, job, found, shared)
    plan.told = mappings.told()
    return plan


def _check(jobs: Iterable[Job]) -> None:
    """Names, kinds and shapes; `match` has seen to them, but for what nobody else knows."""
    refuse_without_data(
        [job.name for job in jobs if any(ref.storage.location == "meta" for ref in refs_of(job.source))]
    )
    for job in jobs:
        if job.source.dtype.kind == "quantized":
            raise MismatchError(f"{shown(job.name)} holds {job.source.dtype} numbers, without what they stand for")
        check_kinds(job.name, job.source.dtype.name, dtype_of(job.tensor.dtype).name)
        if type(job.tensor) is not nn.Parameter and nn.parameter.is_lazy(job.tensor):
            continue
        shape = tuple(end - first for first, end in job.part) if job.part else job.tensor.shape
        if shape != job.source.shape:
            raise MismatchError(
                f"size mismatch for {shown(job.name)}: the checkpoint has {dimensions(job.source.shape)}, "
                f"the model {dimensions(tuple(shape))}"
            )
        if job.tensor.layout is not torch.strided:
            raise RebuildError(f"{shown(job.name)} is {job.tensor.layout}, and the file has numbers in a row for it")
        if _shows_one_twice(job.tensor):
            raise RebuildError(
                f"several numbers of {shown(job.name)} are one in memory, as in an expanded tensor, and the file has "
                "one for each",
                hint="have the model keep it as .clone() makes it",
            )


def _once(jobs: Sequence[Job]) -> list[Job]:
    """Each memory once: of two jobs for one, the later is what stays."""
    once: dict[tuple[object, ...], Job] = {}
    for job in jobs:
        key = _memory_of(job.tensor, job.part)
        once.pop(key, None)  # its turn comes when the later one's does
        once[key] = job
    return list(once.values())


def _shows_one_twice(tensor: torch.Tensor) -> bool:
    """Whether several elements are one in memory; as torch finds it out, which does not copy into such a tensor."""
    return any(not stride and extent > 1 for stride, extent in zip(tensor.stride(), tensor.shape, strict=True))


def _memory_of(tensor: torch.Tensor, part: tuple[tuple[int, int], ...]) -> tuple[object, ...]:
    """What two tensors have alike that are one in memory."""
    if tensor.is_meta or not _is_plain(tensor) or not tensor.numel():
        return id(tensor), part
    return tensor.data_ptr(), tensor.device, tensor.dtype, tensor.shape, tensor.stride(), part


def _sharing(jobs: Sequence[Job]) -> set[int]:
    """The tensors, by `id`, of jobs whose memories overlap without being the same: order matters to them."""
    runs = sorted(
        ((str(job.tensor.device), *_extent(job.tensor), id(job.tensor)) for job in jobs if _has_memory(job.tensor)),
        key=itemgetter(0, 1),
    )
    shared: set[int] = set()
    last: tuple[str, int, int, int] | None = None
    for run in runs:
        device, first, end, tensor = run
        if last is not None and last[0] == device and first < last[2]:
            if tensor != last[3]:
                shared |= {tensor, last[3]}
            last = (device, last[1], max(end, last[2]), tensor if end > last[2] else last[3])
        else:
            last = run
    return shared


def _extent(tensor: torch.Tensor) -> tuple[int, int]:
    """The first byte of a tensor, and the one behind the last."""
    first = tensor.data_ptr()
    if tensor.is_contiguous():
        return first, first + tensor.nbytes
    reach = sum((extent - 1) * stride for extent, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return first, first + (reach + 1) * tensor.element_size()


def _has_memory(tensor: torch.Tensor) -> bool:
    return not tensor.is_meta and _is_plain(tensor) and tensor.numel() > 0


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor is its memory and nothing besides: no subclass, no conjugate, nothing quantised, not lazy."""
    return (
        type(tensor) in (torch.Tensor, nn.Parameter)
        and tensor.layout is torch.strided
        and not (tensor.is_quantized or tensor.is_conj() or tensor.is_neg())
    )


def _map(plan: Plan, job: Job, found: Located, mappings: Mappings, taken: set[Storage]) -> bool:
    """Have a file be the memory of a tensor, where it can be."""
    ref, tensor = job.source, job.tensor
    if not isinstance(ref, TensorRef) or not _is_as_in_memory(ref, found) or not ref.numel:
        return False
    if dtype_of(tensor.dtype) != ref.dtype or not (tensor.is_meta or _is_alone(tensor)) or not _shows_each_once(ref):
        return False
    spans = _bytes_of(ref, found)
    # A second tensor on one storage gets a copy: in the model, it is a tensor of its own.
    if len(spans) != 1 or spans[0][1] % ref.dtype.itemsize or ref.storage in taken:
        return False
    raw = mappings.bytes_of(*spans[0])
    if raw is None:
        return False
    taken.add(ref.storage)
    made = raw.view(tensor.dtype).as_strided(ref.shape, ref.strides)
    plan.mapped.append(Mapped(job.name, tensor, made, spans))
    if tensor.is_meta:
        plan.fresh[id(tensor)] = like(tensor, made)
    return True


def _is_as_in_memory(ref: TensorRef, found: Located) -> bool:
    """Whether the file has the elements as this machine's memory would."""
    is_raw = found.coding(ref.storage) == "raw" and sys.byteorder == "little"
    return is_raw and not ref.traits & {"conj", "neg"} and ref.dtype.per_byte == 1 and ref.dtype.kind != "quantized"


def _is_alone(tensor: torch.Tensor) -> bool:
    """Whether a tensor can be given other memory: nobody else looks at what it has."""
    if not _has_memory(tensor) or tensor.device != CPU or tensor.is_inference():
        return False
    storage = tensor.untyped_storage()
    count = getattr(torch._C, "_storage_Use_Count", None)
    if count is None or storage.nbytes() != tensor.numel() * tensor.element_size():
        return False
    return bool(count(storage._cdata) <= 2)  # the tensor, and our question


def _gains_by_renewal(job: Job) -> bool:
    """Whether memory that nobody has touched may lie on pages that are touched faster."""
    tensor = job.tensor
    is_large = tensor.numel() * tensor.element_size() >= LARGE
    return is_large and not job.part and tensor.is_contiguous() and _is_alone(tensor)


def _shows_each_once(ref: TensorRef) -> bool:
    """Whether no element of the file is shown twice, as in an expanded tensor."""
    reach = 1
    for stride, extent in sorted(zip(ref.strides, ref.shape, strict=True)):
        if extent > 1 and stride < reach:
            return False
        reach += (extent - 1) * stride if extent > 1 else 0
    return True


def _real(plan: Plan, job: Job, goal: torch.device) -> torch.Tensor:
    """Memory for a tensor of the meta device."""
    tensor = job.tensor
    made = plan.fresh.get(id(tensor))
    if made is not None:
        return made
    if nn.parameter.is_lazy(tensor):
        made = torch.empty(job.source.shape, dtype=tensor.dtype, device=goal)
    elif goal == CPU and tensor.is_contiguous():
        made = empty_tensor(tuple(tensor.shape), tensor.dtype)
    else:
        made = torch.empty_like(tensor, device=goal, requires_grad=False)
    if job.part:
        made.zero_()
    plan.fresh[id(tensor)] = made = like(tensor, made)
    return made


def _place(plan: Plan, job: Job, found: Located, shared: set[int]) -> None:
    """Direct where it can be, else staged."""
    tensor, source = job.tensor, job.source
    if not _is_plain(tensor):
        plan.staged.append(Staged(job.name, tensor, source))
        return
    target = tensor.detach()
    if job.part:
        for axis, (first, end) in enumerate(job.part):
            target = target.narrow(axis, first, end - first)
    if not target.numel():
        return
    spans = [_bytes_of(ref, found) for ref in refs_of(source)]
    if not isinstance(source, TensorRef):
        plan.staged.append(Staged(job.name, target, source, id(tensor) in shared))
        return
    window = source.window
    if target.is_contiguous() and _is_in_a_row(window):
        is_same = dtype_of(target.dtype) == source.dtype and target.device == CPU and _is_as_in_memory(source, found)
        if is_same and id(tensor) not in shared and all(is_at_hand(where) for where, _, _ in spans[0]):
            plan.direct.append(Direct(job.name, target, spans[0]))
            return
        target, window = in_a_row(target), replace(window, shape=(target.numel(),), strides=(1,))
    for part, of_part in _slabs(target, window):
        ref = TensorRef(source.name, of_part, source.storage)
        plan.staged.append(Staged(job.name, part, ref, id(tensor) in shared))


def _bytes_of(ref: TensorRef, found: Located) -> list[Span]:
    """Where what a tensor of the file looks at lies. Raises what reading it would raise where it is not there."""
    return found.spans(ref.storage, ref.offset * ref.dtype.itemsize, ref.window.reach)


def _slabs(target: torch.Tensor, window: Window) -> list[tuple[torch.Tensor, Window]]:
    """A tensor and what goes into it, in parts that look at `PART` bytes of the file each, or at hardly more.

    They are cut along those dimensions whose elements lie farthest apart in the file.
    """
    slabs = [(target, window)]
    for axis in sorted(range(target.dim()), key=window.strides.__getitem__, reverse=True):
        slabs = [part for slab in slabs for part in _cut(*slab, axis)]
    return slabs


def _cut(target: torch.Tensor, window: Window, axis: int) -> Iterator[tuple[torch.Tensor, Window]]:
    """Parts of one that is too large, along one dimension."""
    itemsize, stride, extent = window.dtype.itemsize, window.strides[axis], window.shape[axis]
    if window.reach - window.offset * itemsize <= PART:
        yield target, window
        return
    count = max(1, PART // max(stride * itemsize, 1))
    for first in range(0, extent, count):
        part = target.narrow(axis, first, min(count, extent - first))
        shape = (*window.shape[:axis], part.shape[axis], *window.shape[axis + 1 :])
        yield part, replace(window, shape=shape, offset=window.offset + first * stride)


def _is_in_a_row(window: Window) -> bool:
    """Whether the elements lie side by side; extents of one have no neighbours, whatever their stride."""
    step = 1
    for extent, stride in zip(reversed(window.shape), reversed(window.strides), strict=True):
        if extent != 1 and stride != step:
            return False
        step *= extent
    return True
