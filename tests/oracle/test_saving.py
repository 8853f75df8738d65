"""Whatever rh.save writes: torch.load(weights_only=True) reads it equal, and so does rh.load."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import rehydrate as rh

from ..effort import tried
from .likeness import assert_alike
from .trees import COMPOSITES, KEYS, attributed, dense_tensors, trees

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:.*{what}")
    for what in ("quantize", "Sparse", "nested tensors", "TypedStorage", "ComplexHalf")  # torch may change them one day
]


@pytest.fixture(scope="session")
def where(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("saved") / "tree.pth"


def reloaded(path: Path) -> Any:
    return torch.load(path, weights_only=True)


def resaved(tree: object, path: Path) -> Any:
    rh.save(tree, path, durable=False)
    return reloaded(path)


@tried(250)
@given(tree=trees())
def test_a_tree_is_read_back_equal_by_torch_and_by_us(where: Path, tree: object) -> None:
    theirs = resaved(tree, where)
    assert_alike(theirs, tree, values_only=True)
    assert_alike(rh.load(where), theirs)


@pytest.mark.parametrize("name", sorted(COMPOSITES))
def test_a_tensor_that_is_more_than_a_window_is_read_back_equal(name: str, where: Path) -> None:
    tensor = COMPOSITES[name]()
    theirs = resaved({"one": tensor, "again": tensor, "other": [COMPOSITES[name]()]}, where)
    assert_alike(theirs, {"one": tensor, "again": tensor, "other": [COMPOSITES[name]()]}, values_only=True)
    assert_alike(rh.load(where), theirs)


@tried(100)
@given(tensors=dense_tensors())
def test_storages_hold_what_is_shown_and_little_else(where: Path, tensors: list[torch.Tensor]) -> None:
    theirs = resaved(tensors, where)
    shown = [bytes_shown(tensor) for tensor in tensors]
    low, high = min(first for first, _ in shown), max(last for _, last in shown)
    assert all(tensor.untyped_storage().nbytes() <= high - low + 16 for tensor in theirs)


def bytes_shown(tensor: torch.Tensor) -> tuple[int, int]:
    width, first = tensor.element_size(), tensor.storage_offset()
    last = first + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return first * width, (last + 1) * width if tensor.numel() else first * width


def test_a_view_does_not_drag_its_storage_along(where: Path) -> None:
    theirs = resaved({"rows": torch.zeros(1 << 20)[1000:1010]}, where)
    assert theirs["rows"].shape == (10,)
    assert where.stat().st_size < 3000


def test_ties_stay_ties(where: Path) -> None:
    whole = torch.arange(100.0)
    theirs = resaved({"head": whole[:50], "tail": whole[40:], "again": whole[:50].view(5, 10)}, where)
    theirs["tail"][0] = -1
    assert theirs["head"][40] == -1
    assert theirs["again"][4, 0] == -1


def test_views_of_several_element_types_share_one_storage(where: Path) -> None:
    words = torch.arange(6, dtype=torch.int32)
    tree = [words, words.view(torch.uint8)[3:], words.view(torch.float16), nn.Parameter(words.view(torch.float32))]
    theirs = resaved(tree, where)
    assert_alike(theirs, tree, values_only=True)
    assert len({tensor.untyped_storage()._cdata for tensor in theirs}) == 1


def test_two_arrays_over_one_memory_are_saved_as_torch_saves_them(where: Path) -> None:
    memory = bytearray(64)
    short = torch.frombuffer(memory, dtype=torch.uint8, count=8)
    long = torch.frombuffer(memory, dtype=torch.float32, count=16)
    assert_alike(resaved([short, long], where), [short, long], values_only=True)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.bn = nn.BatchNorm2d(2)
        self.embedding = nn.Embedding(5, 4)
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.embedding.weight
        self.empty = nn.Parameter(torch.empty(0, 3))
        self.register_buffer("scratch", torch.ones(2), persistent=False)
        self.mask = nn.Buffer(torch.tensor([True, False]))


@pytest.mark.parametrize(
    "wrap", [nn.Module.eval, nn.Module.state_dict, nn.DataParallel], ids=lambda wrap: wrap.__name__
)
def test_a_module_is_saved_as_its_state_dict_with_its_metadata_and_its_ties(wrap: Any, where: Path) -> None:
    thing = wrap(Net())
    state = thing if isinstance(thing, dict) else thing.state_dict()
    theirs = resaved(thing, where)
    assert_alike(theirs, state, values_only=True)
    assert type(theirs) is OrderedDict
    assert theirs._metadata == state._metadata
    with rh.open(where) as checkpoint:
        assert list(checkpoint) == list(state)


def test_an_optimizer_and_a_scheduler_go_into_a_container_and_continue(where: Path) -> None:
    def training() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        return model, torch.optim.AdamW(model.parameters(), lr=0.1)

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
        batch = torch.randn(8, 3, generator=torch.Generator().manual_seed(seed))
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()

    model, optimizer = training()
    step(model, optimizer, 1)
    container = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": 1,
        "rng": torch.get_rng_state(),
    }
    theirs = resaved(copy.deepcopy(container), where)
    assert_alike(theirs, container, values_only=True)
    step(model, optimizer, 2)
    again, other = training()
    rh.load_into(again, where)
    other.load_state_dict(theirs["optimizer"])
    step(again, other, 2)
    assert_alike(again.state_dict(), model.state_dict(), values_only=True)


def test_plain_values_of_every_kind_are_read_back_equal(where: Path) -> None:
    tree = {
        "numbers": [
            0,
            -1,
            255,
            256,
            65535,
            65536,
            -(1 << 31),
            1 << 31,
            1 << 2030,
            -(1 << 2031),
            0.1,
            -0.0,
            1e-320,
            2 + 3j,
        ],
        "words": ["", "ascii", "日本", "\U0001f600", "\udc80", "a\nb", "x" * 70_000],
        "bytes": [b"", b"\x00\xff", bytes(range(256)), bytearray(b"ab")],
        "sets": [set(), {1, "a", (2, b"x")}],
        "counted": Counter({"a": 3, "b": -2}),
        "torch": [
            torch.float8_e4m3fn,
            torch.Size([2, 3]),
            torch.Size([]),
            torch.device("cuda", 3),
            torch.strided,
            torch.per_tensor_affine,
        ],
        "flags": [True, False, None],
        "empty": [[], (), {}, OrderedDict()],
        ("tuple", 1): {None: 0, True: 1, 2: 2, 0.5: 3, b"k": 4, torch.float32: 5},
        "long": list(range(5000)),
        "wide": {str(at): at for at in range(5000)},
        "row": tuple(range(3000)),
    }
    assert_alike(resaved(tree, where), tree)
    assert_alike(rh.load(where), tree)


def test_a_tree_may_be_deeper_than_python_recurses(where: Path) -> None:
    deep: list[Any] = []
    for at in range(20_000):
        deep = [deep] if at % 3 else {"a": (deep,)}  # type: ignore[assignment]
    assert_alike(resaved(deep, where), deep)


def test_cycles_and_shared_containers_stay_what_they_are(where: Path) -> None:
    cycle: list[Any] = [1]
    shared = {"w": torch.ones(1)}
    cycle += [cycle, {"back": cycle}, shared, (shared, cycle)]
    theirs = resaved(cycle, where)
    assert theirs[1] is theirs
    assert theirs[2]["back"] is theirs
    assert theirs[4][0] is theirs[3]
    assert_alike(theirs, cycle, values_only=True)


def test_attributes_of_tensors_and_of_ordered_dictionaries_are_kept(where: Path) -> None:
    tensor = attributed(torch.arange(3), {"inside": torch.ones(1)})
    parameter = attributed(nn.Parameter(torch.ones(2)), [1])
    named = OrderedDict(a=tensor)
    named.note = "kept"  # type: ignore[attr-defined]
    tree = [tensor, tensor, parameter, named, nn.Buffer(torch.ones(1))]
    assert_alike(resaved(tree, where), tree, values_only=True)


def test_a_tensor_may_be_a_key_or_in_a_set(where: Path) -> None:
    tensor = torch.arange(3.0)
    theirs = resaved({"by tensor": {tensor: 1}, "set": {tensor}, "itself": tensor}, where)
    assert next(iter(theirs["by tensor"])) is theirs["itself"]
    assert theirs["set"] == {theirs["itself"]}


def test_torch_can_map_the_file_and_zipfile_finds_it_sound_and_aligned(where: Path) -> None:
    state = Net().state_dict()
    rh.save(state, where)
    assert_alike(torch.load(where, mmap=True, weights_only=True), resaved(state, where))
    subprocess.run([sys.executable, "-m", "zipfile", "-t", str(where)], check=True, capture_output=True)
    data = where.read_bytes()
    with zipfile.ZipFile(where) as archive:
        assert archive.testzip() is None
        for member in archive.infolist():
            assert member.compress_type == zipfile.ZIP_STORED
            name, extra = (int.from_bytes(data[member.header_offset + at :][:2], "little") for at in (26, 28))
            assert (member.header_offset + 30 + name + extra) % 64 == 0


def test_the_largest_number_that_torch_can_read_is_the_largest_that_is_written(where: Path) -> None:
    assert resaved([1 << 2038, -(1 << 2039)], where) == [1 << 2038, -(1 << 2039)]
    with pytest.raises(rh.SaveError, match=r"255 bytes[\s\S]*config\.big"):
        rh.save({"config": {"big": 1 << 2040}}, where)


@st.composite
def plain_trees(draw: st.DrawFn) -> object:
    """Plain data for a plain pickle: frozensets and integers of any size too, no tensors."""
    keys = KEYS | st.frozensets(st.integers(), max_size=2)
    leaves = st.one_of(
        st.none(), st.booleans(), st.integers(), st.integers(-(1 << 5000), 1 << 5000), st.floats(), st.text(),
        st.binary(), st.binary().map(bytearray), st.complex_numbers(), st.sets(keys, max_size=3),
        st.frozensets(keys, max_size=3), st.dictionaries(keys, st.integers()).map(Counter),
    )  # fmt: skip
    return draw(
        st.recursive(
            leaves,
            lambda inside: st.one_of(
                st.lists(inside, max_size=4),
                st.lists(inside, max_size=5).map(tuple),
                st.dictionaries(keys, inside, max_size=4),
                st.dictionaries(keys, inside, max_size=4).map(OrderedDict),
            ),
        )
    )


@tried(200)
@given(tree=plain_trees())
def test_plain_data_is_read_back_equal_by_python(where: Path, tree: object) -> None:
    path = where.with_suffix(".pickle")
    rh.save(tree, path, durable=False)
    theirs = pickle.loads(path.read_bytes())  # our own file, a moment old
    assert_alike(theirs, tree, values_only=True)
    assert_alike(rh.load(path), theirs)


def test_the_dictionary_of_the_note_is_read_back_equal(tmp_path: Path) -> None:
    a_dict = {"da": 111, 2: [23, 1, 4], "23": {1: 2, "d": "sad"}}
    saved = rh.save(a_dict, tmp_path / "pickle_example.pickle")
    assert saved.format == "pickle"
    with open(tmp_path / "pickle_example.pickle", "rb") as file:
        assert pickle.load(file) == a_dict
    assert rh.load(tmp_path / "pickle_example.pickle") == a_dict
    with open(tmp_path / "theirs.pickle", "wb") as file:
        pickle.dump(a_dict, file)
    assert rh.load(tmp_path / "theirs.pickle") == a_dict


def test_a_tuple_in_a_cycle_is_read_back_by_python_and_refused_for_torch(tmp_path: Path) -> None:
    inner: list[Any] = []
    ring = (inner, 1)
    inner.append(ring)
    rh.save(ring, tmp_path / "ring.pickle")
    theirs = pickle.loads((tmp_path / "ring.pickle").read_bytes())
    assert theirs[0][0] is theirs
    mine = rh.load(tmp_path / "ring.pickle")
    assert isinstance(mine, tuple)
    assert mine[0][0][1] == 1
    with pytest.raises(rh.SaveError, match="tuple that contains itself"):
        rh.save(ring, tmp_path / "ring.pth")
    assert_alike(resaved(inner, tmp_path / "ring.pth"), inner)
