"""rh.save: one verb, the format by suffix, the file complete or untouched."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rehydrate.checkpoint.tree import Path
from rehydrate.collector import collector_paused
from rehydrate.errors import SaveError
from rehydrate.formats.torch_zip import write_torch_zip
from rehydrate.pickles.emit import emit_pickle
from rehydrate.storage.atomic import Sink, replacing
from rehydrate.text import counted, listed, shown, size
from rehydrate.writing.strangers import refuse

__all__ = ["Saved", "save"]

_BY_SUFFIX: Mapping[str, str] = {
    **dict.fromkeys((".pth", ".pt", ".bin", ".ckpt", ".tar"), "torch-zip"),
    **dict.fromkeys((".pickle", ".pkl"), "pickle"),
}


@dataclass(frozen=True, slots=True)
class Saved:
    """A file that is on the disk, complete."""

    path: str
    format: str
    nbytes: int
    tensors: int
    seconds: float
    missing: tuple[str, ...] = ()
    """Tensors that `rehydrate.salvage` could not save, because they were not whole."""
    told: tuple[str, ...] = ()
    """What else was left out or changed on the way: sentences."""

    def __str__(self) -> str:
        tensors = counted(self.tensors, "tensor")
        if self.missing:
            tensors = f"{self.tensors:,} of {counted(self.tensors + len(self.missing), 'tensor')}"
        lines = [f"{shown(self.path)}: {tensors}, {size(self.nbytes)}, {self.format}"]
        if self.missing:
            lines.append(f"  not whole: {listed([shown(name) for name in self.missing])}")
        return "\n".join([*lines, *(f"  {sentence}" for sentence in self.told)])


def save(
    obj: object,
    where: str | os.PathLike[str],
    *,
    format: str | None = None,  # noqa: A002 - the word that everybody uses
    durable: bool = True,
) -> Saved:
    """Save `obj`; see `rehydrate.save`."""
    started = time.perf_counter()
    path = os.fspath(where)
    chosen = _format(path) if format is None else format
    if chosen not in _WRITERS:
        raise SaveError(f"there is no format {shown(chosen)!r} to save in", found=", ".join(_WRITERS))
    # Everything is taken apart before the file is begun: what cannot be saved leaves no trace.
    with collector_paused():
        write, tensors = _WRITERS[chosen](obj, path)
    with replacing(path, durable=durable) as sink:
        write(sink)
        nbytes = sink.position
    return Saved(path, chosen, nbytes, tensors, time.perf_counter() - started)


def _format(path: str) -> str:
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in _BY_SUFFIX:
        raise SaveError(
            f"the suffix {shown(suffix)!r} says nothing about the format" if suffix else "the name has no suffix",
            where=shown(path),
            found=", ".join(_BY_SUFFIX),
            hint='give one of these suffixes, or format="torch-zip"',
        )
    return _BY_SUFFIX[suffix]


def _torch_zip(obj: object, path: str) -> tuple[Callable[[Sink], None], int]:
    from rehydrate.writing.gather import gather  # torch: only for files that are torch's

    parts = gather(_state(obj))
    stem = os.path.basename(path).split(".")[0]
    name = stem if stem.isascii() and stem.isprintable() and stem else "archive"
    return lambda sink: write_torch_zip(sink, name, parts.pickle, parts.storages), parts.tensors


def _pickle(obj: object, path: str) -> tuple[Callable[[Sink], None], int]:
    def convert(value: object, inside: Path) -> object:
        raise refuse(value, inside)

    data = emit_pickle(obj, for_torch=False, convert=convert)
    return lambda sink: sink.write(data), 0


def _state(obj: object) -> object:
    """A module is saved as its state dict; everything else as it is."""
    from torch import nn

    return obj.state_dict() if isinstance(obj, nn.Module) else obj


_Write = Callable[[object, str], tuple[Callable[[Sink], None], int]]
_WRITERS: Mapping[str, _Write] = {"torch-zip": _torch_zip, "pickle": _pickle}
