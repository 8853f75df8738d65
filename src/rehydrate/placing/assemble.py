"""torch's composite values, put together from their records: sizes, devices, sparse, quantised and nested tensors.

A table from the name in the file to a function of ours that calls torch's public constructors with checked arguments.
Nothing is looked up in torch by a name that a file chose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from rehydrate.checkpoint.record import Record, brief
from rehydrate.errors import CorruptError, DeviceError, RehydrateError

__all__ = ["ASSEMBLERS", "assembled"]

_LAYOUTS: Mapping[str, torch.layout] = {
    f"torch.{name}": getattr(torch, name)
    for name in (
        "strided",
        "sparse_coo",
        "sparse_csr",
        "sparse_csc",
        "sparse_bsr",
        "sparse_bsc",
        "_mkldnn",
    )
    if hasattr(torch, name)
}
_SCHEMES: Mapping[str, torch.qscheme] = {
    f"torch.{name}": getattr(torch, name)
    for name in (
        "per_tensor_affine", "per_tensor_symmetric", "per_channel_affine", "per_channel_symmetric",
        "per_channel_affine_float_qparams",
    )
}  # fmt: skip


def assembled(record: Record, args: tuple[object, ...]) -> object:
    """The value that a record of one of `ASSEMBLERS` stands for; `args` are its arguments, real.

    Raises `CorruptError` when they are not what torch would have written.
    """
    if record.args is None:
        return _NAMES.get(record.path, record)
    try:
        return ASSEMBLERS[record.path](*args)
    except RehydrateError:
        raise
    except Exception as error:
        raise CorruptError(
            f"{record.path} cannot be put together: {str(error).splitlines()[0] if str(error) else error!r}",
            found=brief(record),
        ) from error


def _size(extents: object = ()) -> torch.Size:
    if not isinstance(extents, (tuple, list)) or not all(type(extent) is int for extent in extents):
        raise TypeError("a size is made of whole numbers")
    return torch.Size(extents)


def _device(kind: object, index: object = None) -> object:
    """A device; one of a backend that this torch does not have stays as it was saved."""
    if not isinstance(kind, str) or not (index is None or type(index) is int):
        raise TypeError("a device is a word and a number")
    try:
        return torch.device(kind) if index is None else torch.device(kind, index)
    except RuntimeError:
        return Record("torch", "device", (kind,) if index is None else (kind, index))


def _layout(name: object) -> torch.layout:
    return _LAYOUTS[str(name)]


def _sparse(layout: object, data: object, *rest: object) -> torch.Tensor:
    """`_rebuild_sparse_tensor(layout, data)`; the indices are checked, whoever wrote them."""
    if not isinstance(data, tuple):
        raise TypeError("the parts of a sparse tensor are not a tuple")
    if layout is torch.sparse_coo:
        indices, values, size, *coalesced = data
        checked = not indices.is_meta  # where there is no data, there is nothing to check
        return torch.sparse_coo_tensor(
            indices,
            values,
            size,
            check_invariants=checked,
            is_coalesced=bool(coalesced[0]) if coalesced else None,
            device=values.device,
        )
    if isinstance(layout, torch.layout):
        compressed, plain, values, size = data
        checked = not compressed.is_meta
        return torch.sparse_compressed_tensor(
            compressed, plain, values, size, layout=layout, check_invariants=checked, device=values.device
        )
    raise TypeError("an unknown layout")


def _quantized(integers: object, quantizer: object, requires_grad: object = False) -> torch.Tensor:
    """The integers of `_rebuild_qtensor` with the scale that belongs to them."""
    if not isinstance(integers, torch.Tensor) or not isinstance(quantizer, tuple):
        raise TypeError("not a tensor and its quantizer")
    scheme, *numbers = quantizer
    storage, size, stride = integers.untyped_storage(), integers.size(), integers.stride()
    kind = integers.dtype
    if scheme in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        scale, zero_point = numbers
        made = torch._empty_affine_quantized(
            size, scale=scale, zero_point=zero_point, dtype=kind, device=integers.device
        )
    else:
        scales, zero_points, axis = numbers
        scales = _as_tensor(scales, torch.double, integers)
        zero_points = _as_tensor(zero_points, torch.double if scales_are_float(scheme) else torch.long, integers)
        # torch's constructor looks at none of this, and its kernels would read beyond the scales.
        if type(axis) is not int or not 0 <= axis < len(size):
            raise ValueError(f"there is no axis {axis} to scale")
        if not scales.shape == zero_points.shape == (size[axis],):
            raise ValueError("there is not one scale and one zero point for each channel")
        made = torch._empty_per_channel_affine_quantized(
            size, scales=scales, zero_points=zero_points, axis=axis, dtype=kind, device=integers.device
        )
    made.set_(storage, integers.storage_offset(), size, stride)
    return made.requires_grad_(requires_grad is True)


def scales_are_float(scheme: object) -> bool:
    """Whether a quantisation scheme keeps its zero points as floats."""
    return scheme is torch.per_channel_affine_float_qparams


def _as_tensor(numbers: object, dtype: torch.dtype, beside: torch.Tensor) -> torch.Tensor:
    """Numbers, which old files have as a list, where another tensor is."""
    return numbers if isinstance(numbers, torch.Tensor) else torch.tensor(numbers, dtype=dtype, device=beside.device)


def _nested(buffer: object, sizes: object, strides: object, offsets: object) -> torch.Tensor:
    """`_rebuild_nested_tensor`; torch itself does not look whether the parts lie in the buffer."""
    tables = (sizes, strides, offsets)
    if isinstance(buffer, torch.Tensor) and buffer.is_meta:
        raise DeviceError("torch has no nested tensors on the meta device")
    if not isinstance(buffer, torch.Tensor) or buffer.dim() != 1 or not buffer.is_contiguous():
        raise TypeError("not a buffer")
    if not all(isinstance(table, torch.Tensor) and table.dtype == torch.int64 for table in tables):
        raise TypeError("sizes, strides and offsets are not tables of whole numbers")
    if sizes.dim() not in (1, 2) or sizes.shape != strides.shape or offsets.shape != sizes.shape[:1]:  # type: ignore[attr-defined]
        raise ValueError("sizes, strides and offsets do not belong together")
    for size, stride, first in zip(sizes.tolist(), strides.tolist(), offsets.tolist(), strict=True):  # type: ignore[attr-defined]
        last = first + sum((extent - 1) * step for extent, step in zip(size, stride, strict=True))
        if min(first, *size, *stride) < 0 or (0 not in size and last >= buffer.numel()):
            raise ValueError("a part lies outside the buffer")
    return torch._nested_view_from_buffer(buffer, sizes, strides, offsets)  # type: ignore[arg-type]


def _of_device(data: object, dtype: object, device: object, requires_grad: object) -> torch.Tensor:
    """Tensors that XLA, MTIA and others save through the CPU: they come back there."""
    if not isinstance(data, torch.Tensor) or not isinstance(dtype, torch.dtype):
        raise TypeError("not a tensor and its dtype")
    return data.to(dtype).requires_grad_(requires_grad is True)


_NAMES: Mapping[str, object] = {**_SCHEMES, "torch.Size": torch.Size, "torch.device": torch.device}
"""Names that stand for themselves, uncalled."""

ASSEMBLERS: Mapping[str, Callable[..., object]] = {
    "torch.Size": _size,
    "torch.device": _device,
    "torch.serialization._get_layout": _layout,
    "torch._utils._rebuild_sparse_tensor": _sparse,
    "torch._utils._rebuild_qtensor": _quantized,
    "torch._utils._rebuild_nested_tensor": _nested,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _of_device,
    **{name: (lambda *args: None) for name in _SCHEMES},
}
"""Name in the file → what makes the value from its arguments."""
