"""Devices: torch's own spelling plus "auto", and where a storage goes that was saved somewhere.

Where a file was saved never decides whether it opens. A device that this machine lacks is an error only when somebody
asks for it by name, and the error lists those that there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from rehydrate.errors import DeviceError
from rehydrate.placing.ranks import index_here
from rehydrate.text import shown

__all__ = ["CPU", "Device", "MapLocation", "available", "destination", "resolve"]

Device = str | int | torch.device
MapLocation = Device | Mapping[str, str] | Callable[[torch.UntypedStorage, str], object]
"""torch's: a device, saved location → device, or a function of a storage (on the CPU) and its saved location."""

CPU = torch.device("cpu")


def resolve(device: Device) -> torch.device:
    """The device that was meant: `"cuda:1"`, `torch.device`, an accelerator's index, or `"auto"`.

    Where several processes share a node (torchrun), an accelerator without an index is the process's own.
    Raises `DeviceError` for a spelling that torch does not know and for a device that is not there.

    >>> resolve("cpu")
    device(type='cpu')
    """
    if device == "auto":
        return _own(_accelerator() or CPU)
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise DeviceError(f"{shown(device)} is not a device", hint=f"one of {', '.join(available())}") from error
    if not _is_there(wanted):
        raise DeviceError(
            f"this machine has no device {shown(str(wanted))}",
            found=", ".join(available()),
            hint='device="auto" takes the accelerator if there is one and the CPU if not',
        )
    return _own(wanted)


def _own(device: torch.device) -> torch.device:
    """The device of this process where a kind was meant and a node has several processes."""
    is_a_kind = device != CPU and ":" not in str(device)
    index = index_here(device.type, _count(device.type)) if is_a_kind else None
    return device if index is None else torch.device(device.type, index)


def available() -> list[str]:
    """The devices of this machine, the CPU first."""
    names = ["cpu"]
    accelerator = _accelerator()
    if accelerator is not None:
        names += [f"{accelerator.type}:{index}" for index in range(_count(accelerator.type))]
    return [*names, "meta"]


def destination(map_location: MapLocation) -> Callable[[str], torch.device]:
    """Saved location → device, for every kind of `map_location` but a function.

    A dictionary leaves what it does not name on the CPU.
    """
    if isinstance(map_location, Mapping):
        table = {str(saved): goal for saved, goal in map_location.items()}
        return lambda saved: resolve(table[saved]) if saved in table else CPU
    goal = resolve(map_location)  # type: ignore[arg-type]
    return lambda saved: goal


def _accelerator() -> torch.device | None:
    for kind in ("cuda", "xpu", "mps"):
        if _count(kind):
            return torch.device(kind)
    return None


def _count(kind: str) -> int:
    """How many devices of a kind there are."""
    if kind == "mps":
        return int(torch.backends.mps.is_available())
    module = getattr(torch, kind, None)
    is_available = getattr(module, "is_available", None)
    if module is None or is_available is None or not is_available():
        return 0
    return int(module.device_count()) if hasattr(module, "device_count") else 1


def _is_there(device: torch.device) -> bool:
    if device.type in ("cpu", "meta"):
        return True
    return (device.index or 0) < _count(device.type)
