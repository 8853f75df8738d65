"""Rules about names: which a pattern means, what each becomes, and what is refused and how."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import fnmatchcase

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import rehydrate as rh
from rehydrate.rules import (
    Concat,
    Drop,
    Prefix,
    Rename,
    Renames,
    Rule,
    Transpose,
    apply_rules,
)

from ..effort import tried
from ..growth import assert_grows_like_its_work
from .evaluated import named


def renamed(rule: Rule, *names: str) -> list[str]:
    return list(rule.apply(named(*names)).values)


@pytest.mark.parametrize(
    ("old", "new", "before", "after"),
    [
        ("a.b", "c.d", "a.b", "c.d"),
        ("a.b", "c.d", "a.b.c", "a.b.c"),
        ("a.*", "b.*", "a.x.y.weight", "b.x.y.weight"),
        ("a.*", "b.*", "aa.x", "aa.x"),
        ("*.gamma", "*.weight", "x.norm.gamma", "x.norm.weight"),
        ("*.a.*", "*.b.*", "x.a.a.y", "x.b.a.y"),
        ("*.*", "*-*", "a.b.c", "a-b.c"),
        ("conv?.w", "c?.w", "conv3.w", "c3.w"),
        ("conv?.w", "c?.w", "conv33.w", "conv33.w"),
        ("?.*", "*.?", "a.bc", "bc.a"),
        ("[ab].w", "x.w", "b.w", "x.w"),
        ("[!ab].w", "x.w", "b.w", "b.w"),
        ("a[*].w", "b[*].w", "a*.w", "b*.w"),
        ("layer{i}.norm.{j}.*", "layer{i}.norm{j}.*", "layer3.norm.12.weight", "layer3.norm12.weight"),
        ("norm.{i}.*", "norm{i + 1}.*", "norm.9.w", "norm10.w"),
        ("norm.{i}", "norm{i - 1}", "norm.1", "norm0"),
        ("x{i}", "y{2 * i}", "x7", "y14"),
        ("x{i}", "y{i // 2}.{i % 2}", "x7", "y3.1"),
        ("x{i}.{j}", "y{3 * (i - 1) + j}", "x2.1", "y4"),
        ("x{layer}.{block_1}", "y{block_1}.{layer}", "x2.1", "y1.2"),
        ("norm{i + 1}.*", "norm.{i}.*", "norm1.w", "norm.0.w"),
        ("norm{i + 1}.*", "norm.{i}.*", "norm0.w", "norm0.w"),
        ("x{2 * i + 1}", "y{i}", "x7", "y3"),
        ("x{2 * i + 1}", "y{i}", "x8", "x8"),
        ("x{i}", "y{i}", "x12b", "x12b"),
        ("*{i}.w", "y{i}.*w", "x12.w", "y12.xw"),
        ("x{i}.y{i}", "z{i}", "x4.y4", "z4"),
        ("x{i}.y{i}", "z{i}", "x4.y14", "x4.y14"),
        ("x{i}.y{i + 1}", "z{i}", "x4.y5", "z4"),
        ("*.x{i}.*", "*.z{i}.*", "a.x.x3.b", "a.x.z3.b"),
        ("x{i}", "y{i}", "x007", "y007"),
        ("x{i}", "y{i + 0}", "x007", "y7"),
        ("x{i}", "y{i}", "x" + "1" * 19, "x" + "1" * 19),
        ("*", "model.*", "fc.weight", "model.fc.weight"),
        ("a.*", "b.*", "a.\n\x1b", "b.\n\x1b"),
        ("[", "]", "[", "]"),
        ("a[0", "b[0", "a[0", "b[0"),
        ("A.*", "b.*", "a.x", "a.x"),
    ],
)
def test_a_name_that_a_pattern_means_gets_its_new_name(old: str, new: str, before: str, after: str) -> None:
    assert renamed(Rename(old, new), before) == [after]


@tried(300)
@given(st.text("ab.*?[]!-", max_size=8), st.text("ab.*]!-\n", max_size=10))
def test_without_braces_a_pattern_means_what_fnmatch_says(glob: str, name: str) -> None:
    assert (renamed(Drop(glob), name) == []) == fnmatchcase(name, glob)


@tried(200)
@given(st.lists(st.sampled_from(["*", "?", "{i}", "{j}", "a", ".", "b"]), max_size=6), st.text("ab.123", max_size=12))
def test_a_pattern_that_is_put_in_place_of_itself_changes_nothing(signs: list[str], name: str) -> None:
    assume(name and "}{" not in "".join(signs))
    assert renamed(Rename("".join(signs), "".join(signs)), name) == [name]


@tried(100)
@given(st.integers(0, 10**9), st.integers(0, 50), st.integers(0, 9), st.sampled_from(["+", "-", "*"]))
def test_arithmetic_is_that_of_whole_numbers(number: int, other: int, shift: int, sign: str) -> None:
    expected = {"+": number + other * shift, "-": number - other * shift, "*": number * other * shift}[sign]
    assume(expected >= 0)
    rule = Rename("a{i}.{j}", f"b{{i {sign} j * {shift}}}")
    assert renamed(rule, f"a{number}.{other}") == [f"b{expected}"]


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("a.*", "b.*.*", "as many, or none"),
        ("a.*.*", "b.*", "as many, or none"),
        ("a", "b.?", "as many, or none"),
        ("a", "b{i}", "which is not in"),
        ("a{i}", "b{j}", "which is not in"),
        ("a{i}0", "b", "no digit can stand beside"),
        ("a0{i}", "b", "no digit can stand beside"),
        ("a{i}{j}", "b", "no digit can stand beside"),
        ("a{i // 2}", "b", "cannot be looked for"),
        ("a{i * j}", "b", "cannot be looked for"),
        ("a{0 * i}", "b", "cannot be looked for"),
        ("a{}", "b", "neither a name nor arithmetic"),
        ("a{i; j}", "b", "neither a name nor arithmetic"),
        ("a{i.__class__}", "b", "neither a name nor arithmetic"),
        ("a{i}", "b{i +}", "where a number or a name should be"),
        ("a{i}", "b{(i}", "without its"),
        ("a{i}", "b{i i}", "makes no sense"),
        ("a{i}", "b{" + "(" * 5000 + "i" + ")" * 5000 + "}", "neither a name nor arithmetic"),
        ("[ab]", "[ab]", "does not say which character"),
    ],
)
def test_a_pattern_that_makes_no_sense_is_refused_at_once(old: str, new: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Rename(old, new)
    with pytest.raises(ValueError, match=why):
        Renames({old: new})


@pytest.mark.parametrize("new", ["b{i - 5}", "b{i // (i - 3)}", "b{1 % (i - 3)}"])
def test_arithmetic_that_gives_no_number_for_a_name_is_refused_with_the_name(new: str) -> None:
    with pytest.raises(rh.MismatchError, match="1 tensor would get no name") as caught:
        Rename("a{i}", new).apply(named("a3", "a9"))
    assert "a3: {" in caught.value.found
    assert "a9" not in caught.value.found


def test_a_name_that_would_be_empty_is_refused() -> None:
    with pytest.raises(rh.MismatchError, match="1 tensor would get no name"):
        Rename("a*", "*").apply(named("a", "ab"))


HOSTILE = ("aa", "1.", "99", "a1", "[*")


@pytest.mark.parametrize(
    "glob", ["*a" * 20 + "*b", "*{i}" * 9 + "*x", "*?" * 12 + "z", "*.{i}.*.{i}", "[!z]*" * 9 + "z", "*{i + 1}.*!"]
)
def test_no_name_takes_a_pattern_long(glob: str) -> None:
    def work(length: int) -> Callable[[], object]:
        values = named(*(word * (length // 2) for word in HOSTILE))
        return lambda: (Drop(glob).apply(values), Rename(glob, "y").apply(named("x")))

    assert_grows_like_its_work(work, 100_000)


def test_thirty_thousand_names_are_renamed_soon_also_by_many_patterns_at_once() -> None:
    def work(layers: int) -> Callable[[], object]:
        values = named(*(f"layer{i}.block.{j}.weight" for i in range(layers) for j in range(100)))
        one_by_one = Renames({f"layer{i}.block.{{j}}.*": f"stage{i}.{{j}}.*" for i in range(layers)})
        literally = Renames({name: f"x.{name}" for name in values})

        def rename() -> None:
            assert renamed(Rename("layer{i}.block.{j}.*", "blocks.{i}.{j}.*"), *values)[0] == "blocks.0.0.weight"
            assert len(literally.apply(values).values) == layers * 100
            assert f"stage{layers - 1}.99.weight" in one_by_one.apply(values).values

        return rename

    assert_grows_like_its_work(work, 30)


# Rename by a regular expression


@pytest.mark.parametrize(
    ("old", "new", "before", "after"),
    [
        (r"group\d+\.", "", "layer1.0.group1.conv1.weight", "layer1.0.conv1.weight"),
        (r"norm\.(\d)", r"norm\1", "a.norm.1.b.norm.2.w", "a.norm1.b.norm2.w"),
        (r"^(?P<a>\w+)\.(?P<b>\w+)", r"\g<b>.\g<a>", "x.y.z", "y.x.z"),
        (r"h\.(?P<at>\d+)", "h.{at + 1}", "h.9.w", "h.10.w"),
        (r"(?P<a>\d+)\.(?P<b>\d+)", "{10 * a + b}", "x.1.2", "x.12"),
        (r"(?P<a>[a-z]+)_", "{a}.", "up_w", "up.w"),
        (r"(?i)NORM", "n", "a.norm", "a.n"),
        (r"^fc\.", "head.", "afc.fc.w", "afc.fc.w"),
    ],
)
def test_a_regular_expression_is_replaced_wherever_it_is_found(old: str, new: str, before: str, after: str) -> None:
    assert renamed(Rename(old, new, regex=True), before) == [after]
    if "{" not in new:
        assert re.sub(old, new, before) == after


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("a(", "b", "makes no sense"),
        ("a", r"\1", "makes no sense"),
        ("a", r"\g<x>", "makes no sense"),
        ("a", "{x + 1}", "needs a group"),
        ("(?P<x>a)", "{x +}", "should be"),
    ],
)
def test_a_regular_expression_that_makes_no_sense_is_refused_at_once(old: str, new: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Rename(old, new, regex=True)


def test_arithmetic_on_what_is_no_number_is_refused_with_the_name() -> None:
    with pytest.raises(rh.MismatchError) as caught:
        Rename(r"(?P<x>\w+)\.w", "{x + 1}.w", regex=True).apply(named("ab.w", "3.w"))
    assert "ab.w: the group x found 'ab', which is no whole number" in str(caught.value)


# Names


def test_the_order_of_tensors_is_kept_and_the_others_are_as_they_were() -> None:
    values = named("c", "a.1", "b", "a.0")
    applied = Rename("a.{i}", "z{i}").apply(values)
    assert list(applied.values) == ["c", "z1", "b", "z0"]
    assert [applied.values[name] for name in ("c", "b")] == [values["c"], values["b"]]
    assert list(values) == ["c", "a.1", "b", "a.0"]


def test_two_tensors_under_one_name_are_refused_counts_first() -> None:
    with pytest.raises(rh.MismatchError) as caught:
        Rename("a.*", "b.*").apply(named("a.x", "b.x", "a.y"))
    assert str(caught.value).splitlines() == [
        "1 name would be had by several tensors",
        "  where  the rule: rename a.* -> b.*",
        "  found  b.x: a.x, b.x",
    ]
    with pytest.raises(rh.MismatchError, match="2 names would be had by several tensors") as caught:
        Renames({"a.{i}": "c", "b.{i}": "d"}).apply(named("a.1", "a.2", "b.1", "b.2", "b.3"))
    assert caught.value.found.splitlines() == ["c: a.1, a.2", "d: b.1, b.2, b.3"]


def test_ten_thousand_clashes_make_a_short_message_and_no_name_reaches_a_terminal() -> None:
    names = [f"a\x1b[31m{at}.{side}" for at in range(10_000) for side in "xy"]
    with pytest.raises(rh.MismatchError) as caught:
        Renames({"*.x": "*", "*.y": "*"}).apply(named(*names))
    text = str(caught.value)
    assert "10,000 names" in text
    assert "and 9,995 more" in text
    assert "\x1b" not in text
    assert len(text) < 1500


def test_a_prefix_is_whole_components() -> None:
    names = ("module.fc.w", "module_list.0.w", "modules.x", "module")
    for remove in ("module.", "module"):
        assert renamed(Prefix(remove=remove), *names) == ["fc.w", "module_list.0.w", "modules.x", "module"]
    assert renamed(Prefix(add="net"), "fc.w") == renamed(Prefix(add="net."), "fc.w") == ["net.fc.w"]
    assert renamed(Prefix("a.b", "c"), "a.b.w", "a.w") == ["c.w", "a.w"]
    with pytest.raises(ValueError, match="is needed"):
        Prefix()


def test_renames_are_all_at_once_and_the_first_that_fits_is_taken() -> None:
    assert renamed(Renames({"a.*": "b.*", "b.*": "a.*"}), "a.w", "b.w", "c.w") == ["b.w", "a.w", "c.w"]
    rule = Renames({"a.7.w": "seven", "a.{i}.w": "n{i}", "a.*": "rest.*", "a.8.w": "never"})
    assert renamed(rule, "a.7.w", "a.8.w", "a.b") == ["seven", "n8", "rest.b"]
    assert renamed(Renames({"*": "x.*", "a.1": "y"}), "a.1") == ["x.a.1"]
    assert renamed(Renames({}), "a") == ["a"]


def test_every_rule_says_how_many_tensors_it_met_or_that_it_met_none() -> None:
    values = named("a.1", "a.2", "b.1")
    assert Rename("a.{i}", "c{i}").apply(values).told == ("rename a.{i} -> c{i}: 2 tensors",)
    assert Rename("x.*", "y.*").apply(values).told == ("rename x.* -> y.* met no tensor",)
    assert Drop("b.*").apply(values).told == ("leave out b.*: 1 tensor",)
    assert Renames({"a.*": "c.*", "x": "y"}).apply(values).told == (
        "rename by 2 patterns: 2 tensors",
        "rename by 2 patterns: x met no tensor",
    )
    assert apply_rules(values, [Drop("a.*"), Prefix(remove="q")]).told == (
        "leave out a.*: 2 tensors",
        "take prefix q. off met no tensor",
    )
    assert Transpose("none").apply(values).told == ("transpose none met no tensor",)
    assert Concat(("x.q", "x.k"), "x.qk").apply(values).told[0].endswith("met no tensor")
