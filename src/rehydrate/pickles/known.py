"""Everything we know a name for, in one table, and the pickle reader that uses it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rehydrate.dtypes import BY_STORAGE
from rehydrate.errors import RehydrateError
from rehydrate.limits import Limits
from rehydrate.pickles import late_names, numpy_names, omegaconf_names, python_names, script_names, torch_names
from rehydrate.pickles.copied_names import as_if_called
from rehydrate.pickles.reading import Reading, read_as_far_as_possible, read_pickle
from rehydrate.pickles.results import Constructor, Name
from rehydrate.pickles.tensor_runs import TENSOR_RUNS

__all__ = ["HARMLESS", "KNOWN", "is_harmless", "read_known_pickle", "read_what_is_known", "strangers"]

_PLAIN: Mapping[Name, Constructor] = {
    **python_names.CONSTRUCTORS,
    **late_names.CONSTRUCTORS,
    **numpy_names.CONSTRUCTORS,
    **torch_names.CONSTRUCTORS,
    **script_names.CONSTRUCTORS,
}
_FOREIGN: Mapping[Name, Constructor] = {**omegaconf_names.CONSTRUCTORS, **torch_names.FOREIGN}
"""Of packages that an unsafe load would import, and whose code it would run."""

KNOWN: Mapping[Name, Constructor] = as_if_called({**_PLAIN, **_FOREIGN})
"""(module, name) → what its call gives."""

CONSTANTS: Mapping[Name, object] = {**python_names.CONSTANTS, **torch_names.CONSTANTS}
"""(module, name) → what the name itself is."""

HARMLESS: frozenset[Name] = frozenset(
    {
        *(name for name in KNOWN if name not in _FOREIGN),
        *python_names.TYPES,
        *CONSTANTS,
        ("numpy", "ndarray"),
        *torch_names.DCP_CLASSES,
        ("torch", "Size"),
        ("torch", "device"),
        ("torch", "Tensor"),
        *((module, f"{kind}Tensor") for module in ("torch", "torch.cuda") for kind in BY_STORAGE),
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
"""Names that only put data together: those that torch itself allows without trust, Python's own, and numpy's."""


def read_known_pickle(
    data: bytes,
    *,
    persistent: Callable[[object], object] | None = None,
    limits: Limits,
    fast: bool = True,
    at: int = 0,
    more: Mapping[Name, Constructor] | None = None,
) -> Reading:
    """Read the pickle at byte `at` with everything known; `fast` takes torch's runs in one step.

    `more` are names that only this container has a meaning for: tensors in bytes, arrays between opcodes.
    """
    return read_pickle(
        data,
        at,
        constructors=KNOWN if more is None else as_if_called({**_PLAIN, **_FOREIGN, **more}),
        constants=CONSTANTS,
        persistent=persistent,
        shortcut=TENSOR_RUNS if fast else None,
        limits=limits,
    )


def read_what_is_known(data: bytes, at: int, limits: Limits) -> tuple[Reading, RehydrateError | None]:
    """See `reading.read_as_far_as_possible`, with everything known."""
    return read_as_far_as_possible(data, at, constructors=KNOWN, constants=CONSTANTS, limits=limits)


def strangers(reading: Reading) -> list[Name]:
    """Names that an unsafe load would have imported and that are not plain data, in the file's order."""
    return [name for name in reading.names if not is_harmless(name)]


def is_harmless(name: Name) -> bool:
    """Whether importing and calling this gives plain data, whatever it is given."""
    return name in HARMLESS or _is_storage(name)


def _is_storage(name: Name) -> bool:
    return name[0] in ("torch", "torch.cuda", "torch.storage") and name[1].endswith("Storage")
