"""Everything we know a name for, in one table, and the pickle reader that uses it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rehydrate.limits import Limits
from rehydrate.pickles import python_names, torch_names
from rehydrate.pickles.machine import Constructor, Name
from rehydrate.pickles.reading import Reading, read_pickle
from rehydrate.pickles.tensor_runs import TENSOR_RUNS

__all__ = ["HARMLESS", "KNOWN", "read_known_pickle", "strangers"]

KNOWN: Mapping[Name, Constructor] = {**python_names.CONSTRUCTORS, **torch_names.CONSTRUCTORS}
"""(module, name) → what its call gives."""

HARMLESS: frozenset[Name] = frozenset(
    {
        *KNOWN,
        *torch_names.CONSTANTS,
        ("torch", "Size"),
        ("torch", "device"),
        ("torch", "Tensor"),
        ("torch.nn.parameter", "Parameter"),
        ("torch.serialization", "_get_layout"),
        ("torch._utils", "_rebuild_sparse_tensor"),
        ("torch._utils", "_rebuild_device_tensor_from_numpy"),
        ("torch._utils", "_rebuild_device_tensor_from_cpu_tensor"),
        ("torch._utils", "_rebuild_nested_tensor"),
        ("torch._utils", "_rebuild_wrapper_subclass"),
        *(("torch", scheme) for scheme in (
            "per_tensor_affine", "per_tensor_symmetric", "per_channel_affine", "per_channel_symmetric",
            "per_channel_affine_float_qparams",
        )),
    }
)  # fmt: skip
"""Names that torch itself allows without trust: functions that only put data together."""


def read_known_pickle(
    data: bytes,
    *,
    persistent: Callable[[object], object] | None = None,
    limits: Limits,
    fast: bool = True,
) -> Reading:
    """Read one pickle with everything known; `fast` takes torch's runs in one step."""
    return read_pickle(
        data,
        constructors=KNOWN,
        constants=torch_names.CONSTANTS,
        persistent=persistent,
        shortcut=TENSOR_RUNS if fast else None,
        limits=limits,
    )


def strangers(reading: Reading) -> list[Name]:
    """Names that an unsafe load would have imported and that are not plain data, in the file's order."""
    return [name for name in reading.names if name not in HARMLESS and not _is_storage(name)]


def _is_storage(name: Name) -> bool:
    return name[0] in ("torch", "torch.cuda", "torch.storage") and name[1].endswith("Storage")
