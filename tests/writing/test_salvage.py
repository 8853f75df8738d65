"""rh.salvage: exactly the complete tensors of a cut or damaged file come out, bit for bit, in their places."""

from __future__ import annotations

import io
import random
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

import rehydrate as rh

SIZES = {"a.weight": (8, 5), "a.bias": (3,), "b.weight": (70, 10), "c": (0,), "d": (17,)}


def state() -> OrderedDict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return OrderedDict((name, torch.randn(size, generator=generator)) for name, size in SIZES.items())


def saved(value: object, **how: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **how)
    return buffer.getvalue()


def ends_of(values: dict[str, torch.Tensor], data: bytes) -> dict[str, int]:
    """Where in the file the bytes of each tensor end."""
    return {
        name: data.index(tensor.numpy().tobytes()) + tensor.numel() * tensor.element_size() if tensor.numel() else 0
        for name, tensor in values.items()
    }


def loaded(path: Path) -> object:
    return torch.load(path, weights_only=True)


def check_cut(values: dict[str, torch.Tensor], data: bytes, length: int, to: Path) -> None:
    """What comes out of the first bytes of a file are exactly the tensors that lie in them."""
    whole = {name for name, end in ends_of(values, data).items() if end <= length}
    saved = rh.salvage(data[:length], to)
    left = loaded(to)
    assert set(left) == whole
    assert all(torch.equal(left[name], values[name]) for name in whole)
    assert list(left) == [name for name in values if name in whole]
    assert (saved.tensors, set(saved.missing)) == (len(whole), set(values) - whole)


def test_cut_at_every_storage_and_anywhere_the_complete_tensors_come_out(tmp_path: Path) -> None:
    values = state()
    data = saved(values)
    ends = ends_of(values, data)
    first = data.index(b"PK\3\4", 4)  # what is cut inside data.pkl has nothing
    lengths = {end + by for end in ends.values() for by in (-1, 0, 1, 20) if end + by > first + 200}
    lengths |= set(random.Random(2).sample(range(first + 200, len(data)), 25))
    for length in sorted(lengths):
        check_cut(values, data, length, tmp_path / "left.pth")


def test_cut_inside_the_pickle_there_is_nothing_and_no_file_is_written(tmp_path: Path) -> None:
    data = saved(state())
    for length in (5, 40, 200):
        with pytest.raises(rh.TruncatedError):
            rh.salvage(data[:length], tmp_path / "left.pth")
    only = saved({"w": torch.randn(100)})
    with pytest.raises(rh.TruncatedError, match="no complete tensor"):
        rh.salvage(only[: only.index(b"archive/data/0") + 200], tmp_path / "left.pth")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_tensor_is_left_out_and_named(tmp_path: Path) -> None:
    values = state()
    data = bytearray(saved({"state_dict": values, "epoch": 3}))
    data[data.index(values["d"].numpy().tobytes()) + 5] ^= 1
    done = rh.salvage(bytes(data), tmp_path / "left.pth")
    assert done.missing == ("state_dict.d",)
    assert "4 of 5 tensors" in str(done)
    left = loaded(tmp_path / "left.pth")
    assert left["epoch"] == 3
    assert list(left["state_dict"]) == ["a.weight", "a.bias", "b.weight", "c"]
    assert all(torch.equal(left["state_dict"][name], values[name]) for name in left["state_dict"])


def test_views_and_ties_are_whole_where_what_they_show_is(tmp_path: Path) -> None:
    whole = torch.randn(1000)
    data = saved({"whole": whole, "head": whole[:10], "again": whole[:10]})
    at = data.index(whole.numpy().tobytes())
    done = rh.salvage(data[: at + 400], tmp_path / "left.pth")
    left = loaded(tmp_path / "left.pth")
    assert done.missing == ("whole",)
    assert torch.equal(left["head"], whole[:10])
    assert left["head"].data_ptr() == left["again"].data_ptr()


