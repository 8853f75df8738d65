"""The verbs, in one place: the table of contents of the library.

Each is a few lines over the floor that does the work. Importing this file loads no torch; calling a verb that needs a
model does.
"""

from __future__ import annotations

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.formats.opening import open_checkpoint
from rehydrate.limits import Limits
from rehydrate.storage.source import Where

__all__ = ["open"]


def open(where: Where | Checkpoint, *, limits: Limits | None = None) -> Checkpoint:  # noqa: A001 - the verb of the library
    """Open a checkpoint without running any of it.

    `where` is a path, bytes, or a seekable binary file; the format is told by content. Only the index is read; tensors
    are read when asked for. Raises `MissingFileError`, `NotACheckpointError` (saying what it is instead),
    `TruncatedError`, `CorruptError`, `AmbiguousError` or `LimitError`.

    >>> import pickle, rehydrate as rh
    >>> rh.open(pickle.dumps({"da": 111, 2: [23, 1, 4]})).tree
    {'da': 111, 2: [23, 1, 4]}
    """
    return open_checkpoint(where, limits=limits)


def load(where, *, device=None, map_location=None):
    from rehydrate.placing.values import load as load_values

    return load_values(where, device=device, map_location=map_location)
