"""Words for people: nothing that a file says reaches a terminal as it is, and nothing takes long."""

from __future__ import annotations

import time
import unicodedata
from difflib import SequenceMatcher
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rehydrate.text import columns, counted, dimensions, listed, nearest, shown, size
from tests.effort import tried

UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
texts = st.text(st.characters(), max_size=300)  # surrogates too: names of files have them


@tried(400)
@given(texts, st.integers(0, 200))
@example("\x1b[2J\x1b]0;title\x07", 120)
@example("a\u202eb\u2066c\u200bd\ufeff", 120)
@example("e\u0301" * 500, 50)
@example("\U0001f468\u200d\U0001f469\u200d\U0001f467" * 50, 40)
@example("模" * 1000, 79)
@example("\n" * 1000, 30)
@example("\udcff\ud800", 30)
def test_what_is_shown_has_no_controls_and_fits(text: str, limit: int) -> None:
    result = shown(text, limit)
    assert len(result) <= limit
    assert columns(result) <= limit
    assert not {unicodedata.category(letter) for letter in result} & UNSAFE
    result.encode("utf-8")


@tried(100)
@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=120))
def test_an_ordinary_name_is_shown_as_it_is(text: str) -> None:
    assert shown(text) == text


@tried(100)
@given(texts, st.integers(40, 200))
def test_a_long_name_keeps_its_beginning_and_its_end(text: str, limit: int) -> None:
    name = "first_part." + text + ".last_part"
    result = shown(name, limit)
    assert result.startswith("first_part.")
    assert result.endswith(".last_part")


@tried(100)
@given(texts)
def test_what_is_escaped_can_be_told_apart(text: str) -> None:
    escaped = shown(text, 10_000)
    if "\\" not in text:
        assert escaped.encode("ascii", "backslashreplace").decode("unicode_escape") == text


def test_what_is_no_string_is_shown_by_its_representation_and_a_path_by_itself() -> None:
    assert shown(("a\n", 3)) == r"('a\n', 3)"
    assert shown(Path("a/b.pth")) == str(Path("a/b.pth"))


def test_a_name_of_many_megabytes_is_shown_at_once() -> None:
    began = time.process_time()
    for letter in ("a", "\n", "模", "\u0301"):
        assert len(shown(letter * 10_000_000)) <= 120
    assert time.process_time() - began < 2


@tried(100)
@given(st.text(max_size=40))
def test_columns_are_those_of_the_unicode_standard(text: str) -> None:
    assert columns(text) <= 2 * len(text)
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    marks = sum(unicodedata.category(letter) in ("Mn", "Me") for letter in text)
    if not any("\u1100" <= letter <= "\u11ff" for letter in text):
        assert len(text) + wide - marks <= columns(text) <= len(text) + wide


@pytest.mark.parametrize(
    ("text", "width"),
    [("", 0), ("abc", 3), ("模型", 4), ("ｆｃ", 4), ("ﾌ", 1), ("한", 2), ("e\u0301", 1), ("é", 1), ("🤗", 2), ("α", 1)],
)
def test_columns_of(text: str, width: int) -> None:
    assert columns(text) == width


@tried(100)
@given(st.integers(0, 10**18))
def test_a_size_is_right_to_three_digits(nbytes: int) -> None:
    number, unit = size(nbytes).split()
    factor = {"byte": 1, "bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "PB": 1e15}[unit]
    assert abs(float(number) * factor - nbytes) <= 0.0501 * factor
    assert float(number) < 1000 or unit == "PB"
    assert (unit == "byte") == (nbytes == 1)


@pytest.mark.parametrize(
    ("number", "noun", "words"),
    [
        (0, "tensor", "0 tensors"), (1, "tensor", "1 tensor"), (2, "tensor", "2 tensors"), (1, "entry", "1 entry"),
        (3, "entry", "3 entries"), (2, "key", "2 keys"), (2, "class", "2 classes"), (2, "box", "2 boxes"),
        (2, "batch", "2 batches"), (1_000, "name", "1,000 names"),
    ],
)  # fmt: skip
def test_counted(number: int, noun: str, words: str) -> None:
    assert counted(number, noun) == words


def test_dimensions_are_spelled_as_torch_spells_them() -> None:
    import torch

    for shape in [(), (3,), (2, 3), (0, 1, 4)]:
        assert f"torch.Size({dimensions(shape)})" == str(torch.Size(shape))


@tried(100)
@given(st.lists(st.text("abc", min_size=1, max_size=3), max_size=30), st.integers(1, 12))
def test_a_list_is_cut_and_what_is_left_out_is_counted(items: list[str], limit: int) -> None:
    text = listed(items, limit)
    if len(items) <= limit:
        assert text == ", ".join(items)
    else:
        assert text == f"{', '.join(items[:limit])} and {len(items) - limit} more"


names = st.from_regex(r"(layer|conv|fc)[0-9]\.(weight|bias|running_mean)", fullmatch=True)


@tried(100)
@given(names, st.sets(names, max_size=30), st.data())
def test_a_name_with_two_letters_swapped_is_found_again(name: str, others: set[str], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(name) - 2))
    typed = name[:at] + name[at + 1] + name[at] + name[at + 2 :]
    found = nearest(typed, {name, *others})
    assert found is not None
    assert likeness(found, typed) >= likeness(name, typed)


def likeness(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other, autojunk=False).ratio()


def test_the_nearest_is_found_in_the_middle_of_a_hundred_thousand() -> None:
    pool = [f"model.layers.{at}.mlp.weight" for at in range(100_000)]
    began = time.process_time()
    assert nearest("model.layers.77777.mlp.wieght", pool) == "model.layers.77777.mlp.weight"
    assert time.process_time() - began < 3


@pytest.mark.parametrize(
    "name", ["conv1.weight", "module.conv1.weight", "conv1.wieght", "conv1_weight", "Conv1.weight"]
)
def test_the_usual_mistakes_are_seen_through(name: str) -> None:
    pool = ["conv1.weight", "conv1.bias", "conv2.weight", "fc.weight", *(f"blocks.{at}.w" for at in range(200))]
    assert nearest(name, pool) == "conv1.weight"


def test_nothing_near_is_none() -> None:
    assert nearest("fc.weight", []) is None
    assert nearest("fc.weight", ["zzzz", ""]) is None
    assert nearest("", ["fc.weight"]) is None


@pytest.mark.parametrize(
    ("name", "pool"),
    [
        ("a" * 10**6, ["a" * 10**6 + str(at % 10) for at in range(1000)]),
        ("ab" * 5000, ["ba" * (5000 + at % 9) for at in range(20_000)]),
        ("abcdefghij" * 20, ["jihgfedcba" * 20] * 50_000),
        ("x" * 100, ["".join("xy"[(at >> bit) % 2] for bit in range(16)) * 6 for at in range(20_000)]),
    ],
    ids=["long", "shifted", "backwards", "permuted"],
)
def test_names_made_to_be_slow_to_compare_are_not(name: str, pool: list[str]) -> None:
    began = time.process_time()
    nearest(name, pool)
    assert time.process_time() - began < 3
