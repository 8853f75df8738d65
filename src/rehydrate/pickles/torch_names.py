"""Names of torch's that stand for tensors and dtypes, and what their calls give: references, never tensors.

The rebuild functions are those of `torch/_utils.py`; their arguments have been the same since 0.4, with more appended.
Everything that a window claims is checked against its storage here, once: a reference that exists can be read. This
file does not import torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate
from operator import mul

from rehydrate.checkpoint.record import Record, brief
from rehydrate.checkpoint.tensor import NO_TRAITS, Piece, Storage, StorageView, TensorRef, Window
from rehydrate.dtypes import BY_NAME, BY_SCALAR_TYPE, DType
from rehydrate.errors import CorruptError
from rehydrate.limits import Limits
from rehydrate.pickles.results import UNFIT, Constructor, Growing, Name, Stateful
from rehydrate.text import dimensions, shown

__all__ = [
    "BY_DEVICE", "CONSTANTS", "CONSTRUCTORS", "DCP_CLASSES", "FOREIGN", "NUMBERS_END", "REBUILD", "REQUIRES_GRAD",
    "is_countable", "nowhere", "storage_dtype", "tensor_on", "window_of",
]  # fmt: skip

REBUILD: Name = ("torch._utils", "_rebuild_tensor_v2")
"""What every tensor of a state dict is rebuilt by."""

BY_DEVICE: Name = ("torch._utils", "_rebuild_device_tensor_from_cpu_tensor")
"""What tensors of devices without storages of torch's are rebuilt by: their bytes were saved on the CPU."""

WRAPPER: Name = ("torch._utils", "_rebuild_wrapper_subclass")
"""What subclasses that hold other tensors are rebuilt by."""

REQUIRES_GRAD = frozenset({"requires_grad"})
PARAMETER = frozenset({"parameter"})

NUMBERS_END = 1 << 63
"""torch's shapes, strides, offsets and counts are 64-bit; Python's integers could have a million digits."""

CONSTANTS: Mapping[Name, object] = {("torch", name): dtype for name, dtype in BY_NAME.items()} | {
    ("torch", alias): BY_NAME[name]
    for alias, name in {
        "float": "float32", "double": "float64", "half": "float16", "int": "int32", "long": "int64",
        "short": "int16", "cfloat": "complex64", "cdouble": "complex128",
    }.items()
}  # fmt: skip
"""(module, name) → the value that the name itself is."""


def storage_dtype(kind: object) -> DType:
    """The element type that a storage class stands for, uint8 for untyped bytes; `KeyError` for any other name."""
    if not isinstance(kind, Record) or kind.args is not None:
        raise KeyError(brief(kind))
    if kind.module in ("torch", "torch.cuda") and kind.name.endswith("Storage"):
        stem = kind.name.removesuffix("Storage")
        return BY_NAME["uint8"] if stem == "Untyped" else BY_SCALAR_TYPE[stem]
    if kind.module == "torch.storage" and kind.name == "UntypedStorage":
        return BY_NAME["uint8"]
    raise KeyError(brief(kind))


def tensor_on(storage: Storage, window: Window, reach: int) -> TensorRef:
    """A reference whose every element lies inside its storage, or `CorruptError`; `reach` is the window's."""
    if reach > storage.nbytes:
        raise CorruptError(
            "a tensor reaches beyond its storage (out of bounds)",
            where=f"{window.dtype} {dimensions(window.shape)}, strides {dimensions(window.strides)}, "
            f"offset {window.offset:,}",
            found=f"storage {shown(storage.key)} of {storage.nbytes:,} bytes",
        )
    if isinstance(storage, StorageView):
        first, rest = divmod(storage.shift, window.dtype.itemsize)
        if rest:
            raise CorruptError("a view of a storage begins inside an element", where=f"storage {shown(storage.key)}")
        window = replace(window, offset=window.offset + first * window.dtype.per_byte)
        storage = storage.whole
    return TensorRef("", window, storage)


def window_of(dtype: DType, size: object, stride: object, offset: object, traits: frozenset[str] = NO_TRAITS) -> Window:
    """A window from a rebuild function's arguments, whatever they are, or `CorruptError`."""
    shape, strides = _numbers(size, "shape"), _numbers(stride, "stride")
    if len(shape) != len(strides):
        raise CorruptError("a tensor's shape and strides are of different length", found=f"{shape}, {strides}")
    if not is_countable(shape):
        raise CorruptError("a tensor has more elements than torch can count", found=dimensions(shape))
    if type(offset) is not int or not 0 <= offset < NUMBERS_END:
        raise CorruptError("a tensor's offset is not a whole number", found=brief(offset))
    return Window(dtype, shape, strides, offset, traits)


