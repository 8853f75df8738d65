"""The mapping file: rules that are kept as text, read again as the same rules, and never half written."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

import rehydrate as rh
from rehydrate.matching.values import Value
from rehydrate.rules import (
    Applied,
    Cast,
    Chunk,
    Drop,
    Interpolate,
    Pad,
    Prefix,
    Rename,
    Renames,
    Rule,
    Slice,
    rules_of,
    save_rules,
)

from ..effort import tried

RULES: tuple[Rule, ...] = (
    Prefix(remove="module."),
    Rename("norm.{i}.*", "norm{i}.*"),
    Rename(r"(?P<a>\d+)\"'\.", "{a + 1}", regex=True),
    Renames({"a.*": "b.*", 'b."x y".*': "a.*", "é\n\t\x1b": "\U0001f600", "": "a"}),
    Chunk("qkv", ("q", "k", "v"), sizes=(4, 2, 2)),
    Slice("x", -1, 3),
    Pad("x", 0, 9, -0.5),
    Interpolate("pos", (14, 14), (16, 16), kept=1),
    Cast("*", "bfloat16"),
    Drop("head.*"),
)


def test_rules_are_read_as_they_were_written_in_their_order(tmp_path: Path) -> None:
    save_rules(RULES, tmp_path / "map.toml")
    assert rules_of(tmp_path / "map.toml") == RULES
    assert rules_of(str(tmp_path / "map.toml")) == RULES
    save_rules(RULES[0], tmp_path / "map.toml")
    assert rules_of(tmp_path / "map.toml") == RULES[:1]
    save_rules([], tmp_path / "map.toml")
    assert rules_of(tmp_path / "map.toml") == ()


def test_the_file_says_what_it_is_and_has_a_table_for_each_rule(tmp_path: Path) -> None:
    save_rules([Prefix(remove="module."), Renames({"a.{i}": "b.{i + 1}", "b.1": "a.1"})], tmp_path / "map.toml")
    assert (tmp_path / "map.toml").read_text("utf-8").splitlines() == [
        "# Which tensors of a checkpoint become which of a model: rules of rehydrate, applied in this order.",
        "format = 1",
        "",
        "[[rules]]",
        'rule = "prefix"',
        'remove = "module."',
        "",
        "[[rules]]",
        'rule = "renames"',
        "",
        "[rules.names]",
        '"a.{i}" = "b.{i + 1}"',
        '"b.1" = "a.1"',
    ]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).map(
    lambda text: text.replace("{", "").replace("*", "").replace("[", "").replace("?", "")
)


@tried(150)
@given(
    st.dictionaries(texts, texts, max_size=4),
    st.lists(st.tuples(texts, texts), max_size=3),
    st.floats().map(lambda fill: fill + 0.0),
)
def test_any_names_and_numbers_survive_the_file(
    tmp_path_factory: pytest.TempPathFactory, names: dict[str, str], pairs: list[tuple[str, str]], fill: float
) -> None:
    path = tmp_path_factory.mktemp("maps") / "map.toml"
    rules = (Renames(names), *(Rename(old, new) for old, new in pairs), Pad("x", 0, 1, fill))
    save_rules(rules, path)
    assert repr(rules_of(path)) == repr(rules)
    assert tomllib.loads(path.read_text("utf-8"))["format"] == 1


def test_rules_and_files_may_be_given_alone_and_together(tmp_path: Path) -> None:
    save_rules([Drop("a"), Drop("b")], tmp_path / "map.toml")
    path = os.fspath(tmp_path / "map.toml")
    assert rules_of(Drop("c")) == (Drop("c"),)
    assert rules_of([Drop("c"), path, (Drop("d"),)]) == (Drop("c"), Drop("a"), Drop("b"), Drop("d"))
    assert rules_of(()) == rules_of([]) == ()


@pytest.mark.parametrize("given", [7, None, {"a": "b"}, [7], Drop, b"map.toml", [Drop("a"), Drop]])
def test_what_is_no_rule_is_a_type_error(given: Any) -> None:
    with pytest.raises(TypeError, match="rules are rules, paths of mapping files"):
        rules_of(given)


@dataclass(frozen=True)
class Own:
    """A rule of somebody's own."""

    def apply(self, values: Mapping[str, Value]) -> Applied:
        return Applied(values)

    def reversed(self) -> Own:
        return self

    def to_dict(self) -> dict[str, Any]:
        return {"rule": "own"}


