"""Whatever fails while a checkpoint is loaded, and whenever: every tensor is as it was, to the bit.

A table of what is loaded into, and one of calls that can fail. Each call is made to fail at its first use, at its
second, and so on until a load gets by without reaching it. `test_all_or_nothing` has single failures, and what is said
of them.
"""

from __future__ import annotations

import io
import mmap
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import rehydrate as rh
from rehydrate.storage import source

MOST = 3000
"""Calls after which a load is taken to go on for ever."""


def saved(obj: object, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(obj, buffer, **options)
    return buffer.getvalue()


# What is loaded into. Targets are whatever `rh.load_into` takes, and are made anew for every load.


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(5, 6), nn.LayerNorm(6), nn.Linear(6, 2))


def large() -> nn.Module:
    """Tensors of more than a megabyte, which have memory to themselves, between small ones; about 6 MB."""
    return nn.Sequential(nn.Linear(600, 600), nn.LayerNorm(600), nn.Linear(600, 600), nn.Embedding(1000, 700))


def cast() -> nn.Module:
    return nn.Sequential(small(), nn.Linear(520, 520)).double()


class Renaming(nn.Module):
    """Loads in a way of its own: a hook of its renames what old files have."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = small()
        self._register_load_state_dict_pre_hook(self._rename)

    def _rename(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in [name for name in state if name.startswith(prefix + "old.")]:
            state[prefix + "inner." + name.removeprefix(prefix + "old.")] = state.pop(name)


def tied() -> nn.Module:
    net = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6))
    net[2].weight = net[0].weight
    return net


def frozen_and_strided() -> nn.Module:
    net = nn.Sequential(nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last), nn.Linear(4, 4))
    net[1].weight = nn.Parameter(torch.randn(4, 4).t(), requires_grad=False)
    return net


@dataclass(frozen=True, slots=True)
class Subject:
    """Something to load into, and what a file holds for it."""

    make: Callable[[], Any]
    content: Callable[[Any], Any]
    """Of one that was just made → what is saved."""

    def file(self) -> bytes:
        """A file for it, with other values than those that it is made with."""
        return saved(self.content(self.make()))


SUBJECTS: dict[str, Subject] = {
    "a small model": Subject(small, lambda net: net.state_dict()),
    "a large model": Subject(large, lambda net: {"model": net.state_dict(), "epoch": 3}),
    "a model of another dtype": Subject(cast, lambda net: net.float().state_dict()),
    "a model that loads in its own way": Subject(
        Renaming, lambda net: {f"old.{name}": value for name, value in net.inner.state_dict().items()}
    ),
    "a model with tied weights": Subject(tied, lambda net: net.state_dict()),
    "a frozen and a transposed one": Subject(frozen_and_strided, lambda net: net.state_dict()),
    "a model that is partly on meta": Subject(
        lambda: nn.Sequential(small(), nn.Linear(3, 3, device="meta")),
        lambda net: nn.Sequential(small(), nn.Linear(3, 3)).state_dict(),
    ),
    "a wrapped model": Subject(
        lambda: nn.ModuleDict({"module": large()}), lambda net: net["module"].state_dict()
    ),
}  # fmt: skip


def tensors_of(targets: Any, path: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor in what is loaded into: modules, optimizers, plain values, and dictionaries of them."""
    if isinstance(targets, torch.Tensor):
        yield path, targets
    elif isinstance(targets, nn.Module):
        named = (*targets.named_parameters(remove_duplicate=False), *targets.named_buffers(remove_duplicate=False))
        yield from ((f"{path}.{name}", tensor) for name, tensor in named)
    elif isinstance(targets, torch.optim.Optimizer):
        for group in targets.param_groups:
            yield from tensors_of(group, f"{path}.group")
            for at, parameter in enumerate(group["params"]):
                yield from tensors_of(targets.state.get(parameter, {}), f"{path}.{at}")
    elif isinstance(targets, Mapping):
        for key, value in targets.items():
            yield from tensors_of(value, f"{path}.{key}")


class Photograph:
    """What targets were: the same objects, in the same memory, with the same bits."""

    def __init__(self, targets: Any) -> None:
        self.targets = targets
        self.seen = self._look()

    def _look(self) -> dict[str, tuple[Any, ...]]:
        return {
            name: (id(tensor), tensor.is_meta or tensor.data_ptr(), tensor.stride(), tensor.requires_grad, bits(tensor))
            for name, tensor in tensors_of(self.targets)
        }

    def differences(self) -> list[str]:
        """Names of what is no longer what it was."""
        now = self._look()
        return sorted({name for name in now.keys() | self.seen.keys() if now.get(name) != self.seen.get(name)})


def bits(tensor: torch.Tensor) -> bytes:
    return b"" if tensor.is_meta else tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()


# Calls that fail.


