"""Shards with an index, against what `transformers` and the Hub write: one mapping in the index's order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

import rehydrate as rh
from rehydrate.errors import AmbiguousError, CorruptError, MissingFileError, NotACheckpointError, TruncatedError

STATE = {f"layers.{number}.weight": torch.full((3, 2), float(number)) for number in range(7)}


def write_index(folder: Path, places: dict[str, str], name: str = "model.safetensors.index.json") -> Path:
    total = sum(value.nbytes for value in STATE.values())
    (folder / name).write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": places}, indent=2))
    return folder / name


def sharded(folder: Path) -> Path:
    """The state in three safetensors; the index."""
    names = list(STATE)
    places: dict[str, str] = {}
    for number, chosen in enumerate((names[:3], names[3:5], names[5:]), 1):
        file = f"model-{number:05}-of-00003.safetensors"
        safetensors.torch.save_file({name: STATE[name] for name in chosen}, folder / file, {"format": "pt"})
        places |= dict.fromkeys(chosen, file)
    return write_index(folder, places)


def by_torch(folder: Path, count: int = 2) -> Path:
    """The state in files of torch.save; the index."""
    names = list(STATE)
    places = {name: f"pytorch_model-{at * count // len(names) + 1:05}.bin" for at, name in enumerate(names)}
    for file in set(places.values()):
        torch.save({name: STATE[name].clone() for name in names if places[name] == file}, folder / file)
    return write_index(folder, places, "pytorch_model.bin.index.json")


def test_shards_are_one_mapping_in_the_order_of_the_index(tmp_path: Path) -> None:
    index = sharded(tmp_path)
    with rh.open(index) as checkpoint:
        assert checkpoint.format == "safetensors-index"
        assert list(checkpoint) == list(STATE)
        assert all(torch.equal(checkpoint[name].torch(), STATE[name]) for name in STATE)
        assert checkpoint.facts["total_size"] == 7 * 24
        assert checkpoint.facts["shards"] == tuple(f"model-{number:05}-of-00003.safetensors" for number in (1, 2, 3))
        assert checkpoint.facts["metadata"] == {"format": "pt"}
        assert checkpoint.traces == ()
    loaded = rh.load(index)
    assert all(torch.equal(loaded[name], STATE[name]) for name in STATE)


def test_shards_of_torch_are_one_mapping_with_all_their_pickles(tmp_path: Path) -> None:
    with rh.open(by_torch(tmp_path)) as checkpoint:
        assert checkpoint.format == "torch-index"
        assert list(checkpoint) == list(STATE)
        assert all(torch.equal(checkpoint[name].torch(), STATE[name]) for name in STATE)
        assert [trace.where for trace in checkpoint.traces] == [
            f"pytorch_model-0000{number}.bin/pytorch_model-0000{number}/data.pkl" for number in (1, 2)
        ]
        assert checkpoint.checksums is not None
        checksums = list(checkpoint.checksums())
        assert len({checksum.name for checksum in checksums}) == len(checksums) > len(STATE)
        assert checkpoint.facts["saved_on"] == ("cpu",)


def test_they_load_into_a_model_from_the_index_or_the_folder(tmp_path: Path) -> None:
    index = sharded(tmp_path)
    model = torch.nn.Module()
    model.layers = torch.nn.ModuleList(torch.nn.Linear(2, 3, bias=False) for _ in range(7))
    for where in (index, tmp_path):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(-1)
        assert rh.load_into(model, where)
        assert all(torch.equal(value, STATE[name]) for name, value in model.state_dict().items())


def test_each_shard_is_opened_as_what_it_is(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "first.safetensors")
    safetensors.torch.save_file({"b": torch.zeros(2)}, tmp_path / "second.bin")
    with rh.open(write_index(tmp_path, {"b": "second.bin", "a": "first.safetensors"})) as checkpoint:
        assert checkpoint.format == "torch-index"
        assert list(checkpoint) == ["b", "a"]


def test_missing_shards_are_named_with_how_many_there_are(tmp_path: Path) -> None:
    index = sharded(tmp_path)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(MissingFileError, match="1 of the 3 files of this checkpoint is not here") as one:
        rh.open(index)
    assert "model-00002-of-00003.safetensors" in str(one.value)
    for path in tmp_path.glob("*.safetensors"):
        path.unlink()
    with pytest.raises(MissingFileError, match="3 of the 3 files of this checkpoint are not here") as all_three:
        rh.open(tmp_path)
    assert "model-00001-of-00003.safetensors, model-00002" in str(all_three.value)


def test_the_real_index_whose_shards_are_elsewhere_says_so(test_data: Path) -> None:
    found = sorted((test_data / "checkpoints").rglob("*.index.json"))
    assert found
    for path in found:
        with pytest.raises(MissingFileError, match="not here"):
            rh.open(path)


def test_an_index_without_its_folder_says_what_is_missing(tmp_path: Path) -> None:
    data = sharded(tmp_path).read_bytes()
    with pytest.raises(NotACheckpointError, match="without the folder") as caught:
        rh.open(data)
    assert "model-00001-of-00003.safetensors" in str(caught.value)
    assert "open it by its path" in str(caught.value)


def test_a_tensor_that_its_shard_lacks_is_told_with_the_one_that_may_be_meant(tmp_path: Path) -> None:
    safetensors.torch.save_file({"fc.weight": torch.ones(1)}, tmp_path / "a.safetensors")
    with pytest.raises(CorruptError, match=r"'fc\.wieght' lies in 'a\.safetensors', and it does not") as caught:
        rh.open(write_index(tmp_path, {"fc.wieght": "a.safetensors"}))
    assert "'fc.weight'" in str(caught.value)


def test_tensors_that_the_index_leaves_out_are_said_and_not_given(tmp_path: Path) -> None:
    safetensors.torch.save_file({"w": torch.ones(1), "old": torch.ones(1)}, tmp_path / "a.safetensors")
    safetensors.torch.save_file({"w": torch.zeros(1), "v": torch.ones(1)}, tmp_path / "b.safetensors")
    with rh.open(write_index(tmp_path, {"w": "a.safetensors", "v": "b.safetensors"})) as checkpoint:
        assert list(checkpoint) == ["w", "v"]
        assert checkpoint["w"].numpy().tolist() == [1]
        assert checkpoint.facts["unlisted"] == ("a.safetensors: old", "b.safetensors: w")


@pytest.mark.parametrize(
    ("content", "error"),
    [(b"<!DOCTYPE html><title>Sign in</title>", NotACheckpointError), (b"", NotACheckpointError),
     (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 97781949\n", NotACheckpointError)],
)  # fmt: skip
def test_a_shard_that_is_none_is_named(content: bytes, error: type[Exception], tmp_path: Path) -> None:
    index = sharded(tmp_path)
    (tmp_path / "model-00002-of-00003.safetensors").write_bytes(content)
    for where in (index, tmp_path):
        with pytest.raises(error) as caught:
            rh.open(where)
        assert "model-00002-of-00003.safetensors" in str(caught.value)


def test_a_shard_that_is_cut_is_named(tmp_path: Path) -> None:
    index = sharded(tmp_path)
    path = tmp_path / "model-00003-of-00003.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(TruncatedError) as caught:
        rh.open(index)
    assert path.name in str(caught.value)


def test_a_file_outside_the_folder_is_never_opened(tmp_path: Path) -> None:
    safetensors.torch.save_file({"w": torch.ones(1)}, tmp_path / "outside.safetensors")
    folder = tmp_path / "inside"
    folder.mkdir()
    for name in ("../outside.safetensors", str(tmp_path / "outside.safetensors")):
        with pytest.raises(NotACheckpointError, match="another folder"):
            rh.open(write_index(folder, {"w": name}))


def test_a_name_that_stands_in_the_index_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.index.json").write_text('{"weight_map": {"w": "a.safetensors", "w": "b.safetensors"}}')
    with pytest.raises(AmbiguousError, match="stands twice"):
        rh.open(tmp_path / "m.index.json")


def test_the_shards_are_closed_with_the_checkpoint(tmp_path: Path) -> None:
    with rh.open(sharded(tmp_path)) as checkpoint:
        ref = checkpoint["layers.6.weight"]
    with pytest.raises(ValueError, match="has been closed"):
        ref.numpy()
