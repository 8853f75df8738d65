"""A tree in memory → what a torch file is made of: a pickle, and the bytes of each storage once.

Sharing is decided here and nowhere else: tensors that share a storage are saved on one, and a storage is cut down to
what the tensors in the tree show of it, so that a view of ten numbers does not drag a gigabyte along. What torch's
safe reader could not read back as it is, is refused with its path. Nothing here writes a file.
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
from rehydrate.pickles.emit import Call, Global, PersistentId, emit_pickle, place_of
from rehydrate.text import shown
from rehydrate.writing.strangers import refuse

__all__ = ["Gathered", "gather"]


_KINDS = (torch.Tensor, nn.Parameter)
"""The exact types of tensors that are saved; a reader would need the class of any other."""


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
        self._by_storage: dict[int, _Region] = {}
        self.named: list[_Region] = []

    def add(self, tensor: torch.Tensor) -> None:
        """Widen the region of a tensor's storage to what the tensor shows."""
        low, high = _bytes_shown(tensor)
        storage = tensor.untyped_storage()
        region = self._by_storage.setdefault(storage._cdata, _Region(storage, low, high))
        region.low, region.high = min(region.low, low), max(region.high, high)
        region.dtypes.add(tensor.dtype)

    def of(self, tensor: torch.Tensor) -> _Region:
        """The region of a tensor, which has a key from now on."""
        region = self._by_storage[tensor.untyped_storage()._cdata]
        if not region.key:
            region.key = str(len(self.named))
            self.named.append(region)
        return region


