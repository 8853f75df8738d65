"""Which state of a saved optimizer belongs to which parameter. Knows shapes and names, and no torch.

A saved optimizer has groups of keys, and for each key a state:

    {"state": {0: {"step": …, "exp_avg": …}, …}, "param_groups": [{"lr": …, "params": [0, 1, …]}]}

The keys are numbers in the order of the groups, with the parameters' names beside them (`param_names`) where the
optimizer was made of named parameters; they are the names themselves where torch.distributed wrote the state. Torch
gives states out by order and looks at nothing, so a changed order is another model's momentum in silence. Here, names
decide where there are names on both sides. Otherwise an order counts only where every state has its parameter's shape;
where the groups were cut in another way, it is found out by shapes how they were cut, and refused where there are two
ways.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rehydrate.checkpoint.record import Record
from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.errors import MismatchError
from rehydrate.placing.learned import plain_names
from rehydrate.text import counted, listed, shown

__all__ = [
    "ALIKE",
    "FACTORED",
    "Assignment",
    "Entry",
    "Live",
    "Ordered",
    "SavedGroup",
    "SavedState",
    "assign",
    "saved_state",
]

ALIKE = frozenset(
    {
        "acc_delta", "ax", "exp_avg", "exp_avg_sq", "exp_inf", "grad_avg", "master_param", "max_exp_avg_sq",
        "momentum_buffer", "prev", "square_avg", "step_size", "sum", "variance",
    }
)  # fmt: skip
"""What optimizers keep in the parameter's own shape."""

FACTORED = (("row_var", "col_var"), ("exp_avg_sq_row", "exp_avg_sq_col"))
"""What Adafactor keeps of a matrix: rows and columns, from which the shape follows. Torch's keep a dimension of one."""

_GROUPS = 256
_WAYS = 16
"""Groups, and ways to cut them that are followed at a time, before it is said that the order cannot be told."""

_DIGITS = 20
"""Digits of a key that was a number: old torch's were addresses."""

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SavedGroup:
    """A parameter group of a file."""

    keys: tuple[object, ...]
    values: Mapping[str, object]
    """Its options, inert."""


@dataclass(frozen=True, slots=True)
class SavedState:
    """An optimizer's state as a file has it."""

    groups: tuple[SavedGroup, ...]
    states: Mapping[object, Mapping[object, object]]
    """Of each key; one that was never stepped has none."""
    names: Mapping[object, str] = field(default_factory=dict)
    """Of each key the parameter's name; empty where the file does not know."""
    beside: Mapping[str, object] = field(default_factory=dict)
    """State that is no parameter's."""
    is_flat: bool = False
    """Whether each parameter has its options to itself, so that it is not known how they were grouped."""

    @property
    def keys(self) -> list[object]:
        """All keys, in the order of the groups."""
        return [key for group in self.groups for key in group.keys]

    def shape(self, key: object) -> Shape | None:
        """The shape that a key's parameter must have; None where nothing tells."""
        state = self.states.get(key, {})
        for slot, value in state.items():
            if slot in ALIKE and isinstance(value, TensorRef):
                return value.shape
        for pair in FACTORED:
            rows, columns = map(state.get, pair)
            if isinstance(rows, TensorRef) and isinstance(columns, TensorRef) and rows.shape and columns.shape:
                kept = rows.shape[:-1] if len(rows.shape) == len(columns.shape) and 1 in rows.shape[-1:] else rows.shape
                return (*kept, columns.shape[-1])
        return None


@dataclass(frozen=True, slots=True)
class Entry:
    """A parameter that an optimizer holds."""

    name: str | None
    shape: Shape


Live = Sequence[Sequence[Entry]]
"""An optimizer's groups."""


@dataclass(frozen=True, slots=True)
class Ordered:
    """A parameter of the model that lies in the file beside the optimizer; together in the file's order."""

    saved: str
    """What the file calls it."""
    name: str
    """What the model calls it."""
    shape: Shape


@dataclass(frozen=True, slots=True)
class Assignment:
    """What was found out."""

    keys: tuple[object | None, ...]
    """For each parameter of the optimizer, in the order of its groups, the key of its state; None for one that the
    file does not know."""
    rule: str
    sure: str


# --- reading -----------------------------------------------------------------------------------------------------


def saved_state(part: object, where: str) -> SavedState:
    """An optimizer's state dict, the same flattened, or a pickled optimizer, as a file has it.

    Raises `MismatchError` for anything else.
    """
    tree = part.state if isinstance(part, Record) else part
    if isinstance(tree, dict) and isinstance(tree.get("param_groups"), (list, tuple)):
        return _nested(tree, where)
    if isinstance(tree, dict) and tree and all(isinstance(key, str) for key in tree):
        heads = {key.partition(".")[0] for key in tree}
        if heads <= {"state", "param_groups"}:
            return _flat(tree)
    raise MismatchError(
        f"{shown(where)!r} is not the state of an optimizer",
        found=_kind_of(tree),
        hint='such a state has "state" and "param_groups"',
    )


