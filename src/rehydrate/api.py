"""The verbs, in one place: the table of contents of the library.

Each is a few lines over the floor that does the work. Importing this file loads no torch; calling a verb that needs
tensors does, which is why the imports of those floors stand inside the functions.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

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
    from rehydrate.matching.match import Match
    from rehydrate.placing.devices import Device, MapLocation
    from rehydrate.writing.save import Saved

__all__ = ["audit", "load", "load_into", "load_model", "open", "salvage", "save", "to_device", "verify"]

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


def load_into(
    model: nn.Module,
    where: Where | Checkpoint,
    *,
    device: Device | None = None,
    which: str | None = None,
) -> Match:
    """Put a checkpoint into a model that exists: all of it, or an error and the model as it was.

    Containers (`{"state_dict": …}`), wrappers (`module.`, `_orig_mod.`, …) and pickled whole models are seen through,
    and the match that comes back says so. Values are copied into the existing parameters, cast to their dtypes;
    `device=` moves the model once that has succeeded. `which=` names the part of a file that holds several models. A
    model with loading code of its own (hooks, extra state, older layouts) gets what its `load_state_dict` makes of the
    file.

    Raises `MismatchError` with names and shapes when they do not fit, `AmbiguousError`, `DeviceError`, and what `open`
    raises.

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

    return put_into(model, where, device=device, which=which)


def load_model(
    where: Where | Checkpoint,
    model: Callable[..., nn.Module] | nn.Module,
    *,
    args: Sequence[object] = (),
    kwargs: Mapping[str, object] | None = None,
    device: Device | None = None,
    which: str | None = None,
) -> nn.Module:
    """Build a model from its class (or a factory, or take an instance), fill it, and put it into `eval()` mode.

    The class is yours and is called with `args` and `kwargs`; nothing that the file names is imported. What was loaded,
    what was taken off and that the model is in `eval()` mode is logged by the logger `rehydrate` at level INFO.

    Raises what `load_into` raises, and `RebuildError` if a factory gives something that is no module.

    >>> import io, torch, rehydrate as rh
    >>> buffer = io.BytesIO(); torch.save(torch.nn.Linear(3, 2).state_dict(), buffer)
    >>> rh.load_model(buffer, torch.nn.Linear, args=(3, 2)).training
    False
    """
    _need_torch("load_model")
    from rehydrate.whole.building import load_model as build

    return build(where, model, args=args, kwargs=kwargs, device=device, which=which)


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
