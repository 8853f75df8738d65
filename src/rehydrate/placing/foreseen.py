"""What a load would refuse although names and shapes fit, found before anything is touched.

Values that a tensor of the model cannot hold, parameters that would be left on the meta device, layers that cannot
begin anew. `rh.match` says it, and a load raises it. Reads nothing and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import nn

from rehydrate.errors import MismatchError, RebuildError
from rehydrate.matching.computed import COUNTER
from rehydrate.matching.match import Match
from rehydrate.placing.targets import check_kinds, every_tensor
from rehydrate.text import counted, listed, shown

__all__ = ["counters_on_meta", "left_on_meta", "modules_anew", "nothing_behind", "refusals"]


def refusals(model: nn.Module, present: Mapping[str, torch.Tensor], match: Match, *, kinds: bool) -> Iterator[str]:
    """What a load would raise, in sentences; `kinds` where values are copied as they are."""
    filled = [present[pair.target.name] for pair in match.pairs]
    try:
        modules_anew(model, match)
        left_on_meta(every_tensor(model), [*filled, *counters_on_meta(present, match)])
    except RebuildError as error:
        yield f"{error.what}: {error.found}"
    for pair in match.pairs if kinds else ():
        if pair.source.dtype.kind == "quantized":
            yield f"{shown(pair.target.name)} holds {pair.source.dtype} numbers, without what they stand for"
            continue
        try:
            check_kinds(pair.target.name, pair.source.dtype.name, pair.target.dtype)
        except MismatchError as error:
            yield error.what


def nothing_behind(match: Match, present: Mapping[str, torch.Tensor]) -> Iterator[str]:
    """Tensors of the meta device that are filled in part: they have no values of their own for the rest."""
    names = [pair.target.name for pair in match.pairs if pair.part and present[pair.target.name].is_meta]
    if names:
        some = listed([shown(name) for name in names], 4)
        yield f"zeros where the file has nothing, the model being on the meta device: {some}"


def counters_on_meta(present: Mapping[str, torch.Tensor], match: Match) -> list[torch.Tensor]:
    """Counters that an old checkpoint lacks: they begin at nought where the model has none yet."""
    filled = {pair.target.name for pair in match.pairs}
    left = (name for name, tensor in present.items() if tensor.is_meta and name not in filled)
    return [present[name] for name in left if name.endswith(COUNTER)]


def left_on_meta(every: Mapping[str, torch.Tensor], filled: Iterable[torch.Tensor]) -> list[str]:
    """Buffers on the meta device that nothing fills, by name. Raises `RebuildError` where a parameter is left there."""
    known = {id(tensor) for tensor in filled}
    left = {name: tensor for name, tensor in every.items() if tensor.is_meta and id(tensor) not in known}
    learned = [name for name, tensor in left.items() if isinstance(tensor, nn.Parameter)]
    if learned:
        raise RebuildError(
            f"the model is on the meta device, and the checkpoint does not hold {counted(len(learned), 'parameter')} "
            "of it",
            found=listed([shown(name) for name in learned]),
            hint="build the model on the CPU",
        )
    return list(left)


def modules_anew(model: nn.Module, match: Match) -> dict[str, nn.Module]:
    """The modules that are to be initialised anew, by path. Raises `RebuildError` where one does not know how."""
    paths = dict.fromkeys(name.rpartition(".")[0] for name in match.reinitialised)
    modules = {path: model.get_submodule(path) for path in paths}
    helpless = [path for path, module in modules.items() if not callable(getattr(module, "reset_parameters", None))]
    if helpless:
        raise RebuildError(
            f"{counted(len(helpless), 'module')} cannot be initialised anew: no reset_parameters()",
            found=listed([f"{shown(path)} ({type(modules[path]).__name__})" for path in helpless]),
            hint="how='keep' leaves what the constructor made",
        )
    return modules
