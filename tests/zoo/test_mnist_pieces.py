"""Connected pieces of ink, against a flood fill that anybody can check."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from rehydrate.zoo.mnist.pieces import labelled, pieces_of
from tests.effort import tried


def flooded(mask: np.ndarray) -> np.ndarray:
    """Numbers for the pieces of a mask, one pixel after the other."""
    labels = np.zeros(mask.shape, dtype=np.int32)
    for start in zip(*np.nonzero(mask), strict=True):
        if labels[start]:
            continue
        number, waiting = int(labels.max()) + 1, [start]
        while waiting:
            row, column = waiting.pop()
            if labels[row, column]:
                continue
            labels[row, column] = number
            waiting += [
                (near_row, near_column)
                for near_row in range(max(row - 1, 0), min(row + 2, mask.shape[0]))
                for near_column in range(max(column - 1, 0), min(column + 2, mask.shape[1]))
                if mask[near_row, near_column]
            ]
    return labels


@tried(300)
@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_pieces_are_those_of_a_flood_fill(mask: np.ndarray) -> None:
    labels, wanted = labelled(mask), flooded(mask)
    assert labels.max(initial=0) == wanted.max(initial=0)
    assert len({*zip(labels.ravel().tolist(), wanted.ravel().tolist(), strict=True)}) == len(np.unique(wanted))


@tried(100)
@given(arrays(np.float32, (9, 13), elements=st.floats(0, 1, width=32)))
def test_a_piece_knows_its_box_and_how_much_ink_it_has(amount: np.ndarray) -> None:
    labels, pieces = pieces_of(amount, 0.5, amount, 0.8)
    assert [piece.mass for piece in pieces] == sorted((piece.mass for piece in pieces), reverse=True)
    for piece in pieces:
        mine = labels == piece.labels[0]
        rows, columns = np.nonzero(mine)
        assert (piece.box.top, piece.box.bottom) == (rows.min(), rows.max() + 1)
        assert (piece.box.left, piece.box.right) == (columns.min(), columns.max() + 1)
        assert np.isclose(piece.mass, amount[mine].sum(), rtol=1e-5)
        assert amount[mine].max() >= np.float32(0.8)
    kept = {piece.labels[0] for piece in pieces}
    left_out = set(range(1, int(labels.max()) + 1)) - kept
    assert all(amount[labels == number].max() < 0.8 for number in left_out)
