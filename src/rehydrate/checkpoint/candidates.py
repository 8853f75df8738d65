"""Which parts of a tree could be the model. Chooses nothing: what comes out is every part of the best kind.

A part is judged by what it is (names that lead to tensors), not by a list of spellings:

    a network       a module; names that lead to tensors: some are dotted, or several are there, some of them of two
                    dimensions; layers in layers: names that lead to names that lead to tensors
    named tensors   the same without either, or under the name of something that only training needs
    a few tensors   names, some of which lead to tensors
    never           an optimizer, its slots, the state of a random generator; below the root, numbers without dimensions

The best kind that a file has is its model, at whatever depth. Plain containers are searched first. Only where they
hold none is the inside of objects the model's: a trainer that was pickled whole. An average of the weights counts
wherever it lies, because nobody may be given one of the two without having asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum

from rehydrate.checkpoint.modules import is_loss, is_module
from rehydrate.checkpoint.nested import Nesting
from rehydrate.checkpoint.record import NAMESPACES, Record
from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.checkpoint.tree import Below, Openings, Path, counted_below, holders_of, integers_of, tensors_under
from rehydrate.checkpoint.wrappers import words_of

__all__ = ["DEEPEST", "Kind", "Part", "Parts", "is_averaged", "is_optimizer", "may_hold", "parts_of"]

DEEPEST = 6
"""Containers above the model's tensors. Real files have at most three."""

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

_OPTIMIZING = frozenset({"opt", "optim", "optims", "optimizer", "optimizers", "sched", "scheduler", "schedulers"})
_TRAINING = _OPTIMIZING | {
    "callbacks", "criterion", "criteria", "loss", "losses", "meter", "meters", "metric", "metrics", "normalizer",
    "queue", "replay", "scaler", "stats", "statistics",
}  # fmt: skip
"""Words in the name of a part that is there for training to go on. They count only where there is another part."""

_AVERAGED = frozenset({"averaged", "average", "avg", "ema", "shadow", "swa"})
"""Words in the name of a part that is an average of the weights over time."""

_ANSWERS = ({"boxes", "labels"}, {"boxes", "scores"})
"""Names that a detector gives its answers; those are saved for tests."""
_DATA = frozenset(
    {
        "count", "data", "image", "images", "input", "inputs", "label", "labels", "max", "mean", "min", "output",
        "outputs", "std", "target", "targets", "var", "x", "y",
    }
)  # fmt: skip
"""Names of examples, of answers, and of what examples are brought to one scale with."""

_TORCHS = ("torch.", "__torch__.torch.classes.")
"""What the modules of torch's own classes begin with."""
_PACKED = 4
"""Values that are packed with a weight: its bias, and how it is quantised."""

_GLANCED = 64
"""Items of a list that are looked at."""

_COMPARED = 2_000_000
"""Values below parts that are compared tensor by tensor; parts that all share one large list have more together."""


class Kind(IntEnum):
    """How much like a model's tensors a part is; the smaller the better."""

    NETWORK = 0
    NAMED = 1
    FEW = 2


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a tree that could be the model, or is worth a word beside it."""

    path: Path
    value: object
    kind: Kind
    is_inside: bool = False
    """Whether an object that is no module lies around it."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a search found."""

    models: tuple[Part, ...]
    """Parts of the best kind, none inside another, in the file's order."""
    others: tuple[Part, ...] = ()
    """Named tensors that are left aside because there is a network."""
    averages: tuple[Path, ...] = ()
    """Lists of tensors that an average of the weights was saved as: there are no names to choose them by."""
    has_tensors: bool = True


def parts_of(tree: object) -> Parts:
    """Search a tree for what could be the model."""
    extents = _Extents(tree)
    found, averages = _searched(tree, extents)
    outer = [part for part in found if not part.is_inside]
    if outer:
        found = [part for part in found if not part.is_inside or is_averaged(part.path)]
    else:
        nearest = min((len(part.path) for part in found), default=0)
        found = [part for part in found if len(part.path) == nearest]
    best = min((part.kind for part in found), default=Kind.FEW)
    models = _distinct(_outermost(part for part in found if part.kind == best), extents)
    chosen = {part.path for part in models}
    others = [part for part in found if best < part.kind == Kind.NAMED and not _is_for_training(part.path, _OPTIMIZING)]
    beside = tuple(part for part in _outermost(others) if not _is_below(part.path, chosen))
    return Parts(tuple(models), beside, tuple(averages), bool(extents.holders) or isinstance(tree, TensorRef))


