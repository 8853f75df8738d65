"""rh.salvage: every complete tensor of a cut or damaged file, into a file that is whole.

What is left keeps its place in the tree: a state dict keeps its names, an optimizer its groups. A tensor that is not
all there, or whose bytes do not match their checksum, is left out of its dictionary, and None in a list. What torch's
safe reader would not take is left out as well, a pickled module becomes its state dict; the `Saved` says so. Bytes are
read once to compare checksums, and once to be written; nothing is written before all that is to be has been read.
"""

from __future__ import annotations

import os
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from rehydrate.checking.verify import damaged_parts
from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.record import Record
from rehydrate.checkpoint.tensor import Storage, TensorRef
from rehydrate.checkpoint.tree import names_of, tensors_under
from rehydrate.dtypes import DType
from rehydrate.errors import RehydrateError, SaveError, TruncatedError
from rehydrate.formats.opening import open_checkpoint
from rehydrate.storage.source import Where
from rehydrate.text import counted, listed, shown
from rehydrate.writing.save import Saved, save

__all__ = ["salvage"]

_LISTED = 10
_DEEPEST = 200
"""Containers in each other that are kept; a state dict has three."""
_LONGEST_NUMBER = 255 * 8 - 1
"""Bits of an integer that torch's safe reader takes."""
_COMPOSITES = frozenset(
    {
        "torch.Size", "torch.device", "torch.serialization._get_layout", "torch._utils._rebuild_nested_tensor",
        "torch._utils._rebuild_qtensor", "torch._utils._rebuild_sparse_tensor", "torch.per_tensor_affine",
        "torch.per_channel_affine", "torch.per_channel_affine_float_qparams",
    }
)  # fmt: skip
"""Records of what torch puts together from tensors and data, and what can be written as that again."""
_ATOMS = (type(None), bool, float, complex, str, bytes, bytearray, DType)


RealValues = Callable[[object, Mapping[int, object]], object]
"""A tree of references and the attributes of its values → the same with real tensors: `placing.values.real_values`."""


def salvage(where: Where | Checkpoint, to: str | os.PathLike[str], real_values: RealValues) -> Saved:
    """Save what is whole; see `rehydrate.salvage`."""
    if isinstance(where, Checkpoint):
        return _salvaged(where, to, real_values)
    if isinstance(where, (str, os.PathLike)) and os.path.exists(to) and os.path.samefile(where, to):
        raise SaveError(
            "what is salvaged would replace the file that it comes from",
            where=shown(where),
            hint="give the new file another name",
        )
    try:
        checkpoint = open_checkpoint(where)
    except TruncatedError:
        checkpoint = open_checkpoint(where, is_cut=True)
    with checkpoint:
        return _salvaged(checkpoint, to, real_values)


def _salvaged(checkpoint: Checkpoint, to: str | os.PathLike[str], real_values: RealValues) -> Saved:
    refs = dict(checkpoint.items())
    damaged = {name for damage in damaged_parts(checkpoint)[0] for name in damage.tensors}
    missing = tuple(name for name, ref in refs.items() if name in damaged or not _is_there(ref))
    if not refs or len(missing) == len(refs):
        raise TruncatedError(
            "there is no complete tensor in this file; nothing was written",
            where=shown(checkpoint.source.name),
            found=f"{counted(len(refs), 'tensor')}: " + listed([shown(name) for name in missing], _LISTED)
            if refs
            else "no tensors",
            hint="download it again",
        )
    kept = _Kept(checkpoint, [refs[name].storage for name in damaged])
    tree = kept.copy(checkpoint.tree)
    saved = save(real_values(tree, kept.attributes), to)
    return replace(saved, tensors=len(refs) - len(missing) - kept.bare, missing=missing, told=tuple(kept.told()))


def _is_there(ref: TensorRef) -> bool:
    try:
        return ref.storage.location == "meta" or ref.is_whole
    except RehydrateError:
        return False