def is_countable(shape: tuple[int, ...]) -> bool:
    """Whether torch could multiply the extents: it goes from left to right, and never beyond 64 bits."""
    return all(product < NUMBERS_END for product in accumulate(shape, mul))


def _numbers(value: object, what: str) -> tuple[int, ...]:
    """A shape or strides: a tuple of whole numbers, none negative, none that torch could not hold."""
    if isinstance(value, Record) and value.path == "torch.Size" and value.args:
        value = value.args[0]
    if not isinstance(value, (tuple, list)) or not all(
        type(number) is int and 0 <= number < NUMBERS_END for number in value
    ):
        raise CorruptError(f"a tensor's {what} is not made of whole numbers", found=brief(value))
    if len(value) > Limits().dimensions:
        raise CorruptError(f"a tensor has {len(value):,} dimensions")
    return tuple(value)


def nowhere(entry: object) -> tuple[Piece, ...]:
    """The pieces of a storage that was saved without its data."""
    return ()


def _traits(requires_grad: object, metadata: object) -> frozenset[str]:
    traits = REQUIRES_GRAD if requires_grad is True else NO_TRAITS
    if isinstance(metadata, dict):
        traits |= {name for name in ("conj", "neg") if metadata.get(name) is True}
    return traits


def _tensor(args: tuple[object, ...]) -> object:
    """`_rebuild_tensor(storage, offset, size, stride)`, and v2 with `requires_grad, hooks, metadata` after it."""
    if not 4 <= len(args) <= 7 or not isinstance(args[0], Storage):
        return UNFIT
    storage = args[0]
    offset, size, stride, requires_grad, _hooks, metadata = (*args[1:], None, None, None)[:6]
    window = window_of(storage.dtype, size, stride, offset, _traits(requires_grad, metadata))
    return tensor_on(storage, window, window.reach)


def _tensor_of_dtype(args: tuple[object, ...]) -> object:
    """`_rebuild_tensor_v3(storage, offset, size, stride, requires_grad, hooks, dtype, metadata)`."""
    if not 7 <= len(args) <= 8 or not isinstance(args[0], Storage) or not isinstance(args[6], DType):
        return UNFIT
    storage, dtype = args[0], args[6]
    offset, size, stride, requires_grad = args[1:5]
    metadata = args[7] if len(args) == 8 else None
    window = window_of(dtype, size, stride, offset, _traits(requires_grad, metadata))
    return tensor_on(storage, window, window.reach)


def _parameter(args: tuple[object, ...]) -> object:
    """`_rebuild_parameter(data, requires_grad, hooks)`, and with the attributes it had, `…_with_state`."""
    if len(args) < 2 or not isinstance(args[0], TensorRef):
        return UNFIT
    ref = args[0]
    traits = ref.traits - REQUIRES_GRAD | PARAMETER | (REQUIRES_GRAD if args[1] is True else NO_TRAITS)
    parameter = TensorRef("", replace(ref.window, traits=traits), ref.storage)
    return Stateful(parameter, args[3]) if len(args) > 3 else parameter


def _variable(name: Name, traits: frozenset[str]) -> Constructor:
    """`Parameter` and `Variable` as they were before 0.4: `(data)`, then BUILD (requires_grad, volatile, hooks).

    Before 0.1.10 there were no arguments, and BUILD had (data, grad, hooks, requires_grad, volatile).
    """

    def construct(args: tuple[object, ...]) -> object:
        if not args:
            return Growing(Record(*name, ()), grow)
        return Growing(marked(args[0], True), grow) if isinstance(args[0], TensorRef) and len(args) == 1 else UNFIT

    def grow(made: object, state: object) -> object:
        if isinstance(state, tuple) and len(state) == 3 and isinstance(made, TensorRef):
            return marked(made, state[0])
        if isinstance(state, tuple) and len(state) == 5 and isinstance(state[0], TensorRef):
            return marked(state[0], state[3])
        return UNFIT

    def marked(ref: TensorRef, requires_grad: object) -> TensorRef:
        more = traits | REQUIRES_GRAD if requires_grad is True else traits
        return TensorRef("", replace(ref.window, traits=ref.traits - REQUIRES_GRAD | more), ref.storage)

    return construct


def _without_storage(args: tuple[object, ...]) -> object:
    """`_rebuild_meta_tensor_no_storage(dtype, size, stride, requires_grad)`: a shape and nothing else."""
    if len(args) != 4 or not isinstance(args[0], DType):
        return UNFIT
    window = window_of(args[0], args[1], args[2], 0, _traits(args[3], None))
    return TensorRef("", window, Storage("", args[0], 0, "meta", nowhere))


