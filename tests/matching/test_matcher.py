"""Which tensor goes where: situations, each with what its report says."""

from __future__ import annotations

from pathlib import Path

import pytest

from rehydrate.matching.mapping import rules_of
from rehydrate.matching.match import Match, match_weights
from rehydrate.matching.rule import apply_rules
from tests.matching.made import targets_of_shapes, weights_of
from tests.matching.situations import SITUATIONS, Situation


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
        assert values[pair.target.name].shape == pair.target.shape
    again = match_weights(weights, targets_of_shapes(case.model), "Net", rules=rules, allow=case.allow)
    assert again
    assert {pair.rule for pair in again.pairs} <= {"by name"}
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
