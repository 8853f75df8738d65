"""Whether torch's safe reader would open a file, and if not, what it would stop at first.

`torch.load(weights_only=True)` knows 34 opcodes and 144 names, and only so many things to do with them. The lists are
those of torch 2.13 (`torch/_weights_only_unpickler.py`), for a reader that has named no more. What its own functions
refuse later, such as a tensor that reaches beyond its storage, is not looked at here: such files do not open at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.record import Record
from rehydrate.dtypes import DTYPES
from rehydrate.errors import CorruptError, RehydrateError
from rehydrate.formats.zip_directory import ZipDirectory
from rehydrate.limits import Limits
from rehydrate.pickles.machine import Handler, Machine
from rehydrate.pickles.opcodes import HANDLERS
from rehydrate.text import shown

__all__ = ["ALLOWED", "what_torch_stops_at"]

_TYPES = ("BFloat16", "Byte", "Char", "Double", "Float", "Half", "Int", "Long", "Short")
_DENSE = (*_TYPES, "Bool")
_STORED = (*_DENSE, "ComplexDouble", "ComplexFloat")
_REBUILD = (
    "device_tensor_from_cpu_tensor", "device_tensor_from_numpy", "meta_tensor_no_storage", "nested_tensor", "parameter",
    "parameter_with_state", "qtensor", "sparse_tensor", "tensor", "tensor_v2", "tensor_v3", "wrapper_subclass",
)  # fmt: skip

ALLOWED: frozenset[str] = frozenset(
    [
        *(f"torch.{dtype.name}" for dtype in DTYPES),
        *(f"torch.{stem}Storage" for stem in (*_STORED, "QInt32", "QInt8", "QUInt2x4", "QUInt4x2", "QUInt8")),
        *(f"torch.cuda.{stem}Storage" for stem in _STORED),
        *(f"torch{module}.{stem}Tensor" for module in ("", ".cuda") for stem in _DENSE),
        *(f"torch{module}.sparse.{stem}Tensor" for module in ("", ".cuda") for stem in _TYPES),
        *(f"torch._utils._rebuild_{what}" for what in _REBUILD),
        "torch._tensor._rebuild_from_type_v2",
        *(f"torch.per_{scheme}" for scheme in (
            "channel_affine", "channel_affine_float_qparams", "channel_symmetric", "tensor_affine", "tensor_symmetric",
        )),
        *("torch.Size", "torch.Tensor", "torch.device", "torch.serialization._get_layout"),
        *("torch.nn.parameter.Parameter", "torch.storage.TypedStorage", "torch.storage.UntypedStorage"),
        *("_codecs.encode", "builtins.bytearray", "builtins.complex", "builtins.set"),
        *("collections.Counter", "collections.OrderedDict"),
    ]
)  # fmt: skip
"""Names that torch's safe reader knows."""

_OPCODES = b"\x80.(N\x88\x89JKMGXU)]}\x8ft\x85\x86\x87aesuhjqrcR\x81bQ\x8a"
"""Opcodes that it knows."""
_DICTS = ("collections.OrderedDict", "collections.Counter")


class _StoppedError(CorruptError):
    """Where torch's safe reader would stop."""


def what_torch_stops_at(checkpoint: Checkpoint, limits: Limits) -> str:
    """The first thing in an open file that torch's safe reader refuses; empty where there is none."""
    if checkpoint.format.startswith("torchscript"):
        return "it is TorchScript, which torch.load hands to torch.jit.load"
    if checkpoint.format == "torch-tar":
        return "it is a tar of torch before 0.1.10"
    if checkpoint.format not in ("torch-zip", "torch-legacy"):
        return "it is no file that torch.save wrote"
    try:
        for data in _pickles(checkpoint, limits):
            _read(data, limits)
    except RehydrateError as stopped:
        return stopped.what
    return ""


def _pickles(checkpoint: Checkpoint, limits: Limits) -> list[bytes]:
    if checkpoint.format == "torch-legacy":
        return [checkpoint.source.read(trace.start, trace.length) for trace in checkpoint.traces]
    directory = ZipDirectory(checkpoint.source, limits)
    return [directory.read(directory.members[trace.where], limits.pickle_bytes) for trace in checkpoint.traces]


def _read(data: bytes, limits: Limits) -> None:
    Machine(
        data, 0, constructors={}, constants={}, persistent=None, shortcut=None, handlers=_HANDLERS, limits=limits
    ).run()


def _unknown(machine: Machine) -> None:
    code = machine.data[machine.at - 1]
    raise _StoppedError(f"an opcode that it does not know: {bytes([code])!r} (Unsupported operand {code})")


def _after(handler: Handler, check: Callable[[Machine], None]) -> Handler:
    def checked(machine: Machine) -> None:
        handler(machine)
        check(machine)

    return checked


def _before(handler: Handler, check: Callable[[Machine], None]) -> Handler:
    def checked(machine: Machine) -> None:
        check(machine)
        handler(machine)

    return checked


def _name(machine: Machine) -> None:
    value = machine.stack[-1]
    if isinstance(value, Record):
        path = value.path.replace("__builtin__.", "builtins.", 1)
        if path not in ALLOWED:
            raise _StoppedError(f"a name that it does not know: {shown(path)} (Unsupported global)")


def _call(machine: Machine) -> None:
    function = machine.stack[-2]
    if isinstance(function, Record) and function.args is not None:
        raise _StoppedError("a call of what another call gave")


def _state(machine: Machine) -> None:
    target = machine.stack[-2]
    if not isinstance(target, Record):
        raise _StoppedError(f"a state for a {type(target).__name__} (Can only build Tensor, Parameter, OrderedDict)")


def _list(target: object) -> None:
    if type(target) is not list:
        raise _StoppedError("something appended to what is no list (Can only append to lists)")


def _mapping(target: object) -> None:
    if type(target) is not dict and not (
        isinstance(target, Record) and target.path in _DICTS and target.args is not None
    ):
        raise _StoppedError("an item set on what is no dictionary")


def _token(machine: Machine) -> None:
    token = machine.stack[-1]
    if type(token) is not int and (type(token) is not tuple or (len(token) > 0 and token[0] != "storage")):
        raise _StoppedError("a persistent id that is no storage (Only persistent_load of storage is allowed)")


def _handlers() -> Sequence[Handler]:
    table: list[Handler] = [HANDLERS[code] if code in _OPCODES else _unknown for code in range(256)]
    for codes, check in (
        (b"R\x81", _call),
        (b"b", _state),
        (b"Q", _token),
        (b"a", lambda machine: _list(machine.stack[-2])),
        (b"e", lambda machine: _list(machine.marks[-1][-1])),
        (b"s", lambda machine: _mapping(machine.stack[-3])),
        (b"u", lambda machine: _mapping(machine.marks[-1][-1])),
    ):
        for code in codes:
            table[code] = _before(table[code], check)
    table[ord("c")] = _after(table[ord("c")], _name)
    return table


_HANDLERS = _handlers()
