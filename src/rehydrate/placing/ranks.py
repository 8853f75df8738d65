"""Ranks: which process of a node this is, and so which of its accelerators is its own.

Nothing here waits for another process. Each reads the file for itself, so that one whose file is bad fails alone and
at once, and a load needs no process group; the system reads a file from the disk once and serves the others from
memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import torch

from rehydrate.errors import DeviceError

__all__ = ["index_here", "ranks_told"]


def index_here(kind: str, count: int) -> int | None:
    """The index of this process's own accelerator of the `count` that it sees; None where it has no rank.

    A device that the process has chosen before (`torch.cuda.set_device`) is its own. Raises `DeviceError` where there
    are fewer devices than processes.

    >>> index_here("cuda", 8) is None
    True
    """
    local = _local_rank(count)
    if local is None or count < 1 or kind == "mps":
        return None
    chosen = _chosen_before(kind)
    if chosen:
        return chosen
    if count == 1:  # the launcher shows each process one device only
        return 0
    if local >= count:
        raise DeviceError(
            f"process {local} of this node has no {kind} device of its own",
            found=f"it sees {count}",
            hint=f"start {count} processes a node (torchrun --nproc-per-node={count}), or name the device",
        )
    return local


def ranks_told() -> Iterator[str]:
    """What to know where several processes load the same file."""
    here, everywhere = _number("LOCAL_WORLD_SIZE"), _world()
    count, place = (here, " of this node") if here is not None else (everywhere, "")
    if count > 1:
        yield (
            f"each of the {count} processes{place} reads the file for itself; where they share a machine, all but the "
            "first find it in memory"
        )


def _local_rank(count: int) -> int | None:
    """Which process of its node this is: as its launcher says, or else by its rank where there is a group."""
    local = _number("LOCAL_RANK")
    if local is not None:
        return local
    return torch.distributed.get_rank() % max(count, 1) if _world() > 1 else None


def _world() -> int:
    """Processes of the group that this one has joined; 1 where it has joined none."""
    distributed = torch.distributed
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def _chosen_before(kind: str) -> int | None:
    """The index of the device that this process works on, once it has begun to work on one."""
    module = getattr(torch, kind, None)
    is_initialized = getattr(module, "is_initialized", None)
    if module is None or is_initialized is None or not is_initialized():
        return None
    return int(module.current_device())


def _number(name: str) -> int | None:
    """A whole number that the environment has; None where it has none or nonsense."""
    text = os.environ.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else None
