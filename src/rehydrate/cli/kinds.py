"""A format in the words of people, and facts in the types of JSON. Prints nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.record import brief
from rehydrate.text import shown

__all__ = ["as_json", "what"]

_WORDS: Mapping[str, str] = {
    "torch-zip": "a torch zip file",
    "torch-legacy": "a torch file of before 1.6 (legacy stream)",
    "torch-tar": "a torch file of before 0.1.10 (tar)",
    "torchscript": "a TorchScript program with its weights",
    "torch-export": "a program exported by torch.export, with its weights",
    "dcp": "a checkpoint of torch.distributed.checkpoint",
    "safetensors": "a safetensors file",
    "safetensors-index": "safetensors files with an index",
    "torch-index": "torch files with an index",
    "npy": "a numpy array",
    "npz": "a numpy archive",
    "gguf": "a GGUF file",
    "hdf5": "an HDF5 file",
    "torch7": "a file of Torch7 for Lua",
    "pickle": "a plain pickle",
    "joblib": "a joblib file",
    "stable-baselines": "an agent in its parts",
    "stable-baselines3": "an agent in its parts",
    "skops": "a model in its parts",
    "torch-package": "a torch package",
}
_AROUND: Mapping[str, str] = {"zip": "a zip archive with", "tar": "a tar archive with"}
_DEEPEST = 6
_LONGEST = 200
"""Levels and entries of a fact that are given to programs; a vocabulary has a hundred thousand words."""


def what(checkpoint: Checkpoint) -> str:
    """What a file is, in half a line.

    >>> import rehydrate as rh, gzip, pickle
    >>> what(rh.open(gzip.compress(pickle.dumps({"epoch": 3}, 4))))
    'gzip around a plain pickle, protocol 4'
    """
    facts = checkpoint.facts
    *around, inner = checkpoint.format.split("+")
    words = _WORDS.get(inner, f"a {inner} file")
    for outer in reversed(around):
        words = f"{_AROUND.get(outer, f'{outer} around')} {words}"
    if facts.get("byteorder") == "big":
        words += " of big-endian numbers"
    if isinstance(facts.get("writer"), str):
        return f"{words} by {shown(str(facts['writer']), 60)}"
    return f"{words}, protocol {facts['protocol']}" if isinstance(facts.get("protocol"), int) else words


def as_json(value: object, depth: int = _DEEPEST) -> object:
    """A fact as JSON can say it; what it cannot say, and what is too long, in words.

    >>> as_json({"shape": (1, 2), "rate": float("nan"), "raw": b"abc"})
    {'shape': [1, 2], 'rate': 'nan', 'raw': "b'abc'"}
    """
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return value if value.bit_length() <= 64 else brief(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth and isinstance(value, (list, tuple)) and len(value) <= _LONGEST:
        return [as_json(item, depth - 1) for item in value]
    if depth and isinstance(value, Mapping) and len(value) <= _LONGEST:
        return {key if isinstance(key, str) else brief(key): as_json(item, depth - 1) for key, item in value.items()}
    return brief(value)
