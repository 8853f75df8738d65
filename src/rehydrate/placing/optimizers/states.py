"""The states of an optimizer on their way from a file: what each tensor in them becomes, and what is filled where.

Floating state becomes what its parameter is, as torch has it; steps live where fused and capturable kernels want them,
and else on the CPU. A tensor that the optimizer has is filled where it is; others are made. Nothing is read or written
here, and no optimizer is changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.errors import RebuildError
from rehydrate.matching.match import Mismatch, Pair, Target
from rehydrate.placing.devices import CPU
from rehydrate.placing.dtypes import dtype_of, torch_dtype
from rehydrate.placing.moving.plan import Job
from rehydrate.placing.optimizers.layout import ALIKE, FACTORED, Assignment, SavedState
from rehydrate.placing.records import is_plain, real_or_refused
from rehydrate.placing.targets import check_kinds
from rehydrate.text import shown

__all__ = ["STEP", "Goal", "States"]

STEP = "step"
_DEEPEST = 16
"""Containers in each other in one parameter's state; torch's have two."""
_MOST = 10_000_000
"""Values in the states of all parameters; a list in a list in a list may hold more than a file has bytes."""


@dataclass(frozen=True, slots=True)
class Goal:
    """A parameter whose state is being prepared."""

    parameter: torch.Tensor
    name: str
    has_own_step: bool
    """Whether its step lies where the parameter does, as kernels that never ask the CPU want it."""


@dataclass(slots=True)
class States:
    """The states of an optimizer on their way: tensors that are filled later, all else as it is."""

    attributes: Mapping[int, object]
    assignment: Assignment
    jobs: list[Job] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    mismatched: list[Mismatch] = field(default_factory=list)
    made: dict[tuple[int, torch.dtype, torch.device], torch.Tensor] = field(default_factory=dict)
    """What has been made for a tensor of the file: what was one tensor stays one."""
    visited: int = 0
    used: set[tuple[int, object]] = field(default_factory=set)
    """Memory that is already being filled: two tensors of a file do not go to one place."""

    def check_factors(self, goal: Goal, saved: SavedState, key: object) -> None:
        """Whether rows and columns that stand for a matrix are those of this parameter."""
        own, state = tuple(goal.parameter.shape), saved.states[key]
        if saved.shape(key) in (None, own) or not ALIKE.isdisjoint(map(str, state)):
            return
        ref = next(state[rows] for rows, _ in FACTORED if rows in state)
        if isinstance(ref, TensorRef):
            target = Target(f"{goal.name} (in rows and columns)", own, str(ref.dtype), is_parameter=False)
            self.mismatched.append(Mismatch(target, ref))

    def state_of(self, goal: Goal, saved: Mapping[object, object], own: Mapping[object, Any]) -> dict[object, object]:
        """One parameter's state; `own` is what the optimizer has."""
        return {key: self._value(goal, (key,), value, own.get(key)) for key, value in saved.items()}

    def _value(self, goal: Goal, path: tuple[object, ...], value: object, own: object) -> object:
        name = f"{goal.name}.{'.'.join(map(str, path))}"
        self.visited += 1
        if len(path) > _DEEPEST or self.visited > _MOST:
            raise RebuildError(f"the state of {shown(goal.name)} has too much in it", where=shown(name))
        if isinstance(value, TensorRef) and "array" not in value.traits:
            return self._tensor(goal, path, value, own, name)
        if isinstance(value, dict):
            olds = own if isinstance(own, dict) else {}
            return {key: self._value(goal, (*path, key), item, olds.get(key)) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            old = list(own) if isinstance(own, (list, tuple)) and len(own) == len(value) else [None] * len(value)
            items: list[object] = [
                self._value(goal, (*path, at), item, each)
                for at, (item, each) in enumerate(zip(value, old, strict=True))
            ]
            return tuple(items) if type(value) is tuple else items
        return value if is_plain(value) else real_or_refused(value, self.attributes, name)

    def _tensor(self, goal: Goal, path: tuple[object, ...], ref: TensorRef, own: object, name: str) -> object:
        """A tensor to be filled: the optimizer's own where it has one that is right, else a new one."""
        if path == (STEP,) and type(own) in (int, float) and ref.numel == 1:  # this optimizer counts in numbers
            return int(ref.numpy().item()) if type(own) is int else float(ref.numpy().item())
        dtype, device = _wanted(goal, path[-1], ref)
        mine = own if isinstance(own, torch.Tensor) and _is_right(own, dtype, device, goal, path[-1]) else None
        shape = ref.shape
        if path[-1] in ALIKE:
            shape = tuple(goal.parameter.shape)
        elif mine is not None and len(path) == 1:  # lists of what was seen lately grow as they like
            shape = tuple(mine.shape)
        if mine is not None and tuple(mine.shape) != shape:
            mine = None
        target = Target(name, shape, str(dtype_of(dtype if mine is None else mine.dtype)), is_parameter=False)
        if ref.shape != shape:
            self.mismatched.append(Mismatch(target, ref))
            return None
        if ref.storage.location == "meta":
            raise RebuildError("this state was saved from the meta device, without data", where=shown(name))
        check_kinds(name, ref.dtype.name, target.dtype)
        self.pairs.append(Pair(target, ref, self.assignment.rule, self.assignment.sure))
        if mine is not None and self._is_unused(mine):
            self.jobs.append(Job(name, mine, ref))
            return mine
        seen = (id(ref), dtype, device)
        if seen not in self.made:
            made = _like(goal.parameter, shape, dtype, device)
            self.made[seen] = made
            # Not mapped: runs go on, and save their next state over the file of the last one.
            self.jobs.append(Job(name, made, ref, is_fresh=True, may_map=False))
        return self.made[seen]

    def _is_unused(self, tensor: torch.Tensor) -> bool:
        place = (tensor.untyped_storage().data_ptr(), tensor.storage_offset())
        is_new = not tensor.numel() or place not in self.used
        self.used.add(place)
        return is_new


def _is_right(own: torch.Tensor, dtype: torch.dtype, device: torch.device, goal: Goal, slot: object) -> bool:
    """Whether a tensor that the optimizer has can be filled where it is. Its dtype is the optimizer's business."""
    is_kept = slot != STEP or not goal.has_own_step or own.dtype == dtype
    return own.device == device and own.layout is torch.strided and is_kept


def _wanted(goal: Goal, slot: object, ref: TensorRef) -> tuple[torch.dtype, torch.device]:
    """What torch makes of a tensor of a parameter's state."""
    parameter = goal.parameter
    if slot == STEP:
        return (torch.float32, parameter.device) if goal.has_own_step else (torch_dtype(ref.dtype), CPU)
    is_cast = parameter.is_floating_point() and ref.dtype.kind == "float"
    return parameter.dtype if is_cast else torch_dtype(ref.dtype), parameter.device


def _like(parameter: torch.Tensor, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """An empty tensor; of a parameter's shape in its memory format, as optimizers make them."""
    if shape == tuple(parameter.shape):
        return torch.empty_like(parameter, dtype=dtype, device=device, requires_grad=False).detach()
    return torch.empty(shape, dtype=dtype, device=device)
