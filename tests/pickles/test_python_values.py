"""Values of the standard library come out as they were put in; what only looks like one stays a record."""

from __future__ import annotations

import datetime
import decimal
import fractions
import pathlib
import pickle
import types
import uuid
from argparse import Namespace
from collections import OrderedDict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rehydrate as rh
from rehydrate.checkpoint.record import Record

from ..effort import tried
from ..hostile.guard import guarded, warm
from . import strange
from .alike import difference

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
ZONES = st.none() | st.builds(
    datetime.timezone,
    st.timedeltas(datetime.timedelta(hours=-23), datetime.timedelta(hours=23)),
) | st.just(datetime.timezone(datetime.timedelta(hours=1), "CET"))  # fmt: skip
PARTS = st.lists(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=5), max_size=4)

EXACT: st.SearchStrategy[Any] = st.one_of(
    st.dates(),
    st.datetimes(timezones=st.none() | st.just(datetime.UTC)),
    st.builds(datetime.datetime.replace, st.datetimes(), tzinfo=ZONES, fold=st.integers(0, 1)),
    st.builds(datetime.time.replace, st.times(), tzinfo=ZONES, fold=st.integers(0, 1)),
    st.timedeltas(),
    st.decimals().filter(lambda number: not number.is_snan()),
    st.fractions(),
    st.uuids(),
    PARTS.map(lambda parts: pathlib.PurePosixPath(*parts)),
    PARTS.map(lambda parts: pathlib.PureWindowsPath(*parts)),
    PARTS.map(lambda parts: pathlib.Path(*parts)),
)
IDENTIFIERS = st.text(st.characters(exclude_categories=("Cs",)), max_size=6).filter(
    lambda name: not hasattr(Namespace, name) and not hasattr(types.SimpleNamespace, name)
)
TREES = st.recursive(
    EXACT | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        | st.dictionaries(IDENTIFIERS, inner, max_size=3).map(lambda attributes: Namespace(**attributes))
        | st.dictionaries(IDENTIFIERS, inner, max_size=3).map(lambda attributes: types.SimpleNamespace(**attributes))
    ),
    max_leaves=12,
)


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    warm()
    rh.load(pickle.dumps(0))


@tried(400)
@given(TREES, st.sampled_from(PROTOCOLS))
def test_values_come_out_as_they_were_put_in(tree: Any, protocol: int) -> None:
    data = pickle.dumps([tree, tree], protocol)
    with guarded(), rh.open(data) as checkpoint:
        str(checkpoint)
    assert checkpoint.facts["imports"] == ()
    expected = pickle.loads(data)  # not the tree itself: old protocols forget which of two equal times it was
    assert not difference(checkpoint.tree, expected)
    assert not difference(rh.load(data), expected)


@tried(100)
@given(st.lists(EXACT, max_size=9), st.sampled_from(PROTOCOLS))
def test_values_are_keys_too(keys: list[Any], protocol: int) -> None:
    data = pickle.dumps({key: at for at, key in enumerate(keys)}, protocol)
    with rh.open(data) as checkpoint:
        assert not difference(checkpoint.tree, pickle.loads(data))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_namespace_may_be_shared_and_hold_itself(protocol: int) -> None:
    space = Namespace(lr=0.1)
    space.itself, space.inner = space, [types.SimpleNamespace(above=space)]
    with rh.open(pickle.dumps({"a": space, "b": space}, protocol)) as checkpoint:
        found = checkpoint.tree["a"]
        assert type(found) is Namespace
        assert found is checkpoint.tree["b"] is found.itself is found.inner[0].above
        assert str(checkpoint)
    loaded: Any = rh.load(pickle.dumps({"a": space, "b": space}, protocol))
    assert loaded["a"] is loaded["b"] is loaded["a"].itself is loaded["a"].inner[0].above
    assert loaded["a"] is not found


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_a_value_stands_for_is_the_same_object_everywhere(protocol: int) -> None:
    value = uuid.UUID(int=7)
    with rh.open(pickle.dumps([value, (value,), {"x": value}], protocol)) as checkpoint:
        first, (second,), third = checkpoint.tree
        assert first is second is third["x"]
        assert first == value


@pytest.mark.parametrize("name", ["__class__", "__dict__", "__eq__", "_get_kwargs", "__repr__"])
@pytest.mark.parametrize("kind", [Namespace, types.SimpleNamespace])
def test_a_namespace_with_an_attribute_that_hides_one_of_its_class_stays_a_record(kind: Any, name: str) -> None:
    if not hasattr(kind, name):
        pytest.skip(f"{kind.__name__} has no {name}")
    state = pickle.dumps({name: "mine"}, 2)[2:-1]
    module = kind.__module__
    data = b"\x80\x02c%s\n%s\n)\x81%sb." % (module.encode(), kind.__name__.encode(), state)
    with rh.open(data) as checkpoint:
        assert type(checkpoint.tree) is Record
        assert (checkpoint.tree.path, checkpoint.tree.state) == (f"{module}.{kind.__name__}", {name: "mine"})


