"""Which part of a checkpoint is the model, and what was taken off its names.

People save a state dict bare, in a container beside an optimizer and a counter, through DataParallel, or as the whole
module. `find_weights` finds the part that is a model's own tensors by what it is (names that lead to tensors), not by
a list of spellings, and says what it took off. It never chooses between two models: that is `AmbiguousError`.

    a network       a pickled module; names that lead to tensors: some are dotted, or several are there, some of them of
                    two dimensions
    named tensors   the same without either, or under the name of something that only training needs
    a few tensors   names, some of which lead to tensors
    never           an optimizer, its slots, the state of a random generator; below the root, numbers without dimensions

The best kind that a file has is its model, at whatever depth.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

from rehydrate.checkpoint.record import Record
from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.checkpoint.tree import Below, Path, children, counted_below, is_module, names_of, spelled, tensors_under
from rehydrate.errors import AmbiguousError, NoSuchTensorError
from rehydrate.text import counted, nearest, shown

__all__ = ["Weights", "find_models", "find_weights", "is_optimizer"]

WRAPPERS: Mapping[str, str] = {"module.": "DataParallel"}
"""Prefixes that a wrapper puts before every name, and who does."""

DEEPEST = 6
"""Containers above the model's tensors. Real files have at most three."""

_NETWORK, _NAMED, _FEW = range(3)

_SLOTS = frozenset(
    {
        "acc_delta", "ax", "d", "eta", "exp_avg", "exp_avg_sq", "exp_avg_sq_col", "exp_avg_sq_row", "exp_inf",
        "grad_avg", "master_param", "max_exp_avg_sq", "max_exp_avg_sqs", "momentum_buffer", "mu", "mu_product", "prev",
        "square_avg", "step", "step_size", "sum",
    }
)  # fmt: skip
"""What torch's optimizers keep for each parameter."""

_GENERATORS = frozenset({5056, 5048, 816, 16})
"""Bytes of the states of torch's random generators: of the CPU, of CUDA."""

_TRAINING = frozenset({"optim", "optims", "optimizer", "optimizers", "sched", "scheduler", "schedulers", "callbacks"})
"""Words in the name of a part that is there for training to go on. It counts only where there is no other."""

_LISTED = 8
"""Models that an error lists."""
_COMPARED = 2_000_000
"""Values below parts that are compared tensor by tensor; parts that all share one large list have more together."""
_VISITED = 1_000_000
"""Values that are looked at while a part is searched by name."""


@dataclass(frozen=True, slots=True)
class Weights(Mapping[str, TensorRef]):
    """A model's own tensors by the names that its `state_dict()` would have.

    `path` is where they lie in the file's tree; `removed` tells, in sentences, which container and which prefixes were
    taken off, and `prefix` is what was taken off every name; `versions` is torch's `_metadata`: module prefix → the
    version of that module's layout.
    """

    tensors: Mapping[str, TensorRef]
    path: Path = ()
    removed: tuple[str, ...] = ()
    versions: Mapping[str, object] = field(default_factory=dict)
    prefix: str = ""

    def __getitem__(self, name: str) -> TensorRef:
        try:
            return self.tensors[name]
        except KeyError:
            near = nearest(name, self.tensors) if isinstance(name, str) else None
            hint = f"did you mean {shown(near)!r}?" if near else ""
            raise NoSuchTensorError(f"no weight is called {shown(name)!r}", hint=hint) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def __str__(self) -> str:
        return "\n".join([_extent(self.tensors.values()), *(f"  {sentence}" for sentence in self.removed)])


def find_weights(tree: object, attributes: Mapping[int, object], which: str | None = None) -> Weights:
    """The model's own tensors in `tree`.

    `which` names a part of the tree when there are several models. Raises `AmbiguousError` listing the parts when it
    is None and there are, `NoSuchTensorError` when there is no such part or no tensor that could be a model's.
    """
    path, part = _only(tree, "this file") if which is None else _chosen(tree, which)
    return _unwrapped(path, part, attributes)


def find_models(tree: object) -> dict[str, Path]:
    """Every part that could be the model, by the name that `which=` takes, in the file's order."""
    return names_of(path for path, _ in _candidates(tree))


