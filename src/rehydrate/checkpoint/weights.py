"""Weights: the model's own tensors, and what was taken off to get at them.

People save a state dict bare, in a container beside an optimizer and a counter, through wrappers, or as the whole
module. `find_weights` takes the one part that could be the model (`candidates`), takes the wrappers off its names
(`wrappers`), and says so in sentences. It never chooses between two models: that is `AmbiguousError`, and `which=`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice

from rehydrate.checkpoint.candidates import DEEPEST, Part, Parts, is_averaged, may_hold, parts_of
from rehydrate.checkpoint.modules import is_module, origin
from rehydrate.checkpoint.naming import names_beside, names_by_class, tensors_of, versions_of
from rehydrate.checkpoint.record import Record
from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.checkpoint.tree import Openings, Path, names_of, spelled, tensors_under, value_at
from rehydrate.checkpoint.wrappers import unwrap
from rehydrate.collector import collector_paused
from rehydrate.errors import AmbiguousError, NoSuchTensorError
from rehydrate.text import counted, listed, nearest, shown

__all__ = ["Weights", "find_models", "find_weights"]

_LIGHTNING = frozenset({"pytorch-lightning_version", "hyper_parameters", "hparams_name", "optimizer_states"})
"""What lies beside the state dict in the files of Lightning and of no other trainer; the first of them since 0.7."""
_FLAT = ("_flat_param", "flat_param", "flat_param_0")
"""How FSDP calls the one parameter that it makes of many."""

_LISTED = 8
"""Models that an error lists."""
_BESIDE = 4
"""Parts that are named of those left aside."""
_VISITED = 1_000_000
"""Values that are looked at while a part is searched by name."""


@dataclass(frozen=True, slots=True, repr=False)
class Weights(Mapping[str, TensorRef]):
    """A model's own tensors by the names that its `state_dict()` would have.

    >>> import rehydrate as rh, io, torch
    >>> buffer = io.BytesIO(); torch.save({"net": {"module.fc.weight": torch.zeros(2, 3)}, "epoch": 3}, buffer)
    >>> print(rh.open(buffer).weights())
    1 tensor, 6 numbers
      taken from 'net'
      prefix 'module.' (DataParallel) taken off 1 of 1 name
    """

    tensors: Mapping[str, TensorRef]
    path: Path = ()
    """Where they lie in the file's tree."""
    removed: tuple[str, ...] = ()
    """Which container, which wrappers were taken off, and what was left aside: sentences."""
    versions: Mapping[str, object] = field(default_factory=dict)
    """torch's `_metadata`: module prefix → the version of that module's layout."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Where wrappers came off: the name in the file → the name here, of tensors and of what lies beside them."""
    as_saved: Weights | None = None
    """The same with the names that the file has, where they are others: for a model that is wrapped alike."""

    def __getitem__(self, name: str) -> TensorRef:
        try:
            return self.tensors[name]
        except (KeyError, TypeError):
            near = nearest(name, self.tensors) if isinstance(name, str) else None
            hint = f"did you mean {shown(near)!r}?" if near else ""
            raise NoSuchTensorError(f"no weight is called {shown(name)!r}", hint=hint) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def __str__(self) -> str:
        return "\n".join([_extent(self.tensors.values()), *(f"  {sentence}" for sentence in self.removed)])

    def __repr__(self) -> str:
        place = f" from {shown(spelled(self.path), 60)!r}" if self.path else ""
        return f"<Weights {_extent(self.tensors.values())}{place}>"


def find_weights(tree: object, attributes: Mapping[int, object], which: str | None = None) -> Weights:
    """The model's own tensors in `tree`.

    `which` names a part of the tree when there are several models. Raises `AmbiguousError` listing the parts when it
    is None and there are, `NoSuchTensorError` when there is no such part or no tensor that could be a model's.
    """
    if which is not None and not isinstance(which, str):
        raise TypeError(f"which= is the name of a part of the file, as a string; got {type(which).__name__}")
    with collector_paused():
        return _found(tree, attributes, which)


def _found(tree: object, attributes: Mapping[int, object], which: str | None) -> Weights:
    parts = parts_of(tree)
    if which is not None:
        path, value = _chosen(tree, parts, which)
        beside: tuple[str, ...] = ()
    else:
        part = _only(tree, parts, "this file")
        path, value = part.path, part.value
        beside = tuple(_left_aside(parts))
    found = _unwrapped(tree, path, value, attributes)
    return replace(found, removed=(*found.removed, *beside)) if beside else found


def find_models(tree: object) -> dict[str, Path]:
    """Every part that could be the model, by the name that `which=` takes, in the file's order."""
    return names_of(part.path for part in parts_of(tree).models)


