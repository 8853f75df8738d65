"""The two networks that were published under one name, our trained weights for each, and telling them apart.

Both give log-probabilities, `[N, 10]`, for pictures `[N, 1, 28, 28]` that went through ToTensor and
Normalize(0.1307, 0.3081): white ink on black. Which network a file is for is told by its shapes alone, after containers
and wrappers were taken off; nothing is ever guessed from a file's name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.weights import Weights
from rehydrate.errors import AmbiguousError, MismatchError, NoSuchTensorError
from rehydrate.formats.opening import opened
from rehydrate.matching.match import Target, match_weights
from rehydrate.placing.devices import Device, resolve
from rehydrate.placing.into import load_into
from rehydrate.storage.source import Where
from rehydrate.text import counted, dimensions, listed, nearest, shown
from rehydrate.zoo.mnist.shapes import LARGE, SMALL, Shapes

__all__ = [
    "ConvNet", "ConvNet2017", "Net", "build", "checked_name", "load_network", "name_of", "normalised", "outputs_of",
    "weights",
]  # fmt: skip

Net = Literal["large", "small"]
"""The generation: `large` is `ConvNet`, `small` is `ConvNet2017`."""
MEAN, DEVIATION = 0.1307, 0.3081
"""Of the training digits' pixels, from 0 to 1, as everybody normalises them."""


class ConvNet(nn.Module):
    """The network of 2019: convolution, ReLU, pool, twice; 800 → 500 → 10. 431,080 parameters.

    >>> ConvNet().eval()(torch.zeros(2, 1, 28, 28)).exp().sum(1).round(decimals=5)
    tensor([1., 1.], grad_fn=...)
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5, 1)
        self.conv2 = nn.Conv2d(20, 50, 5, 1)
        self.fc1 = nn.Linear(4 * 4 * 50, 500)
        self.fc2 = nn.Linear(500, 10)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Log-probabilities `[N, 10]` of pictures `[N, 1, 28, 28]`."""
        x = functional.max_pool2d(functional.relu(self.conv1(pictures)), 2, 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2, 2)
        # Flattened picture by picture: pictures of another size are an error and do not run into each other.
        x = functional.relu(self.fc1(x.flatten(1)))
        return functional.log_softmax(self.fc2(x), dim=1)


class ConvNet2017(nn.Module):
    """The network of 2017: convolution, pool, ReLU, twice, with dropout; 320 → 50 → 10. 21,840 parameters.

    >>> sum(parameter.numel() for parameter in ConvNet2017().parameters())
    21840
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, kernel_size=5)
        self.conv2 = nn.Conv2d(10, 20, kernel_size=5)
        self.conv2_drop = nn.Dropout2d()
        self.fc1 = nn.Linear(320, 50)
        self.fc2 = nn.Linear(50, 10)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Log-probabilities `[N, 10]` of pictures `[N, 1, 28, 28]`."""
        x = functional.relu(functional.max_pool2d(self.conv1(pictures), 2))
        x = functional.relu(functional.max_pool2d(self.conv2_drop(self.conv2(x)), 2))
        x = functional.relu(self.fc1(x.flatten(1)))
        x = functional.dropout(x, training=self.training)
        return functional.log_softmax(self.fc2(x), dim=1)


_CLASSES: dict[str, type[nn.Module]] = {"large": ConvNet, "small": ConvNet2017}
_SHAPES: dict[str, Shapes] = {"large": LARGE, "small": SMALL}


def build(net: str) -> nn.Module:
    """A new, untrained network of that generation; `ValueError` for any other word."""
    return _CLASSES[checked_name(net)]()


def name_of(network: nn.Module) -> str | None:
    """`large` or `small` if a module is one of the two."""
    return next((name for name, kind in _CLASSES.items() if type(network) is kind), None)


def weights(size: Net) -> Path:
    """The file of trained weights that ships with the package, a plain state dict.

    Made by `rehydrate train mnist`; the commands are in `zoo.mnist.training`. Raises `ValueError` for any other word.

    >>> weights("large").name
    'large.pth'
    """
    return Path(__file__).with_name(f"{checked_name(size)}.pth")


