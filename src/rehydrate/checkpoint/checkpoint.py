"""Checkpoint: an opened file, as a mapping from names to tensors that have not been read yet.

It holds what a format handed up: the whole object as an inert tree, facts about the file, and the source it came
from. It reads no bytes itself and builds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from types import TracebackType

from rehydrate.checkpoint.record import brief
from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.checkpoint.trace import Checksum, Trace
from rehydrate.checkpoint.tree import Path, names_of, spelled, tensors_under
from rehydrate.checkpoint.weights import Weights, find_weights
from rehydrate.errors import NoSuchTensorError
from rehydrate.storage.source import Source
from rehydrate.text import counted, nearest, shown, size

__all__ = ["Checkpoint"]


class Checkpoint(Mapping[str, TensorRef]):
    """Every tensor of a file by name, and the whole object around them.

    Made by `rehydrate.open`. Use it as a context manager, or call `close`; tensors already read stay valid. A name that
    is not there is a `NoSuchTensorError`, which is a `KeyError`; look-up also takes the path as a tuple of keys.

    >>> import rehydrate as rh, io, torch
    >>> buffer = io.BytesIO(); torch.save({"net": {"fc.weight": torch.zeros(2, 3)}, "epoch": 3}, buffer)
    >>> checkpoint = rh.open(buffer)
    >>> checkpoint.format, checkpoint.tree["epoch"], dict(checkpoint)
    ('torch-zip', 3, {'net.fc.weight': <net.fc.weight float32 [2, 3]>})
    >>> checkpoint["net", "fc.weight"].numpy().shape, list(checkpoint.weights())
    ((2, 3), ['fc.weight'])
    """

    def __init__(
        self,
        source: Source,
        *,
        format: str,  # noqa: A002 - the public name of what it is
        tree: object,
        attributes: Mapping[int, object],
        facts: Mapping[str, object],
        kept: tuple[object, ...] = (),
        traces: tuple[Trace, ...] = (),
        checksums: Callable[[], Iterable[Checksum]] | None = None,
        model: Callable[[], object] | None = None,
    ) -> None:
        self.source = source
        self._kept = kept
        self.format = format
        """What kind of file it is: `torch-zip`, `safetensors`; with something around it `gzip+torch-zip`."""
        self.tree = tree
        """The whole object: plain data, `Record`s for what we did not build, `TensorRef`s."""
        self.attributes = attributes
        """State that the file gave to plain containers, by `id`: torch puts `_metadata` on a state dict so."""
        self.facts = facts
        """What the file says of itself: where it was saved, by which writer, what it names."""
        self.traces = traces
        """What each pickle in the file would have had an unpickler do."""
        self.checksums = checksums
        """The checksums that the writer left, one by one; None for a format that has none."""
        self._model = model
        # Where the format itself says what the model is: gives a tree of nothing else, or None.

    @cached_property
    def _paths(self) -> dict[str, Path]:
        return names_of(self._refs)

    @cached_property
    def _refs(self) -> dict[Path, TensorRef]:
        return dict(tensors_under(self.tree))

    def __getitem__(self, name: str | Path) -> TensorRef:
        if isinstance(name, tuple) and name in self._refs:
            return self._refs[name].named(spelled(name))
        if isinstance(name, str) and name in self._paths:
            return self._refs[self._paths[name]].named(name)
        near = nearest(str(name), self._paths)
        raise NoSuchTensorError(
            f"no tensor is called {shown(name)!r}",
            where=shown(self.source.name),
            found=counted(len(self), "tensor"),
            hint=f"did you mean {shown(near)!r}?" if near else "",
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def weights(self, which: str | None = None) -> Weights:
        """The model's own tensors, by the names of its `state_dict()`; the `Weights` say what was taken off.

        `which` names a part of the tree where there are several models: trained and averaged weights, teacher and
        student. Raises `AmbiguousError` that lists them where it is None, and `NoSuchTensorError` where there is none.
        """
        model = self._model() if self._model is not None and which is None else None
        return find_weights(self.tree if model is None else model, self.attributes, which)

    def close(self) -> None:
        """Give the file back."""
        self.source.close()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __str__(self) -> str:
        storages = {id(ref.storage): ref.storage.nbytes for ref in self._refs.values()}
        numbers = f"{counted(len(self), 'tensor')} in {size(sum(storages.values()))}"
        return f"{shown(self.source.name)}: {self.format}, {numbers}\n{brief(self.tree)}"

    def __repr__(self) -> str:
        return f"<Checkpoint {shown(self.source.name)} {self.format}>"