def _outermost(parts: Iterator[Part] | list[Part]) -> list[Part]:
    """Without parts inside others; outer ones come first."""
    chosen: dict[Path, Part] = {}
    for part in parts:
        if not _is_below(part.path, chosen):
            chosen[part.path] = part
    return list(chosen.values())


def _is_below(path: Path, others: Mapping[Path, object] | set[Path]) -> bool:
    return any(path[:length] in others for length in range(len(path)))


class _Extents:
    """What lies below each part of a tree: found out once for each, however many others hold it."""

    def __init__(self, tree: object) -> None:
        self._tree = tree
        self.holders = holders_of(tree)
        """Containers with tensors in them, by `id`: what has none is not entered."""
        self._counts: dict[int, Below] | None = None
        self._direct: dict[int, int] = {}
        self._optimizers: dict[int, bool] = {}
        self.nesting = Nesting()

    def below(self, part: object) -> Below:
        """Everything below it; counted only where somebody asks."""
        if self._counts is None:
            self._counts = counted_below(self._tree, self.holders)
        return self._counts.get(id(part), Below(0, 0))

    def is_optimizer(self, part: object) -> bool:
        """See `is_optimizer`."""
        state = part.state if isinstance(part, Record) else part
        if id(state) not in self._optimizers:
            self._optimizers[id(state)] = is_optimizer(state)
        return self._optimizers[id(state)]

    def directly_in(self, part: dict[object, object]) -> int:
        """Tensors in a dictionary, not counting those further below."""
        if id(part) not in self._direct:
            self._direct[id(part)] = sum(isinstance(value, TensorRef) for value in part.values())
        return self._direct[id(part)]


def _distinct(parts: list[Part], extents: _Extents) -> list[Part]:
    """Without parts that are the same memory as an earlier one: a module beside its own state dict."""
    if len(parts) < 2 or sum(extents.below(part.value).values for part in parts) > _COMPARED:
        return parts
    first: dict[frozenset[object], Part] = {}
    for part in parts:
        memory = frozenset((id(ref.storage), ref.offset, ref.shape) for _, ref in tensors_under(part.value))
        first.setdefault(memory, part)
    return list(first.values())


def _searched(tree: object, extents: _Extents) -> tuple[list[Part], list[Path]]:
    """Every part that could be a model, level by level, and the averages that have no names."""
    level: list[tuple[Path, object, bool]] = [((), tree, False)]
    seen: set[int] = set()
    found: list[Part] = []
    averages: list[Path] = []
    openings = Openings()
    for _ in range(DEEPEST):
        below: list[tuple[Path, object, bool]] = []
        for path, value, is_inside in level:
            if id(value) in seen:
                continue
            seen.add(id(value))
            kind = _kind(path, value, extents)
            if kind is not None:
                found.append(Part(path, value, kind, is_inside))
            if _is_nameless_average(path, value):
                averages.append(path)
            elif kind != Kind.NETWORK and not extents.is_optimizer(value):
                inside = is_inside or isinstance(value, (Record, *NAMESPACES))
                below.extend(
                    ((*path, key), child, inside)
                    for key, child in openings.children(value)
                    if id(child) in extents.holders and may_hold(child)
                )
        level = below
    return found, averages


def may_hold(child: object) -> bool:
    """Whether a value is one that a model's tensors could lie in."""
    return isinstance(child, (dict, list, tuple, Record, *NAMESPACES))


def is_averaged(path: Path) -> bool:
    """Whether a part is an average of a model's weights, by its name."""
    return any(isinstance(key, str) and not _AVERAGED.isdisjoint(words_of(key)) for key in path)


