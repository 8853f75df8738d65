"""The verbs, in one place: the table of contents of the library.

Each is a few lines over the floor that does the work. Importing this file loads no torch; calling a verb that needs
tensors does, which is why the imports of those floors stand inside the functions.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.errors import MissingExtraError
from rehydrate.formats.opening import load_every_format, open_checkpoint
from rehydrate.limits import Limits
from rehydrate.storage.source import Where

if TYPE_CHECKING:
    import torch
    from torch import nn

    from rehydrate.checking.audit import Audit
    from rehydrate.checking.verify import Verification
    from rehydrate.matching.allow import Allow
    from rehydrate.matching.match import Match
    from rehydrate.placing.comparing import Given
    from rehydrate.placing.devices import Device, MapLocation
    from rehydrate.placing.freezing import Frozen
    from rehydrate.placing.groups import ParamGroups
    from rehydrate.placing.terms import Rules
    from rehydrate.writing.save import Saved

__all__ = [
    "audit", "freeze", "load", "load_into", "load_model", "match", "open", "param_groups", "salvage", "save",
    "to_device", "verify", "warm_start",
]  # fmt: skip

Batch = TypeVar("Batch")

load_every_format()


def open(  # noqa: A001 - the library's verb
    where: Where | Checkpoint, *, member: str | None = None, limits: Limits | None = None
) -> Checkpoint:
    """Open a checkpoint without running any of it.

    `where` is a path, a folder, bytes, or a seekable binary file, which its content tells from others: torch's zip,
    stream and tar, TorchScript, `torch.export`, `torch.package`, torch.distributed, safetensors, shards with an index,
    npy, npz, GGUF, HDF5, Torch7, pickles, joblib; any of them compressed, or in a zip or tar archive.
    `Checkpoint.format` says which. Only the index is read; tensors are read when asked for.

    `member` picks one of several checkpoints in an archive or a folder; `limits` bounds what a file may ask for. Raises
    `MissingFileError`, `NotACheckpointError` (saying what it is instead), `TruncatedError`, `CorruptError`,
    `AmbiguousError` (readers disagree about the file; a `SeveralError` where `member` has to choose), `LimitError`, and
    `MissingExtraError` for HDF5 without pyfive.

    >>> import pickle, rehydrate as rh
    >>> rh.open(pickle.dumps({"da": 111, 2: [23, 1, 4]})).tree
    {'da': 111, 2: [23, 1, 4]}
    """
    return open_checkpoint(where, member=member, limits=limits)


def load(
    where: Where | Checkpoint,
    *,
    device: Device | None = None,
    map_location: MapLocation | None = None,
) -> object:
    """What `torch.load` would give, with real tensors, and inert `Record`s for what it would have had to import.

    Everything comes to the CPU unless `device=` says otherwise; `map_location=` takes what torch's does (a device, a
    dictionary of saved → wanted locations, a function of storage and location). Sharing, views and strides are kept.
    Raises what `open` raises, and `DeviceError` for a device that this machine lacks.

    >>> import io, torch, rehydrate as rh
    >>> buffer = io.BytesIO(); torch.save({"w": torch.ones(2), "epoch": 3}, buffer)
    >>> rh.load(buffer)
    {'w': tensor([1., 1.]), 'epoch': 3}
    """
    _need_torch("load")
    from rehydrate.placing.values import load as load_values

    return load_values(where, device=device, map_location=map_location)


def match(
    where: Given,
    model: Given,
    *,
    rules: Rules = (),
    which: str | None = None,
    allow: Allow | None = None,
) -> Match:
    """Which tensor of a file would go to which of a model, and what does not fit. Nothing is read or moved.

    Either side may be a file, an opened one, a model, or a state dict. What is found by itself: one name and one shape;
    prefixes of wrappers and of models inside models; renames that are known (`gamma` for `weight`, `norm.1` for
    `norm1`, `weight_g` for parametrizations, ...); query, key and value in one tensor or in three. The match says for
    each pair by which rule it was found and whether that is certain, what is missing, unexpected, and of another size.

    `rules` come first: `rehydrate.rules`, or the path of a mapping file that `Match.save` wrote. `allow` forgives what
    it names, and says what it forgave. The match is true when everything fits and a load would do it, and prints
    itself; of a model with loading code of its own it says that this has the last word.

    Raises `AmbiguousError`, `MismatchError` where a rule cannot be applied, and what `open` raises.

    >>> import torch, rehydrate as rh
    >>> found = rh.match({"bert.fc.weight": torch.ones(2, 3)}, {"fc.weight": torch.zeros(2, 3)})
    >>> bool(found), found.pairs[0].rule
    (True, "prefix 'bert.' taken off")
    """
    _need_torch("match")
    from rehydrate.placing.comparing import match as hold_against
    from rehydrate.placing.terms import terms_of

    return hold_against(where, model, terms_of(which, rules, allow))


def load_into(
    model: nn.Module | Mapping[str, object],
    where: Where | Checkpoint,
    *,
    device: Device | None = None,
    dtype: torch.dtype | None = None,
    which: str | None = None,
    rules: Rules = (),
    allow: Allow | None = None,
    mapped: bool = True,
) -> Match:
    """Put a checkpoint into a model that exists: all of it, or an error and the model as it was.

    Containers (`{"state_dict": …}`), wrappers (`module.`, `_orig_mod.`, …) and pickled whole models are seen through,
    names are found as `match` finds them, and the match that comes back says so. Values are read into the parameters
    that exist, and cast to their dtypes, or all floating ones to `dtype`; `device=` moves the model once that has
    succeeded. `which=` names the part of a file that holds several models. `rules` change names and shapes first, and
    `allow` forgives what it names. A model with loading code of its own (hooks, extra state, older layouts) gets what
    its `load_state_dict` makes of the file.

    A model on the meta device gets memory: a private mapping of the file where that is a plain one of this machine
    (then the match says so), and memory of its own with `mapped=False`.

    A dictionary of objects, `{"model": net, "optimizer": optimizer, "scheduler": schedule}`, is filled from the parts
    of a file that have these names: all of them, or none. States of optimizers find their parameters by name, or by
    order where shapes prove it.

    Raises `MismatchError` with names and shapes when they do not fit, or less of the parameters would be filled than
    `allow.coverage`; `AmbiguousError`, `DeviceError`, `RebuildError`, and what `open` raises. Raises `TornLoadError`
    where a load of more than 64 MB fails after writing has begun.

    >>> import io, torch, rehydrate as rh
    >>> buffer = io.BytesIO(); torch.save({"state_dict": torch.nn.Linear(3, 2).state_dict()}, buffer)
    >>> print(rh.load_into(torch.nn.Linear(3, 2), buffer))
    Linear: 2 of 2 tensors fit, 100 % of its parameters
      2 of 2 tensors of the file used
      0 missing, 0 unexpected, 0 of another size
      taken from 'state_dict'
      the model is in training mode; call .eval() before predicting
      weight  by name
      bias    by name
    everything fits
    """
    _need_torch("load_into")
    from rehydrate.placing.into import load_into as put_into

    return put_into(
        model, where, device=device, dtype=dtype, which=which, rules=rules, allow=allow, mapped=mapped
    )  # fmt: skip


def warm_start(
    model: nn.Module,
    where: Where | Checkpoint,
    *,
    device: Device | None = None,
    which: str | None = None,
    rules: Rules = (),
    coverage: float = 0.5,
) -> Match:
    """Take from a checkpoint whatever fits, to go on training from there; the rest of the model stays as it is.

    What `strict=False` is used for, but never in silence: the match says what was taken and what was not, and less than
    `coverage` of the model's parameters is an error. Raises what `load_into` raises.

    >>> import io, torch, rehydrate as rh
    >>> buffer = io.BytesIO(); torch.save(torch.nn.Sequential(torch.nn.Linear(9, 9)).state_dict(), buffer)
    >>> model = torch.nn.Sequential(torch.nn.Linear(9, 9), torch.nn.Linear(9, 2))
    >>> [target.name for target in rh.warm_start(model, buffer).kept]
    ['1.weight', '1.bias']
    """
    from rehydrate.matching.allow import Allow

    allow = Allow(missing="*", unexpected="*", mismatched="*", coverage=coverage)
    return load_into(model, where, device=device, which=which, rules=rules, allow=allow)


def load_model(
    where: Where | Checkpoint,
    model: Callable[..., nn.Module] | nn.Module,
    *,
    args: Sequence[object] = (),
    kwargs: Mapping[str, object] | None = None,
    device: Device | None = None,
    dtype: torch.dtype | None = None,
    which: str | None = None,
    rules: Rules = (),
    allow: Allow | None = None,
    mapped: bool = False,
) -> nn.Module:
    """Build a model from its class (or a factory, or take an instance), fill it, and put it into `eval()` mode.

    The class is yours and is called with `args` and `kwargs`; nothing that the file names is imported. Random numbers
    that the file would overwrite are not drawn; torch's random generator moves on as far as numbers are in use. With
    `mapped=True` the model's memory is a private mapping of the file, where that is a plain one of this machine: it is
    there at once, and lives by the file. Whoever then overwrites that file in place, as `torch.save` does, ends the
    process. What was loaded, what was taken off, and that the model is in `eval()` mode is logged by the logger
    `rehydrate` at level INFO.

    Raises what `load_into` raises, and `RebuildError` if a factory gives something that is no module.

    >>> import io, torch, rehydrate as rh
    >>> buffer = io.BytesIO(); torch.save(torch.nn.Linear(3, 2).state_dict(), buffer)
    >>> rh.load_model(buffer, torch.nn.Linear, args=(3, 2)).training
    False
    """
    _need_torch("load_model")
    from rehydrate.whole.building import load_model as build

    return build(
        where, model, args=args, kwargs=kwargs, device=device, dtype=dtype, which=which, rules=rules, allow=allow,
        mapped=mapped,
    )  # fmt: skip


def save(
    obj: object,
    where: str | os.PathLike[str],
    *,
    format: str | None = None,  # noqa: A002 - the word that everybody uses
    durable: bool = True,
) -> Saved:
    """Save a state dict, a module's state dict, or a plain tree; the old file is replaced whole or not at all.

    By suffix: `.pth .pt .bin .ckpt .tar` a torch zip that `torch.load(weights_only=True)` reads, `.pickle .pkl` a plain
    pickle of plain data. Tensors that share memory are saved on one storage; a view saves what it shows. When the call
    returns, the file is on the disk (`durable=False` skips waiting for that).

    Raises `SaveError` naming the path of anything that is neither a tensor nor plain data, and for everything that the
    system refuses.

    >>> import tempfile, pathlib, rehydrate as rh
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> print(rh.save({"da": 111}, folder / "example.pickle").format)
    pickle
    """
    from rehydrate.writing.save import save as write

    return write(obj, where, format=format, durable=durable)


def audit(where: Where | Checkpoint, *, member: str | None = None) -> Audit:
    """What `torch.load(weights_only=False)`, or `pickle`, would have done with a file. Nothing of it is done.

    The verdict is `data-only`, `needs-code` (classes would have been imported and called), `embeds-code` (the file
    brings code along), `dangerous` (a call reaches programs, files, the network, imports, however it is hidden),
    `malformed` (broken, or readers disagree: never safe) or `not-a-checkpoint`. The audit is true for `data-only` and
    prints what would have been reached, with the byte and the place in the tree. A name that nobody listed needs code.
    Of an archive or a folder everything in it that is a checkpoint is judged; `member` picks one. Whether a model was
    trained to misbehave is not seen. Raises `MissingFileError`.

    >>> import rehydrate as rh
    >>> print(rh.audit(b"cos\\nsystem\\n(S'id'\\ntR."))
    <bytes>: dangerous
      loading it would have done more than load
      dangerous: os.system('id')  runs programs; byte 19
      torch.load(weights_only=True) would refuse it: it is no file that torch.save wrote
      names of os (1 name)
    """
    from rehydrate.checking.audit import audit as judge

    return judge(where, member=member)


def verify(where: Where | Checkpoint, *, member: str | None = None, values: bool = False) -> Verification:
    """Whether a file is as it was written: not cut, its bytes those of the checksums that the writer left, if any.

    Of a file that ends early it names the tensors that are not whole; of one that is damaged, those whose bytes are
    wrong. `values=True` also counts numbers that are NaN or infinite. True when nothing is wrong; prints itself; bytes
    are read in pieces. Raises `MissingFileError`, and `AmbiguousError` where `member` has
    to choose one of several.

    >>> import io, torch, rehydrate as rh
    >>> buffer = io.BytesIO(); torch.save({"a": torch.ones(99), "b": torch.ones(99)}, buffer)
    >>> print(rh.verify(buffer.getvalue()[:1200]).missing)
    ('b',)
    """
    from rehydrate.checking.verify import verify as check

    return check(where, member=member, values=values)


def salvage(where: Where | Checkpoint, to: str | os.PathLike[str]) -> Saved:
    """Save every complete tensor of a file that was cut or damaged, in its place in the tree, into a new file.

    What is not whole, or does not match its checksum, is left out, as are values that are no plain data; the `Saved`
    says what. Raises `TruncatedError` where no tensor is whole, `SaveError` for what the system refuses (nothing is
    written then), and what `open` raises for a file that is broken otherwise.

    >>> import io, torch, tempfile, pathlib, rehydrate as rh
    >>> buffer = io.BytesIO(); torch.save({"a": torch.ones(99), "b": torch.ones(99)}, buffer)
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "left.pth"
    >>> rh.salvage(buffer.getvalue()[:1200], file).missing, list(rh.load(file))
    (('b',), ['a'])
    """
    _need_torch("salvage")
    from rehydrate.placing.values import real_values
    from rehydrate.writing.salvage import salvage as save_what_is_whole

    return save_what_is_whole(where, to, real_values)


def freeze(model: nn.Module, except_: str | Iterable[str] = ()) -> Frozen:
    """Have training leave every parameter as it is (`requires_grad` False), but those whose names meet a glob.

    Globs are those of `Allow` and of rules: `*` crosses dots, `{i}` is a number. Names of wrapped models count with the
    wrapper (`module.`, `_orig_mod.`) and without it. What was excepted is left as it was, and so are batch norms'
    running statistics, which go on changing in train mode: the report says which. A tied parameter stays trainable
    where one of its names is excepted. Raises `MismatchError` for a glob that meets nothing, and `ValueError` for one
    that is no pattern, with every parameter as it was.

    >>> import torch, rehydrate as rh
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    >>> print(rh.freeze(model, except_=["1.*"]))
    Sequential: 2 tensors, 16 numbers, 61.54 % frozen
      trainable: 2 tensors, 10 numbers, 38.46 %: 1.weight, 1.bias
    """
    _need_torch("freeze")
    from rehydrate.placing.freezing import freeze as freeze_all_but

    return freeze_all_but(model, except_)


def param_groups(
    model: nn.Module,
    patterns: Mapping[str, Mapping[str, Any]],
    *,
    weight_decay: float | None = None,
    no_decay: str | Iterable[str] | None = None,
) -> ParamGroups:
    """Parameter groups for any of torch's optimizers: options for parts of a model, by glob.

    The first glob that meets a parameter has it, and every parameter that requires a gradient is in exactly one group.
    `weight_decay` is for all groups that have none of their own; it splits each in two, because biases and parameters
    of one dimension do not decay, or those that `no_decay` names by globs. A group has `params`, `param_names` (from
    torch 2.6 on the optimizer's state knows them) and a `name`. The list prints what went where, and that is logged by
    the logger `rehydrate` at level INFO. LBFGS takes one group only.

    Raises `MismatchError` for a parameter that no glob meets, for a glob that meets none or comes behind one that takes
    all of its parameters, and for a model with nothing to train.

    >>> import torch, rehydrate as rh
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    >>> groups = rh.param_groups(model, {"1.*": {"lr": 1e-2}, "*": {"lr": 1e-3}}, weight_decay=0.05)
    >>> print(groups)
    Sequential: 4 parameters in 4 groups, each in one
      1.*: 1 parameter, 8 numbers; lr=0.01, weight_decay=0.05: 1.weight
      1.* (no decay): 1 parameter, 2 numbers; lr=0.01, weight_decay=0.0: 1.bias
      *: 1 parameter, 12 numbers; lr=0.001, weight_decay=0.05: 0.weight
      * (no decay): 1 parameter, 4 numbers; lr=0.001, weight_decay=0.0: 0.bias
    >>> optimizer = torch.optim.AdamW(groups)
    """
    _need_torch("param_groups")
    from rehydrate.placing.groups import param_groups as grouped

    return grouped(model, patterns, weight_decay=weight_decay, no_decay=no_decay)


def to_device(batch: Batch, model: nn.Module | torch.device | str) -> Batch:
    """Move every tensor in a batch to where a model lives: nested lists, tuples, dictionaries, dataclasses.

    >>> import torch, rehydrate as rh
    >>> rh.to_device({"image": torch.ones(1), "name": "a"}, torch.nn.Linear(1, 1))
    {'image': tensor([1.]), 'name': 'a'}
    """
    _need_torch("to_device")
    from rehydrate.placing.batch import to_device as move

    return move(batch, model)


def _need_torch(verb: str) -> None:
    from importlib.util import find_spec

    if find_spec("torch") is None:
        raise MissingExtraError(f"rehydrate.{verb} needs torch", hint="pip install 'rehydrate[torch]'")
