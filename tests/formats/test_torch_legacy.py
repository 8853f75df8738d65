"""torch's legacy stream: what torch writes, held against torch's reader; and by hand what only old versions wrote."""

from __future__ import annotations

import io
import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

import rehydrate as rh
from rehydrate.formats import torch_legacy
from rehydrate.formats.legacy_keys import read_keys
from rehydrate.formats.opening import open_checkpoint
from rehydrate.formats.pickle_inside import read_pickle_inside
from rehydrate.limits import Limits
from rehydrate.storage.source import MemorySource

from ..effort import tried
from ..hostile.archives_legacy import (
    BIG_ENDIAN,
    legacy_storage,
    legacy_stream,
    legacy_tensor,
    one_tensor,
    sys_info,
    view_of,
)
from ..hostile.assembler import (
    appends,
    build,
    empty_dict,
    empty_list,
    empty_tuple,
    global_,
    integer,
    mark,
    newobj,
    none,
    persid_binary,
    pickle_of,
    setitem,
    tuple_of,
    unicode,
)
from ..oracle.likeness import assert_alike, differences
from ..oracle.trees import DTYPES, dense_tensors, trees
from ..pickles.programs import mutated

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:.*{what}")
    for what in ("quantize", "Sparse", "nested tensors", "TypedStorage", "ComplexHalf")  # torch may change them one day
]

WITH_STORAGES = tuple(dtype for dtype in DTYPES if dtype not in torch.storage._new_dtypes())
"""Element types that torch has typed storages for; it cannot read its own legacy files of the newer ones."""
NEWER = tuple(dtype for dtype in DTYPES if dtype not in WITH_STORAGES)