def normalised(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures `[N, 28, 28]`, 0 to 1, as the networks take them: `[N, 1, 28, 28]`, ToTensor and Normalize."""
    return ((pictures - MEAN) / DEVIATION).unsqueeze(1)


@torch.inference_mode()
def outputs_of(network: nn.Module, pictures: torch.Tensor) -> torch.Tensor:
    """What a network, of anybody's, gives for pictures, uint8 `[N, 28, 28]`: `[N, 10]`, where the network is.

    Raises `MismatchError` for a network that does not give ten numbers a picture.
    """
    weight = next(network.parameters(), torch.zeros(()))
    outputs = network(normalised(pictures.float() / 255).to(weight.device, weight.dtype))
    shape = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else ()
    if shape != (len(pictures), 10):
        found = dimensions(shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
        raise MismatchError("the network does not give ten numbers a picture", found=found)
    ten: torch.Tensor = outputs
    return ten


def load_network(model: Where | Checkpoint | nn.Module | None = None, *, device: Device | None = None) -> nn.Module:
    """A network that reads digits, filled and in `eval()` mode.

    None is ours, the large one; a module is used as it is; anything that `rehydrate.open` takes is filled into
    whichever of the two networks it is for. Raises `MismatchError` for a checkpoint of another model, `AmbiguousError`
    for one of several, `DeviceError`, and what `rehydrate.open` raises.

    >>> load_network(weights("small"))
    ConvNet2017(...)
    """
    if isinstance(model, nn.Module):
        network = model if device is None else model.to(resolve(device))
        return network.eval()
    if device is not None:
        resolve(device)  # before anything is read: a device that is not there is known at once
    where = weights("large") if model is None else model
    with opened(where) as checkpoint:
        network = build(_told_by_shapes(checkpoint))
        load_into(network, checkpoint, device=device)
    return network.eval()


def checked_name(net: str) -> str:
    """The word itself if one of the two networks is called so; `ValueError` for any other."""
    if net in _CLASSES:
        return net
    near = nearest(net, _CLASSES) if isinstance(net, str) else None
    guess = f"; did you mean {near!r}?" if near else ""
    raise ValueError(f"the networks are called {' and '.join(map(repr, _CLASSES))}, not {shown(repr(net))}{guess}")


def _told_by_shapes(checkpoint: Checkpoint) -> str:
    """The network whose names and shapes the model in a checkpoint has, all of them and no others."""
    name = shown(checkpoint.source.name)
    try:
        found = checkpoint.weights()
    except NoSuchTensorError as error:
        raise MismatchError(
            "this is no MNIST network: it holds no model's tensors", where=name, hint=_needs()
        ) from error
    except AmbiguousError as error:
        raise AmbiguousError(
            error.what,
            where=name,
            found=error.found,
            hint="rh.load_into(mnist.ConvNet(), file, which=...) fills a network with one of them; give that",
        ) from error
    shapes = {key: tuple(ref.shape) for key, ref in found.items()}
    for net, wanted in _SHAPES.items():
        if shapes == dict(wanted):
            return net
    raise MismatchError("this is neither of the two MNIST networks", where=name, found=_compared(found), hint=_needs())


def _compared(found: Weights) -> str:
    """What a checkpoint holds, and what is wrong with it for the network that it is nearer to."""
    tensors = listed([f"{shown(key)} {dimensions(ref.shape)}" for key, ref in found.items()], 8)
    matches = [
        match_weights(found, [Target(key, shape, "float32", True) for key, shape in wanted.items()], kind.__name__)
        for kind, wanted in zip(_CLASSES.values(), _SHAPES.values(), strict=True)
    ]
    nearer = max(matches, key=lambda match: len(match.pairs))
    return f"{counted(len(found), 'tensor')}: {tensors}" + (f"\n{nearer}" if nearer.pairs else "")


def _needs() -> str:
    """What a file of either network holds."""
    return "\n".join(
        f"{_CLASSES[net].__name__} ({net}) needs "
        + ", ".join(f"{key} {dimensions(shape)}" for key, shape in shapes.items())
        for net, shapes in _SHAPES.items()
    )