def _is_nameless_average(path: Path, value: object) -> bool:
    """Whether a list has the tensors of a model and not their names, under the name of an average."""
    if not isinstance(value, (list, tuple)) or not is_averaged(path):
        return False
    refs = [item for item in value[:_GLANCED] if isinstance(item, TensorRef)]
    return len(refs) == min(len(value), _GLANCED) and any(len(ref.shape) > 1 for ref in refs)


def _is_for_training(path: Path, words: frozenset[str] = _TRAINING) -> bool:
    found = {word for key in path if isinstance(key, str) for word in words_of(key)}
    return not found.isdisjoint(words - {"callbacks"} if not found.isdisjoint(_AVERAGED) else words)


def _kind(path: Path, part: object, extents: _Extents) -> Kind | None:
    """How much like a model's tensors a part is, or None if it is not."""
    if is_module(part):
        if not extents.below(part).tensors:
            return None
        return Kind.NAMED if is_loss(part) or _is_for_training(path) else Kind.NETWORK
    if not isinstance(part, dict) or extents.is_optimizer(part) or not all(isinstance(key, str) for key in part):
        return None
    if extents.nesting.is_model(part):
        return Kind.NAMED if _is_for_training(path) else Kind.NETWORK
    kind = _kind_of_names(path, part, extents)
    return _of_arrays(kind) if kind is not None and _is_arrays(part) else kind


def _kind_of_names(path: Path, part: dict[str, object], extents: _Extents) -> Kind | None:
    """The same of a dictionary whose keys are names."""
    tensors = {name: value for name, value in part.items() if isinstance(value, TensorRef)}
    assembled = len(tensors) < len(part) and sum(_is_assembled(value, extents) for value in part.values())
    if not tensors and not assembled:
        return None
    if tensors and ((path and _SLOTS.issuperset(tensors)) or _DATA.issuperset(map(str.lower, tensors))):
        return None
    if any(map(tensors.keys().__ge__, _ANSWERS)):
        return None
    if tensors and all(map(_is_generator_state, tensors.values())):
        return None
    sized = sum(bool(ref.shape) for ref in tensors.values()) + assembled
    if not sized and (path or len(tensors) < len(part)):
        return None
    if len(tensors) < len(part) and _models_inside(part, extents) >= max(sized, 1):
        return None
    if 2 * len(tensors) < len(part) and not assembled:
        return Kind.FEW
    is_dotted = any("." in name for name in (part if assembled else tensors))
    is_layer = len(tensors) > 1 or "weight" in tensors
    has_matrix = assembled > 0 or any(len(ref.shape) > 1 for ref in tensors.values())
    is_network = (is_dotted and (has_matrix or len(tensors) > 1)) or (is_layer and has_matrix)
    return Kind.NETWORK if is_network and not _is_for_training(path) else Kind.NAMED


def _is_arrays(part: dict[str, object]) -> bool:
    """Whether all its tensors are numpy's: a model of another library, or what was measured while training."""
    tensors = [value for value in part.values() if isinstance(value, TensorRef)]
    return bool(tensors) and all("array" in ref.traits for ref in tensors)


def _of_arrays(kind: Kind) -> Kind | None:
    """Arrays are a model only where there is none of torch's."""
    return {Kind.NETWORK: Kind.NAMED, Kind.NAMED: Kind.FEW}.get(kind)


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


def _is_assembled(value: object, extents: _Extents) -> bool:
    """What stands for one tensor or one layer in a state dict: a sparse tensor, a packed weight with its bias."""
    if isinstance(value, tuple):
        return any(isinstance(item, Record) for item in value[:_PACKED])
    if not isinstance(value, Record) or is_module(value):
        return False
    has_tensors = integers_of(value) is not None or extents.below(value).tensors > 0
    return value.module.startswith(_TORCHS) and has_tensors


def _models_inside(part: dict[str, object], extents: _Extents) -> int:
    """Tensors one level below that would be a model of their own; a state dict may hold a few beside its own."""
    count = 0
    for value in part.values():
        if is_module(value):
            count += extents.below(value).tensors
        elif extents.is_optimizer(value):
            return len(part)
        elif isinstance(value, dict):
            count += extents.directly_in(value)
    return count
