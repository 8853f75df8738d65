"""Jobs done: every value read first, then copied, then nothing or everything is there."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.placing.devices import CPU
from rehydrate.placing.plan import Job
from rehydrate.placing.tensors import Storages
from rehydrate.placing.undo import copy_values

__all__ = ["fill"]


@torch.no_grad()
def fill(jobs: Sequence[Job]) -> None:
    """Fill every tensor, or none."""
    refs = [job.source for job in jobs if isinstance(job.source, TensorRef)]
    storages = Storages([ref.storage for ref in refs], lambda saved: CPU)
    values = storages.tensors(refs)
    before = [(job.tensor, job.tensor.detach().clone()) for job in jobs if not job.is_fresh]
    try:
        for job, value in zip(jobs, values, strict=True):
            copy_values(job.tensor, value)
    except BaseException:
        for tensor, value in before:
            copy_values(tensor, value)
        raise
