"""rehydrate brings frozen models back to life.

It opens any PyTorch checkpoint without running a byte of it, shows what is in it, puts it into your model on your
device, and saves your own so that it still opens years from now.

    import rehydrate as rh

    with rh.open("model.pth") as checkpoint:        # lazy and inert: a mapping of names to tensors
        print(checkpoint, checkpoint.weights())
    model = rh.load_model("model.pth", MyNet)       # built, filled, in eval() mode
    rh.save(model, "mine.pth")                      # complete, or the old file

Names are looked up when they are first used: importing this loads neither torch nor numpy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rehydrate.api import (
        audit,
        freeze,
        load,
        load_into,
        load_model,
        match,
        open,
        param_groups,
        salvage,
        save,
        to_device,
        verify,
        warm_start,
    )
    from rehydrate.checking.audit import Audit
    from rehydrate.checking.verify import Verification
    from rehydrate.checkpoint.checkpoint import Checkpoint
    from rehydrate.checkpoint.record import Record
    from rehydrate.checkpoint.tensor import TensorRef
    from rehydrate.checkpoint.weights import Weights
    from rehydrate.errors import (
        AmbiguousError,
        ClosedError,
        CorruptError,
        DeviceError,
        LimitError,
        MismatchError,
        MissingExtraError,
        MissingFileError,
        NoSuchTensorError,
        NotACheckpointError,
        RebuildError,
        RehydrateError,
        SaveError,
        SeveralError,
        TornLoadError,
        TruncatedError,
    )
    from rehydrate.limits import Limits
    from rehydrate.matching.allow import Allow
    from rehydrate.matching.match import Match
    from rehydrate.writing.save import Saved

__version__ = "0.1.0"

__all__ = [
    "Allow",
    "AmbiguousError",
    "Audit",
    "Checkpoint",
    "ClosedError",
    "CorruptError",
    "DeviceError",
    "LimitError",
    "Limits",
    "Match",
    "MismatchError",
    "MissingExtraError",
    "MissingFileError",
    "NoSuchTensorError",
    "NotACheckpointError",
    "RebuildError",
    "Record",
    "RehydrateError",
    "SaveError",
    "Saved",
    "SeveralError",
    "TensorRef",
    "TornLoadError",
    "TruncatedError",
    "Verification",
    "Weights",
    "audit",
    "freeze",
    "load",
    "load_into",
    "load_model",
    "match",
    "open",
    "param_groups",
    "salvage",
    "save",
    "to_device",
    "verify",
    "warm_start",
]

_HOMES = {
    "rehydrate.api": (
        "audit",
        "freeze",
        "load",
        "load_into",
        "load_model",
        "match",
        "open",
        "param_groups",
        "salvage",
        "save",
        "to_device",
        "verify",
        "warm_start",
    ),
    "rehydrate.checking.audit": ("Audit",),
    "rehydrate.checking.verify": ("Verification",),
    "rehydrate.checkpoint.checkpoint": ("Checkpoint",),
    "rehydrate.checkpoint.record": ("Record",),
    "rehydrate.checkpoint.tensor": ("TensorRef",),
    "rehydrate.checkpoint.weights": ("Weights",),
    "rehydrate.limits": ("Limits",),
    "rehydrate.matching.allow": ("Allow",),
    "rehydrate.matching.match": ("Match",),
    "rehydrate.writing.save": ("Saved",),
    "rehydrate.errors": tuple(name for name in __all__ if name.endswith("Error")),
}
_ROOMS = ("rules", "zoo")
"""Modules that are reached from here, too."""
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name in _ROOMS:
        return import_module(f"rehydrate.{name}")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'rehydrate' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__", *_ROOMS]