def _only(tree: object, where: str) -> tuple[Path, object]:
    """The one candidate in a tree."""
    candidates = _candidates(tree)
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        count = sum(1 for _ in tensors_under(tree))
        raise NoSuchTensorError(
            f"{where} holds no model's tensors",
            found=f"{counted(count, 'tensor')}, none of which looks like a model's" if count else "no tensor at all",
            hint="rh.load(...) gives everything that is in the file",
        )
    parts = dict(candidates)
    names = {name: parts[path] for name, path in names_of(parts).items()}
    lines = [
        f"{shown(name)!r}: {_extent(ref for _, ref in tensors_under(part))}"
        for name, part in islice(names.items(), _LISTED)
    ]
    more = [f"and {len(names) - _LISTED:,} more"] if len(names) > _LISTED else []
    raise AmbiguousError(
        f"there are {len(candidates):,} models in {where}",
        found="\n".join([*lines, *more]),
        hint=f"choose one: which={next((name for name in names if shown(name) == name), '...')!r}",
    )


def _extent(refs: Iterable[TensorRef]) -> str:
    """How many tensors, and how many numbers in them."""
    count = numbers = 0
    for ref in refs:
        count += 1
        numbers += ref.numel
    return f"{counted(count, 'tensor')}, {counted(numbers, 'number')}"


def _candidates(tree: object) -> list[tuple[Path, object]]:
    """The parts that are a model's tensors, none inside another, in the file's order.

    Plain containers are searched first. Only where they hold no model are objects that the file names looked into: a
    trainer or a learner that was pickled whole has its model as an attribute.
    """
    extents = _Extents(tree)
    ranked = list(_ranked_parts(tree, extents, into_records=False))
    ranked = ranked or list(_ranked_parts(tree, extents, into_records=True))
    best = min((rank for rank, _, _ in ranked), default=None)
    chosen: dict[Path, object] = {}
    for rank, path, part in ranked:  # outer parts come before those inside them
        if rank == best and not any(path[:length] in chosen for length in range(len(path))):
            chosen[path] = part
    return _distinct(list(chosen.items()), extents)


class _Extents:
    """What lies below each part of a tree: counted once, and only where somebody asks."""

    def __init__(self, tree: object) -> None:
        self._tree = tree
        self._counts: dict[int, Below] | None = None

    def below(self, part: object) -> Below:
        if self._counts is None:
            self._counts = counted_below(self._tree)
        return self._counts[id(part)]


def _distinct(parts: list[tuple[Path, object]], extents: _Extents) -> list[tuple[Path, object]]:
    """Without parts that are the same memory as an earlier one: a module beside its own state dict."""
    if len(parts) < 2 or sum(extents.below(part).values for _, part in parts) > _COMPARED:
        return parts
    first: dict[frozenset[object], tuple[Path, object]] = {}
    for path, part in parts:
        memory = frozenset((id(ref.storage), ref.offset, ref.shape) for _, ref in tensors_under(part))
        first.setdefault(memory, (path, part))
    return list(first.values())


def _ranked_parts(tree: object, extents: _Extents, *, into_records: bool) -> Iterator[tuple[int, Path, object]]:
    """Every part that could be a model; into records, only those nearest to the root."""
    level: list[tuple[Path, object]] = [((), tree)]
    seen: set[int] = set()
    is_found = False
    for _ in range(DEEPEST):
        below: list[tuple[Path, object]] = []
        for path, part in level:
            if id(part) in seen:
                continue
            seen.add(id(part))
            rank = _rank(path, part, extents)
            if rank is not None:
                is_found = True
                yield rank, path, part
            is_searched = isinstance(part, (dict, list, tuple)) or (into_records and isinstance(part, Record))
            if rank != _NETWORK and is_searched and not is_optimizer(part):
                below.extend(((*path, key), child) for key, child in children(part) if _may_hold(child))
        level = below if not (into_records and is_found) else []


def _may_hold(child: object) -> bool:
    return isinstance(child, (dict, list, tuple, Record))


