"""Staging: buffers are used again only when whatever was copied from them has arrived."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import rehydrate as rh
from rehydrate.placing.moving import filling, plan, staging
from rehydrate.placing.moving.filling import Job, fill
from rehydrate.placing.moving.ring import CpuLane, Ring, lane_to


class SlowLane:
    """A device that does nothing before somebody waits for it, as a busy one may."""

    buffers = 3

    def __init__(self) -> None:
        self.queue: list[Callable[[], object]] = []
        self.memories: list[int] = []
        self.waits = 0

    def memory(self, nbytes: int) -> torch.Tensor:
        self.memories.append(nbytes)
        return torch.zeros(nbytes, dtype=torch.uint8)

    def copy(self, target: torch.Tensor, value: torch.Tensor) -> None:
        self.queue.append(lambda: target.copy_(value))

    def mark(self) -> Point:
        return Point(self, len(self.queue))


class Point:
    def __init__(self, lane: SlowLane, count: int) -> None:
        self.lane, self.left = lane, lane.queue[:count]

    def synchronize(self) -> None:
        self.lane.waits += bool(self.left)
        for work in self.left:
            if work in self.lane.queue:
                self.lane.queue.remove(work)
                work()


@pytest.fixture
def lanes(monkeypatch: pytest.MonkeyPatch) -> list[SlowLane]:
    made: list[SlowLane] = []

    def lane(device: torch.device) -> SlowLane:
        made.append(SlowLane())
        return made[-1]

    monkeypatch.setattr(filling, "lane_to", lane)
    monkeypatch.setattr(staging, "BATCH", 4096)
    monkeypatch.setattr(plan, "PART", 4096)
    return made


def test_every_tensor_arrives_through_a_device_that_is_late(lanes: list[SlowLane], tmp_path: Path) -> None:
    state = {str(index): torch.randn(25, 40) for index in range(60)}
    torch.save(state, tmp_path / "x.pth")
    targets = {name: torch.zeros(25, 40, dtype=torch.float64) for name in state}
    with rh.open(tmp_path / "x.pth") as checkpoint:
        fill([Job(name, target, checkpoint[name]) for name, target in targets.items()])
    assert all(torch.equal(targets[name], value.double()) for name, value in state.items())
    (lane,) = lanes
    assert not lane.queue, "when it returns, all is there"
    assert len(lane.memories) == SlowLane.buffers
    assert lane.waits > 10


def test_a_failure_waits_for_what_is_on_its_way_before_it_is_undone(lanes: list[SlowLane], tmp_path: Path) -> None:
    torch.save({"x": torch.ones(5000)}, tmp_path / "x.pth")
    target = torch.zeros(5000, dtype=torch.float64)

    def after(filled: object) -> None:
        raise ValueError("no")

    with rh.open(tmp_path / "x.pth") as checkpoint, pytest.raises(ValueError, match="no"):
        fill([Job("x", target, checkpoint["x"])], after=after)
    assert not target.any()
    assert not lanes[0].queue


def test_a_buffer_that_is_too_small_is_made_anew() -> None:
    ring = Ring(CpuLane())
    first = ring.buffer(64)
    assert ring.buffer(32) is first
    assert ring.buffer(128).numel() >= 128
    ring.finish()


def test_the_way_to_the_cpu_needs_one_buffer() -> None:
    assert lane_to(torch.device("cpu")).buffers == 1
