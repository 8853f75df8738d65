"""Tensors and models as they were: what is needed to put them back when a load fails half-way.

Which tensors every module holds, and its attributes, are always kept; what is in tensors only up to `UNDO` bytes.
What was written and cannot be put back is known by name, and `all_or_nothing` is the one place that says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import nn

from rehydrate.dtypes import DTYPES
from rehydrate.errors import TornLoadError
from rehydrate.placing.devices import CPU
from rehydrate.placing.moving.pages import LARGE, empty_tensor
from rehydrate.text import counted, listed, shown

__all__ = ["UNDO", "Kept", "Together", "Undo", "Undoing", "all_or_nothing", "copy_values", "taken_together"]

UNDO = 64 << 20
"""Bytes of tensors up to which a copy is kept while they are overwritten. Past it, that would be a second model in
memory; by then everything has been seen to be readable."""

_AS_INTEGERS = {
    getattr(torch, dtype.name): torch.uint8 if dtype.itemsize == 1 else torch.int32
    for dtype in DTYPES
    if hasattr(torch, dtype.name) and ((dtype.kind == "bits" and dtype.itemsize == 1) or dtype.name == "complex32")
}
"""Element types that torch does not copy, or warns of: integers of their width are copied."""

_TABLES = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set")


class Undoing(Protocol):
    """Something as it was."""

    def put_back(self) -> Sequence[str]:
        """Make it that again, as far as it was kept; gives the names of what is lost. Never raises."""


class Kept:
    """What is in tensors, taken before they are written to, up to `UNDO` bytes; and the memory of some.

    `written` is the writer's: the names of those that have been begun to be written to, as they come.
    """

    def __init__(
        self, tensors: Iterable[torch.Tensor], moved: Iterable[torch.Tensor] = (), *, written: Sequence[str] = ()
    ) -> None:
        every = {id(tensor): tensor for tensor in tensors}.values()
        self.has_values = sum(map(_nbytes, every)) <= UNDO
        """Whether the values can be put back."""
        self._values = [(tensor, _copied(tensor)) for tensor in every] if self.has_values else []
        self._memory = [(tensor, tensor.data) for tensor in moved]
        self._written = written

    @torch.no_grad()
    def put_back(self) -> Sequence[str]:
        """Make them what they were, as far as that was kept."""
        is_whole = self.has_values
        for tensor, data in self._memory:
            tensor.data = data
        for tensor, value in self._values:
            try:
                copy_values(tensor, value)
            except Exception:  # noqa: BLE001 - a device that fails to be written to may fail to be written back to
                is_whole = False
        return () if is_whole else tuple(self._written)


class Undo:
    """A model, taken before it is touched; without `values`, only what it holds and not what is in it.

    `written` as of `Kept`.
    """

    def __init__(self, model: nn.Module, *, values: bool = True, written: Sequence[str] = ()) -> None:
        self._attributes = [(module, dict(module.__dict__)) for module in model.modules()]
        self._tables = [
            (table, table.copy())
            for _, attributes in self._attributes
            for name in _TABLES
            if isinstance(table := attributes.get(name), (dict, set))  # a scripted module has a kind of its own
        ]
        every: dict[int, torch.Tensor] = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
        self._lazy: list[tuple[Any, type]] = [
            (tensor, type(tensor)) for tensor in every.values() if nn.parameter.is_lazy(tensor)
        ]
        real = [tensor for tensor in every.values() if not nn.parameter.is_lazy(tensor) and not tensor.is_meta]
        self._kept = Kept(real if values else (), written=written)

    @torch.no_grad()
    def put_back(self) -> Sequence[str]:
        """Make the model what it was, as far as that was kept."""
        for module, attributes in self._attributes:
            module.__dict__.clear()
            module.__dict__.update(attributes)
        for table, content in self._tables:
            table.clear()
            table.update(content)
        for tensor, kind in self._lazy:
            if type(tensor) is not kind:
                tensor.data = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
                tensor.__class__ = kind
        return self._kept.put_back()


class Together:
    """Several things as they were."""

    def __init__(self, each: Sequence[Undoing]) -> None:
        self._each = each

    def put_back(self) -> Sequence[str]:
        """All of them, the last first."""
        return tuple(name for each in reversed(self._each) for name in each.put_back())


def taken_together(takes: Iterable[Callable[[], Undoing]]) -> Together:
    """Take several, each of which may change something; where one fails, those before it are put back."""
    taken: list[Undoing] = []
    with all_or_nothing(taken):
        for take in takes:
            taken.append(take())  # noqa: PERF401 - those before one that fails must be there
    return Together(taken)


@contextmanager
def all_or_nothing(undos: Sequence[Undoing]) -> Iterator[None]:
    """What fails in this block is undone, the last of `undos` first.

    Raises `TornLoadError` where something that was written could not be put back.
    """
    try:
        yield
    except BaseException as error:
        lost = Together(undos).put_back()
        if lost:
            torn = _torn(lost, error)
            if isinstance(error, Exception):
                raise torn from error
            error.add_note(str(torn))  # somebody wants to stop, and shall
        raise


def _torn(written: Sequence[str], error: BaseException) -> TornLoadError:
    names = list(dict.fromkeys(written))
    reason = str(error).splitlines()[0] if str(error) else ""
    return TornLoadError(
        f"the load failed after {counted(len(names), 'tensor')} had been written",
        where=f"{type(error).__name__}{f': {reason}' if reason else ''}",
        found=f"what was written: {listed([shown(name) for name in names])}",
        hint="load it again, or build the model anew",
    )


def copy_values(tensor: torch.Tensor, value: torch.Tensor) -> None:
    """Overwrite what is in a tensor; gradients are off."""
    if tensor.dtype == value.dtype and tensor.dtype in _AS_INTEGERS and not (value.is_conj() or value.is_neg()):
        tensor, value = (each.detach().view(_AS_INTEGERS[tensor.dtype]) for each in (tensor, value))
    if tensor.is_inference():  # those may be written to in inference mode only
        with torch.inference_mode():
            tensor.copy_(value)
    else:
        tensor.copy_(value)


def _copied(tensor: torch.Tensor) -> torch.Tensor:
    """The same values elsewhere; large ones in memory that is quick to get."""
    tensor = tensor.detach()
    is_usual = type(tensor) is torch.Tensor and tensor.layout is torch.strided and not tensor.is_quantized
    if not is_usual or tensor.device != CPU or _nbytes(tensor) < LARGE or not tensor.is_contiguous():
        return _cloned(tensor)
    return empty_tensor(tuple(tensor.shape), tensor.dtype).copy_(tensor)


def _cloned(tensor: torch.Tensor) -> torch.Tensor:
    kind = _AS_INTEGERS.get(tensor.dtype)
    return tensor.clone() if kind is None or tensor.is_conj() else tensor.view(kind).clone().view(tensor.dtype)


def _nbytes(tensor: torch.Tensor) -> int:
    dense = tensor._values() if tensor.layout is torch.sparse_coo else tensor
    return dense.numel() * dense.element_size()
