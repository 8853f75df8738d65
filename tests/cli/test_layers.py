"""The table of a model's layers: a dozen rows at most, every tensor in one of them, and names that fold."""

from __future__ import annotations

import time

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import rehydrate as rh
from rehydrate.cli.layers import MOST, table
from tests.effort import tried

from ..checkpoint.kinds import saved


def rows(tensors: dict[str, torch.Tensor]) -> list[str]:
    with rh.open(saved(tensors)) as checkpoint:
        return table(checkpoint.weights())


def layers(tensors: dict[str, torch.Tensor]) -> dict[str, tuple[int, int]]:
    """The rows of a large model: name → tensors, numbers."""
    head, *lines = rows(tensors)
    assert head.split() == ["layer", "tensors", "numbers"]
    found: dict[str, tuple[int, int]] = {}
    for line in lines:
        name, count, numbers, *_ = line.split()
        found[name] = (int(count.replace(",", "")), int(numbers.replace(",", "")))
    return found


def stage(inside: int, outside: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(
        nn.Sequential(nn.Conv2d(inside if not at else outside, outside, 3), nn.BatchNorm2d(outside))
        for at in range(blocks)
    ))  # fmt: skip


def test_a_small_model_is_shown_tensor_by_tensor_in_its_order() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 5))
    assert rows(model.state_dict()) == [
        "0.weight  float32  [2, 3]",
        "0.bias    float32  [2]",
        "1.weight  float32  [5, 2]",
        "1.bias    float32  [5]",
    ]


def test_names_are_cut_where_a_line_would_be_too_long() -> None:
    shape = (1, 2, 3, 1, 2, 3)
    found = rows({
        f"{'encoder.' * 5}{name}.{kind}_of_a_layer": torch.zeros(shape)
        for name in "abcdefgh" for kind in ("weight", "bias")
    })  # fmt: skip
    assert max(map(len, found)) <= 76
    assert len({line.split()[0] for line in found}) == len(found)


def test_layers_of_the_same_shapes_fold_into_one_row() -> None:
    found = layers({f"h.{at}.{name}": torch.zeros(8, 8) for at in range(12) for name in ("attn.w", "attn.b", "mlp.w")})
    assert found == {"h.{0..11}.attn": (24, 24 * 64), "h.{0..11}.mlp.w": (12, 12 * 64)}


def test_one_layer_that_differs_stays_out_of_the_row() -> None:
    shapes = [(4, 3), *[(4, 4)] * 6, (2, 4)]
    tensors = {f"net.{2 * at}.{name}": torch.zeros(shape) for at, shape in enumerate(shapes) for name in ("a", "b")}
    assert list(layers(tensors)) == ["net.0", "net.{2,4,...,12}", "net.14"]


def test_layers_that_differ_fold_too_where_there_is_no_room() -> None:
    tensors = {f"features.{at}.weight": torch.zeros(at + 1, 2) for at in range(30)}
    tensors |= {"head.weight": torch.zeros(3, 3), "head.bias": torch.zeros(3)}
    assert layers(tensors) == {"features.{0..29}": (30, 930), "head": (2, 12)}


def test_a_residual_network_shows_its_stages() -> None:
    model = nn.Sequential()
    model.add_module("conv1", nn.Conv2d(3, 8, 7))
    for at, (inside, outside) in enumerate([(8, 8), (8, 16), (16, 32), (32, 64)], 1):
        model.add_module(f"layer{at}", stage(inside, outside, 2))
    model.add_module("fc", nn.Linear(64, 10))
    found = layers(model.state_dict())
    stages = ["layer2.0", "layer2.1", "layer3.0", "layer3.1", "layer4.0", "layer4.1"]
    assert list(found) == ["conv1", "layer1.{0,1}", *stages, "fc"]
    lines = rows(model.state_dict())
    assert lines[1].endswith("weight [8, 3, 7, 7]")
    assert lines[-1].endswith("weight [10, 64]")


def test_what_does_not_fold_is_counted() -> None:
    lines = rows(
        {"".join(pair): torch.zeros(1, 1) for pair in zip("abcdefghijklmnopqrst", "bcdefghijklmnopqrstu", strict=True)}
    )
    assert len(lines) == MOST + 2
    assert lines[-1] == "... and 8 tensors more"


names = st.lists(
    st.text("ab01.", min_size=1, max_size=8) | st.from_regex(r"(layer|h)[.]?[0-9]{1,2}[.](w|b)", fullmatch=True),
    min_size=1,
    max_size=40,
    unique=True,
)


@tried(150)
@given(names, st.data())
def test_every_tensor_is_in_exactly_one_row(names: list[str], data: st.DataObject) -> None:
    tensors = {name: torch.zeros(data.draw(st.sampled_from([(2, 2), (3, 2), (5,)]))) for name in names}
    tensors["a.b.weight"] = torch.zeros(2, 2)  # so that it is a network
    lines = rows(tensors)
    assert len(lines) <= MOST + 2
    if len(tensors) <= MOST:
        assert len(lines) == len(tensors)
        return
    rest = lines.pop() if lines[-1].startswith("...") else "... and 0 tensors more"
    counts = [int(line[len(line[: lines[0].index("tensors")]) :].split()[0]) for line in lines[1:]]
    assert sum(counts) + int(rest.split()[2]) == len(tensors)


def test_twenty_thousand_tensors_are_one_row_at_once() -> None:
    with rh.open(saved({f"blocks.{at}.weight": torch.empty(0) for at in range(20_000)})) as checkpoint:
        weights = checkpoint.weights()
    began = time.process_time()
    assert table(weights)[1].split()[:2] == ["blocks.{0..19999}.weight", "20,000"]
    assert time.process_time() - began < 3


def test_names_made_to_be_slow_are_not() -> None:
    tensors = {"." * 5000: torch.zeros(1), "a" + "9" * 100_000: torch.zeros(1), "x.y": torch.zeros(2, 2)}
    tensors |= {f"{'a.' * at}w": torch.zeros(1) for at in range(400)}
    began = time.process_time()
    lines = rows(tensors)
    assert time.process_time() - began < 3
    assert max(map(len, lines)) < 78
