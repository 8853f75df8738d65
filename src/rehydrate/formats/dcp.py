"""torch.distributed.checkpoint: a folder that many ranks wrote together.

    .metadata      a pickle of `Metadata`: which tensors there are, which boxes of them were stored, and where
                     state_dict_metadata   name → TensorStorageMetadata(properties, size, chunks), or
                                           BytesStorageMetadata for what is no tensor
                     storage_data          MetadataIndex(fqn, offset) → _StorageInfo(relative_path, offset, length)
                     planner_data          name → path in the nested state dict; not there when it was flat
    *.distcp       what each rank stored, one after the other: every box of a tensor, and every object that is none, is
                   a whole file of `torch.save`

A tensor that is cut into boxes becomes one tensor again, wherever they lie; `boxes` proves that they are the whole.
`.metadata` is read by our machine: the classes in it are records (see `dcp_index`), and torch's own unsafe load is not
needed. A tensor's file is opened when its bytes are wanted; objects are opened at once, for they are part of the tree.
Source: `torch/distributed/checkpoint/{metadata,filesystem,default_planner}.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.record import brief
from rehydrate.checkpoint.tensor import Piece, Storage, TensorRef
from rehydrate.checkpoint.trace import Checksum
from rehydrate.errors import CorruptError, TruncatedError
from rehydrate.formats.beside import files_beside
from rehydrate.formats.boxes import Box, pieces_of_boxes
from rehydrate.formats.contract import Format, Head, Request
from rehydrate.formats.dcp_index import BoxedTensor, Item, Key, described_things, fields_of, stored_things
from rehydrate.formats.facts import facts_of, told_by, trace_of
from rehydrate.formats.pickle_inside import check_nothing_after
from rehydrate.formats.unflattened import unflattened
from rehydrate.pickles.known import read_known_pickle
from rehydrate.pickles.torch_names import DCP_CLASSES
from rehydrate.storage.source import Source
from rehydrate.storage.views import PartSource, SourceSet
from rehydrate.text import dimensions, shown

__all__ = ["DCP"]

_MODULE = b"torch.distributed.checkpoint.metadata"
_CLASSES = frozenset(f"{module}.{name}" for module, name in DCP_CLASSES)
"""The classes of `.metadata`: this format's own words, which hold data and do nothing."""


def _sniff(head: Head) -> bool:
    return head.first.startswith(b"\x80") and _MODULE in head.first[:64]


def _read(source: Source, request: Request) -> Checkpoint:
    reading = read_known_pickle(source.read(0, source.size), limits=request.limits)
    check_nothing_after(reading, source.size, shown(source.name))
    index = fields_of(reading.value, "Metadata")
    stored = stored_things(index.get("storage_data"))
    described = described_things(index.get("state_dict_metadata"), stored)
    paths = index.get("planner_data")
    with ExitStack() as closing:
        names = sorted({item.file for item in stored.values()})
        files = _Files(files_beside(names, source, request, closing), stored, request)
        objects = {name: files.open(item, name) for name, item in described.items() if isinstance(item, Item)}
        tree = unflattened(
            (
                (name, files.reference(what) if isinstance(what, BoxedTensor) else objects[name].tree)
                for name, what in described.items()
            ),
            paths if isinstance(paths, dict) else {},
        )
        closing.pop_all()
    within = [
        replace(trace, where=f"{name}/{trace.where}") for name, inner in objects.items() for trace in inner.traces
    ]
    return Checkpoint(
        SourceSet([source, *files.sources.values()], source.name),
        format="dcp",
        tree=tree,
        attributes={key: value for inner in objects.values() for key, value in inner.attributes.items()},
        facts=_facts(index, facts_of(reading), [inner.facts for inner in objects.values()]) | {"files": tuple(names)},
        kept=(reading.kept, tuple(objects.values())),
        traces=(trace_of(reading, ".metadata"), *within),
        checksums=files.checksums,
    )