def _rank(path: Path, part: object, extents: _Extents) -> int | None:
    """How much like a model's tensors a part is, or None if it is not."""
    if is_module(part):
        return _NETWORK if extents.below(part).tensors else None
    if not isinstance(part, dict) or is_optimizer(part) or not all(isinstance(key, str) for key in part):
        return None
    tensors = {name: value for name, value in part.items() if isinstance(value, TensorRef)}
    if not tensors or (path and _SLOTS.issuperset(tensors)) or all(map(_is_generator_state, tensors.values())):
        return None
    is_quantised = len(tensors) < len(part) and any(map(_is_packed, part.values()))
    sized = sum(bool(ref.shape) for ref in tensors.values())
    if not sized and not is_quantised and (path or len(tensors) < len(part)):
        return None
    if len(tensors) < len(part) and _models_inside(part, extents) >= max(sized, 1):
        return None
    if 2 * len(tensors) < len(part) and not is_quantised:
        return _FEW
    is_layer = len(tensors) > 1 or "weight" in tensors
    is_network = any("." in name for name in tensors) or (
        is_layer and any(len(ref.shape) > 1 for ref in tensors.values())
    )
    return _NETWORK if is_network and not _is_for_training(path) else _NAMED


def is_optimizer(part: object) -> bool:
    """An optimizer's state dict, the same flattened into one level, or a pickled optimizer."""
    if isinstance(part, Record):
        part = part.state
    if not isinstance(part, dict):
        return False
    if "param_groups" in part and "state" in part:
        return True
    return bool(part) and all(isinstance(key, str) and key.startswith(("state.", "param_groups.")) for key in part)


def _is_generator_state(ref: TensorRef) -> bool:
    return ref.dtype.name == "uint8" and len(ref.shape) == 1 and ref.shape[0] in _GENERATORS


def _is_packed(value: object) -> bool:
    """What stands in the state dict of a quantised module: a weight and its bias, in one value."""
    return isinstance(value, tuple) and any(isinstance(item, Record) for item in value)


def _is_for_training(path: Path) -> bool:
    return any(isinstance(key, str) and not _TRAINING.isdisjoint(key.lower().split("_")) for key in path)


def _models_inside(part: dict[str, object], extents: _Extents) -> int:
    """Tensors one level below that would be a model of their own; a state dict may hold a few beside its own."""
    count = 0
    for value in part.values():
        if is_module(value):
            count += extents.below(value).tensors
        elif is_optimizer(value):
            return len(part)
        elif isinstance(value, dict):
            count += sum(isinstance(inner, TensorRef) for inner in value.values())
    return count


def _chosen(tree: object, which: str) -> tuple[Path, object]:
    """The part that `which` names; a container of one model gives that model."""
    candidates = _candidates(tree)
    parts = dict(candidates)
    names = names_of(parts)
    if which in names:
        return names[which], parts[names[which]]
    path, part = _named(tree, which, names)
    inside = _candidates(part)
    if not inside:
        return path, part
    below, model = _only(part, shown(which)) if len(inside) > 1 else inside[0]
    return (*path, *below), model


def _named(tree: object, which: str, names: Iterable[str]) -> tuple[Path, object]:
    """The part of the tree whose path is spelled `which`, if there are tensors in it."""
    level: list[tuple[Path, object]] = [((), tree)]
    top: list[str] = []
    visited = 0
    for _ in range(DEEPEST):
        below: list[tuple[Path, object]] = []
        for path, part in level:
            for key, child in islice(children(part), max(_VISITED - visited, 0)):
                visited += 1
                name = spelled((*path, key))
                if name == which and next(tensors_under(child), None) is not None:
                    return (*path, key), child
                if not path:
                    top.append(name)
                if which.startswith(name) and _may_hold(child):
                    below.append(((*path, key), child))
        level = below
    near = nearest(which, [*names, *top])
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
    taken_off = ""
    for prefix, wrapper in WRAPPERS.items():
        if tensors and all(name.startswith(prefix) for name in tensors):
            count = len(tensors)
            removed.append(f"prefix {prefix!r} ({wrapper}) taken off {count:,} of {counted(count, 'name')}")
            taken_off += prefix
            tensors = {name.removeprefix(prefix): ref for name, ref in tensors.items()}
            stem = prefix.removesuffix(".")
            versions = {
                name.removeprefix(prefix) if name != stem else "": version
                for name, version in versions.items()
                if name.startswith(prefix) or name == stem
            }
    named_refs = {name: ref.named(name) for name, ref in tensors.items()}
    return Weights(named_refs, path, tuple(removed), versions, taken_off)


def _versions(part: object, attributes: Mapping[int, object]) -> dict[str, object]:
    state = attributes.get(id(part))
    metadata = state.get("_metadata") if isinstance(state, dict) else None
    if not isinstance(metadata, dict):
        return {}
    return {name: value for name, value in metadata.items() if isinstance(name, str)}