def _kind_of(tree: object) -> str:
    if isinstance(tree, dict):
        return f"a dictionary with {listed([shown(key) for key in tree], 4)}" if tree else "an empty dictionary"
    return f"a {type(tree).__name__}"


def _nested(tree: Mapping[str, object], where: str) -> SavedState:
    groups: list[SavedGroup] = []
    names: dict[object, str] = {}
    are_named = True
    saved: object = tree["param_groups"]
    for group in saved if isinstance(saved, (list, tuple)) else ():
        keys = group.get("params") if isinstance(group, dict) else None
        if not isinstance(keys, (list, tuple)) or not all(isinstance(key, (int, str, TensorRef)) for key in keys):
            raise MismatchError(f"a parameter group of {shown(where)!r} does not say which parameters it has")
        given = group.get("param_names")
        if isinstance(given, (list, tuple)) and len(given) == len(keys) and all(isinstance(n, str) for n in given):
            names.update(zip(keys, given, strict=True))
        elif keys and all(isinstance(key, str) for key in keys):
            names.update((key, key) for key in keys)
        else:
            are_named = are_named and not keys
        values = {k: v for k, v in group.items() if isinstance(k, str) and k not in ("params", "param_names")}
        groups.append(SavedGroup(tuple(keys), values))
    every = [key for group in groups for key in group.keys]
    if len(set(every)) < len(every):
        raise MismatchError(f"a parameter stands twice in the groups of {shown(where)!r}")
    is_named = are_named and len(set(names.values())) == len(every)
    known = set(every)
    states = _states(tree.get("state"), known)
    if any(not isinstance(key, str) for key in states) and known.isdisjoint(states):
        raise MismatchError(
            f"the states in {shown(where)!r} belong to no parameter of its groups",
            found=f"states of {listed([shown(key) for key in states], 4)}; "
            f"groups of {listed([shown(key) for key in every], 4)}",
        )
    return SavedState(
        tuple(groups),
        {key: value for key, value in states.items() if key in known and isinstance(value, dict)},
        names if is_named else {},
        {key: value for key, value in states.items() if isinstance(key, str) and key not in known},
    )


def _states(state: object, known: set[object]) -> dict[object, object]:
    """States by key. A format whose keys are all strings has spelled those that were numbers."""
    if isinstance(state, (list, tuple)):
        return dict(enumerate(state))
    if not isinstance(state, dict):
        return {}
    if any(isinstance(key, int) for key in known):
        return {int(key) if _is_number(key) and key not in known else key: value for key, value in state.items()}
    return state


def _is_number(key: object) -> bool:
    return isinstance(key, str) and len(key) < _DIGITS and key.isascii() and key.isdigit()


def _flat(tree: Mapping[str, object]) -> SavedState:
    """`state.NAME.SLOT` and `param_groups.NAME.OPTION`, as torch.distributed flattens it."""
    states: dict[object, dict[object, object]] = {}
    options: dict[object, dict[str, object]] = {}
    for key, value in tree.items():
        head, _, rest = key.partition(".")
        name, _, leaf = rest.rpartition(".")
        if head == "state":
            states.setdefault(name, {})[leaf] = value
        else:
            options.setdefault(name, {})[leaf] = value
    names = dict.fromkeys([*options, *states])
    groups = tuple(SavedGroup((name,), options.get(name, {})) for name in names)
    return SavedState(groups, states, {name: str(name) for name in names}, is_flat=True)


# --- assigning ---------------------------------------------------------------------------------------------------


def assign(saved: SavedState, live: Live, order: Sequence[Ordered], optimizer: str) -> Assignment:
    """Give every parameter of an optimizer its state's key.

    `order` has the parameters of the model that lies in the same file, where there is one. Raises `MismatchError`
    where it cannot be told, or where states have other shapes than their parameters.
    """
    entries = [entry for group in live for entry in group]
    are_named = all(entry.name is not None for entry in entries) and len({e.name for e in entries}) == len(entries)
    if saved.names and are_named:
        found = _by_name(saved, saved.names, entries, order)
        if any(key is not None for key in found):
            return Assignment(tuple(found), "by name", "certain")
    is_alike = [len(group.keys) for group in saved.groups] == [len(group) for group in live] and not saved.is_flat
    if is_alike and _fits(saved, saved.keys, entries):
        return Assignment(tuple(saved.keys), "by order and shape", "likely")
    named = _named_by_model(saved, order) if are_named else None
    if named:
        found = _by_name(saved, named, entries, order)
        if any(key is not None for key in found):
            return Assignment(tuple(found), "by the model's order and shape", "likely")
    if len(entries) == len(saved.keys):
        keys = _cut_otherwise(saved, live)
        if keys is not None:
            return Assignment(tuple(keys), "by order and shape", "likely")
    if is_alike:  # the mismatch names parameters and shapes
        return Assignment(tuple(saved.keys), "by order", "likely")
    raise _undecided(saved, live, optimizer)


