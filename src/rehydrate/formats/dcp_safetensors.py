"""safetensors that many ranks wrote together: each file holds the boxes of one rank, and says where they belong.

    shard-*-model-*.safetensors   a safetensors file, whose `__metadata__` has
        "DCP_SHARDING_INFO"       JSON: name → {"saved_offsets": [where this part begins, along each dimension]}

There is no index: a tensor is as large as its parts reach, and `boxes` proves that they leave no hole. Opened alone,
such a file is the safetensors file that it is. Source: `torch/distributed/checkpoint/hf_storage.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.record import brief
from rehydrate.checkpoint.tensor import Piece, Storage, TensorRef, row_major
from rehydrate.errors import CorruptError
from rehydrate.formats.beside import files_beside
from rehydrate.formats.boxes import Box, check_cover, pieces_of_boxes
from rehydrate.formats.contract import Request
from rehydrate.formats.json_header import parse_json
from rehydrate.limits import Limits
from rehydrate.pickles.torch_names import window_of
from rehydrate.storage.source import Source
from rehydrate.storage.views import SourceSet
from rehydrate.text import shown

__all__ = ["is_part", "read_parts"]

_INFO = "DCP_SHARDING_INFO"

Parts = dict[Box, TensorRef]


def is_part(checkpoint: Checkpoint) -> bool:
    """Whether a file is one of several that many ranks wrote."""
    metadata = checkpoint.facts.get("metadata")
    return checkpoint.format == "safetensors" and isinstance(metadata, dict) and _INFO in metadata


def read_parts(folder: Source, files: Sequence[str], request: Request) -> Checkpoint:
    """All of them as one checkpoint, which is named and closed as `folder` is."""
    tensors: dict[str, Parts] = {}
    with ExitStack() as closing:
        sources = files_beside(files, folder, request, closing)
        for file, source in sources.items():
            _add_parts(tensors, request.inside(source), file, request.limits)
        tree = {name: _whole(name, parts) for name, parts in tensors.items()}
        closing.pop_all()
    return Checkpoint(
        SourceSet(sources.values(), folder.name),
        format="dcp",
        tree=tree,
        attributes={},
        facts={"byteorder": "little", "files": tuple(files)},
    )


def _add_parts(tensors: dict[str, Parts], part: Checkpoint, file: str, limits: Limits) -> None:
    """Note what one file holds of each tensor."""
    offsets = _offsets(part, shown(file), limits)
    for name in part:
        ref, said = part[name], offsets.get(name)
        begins = said.get("saved_offsets") if isinstance(said, dict) else None
        if not isinstance(begins, list) or len(begins) != len(ref.shape):
            raise CorruptError(
                "a part of a tensor does not say where it belongs",
                where=f"{shown(file)}, tensor {shown(name)!r}",
                found=brief(said),
            )
        box = Box(window_of(ref.dtype, begins, begins, 0).shape, ref.shape)
        tensors.setdefault(name, {}).setdefault(box, ref)  # ranks may hold the same part


def _offsets(part: Checkpoint, where: str, limits: Limits) -> Mapping[str, object]:
    metadata = part.facts.get("metadata")
    text = metadata.get(_INFO) if isinstance(metadata, dict) else None
    said = parse_json(text.encode(), limits, f"{_INFO} of {where}") if isinstance(text, str) else None
    if not isinstance(said, dict):
        raise CorruptError("a file does not say where its parts of tensors belong", where=where, found=brief(said))
    return said


def _whole(name: str, parts: Parts) -> TensorRef:
    """One tensor of all its parts."""
    where = f"tensor {shown(name)!r}"
    refs = list(parts.values())
    dtype, dimensions = refs[0].dtype, len(refs[0].shape)
    if any(ref.dtype is not dtype or len(ref.shape) != dimensions for ref in refs):
        raise CorruptError("the parts of a tensor are not alike", where=where, found=brief(refs))
    size = tuple(max(box.offsets[axis] + box.sizes[axis] for box in parts) for axis in range(dimensions))
    window = window_of(dtype, size, row_major(size), 0)
    check_cover(size, parts, where)

    def pieces(entry: Parts) -> tuple[Piece, ...]:
        return pieces_of_boxes(size, entry.items(), shown(name))

    return TensorRef("", window, Storage(name, dtype, window.reach, "cpu", pieces, parts))
