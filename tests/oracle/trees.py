"""Trees of everything that `torch.save` writes and `torch.load(weights_only=True)` reads, for hypothesis to draw.

Tensors are drawn as windows on a few storages, so sharing, offsets, gaps, zero strides and empty extents are the rule.
Containers are drawn as a graph: each may hold any that was made before it, and lists and dictionaries also themselves.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Any

import torch
from hypothesis import strategies as st
from torch import nn

__all__ = ["DTYPES", "attributed", "composites", "dense_tensors", "trees"]

DTYPES = tuple(
    getattr(torch, name)
    for name in (
        "float16", "bfloat16", "float32", "float64", "complex32", "complex64", "complex128",
        "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool",
        "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu",
        "float4_e2m1fn_x2", "bits8", "bits16", "bits1x8", "bits2x4", "bits4x2",
    )
    if hasattr(torch, name)
)  # fmt: skip
"""Element types of dense tensors that torch.save writes."""

STORAGE_BYTES = 768


@st.composite
def windows(draw: st.DrawFn, dtype: torch.dtype, storage: torch.UntypedStorage) -> torch.Tensor:
    """A strided window on a storage, wherever it fits."""
    room = storage.nbytes() // dtype.itemsize
    shape = draw(st.lists(st.integers(0, 3), max_size=4))
    strides = draw(st.lists(st.integers(0, 7), min_size=len(shape), max_size=len(shape)))
    if draw(st.booleans()):  # as most tensors are
        strides = [int(torch.Size(shape[at + 1 :]).numel() or 1) for at in range(len(shape))]
    extent = 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if 0 in shape or extent > room:
        shape = [0, *shape[1:]] if shape else []
        extent = 0 if shape else 1
    if room == 0 and not shape:
        shape, strides, extent = [0], [1], 0
    offset = draw(st.integers(0, room - extent))
    return torch.empty(0, dtype=dtype).set_(storage, offset, shape, strides)


@st.composite
def dense_tensors(draw: st.DrawFn, dtypes: tuple[torch.dtype, ...] = DTYPES) -> list[torch.Tensor]:
    """A few tensors on one storage, with the traits that torch keeps beside their bytes."""
    dtype = draw(st.sampled_from(dtypes))
    whole = draw(st.integers(0, STORAGE_BYTES // 16)) * 16
    content = draw(st.binary(min_size=whole, max_size=whole)) if whole <= 64 else _noise(whole, draw)
    storage = torch.frombuffer(bytearray(content), dtype=torch.uint8).clone().untyped_storage() if whole else None
    tensors: list[torch.Tensor] = []
    for _ in range(draw(st.integers(1, 3))):
        window = draw(windows(dtype, storage if storage is not None else torch.UntypedStorage(0)))
        tensors.append(_with_traits(draw, window))
    return tensors


def _noise(nbytes: int, draw: st.DrawFn) -> bytes:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1 << 30)))
    return bytes(torch.randint(0, 256, (nbytes,), dtype=torch.uint8, generator=generator).tolist())


def _with_traits(draw: st.DrawFn, tensor: torch.Tensor) -> torch.Tensor:
    is_number = tensor.dtype.is_floating_point or tensor.dtype.is_complex
    trait = draw(st.sampled_from(("none", "none", "grad", "parameter", "frozen", "conj", "neg")))
    if trait == "conj" and tensor.dtype.is_complex:
        return tensor.conj()
    if trait == "neg" and tensor.dtype in (torch.float32, torch.float64, torch.complex64, torch.int32):
        return torch._neg_view(tensor)
    if trait == "frozen":
        return nn.Parameter(tensor, requires_grad=False)
    if is_number and trait == "parameter":
        return nn.Parameter(tensor)
    # torch cannot read its own file when a tensor of a newer element type requires grad and is no parameter.
    has_old_type = tensor.dtype not in torch.storage._new_dtypes()
    return tensor.requires_grad_() if is_number and has_old_type and trait == "grad" else tensor


def attributed(tensor: torch.Tensor, value: object) -> torch.Tensor:
    """A tensor that somebody put an attribute on, which torch.save keeps."""
    tensor.tag = value  # type: ignore[attr-defined]
    return tensor


def _sparse(layout: torch.layout, dtype: torch.dtype) -> torch.Tensor:
    dense = torch.tensor([[0, 1, 0, 2], [3, 0, 0, 0]], dtype=dtype)
    if layout in (torch.sparse_bsr, torch.sparse_bsc):
        return dense.to_sparse(layout=layout, blocksize=(2, 2))
    return dense.to_sparse(layout=layout)


def _uncoalesced() -> torch.Tensor:
    return torch.sparse_coo_tensor([[0, 0, 1], [2, 2, 0]], [1.0, 2.0, 3.0], (2, 3), check_invariants=True)


def _per_channel(dtype: torch.dtype, scheme_is_float: bool) -> torch.Tensor:
    scales = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float32 if scheme_is_float else torch.float64)
    zeros = torch.tensor([0.5, 1.5, 2.5]) if scheme_is_float else torch.tensor([0, 1, 2])
    return torch.quantize_per_channel(torch.arange(12.0).reshape(3, 4), scales, zeros, 0, dtype)


COMPOSITES = {
    **{
        f"{layout}".removeprefix("torch."): (lambda layout=layout: _sparse(layout, torch.float32))
        for layout in (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)
    },
    "coo of integers": lambda: _sparse(torch.sparse_coo, torch.int64),
    "coo with doubles in it": _uncoalesced,
    "hybrid coo": lambda: torch.ones(2, 3, 4).to_sparse(2),
    "empty coo": lambda: torch.sparse_coo_tensor(size=(3, 0), check_invariants=True),
    "nested": lambda: torch._nested_tensor_from_tensor_list([torch.ones(2, 3), torch.zeros(1, 3)]),
    "meta": lambda: torch.empty((2, 3), dtype=torch.bfloat16, device="meta"),
    "meta view": lambda: torch.empty((4, 3), device="meta").t().requires_grad_(),
    "per tensor quint8": lambda: torch.quantize_per_tensor(torch.arange(6.0), 0.1, 3, torch.quint8),
    "per tensor qint8 view": lambda: torch.quantize_per_tensor(torch.arange(6.0), 0.1, 3, torch.qint8).view(2, 3).t(),
    "per tensor qint32": lambda: torch.quantize_per_tensor(torch.arange(6.0), 0.1, 3, torch.qint32),
    "per channel qint8": lambda: _per_channel(torch.qint8, False),
    "per channel float": lambda: _per_channel(torch.quint8, True),
    "buffer": lambda: nn.Buffer(torch.arange(3)),
}
"""Tensors that are more than a window on a storage."""


def composites() -> st.SearchStrategy[torch.Tensor]:
    return st.sampled_from(sorted(COMPOSITES)).map(lambda name: COMPOSITES[name]())


def atoms() -> st.SearchStrategy[Any]:
    """Plain values that torch's safe reader knows."""
    return st.one_of(
        st.none(), st.booleans(), st.integers(), st.integers(-(1 << 2000), 1 << 2000), st.floats(), st.text(max_size=8),
        st.complex_numbers(), st.binary(min_size=1, max_size=8), st.binary(max_size=8).map(bytearray),
        st.sampled_from((*DTYPES, torch.quint8, torch.device("cpu"), torch.device("cuda", 3), torch.device("meta"))),
        st.lists(st.integers(0, 1 << 40), max_size=3).map(torch.Size),
    )  # fmt: skip


