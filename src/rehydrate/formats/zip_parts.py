r"""Zip archives whose members are parts of one thing: agents of Stable-Baselines, models of skops.

    Stable-Baselines3      data                     JSON, as Python writes it: with NaN and Infinity; what is no plain
                                                    value is {":type:", ":serialized:": ...}, the
                                                    base64 of a cloudpickle: shown as it stands, and never built
                           policy.pth               a state dict by torch.save: the model
                           policy.optimizer.pth, actor.optimizer.pth, ...     optimizers
                           pytorch_variables.pth    other tensors
                           _stable_baselines3_version, system_info.txt
    Stable-Baselines       data, parameter_list     JSON; parameters: an npz
    skops                  schema.json              what the object consists of; *.npy, *.npz, *.bin: its arrays, and
                                                    nothing else

The tree has each part under its name without the suffix. The pickles inside `data` are read as data like any other, so
that what they would do is known. Sources: `stable_baselines3/common/save_util.py`, `skops/io/_persist.py`.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.trace import Trace
from rehydrate.errors import CorruptError, RehydrateError
from rehydrate.formats.contract import Request
from rehydrate.formats.facts import facts_of, told_by, trace_of
from rehydrate.formats.inside import Parts
from rehydrate.formats.json_header import parse_json
from rehydrate.formats.pickle_inside import check_nothing_after
from rehydrate.formats.zip_directory import Member, ZipDirectory
from rehydrate.formats.zip_kind import ZipKind
from rehydrate.pickles.known import read_known_pickle
from rehydrate.pickles.reading import Reading
from rehydrate.text import shown

__all__ = ["ZIP_PARTS"]

_SERIALIZED = ":serialized:"
_SMALL = 1 << 16
"""Bytes of a member that holds a version."""


@dataclass(frozen=True, slots=True)
class _Whole:
    """One kind of thing that is saved in parts."""

    name: str
    signs: tuple[str, ...]
    """Members that all of its kind have."""
    documents: tuple[str, ...]
    """Members that are JSON."""
    parts: tuple[str, ...]
    """What the names of members end with that are checkpoints of their own."""
    model: str = ""
    """The part that is the model, where one is."""
    version: str = ""
    """The member that says which version wrote it."""
    also: str = ""
    """What the other members end with; anything, if empty."""


_WHOLES = (
    _Whole("stable-baselines3", ("data", "policy.pth"), ("data",), (".pth",), "policy", "_stable_baselines3_version"),
    _Whole("stable-baselines", ("data", "parameters"), ("data", "parameter_list"), ("parameters",), "parameters"),
    _Whole("skops", ("schema.json",), ("schema.json",), (".npy", ".npz"), also=".bin"),
)


def _is_one(directory: ZipDirectory, whole: _Whole) -> bool:
    names = directory.members.keys()
    if not names >= set(whole.signs):
        return False
    return not whole.also or all(name.endswith((*whole.documents, *whole.parts, whole.also)) for name in names)


def _kind(directory: ZipDirectory) -> _Whole | None:
    """What these parts are parts of."""
    return next((whole for whole in _WHOLES if _is_one(directory, whole)), None)


def _knows(directory: ZipDirectory) -> bool:
    return _kind(directory) is not None


def _read(directory: ZipDirectory, request: Request) -> Checkpoint:
    whole = _kind(directory) or _WHOLES[0]
    parts = Parts(directory, request)
    tree: dict[str, object] = {}
    readings: dict[str, Reading] = {}
    for name, member in directory.members.items():
        if name in whole.documents:
            document = tree[_called(name, tree)] = _document(directory, member)
            readings.update((f"{name}/{key}", reading) for key, reading in _pickles(document, name, request))
        elif name.endswith(whole.parts) and member.size:
            tree[_called(name, tree)] = parts.open(member).tree
    model = tree.get(whole.model)
    return Checkpoint(
        directory.source,
        format=whole.name,
        tree=tree,
        attributes=parts.attributes,
        facts={**_facts(parts, readings), **_version(directory, whole)},
        kept=(*parts.kept, *readings.values()),
        traces=(*parts.traces, *_traces(readings)),
        checksums=directory.checksums,
        model=None if model is None else lambda: {whole.model: model},
    )


def _called(name: str, taken: Mapping[str, object]) -> str:
    """What a part is called in the tree: its name without the suffix, if that is free."""
    stem = name.rpartition(".")[0] or name
    return name if stem in taken else stem


def _document(directory: ZipDirectory, member: Member) -> object:
    limits = directory.limits
    return parse_json(directory.read(member, limits.header_bytes), limits, shown(member.name), as_python=True)


def _pickles(document: object, name: str, request: Request) -> Iterator[tuple[str, Reading]]:
    """The pickles in a document, read as data."""
    for key, value in document.items() if isinstance(document, dict) else ():
        coded = value.get(_SERIALIZED) if isinstance(value, dict) else None
        if coded is None:
            continue
        where = shown(f"{name}, {key}")
        try:
            data = binascii.a2b_base64(coded if isinstance(coded, str) else b"?", strict_mode=True)
        except (binascii.Error, ValueError) as error:
            raise CorruptError("what should be a pickle in base64 is none", where=where) from error
        try:
            reading = read_known_pickle(data, limits=request.limits)
        except RehydrateError as error:
            error.where = where + (f", {error.where}" if error.where else "")
            raise
        check_nothing_after(reading, len(data), where)
        yield key, reading


def _traces(readings: Mapping[str, Reading]) -> Iterator[Trace]:
    return (trace_of(reading, where) for where, reading in readings.items())


def _facts(parts: Parts, readings: Mapping[str, Reading]) -> dict[str, object]:
    every = [*(part.facts for part in parts.opened.values()), *(facts_of(reading) for reading in readings.values())]
    return {fact: told_by(every, fact) for fact in ("saved_on", "imports", "calls")}


def _version(directory: ZipDirectory, whole: _Whole) -> dict[str, object]:
    member = directory.members.get(whole.version)
    if member is None:
        return {"writer": whole.name}
    version = directory.read(member, _SMALL).decode("utf-8", "replace").strip()
    return {"writer": f"{whole.name} {shown(version, 40)}", "version": shown(version, 40)}


ZIP_PARTS = ZipKind("zip of parts", _knows, _read)
"""The format's row in `zipped.KINDS`."""
