"""Which tensor goes where: situations, each with what its report says."""

from __future__ import annotations

import pytest

from rehydrate.matching.match import Match, match_weights
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
