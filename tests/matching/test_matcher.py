"""Which tensor goes where: situations, each with what its report says."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from torch import nn

import rehydrate as rh
from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.errors import MismatchError
from rehydrate.matching.match import Match, match_weights
from rehydrate.matching.rules.mapping import rules_of
from rehydrate.matching.rules.renaming import Rename
from rehydrate.matching.rules.rule import apply_rules
from rehydrate.matching.values import Derived, Joined
from tests.effort import tried
from tests.matching.made import linear, resnet, saved, targets_of_shapes, under, weights_of, without
from tests.matching.situations import SITUATIONS, Situation

LEAVES = ("weight", "bias")


def matched(case: Situation) -> Match:
    return match_weights(weights_of(case.file), targets_of_shapes(case.model), "Net", allow=case.allow)


@pytest.mark.parametrize("case", SITUATIONS, ids=[case.name for case in SITUATIONS])
def test_a_situation_is_told_as_it_is(case: Situation) -> None:
    match = matched(case)
    text = str(match)
    flat = " ".join(text.split())
    assert text.splitlines()[-1] == case.verdict
    for line in case.lines:
        assert line in flat
    assert bool(match) == case.verdict.startswith("everything fits")


FITTING = [case for case in SITUATIONS if case.verdict.startswith("everything fits")]


@pytest.mark.parametrize("case", FITTING, ids=[case.name for case in FITTING])
def test_the_rules_of_a_match_give_the_names_and_shapes_of_the_model(case: Situation, tmp_path: Path) -> None:
    match = matched(case)
    match.save(tmp_path / "map.toml")
    rules = rules_of(tmp_path / "map.toml")
    assert list(rules) == list(match.rules)
    weights = weights_of(case.file)
    values = apply_rules(weights, rules).values
    for pair in match.pairs:
        assert values[pair.target.name].shape == pair.target.shape or match.resized
    again = match_weights(weights, targets_of_shapes(case.model), "Net", rules=rules, allow=case.allow)
    assert again
    assert sum(pair.rule != "by name" for pair in again.pairs) == match.resized
    assert len((tmp_path / "map.toml").read_text().splitlines()) < 60


@pytest.mark.parametrize("case", SITUATIONS, ids=[case.name for case in SITUATIONS])
def test_every_tensor_of_both_sides_is_in_one_place(case: Situation) -> None:
    match = matched(case)
    targets = [
        *(pair.target.name for pair in match.pairs),
        *(wrong.target.name for wrong in match.mismatched),
        *(target.name for target in (*match.missing, *match.kept, *match.computed)),
    ]
    assert sorted(targets) == sorted(case.model)
    assert match.to_dict()["ok"] is bool(match)
    assert len(str(match).splitlines()) < 60
    assert max(map(len, str(match).splitlines())) <= 130


def test_square_matrices_beside_turned_ones_are_pointed_at() -> None:
    """Nothing tells by its shape that GPT-2's square projections are turned like all others."""
    model = {**linear("h.0.attn.c_attn", 24, 8), **linear("h.0.attn.c_proj", 8, 8), "wte.weight": (9, 9)}
    file = model | {"h.0.attn.c_attn.weight": (8, 24)}
    match = match_weights(weights_of(file), targets_of_shapes(model), "GPT")
    assert not match
    assert match.hints == (
        "1 square tensor beside them may be the other way round, too, which no shape tells: h.0.attn.c_proj.weight",
    )
    assert "try: 1 square tensor beside them" in str(match)


def test_a_head_is_named_although_an_old_file_has_no_counters() -> None:
    file = without(resnet(1000), "num_batches_tracked")
    match = match_weights(weights_of(file), targets_of_shapes(resnet(3)), "Net")
    assert match.head == "the head: fc, 1000 → 3 classes"
    assert {target.name.rpartition(".")[2] for target in match.missing} == {"num_batches_tracked"}


def test_files_without_layout_versions_need_no_counters() -> None:
    """numpy's archives and safetensors keep no versions; torch fills the counters in, too."""
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    arrays = {name: tensor.numpy() for name, tensor in model.state_dict().items() if "num_batches" not in name}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    match = rh.load_into(model, buffer.getvalue())
    assert match
    assert str(match).splitlines()[-1] == "everything fits"
    assert "1 counter (num_batches_tracked) left as they are" in str(match)


def test_thirds_of_a_projection_are_the_rows_of_query_key_and_value() -> None:
    attention = nn.MultiheadAttention(4, 2)
    weights = rh.open(saved(attention.state_dict())).weights()
    three = {
        f"{part}_proj.{leaf}": (4, 4) if leaf == "weight" else (4,) for leaf in ("weight", "bias") for part in "qkv"
    }
    model = {**three, "out_proj.weight": (4, 4), "out_proj.bias": (4,)}
    match = match_weights(weights, targets_of_shapes(model), "Net")
    got = {pair.target.name: pair.source for pair in match.pairs}
    for at, part in enumerate("qkv"):
        for leaf in ("weight", "bias"):
            source = got[f"{part}_proj.{leaf}"]
            assert isinstance(source, TensorRef)
            wanted = getattr(attention, f"in_proj_{leaf}").chunk(3)[at]
            assert torch.equal(torch.from_numpy(source.numpy()), wanted)