KEYS = st.one_of(
    st.text(max_size=6), st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False),
    st.binary(min_size=1, max_size=3), st.tuples(st.text(max_size=2), st.integers()),
)  # fmt: skip


@st.composite
def trees(draw: st.DrawFn, dtypes: tuple[torch.dtype, ...] = DTYPES) -> object:
    """A graph of containers over atoms and tensors, reached from one of them."""
    nodes: list[Any] = draw(st.lists(atoms(), min_size=1, max_size=6))
    for _ in range(draw(st.integers(0, 3))):
        nodes.extend(draw(dense_tensors(dtypes)))
    if draw(st.booleans()):
        nodes.append(draw(composites()))
    if draw(st.booleans()):
        nodes.append(attributed(torch.arange(3.0), draw(st.sampled_from(nodes))))
    for _ in range(draw(st.integers(1, 6))):
        inside = draw(st.lists(st.sampled_from(nodes), max_size=5))
        nodes.append(draw(_containers(inside)))
    root: list[Any] = [nodes[-1], draw(st.permutations(nodes))]
    if draw(st.booleans()):
        root.append(root)
    return root


@st.composite
def _containers(draw: st.DrawFn, inside: list[Any]) -> object:
    kind = draw(st.sampled_from(("list", "tuple", "dict", "ordered", "state", "counter", "set", "cycle")))
    if kind == "list":
        return list(inside)
    if kind == "tuple":
        return tuple(inside)
    if kind == "counter":
        return Counter(draw(st.dictionaries(st.text(max_size=3), st.integers(-5, 5), max_size=3)))
    if kind == "set":
        return draw(st.sets(KEYS, max_size=4))
    if kind == "cycle":
        cycle: dict[str, Any] = {"inside": inside}
        cycle["self"] = cycle
        return cycle
    keys = draw(st.lists(KEYS, min_size=len(inside), max_size=len(inside), unique=True))
    pairs = list(zip(keys, inside, strict=True))
    if kind == "dict":
        return dict(pairs)
    made = OrderedDict(pairs)
    if kind == "state":
        made._metadata = OrderedDict({"": {"version": 1}, "bn": {"version": 2}})  # type: ignore[attr-defined]
    return made
