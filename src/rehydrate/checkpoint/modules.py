"""Modules that a file holds as objects: what `state_dict()` would give of them, without their classes.

    torch.nn          a pickled module: a record whose state has `_parameters`, `_buffers` and `_modules`; of one that
                      was compiled the first argument; of one that brings its source along, as those of StyleGAN do,
                      the `state` in its argument; quantised layers, which pack their weights, by how they pickle them
    TorchScript       a record of the package `__torch__`: its attributes are parameters, buffers and submodules alike
    torch7 (Lua)      a record with `gradInput` or of the package `nn`: `weight`, `bias`, ..., and a list of `modules`

All three are walked under the names that torch gives their tensors. What is no part of a state dict (gradients,
outputs that were kept, buffers that are not persistent) is not entered. Nothing is built.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeGuard

from rehydrate.checkpoint.record import Record
from rehydrate.checkpoint.tensor import TensorRef

__all__ = ["COUNTER", "INNER", "is_loss", "is_module", "is_wrapper", "module_children", "origin", "tables_of"]

_LUA_PACKAGES = frozenset({"nn", "cunn", "cudnn", "nngraph", "inn", "nnx", "dpnn", "rnn", "stn"})
"""Packages of torch7 that define layers."""
_LUA_TENSORS = frozenset({"weight", "bias", "running_mean", "running_var", "running_std"})
"""What the layers of torch7 keep and do not compute anew; `X` is learned as well wherever there is a `gradX`."""
_LUA_PASSING = ("input", "output")
"""What passes through a layer; its gradient does, too."""

_WRAPPERS = frozenset({"AveragedModel", "DeepSpeedEngine", "GradSampleModule", "FP16Module", "FP16_Module"})
"""Classes that hold one model, as `module` or `_module`, beside all that is called DataParallel."""
_TABLES = ("_parameters", "_buffers", "_modules")
_VARIABLES = frozenset({"Parameter", "Variable", "Buffer"})
_COMPILED = "OptimizedModule"
_PERSISTENT = "_reconstruct_persistent_obj"
"""What `torch_utils.persistence` of StyleGAN, and of what was made from it, pickles instead of a class."""
_QUANTISED = ("torch.nn.quantized.", "torch.ao.nn.quantized.", "torch.nn.intrinsic.quantized.",
              "torch.ao.nn.intrinsic.quantized.")  # fmt: skip
_PACKED = "torch.ScriptObject"
"""What torch packs the weights of a quantised layer into; its state is what it unpacks them to, and its class."""
_PACKED_LINEAR = ".quantized.LinearPackedParamsBase"
_CONV_WEIGHT, _CONV_STATE = 10, 15
"""Where a quantised convolution's weight stands in its state, the bias behind it, and how long that is."""
INNER = ("module", "_module")
"""What a wrapper calls the model in it, where the name alone would not tell."""
COUNTER = "n_averaged"
"""What AveragedModel keeps beside the model: how many are in the average."""


def is_module(value: object) -> TypeGuard[Record]:
    """Whether this is the record of a module: a pickled one, one of a TorchScript archive, one of torch7."""
    return isinstance(value, Record) and (
        _is_torch(value) or _is_compiled(value) or _is_quantised(value) or _is_script(value) or _is_lua(value)
    )


def _is_torch(record: Record) -> bool:
    return _torch_state(record) is not None


def _torch_state(record: Record) -> dict[object, object] | None:
    """The attributes of a pickled module of torch's; None for any other record."""
    state = record.state
    if state is None and record.name == _PERSISTENT and record.args and isinstance(record.args[0], dict):
        state = record.args[0].get("state")
    if isinstance(state, dict) and all(isinstance(state.get(key), dict) for key in ("_parameters", "_modules")):
        return state
    return None


def _is_quantised(record: Record) -> bool:
    """Whether it is a quantised convolution, which pickles a tuple instead of its attributes."""
    return (
        record.module.startswith(_QUANTISED)
        and record.name.startswith("Conv")
        and isinstance(record.state, tuple)
        and len(record.state) == _CONV_STATE
    )


def _is_compiled(record: Record) -> bool:
    """Whether `torch.compile` made it, which pickles the module as an argument of the class around it."""
    inner = record.args[0] if record.args and record.name == _COMPILED else None
    return isinstance(inner, Record) and (_is_torch(inner) or inner.name == _COMPILED)


def _is_script(record: Record) -> bool:
    """Whether it is of the package that TorchScript compiles classes into; `torch.classes` there are torch's own."""
    if record.state is None or not record.module.startswith("__torch__"):
        return False
    return f"{record.module}.".startswith("__torch__.") and not record.module.startswith("__torch__.torch.classes.")