def test_three_are_put_together_in_the_order_of_query_key_and_value() -> None:
    file = {**linear("attn.v_proj", 4, 8), **linear("attn.q_proj", 8, 8), **linear("attn.k_proj", 4, 8)}
    model = {"attn.qkv.weight": (16, 8), "attn.qkv.bias": (16,)}
    match = match_weights(weights_of(file), targets_of_shapes(model), "Net")
    assert match
    for pair, leaf in zip(match.pairs, ("weight", "bias"), strict=True):
        assert isinstance(pair.source, Derived)
        assert pair.source.how == Joined(0)
        assert [ref.name for ref in pair.source.refs] == [f"attn.{part}_proj.{leaf}" for part in "qkv"]
        assert match.to_dict()["pairs"][0]["sources"][0] == "attn.q_proj.weight"


def test_three_of_different_kinds_are_not_put_together() -> None:
    parts = {"q.weight": torch.zeros(2, 2), "k.weight": torch.zeros(2, 2).half(), "v.weight": torch.zeros(2, 2)}
    match = match_weights(rh.open(saved(parts)).weights(), targets_of_shapes({"qkv.weight": (6, 2)}), "Net")
    assert len(match.missing) == 1
    assert len(match.unexpected) == 3


@tried(60)
@given(
    some.lists(some.sampled_from(["backbone", "x", "enc", "0", "layer1", "head"]), min_size=1, max_size=4),
    some.booleans(),
    some.integers(1, 4),
)
def test_any_prefix_is_found_on_either_side(prefix: list[str], in_file: bool, depth: int) -> None:
    inner = {
        f"net{at}.fc.{leaf}": (at + 2, 3)[: 2 if leaf == "weight" else 1] for at in range(depth) for leaf in LEAVES
    }
    outer = under(".".join(prefix) + ".", inner)
    file, model = (outer, inner) if in_file else (inner, outer)
    match = match_weights(weights_of(file), targets_of_shapes(model), "Net")
    assert match
    assert all(
        pair.target.name.endswith(pair.source.name) or pair.source.name.endswith(pair.target.name)
        for pair in match.pairs
    )


@tried(60)
@given(some.data())
def test_whatever_two_sets_of_names_nothing_is_used_twice_and_no_shape_is_wrong(data: some.DataObject) -> None:
    words = some.sampled_from(
        ["a", "model", "q_proj", "qkv", "group1", "fc", "norm", "1", "gamma", "weight", "bias", "kernel"]
    )
    names = some.lists(words, min_size=1, max_size=4).map(".".join)
    shapes = some.dictionaries(names, some.sampled_from([(2,), (6,), (2, 2), (6, 2), (2, 6)]), min_size=1, max_size=12)
    file, model = data.draw(shapes), data.draw(shapes)
    match = match_weights(weights_of({**file, "one.weight": (1,), "one.bias": (1,)}), targets_of_shapes(model), "Net")
    for pair in match.pairs:
        assert pair.source.shape == pair.target.shape
    whole = [ref.name for pair in match.pairs if (ref := pair.source) and isinstance(ref, TensorRef)]
    split = [name for name in whole if "qkv" in name]
    assert len(set(whole)) == len(whole) or split
    for name in file.keys() & model.keys():
        pair_or_none = next((pair for pair in match.pairs if pair.target.name == name), None)
        if file[name] == model[name]:
            assert pair_or_none is not None
            assert pair_or_none.rule == "by name"
    values = apply_rules(weights_of({**file, "one.weight": (1,), "one.bias": (1,)}), match.rules).values
    for pair in match.pairs:
        assert values[pair.target.name].shape == pair.target.shape


def test_a_prefix_that_says_something_is_proposed_in_the_place_of_another_and_not_put_there() -> None:
    body = resnet(10)
    match = match_weights(weights_of(under("bert.", body)), targets_of_shapes(under("roberta.", body)), "Net")
    assert not match.pairs
    with pytest.raises(MismatchError, match=r"behind 'bert\.' in the file would fit behind 'roberta\.'") as error:
        match.raise_if_bad()
    assert "rules=[Rename('bert.*', 'roberta.*')]" in str(error.value)
    rules = [Rename("bert.*", "roberta.*")]
    assert match_weights(weights_of(under("bert.", body)), targets_of_shapes(under("roberta.", body)), "", rules=rules)


def test_nothing_is_proposed_between_two_parts_and_two_others() -> None:
    body = resnet(10)
    file, model = ({**under(a, body), **under(b, body)} for a, b in (("left.", "right."), ("a.", "b.")))
    assert not match_weights(weights_of(file), targets_of_shapes(model), "Net").hints


def test_a_tensor_without_a_shape_takes_one_under_whatever_name() -> None:
    data = {"weight": torch.rand(8, 5), "bias": torch.rand(8)}
    names = {
        "": ("a.weight", "a.bias"),
        "behind a prefix": ("backbone.a.weight", "backbone.a.bias"),
        "wrapped": ("module.a.weight", "module.a.bias"),
        "of a norm": ("a.gamma", "a.beta"),
    }
    for weight, bias in names.values():
        model = nn.ModuleDict({"a": nn.LazyLinear(8)})
        file = saved({weight: data["weight"], bias: data["bias"]})
        assert rh.match(file, model)
        assert rh.load_into(model, file)
        assert torch.equal(model["a"].weight, data["weight"])  # type: ignore[arg-type]
    model = nn.ModuleDict({"a": nn.LazyLinear(8)})
    rh.load_into(model, saved({"a.kernel": data["weight"].t().contiguous(), "a.bias": data["bias"]}))
    assert torch.equal(model["a"].weight, data["weight"])  # type: ignore[arg-type]
