"""What people run into when they load somebody else's file, as a table: the file, the model, the call, what is said.

Each is loaded for real. Asserted are lines of the report, the verdict, and what is in the model afterwards; where the
answer is no, the error's text and that nothing has changed. Those of names and shapes alone are in `tests/matching`.
"""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn

import rehydrate as rh
from rehydrate.rules import Prefix, Rename, Transpose

State = Mapping[str, Any]


def saved(obj: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(obj, buffer)
    return buffer.getvalue()


def state(**shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """Tensors of these shapes, `__` for dots, each of numbers of its own."""
    torch.manual_seed(len(shapes))
    return {name.replace("__", "."): torch.randn(shape) for name, shape in shapes.items()}


class Tree(nn.Module):
    """A module tree of parameters by dotted names; names that end in `mean` or `ids` are buffers."""

    def __init__(self, **shapes: tuple[int, ...]) -> None:
        super().__init__()
        for spelled, shape in shapes.items():
            *path, leaf = spelled.split("__")
            module: nn.Module = self
            for part in path:
                if part not in module._modules:
                    module.add_module(part, nn.Module())
                module = module._modules[part]  # type: ignore[assignment]
            if leaf.endswith(("mean", "ids")):
                module.register_buffer(leaf, torch.zeros(shape))
            else:
                module.register_parameter(leaf, nn.Parameter(torch.zeros(shape)))


BODY = {"conv1__weight": (4, 3, 3, 3), "layer1__0__weight": (4, 4, 3, 3), "layer1__0__bias": (4,)}
HEAD = {"fc__weight": (10, 4), "fc__bias": (10,)}
NET = {**BODY, **HEAD}


def wrapped(prefix: str, tensors: State) -> dict[str, Any]:
    return {prefix + name: value for name, value in tensors.items()}


@dataclass(frozen=True)
class Situation:
    """One of them. `filled` maps names of the model to those of the file's state, for all that must be equal."""

    file: object
    model: nn.Module
    says: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    error: type[Exception] | None = None
    check: Callable[[nn.Module, Any], bool] = lambda model, file: True


def all_filled(model: nn.Module, file: State) -> bool:
    own = model.state_dict()
    return all(torch.equal(own[name], file[name]) for name in own)


def body_filled(model: nn.Module, file: State) -> bool:
    own = model.state_dict()
    return all(torch.equal(own[name.replace("__", ".")], file[name.replace("__", ".")]) for name in BODY)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 3)
        self.head = nn.Linear(3, 7, bias=False)
        self.head.weight = self.embed.weight


def forgiven(**kwargs: Any) -> dict[str, Any]:
    return {"allow": rh.Allow(**kwargs)}


NORM = {"body__weight": (6, 6), "norm__weight": (6,), "norm__bias": (6,), "norm__running_mean": (6,)}

SITUATIONS: dict[str, Callable[[], Situation]] = {
    # Wrappers and containers: pains 1 to 3.
    "DataParallel around what was saved": lambda: Situation(
        wrapped("module.", state(**NET)), Tree(**NET), ("prefix 'module.' (DataParallel) taken off 5 of 5 names",
        "everything fits")),
    "DataParallel around the model": lambda: Situation(
        state(fc__weight=(2, 3), fc__bias=(2,)), nn.DataParallel(nn.Sequential(OrderedDict(fc=nn.Linear(3, 2)))),
        ("the model is wrapped; its prefix 'module.' was put before every name", "everything fits")),
    "compiled, then parallel": lambda: Situation(
        wrapped("_orig_mod.module.", state(**NET)), Tree(**NET), ("_orig_mod", "5 of 5 tensors", "everything fits")),
    "a container with an optimizer": lambda: Situation(
        {"epoch": 3, "state_dict": state(**NET), "optimizer": {"state": {}, "param_groups": []}}, Tree(**NET),
        ("taken from 'state_dict'", "everything fits")),
    "raw and averaged": lambda: Situation(
        {"model": state(**NET), "ema": state(**NET)}, Tree(**NET), ("there are 2 models in this file", "which="),
        error=rh.AmbiguousError),
    "raw and averaged, chosen": lambda: Situation(
        {"model": state(**NET), "ema": state(**NET)}, Tree(**NET), ("everything fits",), {"which": "ema"}),
    # Heads and sizes: pain 4.
    "another number of classes": lambda: Situation(
        state(**NET), Tree(**{**NET, "fc__weight": (3, 4), "fc__bias": (3,)}),
        ("size mismatch for fc.weight: the checkpoint has [10, 4], the model [3, 4]", "Error(s) in loading state_dict",
        "Allow(mismatched=['fc.*'])"), error=rh.MismatchError),
    "another number of classes, kept": lambda: Situation(
        state(**NET), Tree(**{**NET, "fc__weight": (3, 4), "fc__bias": (3,)}),
        ("Allow(mismatched=['fc.*'])", "everything fits but the head: fc, 10 → 3 classes"),
        forgiven(mismatched="fc.*"), check=body_filled),
    "another number of classes, the first ones": lambda: Situation(
        state(**NET), Tree(**{**NET, "fc__weight": (3, 4), "fc__bias": (3,)}), ("brought to another size",),
        forgiven(mismatched="fc.*", how="slice"),
        check=lambda model, file: torch.equal(model.state_dict()["fc.weight"], file["fc.weight"][:3])),
    "a vocabulary that grew": lambda: Situation(
        state(embed__weight=(5, 4), body__weight=(4, 4)), Tree(embed__weight=(8, 4), body__weight=(4, 4)),
        ("brought to another size", "the rest the model's own"), forgiven(mismatched="embed.*", how="pad"),
        check=lambda model, file: torch.equal(model.state_dict()["embed.weight"][:5], file["embed.weight"])
        and not model.state_dict()["embed.weight"][5:].any()),
    "a head that begins anew": lambda: Situation(
        {"0.weight": torch.ones(9, 9), "0.bias": torch.ones(9), "1.weight": torch.ones(4, 9), "1.bias": torch.ones(4)},
        nn.Sequential(nn.Linear(9, 9), nn.Linear(9, 2)), ("initialised anew",),
        forgiven(mismatched="1.*", how="reinit"),
        check=lambda model, file: bool(model[0].weight.eq(1).all()) and bool(model[1].weight.abs().lt(0.5).all())),  # type: ignore[index]
    "a picture with one channel": lambda: Situation(
        state(**NET), Tree(**{**NET, "conv1__weight": (4, 1, 3, 3)}), ("conv1.weight",),
        forgiven(mismatched="conv1.*", how="slice"),
        check=lambda model, file: torch.allclose(
            model.state_dict()["conv1.weight"], file["conv1.weight"].sum(1, keepdim=True), atol=1e-6)),
    "a picture with six channels": lambda: Situation(
        state(**NET), Tree(**{**NET, "conv1__weight": (4, 6, 3, 3)}), ("conv1.weight",),
        forgiven(mismatched="conv1.*", how="pad"),
        check=lambda model, file: torch.allclose(
            model.state_dict()["conv1.weight"], file["conv1.weight"].repeat(1, 2, 1, 1) / 2, atol=1e-6)),
    "position embeddings of another grid": lambda: Situation(
        state(pos_embed=(1, 17, 4), blocks__0__weight=(40, 40)), Tree(pos_embed=(1, 37, 4), blocks__0__weight=(40, 40)),
        ("pos_embed",), forgiven(mismatched="pos_embed", how="pad"),
        check=lambda model, file: torch.equal(model.state_dict()["pos_embed"][:, :1], file["pos_embed"][:, :1])),
    # Nothing loaded at all: pain 5.
    "a file of another model, everything allowed": lambda: Situation(
        state(a__weight=(3, 3)), Tree(**NET), ("0 % of the parameters",),
        forgiven(missing="*", unexpected="*", mismatched="*"), error=rh.MismatchError),
    "a file of another model": lambda: Situation(
        state(a__weight=(3, 3)), Tree(**NET), ('Missing key(s) in state_dict: 5: "conv1.weight"', "a.weight"),
        error=rh.MismatchError),
    "a head that the file lacks": lambda: Situation(
        state(**BODY), Tree(**NET), ("Allow(missing=['fc.*']) forgave 2 tensors", "everything fits but"),
        forgiven(missing="fc.*"), check=body_filled),
    "an allowance that was not needed": lambda: Situation(
        state(**NET), Tree(**NET), ("Allow(missing=['head.*']) forgave nothing", "everything fits"),
        forgiven(missing="head.*"), check=all_filled),
    # Names of other versions: pain 17.
    "DenseNet before 2018": lambda: Situation(
        state(**{"denselayer1__norm.1__weight": (6,), "denselayer1__conv.1__weight": (6, 6)}),
        Tree(denselayer1__norm1__weight=(6,), denselayer1__conv1__weight=(6, 6)),
        ("norm.1 for norm1", "everything fits")),
    "gamma and beta": lambda: Situation(
        state(norm__gamma=(6,), norm__beta=(6,)), Tree(norm__weight=(6,), norm__bias=(6,)),
        ("gamma and beta for weight and bias", "everything fits")),
    "weight_norm, old into new": lambda: Situation(
        {"weight_g": torch.ones(2, 1), "weight_v": torch.ones(2, 3), "bias": torch.ones(2)},
        nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)), ("3 of 3 tensors", "everything fits")),
    "weight_norm, new into old": lambda: Situation(
        nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)).state_dict(),
        Tree(weight_g=(2, 1), weight_v=(2, 3), bias=(2,)), ("weight_g and weight_v for parametrizations",)),
    "a buffer of positions that the model has no more": lambda: Situation(
        {**state(**NET), "embeddings.position_ids": torch.arange(9)[None]}, Tree(**NET),
        ("1 buffer left aside", "position_ids", "everything fits")),
    "counters that old files lack": lambda: Situation(
        {name: value for name, value in nn.BatchNorm1d(3).state_dict().items() if "num" not in name},
        nn.BatchNorm1d(3), ("1 counter (num_batches_tracked) left as they are", "everything fits")),
    # Models inside models.
    "the network of a classifier": lambda: Situation(
        wrapped("backbone.", state(**BODY)) | {"head.weight": torch.ones(2, 4)}, Tree(**BODY),
        ("Unexpected key(s) in state_dict: 1",), error=rh.MismatchError),
    "the network of a classifier, its head left aside": lambda: Situation(
        wrapped("backbone.", state(**BODY)) | {"head.weight": torch.ones(2, 4)}, Tree(**BODY),
        ("prefix 'backbone.' taken off",), forgiven(unexpected="head.*")),
    "a network into a classifier": lambda: Situation(
        state(**BODY), Tree(**{f"backbone__{name}": shape for name, shape in BODY.items()}, head__weight=(2, 4)),
        ("prefix 'backbone.' put before",), forgiven(missing="head.*")),
    "two encoders for one": lambda: Situation(
        wrapped("encoder_q.", state(**BODY)) | wrapped("encoder_k.", state(**BODY)), Tree(**BODY),
        ("equally well", "Prefix(remove='encoder_q.')"), error=rh.MismatchError),
    "two encoders for one, chosen": lambda: Situation(
        wrapped("encoder_q.", state(**BODY)) | wrapped("encoder_k.", state(**BODY)), Tree(**BODY),
        ("everything fits",), {"rules": Prefix(remove="encoder_q."), **forgiven(unexpected="encoder_k.*")}),
    # Rules.
    "layers counted from one": lambda: Situation(
        state(block1__weight=(2, 2), block2__weight=(3, 3)), Tree(blocks__0__weight=(2, 2), blocks__1__weight=(3, 3)),
        ("everything fits",), {"rules": Rename("block{i}.*", "blocks.{i - 1}.*")}),
    "a matrix the other way round": lambda: Situation(
        state(proj__weight=(2, 3)), Tree(proj__weight=(3, 2)), ("Transpose('proj.weight')",), error=rh.MismatchError),
    "a matrix the other way round, turned": lambda: Situation(
        state(proj__weight=(2, 3)), Tree(proj__weight=(3, 2)), ("everything fits",),
        {"rules": Transpose("proj.*")},
        check=lambda model, file: torch.equal(model.state_dict()["proj.weight"], file["proj.weight"].T)),
    "query, key and value in one": lambda: Situation(
        state(attn__q_proj__weight=(4, 4), attn__k_proj__weight=(4, 4), attn__v_proj__weight=(4, 4)),
        Tree(attn__in_proj_weight=(12, 4)), ("query, key, value put together",),
        check=lambda model, file: torch.equal(
            model.state_dict()["attn.in_proj_weight"], torch.cat([*file.values()]))),
    # dtypes, modes, devices: pains 6, 26, 27, 28.
    "a file in half precision": lambda: Situation(
        {name: value.half() for name, value in state(**NET).items()}, Tree(**NET),
        ("5 tensors cast, such as float16 to float32", "everything fits")),
    "a model that shall be in bfloat16": lambda: Situation(
        state(**NET), Tree(**NET), ("5 tensors cast, such as float32 to bfloat16",), {"dtype": torch.bfloat16},
        check=lambda model, file: all(
            torch.equal(value, file[name].bfloat16()) for name, value in model.state_dict().items())),
    "eval was forgotten": lambda: Situation(
        state(**NET), Tree(**NET), ("the model is in training mode; call .eval() before predicting",)),
    "a vector of one for a number": lambda: Situation(
        {"scale": torch.ones(1)}, Tree(scale=()), ("everything fits",)),
    "complex into real": lambda: Situation(
        {"w": torch.ones(2, dtype=torch.complex64)}, Tree(w=(2,)), ("holds complex64 values",), error=rh.MismatchError),
    # Ties: pain 23.
    "one name of a tie": lambda: Situation(
        {"embed.weight": torch.ones(7, 3)}, Tied(),
        ("1 tensor filled under another name: head.weight is embed.weight",),
        check=lambda model, file: bool(model.head.weight.eq(1).all())),  # type: ignore[union-attr,operator]
}  # fmt: skip


