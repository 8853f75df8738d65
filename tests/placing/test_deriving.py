"""What values become: the same as torch makes by hand."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

import rehydrate as rh
from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.dtypes import BY_NAME
from rehydrate.matching import values
from rehydrate.placing.moving.deriving import derived
from rehydrate.placing.moving.filling import Job, fill
from tests.effort import tried


def refs_to(**tensors: torch.Tensor) -> dict[str, TensorRef]:
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    return dict(rh.open(buffer.getvalue()))


def made(value: values.Value) -> torch.Tensor:
    """By `derived` itself, and through `fill`: the same."""
    alone = derived(value, lambda ref: ref.torch())
    target = torch.zeros(value.shape, dtype=getattr(torch, value.dtype.name))
    fill([Job("x", target, value)])
    assert torch.equal(target, alone)
    assert tuple(alone.shape) == value.shape
    assert str(alone.dtype) == f"torch.{value.dtype}"
    return alone


FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
steps = st.lists(
    st.sampled_from(["permute", "reshape", "slice", "join", "stack", "pad", "sum", "repeat", "cast"]), max_size=5
)


@tried(200)
@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    steps=steps,
    dtype=st.sampled_from([*FLOATS, torch.int32]),
    data=st.data(),
)
def test_any_chain_of_steps_is_what_torch_makes_of_the_same(
    shape: Sequence[int], steps: Sequence[str], dtype: torch.dtype, data: st.DataObject
) -> None:
    theirs = (torch.randn(*shape) * 100).to(dtype)
    value: values.Value = refs_to(x=theirs)["x"]
    for step in steps:
        rank = theirs.dim()
        axis = data.draw(st.integers(0, rank - 1))
        extent = theirs.shape[axis]
        if step == "permute":
            order = data.draw(st.permutations(range(rank)))
            value, theirs = values.permuted(value, order), theirs.permute(*order)
        elif step == "reshape":
            value, theirs = values.reshaped(value, (-1,)), theirs.reshape(-1)
        elif step == "slice":
            first = data.draw(st.integers(0, extent - 1))
            value, theirs = values.sliced(value, axis, first, extent), theirs.narrow(axis, first, extent - first)
        elif step == "join":
            value, theirs = values.joined([value, value], axis, "y"), torch.cat([theirs, theirs], axis)
        elif step == "stack" and rank < 4:
            value, theirs = values.stacked([value, value], axis, "y"), torch.stack([theirs, theirs], axis)
        elif step == "pad":
            more = torch.full((*theirs.shape[:axis], 2, *theirs.shape[axis + 1 :]), 7, dtype=theirs.dtype)
            value, theirs = values.padded(value, axis, extent + 2, 7), torch.cat([theirs, more], axis)
        elif step == "sum" and theirs.is_floating_point():  # whole numbers are refused
            value = values.summed(value, axis, 1)
            theirs = theirs.double().sum(axis, keepdim=True).to(theirs.dtype)
        elif step == "repeat" and theirs.is_floating_point():
            value = values.repeated(value, axis, extent * 2)
            theirs = (torch.cat([theirs, theirs], axis).double() / 2).to(theirs.dtype)
        elif step == "cast":
            value, theirs = values.cast(value, BY_NAME["float64"]), theirs.double()
    torch.testing.assert_close(made(value), theirs.contiguous(), rtol=1e-2, atol=1e-2)


def test_groups_of_channels_are_added_up() -> None:
    x = torch.randn(8, 6, 3, 3)
    assert torch.allclose(made(values.summed(refs_to(x=x)["x"], 1, 1)), x.sum(1, keepdim=True), atol=1e-6)
    assert torch.allclose(
        made(values.summed(refs_to(x=x)["x"], 1, 2)), torch.stack([x[:, :3].sum(1), x[:, 3:].sum(1)], 1)
    )


def test_repeated_channels_give_the_same_for_repeated_input() -> None:
    weight, gray = torch.randn(8, 3, 5, 5), torch.randn(2, 1, 9, 9)
    wide = made(values.repeated(values.summed(refs_to(x=weight)["x"], 1, 1), 1, 4))
    assert torch.allclose(
        functional.conv2d(gray.repeat(1, 4, 1, 1), wide), functional.conv2d(gray.repeat(1, 3, 1, 1), weight), atol=1e-4
    )
    turned = made(values.repeated(refs_to(x=weight)["x"], 1, 5))
    assert torch.allclose(turned, weight[:, [0, 1, 2, 0, 1]] * 3 / 5)


@pytest.mark.parametrize("dtype", FLOATS)
def test_position_embeddings_of_another_grid_keep_their_class_token(dtype: torch.dtype) -> None:
    x = torch.randn(1, 1 + 14 * 14, 8).to(dtype)
    value = values.interpolated(refs_to(x=x)["x"], axis=1, kept=1, grid=(14, 14), onto=(16, 12))
    grid = (
        x[:, 1:]
        .float()
        .reshape(1, 14, 14, 8)
        .permute(0, 3, 1, 2)
        .to(torch.float64 if dtype == torch.float64 else torch.float32)
    )
    if dtype == torch.float64:
        grid = x[:, 1:].reshape(1, 14, 14, 8).permute(0, 3, 1, 2)
    theirs = functional.interpolate(grid, size=(16, 12), mode="bicubic", align_corners=False)
    result = made(value)
    assert torch.equal(result[:, :1], x[:, :1])
    assert torch.allclose(result[:, 1:], theirs.permute(0, 2, 3, 1).reshape(1, 192, 8).to(dtype), atol=1e-6)


def test_embeddings_in_a_line_are_resampled_in_a_line_and_the_same_grid_is_left_alone() -> None:
    x = torch.randn(10, 3)
    ref = refs_to(x=x)["x"]
    longer = made(values.interpolated(ref, axis=0, kept=2, grid=(8,), onto=(16,)))
    theirs = functional.interpolate(x[2:].t()[None], size=16, mode="linear", align_corners=False)[0].t()
    assert torch.allclose(longer, torch.cat([x[:2], theirs]))
    assert torch.equal(made(values.interpolated(ref, axis=0, kept=2, grid=(2, 4), onto=(2, 4))), x)
    table = refs_to(x=torch.randn(13 * 13, 4))["x"]
    assert made(values.interpolated(table, axis=0, grid=(13, 13), onto=(15, 15))).shape == (225, 4)


def test_conjugated_parts_are_put_together_as_what_they_show() -> None:
    x = torch.randn(4, dtype=torch.complex64)
    refs = refs_to(a=x.conj(), b=x)
    assert torch.equal(made(values.joined([refs["a"], refs["b"]], 0, "y")), torch.cat([x.conj(), x]))
