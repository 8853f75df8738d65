"""Models that are built to be filled: their memory stays untouched until a checkpoint is put there.

A constructor draws random numbers for every parameter, and loading overwrites them: for a large model that is most of
the time, and all of its memory. Here a constructor is watched (`watching`). What only fills a tensor that it has just
made is put off (`pending`); whatever looks at such a tensor, in whichever way, has it done first. So a constructor that
computes from its initial values computes the same, and what no checkpoint fills is what it would have been, to the bit.

In doubt everything is done as always: for models that load in a way of their own, for a constructor that fails while
it is watched, and for one that sets torch's generator in between; the last two are called once more, unwatched. Nothing
here reads a file. What an extension reads past torch's dispatcher, or a thread that was there before, is not seen.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import nn

from rehydrate.placing.fresh.pending import Pending, key_of
from rehydrate.placing.fresh.watching import is_plain, watched
from rehydrate.placing.rehearsal import has_own_way
from rehydrate.placing.targets import saved_tensors

__all__ = ["Fresh", "build_fresh"]

_LOG = logging.getLogger("rehydrate")
_ATEN = torch.ops.aten
_TURN = threading.Lock()
"""Held by the one constructor that is watched: functions of modules are replaced meanwhile."""


@dataclass(slots=True)
class Fresh:
    """What a constructor gave, and what it left to be written there."""

    made: object
    ids: frozenset[int] = frozenset()
    """Saved tensors, by `id`, that own the whole of their memory: nobody else looks at it, or has its address."""
    unfilled: frozenset[int] = frozenset()
    """Saved tensors, by `id`, in whose memory there is nothing yet."""
    _pending: Pending = field(default_factory=Pending)

    def fill(self, tensors: Iterable[torch.Tensor]) -> None:
        """See to it that these hold what the constructor meant them to, before anything else is written to any."""
        keys = [key_of(tensor) for tensor in tensors if is_plain(tensor)]  # also parts of what is unfilled
        self._pending.catch_up(keys)

    def fill_all(self) -> None:
        """The same for everything that is left."""
        self._pending.catch_up()


def build_fresh(make: Callable[[], object]) -> Fresh:
    """Call a constructor, and leave alone what memory can be left alone until a checkpoint fills it.

    Afterwards torch's random generator stands where the last number that is in use left it: as always where the model
    holds any that no checkpoint will replace, and where it was otherwise.

    >>> fresh = build_fresh(lambda: nn.Linear(3, 2))
    >>> len(fresh.unfilled)
    2
    >>> torch.manual_seed(0) and fresh.fill_all()
    """
    # Where somebody else is watching, or another thread has a constructor watched, this one is left alone.
    if torch._C._len_torch_dispatch_stack() or not _TURN.acquire(blocking=False):
        return Fresh(make())
    begin = torch.default_generator.get_state()
    pending = Pending()
    try:
        with watched(pending):
            made = make()
    except BaseException as error:
        pending.catch_up()
        if not isinstance(error, Exception):
            raise
        torch.default_generator.set_state(begin)
        return Fresh(_once_more(make, error))
    finally:
        _TURN.release()
    pending.leave()
    if pending.is_doubtful:
        pending.catch_up()  # a factory may give the same model again
        torch.default_generator.set_state(begin)
        _LOG.debug("the model was built a second time: it sets torch's random generator while it is built")
        return Fresh(make())
    return _settled(made, pending)


def _once_more(make: Callable[[], object], error: Exception) -> object:
    """Whether it fails by itself is its own affair; that it fails because it is watched must not happen."""
    try:
        return make()
    except type(error) as again:
        if str(again) == str(error):
            raise again from again.__cause__  # once is enough
        raise


def _settled(made: object, pending: Pending) -> Fresh:
    """Do for whatever is not saved with a model, and so is in no checkpoint, what was put off."""
    if not isinstance(made, nn.Module) or has_own_way(made):
        pending.catch_up()
        return Fresh(made)
    saved = {
        id(tensor): tensor for tensor in saved_tensors(made).values() if is_plain(tensor) and _fills_storage(tensor)
    }
    keys = {id_: key_of(tensor) for id_, tensor in saved.items()}
    covered = set(keys.values())
    pending.catch_up([key for key in pending.alive() if key not in covered])
    alone = _holders(torch.empty(1))
    return Fresh(
        made,
        ids=frozenset(
            id_ for id_, tensor in saved.items() if pending.knows(keys[id_]) and _holders(tensor) == alone
        ),
        unfilled=frozenset(id_ for id_ in saved if pending.waits(keys[id_])),
        _pending=pending,
    )  # fmt: skip


def _fills_storage(tensor: torch.Tensor) -> bool:
    """Whether there is no memory behind it that it does not show."""
    is_dense = bool(_ATEN.is_non_overlapping_and_dense.default(tensor))
    return is_dense and tensor.numel() * tensor.element_size() == tensor.untyped_storage().nbytes() > 0


def _holders(tensor: torch.Tensor) -> int:
    """How many tensors look at this memory, and then some that are always there."""
    return int(torch._C._storage_Use_Count(tensor.untyped_storage()._cdata))
