"""A file that is closed and dropped leaves nothing for the collector: its tensors go when their last name goes.

A program that opens many files would otherwise keep thousands of references of each, until the collector comes by.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest

import rehydrate as rh
from rehydrate.checkpoint.tensor import Storage, TensorRef

from ..hostile.torch7_files import ENCODINGS
from .test_flipped_bytes import KINDS, of_torch7, packed_in_a_tar

FILES: dict[str, Callable[[], bytes]] = {
    **{kind: make for kind, (make, _) in KINDS.items()},
    "torch tar in a tar": packed_in_a_tar,
    "torch7": of_torch7(next(iter(ENCODINGS))),
}


@pytest.fixture(autouse=True)
def _uncollected() -> Iterator[None]:
    """Whatever earlier tests left is collected, and from then on only what nobody refers to goes."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def _alive() -> int:
    """Of just these classes: asking anything else what it is may import what it stands for."""
    return sum(type(value) in (Storage, TensorRef) for value in gc.get_objects())


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_closed_leaves_no_tensor_behind(kind: str) -> None:
    data = FILES[kind]()
    before = _alive()
    checkpoint = rh.open(data)
    assert _alive() > before
    checkpoint.close()
    del checkpoint
    assert _alive() == before


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_was_read_leaves_no_tensor_behind(kind: str) -> None:
    data = FILES[kind]()
    rh.load(data)
    gc.collect()
    before = _alive()
    rh.load(data)
    assert _alive() == before
