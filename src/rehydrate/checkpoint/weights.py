"""Which part of a checkpoint is the model, and what was taken off its names.

People save a state dict bare, in a container beside an optimizer and a counter, through DataParallel, or as the whole
module. `find_weights` finds the part that is a model's own tensors by what it is (names leading to tensors), not by a
list of spellings, and says what it took off. It never chooses between two models: that is `AmbiguousError`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from rehydrate.checkpoint.record import Record
from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.checkpoint.tree import Path, children, is_module, names_of, spelled, tensors_under
from rehydrate.errors import AmbiguousError, NoSuchTensorError
from rehydrate.text import counted, listed, nearest, shown

__all__ = ["Weights", "find_weights"]

WRAPPERS: Mapping[str, str] = {"module.": "DataParallel"}
"""Prefixes that a wrapper puts before every name, and who does."""

DEEPEST = 6
"""Containers above the model's tensors. Real files have at most three."""


@dataclass(frozen=True, slots=True)
class Weights(Mapping[str, TensorRef]):
    """A model's own tensors by the names that its `state_dict()` would have.

    `removed` tells, in sentences, which container and which prefixes were taken off; `versions` is torch's
    `_metadata`: module prefix → the version of that module's layout.
    """

    tensors: Mapping[str, TensorRef]
    path: Path = ()
    removed: tuple[str, ...] = ()
    versions: Mapping[str, object] = field(default_factory=dict)

    def __getitem__(self, name: str) -> TensorRef:
        try:
            return self.tensors[name]
        except KeyError:
            near = nearest(name, self.tensors)
            hint = f"did you mean {shown(near)!r}?" if near else ""
            raise NoSuchTensorError(f"no weight is called {shown(name)!r}", hint=hint) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def __str__(self) -> str:
        numbers = sum(ref.numel for ref in self.tensors.values())
        head = f"{counted(len(self), 'tensor')}, {counted(numbers, 'number')}"
        return "\n".join([head, *(f"  {sentence}" for sentence in self.removed)])


def find_weights(tree: object, attributes: Mapping[int, object], which: str | None = None) -> Weights:
    """The model's own tensors in `tree`.

    `which` names a part of the tree when there are several models. Raises `AmbiguousError` listing the parts when it
    is None and there are, `NoSuchTensorError` when there is no such part or no tensor at all.
    """
    candidates = _candidates(tree)
    if which is None:
        if len(candidates) > 1:
            raise AmbiguousError(
                f"there are {len(candidates)} models in this file",
                found=listed([shown(spelled(path) or "(the root)") for path, _ in candidates]),
                hint=f"choose one: which={shown(spelled(candidates[0][0]))!r}",
            )
        if not candidates:
            raise NoSuchTensorError("this file holds no model's tensors")
        path, part = candidates[0]
    else:
        path, part = _chosen(tree, which, candidates)
    return _unwrapped(path, part, attributes)


def _candidates(tree: object) -> list[tuple[Path, object]]:
    """The topmost parts that are a model's tensors, in the file's order.

    First those that are mostly tensors; only where there are none, those that hold any.
    """
    return list(_models_in(tree, mostly=True)) or list(_models_in(tree, mostly=False))


def _models_in(tree: object, *, mostly: bool) -> Iterator[tuple[Path, object]]:
    level: list[tuple[Path, object]] = [((), tree)]
    seen: set[int] = set()
    for _ in range(DEEPEST):
        below: list[tuple[Path, object]] = []
        for path, part in level:
            if id(part) in seen:
                continue
            seen.add(id(part))
            if _is_model(part, mostly=mostly):
                yield path, part
            elif isinstance(part, (dict, list, tuple)) and not _is_optimizer(part):
                below.extend(((*path, key), child) for key, child in children(part))
        level = below


def _is_model(part: object, *, mostly: bool) -> bool:
    """A state dict (names that lead to tensors, and to nothing that is a model itself) or a pickled module."""
    if is_module(part):
        return next(tensors_under(part), None) is not None
    if not isinstance(part, dict) or not all(isinstance(key, str) for key in part):
        return False
    tensors = sum(isinstance(value, TensorRef) for value in part.values())
    if not tensors or (mostly and 2 * tensors < len(part)):
        return False
    return not any(_is_model_inside(value) for value in part.values() if not isinstance(value, TensorRef))


def _is_model_inside(value: object) -> bool:
    if isinstance(value, dict):
        return any(isinstance(inner, TensorRef) for inner in value.values()) or _is_optimizer(value)
    return is_module(value)


def _is_optimizer(part: object) -> bool:
    return isinstance(part, dict) and "param_groups" in part and "state" in part


def _chosen(tree: object, which: str, candidates: list[tuple[Path, object]]) -> tuple[Path, object]:
    for path, part in candidates:
        if spelled(path) == which:
            return path, part
    path, part = _descend(tree, which)
    inside = _candidates(part)
    if len(inside) == 1:
        return (*path, *inside[0][0]), inside[0][1]
    return path, part


def _descend(tree: object, which: str) -> tuple[Path, object]:
    """The part of the tree whose path is spelled `which`."""
    level: list[tuple[Path, object]] = [((), tree)]
    names: list[str] = []
    for _ in range(DEEPEST):
        below = [
            ((*path, key), child)
            for path, part in level
            if isinstance(part, (dict, list, tuple, Record))
            for key, child in children(part)
        ]
        for path, part in below:
            if spelled(path) == which and next(tensors_under(part), None) is not None:
                return path, part
        names.extend(spelled(path) for path, _ in below)
        level = below
    near = nearest(which, names)
    raise NoSuchTensorError(
        f"no part of this file is called {shown(which)!r} and holds tensors",
        hint=f"did you mean {shown(near)!r}?" if near else "",
    )


def _unwrapped(path: Path, part: object, attributes: Mapping[int, object]) -> Weights:
    found = list(tensors_under(part))
    named = names_of(inner for inner, _ in found)
    spelling = {inner: name for name, inner in named.items()}
    tensors = {spelling[inner]: ref for inner, ref in found}
    versions = _versions(part, attributes)
    removed = [f"taken from {shown(spelled(path))!r}"] if path else []
    if isinstance(part, Record):
        removed.append(f"names as state_dict() of the pickled {shown(part.path)} would give them")
    for prefix, wrapper in WRAPPERS.items():
        if tensors and all(name.startswith(prefix) for name in tensors):
            count = len(tensors)
            removed.append(f"prefix {prefix!r} ({wrapper}) taken off {count} of {count} names")
            tensors = {name.removeprefix(prefix): ref for name, ref in tensors.items()}
            stem = prefix.removesuffix(".")
            versions = {
                name.removeprefix(prefix) if name != stem else "": version
                for name, version in versions.items()
                if name.startswith(prefix) or name == stem
            }
    named_refs = {name: ref.named(name) for name, ref in tensors.items()}
    return Weights(named_refs, path, tuple(removed), versions)


def _versions(part: object, attributes: Mapping[int, object]) -> dict[str, object]:
    state = attributes.get(id(part))
    metadata = state.get("_metadata") if isinstance(state, dict) else None
    if not isinstance(metadata, dict):
        return {}
    return {name: value for name, value in metadata.items() if isinstance(name, str)}
