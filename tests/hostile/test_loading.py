"""`rh.load` and `rh.load_into` of hostile files: torch builds tensors, and nothing that the file says happens."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
import torch
from torch import nn

import rehydrate as rh
from rehydrate.errors import RehydrateError

from .archives import torch_zip
from .assembler import empty_dict, pickle_of, setitem, tensor, unicode
from .case import Case
from .examining import at_most, check_message
from .guard import guarded
from .tables import CASES
from .test_cases import by_name

pytestmark = pytest.mark.filterwarnings("ignore:.*quantize")  # torch may drop it one day

SHORT = [case for case in CASES if not case.name.startswith("SAID") and "thousand names" not in case.name]


@pytest.fixture(scope="module", autouse=True)
def _warm(guard: object) -> None:
    """torch imports some of itself when it is first used; what honest files make it import is imported here."""
    for tree in _honest():
        buffer = io.BytesIO()
        torch.save(tree, buffer)
        rh.load(buffer)
    for content in (empty_dict, _STRANGE):
        with pytest.raises(RehydrateError):
            rh.load_into(nn.Linear(2, 2), torch_zip(pickle_of(content)))


_STRANGE = empty_dict + unicode("w") + tensor() + setitem


def _honest() -> Iterator[object]:
    linear = nn.Linear(2, 2)
    yield linear.state_dict()
    yield {"parameter": linear.weight, "size": torch.Size([2]), "device": torch.device("cpu"), "dtype": torch.float16}
    yield torch.ones(2, 2).to_sparse()
    yield torch.ones(2, dtype=torch.complex64).conj()
    yield torch.ones(2, device="meta")


@pytest.mark.parametrize("case", SHORT, ids=by_name)
def test_loading_a_hostile_file_does_nothing(case: Case) -> None:
    data = case.build()
    with guarded(), at_most(20):
        try:
            rh.load(data)
        except RehydrateError as error:
            check_message(error)


@pytest.mark.parametrize("case", SHORT, ids=by_name)
def test_loading_a_hostile_file_into_a_model_does_nothing_and_leaves_the_model_as_it_was(case: Case) -> None:
    data, model = case.build(), nn.Linear(2, 2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with guarded(), at_most(20):
        try:
            rh.load_into(model, data)
        except RehydrateError as error:
            check_message(error)
        else:
            pytest.fail("it fits nothing")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
