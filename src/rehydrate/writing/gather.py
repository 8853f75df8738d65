"""A tree in memory → what a torch file is made of: a pickle, and the bytes of each storage once.

Sharing is decided here and nowhere else: tensors that share memory are saved on one storage, and a storage is cut down
to what the tensors in the tree show of it, so that a view of ten numbers does not drag a gigabyte along. Attributes
that somebody put on a tensor are not saved. Nothing here writes a file.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import nn

from rehydrate.checkpoint.tree import Path, children, spelled
from rehydrate.dtypes import BY_NAME
from rehydrate.errors import SaveError
from rehydrate.pickles.emit import Call, Global, PersistentId, emit_pickle
from rehydrate.text import shown
from rehydrate.writing.strangers import refuse

__all__ = ["Gathered", "gather"]


@dataclass(frozen=True, slots=True)
class Gathered:
    """What a torch file is made of."""

    pickle: bytes
    storages: tuple[tuple[str, memoryview], ...]
    """Keys and bytes, on the CPU."""
    tensors: int


def gather(tree: object) -> Gathered:
    """Take a plain tree of tensors and data apart.

    Raises `SaveError` with the path of the first value that `torch.load(weights_only=True)` would not accept.
    """
    regions = _Regions()
    for tensor in _tensors(tree):
        regions.add(tensor)
    writer = _Writer(regions)
    pickle = emit_pickle(tree, for_torch=True, convert=writer.convert)
    storages = tuple((region.key, region.content()) for region in regions.named)
    return Gathered(pickle, storages, writer.count)


@dataclass(slots=True)
class _Region:
    """The part of one storage that tensors of the tree show."""

    storage: torch.UntypedStorage
    low: int
    high: int
    dtypes: set[torch.dtype] = field(default_factory=set)
    key: str = ""

    def content(self) -> memoryview:
        flat = torch.empty(0, dtype=torch.uint8, device=self.storage.device)
        flat = flat.set_(self.storage, self.low, (self.high - self.low,), (1,))
        return memoryview(flat.cpu().numpy())  # type: ignore[arg-type]


class _Regions:
    """One region for each storage of the tree."""

    def __init__(self) -> None:
        self._by_place: dict[tuple[torch.device, int], _Region] = {}
        self.named: list[_Region] = []

    def add(self, tensor: torch.Tensor) -> None:
        """Widen the region of a tensor's storage to what the tensor shows."""
        low, high = _bytes_shown(tensor)
        region = self._by_place.setdefault(_place(tensor), _Region(tensor.untyped_storage(), low, high, {tensor.dtype}))
        region.low, region.high = min(region.low, low), max(region.high, high)
        region.dtypes.add(tensor.dtype)

    def of(self, tensor: torch.Tensor) -> _Region:
        """The region of a tensor, which has a key from now on."""
        region = self._by_place[_place(tensor)]
        if not region.key:
            region.key = str(len(self.named))
            self.named.append(region)
        return region


def _place(tensor: torch.Tensor) -> tuple[torch.device, int]:
    """What tells storages apart; empty ones have no address and never share."""
    return tensor.device, tensor.untyped_storage().data_ptr() or -id(tensor)