def test_plain_data_stays_strangers_are_left_out_and_modules_become_state_dicts(tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Linear(2, 3))
    tree = {
        "epoch": 7, "names": ["a", ("b", None)], "args": Namespace(lr=0.1), "net": net, "odd": complex,
        "list": [torch.ones(2), torch.zeros(3)], "size": torch.Size([1, 2]), "array": np.arange(3.0), "set": {1, 2},
    }  # fmt: skip
    data = saved(tree)
    done = rh.salvage(data[:-1], tmp_path / "left.pth")
    left = loaded(tmp_path / "left.pth")
    assert (left["epoch"], left["names"], left["args"]) == (7, ["a", ("b", None)], {"lr": 0.1})
    assert (left["size"], left["set"]) == (torch.Size([1, 2]), {1, 2})
    assert list(left["net"]) == ["0.weight", "0.bias"]
    assert torch.equal(left["net"]["0.weight"], net[0].weight)
    assert torch.equal(left["array"], torch.arange(3.0, dtype=torch.float64))
    assert "odd" not in left
    assert done.told


@pytest.mark.filterwarnings("ignore:.*(quantize|TypedStorage):UserWarning")
def test_quantised_tensors_stay_with_their_scales(tmp_path: Path) -> None:
    values = torch.quantize_per_tensor(torch.arange(4.0), 0.5, 0, torch.qint8)
    module = torch.nn.Module()
    module.register_buffer("q", values)
    module.register_buffer("w", torch.ones(2))
    rh.salvage(saved({"q": values, "module": module})[:-1], tmp_path / "left.pth")
    left = loaded(tmp_path / "left.pth")
    assert torch.equal(left["q"].dequantize(), values.dequantize())
    assert torch.equal(left["module"]["w"], torch.ones(2))


def test_a_state_dict_keeps_its_versions(tmp_path: Path) -> None:
    net = torch.nn.BatchNorm1d(3)
    rh.salvage(saved(net.state_dict())[:-1], tmp_path / "left.pth")
    assert loaded(tmp_path / "left.pth")._metadata[""]["version"] == 2


def test_a_tail_of_zeros_is_not_saved_as_weights(tmp_path: Path) -> None:
    values = {"a": torch.randn(2000), "b": torch.randn(2000)}
    data = saved(values)
    cut = data.index(values["b"].numpy().tobytes()) + 4000
    done = rh.salvage(data[:cut] + bytes(len(data) - cut), tmp_path / "left.pth")
    assert done.missing == ("b",)


def test_a_whole_file_is_saved_whole_and_never_onto_itself(tmp_path: Path) -> None:
    values = state()
    path = tmp_path / "net.pth"
    path.write_bytes(saved(values))
    with pytest.raises(rh.SaveError, match="replace the file"):
        rh.salvage(path, path)
    done = rh.salvage(path, tmp_path / "again.pth")
    assert (done.tensors, done.missing) == (5, ())
    with rh.open(path) as checkpoint:
        assert rh.salvage(checkpoint, tmp_path / "more.pth").tensors == 5


def test_other_containers_are_salvaged_as_well(tmp_path: Path) -> None:
    values = state()
    del values["c"]
    legacy = saved(values, _use_new_zipfile_serialization=False)
    done = rh.salvage(legacy[:-30], tmp_path / "legacy.pth")
    left = loaded(tmp_path / "legacy.pth")
    assert done.missing
    assert left
    assert all(torch.equal(left[name], values[name]) for name in left)
    np.savez(tmp_path / "a.npz", x=np.arange(1000.0), y=np.arange(500))
    data = (tmp_path / "a.npz").read_bytes()
    rh.salvage(data[: data.index(np.arange(500).tobytes()) + 100], tmp_path / "npz.pth")
    assert torch.equal(loaded(tmp_path / "npz.pth")["x"], torch.arange(1000.0, dtype=torch.float64))