@pytest.mark.parametrize("name", SITUATIONS)
def test_what_happens_is_said(name: str) -> None:
    situation = SITUATIONS[name]()
    model, data = situation.model, saved(situation.file)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    if situation.error is not None:
        with pytest.raises(situation.error) as caught:
            rh.load_into(model, data, **situation.options)
        text = str(caught.value)
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    else:
        match = rh.load_into(model, data, **situation.options)
        text = str(match)
        assert match
        assert situation.check(model, situation.file)
        assert text.splitlines()[-1].startswith("everything fits")
    flat = " ".join(text.split())
    for sentence in situation.says:
        assert sentence in flat, text


@pytest.mark.parametrize("name", [name for name, make in SITUATIONS.items() if make().error is not rh.AmbiguousError])
def test_the_match_says_beforehand_what_the_load_says(name: str) -> None:
    situation = SITUATIONS[name]()
    options = {key: value for key, value in situation.options.items() if key != "dtype"}
    before = {key: value.clone() for key, value in situation.model.state_dict().items()}
    match = rh.match(saved(situation.file), situation.model, **options)
    assert all(torch.equal(value, before[key]) for key, value in situation.model.state_dict().items())
    if name not in ("complex into real", "weight_norm, old into new"):  # known when tensors are planned or code is run
        assert bool(match) is (situation.error is None)


def test_a_map_that_was_saved_loads_the_same(tmp_path: Any) -> None:
    file = saved(wrapped("net.", state(norm__gamma=(6,), norm__beta=(6,), proj__weight=(3, 3))))
    shapes = {"norm__weight": (6,), "norm__bias": (6,), "proj__weight": (3, 3)}
    first, second = Tree(**shapes), Tree(**shapes)
    rh.load_into(first, file).save(tmp_path / "map.toml")
    assert len((tmp_path / "map.toml").read_text().splitlines()) < 30
    assert rh.load_into(second, file, rules=tmp_path / "map.toml")
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_a_warm_start_takes_what_fits_and_has_a_floor() -> None:
    model = Tree(**{**NET, "fc__weight": (3, 4), "fc__bias": (3,)})
    match = rh.warm_start(model, saved(state(**NET)))
    assert [target.name for target in match.kept] == ["fc.weight", "fc.bias"]
    with pytest.raises(rh.MismatchError, match=r"only 0 % of the parameters would be filled"):
        rh.warm_start(Tree(**NET), saved(state(other=(2,))))
    assert rh.warm_start(Tree(**NET), saved(state(conv1__weight=(4, 3, 3, 3))), coverage=0.1)