def test_a_rule_of_ones_own_can_be_given_and_not_kept(tmp_path: Path) -> None:
    assert rules_of(Own()) == (Own(),)
    with pytest.raises(rh.SaveError, match="cannot be kept in a file"):
        save_rules([Drop("a"), Own()], tmp_path / "map.toml")
    assert not (tmp_path / "map.toml").exists()


def test_a_name_that_is_no_unicode_text_cannot_be_kept(tmp_path: Path) -> None:
    save_rules(Drop("a"), tmp_path / "map.toml")
    with pytest.raises(rh.SaveError, match="no Unicode text"):
        save_rules(Rename("a", "\udc80"), tmp_path / "map.toml")
    assert rules_of(tmp_path / "map.toml") == (Drop("a"),)


def test_a_file_that_cannot_be_written_is_a_save_error(tmp_path: Path) -> None:
    with pytest.raises(rh.SaveError, match="was not saved"):
        save_rules(Drop("a"), tmp_path / "none" / "map.toml")
    with pytest.raises(rh.SaveError, match="a mapping file has at most"):
        save_rules(Renames({f"{at}{'x' * 1000}": "y" for at in range(17_000)}), tmp_path / "map.toml")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    for path in (tmp_path / "map.toml", tmp_path / "map.toml" / "x", "a\0b"):
        with pytest.raises(rh.MissingFileError, match="there is no such mapping file") as caught:
            rules_of(path)
        assert isinstance(caught.value, FileNotFoundError)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("format = 1\n[[rules]\n", ["no TOML", "at line 2"]),
        ("", ["no mapping file", "no format"]),
        ("format = 2\n", ["no mapping file", "format = 2"]),
        ("format = true\n", ["no mapping file", "format = True"]),
        ("format = 1\nrule = 3\n", ["not understood", "the key 'rule'"]),
        ("format = 1\nrules = 3\n", ["not understood", "rules that are no tables"]),
        ("format = 1\nrules = [3]\n", ["not understood", "rules that are no tables"]),
        ('format = 1\n[[rules]]\nrule = "drop"\nglob = "a"\n[[rules]]\nrule = "dorp"\nglob = "b"\n',
         ["this is no rule", "map.toml, rule 2 of 2", "did you mean 'drop'"]),
        ('format = 1\n[[rules]]\nrule = "drop"\nglobs = "a"\n', ["has no 'globs'", "rule 1 of 1", "made of glob"]),
        ('format = 1\n[[rules]]\nrule = "drop"\nglob = 1\n', ["1 is no text", "rule 1 of 1"]),
        ('format = 1\n[[rules]]\nrule = "rename"\nold = "a"\nnew = "{i}"\n', ["makes no sense", "which is not in 'a'"]),
        ("format = 1\nx = " + "[" * 100_000, ["nested too deep"]),
        ("\x00", ["no TOML"]),
    ],
)  # fmt: skip
def test_a_file_that_is_broken_says_where(tmp_path: Path, text: str, what: list[str]) -> None:
    (tmp_path / "map.toml").write_text(text, "utf-8")
    with pytest.raises(rh.CorruptError) as caught:
        rules_of(tmp_path / "map.toml")
    for words in what:
        assert words in str(caught.value)
    assert "map.toml" in caught.value.where


def test_a_file_of_another_kind_is_not_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(b"PK\x03\x04\x80\xff" + bytes(100))
    with pytest.raises(rh.CorruptError, match="this is no text") as caught:
        rules_of(tmp_path / "net.pth")
    assert "byte 0x80 at offset 4" in caught.value.found
    with open(tmp_path / "large.pth", "wb") as file:
        file.truncate(1 << 34)
    with pytest.raises(rh.CorruptError, match=r"larger than 16\.8 MB"):
        rules_of(tmp_path / "large.pth")
    with pytest.raises(rh.CorruptError, match="this is a folder"):
        rules_of(tmp_path)


def test_names_in_a_broken_file_reach_no_terminal(tmp_path: Path) -> None:
    table = {"rule": "drop", "\x1b[31m": "a"}
    (tmp_path / "map.toml").write_text(tomli_w.dumps({"format": 1, "rules": [table]}), "utf-8")
    with pytest.raises(rh.CorruptError) as caught:
        rules_of(tmp_path / "map.toml")
    assert "\x1b" not in str(caught.value)
