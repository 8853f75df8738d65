"""Staging: buffers that bytes are read into, and the copies from there to where they belong.

On the CPU a copy is done when it returns, and one buffer is used again and again. On an accelerator with streams the
buffers are pinned and there are three: while one is being read into, the others are on their way, on a stream of their
own, and a buffer is used again only when the device has said that it is done with it. Nothing here reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from rehydrate.placing.moving.pages import empty_tensor
from rehydrate.placing.moving.undo import copy_values

__all__ = ["CpuLane", "CudaLane", "Lane", "Mark", "Ring", "lane_to"]

_PINNED = 3
"""Buffers on an accelerator: one that is read into, one on its way, and one so that neither waits for the other."""


class Mark(Protocol):
    """A point in the work of a device."""

    def synchronize(self) -> None:
        """Wait until the device has come to it."""


class Lane(Protocol):
    """The way to one device."""

    buffers: int
    """How many buffers keep it busy."""

    def memory(self, nbytes: int) -> torch.Tensor:
        """A buffer on the CPU: uint8."""

    def copy(self, target: torch.Tensor, value: torch.Tensor) -> None:
        """Begin to copy; what is in `value` must stay until a mark that is set afterwards has been reached."""

    def mark(self) -> Mark:
        """Where the device is when everything that was begun so far is done."""


@dataclass(slots=True)
class _Slot:
    buffer: torch.Tensor | None = None
    mark: Mark | None = None


class Ring:
    """The buffers of one lane, in turns."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._slots = [_Slot() for _ in range(lane.buffers)]
        self._turn = -1

    def buffer(self, nbytes: int) -> torch.Tensor:
        """At least so many bytes, which nobody needs any more."""
        self._turn = (self._turn + 1) % len(self._slots)
        slot = self._slots[self._turn]
        if slot.mark is not None:
            slot.mark.synchronize()
            slot.mark = None
        if slot.buffer is None or slot.buffer.numel() < nbytes:
            slot.buffer = None  # first gone, then made anew
            slot.buffer = self._lane.memory(nbytes)
        return slot.buffer

    def copy(self, target: torch.Tensor, value: torch.Tensor) -> None:
        """Begin to copy something that lies in the buffer that was handed out last, or was made of it."""
        self._lane.copy(target, value)

    def sent(self) -> None:
        """Nothing more will be copied from the buffer that was handed out last."""
        self._slots[self._turn].mark = self._lane.mark()

    def finish(self) -> None:
        """Wait until every copy is done."""
        for slot in self._slots:
            if slot.mark is not None:
                slot.mark.synchronize()
                slot.mark = None
        self._lane.mark().synchronize()


class CpuLane:
    """Copies that are done when they return: on the CPU, and to devices without streams."""

    buffers = 1

    def memory(self, nbytes: int) -> torch.Tensor:
        """Memory of our own."""
        return empty_tensor((nbytes,), torch.uint8)

    def copy(self, target: torch.Tensor, value: torch.Tensor) -> None:
        """Copy, casting to the target's dtype."""
        copy_values(target, value)

    def mark(self) -> Mark:
        """A point that has been reached."""
        return _Reached()


class _Reached:
    def synchronize(self) -> None:
        """There is nothing to wait for."""


class CudaLane:
    """Copies from pinned memory on a stream beside the one that the caller computes on."""

    buffers = _PINNED

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._stream.wait_stream(torch.cuda.current_stream(device))  # whatever still uses the tensors comes first

    def memory(self, nbytes: int) -> torch.Tensor:
        """Pinned memory; under the device that it is for, or torch would wake the first one."""
        with torch.cuda.device(self._device):
            return torch.empty(nbytes, dtype=torch.uint8, device="cpu", pin_memory=True)

    def copy(self, target: torch.Tensor, value: torch.Tensor) -> None:
        """Copy what is narrow over the bus and cast it there."""
        with torch.cuda.stream(self._stream):
            if value.dtype != target.dtype or not value.is_contiguous():
                value = value.to(self._device, non_blocking=True)
            if target.is_inference():
                with torch.inference_mode():
                    target.copy_(value, non_blocking=True)
            else:
                target.copy_(value, non_blocking=True)

    def mark(self) -> Mark:
        """An event on the stream."""
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(self._stream)
        return event


def lane_to(device: torch.device) -> Lane:
    """The way to a device."""
    return CudaLane(device) if device.type == "cuda" else CpuLane()
