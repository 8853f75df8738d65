"""The shapes that people's checkpoints have: one model in each, under wrappers and in containers of every kind.

Every maker takes a model and gives what somebody saved of it. What `weights()` must give is the model's own
`state_dict()`: its names, in its order, and its memory. Wrappers are torch's own where torch can make them here.
"""

from __future__ import annotations

import argparse
from collections import OrderedDict
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from .kinds import Trainer, optimizer

Model = nn.Module
Maker = Callable[[Model], Any]


class Holder(nn.Module):
    """Somebody's module that calls what it holds as a wrapper would, and is none."""

    def __init__(self, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)


class Ema:
    """An average of a model's weights, as trainers keep it: an object that is saved with the rest."""

    def __init__(self, model: Model | None = None, shadow: dict[str, Any] | None = None) -> None:
        self.decay = 0.999
        self.ema = model
        self.shadow = shadow


def before(prefix: str, model: Model) -> dict[str, Any]:
    """The state dict with something before every name, and torch's `_metadata` with it."""
    whole = OrderedDict((prefix + name, value) for name, value in model.state_dict().items())
    versions = model.state_dict()._metadata  # type: ignore[attr-defined]
    whole._metadata = OrderedDict(  # type: ignore[attr-defined]
        ((prefix + name).removesuffix("." if not name else ""), version) for name, version in versions.items()
    )
    return whole


def inside(mark: str, part: str, model: Model) -> dict[str, Any]:
    """The state dict with a wrapper around one part of the model."""
    return OrderedDict(
        (name.replace(f"{part}.", f"{part}.{mark}.", 1) if name.startswith(f"{part}.") else name, value)
        for name, value in model.state_dict().items()
    )


def lightning(state: dict[str, Any], **more: object) -> dict[str, Any]:
    """What Lightning's Trainer writes."""
    return {
        "epoch": 3,
        "global_step": 1200,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": state,
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'loss'}": {"best_model_score": torch.tensor(0.25)}},
        "optimizer_states": [optimizer().state_dict()],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {"lr": 0.1},
        **more,
    }


def nested(model: Model) -> dict[str, Any]:
    """The state dict with a level of dictionaries for every dot."""
    tree: dict[str, Any] = {}
    for name, value in model.state_dict().items():
        *levels, leaf = name.split(".")
        place = tree
        for level in levels:
            place = place.setdefault(level, {})
        place[leaf] = value
    return tree


def compiled(model: Model) -> Model:
    """The wrapper that `torch.compile` puts around a model; nothing is compiled before it is called."""
    return torch.compile(model, backend="eager")  # type: ignore[return-value]


def slots() -> dict[str, Any]:
    return optimizer().state_dict()


BARE: dict[str, Maker] = {
    "a bare dictionary": lambda net: dict(net.state_dict()),
    "an OrderedDict with versions": lambda net: net.state_dict(),
    "parameters, not tensors": lambda net: {
        name: nn.Parameter(value, False) for name, value in net.state_dict().items()
    },
    "keep_vars": lambda net: net.state_dict(keep_vars=True),
    "tied weights beside themselves": lambda net: net.state_dict(),
}