@pytest.mark.parametrize(("data", "path"), [
    (b"\x80\x02cargparse\nNamespace\n)\x81}K\x01K\x02sb.", "argparse.Namespace"),
    (b"\x80\x02cargparse\nNamespace\n)\x81N}X\x01\0\0\0aK\x01s\x86b.", "argparse.Namespace"),
    (b"\x80\x03cdatetime\ndatetime\nC\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x85R.", "datetime.datetime"),
    (b"\x80\x03cdatetime\ndatetime\nC\x03\x07\xe8\x01\x85R.", "datetime.datetime"),
    (b"\x80\x03cdatetime\ndatetime\nC\x0a\x07\xe8\x01\x01\0\0\0\0\0\0cpytz\nUTC\n\x86R.", "datetime.datetime"),
    (b"\x80\x03cdatetime\ndate\nC\x04\x07\xe8\x0d\x01\x85R.", "datetime.date"),
    (b"\x80\x03cdatetime\ntime\nC\x06\x18\0\0\0\0\0\x85R.", "datetime.time"),
    (b"\x80\x02cdatetime\ntimedelta\n\x8a\x0b" + b"\x7f" * 11 + b"K\0K\0\x87R.", "datetime.timedelta"),
    (b"\x80\x02cdatetime\ntimezone\ncdatetime\ntimedelta\nK\x05K\0K\0\x87R\x85R.", "datetime.timezone"),
    (b"\x80\x02cdecimal\nDecimal\nX\x04\0\0\0sNaN\x85R.", "decimal.Decimal"),
    (b"\x80\x02cdecimal\nDecimal\nX\x03\0\0\x001_0\x85R.", "decimal.Decimal"),
    (b"\x80\x02cdecimal\nDecimal\nK\x01\x85R.", "decimal.Decimal"),
    (b"\x80\x02cfractions\nFraction\nK\x01K\0\x86R.", "fractions.Fraction"),
    (b"\x80\x02cfractions\nFraction\nX\x03\0\0\x001/0\x85R.", "fractions.Fraction"),
    (b"\x80\x02cuuid\nUUID\n)\x81}X\x03\0\0\0intX\x01\0\0\x001sb.", "uuid.UUID"),
    (b"\x80\x02cuuid\nUUID\n)\x81}X\x03\0\0\0intJ\xff\xff\xff\xffsb.", "uuid.UUID"),
    (b"\x80\x02cpathlib\nPosixPath\nK\x01\x85R.", "pathlib.PosixPath"),
])  # fmt: skip
def test_what_is_no_value_stays_a_record(data: bytes, path: str) -> None:
    with guarded(), rh.open(data) as checkpoint:
        str(checkpoint)
        record = checkpoint.tree if isinstance(checkpoint.tree, Record) else None
        assert record is not None
        assert record.path == path


PYTHON_2: dict[str, tuple[bytes, Any]] = {
    "datetime, protocol 0": (
        b"cdatetime\ndatetime\np0\n(S'\\x07\\xe8\\x02\\x1d\\x0c\\x1e\\x00\\x00\\x00\\x05'\np1\ntp2\nRp3\n.",
        datetime.datetime(2024, 2, 29, 12, 30, 0, 5),
    ),
    "datetime, protocol 2": (
        b"\x80\x02cdatetime\ndatetime\nq\x00U\n\x07\xe8\x02\x1d\x0c\x1e\x00\x00\x00\x05q\x01\x85q\x02Rq\x03.",
        datetime.datetime(2024, 2, 29, 12, 30, 0, 5),
    ),
    "a date whose bytes are UTF-8": (
        b"\x80\x02cdatetime\ndate\nU\x04\x07\xc2\x0c\x1f\x85R.", datetime.date(0x07C2, 12, 31),
    ),
    "namespace, protocol 0": (
        b"ccopy_reg\n_reconstructor\np0\n(cargparse\nNamespace\np1\nc__builtin__\nobject\np2\nNtp3\nRp4\n"
        b"(dp5\nS'lr'\np6\nF0.5\nsb.",
        Namespace(lr=0.5),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PYTHON_2)
def test_values_that_python_2_pickled_are_read(name: str) -> None:
    data, value = PYTHON_2[name]
    with rh.open(data) as checkpoint:
        assert not difference(checkpoint.tree, value)


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_an_object_of_old_protocols_is_a_record_of_its_class(protocol: int) -> None:
    words, table = strange.Words([1, 2]), strange.Table(a=1)
    with rh.open(pickle.dumps([strange.Config(), words, table], protocol)) as checkpoint:
        config, listed, mapped = checkpoint.tree
        assert [record.name for record in checkpoint.tree] == ["Config", "Words", "Table"]
        assert config.state == {"lr": 0.1, "sizes": [3, 4]}
        assert (listed.items, mapped.items) == ([1, 2], [("a", 1)])


def test_a_path_of_another_system_is_a_pure_one() -> None:
    data = b"\x80\x04\x8c\x0epathlib._local\x8c\x0bWindowsPath\x93\x8c\x03C:\\\x8c\x04data\x86R."
    with rh.open(data) as checkpoint:
        assert checkpoint.tree == pathlib.PureWindowsPath("C:/data")


def test_tensors_in_a_namespace_have_names() -> None:
    import torch

    net = Namespace(encoder=OrderedDict(weight=torch.ones(2, 2)), epoch=3)
    with rh.open(pickle.dumps({"net": net})) as checkpoint:
        assert list(checkpoint) == ["net.encoder.weight"]
        assert list(checkpoint.weights()) == ["weight"]
    assert type(rh.load(pickle.dumps(net)).encoder["weight"]) is torch.Tensor  # type: ignore[attr-defined]


def test_exact_numbers_are_exact() -> None:
    value = [decimal.Decimal("0.1"), decimal.Decimal("1E+30"), fractions.Fraction(10**40, 3)]
    assert rh.load(pickle.dumps(value)) == value