def _only(tree: object, parts: Parts, where: str) -> Part:
    """The one candidate in a tree."""
    models = parts.models
    if len(models) == 1:
        return models[0]
    if not models:
        count = sum(1 for _ in tensors_under(tree)) if parts.has_tensors else 0
        raise NoSuchTensorError(
            f"{where} holds no model's tensors",
            found="no tensor at all"
            if not count
            else "one tensor, and it does not look like a model's"
            if count == 1
            else f"{counted(count, 'tensor')}, none of which looks like a model's",
            hint="rh.load(...) gives everything that is in the file",
        )
    values = {part.path: part.value for part in models}
    names = {name: values[path] for name, path in names_of(values).items()}
    lines = [
        f"{shown(name)!r}: {_extent(ref for _, ref in tensors_under(value))}"
        for name, value in islice(names.items(), _LISTED)
    ]
    more = [f"and {len(names) - _LISTED:,} more"] if len(names) > _LISTED else []
    averages = [name for name, path in names_of(values).items() if is_averaged(path)]
    told = f"; {shown(averages[0])!r} is an average over training, by its name" if averages else ""
    raise AmbiguousError(
        f"there are {len(models):,} models in {where}",
        found="\n".join([*lines, *more]),
        hint=f"choose one: which={next((name for name in names if shown(name) == name), '...')!r}{told}",
    )


def _extent(refs: Iterable[TensorRef]) -> str:
    """How many tensors, and how many numbers in them."""
    count = numbers = 0
    for ref in refs:
        count += 1
        numbers += ref.numel
    return f"{counted(count, 'tensor')}, {counted(numbers, 'number')}"


def _left_aside(parts: Parts) -> Iterator[str]:
    """What else looks like weights and is not taken, in sentences."""
    names = [repr(shown(spelled(part.path))) for part in parts.others]
    if names:
        yield f"left aside, being no network: {listed(names, _BESIDE)}"
    for path in islice(parts.averages, _BESIDE):
        yield f"{shown(spelled(path))!r} is an average of weights as a list without names; it was not taken"


def _chosen(tree: object, parts: Parts, which: str) -> tuple[Path, object]:
    """The part that `which` names; a container of one model gives that model."""
    models = {part.path: part.value for part in parts.models}
    names = names_of(models)
    if which in names:
        return names[which], models[names[which]]
    path, value = _named(tree, which, names)
    inside = parts_of(value)
    if not inside.models:
        return path, value
    model = _only(value, inside, shown(which))
    return (*path, *model.path), model.value


def _named(tree: object, which: str, names: Iterable[str]) -> tuple[Path, object]:
    """The part of the tree whose path is spelled `which`, if there are tensors in it."""
    level: list[tuple[Path, object]] = [((), tree)]
    top: list[str] = []
    visited = 0
    openings = Openings()
    for _ in range(DEEPEST):
        below: list[tuple[Path, object]] = []
        for path, part in level:
            for key, child in islice(openings.children(part), max(_VISITED - visited, 0)):
                visited += 1
                name = spelled((*path, key))
                if name == which and next(tensors_under(child), None) is not None:
                    _refuse_tensor(child, which)
                    return (*path, key), child
                if not path:
                    top.append(name)
                if which.startswith(name) and may_hold(child):
                    below.append(((*path, key), child))
        level = below
    near = nearest(which, [*names, *top])
    raise NoSuchTensorError(
        f"no part of this file is called {shown(which)!r} and holds tensors",
        hint=f"did you mean {shown(near)!r}?" if near else "",
    )


def _refuse_tensor(value: object, which: str) -> None:
    if isinstance(value, TensorRef):
        raise NoSuchTensorError(
            f"{shown(which)!r} is one tensor, and which= names a part of the file that is a model",
            hint="one tensor is had by its name: rh.open(...)[name]",
        )


def _unwrapped(tree: object, path: Path, part: object, attributes: Mapping[int, object]) -> Weights:
    """The tensors of a part under the names that the model has for them."""
    saved, paths = tensors_of(part)
    versions = versions_of(part, attributes)
    found = unwrap(
        saved,
        [*names_beside(part, saved), *versions],
        known=names_by_class(part, paths) if is_module(part) else None,
        is_lightning=bool(path) and _is_lightning(value_at(tree, path[:-1])),
    )
    told = [f"taken from {shown(spelled(path))!r}"] if path else []
    if isinstance(part, Record):
        kind = origin(part) if is_module(part) else "pickled"
        told.append(f"names as state_dict() of the {kind} {shown(part.path)} would give them")
    as_saved = Weights({name: ref.named(name) for name, ref in saved.items()}, path, tuple(told), versions)
    if not found.names:
        return replace(as_saved, removed=(*told, *found.removed, *_odd(saved)))
    own = {found.names[name]: ref for name, ref in saved.items() if name not in found.left_out}
    return Weights(
        {name: ref.named(name) for name, ref in own.items()},
        path,
        (*told, *found.removed, *_odd(own)),
        {found.names[name]: versions[name] for name in sorted(versions, key=len)},  # of two, that of the inner module
        found.names,
        as_saved,
    )


def _is_lightning(container: object) -> bool:
    return isinstance(container, dict) and not _LIGHTNING.isdisjoint(container)


def _odd(tensors: Mapping[str, TensorRef]) -> Iterator[str]:
    """What is strange about the tensors themselves, and where their values are."""
    flat = [name for name in tensors if name.endswith(_FLAT) and name.rpartition(".")[2] in _FLAT]
    if flat:
        yield (
            f"{shown(flat[0])!r} is a flat parameter of FSDP: several tensors in a row, and this file does not say "
            "which; a full state dict, or the folder of a sharded one, does"
        )
    if tensors and not any(ref.numel for ref in tensors.values()):
        yield "every tensor is empty: DeepSpeed's stage 3 keeps the values in the files of its optimizer"