CONTAINED: dict[str, Maker] = {
    "state_dict": lambda net: {"state_dict": net.state_dict()},
    "model": lambda net: {"model": net.state_dict()},
    "net": lambda net: {"net": net.state_dict(), "acc": 91.5, "epoch": 7},
    "network": lambda net: {"network": net.state_dict()},
    "weights": lambda net: {"weights": net.state_dict()},
    "params": lambda net: {"params": net.state_dict()},
    "params_ema alone": lambda net: {"params_ema": net.state_dict()},
    "a generator, and no discriminator": lambda net: {"generator": net.state_dict(), "optimizer_d": slots()},
    "the tutorial's": lambda net: {
        "epoch": 5, "model_state_dict": net.state_dict(), "optimizer_state_dict": slots(), "loss": torch.tensor(0.4),
    },
    "the ImageNet example's": lambda net: {
        "epoch": 90, "arch": "resnet18", "state_dict": nn.DataParallel(net).state_dict(),
        "best_acc1": torch.tensor(69.8), "optimizer": slots(), "scheduler": {"last_epoch": 90},
    },
    "torchvision's": lambda net: {
        "model": net.state_dict(), "optimizer": slots(), "lr_scheduler": {"base_lrs": [0.1]},
        "args": argparse.Namespace(lr=0.1), "scaler": {"scale": torch.tensor(65536.0), "_growth_tracker": 0},
    },
    "timm's": lambda net: {
        "epoch": 3, "arch": "vit", "state_dict": net.state_dict(), "optimizer": slots(), "version": 2,
        "args": argparse.Namespace(model="vit"), "amp_scaler": {"scale": 65536.0}, "metric": 81.2,
    },
    "MMCV's": lambda net: {"meta": {"epoch": 12}, "state_dict": net.state_dict(), "optimizer": slots()},
    "fairseq's": lambda net: {
        "args": argparse.Namespace(arch="roberta"), "model": net.state_dict(),
        "optimizer_history": [{"num_updates": 1000}], "extra_state": {"epoch": 2}, "last_optimizer_state": slots(),
    },
    "detectron2's": lambda net: {
        "model": net.state_dict(), "optimizer": slots(), "scheduler": {"last_epoch": 1}, "iteration": 9999,
        "__author__": "somebody",
    },
    "DeepSpeed's": lambda net: {
        "module": net.state_dict(), "buffer_names": [], "optimizer": None, "param_shapes": [], "lr_scheduler": None,
        "ds_version": "0.14.0", "global_steps": 10, "dp_world_size": 8,
    },
    "Accelerate's, with generator states": lambda net: {
        "model": net.state_dict(), "random_states": {"torch": torch.get_rng_state(), "cuda": [torch.get_rng_state()]},
    },
    "two levels": lambda net: {"checkpoint": {"model": net.state_dict(), "step": 3}},
    "three levels": lambda net: {"run": {"best": {"net": net.state_dict()}}, "config": {"lr": 0.1}},
    "None beside it": lambda net: {"state_dict": None, "model": net.state_dict(), "ema": None},
    "an empty average": lambda net: {"model": net.state_dict(), "model_ema": {}},
    "a list": lambda net: [net.state_dict(), slots()],
    "a tuple": lambda net: (net.state_dict(), 5),
    "a list in a dictionary": lambda net: {"models": [net.state_dict()], "epoch": 3},
    "a list of optimizer states": lambda net: {"model": net.state_dict(), "optimizers": [slots(), slots()]},
    "an optimizer, flattened": lambda net: {
        "model": net.state_dict(), "optimizer": {"state.fc.weight.exp_avg": torch.zeros(3, 4)},
    },
    "constants of the data": lambda net: {
        "model": net.state_dict(), "data": {"mean": torch.zeros(3), "std": torch.ones(3)},
    },
    "a loss with class weights": lambda net: {
        "model": net.state_dict(), "criterion": nn.CrossEntropyLoss(torch.ones(3)),
    },
    "a loss with prototypes": lambda net: {"model": net.state_dict(), "arc_loss": {"weight": torch.ones(3, 4)}},
    "a replay memory": lambda net: {
        "policy": net.state_dict(), "replay": {"obs": torch.zeros(9, 4), "actions": torch.zeros(9, 2)},
    },
    "pos_weight and a queue": lambda net: {
        "model": net.state_dict(), "pos_weight": torch.ones(3), "queue": torch.zeros(4, 16), "step": 3,
    },
    "itself under two names": lambda net: dict.fromkeys(("state_dict", "best_state_dict"), net.state_dict()),
    "an average without names": lambda net: {
        "model": net.state_dict(),
        "ema": {"decay": 0.99, "num_updates": 5, "shadow_params": [value.clone() for value in net.parameters()]},
    },
}  # fmt: skip

WRAPPED: dict[str, Maker] = {
    "DataParallel": lambda net: nn.DataParallel(net).state_dict(),
    "DataParallel in DataParallel": lambda net: nn.DataParallel(nn.DataParallel(net)).state_dict(),
    "torch.compile": lambda net: compiled(net).state_dict(),
    "torch.compile of DataParallel": lambda net: compiled(nn.DataParallel(net)).state_dict(),
    "DataParallel of torch.compile": lambda net: nn.DataParallel(compiled(net)).state_dict(),
    "torch.compile of one layer": lambda net: inside("_orig_mod", "conv", net),
    "FSDP": lambda net: before("_fsdp_wrapped_module.", net),
    "FSDP of torch 1.11": lambda net: before("_fsdp_wrapped_module._fpw_module.", net),
    "FSDP inside": lambda net: inside("_fsdp_wrapped_module", "norm", net),
    "activation checkpointing": lambda net: inside("_checkpoint_wrapped_module", "conv", net),
    "FSDP around checkpointing in DDP": lambda net: {
        "module." + name: value
        for name, value in inside("_fsdp_wrapped_module._checkpoint_wrapped_module", "fc", net).items()
    },
    "Lightning's strategies": lambda net: before("_forward_module.", net),
    "Opacus": lambda net: before("_module.", net),
    "AveragedModel": lambda net: AveragedModel(net).state_dict(),
    "AveragedModel of DataParallel": lambda net: {"swa_state": AveragedModel(nn.DataParallel(net)).state_dict()},
    "AveragedModel in DataParallel": lambda net: nn.DataParallel(AveragedModel(net)).state_dict(),
    "Lightning": lambda net: lightning(before("model.", net)),
    "Lightning before 0.7": lambda net: {
        "epoch": 1, "state_dict": before("model.", net), "optimizer_states": [slots()], "lr_schedulers": [],
    },
    "Lightning with a compiled model": lambda net: lightning(before("model._orig_mod.", net)),
    "Lightning with a loss": lambda net: lightning(
        {"criterion.weight": torch.ones(3), **before("model.", net), "val_metrics.acc.total": torch.tensor(3)}
    ),
    "Lightning in FSDP": lambda net: lightning(before("_forward_module._fsdp_wrapped_module.model.", net)),
    "DeepSpeed of DDP": lambda net: {"module": before("module.", net), "global_steps": 3},
}  # fmt: skip

