"""What is forgiven on purpose: by name, with a count, never below the floor, and what then becomes of a tensor."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from rehydrate.errors import MismatchError
from rehydrate.matching.allow import Allow
from rehydrate.matching.match import Match, match_weights
from rehydrate.matching.values import Derived, Interpolated, Repeated, Summed
from tests.effort import tried
from tests.matching.made import Shapes, bert, linear, resnet, targets_of_shapes, weights_of


def matched(file: Shapes, model: Shapes, **allowed: Any) -> Match:
    return match_weights(weights_of(file), targets_of_shapes(model), "Net", allow=Allow(**allowed))


def only(here: tuple[int, ...], there: tuple[int, ...], name: str = "layer.weight", **allowed: Any) -> Match:
    """A match of one tensor that has another size, and of one that is large and fits."""
    rest = {"rest.weight": (100, 100)}
    return matched({name: here, **rest}, {name: there, **rest}, **({"mismatched": "*"} | allowed))


def verdict(match: Match) -> str:
    return str(match).splitlines()[-1]


def test_what_was_not_named_is_not_forgiven() -> None:
    match = matched(resnet(1000), resnet(3), mismatched=["fc.weight"])
    assert not match
    assert [wrong.target.name for wrong in match.mismatched] == ["fc.bias"]
    assert [target.name for target in match.kept] == ["fc.weight"]


def test_a_pattern_may_stand_alone_or_with_others() -> None:
    for patterns in ("fc.*", ["fc.*"], ("fc.weight", "fc.bias"), ["*.weight", "fc.b?as"]):
        assert matched(resnet(1000), resnet(3), mismatched=patterns)


def test_each_pattern_is_told_with_what_it_forgave_and_also_when_it_forgave_nothing() -> None:
    file = {**resnet(), **linear("aux", 2, 2)}
    match = matched(file, {**resnet(), **linear("new", 2, 2)}, missing=["new.*", "head.*"], unexpected="aux.*")
    assert match.allowed == (
        "Allow(missing=['new.*']) forgave 2 tensors: new.weight, new.bias",
        "Allow(missing=['head.*']) forgave nothing",
        "Allow(unexpected=['aux.*']) forgave 2 tensors: aux.weight, aux.bias",
    )
    assert all(sentence in str(match) for sentence in match.allowed)
    assert match.to_dict()["allowed"] == list(match.allowed)
    assert [target.name for target in match.kept] == ["new.weight", "new.bias"]
    assert [value.name for value in match.aside] == ["aux.weight", "aux.bias"]


def test_patterns_are_of_the_models_names_with_its_wrapper_and_without() -> None:
    wrapped = {f"module.{name}": shape for name, shape in resnet(3).items()}
    for pattern in ("fc.*", "module.fc.*"):
        match = matched(resnet(1000), wrapped, mismatched=pattern)
        assert match
        assert [target.name for target in match.kept] == ["module.fc.weight", "module.fc.bias"]


def test_below_the_floor_a_match_is_false_whatever_was_allowed() -> None:
    file, model = linear("a", 1, 1), {**linear("a", 1, 1), **linear("b", 10, 10)}
    match = matched(file, model, missing="*")
    assert not match
    assert verdict(match) == "does not fit: only 1.786 % of the parameters would be filled"
    with pytest.raises(MismatchError, match=r"only 1\.786 % of the parameters would be filled"):
        match.raise_if_bad()
    assert matched(file, model, missing="*", coverage=0.01)
    assert matched(file, model, missing="*", coverage=0)


def test_coverage_counts_elements_of_parameters() -> None:
    file, model = {"a": (9,)}, {"a": (9,), "b": (1,), "x.inv_freq": (100,)}
    match = matched(file, model, missing="b")
    assert match
    assert match.coverage == 0.9


def test_an_unknown_how_and_a_coverage_that_is_none_are_refused() -> None:
    with pytest.raises(ValueError, match="'keep', 'slice', 'pad', 'reinit'; got 'skip'"):
        Allow(how="skip")  # type: ignore[arg-type]
    for coverage in (-0.1, 1.5, math.nan, True):
        with pytest.raises(ValueError, match="from 0 to 1"):
            Allow(coverage=coverage)
    with pytest.raises(TypeError, match="missing="):
        Allow(missing=[3])  # type: ignore[list-item]


def test_keep_leaves_the_models_values() -> None:
    match = only((5, 4), (3, 4))
    assert verdict(match) == "everything fits but the head: layer, 5 → 3 classes"
    assert "of another size, 1 tensor: the model's own values kept" in match.told
    assert [pair.target.name for pair in match.pairs] == ["rest.weight"]
    assert match.coverage == 10_000 / 10_012


def test_reinit_names_the_tensors_whose_modules_begin_anew() -> None:
    match = matched(resnet(1000), resnet(3), mismatched="fc.*", how="reinit")
    assert match.reinitialised == ("fc.weight", "fc.bias")
    assert "of another size, 2 tensors: to be initialised anew" in match.told
    assert [target.name for target in match.kept] == ["fc.weight", "fc.bias"]


def test_slice_takes_the_first_rows_and_columns() -> None:
    match = only((5, 4), (3, 2), how="slice")
    assert verdict(match) == "everything fits but what was allowed: 1 tensor brought to another size"
    pair = next(pair for pair in match.pairs if pair.target.name == "layer.weight")
    assert pair.rule == "the first 3 of 5 along dimension 0 and 2 of 4 along dimension 1"
    assert pair.part == ()
    weights = weights_of({"layer.weight": (5, 4)})
    assert pair.source.shape == weights["layer.weight"][:3, :2].shape == (3, 2)
    assert pair.source.strides == (4, 1)  # type: ignore[union-attr]


def test_pad_fills_the_first_rows_and_leaves_the_rest() -> None:
    match = matched(bert(), {**bert(), "embeddings.word_embeddings.weight": (40, 8)}, mismatched="*word*", how="pad")
    pair = match.pairs[0]
    assert pair.target.name == "embeddings.word_embeddings.weight"
    assert pair.part == ((0, 30), (0, 8))
    assert pair.source.shape == (30, 8)
    assert pair.rule == "the first 30 of 40 along dimension 0 filled, the rest the model's own"
    assert pair.filled == 240
    assert 0.9 < match.coverage < 1
    assert match.to_dict()["pairs"][0]["part"] == [[0, 30], [0, 8]]


@pytest.mark.parametrize(
    ("here", "there", "how", "reason"),
    [
        ((3, 4), (5, 4), "slice", "how='slice' does not help: the checkpoint's is smaller along dimension 0"),
        ((5, 4), (3, 4), "pad", "how='pad' does not help: the checkpoint's is larger along dimension 0"),
        ((3, 4), (5, 2), "slice", "is smaller along dimension 0, and larger along another"),
        ((3, 4), (5, 2), "pad", "is larger along dimension 1, and smaller along another"),
        ((3, 4), (12,), "slice", "how='slice' cannot change the number of dimensions"),
        ((3, 4), (12,), "pad", "how='pad' cannot change the number of dimensions"),
    ],
)
def test_what_cannot_be_cut_or_filled_stays_a_mismatch_with_the_reason(
    here: tuple[int, ...], there: tuple[int, ...], how: str, reason: str
) -> None:
    match = only(here, there, how=how)
    assert not match
    assert reason in match.mismatched[0].hint
    assert reason in " ".join(str(match).split())


@tried(60)
@given(some.lists(some.tuples(some.integers(1, 6), some.integers(1, 6)), min_size=1, max_size=3))
def test_slice_and_pad_give_exactly_what_lies_in_both(extents: list[tuple[int, int]]) -> None:
    here, there = tuple(one for one, _ in extents), tuple(other for _, other in extents)
    file, model = {"w": here, "rest": (10_000,)}, {"w": there, "rest": (10_000,)}
    cut, filled = matched(file, model, mismatched="*", how="slice"), matched(file, model, mismatched="*", how="pad")
    assert bool(cut) == all(one >= other for one, other in extents)
    assert bool(filled) == all(one <= other for one, other in extents)
    if cut:
        assert cut.pairs[0].source.shape == there
    if filled and here != there:
        assert filled.pairs[0].part == tuple((0, one) for one in here)


@pytest.mark.parametrize("how", ["slice", "pad"])
@pytest.mark.parametrize(
    ("old", "new", "kind", "rule"),
    [
        (3, 1, Summed, "3 input channels added up into one"),
        (3, 4, Repeated, "3 input channels repeated to 4, in scale"),
        (1, 3, Repeated, "1 input channels repeated to 3, in scale"),
    ],
)
def test_a_convolution_for_other_pictures_is_summed_or_repeated(
    how: str, old: int, new: int, kind: type, rule: str
) -> None:
    match = matched(resnet(channels=old), resnet(channels=new), mismatched="conv1.weight", how=how)
    assert match
    pair = match.pairs[0]
    assert isinstance(pair.source, Derived)
    assert isinstance(pair.source.how, kind)
    assert (pair.source.shape, pair.rule) == ((8, new, 7, 7), rule)


def test_fewer_channels_are_a_slice_only_where_that_was_asked_for() -> None:
    match = matched(resnet(channels=4), resnet(channels=3), mismatched="conv1.weight", how="slice")
    assert match.pairs[0].rule == "the first 3 of 4 input channels"
    match = matched(resnet(channels=4), resnet(channels=3), mismatched="conv1.weight", how="pad")
    assert match.mismatched[0].hint == "4 input channels become 3 only with how='slice'"


@pytest.mark.parametrize(
    ("name", "here", "there", "kept", "grid", "onto"),
    [
        ("pos_embed", (1, 197, 8), (1, 577, 8), 1, (14, 14), (24, 24)),
        ("pos_embed", (1, 196, 8), (1, 49, 8), 0, (14, 14), (7, 7)),
        ("pos_embed", (1, 198, 8), (1, 578, 8), 2, (14, 14), (24, 24)),
        ("encoder.pos_embedding", (1, 197, 8), (1, 50, 8), 1, (14, 14), (7, 7)),
        ("visual.positional_embedding", (50, 8), (197, 8), 1, (7, 7), (14, 14)),
        ("vision_model.embeddings.position_embedding.weight", (196, 8), (256, 8), 0, (14, 14), (16, 16)),
        ("layers.0.attn.relative_position_bias_table", (169, 4), (529, 4), 0, (13, 13), (23, 23)),
    ],
)
def test_positions_on_another_grid_are_interpolated_and_class_tokens_kept(
    name: str, here: tuple[int, ...], there: tuple[int, ...], kept: int, grid: tuple[int, ...], onto: tuple[int, ...]
) -> None:
    match = only(here, there, name, how="pad")
    pair = match.pairs[0]
    assert isinstance(pair.source, Derived)
    assert pair.source.how == Interpolated(len(here) - 2, kept, grid, onto)
    assert pair.source.shape == there
    assert f"interpolated from {grid[0]}x{grid[1]} to {onto[0]}x{onto[1]}" in " ".join(match.told)


@pytest.mark.parametrize(
    "name", ["embeddings.position_embeddings.weight", "text_model.embeddings.position_embedding.weight"]
)
def test_positions_of_words_are_rows_also_where_their_number_is_a_square(name: str) -> None:
    for here, there in ((16, 64), (12, 20)):
        match = only((here, 8), (there, 8), name, how="pad")
        assert match.pairs[0].part == ((0, here), (0, 8))


def test_a_class_token_is_never_taken_for_a_patch() -> None:
    match = only((1, 197, 8), (1, 196, 8), "pos_embed", how="slice")
    assert not match
    assert match.mismatched[0].hint == (
        "the two have other tokens before the patches: 1 and none; rules=[Slice('pos_embed', 1, 1)] leaves it out"
    )


@pytest.mark.parametrize("patterns", [3, None, [3], (glob for glob in ["fc.*"])])
def test_patterns_that_are_none_are_refused_before_a_file_is_looked_at(patterns: Any) -> None:
    for kind in ("missing", "unexpected", "mismatched"):
        with pytest.raises(TypeError, match=f"{kind}= is a pattern or several, as strings"):
            Allow(**{kind: patterns})


def test_a_coverage_is_a_number() -> None:
    for coverage in ("0.5", None, [0.5]):
        with pytest.raises(ValueError, match="coverage= is a part of one"):
            Allow(coverage=coverage)  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["slice", "pad"])
def test_positions_of_a_picture_that_is_no_square_are_not_cut_as_if_they_were_words(how: str) -> None:
    here, there = ((1, 17, 8), (1, 33, 8)) if how == "pad" else ((1, 33, 8), (1, 17, 8))
    for name in ("pos_embed", "decoder_pos_embed", "vit.encoder.pos_embedding"):
        match = only(here, there, name, how=how)
        assert not match
        hint = f"rules=[Interpolate({name!r}, (rows, columns), (rows, columns), kept=tokens)] says which"
        assert match.mismatched[0].hint == f"positions on a grid that is no square; {hint}"
    assert only(here, there, "text_pos_embed", how=how)


def test_tokens_of_two_kinds_are_counted() -> None:
    hint = "the two have other tokens before the patches: 1 and 2"
    assert only((1, 17, 8), (1, 18, 8), "pos_embed", how="pad").mismatched[0].hint == hint
    hint = "the two have other tokens before the patches: none and 1"
    assert only((1, 16, 8), (1, 17, 8), "pos_embed", how="pad").mismatched[0].hint == hint


def test_volumes_have_channels_as_pictures_have() -> None:
    match = only((8, 1, 3, 3, 3), (8, 3, 3, 3, 3), "conv1.weight", how="pad")
    assert match.pairs[0].rule == "1 input channels repeated to 3, in scale"


@pytest.mark.parametrize(("old", "new"), [(3, 1), (3, 6)])
def test_whole_numbers_are_neither_added_up_nor_scaled(old: int, new: int) -> None:
    import rehydrate as rh
    from tests.matching.made import saved

    data = {"conv.weight": torch.full((4, old, 5, 5), 100, dtype=torch.int8), "rest": torch.zeros(99)}
    match = match_weights(
        rh.open(saved(data)).weights(),
        targets_of_shapes({"conv.weight": (4, new, 5, 5), "rest": (99,)}),
        "Net",
        allow=Allow(mismatched="*", how="pad", coverage=0),
    )
    assert not match
    assert match.mismatched[0].hint.startswith("int8 numbers cannot be")


def test_patterns_may_have_the_wrapper_of_a_model_or_not_whoever_put_it_before_the_names(tmp_path: Path) -> None:
    from rehydrate.matching.rules.mapping import rules_of

    targets = targets_of_shapes({"module.body.weight": (9, 9), "module.fc.weight": (3, 9)})
    weights = weights_of({"body.weight": (9, 9), "fc.weight": (5, 9), "more.weight": (2, 2)})
    for glob, left in (("fc.*", "more.*"), ("module.fc.*", "more.*")):
        allow = Allow(mismatched=glob, unexpected=left)
        match = match_weights(weights, targets, "Net", allow=allow)
        assert match
        match.save(tmp_path / "map.toml")
        again = match_weights(weights, targets, "Net", rules=rules_of(tmp_path / "map.toml"), allow=allow)
        assert again
        assert again.allowed == match.allowed


def test_an_error_tells_which_patterns_were_of_no_use() -> None:
    match = match_weights(
        weights_of({"body.weight": (9, 9), "fc.weight": (5, 9)}),
        targets_of_shapes({"body.weight": (9, 9), "fc.weight": (3, 9)}),
        "Net",
        allow=Allow(mismatched="fcc.*", missing="*"),
    )
    with pytest.raises(MismatchError, match=re.escape("Allow(mismatched=['fcc.*']) forgave nothing")) as error:
        match.raise_if_bad()
    assert "['*']" not in str(error.value)


def test_windows_of_another_number_of_heads_do_not_fit() -> None:
    match = only((169, 4), (529, 8), "attn.relative_position_bias_table", how="pad")
    assert match.mismatched[0].hint == "another number of heads"


def test_whole_numbers_are_not_interpolated() -> None:
    data = {"pos_embed": torch.zeros(1, 4, 2, dtype=torch.int64), "rest": torch.zeros(99)}
    import rehydrate as rh
    from tests.matching.made import saved

    match = match_weights(
        rh.open(saved(data)).weights(),
        targets_of_shapes({"pos_embed": (1, 9, 2), "rest": (99,)}),
        "Net",
        allow=Allow(mismatched="*", how="pad"),
    )
    assert match.mismatched[0].hint == "int64 numbers cannot be interpolated"


@pytest.mark.parametrize("how", ["keep", "reinit"])
def test_what_has_a_meaning_is_kept_where_that_was_asked_for(how: str) -> None:
    for name, here, there in (("pos_embed", (1, 197, 8), (1, 577, 8)), ("conv1.weight", (8, 3, 7, 7), (8, 1, 7, 7))):
        match = only(here, there, name, how=how)
        assert [target.name for target in match.kept] == [name]
