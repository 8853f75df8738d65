"""Folders: the checkpoint that one is, the one in it, or what there is to choose from."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch

import rehydrate as rh
from rehydrate.errors import AmbiguousError, MissingFileError, NotACheckpointError


def save(path: Path, value: float = 1.0) -> None:
    torch.save({"w": torch.full((2,), value)}, path)


def test_the_one_checkpoint_of_a_folder_is_opened(tmp_path: Path) -> None:
    save(tmp_path / "weights.anything")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "README.md").write_text("# A model\n\nIt is good.")
    with rh.open(tmp_path) as checkpoint:
        assert checkpoint.format == "torch-zip"
        assert checkpoint["w"].numpy().tolist() == [1, 1]


def test_of_several_none_is_chosen_and_member_chooses(tmp_path: Path) -> None:
    save(tmp_path / "a.pth", 1)
    save(tmp_path / "b.pth", 2)
    with pytest.raises(AmbiguousError, match="2 checkpoints") as caught:
        rh.open(tmp_path)
    assert "a.pth, b.pth" in str(caught.value)
    with rh.open(tmp_path, member="b.pth") as checkpoint:
        assert checkpoint["w"].numpy().tolist() == [2, 2]
        assert checkpoint.facts["member"] == "b.pth"
    with pytest.raises(MissingFileError, match=r"no file 'b\.pt'") as missing:
        rh.open(tmp_path, member="b.pt")
    assert "'b.pth'" in str(missing.value)


def test_an_index_stands_for_its_shards_and_two_are_a_choice(tmp_path: Path) -> None:
    safetensors.torch.save_file({"w": torch.ones(1)}, tmp_path / "model-1.safetensors")
    save(tmp_path / "model-1.bin")
    for index, shard in (("model.safetensors", "model-1.safetensors"), ("pytorch_model.bin", "model-1.bin")):
        (tmp_path / f"{index}.index.json").write_text(json.dumps({"weight_map": {"w": shard}}))
    with pytest.raises(AmbiguousError, match="2 checkpoints") as caught:
        rh.open(tmp_path)
    assert "model.safetensors.index.json, pytorch_model.bin.index.json" in str(caught.value)
    with rh.open(tmp_path, member="pytorch_model.bin.index.json") as checkpoint:
        assert checkpoint.format == "torch-index"
    (tmp_path / "pytorch_model.bin.index.json").unlink()
    with rh.open(tmp_path) as checkpoint:
        assert checkpoint.format == "safetensors-index"


def test_a_name_like_that_of_an_index_is_not_enough_to_be_one(tmp_path: Path) -> None:
    save(tmp_path / "net.pth")
    (tmp_path / "words.index.json").write_text('{"the": 1}')
    (tmp_path / "other.metadata").write_text("not a pickle")
    with rh.open(tmp_path) as checkpoint:
        assert checkpoint.format == "torch-zip"


def test_a_folder_without_a_checkpoint_says_what_is_in_it_and_leaves_text_out(tmp_path: Path) -> None:
    with pytest.raises(NotACheckpointError, match="none of its files is a checkpoint") as empty:
        rh.open(tmp_path)
    assert "no file" in str(empty.value)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(NotACheckpointError) as prose:
        rh.open(tmp_path)
    assert "nothing but text" in str(prose.value)
    (tmp_path / "empty.pth").touch()
    with pytest.raises(NotACheckpointError) as caught:
        rh.open(tmp_path)
    assert "empty.pth" in str(caught.value)
    assert "notes" not in str(caught.value)


def test_folders_below_are_not_searched(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    save(tmp_path / "below" / "net.pth")
    with pytest.raises(NotACheckpointError, match="this is a folder"):
        rh.open(tmp_path)


def test_a_torch_zip_that_was_unpacked_says_how_to_pack_it_again(tmp_path: Path) -> None:
    save(tmp_path / "net.pth")
    with zipfile.ZipFile(tmp_path / "net.pth") as archive:
        archive.extractall(tmp_path / "unpacked")
    (folder,) = (tmp_path / "unpacked").iterdir()
    with pytest.raises(NotACheckpointError) as caught:
        rh.open(folder)
    assert "zip -0 -r packed.pth net" in str(caught.value)


def test_the_one_model_is_opened_where_the_rest_is_for_training_to_go_on(tmp_path: Path) -> None:
    net = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    torch.save({"python": (3, (1, 2)), "cpu": torch.get_rng_state()}, tmp_path / "rng_state.pth")
    safetensors.torch.save_file(net.state_dict(), tmp_path / "model.safetensors")
    with rh.open(tmp_path) as checkpoint:
        assert set(checkpoint.weights()) == {"weight", "bias"}
        assert checkpoint.facts["member"] == "model.safetensors"
        assert checkpoint.facts["beside"] == ("optimizer.pt", "rng_state.pth")


def test_all_of_a_folder_is_audited_and_one_of_it_on_request(tmp_path: Path) -> None:
    save(tmp_path / "a.pth", 1)
    save(tmp_path / "b.pth", 2)
    assert rh.audit(tmp_path).verdict == "data-only"
    (tmp_path / "training_args.bin").write_bytes(b"cos\nsystem\n(S'id'\ntR.")
    audit = rh.audit(tmp_path)
    assert audit.verdict == "dangerous"
    assert "training_args.bin" in str(audit)
    assert rh.audit(tmp_path, member="a.pth").verdict == "data-only"
    (tmp_path / "b.pth").unlink()  # then there is one model, and what lies beside it still counts
    assert rh.open(tmp_path).facts["member"] == "a.pth"
    assert rh.audit(tmp_path).verdict == "dangerous"


def test_one_of_several_is_verified_by_its_name(tmp_path: Path) -> None:
    save(tmp_path / "a.pth", 1)
    save(tmp_path / "b.pth", 2)
    with pytest.raises(rh.SeveralError) as caught:
        rh.verify(tmp_path)
    assert caught.value.choices == ("a.pth", "b.pth")
    assert rh.verify(tmp_path, member="b.pth")


def test_folders_inside_one_are_named_and_not_searched(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    save(tmp_path / "unet" / "w.pth")
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(NotACheckpointError, match="none of its files") as caught:
        rh.open(tmp_path)
    assert "folders: unet" in str(caught.value)
