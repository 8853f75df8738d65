"""Watching a constructor: what only fills memory that was made meanwhile is put off until something looks there.

Every operator of torch passes here, wherever it is called from, and every function of torch that reaches memory past
all operators. A function that is not known is taken to look at what it is given. `fresh` says what this is for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from types import FunctionType
from typing import Any

import torch
from torch import nn
from torch.nn import init
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from rehydrate.placing.fresh.pending import Pending, key_of

__all__ = ["is_plain", "watched"]

_ATEN = torch.ops.aten
_PLAIN = (torch.Tensor, nn.Parameter)
_FLOATS = frozenset({torch.float32, torch.float64, torch.float16, torch.bfloat16})

_RANDOM = frozenset(
    {
        _ATEN.uniform_.default, _ATEN.normal_.default, _ATEN.exponential_.default, _ATEN.log_normal_.default,
        _ATEN.cauchy_.default,
    }
)  # fmt: skip
"""What fills a tensor with random numbers, whatever it held."""
_CONSTANT = frozenset({_ATEN.fill_.Scalar, _ATEN.fill_.Tensor, _ATEN.zero_.default})
_CHANGES = frozenset(
    {
        _ATEN.mul_.Tensor, _ATEN.mul_.Scalar, _ATEN.div_.Tensor, _ATEN.div_.Scalar, _ATEN.add_.Tensor,
        _ATEN.add_.Scalar, _ATEN.sub_.Tensor, _ATEN.sub_.Scalar, _ATEN.clamp_.default, _ATEN.erfinv_.default,
        _ATEN.neg_.default, _ATEN.abs_.default, _ATEN.sqrt_.default, _ATEN.exp_.default, _ATEN.log_.default,
    }
)  # fmt: skip
"""What changes what a tensor holds, each element by itself."""
_MAKES = frozenset(
    {
        _ATEN.empty.memory_format, _ATEN.empty_strided.default, _ATEN.empty_like.default, _ATEN.new_empty.default,
        _ATEN.new_empty_strided.default,
    }
)  # fmt: skip
_MAKES_FILLED: Mapping[object, tuple[Callable[..., object], tuple[object, ...]]] = {
    _ATEN.zeros.default: (_ATEN.zero_.default, ()),
    _ATEN.ones.default: (_ATEN.fill_.Scalar, (1,)),
    _ATEN.rand.default: (_ATEN.uniform_.default, (0.0, 1.0)),
    _ATEN.randn.default: (_ATEN.normal_.default, (0.0, 1.0)),
}
_COPIES = frozenset({_ATEN.clone.default, _ATEN._to_copy.default})
_HARMLESS = frozenset({_ATEN.is_pinned.default, _ATEN.is_same_size.default})
_TENSOR: Any = torch.Tensor
_PAST_THE_DISPATCHER = frozenset(
    {
        *(
            getattr(_TENSOR, name)
            for name in (
                "numpy", "tolist", "data_ptr", "untyped_storage", "apply_", "map_", "map2_", "new", "new_tensor",
                "item", "__float__", "__int__", "__index__", "__bool__", "__complex__",
            )
            if hasattr(_TENSOR, name)
        ),
        torch.tensor, torch.as_tensor, torch.asarray,
    }
)  # fmt: skip
"""What looks at memory, or gives its address away, without an operator that could be watched."""
_WHOLE = ("_no_grad_trunc_normal_", "orthogonal_")
"""Functions of `torch.nn.init` that look at what they have drawn, and can be put off as a whole."""


@contextmanager
def watched(pending: Pending) -> Iterator[None]:
    """Meanwhile this thread is watched. Only one may be at a time: functions of modules are replaced."""
    operators = _Operators(pending)
    with _functions_replaced(operators), _Functions(pending), operators:
        yield


def is_plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor is just a window on memory of this process."""
    return (
        type(tensor) in _PLAIN
        and tensor.layout is torch.strided
        and tensor.device.type == "cpu"
        and not tensor.is_quantized
    )


class _Functions(TorchFunctionMode):
    """Sees calls of torch's Python functions, some of which reach memory past every operator."""

    def __init__(self, pending: Pending) -> None:
        super().__init__()
        self.pending = pending

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """A function of torch's own in Python may do anything inside, where it is not seen."""
        kwargs = kwargs or {}
        pending = self.pending
        is_python = isinstance(func, FunctionType) and func.__module__ != "torch.nn.init"
        if not pending.is_busy and (is_python or func in _PAST_THE_DISPATCHER):
            tensors = list(_tensors_in((args, kwargs)))
            _catch_up_with(pending, tensors)
            for tensor in tensors:
                if is_plain(tensor):
                    pending.forget(key_of(tensor))
        return func(*args, **kwargs)