def _quantized(args: tuple[object, ...]) -> object:
    """`_rebuild_qtensor(storage, offset, size, stride, quantizer, requires_grad, hooks)`.

    The integers become a reference; what they stand for stays beside it in a record.
    """
    if len(args) < 6 or not isinstance(args[0], Storage):
        return UNFIT
    window = window_of(args[0].dtype, args[2], args[3], args[1])
    integers = tensor_on(args[0], window, window.reach)
    return Record("torch._utils", "_rebuild_qtensor", (integers, args[4], args[5]))


def _of_device(args: tuple[object, ...]) -> object:
    """`_rebuild_device_tensor_from_cpu_tensor(data, dtype, device, requires_grad)`: how XLA's and MTIA's are saved.

    `…_from_numpy` is the same with one of numpy's arrays, and so is what XLA once had of its own.
    """
    if len(args) != 4 or not isinstance(args[0], TensorRef) or args[0].dtype is not args[1] or type(args[2]) is not str:
        return UNFIT
    ref = args[0]
    window = replace(ref.window, traits=_traits(args[3], None))
    return TensorRef("", window, replace(ref.storage, location=args[2]))


def _of_type(args: tuple[object, ...]) -> object:
    """`_rebuild_from_type_v2(function, type, args, state)`: a tensor with attributes, or of a subclass.

    What it names is looked up among the functions above and never called; a subclass gives its plain tensor.
    """
    if len(args) != 4 or not isinstance(args[0], Record) or not isinstance(args[2], tuple):
        return UNFIT
    if (args[0].module, args[0].name) == WRAPPER and args[0].args is None:
        return _wrapper(args[1], args[2], args[3])
    rebuild = _REBUILDERS.get(args[0].name) if args[0].module == "torch._utils" else None
    if rebuild is None or args[0].args is not None:
        return UNFIT
    value = rebuild(args[2])
    return Stateful(value, args[3]) if isinstance(value, TensorRef) else UNFIT


def _wrapper(kind: object, args: tuple[object, ...], state: object) -> object:
    """A subclass whose numbers are in its attributes, such as a DTensor: a record of it, with those tensors in it."""
    if not isinstance(kind, Record) or kind.args is not None:
        return UNFIT
    return Record(kind.module, kind.name, args[1:], state=state)


_REBUILDERS: Mapping[str, Constructor] = {
    "_rebuild_tensor": _tensor,
    "_rebuild_tensor_v2": _tensor,
    "_rebuild_tensor_v3": _tensor_of_dtype,
    "_rebuild_parameter": _parameter,
    "_rebuild_parameter_with_state": _parameter,
    "_rebuild_meta_tensor_no_storage": _without_storage,
    "_rebuild_qtensor": _quantized,
}

_PARAMETER: Name = ("torch.nn.parameter", "Parameter")
_VARIABLE: Name = ("torch.autograd.variable", "Variable")

DCP_CLASSES: frozenset[Name] = frozenset(
    {
        *(("torch.distributed.checkpoint.metadata", name) for name in (
            "Metadata", "MetadataIndex", "TensorStorageMetadata", "BytesStorageMetadata", "ChunkStorageMetadata",
            "TensorProperties", "StorageMeta", "_MEM_FORMAT_ENCODING",
        )),
        ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
        ("torch.distributed._shard.sharded_tensor.metadata", "TensorProperties"),
        ("torch.distributed._shard.sharded_tensor.metadata", "MEM_FORMAT_ENCODING"),
    }
)  # fmt: skip
"""The classes that the index of torch.distributed.checkpoint is made of: they hold data and do nothing."""

CONSTRUCTORS: Mapping[Name, Constructor] = {
    _PARAMETER: _variable(_PARAMETER, PARAMETER),
    _VARIABLE: _variable(_VARIABLE, NO_TRAITS),
    **{("torch._utils", name): rebuild for name, rebuild in _REBUILDERS.items()},
    ("torch._tensor", "_rebuild_from_type_v2"): _of_type,
    ("torch._tensor", "_rebuild_from_type"): _of_type,
    ("torch.tensor", "_rebuild_from_type"): _of_type,
    ("torch._utils", "_rebuild_device_tensor_from_numpy"): _of_device,
    ("torch._utils", "_rebuild_xla_tensor"): _of_device,
    BY_DEVICE: _of_device,
}
"""(module, name) → the function that makes the reference."""

FOREIGN: Mapping[Name, Constructor] = {
    ("fastai.torch_core", "_rebuild_from_type"): _of_type,
}
"""The same for packages that have rebuild functions of their own."""
