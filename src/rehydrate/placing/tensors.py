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
from rehydrate.errors import DeviceError, LimitError
from rehydrate.pickles.torch_names import is_countable
from rehydrate.placing.devices import CPU
from rehydrate.placing.dtypes import torch_dtype
from rehydrate.placing.moving.memory import read_storages
from rehydrate.text import dimensions, shown

__all__ = ["Remap", "Storages", "Where"]

Where = Callable[[str], torch.device]
"""Saved location → the device a storage goes to."""
Remap = Callable[[torch.UntypedStorage, str], object]
"""A storage on the CPU and its saved location → the storage where it belongs, or None."""


_BY_BUFFER = frozenset({"float", "complex", "integer", "bool"})
"""Kinds of elements that `torch.frombuffer` makes tensors of at once."""


class _Plan:
    """What a window means to torch."""

    __slots__ = ("dtype", "numel", "shape", "whole")

    def __init__(self, window: Window) -> None:
        if not is_countable(window.shape):
            raise LimitError("a tensor has more elements than torch can count", found=dimensions(window.shape))
        self.dtype = torch_dtype(window.dtype)
        self.numel = math.prod(window.shape)
        self.shape = None if len(window.shape) == 1 else window.shape
        """What its elements in a row are to be viewed as."""
        is_whole = window.is_row_major and window.offset == 0 and window.dtype.kind in _BY_BUFFER
        self.whole = self.numel * window.dtype.itemsize if is_whole and self.numel else -1
        """Bytes of a storage that it shows all of, in order; -1 when it shows none so."""


class Storages:
    """torch's storages for those of a file, read in one go and moved to where they belong."""

    def __init__(self, storages: Iterable[Storage], where: Where, remap: Remap | None = None) -> None:
        self._plans: dict[int, _Plan] = {}
        self._places: dict[Storage, tuple[object, int]] = {}
        self._fresh: dict[Storage, tuple[object, int]] = {}
        """Places of storages that stay where they are read to, until something is made of them."""
        self._made: dict[Storage, torch.Tensor | torch.UntypedStorage] = {}
        self._remap = remap
        wanted = dict.fromkeys(storages)
        goals = {location: where(location) for location in {storage.location for storage in wanted}}
        self._goals = goals
        self._meta = {saved for saved, goal in goals.items() if goal.type == "meta" or saved == "meta"}
        here = {saved for saved, goal in goals.items() if goal == CPU and remap is None} - self._meta
        here_or_moved = [storage for storage in wanted if storage.location not in self._meta] if self._meta else wanted
        for block in read_storages(here_or_moved):
            memory = block.memory
            self._places.update([(storage, (memory, at)) for storage, at in block.places])
        self._fresh = self._places.copy()
        if not here.issuperset(goals):
            self._fresh = {storage: place for storage, place in self._places.items() if storage.location in here}

    def tensors(self, refs: Iterable[TensorRef]) -> list[torch.Tensor]:
        """The tensors of references on these storages, in their order."""
        plans, fresh, made, from_memory = self._plans, self._fresh, self._made, torch.frombuffer
        tensors: list[torch.Tensor] = []
        for ref in refs:
            window, storage = ref.window, ref.storage
            plan = plans.get(id(window)) or self._plan(window)
            place = fresh.pop(storage, None) if plan.whole == storage.nbytes else None
            if place is None:
                tensor = self._window_on(storage, ref, plan)
            else:
                tensor = from_memory(place[0], dtype=plan.dtype, count=plan.numel, offset=place[1])
                if plan.shape is not None:
                    tensor = tensor.view(plan.shape)
                made[storage] = tensor
            tensors.append(tensor if not window.traits else _with_traits(tensor, window.traits))
        return tensors

    def _plan(self, window: Window) -> _Plan:
        """By identity: hashing a window costs more than making a tensor."""
        made = self._plans[id(window)] = _Plan(window)
        return made

    def _window_on(self, storage: Storage, ref: TensorRef, plan: _Plan) -> torch.Tensor:
        """A tensor that does not show the whole of a storage that nobody has looked at before."""
        window = ref.window
        if storage.location in self._meta and window.dtype.kind == "quantized":
            raise DeviceError("torch has no quantised tensors on the meta device", where=shown(ref.name))
        if storage.location in self._meta and window.reach > storage.nbytes:  # it was saved without a storage
            return torch.empty_strided(window.shape, window.strides, dtype=plan.dtype, device="meta")
        untyped = self.storage(storage)
        empty = torch.empty(0, dtype=plan.dtype, device=untyped.device)
        return empty.set_(untyped, window.offset, window.shape, window.strides)

    def storage(self, storage: Storage) -> torch.UntypedStorage:
        """The storage itself: for a second tensor on it, or for a tree that holds it bare."""
        made = self._made.get(storage)
        if made is None:
            self._fresh.pop(storage, None)
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
