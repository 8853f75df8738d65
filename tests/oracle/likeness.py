"""What two trees of real values differ in: types, keys and their order, sharing, and every bit of every tensor.

`differences(ours, theirs)` is a list of sentences, empty for equal trees. Equal means that no program could tell one
from the other: dtypes, shapes, strides and offsets are compared, storages byte by byte, and two places that are one
object (or one storage) on one side must be one on the other.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

__all__ = ["assert_alike", "differences"]

ENOUGH = 20
"""Differences after which nobody reads on."""


def assert_alike(ours: object, theirs: object, *, values_only: bool = False) -> None:
    found = differences(ours, theirs, values_only=values_only)
    assert not found, "\n".join(found)


def differences(ours: object, theirs: object, *, values_only: bool = False) -> list[str]:
    """Every way in which the two differ, up to `ENOUGH`.

    `values_only` compares elements, strides and sharing, but neither where in a storage a tensor lies nor what else is
    in it: a file that was cut down to what is shown. What autograd knows of a tensor's past is then left out too.
    """
    return _Comparison(values_only).run(ours, theirs)


@dataclass
class _Comparison:
    values_only: bool = False
    found: list[str] = field(default_factory=list)
    pairs: dict[int, int] = field(default_factory=dict)
    inverse: dict[int, int] = field(default_factory=dict)
    kept: list[object] = field(default_factory=list)

    def run(self, ours: object, theirs: object) -> list[str]:
        stack: list[tuple[str, object, object]] = [("root", ours, theirs)]
        while stack and len(self.found) < ENOUGH:
            path, one, other = stack.pop()
            stack.extend(self.compare(path, one, other))
        return self.found

    def say(self, path: str, what: str, one: object, other: object) -> None:
        self.found.append(f"{path}: {what}: ours {str(one)[:200]}, theirs {str(other)[:200]}")

    def is_known_pair(self, path: str, what: str, one: object, other: object) -> bool:
        """Whether these two were met together before; a difference if only one of them was, or with another."""
        known = self.pairs.get(id(one)), self.inverse.get(id(other))
        self.kept += (one, other)
        if known == (None, None):
            self.pairs[id(one)], self.inverse[id(other)] = id(other), id(one)
            return False
        if known != (id(other), id(one)):
            self.say(path, f"{what} is shared on one side only", one, other)
        return True

    def compare(self, path: str, one: object, other: object) -> Iterator[tuple[str, object, object]]:
        if type(one) is not type(other):
            self.say(path, "type", type(one), type(other))
            return
        if isinstance(other, torch.Tensor) and isinstance(one, torch.Tensor):
            if not self.is_known_pair(path, "the tensor", one, other):
                yield from self.tensors(path, one, other)
        elif isinstance(other, torch.UntypedStorage) and isinstance(one, torch.UntypedStorage):
            self.storages(path, one, other)
        elif isinstance(other, torch.storage.TypedStorage) and isinstance(one, torch.storage.TypedStorage):
            if one.dtype != other.dtype:
                self.say(path, "dtype", one.dtype, other.dtype)
            self.storages(path, one._untyped_storage, other._untyped_storage)
        elif isinstance(other, (dict, list, tuple, set, frozenset, bytearray)):
            if not (len(other) == 0 and isinstance(other, (tuple, frozenset))) and self.is_known_pair(
                path, "the container", one, other
            ):
                return
            yield from self.containers(path, one, other)
        elif isinstance(other, (float, complex)) and isinstance(one, (float, complex)):
            if _bits(one) != _bits(other):
                self.say(path, "value", one, other)
        elif one is not other and one != other:
            self.say(path, "value", one, other)

    def containers(self, path: str, one: object, other: object) -> Iterator[tuple[str, object, object]]:
        if isinstance(other, dict) and isinstance(one, dict):
            if len(one) != len(other):
                self.say(path, "keys", list(one), list(other))
                return
            for at, (key, theirs) in enumerate(zip(one, other, strict=True)):
                yield f"{path}.key[{at}]", key, theirs
            for (key, mine), theirs in zip(one.items(), other.values(), strict=True):
                yield f"{path}[{key!r}]", mine, theirs
            if getattr(one, "default_factory", None) is not getattr(other, "default_factory", None):
                self.say(path, "default_factory", one, other)
        elif isinstance(other, (list, tuple)) and isinstance(one, (list, tuple)):
            if len(one) != len(other):
                self.say(path, "length", len(one), len(other))
                return
            for at, (mine, theirs) in enumerate(zip(one, other, strict=True)):
                yield f"{path}[{at}]", mine, theirs
        elif one != other:
            self.say(path, "value", one, other)
        attributes = getattr(one, "__dict__", None), getattr(other, "__dict__", None)
        if attributes != (None, None):
            yield f"{path}.__dict__", *attributes

    def tensors(self, path: str, one: torch.Tensor, other: torch.Tensor) -> Iterator[tuple[str, object, object]]:
        for name in ("dtype", "layout", "device", "requires_grad", "is_leaf", "is_nested", "is_quantized", "shape"):
            if (other.is_nested and name == "shape") or (self.values_only and name == "is_leaf"):
                continue
            if getattr(one, name) != getattr(other, name):
                self.say(path, name, getattr(one, name), getattr(other, name))
                return
        if isinstance(other, torch.nn.Parameter) != isinstance(one, torch.nn.Parameter):
            self.say(path, "parameter", isinstance(one, torch.nn.Parameter), isinstance(other, torch.nn.Parameter))
        if other.is_nested:
            yield f"{path}.buffer", one.values(), other.values()
            for method in ("_nested_tensor_size", "_nested_tensor_strides", "_nested_tensor_storage_offsets"):
                yield f"{path}.{method}", getattr(one, method)(), getattr(other, method)()
        elif other.layout is torch.sparse_coo:
            yield f"{path}.indices", one._indices(), other._indices()
            yield f"{path}.values", one._values(), other._values()
            yield f"{path}.is_coalesced", one.is_coalesced(), other.is_coalesced()
        elif other.layout is not torch.strided:
            rows = other.layout in (torch.sparse_csr, torch.sparse_bsr)
            for method in (*(("crow_indices", "col_indices") if rows else ("ccol_indices", "row_indices")), "values"):
                yield f"{path}.{method}", getattr(one, method)(), getattr(other, method)()
        else:
            self.dense(path, one, other)
            if other.is_quantized:
                yield from self.quantizers(path, one, other)
        yield f"{path}.__dict__", dict(one.__dict__), dict(other.__dict__)

    def dense(self, path: str, one: torch.Tensor, other: torch.Tensor) -> None:
        for name in ("stride", "is_conj", "is_neg", *(() if self.values_only else ("storage_offset",))):
            if getattr(one, name)() != getattr(other, name)():
                self.say(path, name, getattr(one, name)(), getattr(other, name)())
        self.storages(path, one.untyped_storage(), other.untyped_storage())
        if self.values_only and not other.is_meta and one.shape == other.shape:
            mine, theirs = _elements(one), _elements(other)
            if not torch.equal(mine, theirs):
                self.say(path, "elements", mine.flatten()[:16].tolist(), theirs.flatten()[:16].tolist())

    def quantizers(self, path: str, one: torch.Tensor, other: torch.Tensor) -> Iterator[tuple[str, object, object]]:
        yield f"{path}.qscheme", one.qscheme(), other.qscheme()
        if other.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
            yield f"{path}.scale", (one.q_scale(), one.q_zero_point()), (other.q_scale(), other.q_zero_point())
        else:
            for method in ("q_per_channel_scales", "q_per_channel_zero_points", "q_per_channel_axis"):
                yield f"{path}.{method}", getattr(one, method)(), getattr(other, method)()

    def storages(self, path: str, one: torch.UntypedStorage, other: torch.UntypedStorage) -> None:
        """Size, device, bytes, and who else looks at it."""
        if not self.values_only and (one.nbytes(), str(one.device)) != (other.nbytes(), str(other.device)):
            self.say(path, "storage", (one.nbytes(), one.device), (other.nbytes(), other.device))
            return
        if not one.nbytes() or not other.nbytes() or one.device.type == "meta":
            return  # there is nothing to share, and torch makes new ones at will
        here, there = ("storage", one._cdata), ("storage", other._cdata)
        known = self.storage_pairs.get(here), self.storage_pairs.get(("theirs", there))
        if known == (None, None):
            self.storage_pairs[here], self.storage_pairs["theirs", there] = there, here
            self.kept += (one, other)
        elif known != (there, here):
            self.say(path, "the storage is shared on one side only", here, there)
        else:
            return
        if not self.values_only and not torch.equal(_bytes(one), _bytes(other)):
            self.say(path, "bytes", _bytes(one)[:16].tolist(), _bytes(other)[:16].tolist())

    storage_pairs: dict[object, object] = field(default_factory=dict)


def _bits(number: complex) -> bytes:
    """Equal only for the same float: signs of zeros and kinds of NaN count."""
    return struct.pack("<dd", complex(number).real, complex(number).imag)


def _elements(tensor: torch.Tensor) -> torch.Tensor:
    """The bytes of what a tensor shows, whatever its element type: the last dimension is the bytes of one element."""
    width = tensor.element_size()
    strides = (*(stride * width for stride in tensor.stride()), 1)
    return _bytes(tensor.untyped_storage()).as_strided((*tensor.shape, width), strides, tensor.storage_offset() * width)


def _bytes(storage: torch.UntypedStorage) -> torch.Tensor:
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)
