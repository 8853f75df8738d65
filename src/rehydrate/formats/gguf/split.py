"""GGUF in several files, as `llama-gguf-split` and llama.cpp's converters write large models.

    NAME-00001-of-00003.gguf, NAME-00002-of-00003.gguf, ...     each a GGUF file with whole tensors of its own
    split.no, split.count           u16, in each: which file this is, from 0, and how many there are
    split.tensors.count             i32: tensors in all of them together

The first one has the metadata of the model. Source: `llama.cpp/src/llama-model-loader.cpp`. No tensor is cut; a file of
several is a checkpoint by itself, and a folder that has all of them and no other is the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.errors import AmbiguousError, CorruptError
from rehydrate.formats.beside import files_beside
from rehydrate.formats.contract import Request
from rehydrate.storage.source import Source
from rehydrate.storage.views import SourceSet
from rehydrate.text import shown

__all__ = ["read_split", "split_of"]


def split_of(checkpoint: Checkpoint) -> tuple[int, int] | None:
    """Which file of how many this is; None for a model in one file."""
    metadata = checkpoint.facts.get("metadata")
    if checkpoint.format != "gguf" or not isinstance(metadata, dict):
        return None
    number, count = metadata.get("split.no"), metadata.get("split.count")
    return (number, count) if type(number) is int and type(count) is int and 0 <= number < count > 1 else None


def read_split(folder: Source, files: Sequence[str], request: Request) -> Checkpoint:
    """All of them as one checkpoint, which is named and closed as `folder` is; `files` are in their order."""
    tree: dict[str, TensorRef] = {}
    with ExitStack() as closing:
        sources = files_beside(files, folder, request, closing)
        parts = [request.inside(source) for source in sources.values()]
        for file, part in zip(files, parts, strict=True):
            for name, ref in part.items():
                if name in tree:
                    raise AmbiguousError("two files hold the same tensor", where=shown(file), found=shown(name))
                tree[name] = ref
        closing.pop_all()
    metadata = parts[0].facts.get("metadata")
    promised = metadata.get("split.tensors.count") if isinstance(metadata, dict) else None
    if promised is not None and promised != len(tree):
        raise CorruptError(
            "the files do not hold as many tensors as the first one says",
            where=shown(folder.name),
            found=f"{len(tree):,} for {promised!r}",
        )
    facts = {key: value for key, value in parts[0].facts.items() if key != "shards"}
    return Checkpoint(
        SourceSet(sources.values(), folder.name),
        format="gguf",
        tree=tree,
        attributes={},
        facts=facts | {"files": tuple(files)},
    )