def _bytes_shown(tensor: torch.Tensor) -> tuple[int, int]:
    """The bytes of its storage that a tensor shows, from a multiple of 16: other dtypes may share them."""
    width = tensor.element_size()
    start = int(tensor.storage_offset()) * width
    if tensor.numel() == 0:
        return start - start % 16, start - start % 16
    last = sum((extent - 1) * stride for extent, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return start - start % 16, start + (int(last) + 1) * width


def _tensors(tree: object) -> Iterator[torch.Tensor]:
    """Every tensor of the tree that is a window on a storage: those inside others and in attributes too."""
    seen: set[int] = set()
    stack = [tree]
    while stack:
        value = stack.pop()
        if id(value) in seen:
            continue
        if isinstance(value, torch.Tensor):
            seen.add(id(value))
            if type(value) not in _KINDS:  # refused when it is its turn, with its path
                continue
            stack.append(value.__dict__)
            parts = _parts(value)
            yield from parts
            if value.layout is torch.strided and not value.is_nested and not value.is_meta:
                yield value
        elif isinstance(value, (dict, list, tuple, set, frozenset)):
            seen.add(id(value))
            stack.extend(child for _, child in children(value))
            if isinstance(value, dict):
                stack.extend(value)
                stack.extend(getattr(value, "__dict__", {}).values())


def _parts(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The dense tensors that another one is made of: indices and values, or scales and zero points."""
    if tensor.is_nested:
        lengths = tensor._nested_tensor_size(), tensor._nested_tensor_strides(), tensor._nested_tensor_storage_offsets()
        return tensor.values(), *lengths
    if tensor.layout is torch.sparse_coo:
        return tensor._indices(), tensor._values()
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return tensor.crow_indices(), tensor.col_indices(), tensor.values()
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return tensor.ccol_indices(), tensor.row_indices(), tensor.values()
    if tensor.is_quantized and tensor.qscheme() is not torch.per_tensor_affine:
        return tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points()
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
        if isinstance(value, (torch.dtype, torch.qscheme)):
            return _name_of(value)
        if isinstance(value, torch.Size):
            return Call(Global("torch", "Size"), (tuple(value),))
        if isinstance(value, torch.layout):
            return Call(Global("torch.serialization", "_get_layout"), (str(value),))
        if isinstance(value, torch.device):
            args = (value.type,) if value.index is None else (value.type, value.index)
            return Call(Global("torch", "device"), args)
        raise refuse(value, path)

    def _tensor(self, tensor: torch.Tensor, path: Path) -> Call:
        attributes = dict(tensor.__dict__)
        if type(tensor) is nn.Parameter:
            data = self._plain(tensor.data, path)
            if attributes:
                return _rebuild("_rebuild_parameter_with_state", data, tensor.requires_grad, OrderedDict(), attributes)
            return _rebuild("_rebuild_parameter", data, tensor.requires_grad, OrderedDict())
        if type(tensor) not in _KINDS:
            raise SaveError(
                f"{shown(type(tensor).__name__)} is a tensor of a kind of its own, and a reader would need its class",
                where=shown(spelled(path)),
                hint="run a batch through the model first: it is not built until then"
                if nn.parameter.is_lazy(tensor)
                else "save tensor.as_subclass(torch.Tensor)",
            )
        plain = self._plain(tensor, path)
        if not attributes:
            return plain
        kind = Global("torch", "Tensor")
        rebuild = Global("torch._tensor", "_rebuild_from_type_v2")
        return Call(rebuild, (plain.function, kind, plain.args, attributes))

    def _plain(self, tensor: torch.Tensor, path: Path) -> Call:
        """A tensor without its attributes."""
        if tensor.is_nested:
            return _rebuild("_rebuild_nested_tensor", *map(self._dense, _parts(tensor)))
        if tensor.is_meta:
            grad = tensor.requires_grad
            return _rebuild(
                "_rebuild_meta_tensor_no_storage", _name_of(tensor.dtype), tuple(tensor.shape), tensor.stride(), grad
            )
        if tensor.layout is not torch.strided:
            return self._sparse(tensor, path)
        has_types = self._regions.of(tensor).dtypes
        if tensor.requires_grad and (len(has_types) > 1 or BY_NAME[_stem(tensor.dtype)].storage is None):
            raise SaveError(
                f"torch cannot read a {_stem(tensor.dtype)} tensor back that requires grad"
                + (", beside others that see its memory as another type" if len(has_types) > 1 else ""),
                where=place_of(path),
                hint="save tensor.detach(), or make it an nn.Parameter",
            )
        if tensor.is_quantized and len(has_types) > 1:
            raise SaveError(
                "a quantised tensor beside others that see its memory as another type is not saved",
                where=place_of(path),
                hint="save tensor.clone()",
            )
        return self._dense(tensor)

    def _dense(self, tensor: torch.Tensor) -> Call:
        region = self._regions.of(tensor)
        location = str(tensor.device)
        shape, strides, grad = tuple(tensor.shape), tensor.stride(), tensor.requires_grad
        width = tensor.element_size()
        offset = (tensor.storage_offset() * width - region.low) // width
        storage = BY_NAME[_stem(tensor.dtype)].storage
        metadata = {name: True for name, on in (("conj", tensor.is_conj()), ("neg", tensor.is_neg())) if on}
        more = (metadata,) if metadata else ()
        nbytes = region.high - region.low
        if storage is None or len(region.dtypes) > 1:
            kind = Global("torch.storage", "UntypedStorage")
            stored = PersistentId(("storage", kind, region.key, location, nbytes))
            args = (stored, offset, shape, strides, grad, OrderedDict(), _name_of(tensor.dtype), *more)
            return _rebuild("_rebuild_tensor_v3", *args)
        kind = Global("torch", storage + "Storage")
        stored = PersistentId(("storage", kind, region.key, location, nbytes // width))
        if tensor.is_quantized:
            quantizer = self._quantizer(tensor)
            return _rebuild("_rebuild_qtensor", stored, offset, shape, strides, quantizer, grad, OrderedDict())
        return _rebuild("_rebuild_tensor_v2", stored, offset, shape, strides, grad, OrderedDict(), *more)

    def _quantizer(self, tensor: torch.Tensor) -> tuple[object, ...]:
        scheme = _name_of(tensor.qscheme())
        if tensor.qscheme() is torch.per_tensor_affine:
            return scheme, tensor.q_scale(), tensor.q_zero_point()
        return scheme, *map(self._dense, _parts(tensor)), tensor.q_per_channel_axis()

    def _sparse(self, tensor: torch.Tensor, path: Path) -> Call:
        layout = Call(Global("torch.serialization", "_get_layout"), (str(tensor.layout),))
        parts: tuple[object, ...] = tuple(map(self._dense, _parts(tensor)))
        if not parts:
            raise SaveError(f"a tensor of layout {tensor.layout} is not saved", where=shown(spelled(path)))
        size = self.convert(tensor.size(), path)
        flags = (tensor.is_coalesced(),) if tensor.layout is torch.sparse_coo else ()
        return _rebuild("_rebuild_sparse_tensor", layout, (*parts, size, *flags))


def _rebuild(name: str, *args: object) -> Call:
    return Call(Global("torch._utils", name), args)


def _stem(name: object) -> str:
    """`float32` of `torch.float32`."""
    return str(name).removeprefix("torch.")


def _name_of(constant: object) -> Global:
    """The name by which torch has an element type or a scheme."""
    return Global("torch", _stem(constant))