class Fault:
    """Counts calls, and raises at the n-th, or from then on; the others are what they were."""

    def __init__(self, nth: int, error: BaseException, *, lasts: bool = False) -> None:
        self.nth, self.error, self.lasts, self.calls = nth, error, lasts, 0
        self._lock = threading.Lock()

    def strike(self) -> None:
        with self._lock:
            self.calls += 1
            is_due = self.calls == self.nth or (self.lasts and self.calls > self.nth)
        if is_due:
            raise self.error

    @property
    def struck(self) -> bool:
        return self.calls >= self.nth


class FailingStream(io.BytesIO):
    """A file object that fails at the n-th read."""

    def __init__(self, content: bytes, fault: Fault) -> None:
        super().__init__(content)
        self.fault = fault

    def read(self, size: int | None = -1, /) -> bytes:
        self.fault.strike()
        return super().read(size)

    def readinto(self, buffer: Any, /) -> int:
        self.fault.strike()
        return super().readinto(buffer)


class FailingMethod:
    """A method of tensors that fails at the n-th call, before it has done anything or when it has done all."""

    def __init__(self, real: Any, fault: Fault, *, late: bool) -> None:
        self.real, self.fault, self.late = real, fault, late

    def __get__(self, tensor: torch.Tensor | None, owner: type) -> Callable[..., Any]:
        return lambda *args, **kwargs: self(*(() if tensor is None else (tensor,)), *args, **kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self.late:
            self.fault.strike()
        done = self.real(*args, **kwargs)
        if self.late:
            self.fault.strike()
        return done


def failing(owner: Any, name: str, fault: Fault, patch: pytest.MonkeyPatch, *, late: bool = False) -> None:
    """Have a function or a method fail."""
    method = FailingMethod(getattr(owner, name), fault, late=late)
    patch.setattr(owner, name, method if isinstance(owner, type) else lambda *a, **k: method(*a, **k), raising=False)


Load = Callable[[Any, Fault, pytest.MonkeyPatch], object]
"""Load into targets with a fault in place."""


def fails_at_every_call(
    subject: Subject,
    load: Load,
    error: Callable[[], BaseException],
    monkeypatch: pytest.MonkeyPatch,
    *,
    lasts: bool = False,
) -> int:
    """Have the n-th call fail, and all after it where that `lasts`, for every n that a load comes to: so many came.

    A load may get over a failure, by trying again or for having no use for what failed; then all of it is there.
    """
    for nth in range(1, MOST):
        targets, fault = subject.make(), Fault(nth, error(), lasts=lasts)
        photograph = Photograph(targets)
        outcome: BaseException | None = None
        with monkeypatch.context() as patch:
            try:
                load(targets, fault, patch)
            except BaseException as raised:  # noqa: BLE001 - Ctrl-C is among them
                outcome = raised
        if outcome is None:
            assert all(not tensor.is_meta for _, tensor in tensors_of(targets))
            assert len(photograph.differences()) > len(photograph.seen) // 3, "it says that it loaded"
            if not fault.struck:
                return nth - 1
            continue
        assert fault.struck, outcome
        assert not isinstance(outcome, rh.TornLoadError)
        assert photograph.differences() == []
    raise AssertionError("it never ends")


READING: dict[str, tuple[Callable[[], BaseException], bool]] = {
    "a read that fails once": (lambda: OSError(5, "Input/output error"), False),
    "a disk that is gone": (lambda: OSError(5, "Input/output error"), True),
    "Ctrl-C": (KeyboardInterrupt, False),
}
ERRORS = {"no memory": MemoryError, "Ctrl-C": KeyboardInterrupt, "a device": lambda: RuntimeError("CUDA error")}


@pytest.mark.parametrize("error", READING)
@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_stream_that_fails_at_any_read_changes_nothing(
    subject: str, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = SUBJECTS[subject].file()
    calls = fails_at_every_call(
        SUBJECTS[subject],
        lambda targets, fault, patch: rh.load_into(targets, FailingStream(file, fault)),
        READING[error][0],
        monkeypatch,
        lasts=READING[error][1],
    )
    assert calls > 3


FORMATS: dict[str, Callable[[Any], bytes]] = {
    "zip": saved,
    "stream of torch 1.5": lambda obj: saved(obj, _use_new_zipfile_serialization=False),
    "safetensors": lambda obj: __import__("safetensors.torch", fromlist=["save"]).save(obj),
}


@pytest.mark.skipif(not hasattr(os, "preadv"), reason="this system has no preadv")
@pytest.mark.parametrize("error", READING)
@pytest.mark.parametrize("name", FORMATS)
def test_a_file_that_fails_at_any_read_changes_nothing(
    name: str, error: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "model"
    path.write_bytes(FORMATS[name](large().state_dict()))
    monkeypatch.setattr(source, "CHUNK", 1 << 18)

    def load(targets: Any, fault: Fault, patch: pytest.MonkeyPatch) -> None:
        failing(os, "pread", fault, patch)
        failing(os, "preadv", fault, patch)
        rh.load_into(targets, path)

    raised, lasts = READING[error]
    assert fails_at_every_call(SUBJECTS["a large model"], load, raised, monkeypatch, lasts=lasts) > 20


@pytest.mark.skipif(not hasattr(os, "preadv"), reason="this system has no preadv")
@pytest.mark.parametrize("subject", ["a small model", "a large model"])
def test_a_file_that_is_cut_at_any_read_changes_nothing(
    subject: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Somebody else begins to write it anew while it is read."""
    path, file = tmp_path / "model.pth", SUBJECTS[subject].file()
    monkeypatch.setattr(source, "CHUNK", 1 << 18)

    knife = ThreadPoolExecutor(1)

    class Cut(Fault):
        def strike(self) -> None:
            self.calls += 1
            if self.calls == self.nth:  # by another thread: hostile tests watch the one that opens
                knife.submit(os.truncate, path, 100).result()

    reads = 0
    knife.submit(int).result()  # it has begun
    for nth in range(1, MOST):
        path.write_bytes(file)
        photograph, fault = Photograph(SUBJECTS[subject].make()), Cut(nth, OSError())
        with monkeypatch.context() as patch:
            failing(os, "pread", fault, patch)
            failing(os, "preadv", fault, patch)
            try:
                rh.load_into(photograph.targets, path)
            except rh.TornLoadError:
                raise
            except rh.RehydrateError:
                assert photograph.differences() == []
                reads += 1
        if not fault.struck:
            break
    assert reads > 3
    knife.shutdown()


CALLS: list[tuple[Any, str]] = [
    (mmap, "mmap"),
    *((torch, name) for name in ("empty", "empty_like", "empty_strided", "zeros", "zeros_like", "frombuffer")),
    *((torch.Tensor, name) for name in ("copy_", "clone", "view", "detach", "to", "set_", "materialize")),
]
"""Where memory is asked for, and where it is written to."""


@pytest.mark.parametrize(
    ("subject", "error"),
    [*((name, "no memory") for name in SUBJECTS), *(("a small model", name) for name in ERRORS if name != "no memory")],
)
def test_a_call_that_fails_changes_nothing(subject: str, error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = SUBJECTS[subject].file()
    counts = {}
    for owner, name in CALLS:
        if hasattr(owner, name):

            def load(
                targets: Any, fault: Fault, patch: pytest.MonkeyPatch, owner: Any = owner, name: str = name
            ) -> None:
                failing(owner, name, fault, patch)
                rh.load_into(targets, file)

            counts[name] = fails_at_every_call(SUBJECTS[subject], load, ERRORS[error], monkeypatch)
    assert sum(counts.values()) > 3, counts


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_write_that_fails_when_it_is_done_is_undone(subject: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = SUBJECTS[subject].file()

    def load(targets: Any, fault: Fault, patch: pytest.MonkeyPatch) -> None:
        failing(torch.Tensor, "copy_", fault, patch, late=True)
        rh.load_into(targets, file)

    fails_at_every_call(SUBJECTS[subject], load, lambda: RuntimeError("CUDA error"), monkeypatch)


@pytest.mark.parametrize("subject", ["a small model", "a large model"])
def test_a_file_without_its_end_changes_nothing(subject: str) -> None:
    file = SUBJECTS[subject].file()
    photograph = Photograph(SUBJECTS[subject].make())
    for cut in range(60):
        with pytest.raises(rh.RehydrateError):
            rh.load_into(photograph.targets, file[: len(file) * cut // 60])
    assert photograph.differences() == []


SPOILED: dict[str, Callable[[dict[str, Any], str], object]] = {
    "a name is another": lambda state, name: state.update({f"{name}_of_nothing": state.pop(name)}),
    "a tensor is gone": lambda state, name: state.pop(name),
    "a shape is another": lambda state, name: state.update({name: torch.ones(9, 9, 9)}),
    "a kind is another": lambda state, name: state.update({name: torch.ones(state[name].shape, dtype=torch.complex64)}),
    "there is no data": lambda state, name: state.update({name: state[name].to("meta")}),
    "it is no tensor": lambda state, name: state.update({name: "text"}),
}


@pytest.mark.parametrize("fault", SPOILED)
@pytest.mark.parametrize("subject", ["a small model", "a model that loads in its own way"])
def test_one_tensor_that_does_not_fit_changes_nothing_whichever_it_is(subject: str, fault: str) -> None:
    kind = SUBJECTS[subject]
    for name in kind.content(kind.make()):
        if name.endswith("num_batches_tracked"):
            continue
        content = dict(kind.content(kind.make()))
        SPOILED[fault](content, name)
        photograph = Photograph(kind.make())
        with pytest.raises(rh.RehydrateError):
            rh.load_into(photograph.targets, saved(content))
        assert photograph.differences() == [], name
