"""Buffers of a model on the meta device that no checkpoint holds: frequencies, masks, positions.

They were computed by a constructor, on a device without numbers, and they are not saved. A module that has a method of
its own to compute them again, without arguments, is asked to: copies of it are, over several patterns in real memory.
What comes out alike each time was written completely, and depends neither on what lay there nor on parameters that are
yet to be loaded. Anything else is an error that names the buffers: nothing is guessed, and the model stays as it was.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from rehydrate.errors import RebuildError
from rehydrate.placing.devices import CPU
from rehydrate.placing.moving.undo import UNDO
from rehydrate.text import counted, listed, shown

__all__ = ["initialise_buffers"]

_METHODS = (
    "reset_buffers", "_reset_buffers", "init_buffers", "_init_buffers", "initialize_buffers", "reset_parameters",
    "_reset_parameters", "init_weights", "_init_weights", "initialize_weights",
)  # fmt: skip
"""What modules call the method that sets their buffers, the most particular first."""
_PATTERNS = 4
"""How often a method is called, each time over other numbers."""


def initialise_buffers(model: nn.Module, names: Collection[str], device: torch.device = CPU) -> dict[str, str]:
    """Give these buffers of a model, which are on the meta device, their real values there; says by which method.

    All other tensors stay as they are, and where they are. Raises `RebuildError`, naming them, if there are any that
    no module sets for certain; then nothing has changed.

    >>> class Positions(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.register_buffer("ids", torch.empty(3, dtype=torch.int64), persistent=False)
    ...         self.reset_parameters()
    ...     def reset_parameters(self):
    ...         self.ids.copy_(torch.arange(3))
    >>> with torch.device("meta"):
    ...     model = nn.Sequential(Positions())
    >>> initialise_buffers(model, ["0.ids"]), model[0].ids
    ({'0.ids': 'Positions.reset_parameters'}, tensor([0, 1, 2]))
    """
    search = _Search(model, set(names))
    for name in names:
        for path in _upwards(name):
            if name in search.found:
                break
            search.ask(path)
    left = [name for name in names if name not in search.found]
    if left:
        raise RebuildError(
            f"the model is on the meta device, and {counted(len(left), 'buffer')} of it are in no checkpoint: "
            "nothing there sets them for certain",
            found=listed([shown(name) for name in left]),
            hint="build the model on the CPU, or have a reset_parameters() without arguments set them",
        )
    _commit(model, {name: found.value.to(device) for name, found in search.found.items()})
    return {name: found.by for name, found in search.found.items()}


@dataclass(frozen=True, slots=True)
class _Found:
    value: torch.Tensor
    by: str


class _Search:
    """What has been found out about the buffers of a model; the model is only looked at."""

    def __init__(self, model: nn.Module, names: set[str]) -> None:
        self.found: dict[str, _Found] = {}
        self._modules = dict(model.named_modules(remove_duplicate=False))
        self._names = names
        self._asked: set[str] = set()

    def ask(self, path: str) -> None:
        """Have one module compute what it can, in whichever way it offers. Each is asked once."""
        if path in self._asked or path not in self._modules:
            return
        self._asked.add(path)
        module = self._modules[path]
        prefix = f"{path}." if path else ""
        for method in _METHODS:
            wanted = [name for name in self._names if name.startswith(prefix) and name not in self.found]
            if not wanted:
                return
            if not _can_be_called(getattr(module, method, None)):
                continue
            made = _computed(module, method, [name.removeprefix(prefix) for name in wanted])
            by = f"{type(module).__name__}.{method}"
            self.found |= {prefix + name: _Found(value, by) for name, value in made.items()}


def _upwards(name: str) -> Iterator[str]:
    """The module that owns a buffer, and those that it is inside."""
    while name:
        name = name.rpartition(".")[0]
        yield name


def _can_be_called(method: object) -> bool:
    """Whether there is such a method and it needs nothing."""
    if not inspect.ismethod(method):
        return False
    by_itself = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(method).parameters.values()
    return all(one.default is not inspect.Parameter.empty or one.kind in by_itself for one in parameters)


def _computed(module: nn.Module, method: str, names: list[str]) -> dict[str, torch.Tensor]:
    """What a method writes to buffers, where that can depend on nothing but the module's own settings."""
    made: dict[str, torch.Tensor] = {}
    nbytes = sum(parameter.nbytes for parameter in module.parameters())
    # A method may ask a parameter for its device; memory for all of them is only taken where it is little.
    for fill in (_nowhere, _filled) if nbytes <= UNDO else (_nowhere,):
        left = [name for name in names if name not in made]
        first = _after(module, method, left, 0, fill)
        for pattern in range(1, _PATTERNS):
            again = _after(module, method, list(first), pattern, fill) if first else {}
            first = {name: value for name, value in first.items() if name in again and _alike(value, again[name])}
        made |= first
    return made


_Fill = Callable[[torch.Tensor, int], torch.Tensor]


def _after(module: nn.Module, method: str, names: list[str], pattern: int, fill: _Fill) -> dict[str, torch.Tensor]:
    """The buffers of a copy of the module whose method has been called."""
    memo: dict[int, Any] = {}
    for parameter in module.parameters():
        if not nn.parameter.is_lazy(parameter):
            memo[id(parameter)] = nn.Parameter(fill(parameter, pattern), parameter.requires_grad)
    for buffer in module.buffers():
        memo[id(buffer)] = _filled(buffer, pattern)
    shapes = {name: (tensor.shape, tensor.dtype) for name, tensor in module.named_buffers(remove_duplicate=False)}
    state = torch.random.get_rng_state()
    try:
        with torch.no_grad(), torch.device("cpu"):
            twin = copy.deepcopy(module, memo)
            getattr(twin, method)()
    except Exception:  # noqa: BLE001 - somebody's code, which was not made for this; it is then no way
        return {}
    finally:
        if pattern < _PATTERNS - 1:  # all draw the same numbers
            torch.random.set_rng_state(state)
    after = dict(twin.named_buffers(remove_duplicate=False))
    return {
        name: after[name].detach().to(shapes[name][1])
        for name in names
        if name in after and after[name].shape == shapes[name][0] and after[name].device == CPU
    }


def _nowhere(tensor: torch.Tensor, pattern: int) -> torch.Tensor:
    return torch.empty_like(tensor, device="meta")


def _filled(tensor: torch.Tensor, pattern: int) -> torch.Tensor:
    """Real memory of the same kind, full of one number. A comparison with any other tells some of them apart."""
    kind = tensor.dtype
    if kind.is_floating_point or kind.is_complex:
        number: float = (math.nan, -math.inf, 0.0, math.inf)[pattern]
    else:
        number = pattern % 2 if kind is torch.bool else (torch.iinfo(kind).max, torch.iinfo(kind).min, 0, 1)[pattern]
    return torch.full_like(tensor, number, device=CPU, requires_grad=False)


def _alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether they are the same to the bit."""
    if one.layout is not torch.strided or one.is_quantized:
        return False
    flat = [tensor.contiguous().view(-1).view(torch.uint8) for tensor in (one, other) if tensor.numel()]
    return not flat or torch.equal(*flat)


def _commit(model: nn.Module, values: Mapping[str, torch.Tensor]) -> None:
    """Put them in place of those on the meta device, wherever a module has them, also as plain attributes."""
    before = dict(model.named_buffers(remove_duplicate=False))
    new = {id(before[name]): value for name, value in values.items()}
    for module in model.modules():
        for table in (module._buffers, module.__dict__):
            for leaf, tensor in tuple(table.items()):
                if isinstance(tensor, torch.Tensor) and id(tensor) in new:
                    table[leaf] = new[id(tensor)]
