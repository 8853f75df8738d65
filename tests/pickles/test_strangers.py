"""What a pickle names and we do not build: records, the same that Python's readers would have given to the classes."""

from __future__ import annotations

import io
import pickle
import sys
from collections import OrderedDict
from collections.abc import Iterator

import pytest
import torch

import rehydrate as rh
from rehydrate.checkpoint.record import Record

from ..hostile.guard import guarded, warm
from . import strange
from .described import outline_of
from .reader import Ask, Oracle

VALUES = strange.made()


@pytest.fixture(scope="module")
def python() -> Iterator[Ask]:
    """Both of Python's unpicklers, inert and in a process of their own."""
    oracle = Oracle()
    yield oracle
    oracle.close()


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    warm()
    rh.load(pickle.dumps(0))


@pytest.mark.parametrize(
    ("name", "protocol"),
    [(name, protocol) for name, (_, first) in VALUES.items() for protocol in range(first, pickle.HIGHEST_PROTOCOL + 1)],
)
def test_a_stranger_reads_as_what_its_class_would_have_been_given(name: str, protocol: int, python: Ask) -> None:
    data = pickle.dumps(VALUES[name][0], protocol)
    with guarded(), rh.open(data) as checkpoint:
        str(checkpoint)
        found = repr(outline_of(checkpoint.tree)) + f" {len(data)}"
    assert (found, found) == python(data)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", VALUES)
def test_a_stranger_is_reported_and_loads_inert(name: str, protocol: int) -> None:
    value, first = VALUES[name]
    data = pickle.dumps([value], max(protocol, first))
    with rh.open(data) as checkpoint:
        assert checkpoint.facts["imports"]
        assert len(checkpoint) == 0
    with guarded():
        loaded = rh.load(data)
    assert type(loaded) is list
    assert type(loaded[0]) in (Record, list)


def test_what_is_called_is_told_from_what_is_only_named() -> None:
    with rh.open(pickle.dumps([strange.Net, strange.Config()])) as checkpoint:
        here = strange.__name__
        assert checkpoint.facts["imports"] == (f"{here}.Net", f"{here}.Config")
        assert checkpoint.facts["calls"] == (f"{here}.Config",)


def test_a_class_of_main_needs_no_main() -> None:
    data = b"\x80\x04\x8c\x08__main__\x8c\x03Net\x93)\x81}\x8c\x01xK\x01sb."
    with rh.open(data) as checkpoint:
        net = checkpoint.tree
        assert (net.path, net.args, net.state) == ("__main__.Net", (), {"x": 1})
    assert not hasattr(sys.modules["__main__"], "Net")


def test_a_tensor_of_a_subclass_or_with_attributes_is_a_tensor() -> None:
    class Tagged(torch.Tensor):
        """A subclass; pickled by name, and never looked up."""

    Tagged.__qualname__ = "Tagged"
    globals()["Tagged"] = Tagged
    tagged = torch.arange(3.0).as_subclass(Tagged)
    tagged.tag = "here"  # type: ignore[attr-defined]
    buffer = io.BytesIO()
    torch.save({"w": tagged}, buffer)
    with rh.open(buffer) as checkpoint:
        assert checkpoint["w"].numpy().tolist() == [0.0, 1.0, 2.0]
        assert {"tag": "here"} in checkpoint.attributes.values()
        assert checkpoint.facts["imports"] == (f"{__name__}.Tagged",)


PYTHON_2 = {
    "an old-style instance, protocol 0": (
        b"(i__main__\nNet\np0\n(dp1\nS'x'\np2\nI1\nsb.", "__main__.Net", (), {"x": 1},
    ),
    "an old-style instance, protocol 2": (
        b"\x80\x02(c__main__\nNet\nq\x00oq\x01}q\x02U\x01xq\x03K\x01sb.", "__main__.Net", (), {"x": 1},
    ),
    "an old-style instance with arguments": (b"(I7\nS'a'\ni__main__\nNet\np0\n.", "__main__.Net", (7, "a"), None),
    "a new-style instance, protocol 0": (
        b"ccopy_reg\n_reconstructor\np0\n(c__main__\nNet\np1\nc__builtin__\nobject\np2\nNtp3\nRp4\n(dp5\nS'x'\np6\nI1\nsb.",
        "__main__.Net", (), {"x": 1},
    ),
    "a function": (b"c__builtin__\nexecfile\np0\n.", "__builtin__.execfile", None, None),
}  # fmt: skip


@pytest.mark.parametrize("name", PYTHON_2)
def test_what_python_2_pickled_is_read(name: str) -> None:
    data, path, args, state = PYTHON_2[name]
    with rh.open(data) as checkpoint:
        record = checkpoint.tree
    assert (record.path, record.args, record.state) == (path, args, state)


@pytest.mark.parametrize(("data", "value"), [
    (b"S'gr\\xf6\\xdfe'\np0\n.", "größe"),
    (b"S'gr\\xc3\\xb6\\xc3\\x9fe'\np0\n.", "größe"),
    (b"\x80\x02U\x05gr\xf6\xdfeq\x00.", "größe"),
    (b"\x80\x02T\x05\x00\x00\x00gr\xf6\xdfeq\x00.", "größe"),
    (b"Vgr\xf6\xdfe\np0\n.", "größe"),
    (b"V\\u6a21\np0\n.", "模"),
    (b"L10L\n.", 10),
    (b"I01\n.", True),
    (b"F1.5\n.", 1.5),
    (b"\x80\x02c__builtin__\nset\nq\x00]q\x01(K\x01K\x02e\x85q\x02Rq\x03.", {1, 2}),
    (b"\x80\x02c__builtin__\nfrozenset\nq\x00]q\x01K\x01a\x85q\x02Rq\x03.", frozenset({1})),
    (b"\x80\x02c__builtin__\nxrange\nq\x00K\x00K\x03K\x01\x87q\x01Rq\x02.", range(3)),
    (b"\x80\x02c__builtin__\ncomplex\nq\x00G\x3f\xf0\0\0\0\0\0\0G\0\0\0\0\0\0\0\0\x86q\x01Rq\x02.", 1 + 0j),
    (
        b"\x80\x02c__builtin__\nbytearray\nq\x00X\x02\x00\x00\x00\xc3\xbfq\x01U\x07latin-1q\x02\x86q\x03Rq\x04.",
        bytearray(b"\xff"),
    ),
    (
        b"\x80\x02ccollections\nOrderedDict\nq\x00]q\x01(]q\x02(U\x01aK\x01e]q\x03(U\x01bK\x02ee\x85Rq\x04.",
        OrderedDict(a=1, b=2),
    ),
    (b"ccollections\nOrderedDict\np0\n((lp1\n(lp2\nS'a'\np3\naI1\naatRp4\n.", OrderedDict(a=1)),
])  # fmt: skip
def test_plain_data_of_python_2_is_read(data: bytes, value: object) -> None:
    with rh.open(data) as checkpoint:
        assert type(checkpoint.tree) is type(value)
        assert checkpoint.tree == value
