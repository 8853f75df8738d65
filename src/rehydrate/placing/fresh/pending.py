"""Fills of memory that have been put off: what was to be written where, in which order.

Whoever builds a model only to overwrite it fills all of its memory twice. Here a fill is written down instead. It is
done when somebody looks, and then as it would have been: in order, with the random numbers that it would have drawn.
Memory is known by its storage, held weakly, so that whatever looks at it counts, whatever it is called.

Nothing here decides what may be put off; `fresh` watches a constructor and does.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef

__all__ = ["Pending", "key_of"]

_ATEN = torch.ops.aten
_WORDS = torch.tensor([*range(1024, 1028), *range(2048, 2052)])
"""Some bytes of a generator's state: of words of the Mersenne twister, behind the seed, which stays as it was."""
_SECRET = os.urandom(4)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in which storage a tensor lies."""

    storage: StorageWeakRef
    nbytes: int
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def key(self) -> int:
        return int(self.storage.cdata)


@dataclass(frozen=True, slots=True)
class _Fill:
    """One call that writes to one tensor and looks at nothing else, but perhaps one other."""

    function: Callable[..., object]
    target: _Place
    source: _Place | None
    args: tuple[object, ...]
    kwargs: Mapping[str, object]

    @property
    def places(self) -> tuple[_Place, ...]:
        return (self.target,) if self.source is None else (self.target, self.source)


def key_of(tensor: torch.Tensor) -> int:
    """What tells the memory of a strided tensor from other memory, for as long as anything here refers to it."""
    return int(tensor.untyped_storage()._cdata)


class Pending:
    """What was put off. Memory has to be `known` first: made here, and seen by nobody whom we do not see."""

    def __init__(self) -> None:
        self._known: dict[int, StorageWeakRef] = {}
        self._fills: dict[int, _Fill] = {}
        """By their turn."""
        self._turns: dict[int, list[int]] = {}
        """By storage: the turns of what is to be written to it."""
        self._bound: set[int] = set()
        """Storages that wait for random numbers, or for others that do: they are filled in order, with all the rest."""
        self._state: torch.Tensor | None = None
        """Where torch's generator stood before the first number that has not been drawn."""
        self._mark: torch.Tensor | None = None
        """What it was set to then: a state that nobody else can know, so that one who sets it is noticed."""
        self._turn = 0
        self.is_doubtful = False
        """Whether somebody set the generator while numbers had not been drawn. Which ones come next is then unknown."""
        self.is_over = False
        """Whether nothing more may be put off."""
        self.is_busy = False
        """Whether fills are being done right now; what they call is not to be put off again."""

    def know(self, tensor: torch.Tensor) -> None:
        """This memory was made just now."""
        storage = tensor.untyped_storage()
        self._known[int(storage._cdata)] = StorageWeakRef(storage)  # type: ignore[no-untyped-call]

    def forget(self, key: int) -> None:
        """Somebody has its address: what he does with it is not seen."""
        self._known.pop(key, None)

    def knows(self, key: int) -> bool:
        """Whether fills of this memory may be put off."""
        return key in self._known and not self.is_over

    def stop(self) -> None:
        """Do everything that was put off, and put nothing off any more."""
        self.is_over = True
        self.catch_up()

    def waits(self, key: int) -> bool:
        """Whether there is something to be written to this memory."""
        return key in self._turns

    def is_random(self, key: int) -> bool:
        """Whether what is to be written there depends on numbers that have not been drawn."""
        return key in self._bound

    def put_off(
        self,
        function: Callable[..., object],
        target: torch.Tensor,
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
        *,
        is_random: bool = False,
        source: torch.Tensor | None = None,
    ) -> None:
        """Write a call down, instead of doing it."""
        from_where = None if source is None else self._place(source)
        fill = _Fill(function, self._place(target), from_where, args, kwargs or {})
        if is_random:
            self._note_generator()
        if is_random or from_where is not None:
            self._bound.update(place.key for place in fill.places)
        self._fills[self._turn] = fill
        for place in fill.places:
            self._turns.setdefault(place.key, []).append(self._turn)
        self._turn += 1

    def catch_up(self, keys: Iterable[int] | None = None) -> None:
        """Do what was put off: for some storages and whatever that takes, or for all."""
        if not self._fills:
            return
        waiting = None if keys is None else [key for key in keys if key in self._turns]
        with self.busy():
            if waiting is None or not self._bound.isdisjoint(waiting):
                self._all()
            else:
                for key in waiting:
                    for turn in self._turns.pop(key, ()):
                        _do(self._fills.pop(turn), {})

    def alive(self) -> Iterator[int]:
        """Storages that wait and that somebody still has."""
        known = self._known
        return (key for key in tuple(self._turns) if key in known and not known[key].expired())  # type: ignore[no-untyped-call]

    @contextmanager
    def busy(self) -> Iterator[None]:
        """While this holds, what is done is done by us."""
        was, self.is_busy = self.is_busy, True
        try:
            yield
        finally:
            self.is_busy = was

    def _place(self, tensor: torch.Tensor) -> _Place:
        storage = tensor.untyped_storage()
        reference = self._known[int(storage._cdata)]
        shape, strides = tuple(tensor.shape), tensor.stride()
        return _Place(reference, storage.nbytes(), tensor.dtype, int(tensor.storage_offset()), shape, strides)

    def leave(self) -> None:
        """Nobody is watched any more. The generator is put back to before the first number that was not drawn."""
        if self._mark is not None and self._state is not None:
            self._check_generator()
            torch.default_generator.set_state(self._state)
            self._mark = None

    def _note_generator(self) -> None:
        """The next numbers are drawn later, from where those before them will have left it."""
        if self._state is None:
            self._state = torch.default_generator.get_state()
        else:
            self._check_generator()
        mark = self._state.clone()
        mark[_WORDS] ^= torch.tensor([*self._turn.to_bytes(4, "little"), *_SECRET], dtype=torch.uint8)
        torch.default_generator.set_state(mark)
        self._mark = torch.default_generator.get_state()

    def _check_generator(self) -> None:
        if self._mark is not None and not torch.equal(self._mark, torch.default_generator.get_state()):
            self.is_doubtful = True

    def _all(self) -> None:
        """Everything, in order. The generator ends where it would have, unless somebody used it since."""
        generator = torch.default_generator
        now = generator.get_state()
        self._check_generator()
        is_used_since = self._state is not None and self._mark is None and not torch.equal(self._state, now)
        if self._state is not None:
            generator.set_state(self._state)
        self._mark = None
        left = Counter(place.key for fill in self._fills.values() for place in fill.places)
        scratch: dict[int, torch.UntypedStorage] = {}
        try:
            while self._fills:
                fill = self._fills.pop(next(iter(self._fills)))
                _do(fill, scratch)
                for place in fill.places:
                    left[place.key] -= 1
                    if not left[place.key]:
                        scratch.pop(place.key, None)
        finally:
            # Stopped half-way, by Ctrl-C or for want of memory, the rest can still be done later.
            self._state = generator.get_state() if self._fills else None
            self._turns = {}
            for turn, fill in self._fills.items():
                for place in fill.places:
                    self._turns.setdefault(place.key, []).append(turn)
            self._bound = set(self._turns)
            if is_used_since:
                generator.set_state(now)


def _do(fill: _Fill, scratch: dict[int, torch.UntypedStorage]) -> None:
    """Do one of them. Memory that nobody has any more is written to in scratch: its numbers have to be drawn."""
    tensors = [_tensor(place, scratch) for place in fill.places]
    with torch._C.DisableTorchFunction(), torch.no_grad():
        fill.function(*tensors, *fill.args, **fill.kwargs)


def _tensor(place: _Place, scratch: dict[int, torch.UntypedStorage]) -> torch.Tensor:
    storage: Any = torch.UntypedStorage._new_with_weak_ptr(place.storage.cdata)
    if storage is None:
        storage = scratch.get(place.key)
    if storage is None:
        storage = scratch[place.key] = torch.UntypedStorage(place.nbytes)  # type: ignore[no-untyped-call]
    empty: Any = _ATEN.empty.memory_format([0], dtype=place.dtype, device="cpu")
    view: torch.Tensor = _ATEN.set_.source_Storage_storage_offset(
        empty, storage, place.offset, place.shape, place.strides
    )
    return view
