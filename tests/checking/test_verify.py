"""rh.verify: whether a file is as it was written; what is wrong has a name."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

import rehydrate as rh

SIZES = {"a.weight": 40, "a.bias": 3, "b.weight": 700, "c": 0, "d": 17}


def state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(size, generator=generator) for name, size in SIZES.items()}


def saved(value: object, **how: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **how)
    return buffer.getvalue()


def test_a_whole_file_is_fine_and_says_what_was_compared() -> None:
    fine = rh.verify(saved(state()))
    assert fine
    assert (fine.tensors, fine.missing, fine.damaged, fine.checksums) == (5, (), (), "crc32")
    assert fine.checked >= 5
    assert "as it was written" in str(fine)
    fine.raise_if_bad()


def test_a_flipped_byte_of_a_tensor_is_found_and_the_tensor_named() -> None:
    """Every byte of a small file: the data is the same, it is refused, or the right tensor is named."""
    values = {"a": torch.arange(5.0), "b": torch.arange(3)}
    data = saved(values)
    places = {
        name: range(at, at + len(content))
        for name, tensor in values.items()
        for content in (tensor.numpy().tobytes(),)
        for at in (data.index(content),)
    }
    for at in range(len(data)):
        found = rh.verify(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
        names = {name for damage in found.damaged for name in damage.tensors}
        for name, place in places.items():
            if at in place:
                assert (bool(found), names) == (False, {name})
        if found:
            assert found.format == "torch-zip"


def test_shared_tensors_are_damaged_together() -> None:
    whole = torch.arange(100.0)
    data = bytearray(saved({"whole": whole, "half": whole[:50], "other": torch.ones(9)}))
    data[data.index(whole.numpy().tobytes()) + 7] ^= 1
    (damage,) = rh.verify(bytes(data)).damaged
    assert set(damage.tensors) == {"whole", "half"}
    assert damage.part == "archive/data/0"


def test_a_file_cut_anywhere_is_never_fine_and_what_is_whole_is_known() -> None:
    values = state()
    data = saved(values)
    ends = {
        name: data.index(tensor.numpy().tobytes()) + tensor.numel() * 4 if tensor.numel() else 0
        for name, tensor in values.items()
    }
    directory = data.index(b"PK\1\2")
    for length in [*range(directory - 40, len(data)), *random.Random(1).sample(range(1, directory), 300)]:
        found = rh.verify(data[:length])
        assert not found
        assert found.refusal is not None
        if found.format:
            assert found.have == length
            assert set(found.missing) == {name for name, end in ends.items() if end > length}
            assert found.expected is None or length < found.expected <= len(data)
    with pytest.raises(rh.TruncatedError):
        rh.verify(data[:-1]).raise_if_bad()


def test_a_tail_of_zeros_is_a_cut_file() -> None:
    values = state()
    data = saved(values)
    cut = data.index(values["b.weight"].numpy().tobytes()) + 100
    found = rh.verify(data[:cut] + bytes(len(data) - cut))
    assert set(found.missing) >= {"b.weight", "d"}
    assert "a.weight" not in found.missing


def test_a_file_without_checksums_says_so_and_is_not_called_damaged() -> None:
    torch.serialization.set_crc32_options(False)
    try:
        data = saved(state())
    finally:
        torch.serialization.set_crc32_options(True)
    found = rh.verify(data)
    assert found
    assert found.checked == 0
    assert "no checksums" in str(found)


def test_a_cut_legacy_file_is_not_fine() -> None:
    data = saved(state(), _use_new_zipfile_serialization=False)
    assert rh.verify(data)
    assert not rh.verify(data[:-5])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.float8_e5m2])
def test_numbers_that_are_none_are_counted(dtype: torch.dtype) -> None:
    values = torch.zeros(50)
    values[3], values[7], values[9] = float("nan"), float("inf"), float("-inf")
    data = saved({"bad": values.to(dtype), "good": torch.ones(9).to(dtype), "whole": torch.ones(3, dtype=torch.int64)})
    assert rh.verify(data)
    found = rh.verify(data, values=True)
    assert not found
    assert found.strange is not None
    assert [(each.tensor, each.nan, each.inf) for each in found.strange] == [("bad", 1, 2)]
    assert "bad: 1 NaN and 2 infinite" in str(found)


def test_numbers_of_large_and_odd_tensors_are_counted_in_parts() -> None:
    large = torch.zeros(3000, 1500)
    large[2999, 1499] = float("nan")
    row = torch.full((1,), float("inf"))
    data = saved({"large": large, "turned": large.t(), "expanded": row.expand(1 << 40), "complex": torch.zeros(2) * 1j})
    found = rh.verify(data, values=True).strange
    assert found is not None
    assert [(each.tensor, each.nan) for each in found if each.nan] == [("large", 1), ("turned", 1)]
    assert [each.tensor for each in found if each.inf] == ["expanded"]


def test_what_is_no_checkpoint_is_not_fine_and_what_is_missing_is_an_error() -> None:
    assert not rh.verify(b"<!doctype html><title>a</title>")
    with pytest.raises(rh.NotACheckpointError):
        rh.verify(b"version https://git-lfs.github.com/spec/v1\n").raise_if_bad()
    with pytest.raises(rh.MissingFileError):
        rh.verify("no such file")


def test_a_report_is_plain_data() -> None:
    data = bytearray(saved(state()))
    data[data.index(state()["d"].numpy().tobytes())] ^= 1
    for found in (rh.verify(bytes(data), values=True), rh.verify(bytes(data[:-9]))):
        assert json.loads(json.dumps(found.to_dict()))["ok"] is False
        assert dict(found.__rich_repr__())["fine"] is False
    with pytest.raises(rh.CorruptError):
        rh.verify(bytes(data)).raise_if_bad()


def test_an_npz_is_verified_as_well(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(100.0), y=np.arange(3))
    data = bytearray((tmp_path / "a.npz").read_bytes())
    assert rh.verify(bytes(data))
    data[data.index(np.arange(100.0).tobytes()) + 400] ^= 4
    assert [damage.tensors for damage in rh.verify(bytes(data)).damaged] == [("x",)]


def test_real_files_are_as_they_were_written(test_data: Path) -> None:
    folder = test_data / "checkpoints"
    for entry in json.loads((folder / "index.json").read_text("utf-8")):
        if entry["torch_load_weights_only"]:
            assert rh.verify(folder / entry["path"]), entry["path"]