def _facts(
    index: Mapping[str, object], own: Mapping[str, object], inner: Iterable[Mapping[str, object]]
) -> dict[str, object]:
    """What the index says of itself, and what it and the objects would have had an unpickler import and call."""
    facts: dict[str, object] = {"protocol": own.get("protocol")}
    version = index.get("version")
    if type(version) is str:
        facts["version"] = version
    every = [own, *inner]
    for key in ("imports", "calls"):
        facts[key] = tuple(name for name in told_by(every, key) if name not in _CLASSES)
    return facts


class _Stored(PartSource):
    """One stored thing as a file of its own. Others lie in the same file, which closing it must not close."""

    def outside(self, piece: Piece) -> Piece:
        """The same bytes in the file itself, so that neighbours can be read together."""
        return piece._replace(source=self.within, start=self.begin + piece.start)

    def close(self) -> None:
        """Leave the file to whoever opened it."""


class _Files:
    """The files of one checkpoint, and what is stored in them. Nothing that was opened there is kept: there is much."""

    def __init__(self, sources: dict[str, Source], stored: Mapping[Key, Item], request: Request) -> None:
        self.sources = sources
        self._stored = stored
        self._request = request
        self._begins: dict[str, int] = {}
        begin = 0
        for name, source in sources.items():
            self._begins[name] = begin
            begin += source.size
        for (name, _), item in stored.items():
            if item.offset + item.length > sources[item.file].size and not request.is_cut:
                raise TruncatedError(
                    "a file of this checkpoint is cut",
                    where=shown(sources[item.file].name),
                    found=f"{sources[item.file].size:,} bytes; {shown(name)!r} ends at {item.offset + item.length:,}",
                    hint="download it again",
                )

    def open(self, item: Item, name: str) -> Checkpoint:
        """Open one stored thing, which is a checkpoint of its own."""
        part = _Stored(self.sources[item.file], item.offset, item.length, f"{item.file}, {name}")
        return self._request.inside(part)

    def reference(self, tensor: BoxedTensor) -> TensorRef:
        """A reference to a whole tensor, whose parts are opened when bytes are wanted."""
        window = tensor.window
        nbytes = window.reach
        order = min((self._begins[item.file] + item.offset for _, item in tensor.boxes), default=0)
        storage = Storage(tensor.name, window.dtype, nbytes, "cpu", self._pieces, tensor, order)
        return TensorRef("", window, storage)

    def checksums(self) -> Iterator[Checksum]:
        """What the writer says about the bytes of everything that is stored."""
        for (name, _), item in self._stored.items():
            inner = self.open(item, name)
            for checksum in inner.checksums() if inner.checksums else ():
                yield replace(checksum, name=f"{name}/{checksum.name}")

    def _pieces(self, tensor: BoxedTensor) -> tuple[Piece, ...]:
        missing = next((item for _, item in tensor.boxes if not self._is_there(item)), None)
        if missing is not None:  # only where the caller said that files may end early
            source = self.sources[missing.file]
            return (Piece(source, source.size, tensor.window.reach),)
        parts = [(box, self._part(tensor, box, item)) for box, item in tensor.boxes if 0 not in box.sizes]
        pieces = pieces_of_boxes(tensor.window.shape, parts, shown(tensor.name))
        return tuple(piece.source.outside(piece) if isinstance(piece.source, _Stored) else piece for piece in pieces)

    def _is_there(self, item: Item) -> bool:
        return item.offset + item.length <= self.sources[item.file].size

    def _part(self, tensor: BoxedTensor, box: Box, item: Item) -> TensorRef:
        """The tensor that one box was stored as."""
        tree = self.open(item, tensor.name).tree
        if not isinstance(tree, TensorRef) or tree.shape != box.sizes or tree.dtype is not tensor.window.dtype:
            raise CorruptError(
                "a stored part of a tensor is something else than the index says",
                where=f"{shown(item.file)}, byte {item.offset:,}, tensor {shown(tensor.name)!r}",
                found=f"{brief(tree)}; the index says {tensor.window.dtype} {dimensions(box.sizes)}",
            )
        return tree


DCP = Format("dcp", _sniff, _read)
"""The format's row in `opening.FORMATS`."""
