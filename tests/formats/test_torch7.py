"""Files of Torch7 in every spelling, held against what was written, and real ones against what their project says."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rehydrate as rh
from rehydrate.checkpoint.record import Record
from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.formats.opening import open_checkpoint

from ..effort import tried
from ..hostile.torch7_files import ENCODINGS, Counted, Function, Instance, Lua, Storage, Tensor

every_encoding = pytest.mark.parametrize("encoding", ENCODINGS)


def opened(value: object, encoding: str = "binary") -> Any:
    return rh.open(Lua(**ENCODINGS[encoding]).of(value))


def linear(*, weight: list[float], bias: list[float], out: int) -> Instance:
    fields = {
        "gradInput": Tensor("Double", []),
        "bias": Tensor("Float", bias),
        "weight": Tensor("Float", weight, [out, len(weight) // out]),
        "gradBias": Tensor("Float", [0.0] * len(bias)),
        "gradWeight": Tensor("Float", [0.0] * len(weight), [out, len(weight) // out]),
        "output": Tensor("Float", [9.0, 9.0]),
        "_type": "torch.FloatTensor",
    }
    return Instance("nn.Linear", fields)


@every_encoding
def test_plain_values_are_what_they_were(encoding: str) -> None:
    value = {"text": "grüße", "raw": b"\xff\xfe", "yes": True, "no": False, "n": 3, "x": 0.1, "list": [1, "b", [2]]}
    with opened(value, encoding) as checkpoint:
        assert checkpoint.format == "torch7"
        assert checkpoint.tree == value
        assert type(checkpoint.tree["n"]) is int


@every_encoding
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("Byte", "uint8"), ("Char", "int8"), ("Short", "int16"), ("Int", "int32"), ("Long", "int64"),
        ("Half", "float16"), ("Float", "float32"), ("Double", "float64"),
    ],
)  # fmt: skip
def test_tensors_of_every_type_have_their_numbers(encoding: str, kind: str, dtype: str) -> None:
    numbers = (
        [1, 2, 3, 5, 8, 13] if kind in ("Byte", "Char", "Short", "Int", "Long") else [0.1, -2.5, 3, math.inf, 0, 7]
    )
    expected = numpy.array(numbers, dtype).reshape(2, 3)
    if kind == "Long" and "4 bytes" in encoding:
        dtype = "int32"  # a long of that machine
    with opened({"w": Tensor(kind, numbers, [2, 3])}, encoding) as checkpoint:
        ref = checkpoint["w"]
        assert (ref.dtype.name, ref.shape) == (dtype, (2, 3))
        assert numpy.array_equal(ref.numpy(), expected)
        assert numpy.array_equal(ref[1, 1:].numpy(), expected[1, 1:])


@every_encoding
def test_views_share_their_storage(encoding: str) -> None:
    storage = Storage("Float", list(range(12)))
    tensors = {
        "all": Tensor("Float", storage, [3, 4]),
        "turned": Tensor("Float", storage, [4, 3], [1, 4]),
        "part": Tensor("Float", storage, [2, 2], [4, 1], 6),
    }
    base = numpy.arange(12, dtype="f4").reshape(3, 4)
    with opened(tensors, encoding) as checkpoint:
        assert len({id(ref.storage) for ref in checkpoint.values()}) == 1
        assert numpy.array_equal(checkpoint["all"].numpy(), base)
        assert numpy.array_equal(checkpoint["turned"].numpy(), base.T)
        assert numpy.array_equal(checkpoint["part"].numpy(), base[1:3, 1:3])


@every_encoding
def test_objects_are_shared_and_may_contain_themselves(encoding: str) -> None:
    table: dict[str, object] = {"n": 1}
    table["self"] = table
    module = Instance("A", {"table": table})
    module.fields["self"] = module
    with opened([table, table, module], encoding) as checkpoint:
        first, second, third = checkpoint.tree
        assert first is second is first["self"] is third.state["table"]
        assert third.state["self"] is third
        assert list(checkpoint) == []


def test_a_list_that_contains_itself_is_that_list() -> None:
    loop: list[object] = [1]
    loop.append(loop)
    with opened(loop) as checkpoint:
        assert checkpoint.tree[1] is checkpoint.tree


def test_a_table_is_a_list_where_its_keys_count_from_one() -> None:
    with opened([{2: "b", 1: "a", 3: "c"}, {0: "a", 1: "b"}, {1: "a", 3: "c"}, {1: "a", "n": 2}, {}]) as checkpoint:
        assert checkpoint.tree == [["a", "b", "c"], {0: "a", 1: "b"}, {1: "a", 3: "c"}, {1: "a", "n": 2}, []]


def test_a_table_with_tables_for_keys_keeps_its_pairs() -> None:
    stream = Lua()
    for number in (3, 1, 2, 3, 2, 0):  # a table of two pairs, whose first key is a table without any
        stream.integer(number)
    stream.object("value")
    stream.object(True)
    stream.object(5)
    with rh.open(bytes(stream.out)) as checkpoint:
        table = checkpoint.tree
        assert (table.path, table.items) == ("lua.table", [([], "value"), (True, 5)])


def test_many_numbers_far_apart_are_kept_as_pairs_because_they_may_be_chosen() -> None:
    with opened({(at + 1) << 32: at for at in range(10_000)}) as checkpoint:
        assert type(checkpoint.tree) is Record
        assert checkpoint.tree.items[5] == (6 << 32, 5)
    with opened({at * 3: at for at in range(10_000)}) as checkpoint:
        assert checkpoint.tree[300] == 100


@every_encoding
def test_containers_of_tds_are_tables(encoding: str) -> None:
    with opened({"h": Counted({"a": 1, "b": Counted([5, None, "x"])}), "e": Counted([])}, encoding) as checkpoint:
        assert checkpoint.tree == {"h": {"a": 1, "b": [5, None, "x"]}, "e": []}


@every_encoding
def test_a_storage_that_stands_alone_is_a_tensor(encoding: str) -> None:
    with opened({"size": Storage("Long", [2, 3, 4])}, encoding) as checkpoint:
        assert checkpoint["size"].numpy().tolist() == [2, 3, 4]


@every_encoding
@pytest.mark.parametrize("kind", [6, 7, 8])
def test_functions_are_bytecode_that_is_shown(encoding: str, kind: int) -> None:
    function = Function(b"\x1bLJ\x01code", [{"name": "a", "value": 3}], kind)
    with opened({"f": function, "g": function}, encoding) as checkpoint:
        record = checkpoint.tree["f"]
        assert record.path == "lua.function"
        assert record.state == {"code": b"\x1bLJ\x01code", "upvalues": [{"name": "a", "value": 3}]}
        assert len(checkpoint.facts["code"]) == (2 if kind == 6 else 1)
        assert (checkpoint.tree["g"] is record) == (kind != 6)


def test_an_object_of_before_there_were_versions_opens() -> None:
    with opened(Instance("nn.Old", {"a": 1}, version=None)) as checkpoint:
        assert (checkpoint.tree.path, checkpoint.tree.state, checkpoint.tree.kwargs["version"]) == (
            "nn.Old",
            {"a": 1},
            0,
        )


def test_tensors_of_a_gpu_open_and_tell_where_they_were() -> None:
    tensors = {"w": Tensor("Float", [1.5, 2], prefix="Cuda"), "n": Tensor("Long", [1], prefix="Cuda")}
    with opened(tensors) as checkpoint:
        assert checkpoint.facts["saved_on"] == ("cuda",)
        assert checkpoint["w"].numpy().tolist() == [1.5, 2]
        assert checkpoint["n"].dtype.name == "int64"


@every_encoding
def test_a_network_gives_its_weights_under_the_names_that_it_has_in_pytorch(encoding: str) -> None:
    norm = Instance(
        "nn.BatchNormalization",
        {
            "weight": Tensor("Float", [1, 1]), "bias": Tensor("Float", [0, 0]), "eps": 1e-5,
            "running_mean": Tensor("Float", [0.5, 0.5]), "running_var": Tensor("Float", [2, 2]),
            "gradWeight": Tensor("Float", [3, 3]), "output": Tensor("Float", []), "save_mean": Tensor("Float", [4, 4]),
        },
    )  # fmt: skip
    inner = Instance("nn.Sequential", {"modules": [linear(weight=[5, 6], bias=[7], out=1)], "_type": "x"})
    network = Instance(
        "nn.Sequential",
        {
            "modules": [
                linear(weight=[1, 2, 3, 4], bias=[8, 9], out=2),
                Instance("nn.ReLU", {"inplace": True}),
                norm,
                inner,
            ]
        },
    )
    with opened(
        {"model": network, "epoch": 3, "optimState": {"dfdx": Tensor("Float", [0] * 9)}}, encoding
    ) as checkpoint:
        weights = checkpoint.weights(which="model")
        assert list(weights) == [
            "0.weight", "0.bias", "2.weight", "2.bias", "2.running_mean", "2.running_var", "3.0.weight", "3.0.bias",
        ]  # fmt: skip
        assert weights["0.weight"].numpy().tolist() == [[1, 2], [3, 4]]
        record = checkpoint.tree["model"]
        assert (record.module, record.name) == ("nn", "Sequential")
        assert record.state["modules"][0].state["gradWeight"].shape == (2, 2)
        assert checkpoint.facts["classes"] == ("nn.BatchNormalization", "nn.Linear", "nn.ReLU", "nn.Sequential")


def test_a_parameter_of_any_name_is_known_by_its_gradient() -> None:
    fields = {
        "g": Tensor("Float", [1]),
        "v": Tensor("Float", [2]),
        "gradG": Tensor("Float", [0]),
        "gradV": Tensor("Float", [0]),
    }
    layer = Instance(
        "nn.WeightNorm", {"modules": [], "gradInput": Tensor("Float", [5]), "input": Tensor("Float", [6]), **fields}
    )
    with opened(layer) as checkpoint:
        assert list(checkpoint) == ["g", "v"]


def test_an_empty_tensor_is_one_without_elements() -> None:
    with opened({"w": Tensor("Double", [])}) as checkpoint:
        assert (checkpoint["w"].shape, checkpoint["w"].numpy().shape) == ((0,), (0,))


def test_numbers_that_are_none_are_read_from_text_as_both_c_libraries_write_them() -> None:
    data = Lua(is_ascii=True).of({"w": Tensor("Float", [1, 2, 3, 4])})
    spelled = data.replace(b"1 2 3 4\n", b"-nan inf 1.#INF -1.#IND\n")
    with rh.open(spelled) as checkpoint:
        assert str(checkpoint["w"].numpy().tolist()) == "[nan, inf, inf, nan]"
    with rh.open(data.replace(b"1 2 3 4\n", b"1 2 x 4\n")) as checkpoint, pytest.raises(rh.CorruptError, match="none"):
        checkpoint["w"].numpy()


def test_a_large_storage_in_text_is_read_where_it_is_wanted() -> None:
    numbers = numpy.random.default_rng(0).normal(size=50_000).astype("f4")
    with opened({"w": Tensor("Float", numbers.tolist())}, "ascii") as checkpoint:
        assert numpy.array_equal(checkpoint["w"].numpy(), numbers)
        assert numpy.array_equal(checkpoint["w"][40_000:40_010].numpy(), numbers[40_000:40_010])


@every_encoding
def test_a_cut_file_says_so_and_its_whole_tensors_can_be_had(encoding: str) -> None:
    tensors = [Tensor("Double", [at + 0.5] * 20) for at in range(3)]
    data = Lua(**ENCODINGS[encoding]).of({"a": tensors[0], "deep": {"b": tensors[1], "c": tensors[2]}})
    cut = data[:-30]
    with pytest.raises(rh.TruncatedError, match="ends early"):
        rh.open(cut)
    with open_checkpoint(cut, is_cut=True) as checkpoint:
        whole = {name: ref.numpy()[0] for name, ref in checkpoint.items() if ref.is_whole}
        assert whole == {"a": 0.5, "deep.b": 1.5}


@every_encoding
def test_every_shorter_file_is_refused(encoding: str) -> None:
    data = Lua(**ENCODINGS[encoding]).of({"w": Tensor("Float", [1, 2]), "f": Function(), "n": [True, None, 2.5]})
    for length in range(len(data) - ("ascii" in encoding)):
        with pytest.raises(rh.RehydrateError):
            rh.open(data[:length])


def test_bytes_after_the_object_are_an_error() -> None:
    with pytest.raises(rh.AmbiguousError, match="after the end of the object"):
        rh.open(Lua().of({"a": 1}) + b"\0\0\0\0")


VALUES = st.recursive(
    st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(min_size=1, max_size=8), inner, min_size=1, max_size=4)
    ),
    max_leaves=15,
)


@tried(300)
@given(value=st.lists(VALUES, max_size=3), encoding=st.sampled_from(sorted(ENCODINGS)))
def test_any_tree_comes_back(value: list[object], encoding: str) -> None:
    with opened(value, encoding) as checkpoint:
        assert checkpoint.tree == value


@tried(300)
@given(data=st.data(), encoding=st.sampled_from(sorted(ENCODINGS)))
def test_a_changed_byte_is_refused_or_opens(data: st.DataObject, encoding: str) -> None:
    module = linear(weight=[1, 2], bias=[3], out=1)
    whole = Lua(**ENCODINGS[encoding]).of({"m": module, "h": Counted({"a": Function()}), "s": Storage("Long", [1])})
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = whole[:at] + bytes([data.draw(st.integers(0, 255))]) + whole[at + 1 :]
    try:
        with rh.open(changed) as checkpoint:
            for ref in checkpoint.values():
                ref.numpy()
    except rh.RehydrateError:
        pass


# Real files. What is in them is what the project that they come from made them of.

REAL: dict[str, Any] = {
    "hello=123": {"hello": 123},
    "list_table": ["hello", "world", "third item", 123],
    "map_table1": {0: "zero", 1: "hello", 2: "world", 3: "third item", 4: 123},
    "map_table2": {1: "hello", 2: "world", 3: "third item", 4: 123, "a": "non number key"},
    "tds_hash": {2: 3, 10: 11, 1: 2},
    "tds_vec": [123, 456],
}


def files(test_data: Path) -> dict[str, Path]:
    return {path.stem: path for path in (test_data / "checkpoints").rglob("*.t7")}


def test_every_real_file_opens(test_data: Path) -> None:
    for path in files(test_data).values():
        with rh.open(path) as checkpoint:
            assert checkpoint.format == "torch7"
            assert all(type(ref.numpy()) is numpy.ndarray for ref in checkpoint.values())


@pytest.mark.parametrize("name", REAL)
def test_real_tables_hold_what_their_project_wrote(name: str, test_data: Path) -> None:
    with rh.open(files(test_data)[name]) as checkpoint:
        assert checkpoint.tree == REAL[name]


def test_real_objects_are_what_their_project_wrote(test_data: Path) -> None:
    found = files(test_data)
    with rh.open(found["doubletensor"]) as checkpoint:
        assert type(checkpoint.tree) is TensorRef
        assert checkpoint.tree.numpy().tolist() == [[1, 2, 3], [4, 5, 6.9]]
    with rh.open(found["recursive_class"]) as checkpoint:
        assert checkpoint.tree.state["a"] is checkpoint.tree
    with rh.open(found["recursive_kv_table"]) as checkpoint:
        (pair,) = checkpoint.tree.items
        assert pair[0] is pair[1] is checkpoint.tree
    with rh.open(found["function_upvals"]) as checkpoint:
        assert checkpoint.tree.state["upvalues"] == [{"name": "asdf", "value": 123}]
    with rh.open(found["gmodule_with_linear_identity"]) as checkpoint:
        assert {name: ref.shape for name, ref in checkpoint.weights().items()} == {"2.weight": (2, 1), "2.bias": (2,)}
