"""Several processes of a node: each on its own device, each with the right weights, none waiting for another."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import rehydrate as rh
from rehydrate.placing import devices
from rehydrate.placing.devices import resolve
from rehydrate.placing.ranks import ranks_told


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with eight devices that nobody has touched."""
    monkeypatch.setattr(devices, "_count", lambda kind: 8 if kind == "cuda" else 0)
    for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_a_process_of_several_gets_its_own_device_and_never_the_first_by_accident(eight: pytest.MonkeyPatch) -> None:
    assert str(resolve("cuda")) == str(resolve("auto")) == "cuda"  # alone, torch's own choice
    for rank in range(8):
        eight.setenv("LOCAL_RANK", str(rank))
        for spelling in ("cuda", "auto", torch.device("cuda")):
            assert resolve(spelling) == torch.device("cuda", rank)
        assert devices.destination("cuda")("cuda:0") == torch.device("cuda", rank)  # map_location
        assert resolve("cuda:0") == torch.device("cuda", 0)  # asked for by name
        assert resolve("cpu") == torch.device("cpu")
        assert str(resolve("meta")) == "meta"


def test_a_device_that_the_process_chose_before_is_its_own(eight: pytest.MonkeyPatch) -> None:
    eight.setenv("LOCAL_RANK", "2")
    eight.setattr(torch.cuda, "is_initialized", lambda: True)
    eight.setattr(torch.cuda, "current_device", lambda: 5)
    assert resolve("cuda") == torch.device("cuda", 5)
    eight.setattr(torch.cuda, "current_device", lambda: 0)  # chosen by nobody
    assert resolve("cuda") == torch.device("cuda", 2)


def test_a_process_that_is_shown_one_device_takes_that(eight: pytest.MonkeyPatch) -> None:
    eight.setattr(devices, "_count", lambda kind: 1 if kind == "cuda" else 0)
    eight.setenv("LOCAL_RANK", "6")
    assert resolve("cuda") == torch.device("cuda", 0)


def test_more_processes_than_devices_is_an_error(eight: pytest.MonkeyPatch) -> None:
    eight.setenv("LOCAL_RANK", "8")
    with pytest.raises(rh.DeviceError, match="process 8 of this node has no cuda device of its own") as caught:
        resolve("cuda")
    assert "--nproc-per-node=8" in str(caught.value)


def test_nonsense_in_the_environment_is_no_rank(eight: pytest.MonkeyPatch) -> None:
    for text in ("", "two", "-1", "1.5"):
        eight.setenv("LOCAL_RANK", text)
        eight.setenv("LOCAL_WORLD_SIZE", text)
        assert str(resolve("cuda")) == "cuda"
        assert list(ranks_told()) == []


def test_a_match_tells_that_every_process_reads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch.save({"model": nn.Linear(2, 2).state_dict()}, tmp_path / "net.pth")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    match = rh.load_into({"model": nn.Linear(2, 2)}, tmp_path / "net.pth")
    assert "each of the 4 processes of this node reads the file for itself" in str(match)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    assert "processes" not in str(rh.load_into({"model": nn.Linear(2, 2)}, tmp_path / "net.pth"))


PROGRAM = """
import os, sys
from pathlib import Path
import torch
from torch import distributed, nn
import rehydrate as rh
from rehydrate.placing.ranks import index_here

folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
distributed.init_process_group("gloo", init_method=(folder / "store").as_uri(), rank=rank, world_size=2)
torch.manual_seed(rank)
model = nn.Linear(30, 20)
before = model.weight.detach().clone()

# One of them has a bad file: it fails alone, and the other does not wait for it.
try:
    rh.load_into(model, folder / ("good.pth" if rank == 0 else "cut.pth"))
    print("loaded")
except rh.RehydrateError as error:
    print("failed", type(error).__name__, torch.equal(model.weight, before))

match = rh.load_into({"model": model}, folder / "good.pth")
print([sentence for sentence in match.told if "processes" in sentence])
mine = torch.cat([model.weight.flatten(), model.bias]).detach()
every = [torch.empty_like(mine) for _ in range(2)]
distributed.all_gather(every, mine)
right = torch.load(folder / "good.pth")
print("alike", torch.equal(every[0], every[1]), torch.equal(model.weight, right["model"]["weight"]))

del os.environ["LOCAL_RANK"]  # a group, and no launcher
print("device", index_here("cuda", 2))
distributed.destroy_process_group()
"""


@pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()), reason="this torch has no gloo"
)
def test_two_processes_end_with_equal_weights_and_one_with_a_bad_file_fails_alone(tmp_path: Path) -> None:
    torch.save({"model": nn.Linear(30, 20).state_dict()}, tmp_path / "good.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "good.pth").read_bytes()[:1500])
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path)],
            env={
                **os.environ,
                "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
                "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo" if sys.platform == "linux" else "lo0",
            },
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        outputs = [process.communicate(timeout=60) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for rank, (process, (out, err)) in enumerate(zip(processes, outputs, strict=True)):
        assert process.returncode == 0, err
        lines = out.splitlines()
        assert lines[0] == ("loaded" if rank == 0 else "failed TruncatedError True")
        assert "each of the 2 processes of this node reads the file for itself" in lines[1]
        assert lines[2:] == ["alike True True", f"device {rank}"]
