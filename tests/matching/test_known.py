"""Known renames: in both directions, one to one, and quick whatever names there are."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from torch import nn
from torch.nn.utils import parametrizations

import rehydrate as rh
from rehydrate.matching.known import GROUPS, KNOWN, common_names, is_kernel, is_slot
from rehydrate.matching.match import match_weights
from tests.effort import tried
from tests.matching.made import linear, norm, saved, targets_of_model, targets_of_shapes, weights_of

from ..growth import assert_grows_like_its_work

ONE_AND_THE_SAME = [
    ("features.denseblock1.denselayer2.norm.1.weight", "features.denseblock1.denselayer2.norm1.weight"),
    ("aspp.conv.2.bias", "aspp.conv2.bias"),
    ("bert.embeddings.LayerNorm.gamma", "bert.embeddings.LayerNorm.weight"),
    ("encoder.norm.beta", "encoder.norm.bias"),
    ("conv.weight_g", "conv.parametrizations.weight.original0"),
    ("lstm.weight_ih_l0_v", "lstm.parametrizations.weight_ih_l0.original1"),
    ("conv.weight_orig", "conv.parametrizations.weight.original"),
    ("conv.weight_u", "conv.parametrizations.weight.0._u"),
    ("group1.conv1.weight", "conv1.weight"),
    ("layer1.0.group2.bn3.running_var", "layer1.0.bn3.running_var"),
    ("features.3.group3.expand3x3.bias", "features.3.expand3x3.bias"),
    ("bn/moving_mean", "bn.running_mean"),
    ("bn.moving_variance", "bn.running_var"),
    ("linear._mean", "linear.running_mean"),
    ("bert/encoder/layer_11/output/dense/kernel", "bert.encoder.layer.11.output.dense.weight"),
    ("bert/embeddings/word_embeddings", "bert.embeddings.word_embeddings.weight"),
    ("cls/predictions/output_bias", "cls.predictions.bias"),
    ("cls/seq_relationship/output_weights", "cls.seq_relationship.weight"),
    ("output_weights", "classifier.weight"),
    ("Encoder.LayerNorm_0.scale", "Encoder.LayerNorm_0.weight"),
    ("res5.2.shortcut.norm.weight", "layer4.2.downsample.1.weight"),
    ("layer1.0.shortcut.0.weight", "layer1.0.downsample.0.weight"),
    ("encoder.layers.encoder_layer_3.ln_1.bias", "blocks.3.norm1.bias"),
    ("encoder.layer.3.attention.self.query.weight", "layers.3.self_attn.q_proj.weight"),
    ("layers.3.self_attn.in_proj_bias", "blocks.3.attn.qkv.bias"),
    ("h.0.attn.to_qkv.weight", "h.0.attn.Wqkv.weight"),
]


@pytest.mark.parametrize(("one", "other"), ONE_AND_THE_SAME)
def test_two_names_of_one_tensor_have_one_common_form(one: str, other: str) -> None:
    assert common_names([one])[one][0] == common_names([other])[other][0]


@pytest.mark.parametrize(
    "name",
    [
        "conv.weight", "conv1.weight", "norm.weight", "groups.0.weight", "my_gamma", "gamma.weight",
        "regroup1.fc.weight",
        "layer_norm.weight", "upscale.weight", "scale", "mean", "queries.weight", "parametrizations", "kernel_size",
    ],
)  # fmt: skip
def test_a_name_that_only_looks_like_it_stays(name: str) -> None:
    assert common_names([name])[name] == (name, ())


def test_names_that_would_be_one_keep_their_own() -> None:
    names = ["a.group1.fc.weight", "a.group2.fc.weight", "b.group1.fc.weight", "bn.gamma", "bn.weight"]
    found = common_names(names)
    assert [found[name][0] for name in names] == [names[0], names[1], "b.fc.weight", "bn.gamma", "bn.weight"]


@tried(60)
@given(some.lists(some.text("aq.kv_/0123gropu", max_size=30), unique=True, max_size=30))
def test_no_two_names_come_to_be_one_that_both_were_not(names: list[str]) -> None:
    forms = [form for form, _ in common_names(names).values()]
    moved = [form for name, (form, _) in common_names(names).items() if form != name]
    assert len(set(moved)) == len(moved)
    assert len(forms) == len(names)


def test_kernels_and_slots_are_told_by_their_last_word() -> None:
    assert is_kernel("bert/pooler/dense/kernel")
    assert not is_kernel("bert/pooler/dense/kernel_size")
    assert is_slot("bert/pooler/dense/kernel/adam_m")
    assert is_slot("global_step")
    assert not is_slot("model/adam_mlp")


def test_no_name_takes_long() -> None:
    words = sorted({change.mark for known in (*KNOWN, GROUPS) for change in known.changes})

    def names(length: int) -> list[str]:
        long = [word * (length // len(word)) for word in words]
        long += [f"{word.strip('.')}." * (length // 10) for word in words]
        return long + [("layers.1." * length)[:length] + word for word in words]

    assert_grows_like_its_work(lambda length: partial(common_names, names(length)), 500)


def test_a_kernel_is_turned_also_where_it_is_square_and_where_it_has_space() -> None:
    file = {"dense/kernel": (4, 4), "conv/kernel": (3, 5, 2, 8), "line/kernel": (3, 2, 8)}
    model = {"dense.weight": (4, 4), "conv.weight": (8, 2, 3, 5), "line.weight": (8, 2, 3)}
    numbers = {name: torch.arange(float(torch.Size(shape).numel())).reshape(shape) for name, shape in file.items()}
    match = match_weights(rh.open(saved(numbers)).weights(), targets_of_shapes(model), "Net")
    assert match
    for pair, order in zip(match.pairs, ((1, 0), (3, 2, 0, 1), (2, 1, 0)), strict=True):
        assert "kernels turned" in pair.rule
        wanted = numbers[pair.source.name].permute(order)
        assert torch.equal(torch.from_numpy(pair.source.numpy()), wanted)  # type: ignore[union-attr]


def test_a_matrix_that_nobody_calls_a_kernel_is_not_turned() -> None:
    match = match_weights(weights_of({"a.gamma": (2, 3)}), targets_of_shapes({"a.weight": (3, 2)}), "Net")
    assert not match
    assert match.mismatched[0].hint == "the other way round; rules=[Transpose('a.weight')] turns it"


@pytest.mark.parametrize("dim", [0, None])
def test_weight_norm_of_torch_old_and_new_fits_both_ways(dim: int | None) -> None:
    def old() -> nn.Module:
        with pytest.warns(FutureWarning):
            return nn.utils.weight_norm(nn.Conv1d(2, 3, 3), dim=dim)  # type: ignore[no-any-return]

    new = parametrizations.weight_norm(nn.Conv1d(2, 3, 3), dim=dim)
    for file, model in ((old(), new), (new, old())):
        match = match_weights(rh.open(saved(file.state_dict())).weights(), targets_of_model(model), "Conv1d")
        assert match
        assert {pair.rule for pair in match.pairs} == {"by name", "weight_g and weight_v for parametrizations"}


def test_the_batch_norm_of_an_old_network_keeps_its_counter_by_its_new_name() -> None:
    match = match_weights(weights_of(norm("block.norm.1", 4)), targets_of_shapes(norm("block.norm1", 4)), "Net")
    assert match
    assert len(match.pairs) == 5


def test_a_rename_never_takes_what_fits_by_its_name() -> None:
    file = {**linear("fc", 2, 2), "fc.gamma": (2, 2)}
    match = match_weights(weights_of(file), targets_of_shapes(linear("fc", 2, 2)), "Net")
    assert [pair.source.name for pair in match.pairs] == ["fc.weight", "fc.bias"]
    assert [value.name for value in match.unexpected] == ["fc.gamma"]
