"""Folding: many names as few lines, and many renames as few rules that are exact for the names they were made of."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehydrate.matching.rules.folding import grouped
from rehydrate.rules import Rename, Renames, apply_rules, rename_rules

from ..effort import tried
from ..growth import MORE, assert_grows_like_its_work
from .evaluated import named

Pairs = list[tuple[str, str]]


def table_of(pairs: Pairs) -> dict[str, str]:
    """The renames that were found, after they have been tried on all names together."""
    rules = rename_rules(pairs)
    applied = apply_rules(named(*(old for old, _ in pairs)), rules)
    assert list(applied.values) == [new for _, new in pairs]
    if not rules:
        return {}
    assert len(rules) == 1
    (rule,) = rules
    return dict(rule.names) if isinstance(rule, Renames) else {rule.old: rule.new}


def changed(names: Sequence[str], old: str, new: str) -> Pairs:
    """Each name and what `re.sub` makes of it."""
    return [(name, re.sub(old, new, name)) for name in names]


LEAVES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
DENSE = [
    *(f"features.norm0.{leaf}" for leaf in LEAVES),
    *(
        f"features.denseblock{block}.denselayer{layer}.{part}"
        for block in (1, 2, 3, 4)
        for layer in range(1, 4 + block)
        for at in (1, 2)
        for part in (*(f"norm.{at}.{leaf}" for leaf in LEAVES), f"conv.{at}.weight")
    ),
    "classifier.weight",
    "classifier.bias",
]
RESNET = [
    "conv1.weight",
    *(f"bn1.{leaf}" for leaf in LEAVES),
    *(
        f"layer{layer}.{block}.{part}"
        for layer in (1, 2, 3, 4)
        for block in range(2 + layer % 3)
        for at in (1, 2, 3)
        for part in (f"conv{at}.weight", *(f"bn{at}.{leaf}" for leaf in LEAVES))
    ),
    *(f"layer{layer}.0.downsample.{part}" for layer in (1, 2, 3, 4) for part in ("0.weight", "1.weight", "1.bias")),
    "fc.weight",
    "fc.bias",
]
LAYERS = [
    "model.embed.weight",
    *(
        f"model.layers.{layer}.{part}.{leaf}"
        for layer in range(24)
        for part in ("attn.q", "attn.k", "mlp.up")
        for leaf in ("weight", "bias")
    ),
    "lm_head.weight",
]


@pytest.mark.parametrize(
    ("pairs", "table"),
    [
        (changed(DENSE, r"norm\.(\d)", r"norm\1"), {"features.denseblock{i}.denselayer{j}.norm.{k}.*": None}),
        (
            changed(DENSE, r"(norm|conv)\.(\d)", r"\1\2"),
            {"features.denseblock{i}.denselayer{j}.conv.{k}.weight": None,
             "features.denseblock{i}.denselayer{j}.norm.{k}.*": None},
        ),
        (changed(RESNET, "^", "module."), {"*": "module.*"}),
        (changed(["module." + name for name in RESNET], r"^module\.", ""), {"module.*": "*"}),
        (changed(RESNET, r"^layer(\d)", r"stage\1"), {"layer{i}.*": "stage{i}.*"}),
        (
            [(name, re.sub(r"^layer(\d)", lambda found: f"blocks.{int(found[1]) - 1}", name)) for name in RESNET],
            {"layer{i}.*": "blocks.{i - 1}.*"},
        ),
        (
            [(name.replace("layer", "group2.layer"), name) for name in RESNET],
            {"group2.*": "*"},
        ),
        (
            [(re.sub(r"\.(conv|bn)(\d)", r".group\2.\1\2", name), name) for name in RESNET],
            {"layer{i}.{j}.group{k}.*": "layer{i}.{j}.*"},
        ),
        (
            changed(LAYERS, r"^model\.layers\.(\d+)\.attn", r"h.\1.attention"),
            {"model.layers.{i}.attn.*": "h.{i}.attention.*"},
        ),
        (
            [(f"{part}.{old}", f"{part}.{new}")
             for part in ("x", "y", "z.w") for old, new in (("gamma", "weight"), ("beta", "bias"))],
            {"*.gamma": "*.weight", "*.beta": "*.bias"},
        ),
        ([(f"{x}.{l}", f"{y}.{l}") for x, y in ("ab", "ba") for l in LEAVES], {"a.*": "b.*", "b.*": "a.*"}),
        (
            [(f"features.{at}.{leaf}", f"stem.{at + 1}.{leaf}") for at in range(9) for leaf in ("weight", "bias")]
            + [("features.9.weight", "head.weight")],
            {"features.9.weight": "head.weight", "features.{i}.*": "stem.{i + 1}.*"},
        ),
        (
            [(f"encoder.{part}.w", f"backbone.{part}.w") for part in "abcdef"] + [("encoder.kept.w", "encoder.kept.w")],
            {"encoder.kept.w": "encoder.kept.w", "encoder.*": "backbone.*"},
        ),
        ([(f"x.{at}.{at}", f"y.{at}") for at in range(5)], {"x.{i}.{i}": "y.{i}"}),
        ([(f"x.{at}.{at + 2}", f"y.{at}") for at in range(5)], {"x.{i}.{i + 2}": "y.{i}"}),
        ([(f"x.{a}.{b}", f"y.{b}.{a}") for a in range(3) for b in range(4)], {"x.{i}.{j}": "y.{j}.{i}"}),
        ([("a", "b")], {"a": "b"}),
        ([("a*b?{c}[", "x*{")], {"a[*]b[?][{]c}[[]": "x[*][{]"}),
        ([(name, name) for name in RESNET], {}),
        ([], {}),
    ],
)  # fmt: skip
def test_renames_are_folded_into_the_few_that_a_person_would_write(pairs: Pairs, table: dict[str, str | None]) -> None:
    found = table_of(pairs)
    assert list(found) == list(table)
    assert all(found[old] == new for old, new in table.items() if new is not None)


def test_a_single_rename_is_a_rename_and_several_are_meant_at_once() -> None:
    assert rename_rules([("a.1", "b.1"), ("a.2", "b.2")]) == (Rename("a.{i}", "b.{i}"),)
    assert rename_rules([("a", "b"), ("b", "a")]) == (Renames({"a": "b", "b": "a"}),)


def test_folded_renames_can_be_turned_round() -> None:
    for pairs in (changed(DENSE, r"norm\.(\d)", r"norm\1"), changed(RESNET, r"^layer(\d)", r"stage\1")):
        (rule,) = rename_rules(pairs)
        back = rule.reversed().apply(named(*(new for _, new in pairs))).values
        assert list(back) == [old for old, _ in pairs]


words = st.sampled_from(["a", "b", "norm", "conv1", "layer", "*", "{i}", "[0]", "w", "module", "01", ""])
counts = st.integers(0, 4).map(str)
any_names = st.lists(st.one_of(words, counts, st.text("a.1*{", max_size=4)), min_size=1, max_size=5).map(".".join)


@tried(400)
@given(st.lists(any_names.filter(bool), min_size=1, max_size=14, unique=True), st.data())
def test_whatever_is_renamed_the_rules_give_exactly_that(names: list[str], data: st.DataObject) -> None:
    ways = {
        "shuffled": lambda name: news[names.index(name)],
        "counted": lambda name: re.sub(r"(?<!\d)\d(?!\d)", lambda found: str(int(found[0]) + 1), name),
        "in front": lambda name: "x." + name,
        "words": lambda name: name.replace("norm", "n").replace("layer.", "l"),
        "some": lambda name: name.replace("a", "z") if len(name) % 2 else name,
    }
    news = data.draw(st.permutations(names))
    pairs = [(name, ways[data.draw(st.sampled_from(sorted(ways)))](name)) for name in names]
    kept = {new: old for old, new in reversed(pairs) if new}
    table_of([(old, new) for new, old in kept.items()])


def test_a_name_with_two_new_ones_and_two_names_with_one_are_refused() -> None:
    with pytest.raises(ValueError, match="a cannot become both b and c"):
        rename_rules([("a", "b"), ("a", "c")])
    with pytest.raises(ValueError, match="a and b cannot both become c"):
        rename_rules([("a", "c"), ("b", "c")])
    assert rename_rules([("a", "b"), ("a", "b")]) == (Rename("a", "b"),)


def shuffled(names: list[str]) -> Pairs:
    others = list(names)
    random.Random(4).shuffle(others)
    return list(zip(names, others, strict=True))


@pytest.mark.parametrize(
    ("pairs_of", "few"),
    [
        (lambda n: shuffled([f"layer.{at}.w" for at in range(n)]), 2000),
        (lambda n: shuffled([f"l{at}a.x{at % 7}.w" for at in range(n)]), 2000),
        (
            lambda n: [
                (f"p.a{chr(200 + at % (n // 4))}{at // (n // 4)}b.w", f"p.c{chr(200 + at % (n // 4))}{at}b.w")
                for at in range(n)
            ],
            2000,
        ),
        (lambda n: [(f"{'1.' * n}{at}", f"x{at}") for at in range(3)], 5000),
        (lambda n: [("*" * n, "{" * n), ("a" * (3 * n), "b")], 30_000),
    ],
    ids=["numbers", "numbers in words", "cores", "many numbers", "signs"],
)
def test_names_of_any_kind_are_folded_in_a_time_like_their_number(pairs_of: Callable[[int], Pairs], few: int) -> None:
    assert_grows_like_its_work(lambda n: partial(rename_rules, pairs_of(n)), few)
    pairs = pairs_of(MORE * few)
    rules = rename_rules(pairs)
    values = dict.fromkeys(old for old, _ in pairs)
    for rule in rules:
        values = rule.apply(values).values  # type: ignore[arg-type, assignment]
    assert list(values) == [new for _, new in pairs]


# Lines for reports


@pytest.mark.parametrize(
    ("names", "lines"),
    [
        (["fc.weight", "fc.bias"], [("fc.{weight, bias}", 2)]),
        (["fc.weight"], [("fc.weight", 1)]),
        ([f"layer{a}.{b}.c1.w" for a in (1, 2, 3, 4) for b in range(6)], [("layer{1...4}.{0...5}.c1.w", 24)]),
        (["a.0", "a.2", "a.5"], [("a.{0,2,5}", 3)]),
        ([f"a.{at * at}.w" for at in range(10)], [("a.{0,1,...,81}.w", 10)]),
        (["x.b", "y", "x.a", "z.1.w", "z.2.w"], [("x.{b, a}", 2), ("y", 1), ("z.{1...2}.w", 2)]),
        (["a.1.w", "a.2.w", "a.1.b"], [("a.{1...2}.w", 2), ("a.1.b", 1)]),
        ([f"n.{at}.{leaf}" for at in (1, 2) for leaf in "ab"], [("n.{1...2}.{a, b}", 4)]),
        ([f"r.w_l{at}" for at in (0, 1)], [("r.w_l{0...1}", 2)]),
        ([f"layer_{at:02}.w" for at in range(12)], [("layer_{00...09}.w", 10), ("layer_{10...11}.w", 2)]),
        (["fc", "fc.fc"], [("fc", 1), ("fc.fc", 1)]),
        ([f"m.{leaf}" for leaf in "abcdefgh"], [("m.{a, b, c, d, e, f, and 2 more}", 8)]),
        (["1" * 30, "2" * 30], [(f"{{{'1' * 30},{'2' * 30}}}", 2)]),
        ([], []),
    ],
)  # fmt: skip
def test_names_are_shown_by_kinds_in_the_order_in_which_they_come(
    names: list[str], lines: list[tuple[str, int]]
) -> None:
    assert grouped(names) == lines


@tried(150)
@given(st.lists(any_names, max_size=30))
def test_every_name_is_counted_once_and_lines_differ(names: list[str]) -> None:
    lines = grouped(names)
    assert sum(count for _, count in lines) == len(names)
    assert len(lines) <= len(set(names))


def test_a_hundred_thousand_names_are_grouped_soon() -> None:
    def names(count: int) -> list[str]:
        many = [f"m{chr(200 + at % (count // 10))}.{at}.w" for at in range(count)]
        return [*many, "9" * (10 * count), "1." * (5 * count)]

    assert_grows_like_its_work(lambda n: partial(grouped, names(n)), 10_000)
    assert len(grouped(names(100_000))) == 10_002