def _bytes_shown(tensor: torch.Tensor) -> tuple[int, int]:
    """The bytes of its storage that a tensor shows, from a multiple of 16: other dtypes may share them."""
    width = tensor.element_size()
    start = int(tensor.storage_offset()) * width
    if tensor.numel() == 0:
        return start - start % 16, start - start % 16
    last = sum((extent - 1) * stride for extent, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return start - start % 16, start + (int(last) + 1) * width


def _tensors(tree: object) -> Iterator[torch.Tensor]:
    """Every dense tensor with memory in the tree, those inside sparse ones too."""
    seen: set[int] = set()
    stack = [tree]
    while stack:
        value = stack.pop()
        if isinstance(value, torch.Tensor):
            parts = _parts(value)
            stack.extend(parts)
            if not parts and not value.is_meta and value.layout is torch.strided and not value.is_nested:
                yield value
        elif isinstance(value, (dict, list, tuple, set, frozenset)) and id(value) not in seen:
            seen.add(id(value))
            stack.extend(child for _, child in children(value))


def _parts(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The dense tensors that a sparse one is made of; none for any other."""
    if tensor.layout is torch.sparse_coo:
        return tensor._indices(), tensor._values()
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return tensor.crow_indices(), tensor.col_indices(), tensor.values()
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return tensor.ccol_indices(), tensor.row_indices(), tensor.values()
    return ()


class _Writer:
    """What stands in the pickle for each value that is not plain."""

    def __init__(self, regions: _Regions) -> None:
        self._regions = regions
        self.count = 0

    def convert(self, value: object, path: Path) -> object:
        """See `emit.Convert`."""
        if isinstance(value, torch.Tensor):
            self.count += 1
            return self._tensor(value, path)
        if isinstance(value, torch.dtype):
            return Global("torch", str(value).removeprefix("torch."))
        if isinstance(value, torch.Size):
            return Call(Global("torch", "Size"), (tuple(value),))
        if isinstance(value, torch.device):
            args = (value.type,) if value.index is None else (value.type, value.index)
            return Call(Global("torch", "device"), args)
        raise refuse(value, path)

    def _tensor(self, tensor: torch.Tensor, path: Path) -> Call:
        if type(tensor) is nn.Parameter:
            inner = self._tensor(tensor.data, path)
            return _rebuild("_rebuild_parameter", inner, tensor.requires_grad, OrderedDict())
        if type(tensor) is not torch.Tensor and not isinstance(
            tensor, nn.Buffer if hasattr(nn, "Buffer") else nn.Parameter
        ):
            raise SaveError(
                f"{type(tensor).__name__} is a tensor of a kind of its own, and a reader would need its class",
                where=shown(spelled(path)),
                hint="save tensor.as_subclass(torch.Tensor)",
            )
        if tensor.is_nested:
            raise SaveError(
                "a nested tensor is not saved",
                where=shown(spelled(path)),
                hint="save tensor.unbind()",
            )
        if tensor.is_meta:
            dtype = Global("torch", str(tensor.dtype).removeprefix("torch."))
            return _rebuild(
                "_rebuild_meta_tensor_no_storage",
                dtype,
                tuple(tensor.shape),
                tensor.stride(),
                tensor.requires_grad,
            )
        if tensor.layout is not torch.strided:
            return self._sparse(tensor, path)
        return self._dense(tensor)

    def _dense(self, tensor: torch.Tensor) -> Call:
        region = self._regions.of(tensor)
        location = str(tensor.device)
        shape, strides, grad = tuple(tensor.shape), tensor.stride(), tensor.requires_grad
        width = tensor.element_size()
        offset = (tensor.storage_offset() * width - region.low) // width
        stem = BY_NAME[str(tensor.dtype).removeprefix("torch.")].storage
        metadata = {name: True for name, on in (("conj", tensor.is_conj()), ("neg", tensor.is_neg())) if on}
        more = (metadata,) if metadata else ()
        if stem is None or len(region.dtypes) > 1:
            token = (
                "storage",
                Global("torch.storage", "UntypedStorage"),
                region.key,
                location,
                region.high - region.low,
            )
            dtype = Global("torch", str(tensor.dtype).removeprefix("torch."))
            args = (PersistentId(token), offset, shape, strides, grad, OrderedDict(), dtype, *more)
            return _rebuild("_rebuild_tensor_v3", *args)
        numel = (region.high - region.low) // width
        stored = PersistentId(("storage", Global("torch", stem + "Storage"), region.key, location, numel))
        if tensor.is_quantized:
            return _rebuild(
                "_rebuild_qtensor",
                stored,
                offset,
                shape,
                strides,
                self._quantizer(tensor),
                grad,
                OrderedDict(),
            )
        return _rebuild("_rebuild_tensor_v2", stored, offset, shape, strides, grad, OrderedDict(), *more)

    def _quantizer(self, tensor: torch.Tensor) -> tuple[object, ...]:
        scheme = tensor.qscheme()
        name = Global("torch", str(scheme).removeprefix("torch."))
        if scheme == torch.per_tensor_affine:
            return name, tensor.q_scale(), tensor.q_zero_point()
        scales, zero_points = tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points()
        for numbers in (scales, zero_points):
            self._regions.add(numbers)
        return name, self._dense(scales), self._dense(zero_points), tensor.q_per_channel_axis()

    def _sparse(self, tensor: torch.Tensor, path: Path) -> Call:
        layout = Call(Global("torch.serialization", "_get_layout"), (str(tensor.layout),))
        parts: tuple[object, ...] = tuple(self._dense(part) for part in _parts(tensor))
        if not parts:
            raise SaveError(f"a tensor of layout {tensor.layout} is not saved", where=shown(spelled(path)))
        size = self.convert(tensor.size(), path)
        flags = (tensor.is_coalesced(),) if tensor.layout is torch.sparse_coo else ()
        return _rebuild("_rebuild_sparse_tensor", layout, (*parts, size, *flags))


def _rebuild(name: str, *args: object) -> Call:
    return Call(Global("torch._utils", name), args)
