"""Constructors that nobody would write: any sequence of making, filling, reading and copying, watched or not."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from rehydrate.placing.fresh.fresh import build_fresh
from tests.effort import tried

Step = tuple[str, int, int]
"""What is done, to which tensor, and with which other."""


class Made(nn.Module):
    """Runs a program. Every second tensor of its becomes a parameter; the others are kept as they are."""

    def __init__(self, program: Sequence[Step]) -> None:
        super().__init__()
        self.pool: list[torch.Tensor] = [torch.empty(4, 5).normal_()]
        self.notes: list[Any] = []
        for what, one, other in program:
            a, b = self.pool[one % len(self.pool)], self.pool[other % len(self.pool)]
            with torch.no_grad():
                made = STEPS[what](self, a, b)
            if isinstance(made, torch.Tensor):
                self.pool.append(made.detach() if type(made) is torch.Tensor else made)
        for at, tensor in enumerate(self.pool):
            if at % 2 and tensor.dtype.is_floating_point:
                self.register_parameter(f"p{at}", tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor))
                self.pool[at] = torch.zeros(0)


def drop(made: Made, a: torch.Tensor, b: torch.Tensor) -> None:
    if len(made.pool) > 1:
        made.pool = [tensor for tensor in made.pool if tensor is not a] or [torch.empty(2).zero_()]


def forked(made: Made, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(len(made.pool))
        b.normal_()
        return torch.randn(3)


def put_into_another(made: Made, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor | None:
    if not b.is_contiguous():
        return None
    return b.view(-1)[:1].copy_(a.reshape(-1)[:1].clone())  # a clone: torch copies no memory onto itself


def noted(function: Callable[[torch.Tensor], object]) -> Callable[[Made, torch.Tensor, torch.Tensor], None]:
    return lambda made, a, b: made.notes.append(function(a))


STEPS: dict[str, Callable[[Made, torch.Tensor, torch.Tensor], object]] = {
    "empty": lambda made, a, b: torch.empty(3, 4).fill_(1.5),
    "a layer": lambda made, a, b: nn.Linear(3, 4).weight,
    "zeros": lambda made, a, b: torch.zeros(6),
    "ones": lambda made, a, b: torch.ones(2, 3),
    "rand": lambda made, a, b: torch.rand(17),
    "randn": lambda made, a, b: torch.randn(5, 5),
    "rand_like": lambda made, a, b: torch.rand_like(a),
    "randperm": lambda made, a, b: torch.randperm(5).float(),
    "empty like, filled": lambda made, a, b: torch.empty_like(a).uniform_(),
    "uniform_": lambda made, a, b: a.uniform_(-1, 2),
    "normal_": lambda made, a, b: a.normal_(0.5, 2),
    "trunc_normal_": lambda made, a, b: nn.init.trunc_normal_(a, std=0.5),
    "kaiming": lambda made, a, b: nn.init.kaiming_uniform_(a) if a.dim() > 1 else None,
    "orthogonal_": lambda made, a, b: nn.init.orthogonal_(a) if a.dim() == 2 and a.dtype is torch.float32 else None,
    "fill_": lambda made, a, b: a.fill_(3),
    "zero_": lambda made, a, b: a.zero_(),
    "a row": lambda made, a, b: a[0] if a.dim() and len(a) else None,
    "a row is filled": lambda made, a, b: a[:1].normal_() if a.dim() else None,
    "a row is set": lambda made, a, b: a.__setitem__(0, 2.0) if a.dim() and len(a) else None,
    "flat": lambda made, a, b: a.reshape(-1),
    "transposed": lambda made, a, b: a.t() if a.dim() == 2 else None,
    "scaled": lambda made, a, b: a.mul_(0.5).add_(1).clamp_(-2, 2),
    "scaled by another": lambda made, a, b: a.mul_(b.float().mean()),
    "a copy": lambda made, a, b: a.clone(),
    "a copy in half": lambda made, a, b: a.half(),
    "a copy in double": lambda made, a, b: a.double(),
    "a deep copy": lambda made, a, b: copy.deepcopy(a),
    "a parameter of it": lambda made, a, b: nn.Parameter(a.detach()),
    "put into another": put_into_another,
    "sum": noted(lambda a: a.double().sum().item()),
    "list": noted(lambda a: a.tolist()),
    "numpy": noted(lambda a: a.detach().float().numpy().copy()),
    "a number": noted(lambda a: float(a.reshape(-1)[0])),
    "text": noted(repr),
    "dropped": drop,
    "seeded": lambda made, a, b: torch.manual_seed(5) and None,
    "forked": forked,
}
PROGRAMS = st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 9), st.integers(0, 9)), max_size=14)


def state_of(made: Any) -> tuple[Any, ...]:
    held = [*made.pool, *made.parameters()]
    values = [(tensor.shape, tensor.dtype, tensor.detach().contiguous().view(-1).tolist()) for tensor in held]
    return repr(values), repr(made.notes)


@tried(300)
@given(PROGRAMS)
def test_a_watched_program_computes_what_it_computes(program: list[Step]) -> None:
    torch.manual_seed(1)
    theirs = Made(program)
    torch.manual_seed(1)
    mine = build_fresh(lambda: Made(program))
    mine.fill_all()
    assert state_of(mine.made) == state_of(theirs)


@tried(150)
@given(PROGRAMS, st.integers(0, 9))
def test_what_is_filled_in_the_end_is_filled_as_it_would_have_been(program: list[Step], which: int) -> None:
    torch.manual_seed(1)
    theirs = Made(program)
    torch.manual_seed(1)
    fresh = build_fresh(lambda: Made(program))
    mine: Any = fresh.made
    parameters = list(zip(mine.parameters(), theirs.parameters(), strict=True))
    chosen = parameters[which % len(parameters)] if parameters else (torch.zeros(0), torch.zeros(0))
    fresh.fill([chosen[0]])
    assert repr(chosen[0].tolist()) == repr(chosen[1].tolist())
    kept = [(one, other) for one, other in zip(mine.pool, theirs.pool, strict=True) if not fresh.unfilled]
    assert all(repr(one.tolist()) == repr(other.tolist()) for one, other in kept)
    assert repr(mine.notes) == repr(theirs.notes)


@tried(150)
@given(PROGRAMS)
def test_after_all_of_it_was_drawn_the_next_numbers_are_the_same(program: list[Step]) -> None:
    torch.manual_seed(1)
    Made(program)
    theirs = torch.rand(3)
    torch.manual_seed(1)
    build_fresh(lambda: Made(program)).fill_all()
    assert torch.equal(torch.rand(3), theirs)
