"""References → torch tensors, many at once.

Each storage is read once and becomes one torch storage; every reference on it becomes a tensor that looks at it, with
the same offset and strides, so what shared memory when it was saved shares memory again. Attributes that a file gives
to tensors are set by `values`, not here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch

from rehydrate.checkpoint.tensor import Storage, TensorRef, Window
from rehydrate.errors import DeviceError
from rehydrate.placing.devices import CPU
from rehydrate.placing.dtypes import torch_dtype
from rehydrate.placing.memory import read_storages
from rehydrate.text import shown

__all__ = ["Remap", "Storages", "Where"]

Where = Callable[[str], torch.device]
"""Saved location → the device a storage goes to."""
Remap = Callable[[torch.UntypedStorage, str], object]
"""A storage on the CPU and its saved location → the storage where it belongs, or None."""


_BY_BUFFER = frozenset({"float", "complex", "integer", "bool"})
"""Kinds of elements that `torch.frombuffer` makes tensors of at once."""


class _Plan:
    """What a window means to torch."""

    __slots__ = ("dtype", "numel", "whole")

    def __init__(self, window: Window) -> None:
        self.dtype = torch_dtype(window.dtype)
        self.numel = math.prod(window.shape)
        is_whole = window.is_row_major and window.offset == 0 and window.dtype.kind in _BY_BUFFER
        self.whole = self.numel * window.dtype.itemsize if is_whole and self.numel else -1
        """Bytes of a storage that it shows all of, in order; -1 when it shows none so."""


class Storages:
    """torch's storages for those of a file, read in one go and moved to where they belong."""

    def __init__(self, storages: Iterable[Storage], where: Where, remap: Remap | None = None) -> None:
        self._plans: dict[int, _Plan] = {}
        self._places: dict[Storage, tuple[object, int]] = {}
        self._made: dict[Storage, torch.Tensor | torch.UntypedStorage] = {}
        self._remap = remap
        wanted = dict.fromkeys(storages)
        goals = {location: where(location) for location in {storage.location for storage in wanted}}
        self._goals = goals
        self._meta = {saved for saved, goal in goals.items() if goal.type == "meta" or saved == "meta"}
        self._here = {saved for saved, goal in goals.items() if goal == CPU and remap is None} - self._meta
        """Saved locations whose storages stay where they are read to."""
        for block in read_storages(storage for storage in wanted if storage.location not in self._meta):
            memory = block.memory
            self._places.update((storage, (memory, at)) for storage, at in block.places)

    def tensor(self, ref: TensorRef) -> torch.Tensor:
        """The tensor of a reference on one of these storages."""
        window, storage = ref.window, ref.storage
        plan = self._plans.get(id(window))  # by identity: hashing one costs more than making a tensor
        if plan is None:
            plan = self._plans[id(window)] = _Plan(window)
        if plan.whole == storage.nbytes and storage not in self._made and storage.location in self._here:
            memory, at = self._places[storage]
            tensor = torch.frombuffer(memory, dtype=plan.dtype, count=plan.numel, offset=at)
            if len(window.shape) != 1:
                tensor = tensor.view(window.shape)
            self._made[storage] = tensor
        elif storage.location in self._meta and window.dtype.kind == "quantized":
            raise DeviceError("torch has no quantised tensors on the meta device", where=shown(ref.name))
        elif storage.location in self._meta and window.reach > storage.nbytes:  # it was saved without a storage
            tensor = torch.empty_strided(window.shape, window.strides, dtype=plan.dtype, device="meta")
        else:
            untyped = self.storage(storage)
            empty = torch.empty(0, dtype=plan.dtype, device=untyped.device)
            tensor = empty.set_(untyped, window.offset, window.shape, window.strides)
        return tensor if not window.traits else _with_traits(tensor, window.traits)

    def storage(self, storage: Storage) -> torch.UntypedStorage:
        """The storage itself: for a second tensor on it, or for a tree that holds it bare."""
        made = self._made.get(storage)
        if made is None:
            made = self._made[storage] = self._make(storage)
        return made.untyped_storage() if isinstance(made, torch.Tensor) else made

    def _make(self, storage: Storage) -> torch.UntypedStorage:
        goal = self._goals[storage.location]
        if storage.location in self._meta:
            return torch.UntypedStorage(storage.nbytes, device="meta")  # type: ignore[no-untyped-call]
        if storage not in self._places:
            return torch.UntypedStorage(0, device=goal)  # type: ignore[no-untyped-call]
        memory, at = self._places[storage]
        flat = torch.frombuffer(memory, dtype=torch.uint8, count=storage.nbytes, offset=at)
        if self._remap is not None:
            return _remapped(flat.untyped_storage(), storage.location, self._remap)
        return (flat if goal == CPU else flat.to(goal)).untyped_storage()


def _remapped(storage: torch.UntypedStorage, saved: str, remap: Remap) -> torch.UntypedStorage:
    """Where a function given as `map_location` puts a storage; None leaves it on the CPU."""
    chosen = remap(storage, saved)
    if chosen is None:
        return storage
    untyped = getattr(chosen, "_untyped_storage", chosen)  # of a TypedStorage, which a function may well give
    if not isinstance(untyped, torch.UntypedStorage):
        raise TypeError(f"map_location returned a {type(chosen).__name__}, not a storage or None")
    return untyped


def _with_traits(tensor: torch.Tensor, traits: frozenset[str]) -> torch.Tensor:
    if "conj" in traits:
        tensor = tensor.conj()
    if "neg" in traits:
        tensor = torch._neg_view(tensor)
    if "parameter" in traits:
        return torch.nn.Parameter(tensor, requires_grad="requires_grad" in traits)
    return tensor.requires_grad_("requires_grad" in traits)
