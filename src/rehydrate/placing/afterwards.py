"""When all is written: real tensors for those of the meta device, and what somebody should know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from rehydrate.dtypes import BY_NAME
from rehydrate.matching.match import Match
from rehydrate.placing.dtypes import dtype_of
from rehydrate.text import counted

__all__ = ["cast_floating", "like", "replace_tensors", "told_after"]


def like(tensor: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
    """What takes a tensor's place: a parameter for a parameter."""
    return nn.Parameter(made, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else made


def replace_tensors(model: nn.Module, made: Mapping[int, torch.Tensor]) -> None:
    """Put real tensors where those of the meta device were, by their `id`."""
    for module in model.modules() if made else ():
        tables: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
        for table in tables:
            table.update({leaf: made[id(tensor)] for leaf, tensor in table.items() if id(tensor) in made})


def cast_floating(model: nn.Module, dtype: torch.dtype) -> None:
    """Every floating tensor of a model as another type; `Module.to` would make real numbers of complex ones, too."""

    def cast(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(dtype) if tensor.dtype.is_floating_point else tensor

    model._apply(cast)  # type: ignore[no-untyped-call]


def told_after(model: nn.Module, match: Match, dtype: torch.dtype | None) -> Iterator[str]:
    """What somebody should know now."""
    cast = [
        (pair.source.dtype.name, wanted)
        for pair in match.pairs
        if pair.source.dtype.name != (wanted := _final(pair.target.dtype, dtype))
    ]
    if cast:
        yield f"{counted(len(cast), 'tensor')} cast, such as {cast[0][0]} to {cast[0][1]}"
    if model.training:
        yield "the model is in training mode; call .eval() before predicting"


def _final(dtype: str, wanted: torch.dtype | None) -> str:
    """What a tensor of the model is in the end."""
    return dtype_of(wanted).name if wanted is not None and BY_NAME[dtype].kind == "float" else dtype