class _Operators(TorchDispatchMode):
    """Sees every operator, wherever it is called from."""

    def __init__(self, pending: Pending) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.pending = pending
        self._apart = torch.Generator()
        """Random numbers for trying a call out."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here, and torch would import its compiler for seconds to have that said."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Put it off, or do it, after whatever was put off of what it looks at."""
        kwargs = kwargs or {}
        pending = self.pending
        if pending.is_busy:
            return func(*args, **kwargs)
        with pending.busy(), torch._C.DisableTorchFunction():
            done = self._put_off(func, args, kwargs)
        if done is not None:
            return done
        if not (getattr(func, "is_view", False) or func in _HARMLESS):
            if getattr(func, "namespace", "") != "aten" or torch.Tag.nondeterministic_seeded in func.tags:
                pending.catch_up()
            else:
                _catch_up_with(pending, _tensors_in((args, kwargs)))
        return func(*args, **kwargs)

    def _put_off(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The result of a call that needs not be done now; None for any other."""
        if func in _MAKES:
            return self._known(func(*args, **kwargs))
        if func in _MAKES_FILLED and _is_of_floats_here(kwargs):
            made = self._known(_ATEN.empty.memory_format(*args, **kwargs))
            fill, fill_args = _MAKES_FILLED[func]
            return made if self.try_to_put_off(fill, made, fill_args, {}) else fill(made, *fill_args)
        if func in _RANDOM or func in _CONSTANT or func in _CHANGES:
            return args[0] if self.try_to_put_off(func, args[0], args[1:], kwargs) else None
        return self._copied(args[0], func, kwargs) if func in _COPIES else None

    def _known(self, made: torch.Tensor) -> torch.Tensor:
        if is_plain(made):
            self.pending.know(made)
        return made

    def try_to_put_off(self, func: Any, target: torch.Tensor, args: Any, kwargs: Any) -> bool:
        """Whether a call that writes to its first argument could be put off. What would raise, raises now."""
        pending = self.pending
        if not self._may_wait(target) or kwargs.get("generator") is not None:
            return False
        if func in _CHANGES and not pending.waits(key_of(target)):
            return False
        if func is _ATEN.fill_.Tensor:  # a number in the shape of a tensor
            value = args[0]
            if not is_plain(value) or value.dim() or pending.waits(key_of(value)):
                return False
            args = (value.clone(),)
        elif not all(isinstance(value, (int, float)) for value in (*args, *kwargs.values()) if value is not None):
            return False
        is_random = func not in _CONSTANT and func not in _CHANGES
        apart = {"generator": self._apart} if is_random else {}
        one = _ATEN.empty.memory_format([1] * target.dim(), dtype=target.dtype, device="cpu")
        func(one, *args, **{**kwargs, **apart})
        pending.put_off(func, target, args, kwargs, is_random=is_random)
        return True

    def _copied(self, source: torch.Tensor, func: Any, kwargs: Any) -> torch.Tensor | None:
        """A copy of what waits for random numbers waits too: layers are made as copies of one another."""
        pending = self.pending
        if not self._may_wait(source) or not pending.is_random(key_of(source)) or not _is_of_floats_here(kwargs):
            return None
        dtype = kwargs.get("dtype") or source.dtype
        form = kwargs.get("memory_format") or torch.preserve_format
        made = self._known(_ATEN.empty_like.default(source, dtype=dtype, memory_format=form))
        pending.put_off(_ATEN.copy_.default, made, source=source)
        return made

    def _may_wait(self, tensor: torch.Tensor) -> bool:
        return (
            is_plain(tensor)
            and tensor.dtype in _FLOATS
            and tensor.numel() > 0
            and 0 not in tensor.stride()
            and self.pending.knows(key_of(tensor))
        )


def _is_of_floats_here(kwargs: Mapping[str, Any]) -> bool:
    """Whether what an operator is asked to make is a plain tensor of floats on the CPU."""
    wanted = kwargs.get("dtype"), kwargs.get("layout"), kwargs.get("device"), kwargs.get("pin_memory")
    return (
        (wanted[0] is None or wanted[0] in _FLOATS)
        and wanted[1] in (None, torch.strided)
        and wanted[2] in (None, torch.device("cpu"))
        and not wanted[3]
    )


def _catch_up_with(pending: Pending, tensors: Iterable[torch.Tensor]) -> None:
    """Do what was put off of what these look at; of everything, where one may look at more than its own storage."""
    keys: list[int] = []
    with torch._C.DisableTorchFunction():
        for tensor in tensors:
            if type(tensor) not in _PLAIN or tensor.layout is not torch.strided:
                pending.catch_up()
                return
            keys.append(key_of(tensor))
    pending.catch_up(keys)


def _tensors_in(value: object) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors_in(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors_in(item)


@contextmanager
def _functions_replaced(operators: _Operators) -> Iterator[None]:
    """Meanwhile `_WHOLE` can be put off, and a thread that is started finds everything done.

    For other threads, and for whoever imported these functions by name, they are what they are.
    """
    here, pending = threading.get_ident(), operators.pending
    start = threading.Thread.start
    originals: dict[str, Any] = {name: getattr(init, name) for name in _WHOLE if hasattr(init, name)}

    def start_when_done(thread: threading.Thread) -> None:
        if threading.get_ident() == here:
            pending.stop()
        start(thread)

    try:
        threading.Thread.start = start_when_done  # type: ignore[method-assign, assignment]
        for name, original in originals.items():
            setattr(init, name, _put_off_whole(original, operators))
        yield
    finally:
        threading.Thread.start = start  # type: ignore[method-assign]
        for name, original in originals.items():
            setattr(init, name, original)


def _put_off_whole(original: Callable[..., Any], operators: _Operators) -> Callable[..., Any]:
    here, pending = threading.get_ident(), operators.pending

    @wraps(original)
    def whole(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() == here and not pending.is_busy and isinstance(tensor, torch.Tensor):
            with pending.busy(), torch._C.DisableTorchFunction():
                if operators.try_to_put_off(original, tensor, args, kwargs):
                    return tensor
        return original(tensor, *args, **kwargs)

    return whole