def saved(obj: object, protocol: int = 2) -> bytes:
    buffer = io.BytesIO()
    torch.save(obj, buffer, pickle_protocol=protocol, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def reloaded(data: bytes) -> Any:
    return torch.load(io.BytesIO(data), weights_only=True)


@tried(120)
@given(trees(WITH_STORAGES), st.sampled_from((1, 2, 3, 4, 5)))
def test_a_tree_that_torch_saved_loads_as_torch_loads_it(tree: object, protocol: int) -> None:
    try:
        theirs = reloaded(saved(tree))  # torch's safe reader knows protocol 2 only
    except RuntimeError:  # of nested tensors, whose sizes it leaves unread
        assume(False)
    data = saved(tree, protocol)
    assert_alike(rh.load(data), theirs)
    with rh.open(data) as checkpoint:
        assert checkpoint.format == "torch-legacy"


@tried(60)
@given(st.lists(dense_tensors(NEWER), max_size=3))
def test_tensors_of_newer_types_come_back_although_torch_does_not_read_them(groups: list[list[torch.Tensor]]) -> None:
    tensors = [tensor for group in groups for tensor in group]
    assert_alike(rh.load(saved(tensors)), tensors, values_only=True)


def test_protocol_0_writes_persistent_ids_in_words_that_torch_does_not_read() -> None:
    whole = torch.arange(6.0)
    tree = {"a": whole, "rows": whole.view(2, 3)[1:], "n": [1, None]}
    ours: Any = rh.load(saved(tree, 0))
    assert_alike(ours, reloaded(saved(tree)))


def test_thousands_of_storages_eight_bytes_apart_are_read_right_from_a_file(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = {
        f"layer.{at}": torch.randn(at % 7, at % 11 + 1, generator=generator).to(WITH_STORAGES[at % 4])
        for at in range(3000)
    }
    tensors["large"] = torch.randn(1 << 20, generator=generator)
    path = tmp_path / "net.pth"
    path.write_bytes(saved(tensors))
    ours: Any = rh.load(path)
    assert_alike(ours, reloaded(path.read_bytes()))
    assert {tensor.data_ptr() % 16 for tensor in ours.values() if tensor.numel()} == {0}


KEYS = st.integers(0, 1 << 64).map(str) | st.sampled_from(("", "x", "00", "9" * 20, "9" * 21, "é"))


@tried(150)
@given(st.lists(KEYS, max_size=8) | st.integers(998, 1002).map(lambda n: [str(at) for at in range(n)]),
       st.sampled_from((0, 1, 2, 2, 2, 3, 4)), st.integers(0, 1 << 30), st.integers(0, 2))  # fmt: skip
def test_the_list_of_keys_is_read_in_one_step_as_it_is_opcode_by_opcode(
    keys: list[str], protocol: int, seed: int, changes: int
) -> None:
    data = mutated(pickle.dumps(keys, protocol), seed, changes)
    source = MemorySource(data + bytes(30))
    outcomes: list[object] = []
    for read in (
        lambda: read_keys(source, 0, Limits(), source.size),
        lambda: read_pickle_inside(source, 0, Limits(), window=source.size),
    ):
        try:
            reading = read()
        except rh.RehydrateError as error:
            outcomes.append((type(error), error.what))
        else:
            outcomes.append((reading.value, reading.start, reading.end, reading.protocol, reading.names))
    assert outcomes[0] == outcomes[1]


class Counting(io.BytesIO):
    """A file that knows how much of it was read."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


def test_opening_reads_the_pickles_and_the_counts_and_no_large_storage() -> None:
    file = Counting(saved({f"w{at}": torch.zeros(1 << 20) for at in range(4)}))
    with rh.open(file) as checkpoint:
        assert len(checkpoint) == 4
        assert file.count < torch_legacy._PICKLE_WINDOW + 200_000
        checkpoint["w2"].numpy()


def test_a_pickle_that_is_longer_than_the_window_is_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = OrderedDict((f"layer.{at}.weight", torch.arange(at % 5)) for at in range(300))
    data = saved(tree)
    monkeypatch.setattr(torch_legacy, "_PICKLE_WINDOW", 100)
    monkeypatch.setattr(torch_legacy, "_LIST_WINDOW", 10)
    assert_alike(rh.load(data), reloaded(data))


def test_every_pickle_of_a_file_is_traced_where_it_begins() -> None:
    data = saved({"w": torch.ones(2)})
    with rh.open(data) as checkpoint:
        traces = checkpoint.traces
    assert traces[0].start == 0
    assert all(data[trace.start : trace.start + 2] == b"\x80\x02" for trace in traces)
    assert all(data[trace.start + trace.length - 1 :][:1] == b"." for trace in traces)
    assert len(traces) == 5
    assert [bool(trace.names) for trace in traces] == [False, False, False, True, False]


def test_it_says_where_it_was_saved_and_by_whom() -> None:
    on_gpu = one_tensor(legacy_storage(location="cuda:1"))
    with rh.open(legacy_stream(on_gpu)) as checkpoint:
        assert checkpoint.facts["saved_on"] == ("cuda:1",)
        assert [checkpoint.facts[name] for name in ("writer", "byteorder", "protocol")] == ["torch.save", "little", 2]


# Views: parts of storages that were storages of their own, before torch 0.4.

CONTENT = struct.pack("<8f", *range(8))


def viewed(*tensors: bytes) -> bytes:
    """A file with these tensors on one storage of eight float32."""
    program = b"".join(unicode(f"t{at}") + tensor + setitem for at, tensor in enumerate(tensors))
    return legacy_stream(pickle_of(empty_dict, program), {"90": CONTENT})


def on_view(key: str, offset: int, numel: int, size: tuple[int, ...], start: int = 0) -> bytes:
    storage = legacy_storage("90", 8, view=view_of(key, offset, numel))
    return legacy_tensor(storage, size=size, stride=(1,) * len(size), offset=start)


def test_tensors_on_parts_of_a_storage_share_it_as_they_do_in_torch() -> None:
    whole = legacy_tensor(legacy_storage("90", 8), size=(8,))
    data = viewed(whole, on_view("91", 2, 4, (4,)), on_view("91", 2, 4, (2,), 1), on_view("92", 5, 3, (3,)))
    ours, theirs = rh.load(data), reloaded(data)
    assert_alike(
        [tensor.tolist() for tensor in ours.values()],  # type: ignore[attr-defined]
        [tensor.tolist() for tensor in theirs.values()],
    )
    for tensors in (ours, theirs):
        tensors["t0"][3] = 40.0  # type: ignore[index]
        assert [float(tensors[name][at]) for name, at in (("t1", 1), ("t2", 0))] == [40.0, 40.0]  # type: ignore[index]


def test_a_part_that_is_named_before_its_whole_shares_with_it() -> None:
    ours: Any = rh.load(viewed(on_view("91", 6, 2, (2,)), legacy_tensor(legacy_storage("90", 8), size=(8,))))
    ours["t0"].zero_()
    assert ours["t1"].tolist() == [0, 1, 2, 3, 4, 5, 0, 0]


def test_a_part_that_lies_bare_in_the_tree_is_a_storage_of_its_elements() -> None:
    ours: Any = rh.load(viewed(legacy_storage("90", 8, view=view_of("91", 1, 3))))
    assert ours["t0"].tolist() == [1.0, 2.0, 3.0]


def test_a_tensor_may_not_reach_beyond_its_part_of_a_storage() -> None:
    with pytest.raises(rh.CorruptError, match="out of bounds"):
        rh.open(viewed(on_view("91", 2, 4, (5,))))


# Modules: their classes come with the text of their source.


def a_module(kind: bytes, source: bytes) -> bytes:
    described = tuple_of(unicode("module"), kind, unicode("/home/a/nets.py"), source)
    # ("module", CLASS, FILE, TEXT) has four parts: three and a mark.
    state = empty_dict + unicode("_parameters") + empty_dict + unicode("w") + legacy_tensor() + setitem + setitem
    for name in ("_buffers", "_modules"):
        state += unicode(name) + empty_dict + setitem
    return described + persid_binary + empty_tuple + newobj + state + build


def test_a_module_keeps_its_class_as_a_record_and_its_source_as_a_fact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "class Net(nn.Module):\n    dump_patches = True\n    import os; os.system('id')\n"
    with rh.open(legacy_stream(pickle_of(a_module(global_("nets", "Net"), unicode(text))))) as checkpoint:
        assert list(checkpoint) == ["w"]
        assert isinstance(checkpoint.tree, rh.Record)
        assert checkpoint.tree.path == "nets.Net"
        assert checkpoint.facts["sources"] == {"nets.Net": ("/home/a/nets.py", text)}
        assert checkpoint.facts["imports"] == ("nets.Net",)
    assert list(tmp_path.iterdir()) == []


def test_a_module_without_source_is_read_like_any_other() -> None:
    with rh.open(legacy_stream(pickle_of(a_module(global_("nets", "Net"), none)))) as checkpoint:
        assert "sources" not in checkpoint.facts


# Machines of the other byte order.

_COUNTS = {"0": struct.pack(">q", 4)}


@pytest.mark.parametrize("counts", [{}, _COUNTS], ids=["since 1.7", "before"])
def test_elements_are_little_endian_on_every_machine_and_counts_as_the_machine_had_them(
    counts: dict[str, int | bytes],
) -> None:
    data = legacy_stream(None, {"0": struct.pack("<4f", 1, 2, 3, 4)}, info=sys_info(BIG_ENDIAN), counts=counts)
    ours: Any = rh.load(data)
    assert ours["w"].tolist() == [1, 2, 3, 4]


# Files that end early, or late.

NAMES = ("a", "b", "c")
TREE = {name: torch.arange(at + 2.0) for at, name in enumerate(NAMES)}


def test_a_file_that_is_cut_anywhere_is_refused_and_says_so() -> None:
    data = saved(TREE)
    for length in range(30, len(data)):
        with pytest.raises((rh.TruncatedError, rh.NotACheckpointError)) as caught:
            rh.load(data[:length])
        assert isinstance(caught.value, rh.TruncatedError) or length < 200


def test_what_is_left_of_a_cut_file_is_whole_or_not_whole() -> None:
    data = saved(TREE)
    with rh.open(data) as checkpoint:
        ends = {name: checkpoint[name].pieces[0].start + checkpoint[name].nbytes for name in NAMES}
        pickles = max(trace.start + trace.length for trace in checkpoint.traces[:4])
    for length in range(pickles, len(data)):
        with open_checkpoint(data[:length], is_cut=True) as checkpoint:
            whole = {name for name in NAMES if checkpoint[name].is_whole}
            assert whole == {name for name in NAMES if ends[name] <= length}, length
            for name in whole:
                assert checkpoint[name].numpy().tolist() == TREE[name].tolist()


def test_a_second_checkpoint_behind_the_first_is_not_ignored() -> None:
    with pytest.raises(rh.AmbiguousError, match="second checkpoint"):
        rh.open(saved(TREE) + saved({}))


def test_one_storage_without_elements_may_have_two_types() -> None:
    tensors = [legacy_tensor(legacy_storage("0", 0, kind=kind), size=(0,)) for kind in ("FloatStorage", "LongStorage")]
    data = legacy_stream(pickle_of(empty_list, mark, *tensors, appends), {"0": b""})
    assert not differences(
        [tensor.dtype for tensor in rh.load(data)],  # type: ignore[attr-defined]
        [tensor.dtype for tensor in reloaded(data)],
    )


def test_a_storage_that_only_the_list_names_is_refused_and_one_that_only_a_tensor_names_too() -> None:
    with pytest.raises(rh.CorruptError, match="not found in deserialized_objects"):
        rh.open(legacy_stream(pickle_of(integer(1))))
    with pytest.raises(rh.CorruptError, match="missing"):
        rh.open(legacy_stream(storages={}))
