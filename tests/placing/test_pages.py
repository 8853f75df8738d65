"""Memory on pages of the size that is faster here: measured once, and asked for accordingly."""

from __future__ import annotations

import mmap
from typing import Any

import pytest
import torch

from rehydrate.placing.moving import pages

pytestmark = pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="this system has no huge pages to ask for")


@pytest.mark.parametrize("setting", ["always", "madvise", "unknown"])
@pytest.mark.parametrize(("huge", "small"), [(1.0, 3.0), (3.0, 1.0), (2.0, 2.0)])
def test_huge_pages_are_used_where_they_are_not_slower(setting: str, huge: float, small: float) -> None:
    asked: list[int] = []

    def seconds(advice: int) -> float:
        asked.append(advice)
        return huge if advice == mmap.MADV_HUGEPAGE else small

    wanted = mmap.MADV_HUGEPAGE if huge <= small else mmap.MADV_NOHUGEPAGE
    assert pages.measured_advice(setting, seconds) == wanted
    assert asked[:2] == asked[2:4] == [mmap.MADV_HUGEPAGE, mmap.MADV_NOHUGEPAGE]


def test_one_slow_moment_decides_nothing() -> None:
    times = iter([9.0, 2.0, 1.0, 2.0, 1.0, 2.0])
    assert pages.measured_advice("madvise", lambda advice: next(times)) == mmap.MADV_HUGEPAGE


def test_where_they_are_switched_off_nothing_is_measured() -> None:
    def seconds(advice: int) -> float:
        raise AssertionError("measured")

    assert pages.measured_advice("never", seconds) is None


def test_a_kernel_without_them_is_asked_for_nothing() -> None:
    def seconds(advice: int) -> float:
        raise OSError(22, "Invalid argument")

    assert pages.measured_advice("unknown", seconds) is None


@pytest.mark.parametrize("advice", [mmap.MADV_HUGEPAGE, mmap.MADV_NOHUGEPAGE, None])
def test_large_memory_is_asked_for_as_was_measured_and_once(
    advice: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[int] = []
    given: list[int] = []

    class Memory(mmap.mmap):
        def madvise(self, option: int, *rest: Any) -> None:
            given.append(option)

    def measure(setting: str, seconds: object) -> int | None:
        measured.append(1)
        return advice

    pages.advice.cache_clear()
    try:
        monkeypatch.setattr(pages, "measured_advice", measure)
        monkeypatch.setattr(pages.mmap, "mmap", Memory)
        for _ in range(3):
            assert len(pages.allocate(32 << 20)) == 32 << 20
    finally:
        pages.advice.cache_clear()
    assert len(measured) == 1
    assert given == [] if advice is None else [advice] * 3


def test_the_measurement_itself_is_quick_and_gives_an_answer() -> None:
    import time

    started = time.perf_counter()
    assert pages.measured_advice("madvise", pages._seconds) in (mmap.MADV_HUGEPAGE, mmap.MADV_NOHUGEPAGE)
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.bfloat16, torch.complex128])
@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (700, 1000)])
def test_empty_tensors_are_ordinary_ones(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    tensor = pages.empty_tensor(shape, dtype)
    assert (tuple(tensor.shape), tensor.dtype, tensor.is_contiguous()) == (shape, dtype, True)
    tensor.fill_(1)
    assert tensor.float().sum() == tensor.numel() if not dtype.is_complex else True
    assert tensor.untyped_storage().nbytes() == tensor.numel() * dtype.itemsize
    assert tensor.data_ptr() % 64 == 0 or not tensor.numel()
