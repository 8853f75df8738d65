"""Mapped tensors: a file is the memory of tensors that have none yet, where that is safe, and whoever loads is told."""

from __future__ import annotations

import io
import os
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import rehydrate as rh
from rehydrate.placing.into import load_into
from rehydrate.placing.moving import mapped
from rehydrate.placing.moving.filling import Filled, Job, fill

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux says what a file system is")

TOLD = "keep the file as it is while the model lives, or load with mapped=False"


def network(device: str = "cpu") -> nn.Module:
    with torch.device(device):
        model = nn.Sequential(nn.Linear(30, 40), nn.BatchNorm1d(40), nn.Linear(40, 40), nn.Linear(40, 40))
        model[3].weight = model[2].weight
    return model.eval()


@pytest.fixture
def theirs() -> nn.Module:
    torch.manual_seed(0)
    return network()


@pytest.fixture
def path(theirs: nn.Module, tmp_path: Path) -> Path:
    torch.save(theirs.state_dict(), tmp_path / "x.pth")
    return tmp_path / "x.pth"


def is_mapped(tensor: torch.Tensor, path: Path) -> bool:
    """What the system says about the memory that a tensor lies in."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, end = (int(number, 16) for number in line.split()[0].split("-"))
        if first <= tensor.data_ptr() < end:
            return line.endswith(str(path))
    return False


def assert_same(one: nn.Module, other: nn.Module) -> None:
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_a_model_on_the_meta_device_lies_in_its_file_and_says_so(theirs: nn.Module, path: Path) -> None:
    mine = network("meta")
    match = load_into(mine, path)
    assert_same(mine, theirs)
    assert mine[3].weight is mine[2].weight
    assert all(is_mapped(tensor, path) for tensor in mine.state_dict().values())
    (sentence,) = [sentence for sentence in match.told if "mapped" in sentence]
    assert sentence == f"10 tensors mapped from {path}: {TOLD}"
    x = torch.randn(5, 30)
    assert torch.equal(mine(x), theirs(x))


def test_what_is_written_to_a_mapped_model_stays_with_it(theirs: nn.Module, path: Path) -> None:
    before = path.read_bytes()
    mine = network("meta")
    load_into(mine, path)
    optimizer = torch.optim.SGD(mine.parameters(), lr=1.0)
    mine(torch.randn(5, 30)).sum().backward()
    optimizer.step()
    assert not torch.equal(mine[0].weight, theirs[0].weight)
    assert path.read_bytes() == before
    again = network("meta")
    load_into(again, path)
    assert_same(again, theirs)
    buffer = io.BytesIO()
    torch.save(again.state_dict(), buffer)  # each tensor by itself, not the file that it lies in
    assert len(buffer.getvalue()) < 2 * len(before)


def test_a_mapped_model_outlives_the_closing_removal_and_replacement_of_its_file(theirs: nn.Module, path: Path) -> None:
    mine, other = network("meta"), network("meta")
    with rh.open(path) as checkpoint:
        load_into(mine, checkpoint)
    rh.save(network().state_dict(), path)
    assert_same(mine, theirs)
    load_into(other, path)
    expected = rh.load(path)
    path.unlink()
    assert isinstance(expected, dict)
    assert all(torch.equal(value, expected[name]) for name, value in other.state_dict().items())


def test_mapped_false_copies(theirs: nn.Module, path: Path) -> None:
    mine = network("meta")
    match = load_into(mine, path, mapped=False)
    path.write_bytes(b"")
    assert_same(mine, theirs)
    assert not any("mapped" in sentence for sentence in match.told)


@pytest.mark.parametrize("how", ["written to", "longer", "shorter"])
def test_a_file_that_has_changed_since_it_was_opened_is_not_mapped(how: str, path: Path) -> None:
    mine = network("meta")
    with rh.open(path) as checkpoint:
        if how == "shorter":
            os.truncate(path, 2000)
        else:
            with path.open("r+b") as file:
                file.seek(0, os.SEEK_END if how == "longer" else os.SEEK_SET)
                file.write(b"PK")
            os.utime(path, ns=(1, 1))
        with pytest.raises(rh.RehydrateError, match=r"changed|shorter|ends early"):
            load_into(mine, checkpoint)
    assert all(tensor.is_meta for tensor in mine.state_dict().values())


NETWORKS = {
    "NFS": 0x6969, "Lustre": 0x0BD00BD0, "FUSE": 0x65735546, "CIFS": 0xFF534D42, "SMB2": 0xFE534D42, "SMB": 0x517B,
    "9P": 0x01021997, "Ceph": 0x00C36400, "GPFS": 0x47504653, "BeeGFS": 0x19830326, "unknown": None,
}  # fmt: skip


@pytest.mark.parametrize("kind", NETWORKS)
def test_files_of_networks_are_read(kind: str, theirs: nn.Module, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "_file_system", lambda descriptor: NETWORKS[kind])
    mine = network("meta")
    match = load_into(mine, path)
    path.write_bytes(b"")
    assert_same(mine, theirs)
    assert not any("mapped" in sentence for sentence in match.told)


def test_the_file_system_is_what_the_system_says_it_is(path: Path) -> None:
    import subprocess

    run = subprocess.run(["stat", "-f", "-c", "%t", os.fspath(path)], capture_output=True, text=True, check=False)
    with path.open("rb") as file:
        assert run.returncode or mapped._file_system(file.fileno()) == int(run.stdout, 16)
    with Path("/proc/self/status").open("rb") as file:
        assert not mapped.is_local(file.fileno())


def test_what_cannot_be_mapped_is_copied_beside_what_can(tmp_path: Path) -> None:
    shared, wide = torch.arange(12.0), torch.randn(3, 4)
    state = {
        "plain": torch.randn(3, 4), "turned": wide.t(), "cast": wide.double(), "expanded": shared[:4].expand(3, 4),
        "first": shared.view(3, 4), "second": shared.view(3, 4), "conj": torch.randn(2, dtype=torch.complex64).conj(),
    }  # fmt: skip
    torch.save(state, tmp_path / "x.pth")
    metas = {name: torch.empty(value.shape, device="meta", dtype=torch.float32) for name, value in state.items()}
    metas["conj"] = torch.empty(2, dtype=torch.complex64, device="meta")
    with rh.open(tmp_path / "x.pth") as checkpoint:
        filled = fill([Job(name, meta, checkpoint[name]) for name, meta in metas.items()])
    made = {name: filled.fresh[id(meta)] for name, meta in metas.items()}
    for name, value in state.items():
        assert torch.equal(made[name], value.to(made[name].dtype)), name
    mapped_ones = {name for name, value in made.items() if is_mapped(value, tmp_path / "x.pth")}
    assert mapped_ones == {"plain", "turned", "first"}
    assert "3 tensors mapped" in filled.told[0]
    made["first"][0, 0] = 100
    assert made["second"][0, 0] == made["expanded"][0, 0] == 0
    made["expanded"][1, 0] = 7
    assert made["expanded"][0, 0] == 0


def test_elements_that_begin_at_an_odd_byte_are_copied(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.randn(3), "b": torch.ones(5, dtype=torch.int8), "c": torch.randn(4)}, tmp_path / "x")
    data = (tmp_path / "x").read_bytes()
    length = int.from_bytes(data[:8], "little")
    (tmp_path / "odd").write_bytes(
        (length + 1).to_bytes(8, "little") + data[8 : 8 + length] + b" " + data[8 + length :]
    )
    meta = torch.empty(4, device="meta")
    with rh.open(tmp_path / "odd") as checkpoint:
        made = fill([Job("c", meta, checkpoint["c"])]).fresh[id(meta)]
        assert torch.equal(made, checkpoint["c"].torch())
    assert not is_mapped(made, tmp_path / "odd")


@pytest.mark.parametrize("kind", ["bytes", "stream", "deflated"])
def test_what_is_no_plain_file_is_copied(kind: str, theirs: nn.Module, path: Path) -> None:
    where: Any = path.read_bytes()
    if kind == "stream":
        where = io.BytesIO(where)
    if kind == "deflated":
        where = path.with_suffix(".zip")
        with zipfile.ZipFile(where, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(path, "x.pth")
    mine = network("meta")
    match = load_into(mine, where)
    assert_same(mine, theirs)
    assert not any("mapped" in sentence for sentence in match.told)


def test_shards_are_each_mapped_once(tmp_path: Path) -> None:
    import json

    from safetensors.torch import save_file

    state = {str(index): torch.randn(50, 50) for index in range(6)}
    places = {name: f"model-{int(name) % 2 + 1:05}-of-00002.safetensors" for name in state}
    for shard in set(places.values()):
        save_file({name: value for name, value in state.items() if places[name] == shard}, tmp_path / shard)
    index = {"metadata": {"total_size": 6 * 10_000}, "weight_map": places}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    metas = {name: torch.empty(50, 50, device="meta") for name in state}
    with rh.open(tmp_path / "model.safetensors.index.json") as checkpoint:
        filled = fill([Job(name, meta, checkpoint[name]) for name, meta in metas.items()])
    assert all(torch.equal(filled.fresh[id(metas[name])], value) for name, value in state.items())
    assert "6 tensors mapped from" in filled.told[0]
    assert "keep the files as they are" in filled.told[0]
    lines = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(tmp_path) in line]
    assert len(lines) <= 2


def test_a_tensor_that_nobody_has_looked_at_is_given_the_file_as_its_memory(path: Path, theirs: nn.Module) -> None:
    model = network()
    weight, alias = model[0].weight, model[2].weight.detach()
    assert alias.data_ptr() == model[2].weight.data_ptr()
    with rh.open(path) as checkpoint:
        fill(
            [
                Job(name, value, checkpoint[name], is_fresh=True)
                for name, value in model.state_dict(keep_vars=True).items()
            ]
        )
    assert model[0].weight is weight
    assert is_mapped(weight, path)
    assert_same(model, theirs)
    # Somebody else looks at this one's memory: it is filled where it is.
    assert alias.data_ptr() == model[2].weight.data_ptr()
    assert torch.equal(alias, theirs[2].weight)
    assert weight.requires_grad


def test_memory_that_was_replaced_comes_back_when_something_fails(path: Path) -> None:
    model = network()
    before = {
        name: (value.data_ptr(), value.detach().clone()) for name, value in model.state_dict(keep_vars=True).items()
    }

    def after(filled: Filled) -> None:
        raise MemoryError

    with rh.open(path) as checkpoint, pytest.raises(MemoryError):
        fill(
            [
                Job(name, value, checkpoint[name], is_fresh=True)
                for name, value in model.state_dict(keep_vars=True).items()
            ],
            after=after,
        )
    for name, value in model.state_dict(keep_vars=True).items():
        assert value.data_ptr() == before[name][0]
        assert torch.equal(value, before[name][1])


def test_an_old_tensor_is_never_mapped_over(path: Path) -> None:
    model = network()
    pointers = [value.data_ptr() for value in model.state_dict().values()]
    match = load_into(model, path)
    assert [value.data_ptr() for value in model.state_dict().values()] == pointers
    assert not any("mapped" in sentence for sentence in match.told)


def test_where_memory_cannot_be_promised_it_is_copied(
    path: Path, theirs: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mmap

    real = mmap.mmap

    def refused(*args: Any, **options: Any) -> mmap.mmap:
        if options.get("access") == mmap.ACCESS_COPY:
            raise OSError(12, "Cannot allocate memory")
        return real(*args, **options)

    monkeypatch.setattr(mapped.mmap, "mmap", refused)
    mine = network("meta")
    load_into(mine, path)
    shutil.copy(path, path.with_suffix(".old"))
    assert_same(mine, theirs)
