"""Rules: what each makes of shapes and of several tensors, what it refuses and how, and that it can be undone."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import rehydrate as rh
from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.matching.values import Derived, Interpolated
from rehydrate.rules import (
    Cast,
    Chunk,
    Concat,
    Drop,
    Interpolate,
    Pad,
    Permute,
    Prefix,
    Rename,
    Renames,
    Reshape,
    Rule,
    Slice,
    Stack,
    Transpose,
    Unstack,
    rule_from,
)

from ..effort import tried
from .evaluated import named, numbers, opened, tensors


def renamed(rule: Rule, *names: str) -> list[str]:
    return list(rule.apply(named(*names)).values)


def called(value: object) -> str | None:
    """What a case of a rule is called."""
    return str(value) if hasattr(value, "apply") else None


# Shapes

ARRAYS = tensors(
    ("conv.weight", (4, 3, 2, 2)), ("fc.weight", (6, 4)), ("fc.bias", (6,)), ("scale", ()), ("pos", (1, 5, 3))
)


@pytest.mark.parametrize(
    ("rule", "name", "oracle", "is_free"),
    [
        (Transpose("fc.weight"), "fc.weight", lambda a: a.T, True),
        (Permute("conv.weight", (3, 2, 0, 1)), "conv.weight", lambda a: a.transpose(3, 2, 0, 1), True),
        (Permute("conv.weight", (-1, 0, 1, 2)), "conv.weight", lambda a: a.transpose(3, 0, 1, 2), True),
        (Permute("scale", ()), "scale", lambda a: a, True),
        (Reshape("conv.*", (4, -1)), "conv.weight", lambda a: a.reshape(4, 12), True),
        (Reshape("scale", (1, 1)), "scale", lambda a: a.reshape(1, 1), True),
        (Slice("fc.*", 0, 1, 3), "fc.weight", lambda a: a[1:3], True),
        (Slice("fc.*", 0, 1, 3), "fc.bias", lambda a: a[1:3], True),
        (Slice("fc.weight", -1, -2), "fc.weight", lambda a: a[:, -2:], True),
        (Slice("fc.weight", 1, 0, -1), "fc.weight", lambda a: a[:, :-1], True),
        (Pad("fc.weight", 0, 8), "fc.weight", lambda a: numpy.pad(a, [(0, 2), (0, 0)]), False),
        (
            Pad("fc.weight", -1, 5, 7.5),
            "fc.weight",
            lambda a: numpy.pad(a, [(0, 0), (0, 1)], constant_values=7.5),
            False,
        ),
        (Pad("fc.weight", 0, 6), "fc.weight", lambda a: a, True),
        (Cast("fc.*", "float16"), "fc.bias", lambda a: a.astype("float16"), False),
        (Cast("fc.*", torch.float64), "fc.bias", lambda a: a.astype("float64"), False),
        (Cast("fc.*", "torch.int32"), "fc.bias", lambda a: a.astype("int32"), False),
        (Cast("fc.*", "float32"), "fc.bias", lambda a: a, True),
    ],
    ids=called,
)
def test_a_tensor_is_changed_as_numpy_would_and_for_nothing_where_it_is_only_looked_at(
    rule: Rule, name: str, oracle: Any, is_free: bool
) -> None:
    with opened(ARRAYS) as checkpoint:
        before = dict(checkpoint)
        values = rule.apply(before).values
        expected = oracle(ARRAYS[name])
        assert numpy.array_equal(numbers(values[name]), expected)
        assert values[name].dtype.name == expected.dtype.name
        assert isinstance(values[name], TensorRef) is is_free
        assert list(values) == list(ARRAYS)
        assert values["pos"] is before["pos"]


def test_position_embeddings_are_resampled_behind_what_is_kept() -> None:
    with opened(ARRAYS | tensors(("flat", (5, 3)))) as checkpoint:
        values = (
            Interpolate("[pf]*[st]", (2, 2), (3, 4), kept=1)
            .apply({name: checkpoint[name] for name in ("pos", "flat")})
            .values
        )
    for name, axis, shape in (("pos", 1, (1, 13, 3)), ("flat", 0, (13, 3))):
        value = values[name]
        assert isinstance(value, Derived)
        assert value.shape == shape
        assert value.how == Interpolated(axis, 1, (2, 2), (3, 4))


@pytest.mark.parametrize(
    ("rule", "count", "why"),
    [
        (Transpose("*"), "4 of 5 tensors", "conv.weight: [4, 3, 2, 2] is no matrix"),
        (Permute("fc.*", (1, 0)), "1 of 2 tensors", "fc.bias"),
        (Reshape("fc.*", (5, -1)), "2 tensors", "fc.weight: [6, 4] cannot be reshaped to [5, -1]"),
        (Slice("fc.bias", 0, 0, 7), "1 tensor", "no elements 0 to 7"),
        (Slice("scale", 0, 0, 1), "1 tensor", "has no dimension 0"),
        (Slice("fc.bias", 1), "1 tensor", "has no dimension 1"),
        (Pad("fc.bias", 0, 3), "1 tensor", "is longer than 3"),
        (Interpolate("pos", (2, 3), (4, 4), kept=1), "1 tensor", "5 elements are no [2, 3] behind the first 1"),
        (Interpolate("fc.bias", (6,), (4,)), "1 tensor", "no dimension -2"),
        (Chunk("fc.*", ("a.*", "b.*", "c.*", "d.*")), "2 tensors", "has no 4 equal parts along dimension 0"),
        (Chunk("fc.*", ("a.*", "b.*"), sizes=(3, 4)), "2 tensors", "is 6 long along dimension 0, not 7"),
        (Unstack("scale", "scale.{i}"), "1 tensor", "has no dimension 0"),
        (Concat(("fc.weight", "fc.bias"), "fc"), "1 set", "cannot be put together"),
        (Concat(("fc.bias", "scale"), "fc", axis=-1), "1 set", "no dimension -1"),
        (Concat(("fc.weight", "pos"), "fc", axis=-1), "1 set", "the parts have other dimensions"),
    ],
    ids=called,
)
def test_a_shape_that_a_rule_does_not_fit_is_refused_counts_first(rule: Rule, count: str, why: str) -> None:
    with opened(ARRAYS) as checkpoint, pytest.raises(rh.MismatchError) as caught:
        rule.apply(checkpoint)
    assert caught.value.what == f"a rule does not fit {count} that it means"
    assert why in caught.value.found
    assert caught.value.where == f"the rule: {rule}"


def test_a_floating_dtype_is_for_floating_tensors_as_with_half() -> None:
    arrays = {
        "w": numpy.ones(2, "float32"), "steps": numpy.ones(2, "int64"), "mask": numpy.ones(2, bool),
        "waves": numpy.ones(2, "complex64"),
    }  # fmt: skip
    with opened(arrays) as checkpoint:
        floating = {name: checkpoint[name] for name in ("w", "steps", "mask")}
        dtypes = {name: str(value.dtype) for name, value in Cast("*", "bfloat16").apply(floating).values.items()}
        assert dtypes == {"w": "bfloat16", "steps": "int64", "mask": "bool"}
        assert str(Cast("steps", "int32").apply(checkpoint).values["steps"].dtype) == "int32"
        with pytest.raises(rh.MismatchError, match="imaginary part would be lost"):
            Cast("*", "float16").apply(checkpoint)
    for wrong in ("float17", "qint8", "Float", ""):
        with pytest.raises(ValueError, match="is no dtype of numbers"):
            Cast("*", wrong)
    with pytest.raises(ValueError, match="did you mean 'float16'"):
        Cast("*", "flot16")


# Several tensors that are one elsewhere

LAYERS = tensors(
    ("wte", (7, 4)),
    *((f"h.{i}.attn.qkv.{leaf}", shape) for i in (0, 1) for leaf, shape in (("weight", (12, 4)), ("bias", (12,)))),
    ("end", (4,)),
)
QKV = ("h.{i}.attn.q.*", "h.{i}.attn.k.*", "h.{i}.attn.v.*")


@pytest.mark.parametrize("sizes", [None, (8, 2, 2)])
def test_a_fused_projection_is_taken_apart_for_nothing_and_put_together_again(sizes: tuple[int, ...] | None) -> None:
    rule = Chunk("h.{i}.attn.qkv.*", QKV, sizes=sizes)
    with opened(LAYERS) as checkpoint:
        parts = rule.apply(checkpoint).values
        assert list(parts)[:4] == ["wte", "h.0.attn.q.weight", "h.0.attn.k.weight", "h.0.attn.v.weight"]
        first, second, _ = sizes or (4, 4, 4)
        key = parts["h.1.attn.k.weight"]
        assert isinstance(key, TensorRef)
        assert key.storage is checkpoint["h.1.attn.qkv.weight"].storage
        assert numpy.array_equal(key.numpy(), LAYERS["h.1.attn.qkv.weight"][first : first + second])
        whole = rule.reversed().apply(parts).values
        assert list(whole) == list(LAYERS)
        assert all(numpy.array_equal(numbers(whole[name]), LAYERS[name]) for name in LAYERS)


def test_parts_are_put_together_by_what_their_signs_stood_for_wherever_they_lie() -> None:
    arrays = tensors(("h.1.v", (1, 2)), ("x", (1,)), ("h.0.q", (1, 2)), ("h.1.q", (1, 2)), ("h.0.v", (1, 2)))
    with opened(arrays) as checkpoint:
        values = Concat(("h.{i}.q", "h.{i}.v"), "h.{i}.qv", axis=-2).apply(checkpoint).values
        assert list(values) == ["h.1.qv", "x", "h.0.qv"]
        joined = numpy.concatenate([arrays["h.1.q"], arrays["h.1.v"]])
        assert numpy.array_equal(numbers(values["h.1.qv"]), joined)
        assert values["h.1.qv"].name == "h.1.qv"


def test_a_partner_that_is_missing_is_named_counts_first() -> None:
    values = named(
        *(f"h.{i}.attn.{part}.w" for i in range(9) for part in "qkv" if (i, part) not in ((3, "k"), (5, "q")))
    )
    with pytest.raises(rh.MismatchError) as caught:
        Concat(QKV, "h.{i}.attn.qkv.*").apply(values)
    assert caught.value.what == "2 of 9 sets of tensors are not complete"
    assert "h.3.attn.k.w is missing beside h.3.attn.q.w" in caught.value.found
    assert "h.5.attn.q.w is missing beside h.5.attn.k.w" in caught.value.found


def test_parts_that_are_not_equally_long_are_put_together_only_by_their_sizes() -> None:
    with opened(tensors(("q", (8, 2)), ("k", (2, 2)))) as checkpoint:
        with pytest.raises(rh.MismatchError, match=r"give sizes=\(8, 2\)"):
            Concat(("q", "k"), "qk").apply(checkpoint)
        with pytest.raises(rh.MismatchError, match=r"the parts are \[8, 2\] long"):
            Concat(("q", "k"), "qk", sizes=(2, 8)).apply(checkpoint)
        assert Concat(("q", "k"), "qk", sizes=(8, 2)).apply(checkpoint).values["qk"].shape == (10, 2)


def test_one_part_cannot_be_two_tensors() -> None:
    with pytest.raises(rh.MismatchError, match="1 tensor would be the same part") as caught:
        Stack("x{i}", "x").apply(named("x1", "x01", "x0"))
    assert caught.value.found == "x01 and x1 are both number 1"


@pytest.mark.parametrize("axis", [0, 1, -1, -2])
def test_layers_are_stacked_along_a_new_dimension_and_taken_apart_for_nothing(axis: int) -> None:
    arrays = tensors(*((f"h.{i}.w", (2, 3)) for i in (2, 0, 10, *range(3, 10), 1)), ("x", (1,)))
    rule = Stack("h.{i}.*", "h.*", axis)
    with opened(arrays) as checkpoint:
        stacked = rule.apply(checkpoint).values
        assert list(stacked) == ["h.w", "x"]
        assert numpy.array_equal(numbers(stacked["h.w"]), numpy.stack([arrays[f"h.{i}.w"] for i in range(11)], axis))
        apart = rule.reversed().apply(stacked).values
        assert sorted(apart) == sorted(arrays)
        assert all(numpy.array_equal(numbers(apart[name]), arrays[name]) for name in arrays)
    whole = numpy.stack([arrays[f"h.{i}.w"] for i in range(11)], axis)
    with opened({"h.w": whole}) as checkpoint:
        parts = rule.reversed().apply(checkpoint).values
        assert all(isinstance(value, TensorRef) for value in parts.values())
        assert all(numpy.array_equal(numbers(parts[name]), arrays[name]) for name in parts)


def test_a_stack_that_lacks_a_layer_is_refused_by_its_name() -> None:
    with pytest.raises(rh.MismatchError) as caught:
        Stack("h.{i}.*", "h.*").apply(named("h.0.w", "h.1.w", "h.4.w", "h.0.b", "h.1.b"))
    assert caught.value.what == "1 of 2 stacks of tensors are not complete"
    assert "h.2.w, h.3.w missing before h.4.w" in caught.value.found
    with pytest.raises(rh.MismatchError, match=r"write \{i \+ 1\} where names count from 1"):
        Stack("h.{i}.w", "h.w").apply(named("h.1.w", "h.2.w"))
    with pytest.raises(rh.MismatchError, match=r"999,999,999,999,999,994 more missing before h\.9"):
        Stack("h.{i}", "h").apply(named("h.999999999999999999"))
    assert renamed(Stack("h.{i + 1}.w", "h.w"), "h.1.w", "h.2.w") == ["h.w"]


def test_a_tensor_without_elements_is_not_taken_apart_into_a_million() -> None:
    checkpoint = opened({"x": numpy.zeros((10**9, 0), "float32")})
    with checkpoint, pytest.raises(rh.MismatchError, match="more than 100,000 tensors"):
        Unstack("x", "x.{i}").apply(checkpoint)


def test_parts_do_not_take_the_name_of_another_tensor() -> None:
    checkpoint = opened(tensors(("qk", (4,)), ("q", (1,))))
    with checkpoint, pytest.raises(rh.MismatchError, match="1 name would be had by several tensors"):
        Chunk("qk", ("q", "k")).apply(checkpoint)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Chunk("a", ("b",)), "several different names"),
        (lambda: Chunk("a", ("b", "b")), "several different names"),
        (lambda: Chunk("a", "bc"), "several different names"),
        (lambda: Concat("bc", "a"), "several different names"),
        (lambda: Chunk("a", ("b", "c"), sizes=(1, 2, 3)), "no sizes of 2 parts"),
        (lambda: Chunk("a", ("b.{i}", "c.{i}")), "which is not in"),
        (lambda: Concat(("b.{i}", "c"), "a"), "other signs"),
        (lambda: Concat(("[bx]", "c"), "a"), "does not say which character"),
        (lambda: Stack("h.{i}.{j}", "h"), "needs one number"),
        (lambda: Stack("h.*", "h"), "needs one number"),
        (lambda: Unstack("h", "h.w"), "needs one number"),
        (lambda: Unstack("h", "h.{i}.*"), "as many, or none"),
        (lambda: Permute("a", (0, 2)), "is no order"),
        (lambda: Permute("a", (0, 0)), "is no order"),
        (lambda: Reshape("a", (-1, -1)), "is no shape"),
        (lambda: Reshape("a", (-2, 1)), "is no shape"),
        (lambda: Interpolate("a", (2, 2), (3,)), "cannot be resampled"),
        (lambda: Interpolate("a", (), ()), "cannot be resampled"),
        (lambda: Interpolate("a", (0,), (3,)), "cannot be resampled"),
    ],
)  # fmt: skip
def test_a_rule_that_makes_no_sense_is_refused_at_once(make: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        make()


# And back

COUNTED = tensors(
    ("norm.1.w", (2, 3)), ("norm.2.w", (2, 3)), ("layer3.conv.w", (4, 3, 2)), ("fc.q.b", (4,)), ("fc.k.b", (4,)),
    ("g.0", (2, 2)), ("g.1", (2, 2)), ("pair", (6, 2)),
)  # fmt: skip

REVERSIBLE = [
    Rename("norm.{i}.*", "norm{i}.*"),
    Rename("norm.{i}.*", "norm{i + 3}.*"),
    Rename("norm.{i}.*", "norm{i - 1}.*"),
    Rename("norm.{i + 1}.w", "n{3 * i + 2}"),
    Rename("*.conv.*", "*.c.*"),
    Rename("fc.?.b", "?.fc"),
    Renames({"fc.q.b": "fc.k.b", "fc.k.b": "fc.q.b", "g.{i}": "x{i}"}),
    Prefix(add="model"),
    Transpose("norm.*"),
    Permute("layer3.*", (2, 0, 1)),
    Chunk("pair", ("one", "two", "three")),
    Chunk("pair", ("one", "two"), sizes=(5, 1)),
    Chunk("pair", ("one", "two"), axis=-1),
    Concat(("fc.q.b", "fc.k.b"), "fc.qk.b"),
    Stack("g.{i}", "g"),
    Stack("norm.{i + 1}.w", "norm", 1),
    Unstack("pair", "pair.{i}"),
    Unstack("pair", "pair.{i + 1}", -1),
]


@pytest.mark.parametrize("rule", REVERSIBLE, ids=called)
def test_what_is_reversed_gives_the_same_names_and_the_same_numbers(rule: Rule) -> None:
    with opened(COUNTED) as checkpoint:
        before = dict(checkpoint)
        there = rule.apply(before).values
        assert there.keys() != COUNTED.keys() or any(there[name] is not before[name] for name in COUNTED)
        back = rule.reversed().apply(there).values
        assert list(back) == list(COUNTED)
        assert all(numpy.array_equal(numbers(back[name]), COUNTED[name]) for name in COUNTED)
        again = rule.reversed().reversed().apply(checkpoint).values
        assert {name: numbers(value).tolist() for name, value in again.items()} == {
            name: numbers(value).tolist() for name, value in there.items()
        }


@tried(150)
@given(
    st.lists(st.tuples(st.sampled_from("nsq"), st.integers(-3, 3), st.integers(1, 3)), min_size=1, max_size=5),
    st.lists(st.lists(st.integers(0, 40), min_size=5, max_size=5), min_size=1, max_size=6),
    st.randoms(use_true_random=False),
)
def test_a_rename_and_back_gives_every_name_again(
    signs: list[tuple[str, int, int]], fillings: list[list[int]], random: Any
) -> None:
    """Numbers in any order and counted in any way, stars and question marks in theirs."""
    old, new = [], []
    for at, (sign, shift, factor) in enumerate(signs):
        letter = "ijklm"[at]
        old.append({"n": f"{{{letter}}}", "s": "*", "q": "?"}[sign])
        new.append(f"{{{factor} * {letter} + {shift + 3}}}" if sign == "n" else old[-1])
    places = [at for at, (sign, *_) in enumerate(signs) if sign == "n"]
    shuffled = random.sample(places, len(places))
    new = [new[dict(zip(places, shuffled, strict=True)).get(at, at)] for at in range(len(new))]
    rule = Rename("a" + "_".join(old) + ".w", "b" + "-".join(new) + ".v")
    before, after = [], []
    for numbers_ in fillings:
        filled = [str(n) if sign == "n" else "xyz"[n % 3] for n, (sign, *_) in zip(numbers_, signs, strict=False)]
        counted = [
            str(factor * n + shift + 3) if sign == "n" else "xyz"[n % 3]
            for n, (sign, shift, factor) in zip(numbers_, signs, strict=False)
        ]
        moved = [counted[dict(zip(places, shuffled, strict=True)).get(at, at)] for at in range(len(counted))]
        before.append("a" + "_".join(filled) + ".w")
        after.append("b" + "-".join(moved) + ".v")
    before, after = list(dict.fromkeys(before)), list(dict.fromkeys(after))
    assert renamed(rule, *before) == after
    assert renamed(rule.reversed(), *after) == before


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        (Rename("a.*", "b"), "rename a.* -> b cannot be turned round: 'a.*' has 1 * and 'b' has 0"),
        (Rename("a.{i}", "b"), "needs {i}, which is not in 'b'"),
        (Rename("a.{i}", "b{i // 2}"), "does not say what the number is"),
        (Rename("a.{i}.{j}", "b{3 * i + j}"), "does not say what the number is"),
        (Rename("[ab].w", "c.w"), "does not say which character"),
        (Rename("a", "b", regex=True), "it is a regular expression"),
        (Renames({"a": "c", "b.{i}": "c"}), "several patterns become one"),
        (Renames({"a.*": "c"}), "has 1 *"),
        (Drop("a"), "what it leaves out is gone"),
        (Reshape("a", (1, -1)), "the shape before is not known"),
        (Slice("a", 0, 1), "what it leaves out is gone"),
        (Pad("a", 0, 9), "how long it was is not known"),
        (Interpolate("a", (2,), (3,)), "gives other numbers"),
        (Cast("a", "float16"), "the dtype before is not known"),
        (Chunk("h.*", ("q", "k")), "has 1 *"),
        (Unstack("h.*", "x.{i}"), "has 1 *"),
        (Prefix(remove="a", add="b"), None),
    ],
    ids=called,
)
def test_what_cannot_be_turned_round_says_why(rule: Rule, why: str | None) -> None:
    if why is None:
        assert rule.reversed() == Prefix(remove="b", add="a")
        return
    with pytest.raises(ValueError, match="cannot be turned round") as caught:
        rule.reversed()
    assert why in str(caught.value)


# What every rule is

EVERY: list[Any] = [
    *REVERSIBLE,
    Rename("a", "b", regex=True),
    Prefix("a", "b"),
    Drop("head.*"),
    Reshape("a", (1, -1)),
    Slice("a", 0),
    Slice("a", -1, 2, 5),
    Pad("a", 0, 5, -1.5),
    Interpolate("a", (2, 2), (3, 3), kept=1, axis=0),
    Cast("a", "bfloat16"),
]


@pytest.mark.parametrize("rule", EVERY, ids=called)
def test_a_rule_is_plain_data_a_line_of_text_and_a_frozen_dataclass(rule: Any) -> None:
    assert rule_from(rule.to_dict()) == rule
    assert all(isinstance(key, str) for key in rule.to_dict())
    assert len(str(rule).splitlines()) == 1
    assert repr(rule).startswith(f"{type(rule).__name__}({dataclasses.fields(rule)[0].name}=")
    assert hash(rule) == hash(rule_from(rule.to_dict()))
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(rule, dataclasses.fields(rule)[0].name, "other")
    assert not hasattr(rule, "__dict__")


def test_every_kind_of_rule_was_tried() -> None:
    import rehydrate.rules

    kinds = {
        value for name in rehydrate.rules.__all__
        if isinstance(value := getattr(rehydrate.rules, name), type) and name not in ("Rule", "Applied")
    }  # fmt: skip
    assert {type(rule) for rule in EVERY} == kinds


def test_a_dtype_of_torch_is_kept_by_its_name() -> None:
    assert Cast("*", torch.bfloat16).to_dict() == {"rule": "cast", "glob": "*", "dtype": "bfloat16"}


def test_a_rule_shows_no_more_of_a_name_than_a_terminal_can_bear() -> None:
    for rule in (Rename("\x1b[31m*", "\x1b*"), Drop("\x1b" * 10_000), Chunk("\x1b", ("\x1ba", "\x1bb"))):
        assert "\x1b" not in str(rule)
        assert len(str(rule)) < 500


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({}, "this is no rule"),
        ({"rule": "renmae"}, "did you mean 'rename'"),
        ({"rule": 7}, "this is no rule"),
        ({"rule": ["rename"]}, "this is no rule"),
        ({"rule": "rename", "old": "a"}, "the rule rename needs 'new'"),
        ({"rule": "drop", "glob": "a", "globs": "b"}, "the rule drop has no 'globs'"),
        ({"rule": "rename", "old": "a", "new": 7}, "7 is no text"),
        ({"rule": "rename", "old": "a", "new": "b", "regex": "yes"}, "is neither true nor false"),
        ({"rule": "rename", "old": "a{", "new": "{i}"}, "makes no sense"),
        ({"rule": "permute", "glob": "a", "order": [0.5]}, "is no whole number"),
        ({"rule": "permute", "glob": "a", "order": 3}, "is no list of whole numbers"),
        ({"rule": "slice", "glob": "a", "axis": True}, "is no whole number"),
        ({"rule": "pad", "glob": "a", "axis": 0, "length": 3, "fill": "0"}, "is no number"),
        ({"rule": "chunk", "glob": "a", "into": "bc"}, "is no list of names"),
        ({"rule": "stack", "glob": "a.{i}", "into": ["a"]}, "is no text"),
        ({"rule": "renames", "names": ["a"]}, "is no table of names"),
        ({"rule": "concat", "names": {"a": "b"}, "into": "c"}, "is no list of names"),
        ({"rule": "cast", "glob": "a", "dtype": "object"}, "is no dtype of numbers"),
    ],
)
def test_plain_data_that_is_no_rule_is_refused_in_words(data: dict[str, Any], why: str) -> None:
    with pytest.raises(rh.CorruptError) as caught:
        rule_from(data)
    assert why in str(caught.value)