def _by_name(
    saved: SavedState, names: Mapping[object, str], entries: Sequence[Entry], order: Sequence[Ordered]
) -> list[object | None]:
    """The key for each parameter by name: as the model beside it was matched, as the file has it, without wrappers."""
    plain = plain_names(names.values())
    counts = Counter(ordered.saved for ordered in order)  # two models may have a name each
    matched = {ordered.saved: ordered.name for ordered in order if counts[ordered.saved] == 1}
    own = {entry.name: entry.name for entry in entries if entry.name is not None}
    less = {short: name for name, short in plain_names(own).items()}
    keys: dict[str, object] = {}
    for key in saved.keys:
        name = names[key]
        short = plain[name]
        found = matched.get(name) or matched.get(short) or own.get(name) or less.get(short)
        if found is not None:
            keys.setdefault(found, key)
    return [keys.get(entry.name) if entry.name is not None else None for entry in entries]


def _fits(saved: SavedState, keys: Sequence[object], entries: Sequence[Entry]) -> bool:
    return all(saved.shape(key) in (None, entry.shape) for key, entry in zip(keys, entries, strict=True))


def _named_by_model(saved: SavedState, order: Sequence[Ordered]) -> dict[object, str] | None:
    """The names of keys where the optimizer had all of the model's parameters, in their order within each group."""
    if not order or len(saved.keys) != len(order):
        return None
    cut = interleaved(
        [ordered.shape for ordered in order], [[saved.shape(key) for key in group.keys] for group in saved.groups]
    )
    if cut is None:
        return None
    return {
        saved.groups[group].keys[at]: ordered.name for (group, at), ordered in zip(cut, order, strict=True)
    }  # fmt: skip


def _cut_otherwise(saved: SavedState, live: Live) -> list[object] | None:
    """The keys where one side has all parameters in one group, and the other several groups in the same order."""
    shapes = [[saved.shape(key) for key in group.keys] for group in saved.groups]
    if len(live) == 1:
        cut = interleaved([entry.shape for entry in live[0]], shapes)
        return None if cut is None else [saved.groups[group].keys[at] for group, at in cut]
    if len(saved.groups) == 1:
        cut = interleaved(shapes[0], [[entry.shape for entry in group] for group in live])
        if cut is None:
            return None
        places = dict(zip(cut, saved.groups[0].keys, strict=True))
        return [places[group, at] for group, entries in enumerate(live) for at in range(len(entries))]
    return None


def interleaved(whole: Sequence[Shape | None], parts: Sequence[Sequence[Shape | None]]) -> list[tuple[int, int]] | None:
    """The one way in which `parts`, each in its order, together are `whole`; None where there is none, or another.

    For each item of `whole`, which part it is from and where it stands there. A shape of None fits every shape.

    >>> interleaved([(2, 3), (2,), (4, 2), (4,)], [[(2, 3), (4, 2)], [(2,), (4,)]])
    [(0, 0), (1, 0), (0, 1), (1, 1)]
    >>> interleaved([(2,), (2,)], [[(2,)], [(2,)]]) is None
    True
    """
    if sum(map(len, parts)) != len(whole) or len(parts) > _GROUPS:
        return None
    ways: list[dict[tuple[int, ...], list[int]]] = []
    reached: Iterable[tuple[int, ...]] = [(0,) * len(parts)]
    for shape in whole:
        following: dict[tuple[int, ...], list[int]] = {}
        for state in reached:
            for part, at in enumerate(state):
                if at < len(parts[part]) and (shape is None or parts[part][at] in (None, shape)):
                    following.setdefault((*state[:part], at + 1, *state[part + 1 :]), []).append(part)
        if not following or len(following) > _WAYS:
            return None
        ways.append(following)
        reached = following
    state = tuple(map(len, parts))
    cut: list[tuple[int, int]] = []
    for following in reversed(ways):
        if len(following[state]) > 1:
            return None
        part = following[state][0]
        at = state[part] - 1
        cut.append((part, at))
        state = (*state[:part], at, *state[part + 1 :])
    return cut[::-1]


def _undecided(saved: SavedState, live: Live, optimizer: str) -> MismatchError:
    theirs, ours = [len(group.keys) for group in saved.groups], [len(group) for group in live]
    what = (
        "loaded state dict has a different number of parameter groups"
        if len(theirs) != len(ours)
        else "loaded state dict contains a parameter group that doesn't match the size of optimizer's group"
    )
    return MismatchError(
        f"it cannot be told which state of the file belongs to which parameter of {optimizer} ({what})",
        found=f"the file has {counted(sum(theirs), 'parameter')} in groups of {_sizes(theirs)}, the optimizer "
        f"{sum(ours):,} in groups of {_sizes(ours)}; names do not decide it, nor do shapes",
        hint="make the optimizer with the groups that it was saved with; one made of model.named_parameters() "
        "or rh.param_groups(...) saves names",
    )


def _sizes(lengths: Sequence[int]) -> str:
    return listed([f"{length:,}" for length in lengths])