PICKLED: dict[str, Maker] = {
    "a whole module": lambda net: net,
    "a whole module in a container": lambda net: {"model": net, "epoch": 3, "optimizer": optimizer()},
    "a whole module in DataParallel": lambda net: nn.DataParallel(net),
    "a whole module that was compiled": lambda net: {"model": compiled(net)},
    "a whole AveragedModel": lambda net: AveragedModel(net),
    "Ultralytics': the average is all that is left": lambda net: {
        "epoch": -1, "model": None, "ema": net, "updates": 12, "optimizer": None, "train_args": {"lr0": 0.01},
    },
    "Ultralytics': no average": lambda net: {"model": net, "ema": None, "updates": None},
    "a module beside its state dict": lambda net: {"net": net, "state_dict": net.state_dict()},
    "a trainer": lambda net: _trainer(net),
    "an average in an object, and nothing else": lambda net: {"ema": Ema(net), "epoch": 3},
}  # fmt: skip


def _trainer(net: Model) -> Trainer:
    trainer = Trainer()
    trainer.model = net  # type: ignore[assignment]
    return trainer


NESTED: dict[str, Maker] = {
    "levels instead of dots": nested,
    "levels in a container": lambda net: {"step": 3, "params": nested(net)},
    "levels beside an optimizer": lambda net: {"weights": nested(net), "opt_state": {"0": {"mu": nested(net)}}},
}

ONE_MODEL: dict[str, Maker] = {**BARE, **CONTAINED, **WRAPPED, **PICKLED, **NESTED}
"""Files of one model: `weights()` is its state dict."""


def _other(model: Model) -> dict[str, Any]:
    """The same names with other values."""
    return OrderedDict((name, value.clone() + 1) for name, value in model.state_dict().items())


SEVERAL_MODELS: dict[str, tuple[Maker, tuple[str, ...]]] = {
    "raw and average": (lambda net: {"model": net.state_dict(), "ema": _other(net)}, ("model", "ema")),
    "timm's raw and average": (
        lambda net: {"state_dict": net.state_dict(), "state_dict_ema": _other(net), "epoch": 3},
        ("state_dict", "state_dict_ema"),
    ),
    "BasicSR's": (lambda net: {"params": net.state_dict(), "params_ema": _other(net)}, ("params", "params_ema")),
    "torchvision's": (lambda net: {"model": net.state_dict(), "model_ema": AveragedModel(net).state_dict()}, ()),
    "swa_model": (lambda net: {"model": net.state_dict(), "swa_model": _other(net)}, ("model", "swa_model")),
    "StyleGAN's": (
        lambda net: {"g": net.state_dict(), "d": nn.Linear(3, 1).state_dict(), "g_ema": _other(net), "latent_avg": 0},
        ("g", "d", "g_ema"),
    ),
    "netG and netD": (lambda net: {"netG": net.state_dict(), "netD": _other(net)}, ("netG", "netD")),
    "teacher and student": (
        lambda net: {"student": net.state_dict(), "teacher": _other(net), "dino_loss": {"center": torch.zeros(1, 9)}},
        ("student", "teacher"),
    ),
    "encoder and decoder": (lambda net: {"encoder": net.state_dict(), "decoder": _other(net)}, ("encoder", "decoder")),
    "an ensemble": (lambda net: {"0": net.state_dict(), "1": _other(net)}, ("0", "1")),
    "models in a container": (
        lambda net: {"models": {"a": net.state_dict(), "b": _other(net)}},
        ("models.a", "models.b"),
    ),
    "a list of two": (lambda net: [net.state_dict(), _other(net)], ("[0]", "[1]")),
    "two whole modules": (
        lambda net: {"model": net, "ema": nn.DataParallel(Holder(net=nn.Linear(2, 2)))},
        ("model", "ema"),
    ),
    "levels, twice": (lambda net: {"model": nested(net), "ema_model": nested(deepcopy(net))}, ()),
    "an average in an object": (
        lambda net: {"model": net.state_dict(), "ema": Ema(shadow=_other(net))},
        ("model", "ema.shadow"),
    ),
    "an average in a callback": (
        lambda net: lightning(before("model.", net), callbacks={"EMACallback": {"weights": _other(net)}}),
        ("state_dict", "callbacks.EMACallback.weights"),
    ),
    "Lightning's own average": (
        lambda net: lightning(before("model.", net), current_model_state=_other(net)),
        ("state_dict", "current_model_state"),
    ),
}  # fmt: skip
"""Files of several models, and the names that `which=` takes for each."""
