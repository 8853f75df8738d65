"""HDF5, against h5py: what it wrote comes out; what hostile bytes do ends in a process that is not ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rehydrate as rh
from rehydrate.checkpoint.record import Record
from rehydrate.errors import CorruptError, LimitError, MissingExtraError, RebuildError, TruncatedError
from rehydrate.formats.hdf5 import apart
from rehydrate.formats.opening import open_checkpoint
from rehydrate.storage.source import MemorySource

from ..effort import tried
from ..hostile.hdf5_files import NOWHERE, Fields, hdf5_of

KINDS = ["?", "i1", "u1", "<i2", ">i4", "<i8", "<u2", ">u8", "<f2", ">f2", "<f4", ">f4", "<f8", ">f8", "<c8", "<c16"]


def written(folder: Path, fill: Any, **how: Any) -> Path:
    path = folder / "x.h5"
    with h5py.File(path, "w", **how) as file:
        fill(file)
    return path


def same(found: Any, wanted: Any) -> bool:
    wanted = numpy.asarray(wanted)
    wanted = wanted.astype(wanted.dtype.newbyteorder("="))
    return found.dtype == wanted.dtype and found.shape == wanted.shape and found.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("libver", ["earliest", "latest", "v108"])
def test_every_type_of_numbers_comes_out(libver: str, tmp_path: Path) -> None:
    kinds = KINDS if libver != "latest" else [kind for kind in KINDS if "c" not in kind]  # a class pyfive lacks
    arrays = {kind: numpy.arange(6).reshape(2, 3).astype(kind) for kind in kinds}

    def fill(file: Any) -> None:
        for name, array in arrays.items():
            file.create_dataset(f"of/{name}", data=array)

    with rh.open(written(tmp_path, fill, libver=libver)) as checkpoint:
        assert checkpoint.format == "hdf5"
        for name, array in arrays.items():
            assert same(checkpoint.tree["of"][name].numpy(), array)


@given(
    kind=st.sampled_from([">i2", "<f4", "<f8"]),
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple),
    data=st.data(),
)
@tried(12)
def test_chunks_are_put_together(kind: str, shape: tuple[int, ...], data: st.DataObject, tmp_path_factory: Any) -> None:
    box = tuple(data.draw(st.integers(1, extent), label="box") for extent in shape)
    filters = data.draw(st.fixed_dictionaries({}, optional={
        "compression": st.sampled_from(["gzip", "lzf"]), "shuffle": st.just(True), "fletcher32": st.just(True),
    }), label="filters")  # fmt: skip
    array = (
        numpy.random.default_rng(0).integers(0, data.draw(st.sampled_from([2, 9]), label="values"), shape).astype(kind)
    )
    rows = data.draw(st.integers(0, shape[0]), label="rows that are written")
    first = data.draw(st.integers(0, shape[0] - 1), label="first")

    def fill(file: Any) -> None:
        dataset = file.create_dataset("w", shape, kind, chunks=box, fillvalue=7, **filters)
        dataset[:rows] = array[:rows]

    path = written(tmp_path_factory.mktemp("h5"), fill)
    with rh.open(path) as checkpoint, h5py.File(path) as file:
        wanted = file["w"][()]
        assert same(checkpoint["w"].numpy(), wanted)
        assert same(checkpoint["w"][first:].numpy(), wanted[first:])
        assert same(checkpoint["w"][first].numpy(), wanted[first])


def test_what_keras_writes_is_nested_dicts_and_its_attributes_are_facts(tmp_path: Path) -> None:
    def fill(file: Any) -> None:
        file.attrs["keras_version"], file.attrs["backend"] = "2.9.0", "tensorflow"
        file.attrs["model_config"] = '{"class_name": "Sequential"}'
        file.attrs["layer_names"] = [b"dense", b"flatten"]
        group = file.create_group("dense")
        group.attrs["weight_names"] = [b"dense/kernel:0", b"dense/bias:0"]
        group["dense/kernel:0"] = numpy.ones((3, 2), "f4")
        group["dense/bias:0"] = numpy.zeros(2, "f4")
        file.create_group("flatten")

    with rh.open(written(tmp_path, fill)) as checkpoint:
        assert sorted(checkpoint) == ["dense.dense.bias:0", "dense.dense.kernel:0"]
        assert checkpoint.tree["flatten"] == {}
        assert checkpoint.facts["writer"] == "Keras 2.9.0 on tensorflow"
        assert checkpoint.facts["attributes"] == {
            "/": {"keras_version": "2.9.0", "backend": "tensorflow", "model_config": '{"class_name": "Sequential"}',
                  "layer_names": ["dense", "flatten"]},
            "/dense": {"weight_names": ["dense/kernel:0", "dense/bias:0"]},
        }  # fmt: skip


def test_text_links_structures_and_nothing(tmp_path: Path) -> None:
    def fill(file: Any) -> None:
        file["a"] = numpy.arange(3)
        file["text"], file["texts"] = "hallo", ["x", "yz"]
        file["again"] = file["a"]
        file["soft"] = h5py.SoftLink("/a")
        file["pairs"] = numpy.zeros(2, [("x", "f4"), ("y", "i4")])
        file["none"] = h5py.Empty("f4")
        file.create_dataset("never", (4,), "f8", fillvalue=2.5)
        file["up"] = file["/"]

    with rh.open(written(tmp_path, fill)) as checkpoint:
        tree = checkpoint.tree
        assert (tree["text"], tree["texts"], tree["none"]) == ("hallo", ["x", "yz"], None)
        assert tree["again"].storage is tree["a"].storage
        assert all(type(tree[name]) is Record for name in ("soft", "pairs"))
        assert tree["never"].numpy().tolist() == [2.5] * 4
        assert tree["up"] is tree


def test_numbers_inside_the_index_itself(tmp_path: Path) -> None:
    array = numpy.arange(6, dtype=">f4").reshape(2, 3)

    def fill(file: Any) -> None:
        how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        how.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple(array.shape)
        h5py.h5d.create(file.id, b"w", h5py.h5t.py_create(array.dtype), space, how).write(
            h5py.h5s.ALL, h5py.h5s.ALL, array
        )

    with rh.open(written(tmp_path, fill)) as checkpoint:
        assert same(checkpoint["w"].numpy(), array)


def test_many_things_in_one_group_of_every_version(tmp_path: Path) -> None:
    for libver in ("earliest", "v108", "latest"):

        def fill(file: Any) -> None:
            for number in range(50):
                file[f"g/w{number}"] = numpy.full(3, number)
            for number in range(20):
                file["g"].attrs[f"a{number}"] = number

        with rh.open(written(tmp_path, fill, libver=libver)) as checkpoint:
            assert [checkpoint[f"g.w{number}"].numpy()[0] for number in range(50)] == list(range(50))
            attributes = checkpoint.facts["attributes"]["/g"]  # type: ignore[index]
            assert attributes == {f"a{number}": number for number in range(20)}


def test_a_file_with_something_of_the_users_before_it(tmp_path: Path) -> None:
    path = written(tmp_path, lambda file: file.create_dataset("w", data=numpy.arange(5)), userblock_size=1024)
    with rh.open(path) as checkpoint:
        assert checkpoint["w"].numpy().tolist() == [0, 1, 2, 3, 4]


def test_long_runs_that_lzf_packs_come_out(tmp_path: Path) -> None:
    array = numpy.repeat(numpy.arange(40, dtype="u1"), 700)
    path = written(tmp_path, lambda file: file.create_dataset("w", data=array, chunks=(9000,), compression="lzf"))
    with rh.open(path) as checkpoint:
        assert same(checkpoint["w"].numpy(), array)


def test_numbers_packed_with_what_we_do_not_unpack_say_so(tmp_path: Path) -> None:
    path = written(tmp_path, lambda file: file.create_dataset("w", data=numpy.arange(99), chunks=(9,), scaleoffset=0))
    with rh.open(path) as checkpoint, pytest.raises(RebuildError, match="packed with scale-offset"):
        checkpoint["w"].numpy()


def test_floats_of_another_kind_are_not_taken_for_those_we_know() -> None:
    with rh.open(hdf5_of(Fields(exponent=(20, 8, 0, 20, 127)))) as checkpoint:
        assert type(checkpoint.tree["g"]["w"]) is Record
    with rh.open(hdf5_of(Fields(bits=24))) as checkpoint:
        assert type(checkpoint.tree["g"]["w"]) is Record
    halves = Fields(type_size=2, exponent=(7, 8, 0, 7, 127), extents=(2,))
    with rh.open(hdf5_of(halves)) as checkpoint:
        assert checkpoint["g.w"].dtype.name == "bfloat16"


def test_the_assembler_of_the_hostile_files_makes_files_that_h5py_reads(tmp_path: Path) -> None:
    for said in (Fields(), Fields(layout=2)):
        (tmp_path / "x.h5").write_bytes(hdf5_of(said))
        with h5py.File(tmp_path / "x.h5") as file, rh.open(tmp_path / "x.h5") as checkpoint:
            assert checkpoint["g.w"].numpy().tolist() == file["g/w"][()].tolist() == [1, 2, 3, 4]


def test_a_changed_checksum_of_a_chunk_is_seen(tmp_path: Path) -> None:
    path = written(tmp_path, lambda file: file.create_dataset("w", data=numpy.arange(9), chunks=(9,), fletcher32=True))
    data = path.read_bytes()
    at = data.index(numpy.arange(9).tobytes())
    with rh.open(data[:at] + b"\1" + data[at + 1 :]) as checkpoint, pytest.raises(CorruptError, match="fletcher32"):
        checkpoint["w"].numpy()


def test_a_cut_file_says_how_much_is_there(tmp_path: Path) -> None:
    data = written(tmp_path, lambda file: file.create_dataset("w", data=numpy.arange(1000))).read_bytes()
    for end in (9, 40, 100, len(data) - 1):
        with pytest.raises(TruncatedError):
            rh.open(data[:end])


def test_what_is_left_of_a_cut_file_opens_when_it_is_asked_for(tmp_path: Path) -> None:
    data = written(tmp_path, lambda file: file.create_dataset("w", data=numpy.arange(1000))).read_bytes()
    with open_checkpoint(data[:-4000], is_cut=True) as checkpoint:
        assert not checkpoint["w"].is_whole


def test_reading_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "loops.py"
    text = Path(apart.SCRIPT).read_text()
    assert "    yield _group([], file)\n" in text
    script.write_text(text.replace("    yield _group([], file)\n", "    while True:\n        yield from ()\n"))
    monkeypatch.setattr(apart, "SCRIPT", str(script))
    monkeypatch.setattr(apart, "_SECONDS", 1)
    with pytest.raises(LimitError, match="more time or memory"):
        apart.read_index(MemorySource(hdf5_of(Fields())))


def test_what_the_watchdog_says_is_no_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "ended.py"
    script.write_text("print('Timeout (0:00:20)!\\nThread 0x00007fcec01de190 (most recent call first):')")
    monkeypatch.setattr(apart, "SCRIPT", str(script))
    with pytest.raises(LimitError, match="more time or memory"):
        apart.read_index(MemorySource(hdf5_of(Fields())))


def test_without_pyfive_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "lacks.py"
    script.write_text(Path(apart.SCRIPT).read_text().replace("import pyfive", "import pyfive_that_nobody_has"))
    monkeypatch.setattr(apart, "SCRIPT", str(script))
    with pytest.raises(MissingExtraError, match=r"pip install 'rehydrate\[hdf5\]'"):
        apart.read_index(MemorySource(hdf5_of(Fields())))


def test_opening_other_files_loads_neither_pyfive_nor_what_starts_processes() -> None:
    code = "import rehydrate as rh, sys; rh.open(b'N.'); print({'pyfive', 'subprocess', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_an_index_that_leads_nowhere_is_an_error() -> None:
    for said in (Fields(root_tree=NOWHERE), Fields(root_link=0), Fields(group_link=100_000)):
        with pytest.raises(CorruptError):
            rh.open(hdf5_of(said))


def test_the_real_files_are_what_h5py_reads(test_data: Path) -> None:
    found = [path for path in sorted((test_data / "checkpoints").rglob("*")) if path.suffix in (".h5", ".hdf5")]
    assert found
    for path in found:
        with rh.open(path) as checkpoint, h5py.File(path) as file:
            wanted: dict[tuple[str, ...], Any] = {}
            file.visititems(
                lambda name, value, wanted=wanted: wanted.__setitem__(tuple(name.split("/")), value[()])
                if isinstance(value, h5py.Dataset) else None
            )  # fmt: skip
            assert len(checkpoint) == len(wanted)
            assert all(same(checkpoint[name].numpy(), value) for name, value in wanted.items())


def test_numbered_weights_of_keras_3_are_one_model_and_its_optimizer_none(tmp_path: Path) -> None:
    def fill(file: Any) -> None:
        for layer in ("conv2d", "dense"):
            file[f"layers/{layer}/vars/0"] = numpy.ones((3, 3), "f4")
            file[f"layers/{layer}/vars/1"] = numpy.ones(3, "f4")
        file.create_group("vars")
        for number in range(4):
            file[f"optimizer/vars/{number}"] = numpy.ones((3, 3), "f4")

    with rh.open(written(tmp_path, fill)) as checkpoint:
        assert list(checkpoint.weights()) == ["conv2d.vars.0", "conv2d.vars.1", "dense.vars.0", "dense.vars.1"]


def test_what_matlab_refers_to_is_no_variable(tmp_path: Path) -> None:
    def fill(file: Any) -> None:
        file["#refs#/a"] = numpy.ones((4, 4))
        file["W"] = numpy.ones((3, 2))

    with rh.open(written(tmp_path, fill)) as checkpoint:
        assert list(checkpoint.weights()) == ["W"]


def test_datasets_of_both_byte_orders_load_together(tmp_path: Path) -> None:
    def fill(file: Any) -> None:
        file["a"] = numpy.arange(4, dtype="<f4")
        file["b"] = numpy.arange(4, dtype=">f4")

    loaded: Any = rh.load(written(tmp_path, fill))
    assert loaded["a"].tolist() == loaded["b"].tolist() == [0, 1, 2, 3]
