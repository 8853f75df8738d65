"""What comes off a name: whole components that wrappers put there, in any stack; never a letter of anything else."""

from __future__ import annotations

import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import rehydrate as rh

from ..effort import tried
from .kinds import saved

MARKS = ("_orig_mod", "_fsdp_wrapped_module", "_fpw_module", "_checkpoint_wrapped_module", "_forward_module")
"""Wrappers that are taken out wherever they stand."""

parts = st.sampled_from(
    [
        "conv1", "module_list", "mlp_module", "modules", "model", "models", "layers", "0", "17", "orig_mod",
        "_orig_module", "my_orig_mod", "_fsdp_wrapped_module_", "n_averaged_", "module0", "éa", "state_dict", "MODULE",
        "_module_",
    ]
)  # fmt: skip
"""Components that are no wrappers, though they look like some."""

names = st.lists(parts, min_size=1, max_size=5).map(lambda levels: ".".join([*levels, "weight"]))
stacks = st.lists(st.sampled_from(["module", "_module", *MARKS]), max_size=4).map(
    lambda marks: [f"{m}." for m in marks]
)


def weights_of(file_names: list[str]) -> rh.Weights:
    value = torch.zeros(1, 1)
    with rh.open(saved(dict.fromkeys(file_names, value))) as checkpoint:
        return checkpoint.weights()


@tried(80)
@given(st.lists(names, min_size=1, max_size=8, unique=True))
def test_nothing_comes_off_names_that_only_look_like_wrapped_ones(own: list[str]) -> None:
    assert list(weights_of(own)) == own


@tried(120)
@given(st.lists(names, min_size=1, max_size=8, unique=True), stacks, st.data())
def test_stacks_of_wrappers_in_any_order_and_at_any_depth_come_off_exactly(
    own: list[str], stack: list[str], data: st.DataObject
) -> None:
    holders = {tuple(name.split(".")[:depth]) for name in own for depth in range(1, name.count(".") + 1)}
    held = data.draw(
        st.dictionaries(st.sampled_from(sorted(holders)), st.lists(st.sampled_from(MARKS), min_size=1, max_size=2))
    )

    def wrapped(name: str) -> str:
        levels = name.split(".")
        kept: list[str] = []
        for depth, level in enumerate(levels):
            kept += [*held.get(tuple(levels[:depth]), []), level]
        return "".join(stack) + ".".join(kept)

    weights = weights_of([wrapped(name) for name in own])
    assert list(weights) == own
    assert [ref.name for ref in weights.values()] == own
    is_wrapped = [wrapped(name) for name in own] != own
    assert bool(weights.removed) == is_wrapped
    if is_wrapped:
        assert weights.as_saved is not None
        assert list(weights.as_saved) == [wrapped(name) for name in own]


@pytest.mark.parametrize(
    ("file_names", "own"),
    [
        (["features.module.0.weight", "classifier.1.weight"], ["features.0.weight", "classifier.1.weight"]),
        (["module.net.module.conv.0.b", "module.fc.b"], ["net.conv.0.b", "fc.b"]),
        (["enc.module.a.0.w", "enc.module.b.0.w", "dec.module.a.0.w"], ["enc.a.0.w", "enc.b.0.w", "dec.a.0.w"]),
    ],
)
def test_a_part_of_a_model_that_data_parallel_holds_is_seen(file_names: list[str], own: list[str]) -> None:
    weights = weights_of(file_names)
    assert list(weights) == own
    assert "'module' (DataParallel) taken out of" in str(weights)


@pytest.mark.parametrize(
    "own",
    [
        ["module.a.weight", "head.weight"],
        ["features.module.0.weight", "features.extra.weight", "head.weight"],  # it has a neighbour
        ["spectral.module.weight", "spectral.module.bias", "head.weight"],  # one layer, held by its own class
        ["blocks.0.module.conv.weight", "blocks.1.module.conv.weight"],  # it repeats
        ["resblock1.module.conv.weight", "resblock2.module.conv.weight"],
        ["a.n_averaged", "a.module.fc.0.weight"],
        ["n_averaged", "net.fc.weight"],
        ["model.fc.weight", "model.fc.bias"],
        ["module"],
        ["_orig_mod"],
        ["a._orig_mod", "a._fsdp_wrapped_module"],  # a tensor of that name is no module
    ],
)
def test_what_may_be_the_models_own_stays(own: list[str]) -> None:
    weights = weights_of(own)
    assert list(weights) == own
    assert weights.as_saved is None


def test_where_two_names_would_become_one_nothing_comes_off_and_it_is_said() -> None:
    own = ["a._orig_mod.weight", "a.weight", "b.weight"]
    weights = weights_of(own)
    assert list(weights) == own
    assert weights.removed == ("wrappers left in the names: two tensors would both be called 'a.weight'",)


def test_every_wrapper_is_told_with_who_put_it_there_and_how_often() -> None:
    weights = weights_of(["module._orig_mod.a._checkpoint_wrapped_module.w", "module._orig_mod.b"])
    assert weights.removed == (
        "prefix 'module._orig_mod.' (DataParallel, torch.compile) taken off 2 of 2 names",
        "'_checkpoint_wrapped_module' (activation checkpointing) taken out of 1 of 2 names",
    )
    averaged = weights_of(["n_averaged", "module.fc.weight"])
    assert averaged.removed == (
        "prefix 'module.' (AveragedModel) taken off 1 of 2 names",
        "left out: 'n_averaged', AveragedModel's own counter",
    )


def test_thirty_thousand_wrapped_names_take_a_moment() -> None:
    value = torch.empty(1)
    data = saved({"state_dict": {f"module.blocks.{at}._orig_mod.weight": value for at in range(30_000)}, "epoch": 3})
    with rh.open(data) as checkpoint:
        began = time.process_time()
        assert list(checkpoint.weights())[-1] == "blocks.29999.weight"
        assert time.process_time() - began < 0.5  # 0.07 s where it is alone


@pytest.mark.parametrize(
    "name",
    [
        "module." * 30_000 + "w",
        "_orig_mod." * 20_000 + "w",
        "a." + "_orig_mod." * 20_000 + "w",
        "a." * 100_000 + "module.b.w",
        "a.module." * 20_000 + "b.w",
        "A" * 200_000 + ".module.b.w",
    ],
    ids=["prefix", "mark", "mark inside", "components", "inside", "letters"],
)
def test_a_name_of_a_megabyte_takes_no_longer_than_it_is(name: str) -> None:
    value = torch.zeros(1, 1)
    with rh.open(saved({name: value, name + "2": value, "n_averaged": value})) as checkpoint:
        began = time.process_time()
        checkpoint.weights()
        assert time.process_time() - began < 2
