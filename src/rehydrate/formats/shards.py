"""Shards with an index: one state dict cut into several files, as the Hub has large models.

    model.safetensors.index.json, pytorch_model.bin.index.json, or any other name:
        {"metadata": {"total_size": bytes, ...}, "weight_map": {name: file, ...}}
    file                         a checkpoint in the folder of the index, each read as what it is

The map decides: its order is the order of the tensors, and each tensor comes from the file that it names, also where
another file has one of the same name. What lies in the files and not in the map is left out, and `facts["unlisted"]`
says so. A file outside the folder is never opened. `total_size` is what the writer says and is held against nothing: it
counts tied weights in one version and leaves them out in another. Source: `huggingface_hub/serialization/_base.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.record import brief
from rehydrate.checkpoint.trace import Checksum
from rehydrate.errors import CorruptError, LimitError
from rehydrate.formats.beside import files_beside
from rehydrate.formats.contract import Format, Head, Request
from rehydrate.formats.facts import told_by
from rehydrate.formats.json_header import parse_json
from rehydrate.storage.source import Source
from rehydrate.storage.views import SourceSet
from rehydrate.text import counted, nearest, shown, size

__all__ = ["SHARDS"]

_MAP = b'"weight_map"'


def _sniff(head: Head) -> bool:
    return re.match(rb'\s*\{\s*"', head.first) is not None and (_MAP in head.first or _MAP in head.last)


def _read(source: Source, request: Request) -> Checkpoint:
    where = shown(source.name)
    if source.size > request.limits.header_bytes:
        raise LimitError("the index of the shards is too long", where=where, found=size(source.size))
    index = parse_json(source.read(0, source.size), request.limits, where)
    places = _places(index, where)
    files = list(dict.fromkeys(places.values()))
    with ExitStack() as closing:
        shards = {
            file: closing.enter_context(request.inside(shard))
            for file, shard in files_beside(files, source, request, closing).items()
        }
        tree = {name: _tensor(shards[file], file, name) for name, file in places.items()}
        closing.pop_all()
    is_safetensors = all(shard.format == "safetensors" for shard in shards.values())
    unlisted = _unlisted(shards, places)
    return Checkpoint(
        SourceSet([source, *(shard.source for shard in shards.values())], source.name),
        format="safetensors-index" if is_safetensors else "torch-index",
        tree=tree,
        attributes={key: value for shard in shards.values() for key, value in shard.attributes.items()},
        facts={
            **_shared_facts([shard.facts for shard in shards.values()]),
            "shards": tuple(files),
            **_metadata(index),
            **({"unlisted": unlisted} if unlisted else {}),
        },
        kept=tuple(shards.values()),
        traces=tuple(
            replace(trace, where=_inside(file, trace.where)) for file, shard in shards.items() for trace in shard.traces
        ),
        checksums=None if is_safetensors else lambda: _checksums(shards),
    )


def _places(index: object, where: str) -> Mapping[str, str]:
    """Tensor → file, as the index says it."""
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not all(type(file) is str for file in places.values()):
        raise CorruptError(
            "the weight_map of an index does not say which tensor lies in which file", where=where, found=brief(places)
        )
    if not places:
        raise CorruptError("the weight_map of an index is empty", where=where)
    return places


def _metadata(index: object) -> dict[str, object]:
    """`total_size`, and whatever else the index says of the whole."""
    said = index.get("metadata") if isinstance(index, dict) else None
    if not isinstance(said, dict):
        return {}
    total = said.get("total_size")
    more = {key: value for key, value in said.items() if key != "total_size"}
    return {
        **({"total_size": int(total)} if isinstance(total, (int, float)) else {}),  # some writers divide
        **({"metadata": more} if more else {}),
    }


def _tensor(shard: Checkpoint, file: str, name: str) -> object:
    """What a shard holds under a name: a tensor, or what stands for a quantised one."""
    if isinstance(shard.tree, dict) and name in shard.tree:
        return shard.tree[name]
    if name in shard:
        return shard[name]
    near = nearest(name, shard)
    raise CorruptError(
        f"the index says that {shown(name)!r} lies in {shown(file)!r}, and it does not",
        where=shown(shard.source.name),
        found=counted(len(shard), "tensor") + (f", among them {shown(near)!r}" if near else ""),
        hint="index and shards are not of one checkpoint; download all of them again",
    )


def _unlisted(shards: Mapping[str, Checkpoint], places: Mapping[str, str]) -> tuple[str, ...]:
    """Tensors of the shards that the index does not place there."""
    return tuple(f"{file}: {name}" for file, shard in shards.items() for name in shard if places.get(name) != file)


def _shared_facts(every: list[Mapping[str, object]]) -> dict[str, object]:
    """What the shards say of themselves, where they agree; lists of them joined."""
    joined: dict[str, object] = {}
    for key in dict.fromkeys(key for facts in every for key in facts):
        values = [facts.get(key) for facts in every]
        if all(isinstance(value, tuple) for value in values):
            joined[key] = told_by(every, key)
        elif all(value == values[0] for value in values):
            joined[key] = values[0]
    return joined


def _checksums(shards: Mapping[str, Checkpoint]) -> Iterator[Checksum]:
    for file, shard in shards.items():
        found: Iterable[Checksum] = shard.checksums() if shard.checksums else ()
        for checksum in found:
            yield replace(checksum, name=_inside(file, checksum.name))


def _inside(file: str, member: str) -> str:
    return f"{file}/{member}" if member else file


SHARDS = Format("safetensors-index", _sniff, _read)
"""The row of both kinds of shards in `opening.FORMATS`."""