def _is_lua(record: Record) -> bool:
    state = record.state
    if not isinstance(state, dict) or "." in record.module:
        return False
    return "gradInput" in state or (
        record.module in _LUA_PACKAGES and not state.keys().isdisjoint({*_LUA_TENSORS, "modules"})
    )


def module_children(module: Record) -> Iterator[tuple[str, object]]:
    """Name and value of parameters, persistent buffers and submodules, in the order of `state_dict()`."""
    state = module.state
    if not _is_torch(module) and _is_compiled(module):
        return iter([("_orig_mod", module.args[0] if module.args else None)])
    attributes = _torch_state(module)
    if attributes is not None:
        return _torch_children(attributes)
    if _is_quantised(module) and isinstance(state, tuple):
        return iter(zip(("weight", "bias"), state[_CONV_WEIGHT:], strict=False))
    if not isinstance(state, dict):  # a scripted class that says itself how it is saved
        return iter([("state", state)])
    return _script_children(state) if _is_script(module) else _lua_children(state)


def _torch_children(state: dict[object, object]) -> Iterator[tuple[str, object]]:
    transient = state.get("_non_persistent_buffers_set")
    if not isinstance(transient, (set, frozenset)):  # modules of before torch 1.5 have none
        transient = frozenset()
    for table in _TABLES:
        entries = state.get(table)
        for name, value in entries.items() if isinstance(entries, dict) else ():
            if table != "_buffers" or name not in transient:
                yield name, _tensor_of(value)
    for name, value in state.items():
        if isinstance(name, str) and isinstance(value, Record) and value.path == _PACKED:
            yield name, _unpacked(value)


def _unpacked(packed: Record) -> object:
    """What a state dict has for packed weights: of a linear layer the weight and the bias, of others the object."""
    state = packed.state
    if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], str) and state[1].endswith(_PACKED_LINEAR):
        return state[0]
    return packed


def _tensor_of(value: object) -> object:
    """The tensor of a parameter or a buffer that is an object around one: before torch 0.4 each was."""
    if not isinstance(value, Record) or value.name not in _VARIABLES or not value.module.startswith("torch."):
        return value
    for inside in (value.args, value.state):
        if isinstance(inside, tuple) and inside and isinstance(inside[0], TensorRef):
            return inside[0]
    return value


def _script_children(state: dict[object, object]) -> Iterator[tuple[str, object]]:
    yield from ((name, value) for name, value in state.items() if isinstance(name, str))


def _lua_children(state: dict[object, object]) -> Iterator[tuple[str, object]]:
    """Layers count from 0, as torch has counted since it left Lua."""
    for name in dict.fromkeys(("weight", "bias", *state)):  # tables have no order, and this is torch's
        is_learned = isinstance(name, str) and f"grad{name[:1].upper()}{name[1:]}" in state
        if (
            isinstance(name, str)
            and name in state
            and (name in _LUA_TENSORS or (is_learned and name not in _LUA_PASSING))
        ):
            yield name, state[name]
    layers = state.get("modules")
    if isinstance(layers, dict):  # a table of Lua's
        layers = list(layers.values())
    for number, layer in enumerate(layers) if isinstance(layers, (list, tuple)) else ():
        yield str(number), layer


def tables_of(record: Record) -> list[dict[object, object] | list[object] | tuple[object, ...]]:
    """The containers that a record's children are in. Each object has its own, unless a file is made otherwise."""
    state = record.state
    tables: list[object] = [state, record.args, record.kwargs]
    attributes = _torch_state(record)
    if attributes is not None:
        tables = [attributes.get(table) for table in _TABLES]
    elif isinstance(state, dict) and _is_lua(record):
        tables.append(state.get("modules"))
    return [table for table in tables if isinstance(table, (dict, list, tuple)) and table]


def is_wrapper(module: Record) -> bool:
    """Whether a module is there only to hold another one: DataParallel and its kin, by the name of the class."""
    name = module.name.rpartition(".")[2]
    return ("DataParallel" in name or name in _WRAPPERS) and any(key in INNER for key, _ in module_children(module))


def origin(module: Record) -> str:
    """What kind of module it is, as an adjective."""
    return "scripted" if _is_script(module) else "torch7" if _is_lua(module) else "pickled"


def is_loss(module: Record) -> bool:
    """Whether a module is one of torch's losses: the weights of classes that it holds are no network."""
    return module.module == "torch.nn.modules.loss" or module.module.startswith("__torch__.torch.nn.modules.loss")
