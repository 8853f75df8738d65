"""Small files and models for matching: names and shapes, and zeros where numbers are needed."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import nn

import rehydrate as rh
from rehydrate.checkpoint.weights import Weights
from rehydrate.matching.match import Target

Shapes = Mapping[str, Sequence[int]]

_COUNTER = "num_batches_tracked"
_BUFFERS = ("running_mean", "running_var", _COUNTER, "weight_u", "position_ids", "inv_freq", "attn_mask", "attn.bias")
_WHOLE = (_COUNTER, "position_ids", "relative_position_index", "token_type_ids", "steps")


def saved(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """A file of torch's."""
    buffer = io.BytesIO()
    torch.save(dict(tensors), buffer)
    return buffer.getvalue()


def weights_of(shapes: Shapes) -> Weights:
    """The weights of a file that holds zeros of these shapes."""
    kinds = {name: torch.int64 if name.endswith(_WHOLE) else torch.float32 for name in shapes}
    return rh.open(
        saved({name: torch.zeros(tuple(shape), dtype=kinds[name]) for name, shape in shapes.items()})
    ).weights()


def targets_of_shapes(shapes: Shapes) -> list[Target]:
    """The tensors of a model that has these shapes. What is called like a buffer is one."""
    return [
        Target(
            name,
            tuple(shape),
            "int64" if name.endswith(_WHOLE) else "float32",
            not name.endswith((*_BUFFERS, *_WHOLE)),
        )
        for name, shape in shapes.items()
    ]


def targets_of_model(model: nn.Module) -> list[Target]:
    """The tensors of a real model."""
    return [
        Target(name, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), isinstance(tensor, nn.Parameter))
        for name, tensor in model.state_dict(keep_vars=True).items()
    ]


def norm(name: str, width: int, leaves: Iterable[str] = ("weight", "bias")) -> dict[str, Sequence[int]]:
    """A batch norm."""
    shapes: dict[str, Sequence[int]] = {f"{name}.{leaf}": (width,) for leaf in (*leaves, "running_mean", "running_var")}
    return shapes | {f"{name}.{_COUNTER}": ()}


def linear(name: str, outputs: int, inputs: int, *, bias: bool = True) -> dict[str, Sequence[int]]:
    """A linear layer."""
    shapes: dict[str, Sequence[int]] = {f"{name}.weight": (outputs, inputs)}
    return shapes | ({f"{name}.bias": (outputs,)} if bias else {})


def resnet(classes: int = 10, channels: int = 3, depth: int = 2) -> dict[str, Sequence[int]]:
    """A small network in torchvision's names."""
    shapes: dict[str, Sequence[int]] = {"conv1.weight": (8, channels, 7, 7), **norm("bn1", 8)}
    for at in range(depth):
        block = f"layer{at + 1}.0"
        for conv in (1, 2):
            shapes |= {f"{block}.conv{conv}.weight": (8, 8, 3, 3), **norm(f"{block}.bn{conv}", 8)}
        shapes |= {f"{block}.downsample.0.weight": (8, 8, 1, 1), **norm(f"{block}.downsample.1", 8)}
    return shapes | linear("fc", classes, 8)


def transformer(depth: int = 2, width: int = 8) -> dict[str, Sequence[int]]:
    """An encoder in torch's names."""
    layer = nn.TransformerEncoderLayer(width, 2, 2 * width)
    return {
        f"layers.{at}.{name}": tuple(tensor.shape) for at in range(depth) for name, tensor in layer.state_dict().items()
    }


def bert(depth: int = 2, width: int = 8) -> dict[str, Sequence[int]]:
    """The names of a BERT of transformers, without its head."""
    shapes: dict[str, Sequence[int]] = {
        "embeddings.word_embeddings.weight": (30, width),
        "embeddings.position_embeddings.weight": (12, width),
        "embeddings.token_type_embeddings.weight": (2, width),
        "embeddings.LayerNorm.weight": (width,),
        "embeddings.LayerNorm.bias": (width,),
    }
    for at in range(depth):
        layer = f"encoder.layer.{at}"
        for part in ("query", "key", "value"):
            shapes |= linear(f"{layer}.attention.self.{part}", width, width)
        shapes |= linear(f"{layer}.attention.output.dense", width, width)
        shapes |= {f"{layer}.attention.output.LayerNorm.{leaf}": (width,) for leaf in ("weight", "bias")}
        shapes |= linear(f"{layer}.intermediate.dense", 2 * width, width)
        shapes |= linear(f"{layer}.output.dense", width, 2 * width)
        shapes |= {f"{layer}.output.LayerNorm.{leaf}": (width,) for leaf in ("weight", "bias")}
    return shapes | linear("pooler.dense", width, width)


def google_bert(depth: int = 2, width: int = 8) -> dict[str, Sequence[int]]:
    """The same as TensorFlow has it: scopes, kernels with their inputs first, and Adam beside every variable."""
    found: dict[str, Sequence[int]] = {}
    for name, shape in bert(depth, width).items():
        name = "bert/" + name.replace("encoder.layer.", "encoder.layer_").replace(".", "/")
        name = name.replace("LayerNorm/weight", "LayerNorm/gamma").replace("LayerNorm/bias", "LayerNorm/beta")
        if name.endswith("_embeddings/weight"):
            name = name.removesuffix("/weight")
        elif name.endswith("/weight"):
            name, shape = name.removesuffix("weight") + "kernel", tuple(shape)[::-1]
        found |= {name: shape, f"{name}/adam_m": shape, f"{name}/adam_v": shape}
    return found | {"global_step": ()}


def under(prefix: str, shapes: Shapes) -> dict[str, Sequence[int]]:
    """The same names behind a prefix."""
    return {prefix + name: shape for name, shape in shapes.items()}


def without(shapes: Shapes, *endings: str) -> dict[str, Sequence[int]]:
    """All but the names that end so."""
    return {name: shape for name, shape in shapes.items() if not name.endswith(endings)}


def replaced(shapes: Shapes, *pairs: tuple[str, str]) -> dict[str, Sequence[int]]:
    """The same with other words in the names."""
    found = dict(shapes)
    for old, new in pairs:
        found = {name.replace(old, new): shape for name, shape in found.items()}
    return found
