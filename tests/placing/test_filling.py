"""Filling tensors from files: the same as torch's copy, and all of them or none, whenever and however it fails."""

from __future__ import annotations

import errno
import gzip
import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import rehydrate as rh
from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.dtypes import BY_NAME
from rehydrate.matching import values
from rehydrate.placing.moving import filling, plan, resident, staging, undo
from rehydrate.placing.moving.filling import Filled, Job, fill
from tests.effort import tried


def saved(obj: object, path: Path) -> Path:
    torch.save(obj, path)
    return path


def deflated(path: Path) -> Path:
    """The same archive with every member packed."""
    packed = path.with_suffix(".packed.npz")
    with zipfile.ZipFile(path) as one, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as other:
        for name in one.namelist():
            other.writestr(name, one.read(name))
    return packed


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().clone(memory_format=torch.contiguous_format).view(-1).view(torch.uint8)


DTYPES = [
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.uint8, torch.bool,
    torch.float8_e4m3fn, torch.complex64, torch.uint16, torch.int32,
]  # fmt: skip


def random_tensor(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    return (torch.randn(tuple(shape), dtype=torch.float64) * 10).abs().to(dtype)


LAYOUTS: dict[str, Callable[[Sequence[int], torch.dtype], torch.Tensor]] = {
    "in a row": random_tensor,
    "transposed": lambda shape, dtype: random_tensor(shape[::-1], dtype).permute(list(range(len(shape)))[::-1]),
    "part of a longer one": lambda shape, dtype: random_tensor((*shape, 3), dtype)[..., 1],
    "behind others": lambda shape, dtype: random_tensor((3, *shape), dtype)[2],
    "a parameter": lambda shape, dtype: nn.Parameter(random_tensor(shape, dtype), requires_grad=False),
}
SOURCES: dict[str, Callable[[Path], Any]] = {
    "a file": lambda path: path,
    "bytes": lambda path: path.read_bytes(),
    "a stream": lambda path: io.BytesIO(path.read_bytes()),
    "compressed": lambda path: gzip.compress(path.read_bytes(), 1),
}
shapes = st.lists(st.integers(0, 4), max_size=3)
entries = st.lists(
    st.tuples(
        shapes, st.sampled_from(DTYPES), st.sampled_from(sorted(LAYOUTS)), st.sampled_from(DTYPES),
        st.sampled_from(sorted(LAYOUTS)),
    ),
    min_size=1,
    max_size=6,
)  # fmt: skip


@tried(150)
@given(
    entries=entries,
    source=st.sampled_from(sorted(SOURCES)),
    seed=st.integers(0, 99),
    batch=st.sampled_from([1, 1 << 20]),
)
def test_tensors_are_filled_as_torch_copies(
    tmp_path_factory: pytest.TempPathFactory, entries: list[Any], source: str, seed: int, batch: int
) -> None:
    torch.manual_seed(seed)
    state: dict[str, torch.Tensor] = {}
    targets: dict[str, torch.Tensor] = {}
    for index, (shape, there, layout, here, own) in enumerate(entries):
        if there.is_complex and not here.is_complex:
            here = there
        state[str(index)] = LAYOUTS[layout](shape, there)
        targets[str(index)] = LAYOUTS[own](shape, here)
    path = saved(state, tmp_path_factory.mktemp("x") / "x.pth")
    expected = {name: torch.empty_like(target).copy_(state[name]) for name, target in targets.items()}
    with pytest.MonkeyPatch.context() as patch, rh.open(SOURCES[source](path)) as checkpoint:
        patch.setattr(staging, "BATCH", batch)
        patch.setattr(plan, "PART", max(batch, 16))
        fill([Job(name, target, checkpoint[name]) for name, target in targets.items()])
    for name, target in targets.items():
        assert torch.equal(bits(target), bits(expected[name])), name


@pytest.mark.parametrize("dtype", sorted(name for name, row in BY_NAME.items() if row.kind != "quantized"))
def test_every_dtype_goes_straight_and_through_a_buffer(dtype: str, tmp_path: Path) -> None:
    kind = getattr(torch, dtype)
    numbers = torch.randint(0, 2, (6 * BY_NAME[dtype].itemsize,), dtype=torch.uint8)
    path = saved({"x": numbers}, tmp_path / "x.pth")
    with rh.open(path) as checkpoint:
        ref = checkpoint["x"]
        window = values.replace(ref.window, dtype=BY_NAME[dtype], shape=(2, 3), strides=(3, 1))
        same = values.TensorRef("x", window, ref.storage)
        straight = torch.zeros(numbers.shape, dtype=torch.uint8).view(kind).view(2, 3)
        across = torch.zeros(numbers.shape, dtype=torch.uint8).view(kind).view(3, 2)
        fill([Job("x", straight, same), Job("y", across, values.permuted(same, (1, 0)))])
    assert torch.equal(straight.view(torch.uint8).view(-1), numbers)
    turned = numbers.view(2, 3, -1).transpose(0, 1).reshape(-1)
    assert torch.equal(
        across.contiguous().view(-1).view(torch.uint8) if dtype[:4] not in ("uint", "int1") else turned, turned
    )


def test_big_endian_elements_are_turned_round(tmp_path: Path) -> None:
    import numpy

    for dtype in ("f4", "c8", "i2"):
        array = numpy.arange(12).astype(f">{dtype}").reshape(3, 4)
        numpy.save(tmp_path / "x.npy", array)
        with rh.open(tmp_path / "x.npy") as checkpoint:
            ref = next(iter(checkpoint.values()))
            target = torch.zeros(3, 4, dtype=torch.from_numpy(array.astype(dtype)).dtype)
            fill([Job("x", target, ref)])
            assert target.real.tolist() == array.real.tolist()
            part = torch.zeros(4, dtype=target.dtype)
            fill([Job("x", part, ref[1])])
            assert part.real.tolist() == array[1].real.tolist()


def test_deflated_members_are_read_once_and_only_then_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy

    numpy.savez_compressed(tmp_path / "x.npz", a=numpy.arange(1000.0), b=numpy.ones(7, "f4"))
    a, b = torch.zeros(1000, dtype=torch.float64), torch.zeros(7)
    with rh.open(tmp_path / "x.npz") as checkpoint:
        fill([Job("a", a, checkpoint["a"]), Job("b", b, checkpoint["b"])])
    assert a.tolist() == list(range(1000))
    assert b.tolist() == [1.0] * 7
    data = bytearray((tmp_path / "x.npz").read_bytes())
    data[data.index(b"b.npy") - 60] ^= 255
    before = a.clone()
    monkeypatch.setattr(undo, "UNDO", 0)
    with rh.open(bytes(data)) as checkpoint, pytest.raises(rh.CorruptError):
        fill([Job("b", b, checkpoint["b"]), Job("a", a, checkpoint["a"])])
    assert torch.equal(a, before)


def test_parts_and_computed_values_come_to_where_they_belong(tmp_path: Path) -> None:
    state = {"q": torch.randn(2, 4), "k": torch.randn(2, 4), "w": torch.randn(3, 5), "e": torch.randn(4)}
    whole, turned, meta = torch.zeros(6, 4), torch.zeros(5, 3), torch.empty(6, 4, device="meta")
    with rh.open(saved(state, tmp_path / "x.pth")) as checkpoint:
        q, k, w, e = (checkpoint[name] for name in "qkwe")
        filled = fill(
            [
                Job("q", whole, q, ((0, 2), (0, 4))),
                Job("k", whole, k, ((2, 4), (0, 4))),
                Job("e", whole, values.reshaped(e, (2, 2)), ((4, 6), (1, 3))),
                Job("w", turned, values.permuted(w, (1, 0))),
                Job("m", meta, values.joined([q, k, q], 0, "m")),
            ]
        )
    assert torch.equal(whole[:2], state["q"])
    assert torch.equal(whole[2:4], state["k"])
    assert torch.equal(whole[4:, 1:3], state["e"].view(2, 2))
    assert whole[4:, 0].tolist() == whole[4:, 3].tolist() == [0, 0]
    assert torch.equal(turned, state["w"].t())
    assert torch.equal(filled.fresh[id(meta)], torch.cat([state["q"], state["k"], state["q"]]))


def test_a_default_device_of_the_callers_changes_nothing(tmp_path: Path) -> None:
    state = {"a": torch.randn(4, 3), "e": torch.zeros(0, 3), "big": torch.randn(600, 500)}
    with torch.device("meta"), rh.open(saved(state, tmp_path / "x.pth")) as checkpoint:
        a, big, meta = torch.zeros(4, 8, device="cpu"), torch.zeros(600, 500, device="cpu").double(), torch.empty(0, 3)
        wide = values.repeated(values.padded(checkpoint["a"], 1, 4, 2.0), 1, 8)
        jobs = [Job("a", a, wide), Job("big", big, checkpoint["big"]), Job("e", meta, checkpoint["e"])]
        filled = fill([*jobs, Job("j", torch.zeros(0, 3, device="cpu").double(), checkpoint["e"])])
    assert torch.equal(a, torch.cat([state["a"], torch.full((4, 1), 2.0)], 1).repeat(1, 2) / 2)
    assert torch.equal(big, state["big"].double())
    assert filled.fresh[id(meta)].device.type == "cpu"


def test_of_two_tensors_in_one_memory_the_later_stays_as_with_torch(tmp_path: Path) -> None:
    state = {name: torch.randn(8) for name in "abc"}
    mine, theirs = torch.zeros(12), torch.zeros(12)
    views = {"a": (0, 8), "b": (4, 12), "c": (0, 8)}
    with rh.open(saved(state, tmp_path / "x.pth")) as checkpoint:
        fill([Job(name, mine[first:end], checkpoint[name]) for name, (first, end) in views.items()])
    for name, (first, end) in views.items():
        theirs[first:end].copy_(state[name])
    assert torch.equal(mine, theirs)


def test_a_tied_tensor_is_filled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = nn.Parameter(torch.zeros(300_000))
    path = saved({"a": torch.ones(300_000)}, tmp_path / "x.pth")
    with rh.open(path) as checkpoint:
        reads = counting(monkeypatch)
        fill([Job("a", one, checkpoint["a"]), Job("b", one, checkpoint["a"]), Job("c", one.detach(), checkpoint["a"])])
    assert sum(reads) == 1_200_000
    assert one.sum() == 300_000


def test_tensors_lie_side_by_side_in_few_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = {str(index): torch.randn(50) for index in range(500)}
    targets = {name: torch.zeros(50) for name in state}
    with rh.open(saved(state, tmp_path / "x.pth")) as checkpoint:
        jobs = [Job(name, targets[name], checkpoint[name]) for name in state]
        for ref in checkpoint.values():
            ref.storage.locate()
        reads = counting(monkeypatch)
        fill(jobs)
    assert all(torch.equal(targets[name], state[name]) for name in state)
    assert len(reads) <= 3


def test_a_graph_that_needs_the_old_values_is_told(tmp_path: Path) -> None:
    weight = nn.Parameter(torch.ones(3))
    loss = (weight * weight).sum()
    with rh.open(saved({"w": torch.zeros(3)}, tmp_path / "x.pth")) as checkpoint:
        fill([Job("w", weight, checkpoint["w"])])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_source_that_has_no_data_or_is_cut_is_found_before_anything_is_written(tmp_path: Path) -> None:
    state = {"a": torch.ones(3000), "b": torch.ones(3000, device="meta"), "c": torch.ones(3000)}
    with rh.open(saved(state, tmp_path / "x.pth")) as checkpoint:
        a, b = torch.zeros(3000), torch.zeros(3000)
        with pytest.raises(rh.RebuildError, match="1 tensor of this checkpoint"):
            fill([Job("a", a, checkpoint["a"]), Job("b", b, checkpoint["b"])])
        os.truncate(tmp_path / "x.pth", 5000)
        with pytest.raises(rh.TruncatedError):
            fill([Job("a", a, checkpoint["a"]), Job("c", b, checkpoint["c"])])
    assert a.sum() == b.sum() == 0


# Failing.


def counting(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of every read from here on."""
    reads: list[int] = []
    real = os.preadv

    def preadv(descriptor: int, views: Sequence[memoryview], start: int) -> int:
        reads.append(sum(map(len, views)))
        return real(descriptor, views, start)

    monkeypatch.setattr(os, "preadv", preadv)
    return reads


class Fails:
    """A function, but calls from the nth on fail, or do something before they go on."""

    def __init__(
        self, real: Callable[..., Any], nth: int, how: BaseException | Callable[[], None], times: int = 1
    ) -> None:
        self.real, self.left, self.how, self.times = real, nth, how, times
        self.calls = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        if self.left <= self.calls < self.left + self.times:
            if isinstance(self.how, BaseException):
                raise self.how
            self.how()
        return self.real(*args, **kwargs)


class Situation:
    """Tensors of every way, with what they were."""

    def __init__(self, folder: Path) -> None:
        torch.manual_seed(0)
        state = {name: torch.randn(40, 30) for name in ("direct", "wide", "turned", "cast", "late", "replaced")}
        self.path = saved(state, folder / "x.pth")
        self.state = state
        self.targets: dict[str, torch.Tensor] = {
            "direct": nn.Parameter(torch.randn(40, 30)),
            "wide": torch.randn(40, 30, dtype=torch.float64),
            "turned": torch.randn(30, 40).t(),
            "cast": torch.randn(40, 30).half(),
            "late": torch.randn(40, 30),
            "replaced": torch.randn(40, 30),
        }
        self.before = {name: (target.data_ptr(), bits(target)) for name, target in self.targets.items()}

    def jobs(self, checkpoint: Checkpoint) -> list[Job]:
        return [
            Job(name, target, checkpoint[name], is_fresh=name == "replaced") for name, target in self.targets.items()
        ]

    def fill(self, **options: Any) -> Filled:
        with rh.open(self.path) as checkpoint:
            return fill(self.jobs(checkpoint), **options)

    def assert_untouched(self) -> None:
        for name, (pointer, value) in self.before.items():
            assert self.targets[name].data_ptr() == pointer, name
            assert torch.equal(bits(self.targets[name]), value), name

    def assert_filled(self) -> None:
        for name, value in self.state.items():
            assert torch.equal(self.targets[name], value.to(self.targets[name].dtype)), name


FAILURES = [OSError(errno.EIO, "Input/output error"), MemoryError("no more"), KeyboardInterrupt()]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
@pytest.mark.parametrize("where", ["preadv", "torch.empty", "frombuffer", "copy_", "narrow", "data_ptr", "events"])
def test_a_failure_at_any_point_leaves_every_bit_as_it_was(
    where: str, failure: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name = {
        "preadv": (os, "preadv"), "torch.empty": (torch, "empty"), "frombuffer": (torch, "frombuffer"),
        "copy_": (undo, "copy_values"), "narrow": (staging, "derived"), "data_ptr": (filling, "bytes_of"),
        "events": (torch.autograd.graph, "increment_version"),
    }[where]  # fmt: skip
    if where == "copy_":
        from rehydrate.placing.moving import ring

        owner = ring
    failed = 0
    for nth in range(1, 200):
        situation = Situation(tmp_path)
        fails = Fails(getattr(owner, name), nth, failure)
        with monkeypatch.context() as patch, rh.open(situation.path) as checkpoint:
            jobs = situation.jobs(checkpoint)
            patch.setattr(owner, name, fails)
            try:
                fill(jobs)
            except type(failure):
                failed += 1
            else:
                break
        situation.assert_untouched()
    assert fails.calls < nth, "the loop ended because nothing failed any more"
    assert failed
    situation.assert_filled()


def test_a_failure_of_the_caller_is_undone_too(tmp_path: Path) -> None:
    situation = Situation(tmp_path)
    undone: list[str] = []

    class Undo:
        def put_back(self) -> tuple[str, ...]:
            undone.append("caller")
            return ()

    def after(filled: Filled) -> None:
        situation.assert_filled()
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        situation.fill(before=Undo, after=after)
    assert undone == ["caller"]
    situation.assert_untouched()


def test_the_caller_photographs_after_everything_was_checked(tmp_path: Path) -> None:
    situation = Situation(tmp_path)
    os.truncate(situation.path, situation.path.stat().st_size)
    asked: list[int] = []
    with rh.open(situation.path) as checkpoint:
        jobs = [*situation.jobs(checkpoint), Job("bad", torch.zeros(2), checkpoint["direct"])]
        with pytest.raises(rh.MismatchError, match="size mismatch for bad"):
            fill(jobs, before=lambda: asked.append(1))  # type: ignore[arg-type, return-value]
    assert not asked
    situation.assert_untouched()


def test_a_large_load_tries_a_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(undo, "UNDO", 0)
    for nth in range(1, 4):
        situation = Situation(tmp_path)
        with monkeypatch.context() as patch, rh.open(situation.path) as checkpoint:
            jobs = situation.jobs(checkpoint)
            patch.setattr(os, "preadv", Fails(os.preadv, nth, OSError(errno.EIO, "Input/output error")))
            fill(jobs)
        situation.assert_filled()


def test_a_large_load_that_fails_for_good_says_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undo, "UNDO", 0)
    situation = Situation(tmp_path)
    with rh.open(situation.path) as checkpoint:
        jobs = situation.jobs(checkpoint)
        monkeypatch.setattr(os, "preadv", Fails(os.preadv, 2, OSError(errno.EIO, "Input/output error"), 1000))
        with pytest.raises(rh.TornLoadError, match=r"the load failed after 2 tensors had been written") as caught:
            fill(jobs)
    text = str(caught.value)
    assert "Input/output error" in text
    assert "what was written: direct, late" in text
    assert "load it again" in text
    assert isinstance(caught.value.__cause__, OSError)


def test_a_file_that_cannot_be_read_is_found_while_everything_is_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undo, "UNDO", 0)  # nothing could be put back
    monkeypatch.setattr(resident, "_may_ask", lambda source: False)
    situation = Situation(tmp_path)
    total = None
    for nth in range(1, 100):
        with monkeypatch.context() as patch, rh.open(situation.path) as checkpoint:
            jobs = situation.jobs(checkpoint)
            fails = Fails(os.preadv, nth, OSError(errno.EIO, "Input/output error"), 1000)
            patch.setattr(os, "preadv", fails)
            try:
                fill(jobs)
            except rh.TornLoadError:
                total = nth
                break
            except OSError:
                situation.assert_untouched()
    assert total is not None
    assert total > 1, "the check read nothing"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux says what its page cache holds")
def test_what_is_not_in_memory_is_read_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {str(index): torch.randn(1 << 20) for index in range(3)}
    path = saved(state, tmp_path / "x.pth")
    descriptor = os.open(path, os.O_RDWR)
    targets = {name: torch.zeros(1 << 20) for name in state}
    with rh.open(path) as checkpoint:
        jobs = [Job(name, targets[name], checkpoint[name]) for name in state]
        for ref in checkpoint.values():
            ref.storage.locate()
        reads = counting(monkeypatch)
        fill(jobs)
        warm = sum(reads)
        reads.clear()
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        fill(jobs)
    os.close(descriptor)
    assert warm == pytest.approx(3 << 22, rel=0.01)
    assert sum(reads) >= 1.9 * warm or resident._count(0, 0, 1) == -1  # a file system in memory evicts nothing


def test_more_than_memory_can_hold_is_loaded_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    situation = Situation(tmp_path)
    monkeypatch.setattr(resident, "available_memory", lambda: 1000)
    told = situation.fill(mapped=False).told
    assert any("more than this machine can hold" in sentence for sentence in told)
    situation.assert_filled()


@pytest.mark.parametrize("undone", [0, undo.UNDO])
def test_a_file_that_shrinks_while_it_is_read_is_an_error(
    undone: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undo, "UNDO", undone)
    state = {str(index): torch.randn(3 << 20) for index in range(4)}
    path = saved(state, tmp_path / "x.pth")
    targets = {name: torch.zeros(3 << 20) for name in state}
    with rh.open(path) as checkpoint:
        jobs = [Job(name, targets[name], checkpoint[name]) for name in state]
        monkeypatch.setattr(os, "preadv", Fails(os.preadv, 3, lambda: os.truncate(path, 1 << 20)))
        with pytest.raises(rh.TruncatedError if undone else rh.TornLoadError, match="shorter"):
            fill(jobs)
    if undone:
        assert not any(target.any() for target in targets.values())


def test_somebody_who_stops_a_large_load_is_obeyed_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(undo, "UNDO", 0)
    situation = Situation(tmp_path)
    with rh.open(situation.path) as checkpoint:
        jobs = situation.jobs(checkpoint)
        monkeypatch.setattr(os, "preadv", Fails(os.preadv, 2, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt) as caught:
            fill(jobs)
    assert "2 tensors had been written" in caught.value.__notes__[0]


PEAK = """
import re, sys, torch
from torch import nn
import rehydrate as rh

def memory(word):
    return int(re.search(word + r":\\s+(\\d+)", open("/proc/self/status").read()).group(1)) << 10

def more(path, *parameters):
    model = nn.ParameterList(parameters)
    with torch.no_grad():
        for parameter in model:
            parameter.fill_(1)
    open("/proc/self/clear_refs", "w").write("5")  # the highest mark begins anew
    before = memory("VmRSS")
    rh.load_into(model, path)
    return memory("VmHWM") - before

folder = sys.argv[1]
more(folder + "/small.pth", nn.Parameter(torch.ones(4)))  # whatever is imported late is there then
for dtype in (torch.float32, torch.bfloat16):
    print(more(folder + "/many.pth", *(nn.Parameter(torch.empty(2560, 2560, dtype=dtype)) for _ in range(8))))
print(more(folder + "/turned.pth", nn.Parameter(torch.empty(8 * 2560, 2560))))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from /proc")
def test_a_large_load_takes_no_second_copy_of_the_model(tmp_path: Path) -> None:
    saved({"0": torch.ones(4)}, tmp_path / "small.pth")
    saved({str(index): torch.ones(2560, 2560) for index in range(8)}, tmp_path / "many.pth")
    saved({"0": torch.ones(2560, 8 * 2560).t()}, tmp_path / "turned.pth")
    run = subprocess.run(
        [sys.executable, "-c", PEAK, os.fspath(tmp_path)], capture_output=True, text=True, check=True, timeout=100
    )
    alike, cast, turned = map(int, run.stdout.split())
    assert alike <= 20 << 20  # of 200 MB
    assert cast <= 80 << 20  # a part of 64 MB at a time: its buffer, and nothing else
    assert turned <= 80 << 20


# An accelerator.


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and torch.cuda sees none")
def test_tensors_on_a_gpu_are_filled_through_pinned_buffers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "BATCH", 1 << 20)
    monkeypatch.setattr(plan, "PART", 1 << 20)
    state = {str(index): torch.randn(300, 1000) for index in range(20)}
    path = saved(state, tmp_path / "x.pth")
    targets = {
        name: torch.zeros(300, 1000, device="cuda", dtype=[torch.float32, torch.bfloat16][int(name) % 2])
        for name in state
    }
    meta = torch.empty(300, 1000, device="meta")
    with rh.open(path) as checkpoint:
        jobs = [Job(name, target, checkpoint[name]) for name, target in targets.items()]
        filled = fill([*jobs, Job("m", meta, checkpoint["0"])], goal=torch.device("cuda", 0))
    for name, target in targets.items():
        assert torch.equal(target.cpu(), state[name].to(target.dtype)), name
    assert torch.equal(filled.fresh[id(meta)].cpu(), state["0"])
    assert filled.fresh[id(meta)].is_cuda
