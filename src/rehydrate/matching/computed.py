"""Buffers that a model's constructor computes: in the file of one version and not in that of the next.

They hold nothing that was learned. Where a file lacks one, the model's own stays; where it has one that the model
lacks, it is left aside; where the two have other sizes, the model's stays. Each is told. Where shapes fit, the file's
values are taken like all others.
"""

from __future__ import annotations

from rehydrate.dtypes import BY_NAME

__all__ = ["COUNTER", "computed", "reason"]

COUNTER = "num_batches_tracked"

_WHOLE = ("integer", "bool")

_TABLE: dict[str, tuple[str, bool]] = {
    "position_ids": ("0, 1, 2, ...", False),
    "token_type_ids": ("zeros", True),
    "relative_position_index": ("which row of the bias table belongs to which two places of a window", False),
    "relative_coords_table": ("places in a window", False),
    "attn_mask": ("which windows see each other", False),
    "inv_freq": ("frequencies of rotary embeddings", False),
    "original_inv_freq": ("frequencies of rotary embeddings", False),
    "cos_cached": ("rotary embeddings", False),
    "sin_cached": ("rotary embeddings", False),
    "cached_cos": ("rotary embeddings", False),
    "cached_sin": ("rotary embeddings", False),
    "freqs_cis": ("rotary embeddings", False),
    "masked_bias": ("the number that stands for minus infinity", False),
    COUNTER: ("how many batches a batch norm has seen", True),
}
"""How a buffer is called → what it holds, and whether that is whole numbers."""

_CAUSAL = "bias"
"""GPT-2's `attn.bias`: ones below the diagonal. It is told from a layer's bias by its four dimensions."""


def computed(name: str, shape: tuple[int, ...], dtype: str) -> bool:
    """Whether a buffer is one that a constructor makes.

    >>> computed("bn1.num_batches_tracked", (), "int64"), computed("bn1.num_batches_tracked", (), "float32")
    (True, False)
    >>> computed("h.0.attn.bias", (1, 1, 8, 8), "uint8"), computed("h.0.attn.bias", (8,), "float32")
    (True, False)
    """
    leaf = name.rpartition(".")[2]
    if leaf == _CAUSAL:
        return name.endswith("attn.bias") and len(shape) == 4 and shape[:2] == (1, 1) and shape[2] == shape[3]
    found = _TABLE.get(leaf)
    return found is not None and (not found[1] or BY_NAME[dtype].kind in _WHOLE)


def reason(name: str) -> str:
    """What such a buffer holds.

    >>> reason("encoder.position_ids")
    '0, 1, 2, ...'
    """
    leaf = name.rpartition(".")[2]
    return "which places may look at which" if leaf == _CAUSAL else _TABLE[leaf][0]
