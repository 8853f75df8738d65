"""numpy's archives, against numpy; and the real ones, where there are some."""

from __future__ import annotations

import contextlib
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rehydrate as rh
from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.errors import AmbiguousError, CorruptError, NotACheckpointError
from rehydrate.storage.source import MemorySource

from ..effort import tried
from .test_npy import arrays, same, saved

Array = numpy.ndarray[Any, Any]

names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)


def archive(contents: dict[str, Array], *, packed: bool = False) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as file:
        for name, array in contents.items():
            file.writestr(f"{name}.npy", saved(array))
    return buffer.getvalue()


@given(st.dictionaries(names, arrays, min_size=1, max_size=4), st.booleans())
@tried(60)
def test_every_array_comes_out_under_its_name(contents: dict[str, Array], packed: bool) -> None:
    with rh.open(archive(contents, packed=packed)) as checkpoint:
        assert checkpoint.format == "npz"
        assert list(checkpoint.tree) == list(contents)
        assert all(same(checkpoint.tree[name], array) for name, array in contents.items())


@pytest.mark.parametrize("save", [numpy.savez, numpy.savez_compressed])
def test_what_numpy_writes_opens(save: Any, tmp_path: Path) -> None:
    weight = numpy.arange(60_000, dtype="f4").reshape(300, 200)
    save(tmp_path / "x.npz", weight, names=numpy.array(["a", "bc"]), **{"layer/bias": numpy.ones(3)})
    with rh.open(tmp_path / "x.npz") as checkpoint:
        assert set(checkpoint.tree) == {"arr_0", "names", "layer/bias"}
        assert checkpoint.facts["writer"] == f"numpy.{save.__name__}"
        assert checkpoint.tree["names"] == ["a", "bc"]
        assert same(checkpoint["arr_0"], weight)
        assert checkpoint["arr_0"][7, 3:5].numpy().tolist() == weight[7, 3:5].tolist()


def test_opening_inflates_headers_and_no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    data = archive({"w": numpy.random.default_rng(0).random(1 << 20)}, packed=True)
    read: list[int] = []
    ask = MemorySource.read

    def counted(self: MemorySource, start: int, length: int) -> bytes:
        read.append(length)
        return ask(self, start, length)

    monkeypatch.setattr(MemorySource, "read", counted)
    rh.open(data)
    assert sum(read) < 400_000 < len(data)


def test_a_checksum_says_what_the_bytes_should_be() -> None:
    with rh.open(archive({"w": numpy.arange(5)}, packed=True)) as checkpoint:
        assert checkpoint.checksums is not None
        (checksum,) = checkpoint.checksums()
        assert (checksum.name, checksum.kind) == ("w.npy", "crc32")
        assert b"".join(checksum.read()) == saved(numpy.arange(5))


def test_a_sparse_matrix_is_its_arrays() -> None:
    parts = {"indices": numpy.array([0, 2]), "indptr": numpy.array([0, 1, 2]), "format": numpy.array(b"csr"),
             "shape": numpy.array([2, 3]), "data": numpy.array([1.0, 2.0])}  # fmt: skip
    with rh.open(archive(parts, packed=True)) as checkpoint:
        assert checkpoint.tree["format"] == b"csr"
        assert list(checkpoint) == ["indices", "indptr", "shape", "data"]


def test_arrays_of_objects_are_read_as_data() -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return print, ("it ran",)

    array = numpy.array([Evil(), 2], dtype=object)
    for packed in (False, True):
        with rh.open(archive({"o": array, "w": numpy.ones(2)}, packed=packed)) as checkpoint:
            assert "builtins.print" in checkpoint.facts["calls"]  # type: ignore[operator]
            assert [trace.where for trace in checkpoint.traces] == ["o.npy"]
            assert isinstance(checkpoint.tree["w"], TensorRef)


def test_an_error_names_the_member() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("good.npy", saved(numpy.ones(1)))
        file.writestr("bad.npy", b"no array at all")
    with pytest.raises(CorruptError, match=r"bad\.npy"):
        rh.open(buffer.getvalue())


def test_a_member_with_more_than_its_array_is_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("w.npy", saved(numpy.ones(1)) + b"more")
    with pytest.raises(AmbiguousError, match="after the array"):
        rh.open(buffer.getvalue())


def test_a_zip_with_something_else_in_it_is_no_npz() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("w.npy", saved(numpy.ones(1)))
        file.writestr("notes.txt", "hallo")
    with contextlib.suppress(NotACheckpointError):
        assert rh.open(buffer.getvalue()).format != "npz"


def test_a_changed_byte_of_a_deflated_member_gives_other_numbers_or_an_error_and_nothing_else() -> None:
    data = archive({"w": numpy.random.default_rng(0).random(30)}, packed=True)
    for at in range(len(data)):
        changed = data[:at] + bytes((data[at] ^ 0x10,)) + data[at + 1 :]
        try:
            for ref in rh.open(changed).values():
                ref.numpy()
        except rh.RehydrateError:
            continue


def test_real_archives_are_what_numpy_reads(test_data: Path) -> None:
    found = sorted((test_data / "checkpoints").rglob("*.npz"))
    assert found
    for path in found:
        with rh.open(path) as checkpoint, numpy.load(path) as arrays:
            assert list(checkpoint.tree) == arrays.files
            assert all(same(checkpoint.tree[name], arrays[name]) for name in arrays.files)


def test_each_array_has_the_byte_order_of_its_own() -> None:
    contents = {
        "little": numpy.arange(3, dtype="<f4"),
        "big": numpy.arange(3, dtype=">f4"),
        "last": numpy.ones(2, "<i8"),
    }
    loaded: Any = rh.load(archive(contents))
    assert {name: tensor.tolist() for name, tensor in loaded.items()} == {
        name: array.tolist() for name, array in contents.items()
    }
