"""What is said of a checkpoint that does not fit: counts, then names and shapes, in torch's words, never too much."""

from __future__ import annotations

import io
import itertools
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import rehydrate as rh

from ..growth import assert_grows_like_its_work


def saved(obj: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(obj, buffer)
    return buffer.getvalue()


def complaint(model: nn.Module, state: Any) -> str:
    with pytest.raises(rh.MismatchError) as caught:
        rh.load_into(model, saved(state))
    return str(caught.value)


def network(*sizes: int) -> nn.Sequential:
    return nn.Sequential(*(nn.Linear(one, two) for one, two in itertools.pairwise(sizes)))


def test_it_is_the_error_that_torchs_users_catch() -> None:
    with pytest.raises(RuntimeError, match=r"Error\(s\) in loading state_dict"):
        rh.load_into(network(2, 3), saved(network(2, 4).state_dict()))


def test_counts_come_first_then_names_and_both_shapes_in_torchs_words() -> None:
    state = network(2, 3, 4).state_dict()
    state["0.wieght"] = state.pop("0.weight")
    state["1.bias"] = torch.zeros(7)
    state["extra"] = torch.zeros(1)
    text = complaint(network(2, 3, 4), state)
    first, *rest = text.splitlines()
    assert first == (
        "the checkpoint does not fit Sequential: 1 missing, 2 unexpected, 1 of another size "
        "(Error(s) in loading state_dict)"
    )
    told = "\n".join(rest)
    assert 'Missing key(s) in state_dict: 1: "0.weight" (did you mean 0.wieght?)' in told
    assert 'Unexpected key(s) in state_dict: 2: "0.wieght" (did you mean 0.weight?), "extra"' in told
    assert "size mismatch for 1.bias: the checkpoint has [7], the model [4]" in told


def test_the_words_are_those_that_torch_uses_for_the_same() -> None:
    state = network(2, 3).state_dict()
    state["more"] = state.pop("0.bias")
    state["0.weight"] = torch.zeros(9, 2)
    ours = complaint(network(2, 3), state)
    with pytest.raises(RuntimeError) as theirs:
        network(2, 3).load_state_dict(state)
    for words in ("Missing key(s) in state_dict", "Unexpected key(s) in state_dict", "size mismatch for 0.weight"):
        assert words in str(theirs.value)
        assert words in ours


def test_ten_thousand_wrong_names_make_a_short_message_soon() -> None:
    def wrong(count: int) -> Callable[[], str]:
        model = nn.ParameterDict({f"layer{at}_weight": nn.Parameter(torch.zeros(1)) for at in range(count)})
        state = {f"layer{at}_wait": torch.zeros(1) for at in range(count)}
        return lambda: complaint(model, state)

    assert_grows_like_its_work(wrong, 1000)
    text = wrong(10_000)()
    assert "10,000 missing, 10,000 unexpected" in text
    assert "9,990 more" in text
    assert len(text) < 4000
    assert len(text.splitlines()) < 20


def test_ten_thousand_wrong_shapes_make_a_short_message() -> None:
    names = [f"layer{at}_weight" for at in range(10_000)]
    model = nn.ParameterDict({name: nn.Parameter(torch.zeros(1)) for name in names})
    text = complaint(model, dict.fromkeys(names, torch.zeros(2)))
    assert "10,000 of another size" in text
    assert "9,990 more of other sizes" in text
    assert len(text) < 2000


def test_names_of_a_file_are_shown_harmless_and_short() -> None:
    text = complaint(network(2, 3), {"\x1b[31mred\n": torch.zeros(1), "x" * 100_000: torch.zeros(1)})
    assert "\x1b" not in text
    assert len(text) < 2000


def test_a_checkpoint_of_something_else_is_called_so() -> None:
    assert "no name fits" in complaint(network(2, 3), {"conv.weight": torch.zeros(3), "conv.bias": torch.zeros(1)})
    assert "build the model with the sizes of the checkpoint" in complaint(network(2, 3), network(2, 4).state_dict())


def test_the_match_tells_the_same_as_plain_data() -> None:
    match = rh.load_into(nn.DataParallel(network(2, 3)), saved({"model": network(2, 3).state_dict()}))
    told = json.loads(json.dumps(match.to_dict()))
    assert told["ok"] is True
    assert told["pairs"][0] == {
        "target": "module.0.weight",
        "source": "0.weight",
        "sources": ["0.weight"],
        "rule": "by name",
        "sure": "certain",
        "part": [],
    }
    assert told["verdict"] == "everything fits"
    assert told["file"] == {"tensors": 2, "used": 2}
    assert told["coverage"] == 1.0
    assert told["told"] == list(match.told)
    assert re.match(r"DataParallel: 2 of 2 tensors fit, 100 % of its parameters\n", str(match))