class _Kept:
    """A copy of a tree with what is whole and can be saved."""

    def __init__(self, checkpoint: Checkpoint, damaged: list[Storage]) -> None:
        self.attributes: dict[int, object] = {}
        """State of the copies that have any, by their `id`."""
        self.bare = 0
        """Tensors that are whole and not kept all the same."""
        self._given = checkpoint.attributes
        self._damaged = {id(storage) for storage in damaged}
        self._copies: dict[int, object] = {}
        self._shortened: dict[int, Storage] = {}
        self._dropped: Counter[str] = Counter()
        self._changed: Counter[str] = Counter()
        self._alive: list[object] = []

    def told(self) -> Iterator[str]:
        """What was left out beside tensors, and what became something else: sentences."""
        for kind, number in self._changed.most_common(_LISTED):
            yield f"{counted(number, 'value')} of {kind} kept as plain dictionaries"
        for kind, number in self._dropped.most_common(_LISTED):
            yield f"left out: {counted(number, 'value')} of {kind}"

    def copy(self, value: object, depth: int = 0) -> object:
        """A copy of a value; `_LOST` for one that is not kept."""
        if isinstance(value, TensorRef):
            return self._alone(value)
        if isinstance(value, _ATOMS) or (isinstance(value, int) and value.bit_length() <= _LONGEST_NUMBER):
            return value
        if id(value) in self._copies:
            return self._copies[id(value)]
        if depth > _DEEPEST:
            return self._drop("what is nested too deeply")
        self._alive.append(value)
        made = self._container(value, depth)
        self._copies[id(value)] = made
        return made

    def _alone(self, ref: TensorRef) -> object:
        """A tensor that stands for itself; a quantised one means nothing without the scales that lie in its record."""
        if ref.dtype.kind != "quantized":
            return self._tensor(ref)
        self.bare += 1
        return self._drop("quantised numbers without their scales")

    def _tensor(self, ref: TensorRef) -> object:
        if id(ref.storage) in self._damaged or not _is_there(ref):
            return _LOST
        storage = self._whole(ref.storage)
        if storage is ref.storage and "array" not in ref.traits:
            return ref
        window = replace(ref.window, traits=ref.traits - {"array"})
        return self._copies.setdefault(id(ref), TensorRef(ref.name, window, storage))

    def _whole(self, storage: Storage) -> Storage:
        """The storage; where it is cut, as much of it as there is: its first tensors may still be whole."""
        if id(storage) in self._shortened:
            return self._shortened[id(storage)]
        held = storage.nbytes if storage.location == "meta" else storage.held
        if held < storage.nbytes:
            held -= held % max(storage.dtype.itemsize, 16)
            pieces = tuple(
                piece._replace(length=min(piece.length, held - piece.at))
                for piece in storage.locate()
                if piece.at < held
            )
            self._shortened[id(storage)] = Storage(
                storage.key, storage.dtype, held, storage.location, lambda pieces: pieces, pieces, storage.order
            )
        else:
            self._shortened[id(storage)] = storage
        return self._shortened[id(storage)]

    def _container(self, value: object, depth: int) -> object:
        if isinstance(value, Mapping):
            return self._mapping(value, depth)
        if isinstance(value, (list, deque)):
            made: list[object] = []
            self._copies[id(value)] = made
            made.extend(self._items(value, depth))
            return made
        if isinstance(value, tuple):
            return tuple(self._items(value, depth))
        if isinstance(value, (set, frozenset)):
            return {item for item in value if _is_key(item)}
        if isinstance(value, Record):
            return self._record(value, depth)
        if hasattr(value, "__dict__") and vars(value):
            return self._mapping(vars(value), depth)
        return self._drop(type(value).__name__)

    def _items(self, values: Any, depth: int) -> Iterator[object]:
        for item in values:
            copied = self.copy(item, depth + 1)
            yield None if copied is _LOST else copied

    def _mapping(self, value: Mapping[Any, object], depth: int) -> object:
        made: dict[object, object] = OrderedDict() if isinstance(value, OrderedDict) else {}
        self._copies[id(value)] = made
        for key, item in value.items():
            if not _is_key(key):
                self._drop("keys that are no plain data")
                continue
            copied = self.copy(item, depth + 1)
            if copied is not _LOST:
                made[key] = copied
        state = self._given.get(id(value))
        if isinstance(made, OrderedDict) and isinstance(state, dict):
            self.attributes[id(made)] = self.copy(state, depth + 1)
        return made

    def _record(self, record: Record, depth: int) -> object:
        """What torch puts together stays, if all of it is whole; of anything else, its tensors by name."""
        inside = dict(tensors_under(record))
        if record.path in _COMPOSITES:
            is_whole = all(self._tensor(ref) is not _LOST and self._whole(ref.storage) is ref.storage for ref in
                           inside.values())  # fmt: skip
            return record if is_whole else _LOST
        if not inside:
            return self._drop(shown(record.path))
        self._changed[shown(record.path)] += 1
        kept = ((name, self._alone(inside[path])) for name, path in names_of(inside).items())
        return OrderedDict((name, ref) for name, ref in kept if ref is not _LOST)

    def _drop(self, what: str) -> object:
        self._dropped[what] += 1
        return _LOST


_LOST = object()


def _is_key(value: object) -> bool:
    if isinstance(value, tuple):
        return len(value) < _DEEPEST and all(isinstance(item, (str, int, float, bool, type(None))) for item in value)
    return isinstance(value, (str, float, bool, type(None), bytes)) or (
        isinstance(value, int) and value.bit_length() <= _LONGEST_NUMBER
    )
