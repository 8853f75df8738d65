"""JSON as an index, against Python's own reader: the same value, or a refusal where readers could differ."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehydrate.errors import AmbiguousError, CorruptError, LimitError, RehydrateError
from rehydrate.formats.json_header import parse_json
from rehydrate.limits import Limits

from ..effort import tried

LIMITS = Limits()
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@tried(200)
@given(value=VALUES, ascii_only=st.booleans(), indent=st.none() | st.integers(0, 3))
def test_any_value_is_what_it_was(value: object, ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert parse_json(text.encode(), LIMITS, "here") == value


@tried(300)
@given(data=st.lists(st.sampled_from(list('{}[]",:0 1-.eE+\\unaltrfs\x00\n')), max_size=20).map("".join))
def test_any_text_is_refused_or_read_as_python_reads_it(data: str) -> None:
    try:
        value = parse_json(data.encode(), LIMITS, "here")
    except RehydrateError:
        return
    assert value == json.loads(data)
    assert not isinstance(value, float) or math.isfinite(value)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", CorruptError), (b"{", CorruptError), (b"{}{}", CorruptError), (b"[1,]", CorruptError),
        (b"\xef\xbb\xbf{}", CorruptError), (b'"\xff"', CorruptError), (b'"\xed\xa0\x80"', CorruptError),
        (b'"\\ud800"', CorruptError), (b'{"\\udc00": 1}', CorruptError), (b"NaN", CorruptError),
        (b"[-Infinity]", CorruptError), (b"1e999", CorruptError), (b"-1e999", CorruptError), (b"'a'", CorruptError),
        (b'{"a": 1, "a": 1}', AmbiguousError), (b'{"a": 1, "\\u0061": 2}', AmbiguousError),
        (b'[{"b": {"a": 1, "a": 2}}]', AmbiguousError), (b"[" * 100_000, LimitError), (b'{"a":' * 100_000, LimitError),
        (b"9" * 5000, LimitError), (b"-" + b"9" * 5000, LimitError), (b"[0." + b"9" * 5000 + b"]", LimitError),
    ],
)  # fmt: skip
def test_what_readers_could_differ_about_is_refused(data: bytes, error: type[RehydrateError]) -> None:
    with pytest.raises(error) as caught:
        parse_json(data, LIMITS, "here")
    assert str(caught.value).isprintable() or "\n" in str(caught.value)


def test_pairs_of_surrogates_are_one_character() -> None:
    assert parse_json(b'"\\ud83d\\ude00"', LIMITS, "here") == "\U0001f600"


def test_more_than_the_limits_allow_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(LimitError, match="too long"):
        parse_json(b"[" + b"0" * 100 + b"]", Limits(header_bytes=50), "here")
    with pytest.raises(LimitError, match="too many values"):
        parse_json(b"[" + b"0," * 100 + b"0]", Limits(members=5), "here")
    with pytest.raises(LimitError, match="too many digits"):
        parse_json(b"[" + b"7" * 100 + b"]", Limits(integer_digits=50), "here")
