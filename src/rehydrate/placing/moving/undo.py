"""Tensors and models as they were: what is needed to put them back when a load fails half-way.

Which tensors every module holds, and its attributes, are always kept; what is in tensors only up to `UNDO` bytes.
`all_or_nothing` is the one place that puts back, and that says so where it cannot.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import nn

from rehydrate.dtypes import DTYPES
from rehydrate.errors import TornLoadError
from rehydrate.placing.devices import CPU
from rehydrate.placing.moving.pages import LARGE, empty_tensor
from rehydrate.text import counted, listed, shown

__all__ = ["UNDO", "Kept", "Together", "Undo", "Undoing", "all_or_nothing", "copy_values"]

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

    def put_back(self) -> None:
        """Make it that again."""


class Kept:
    """What is in tensors, taken before they are written to, up to `UNDO` bytes; and the memory of some."""

    def __init__(self, tensors: Iterable[torch.Tensor], moved: Iterable[torch.Tensor] = ()) -> None:
        every = {id(tensor): tensor for tensor in tensors}.values()
        self.has_values = sum(map(_nbytes, every)) <= UNDO
        """Whether the values can be put back."""
        self._values = [(tensor, _copied(tensor)) for tensor in every] if self.has_values else []
        self._memory = [(tensor, tensor.data) for tensor in moved]

    @torch.no_grad()
    def put_back(self) -> None:
        """Make them what they were, as far as that was kept."""
        for tensor, data in self._memory:
            tensor.data = data
        for tensor, value in self._values:
            copy_values(tensor, value)


class Undo:
    """A model, taken before it is touched; without `values`, only what it holds and not what is in it."""

    def __init__(self, model: nn.Module, *, values: bool = True) -> None:
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
        self._kept = Kept(real if values else ())
        self.has_values = self._kept.has_values
        """Whether the values can be put back too."""

    @torch.no_grad()
    def put_back(self) -> None:
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
        self._kept.put_back()


class Together:
    """Several things as they were."""

    def __init__(self, each: Sequence[Undoing]) -> None:
        self._each = each

    def put_back(self) -> None:
        """All of them, the last first; one that fails does not keep the others from it."""
        failed: Exception | None = None
        for each in reversed(self._each):
            try:
                each.put_back()
            except Exception as error:  # noqa: BLE001 - somebody's own code may refuse its own state
                failed = error
        if failed is not None:
            raise failed


@contextmanager
def all_or_nothing(undos: Sequence[Undoing], written: list[str], *, has_values: bool) -> Iterator[None]:
    """What fails in this block is undone. `written` are the names of tensors that have been begun to be written to.

    Raises `TornLoadError` where `has_values` says that their values are gone, or putting back fails itself.
    """
    try:
        yield
    except BaseException as error:
        is_torn = bool(written) and not has_values
        for undo in undos:
            try:
                undo.put_back()
            except Exception:  # noqa: BLE001 - a device that fails to be written to may fail to be written back to
                is_torn = True
        if is_torn:
            torn = _torn(written, error)
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
