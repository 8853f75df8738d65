"""Which part of a file is the model: found by what it is, never guessed between two, never an optimizer."""

from __future__ import annotations

import contextlib
import pickle
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import rehydrate as rh
from tests.effort import tried

from .kinds import NO_MODEL, ONE_MODEL, SEVERAL_MODELS, Net, saved, state

NAMES = list(state())


@pytest.mark.parametrize("kind", ONE_MODEL)
def test_the_model_is_found_and_named_as_its_own_state_dict_names_it(kind: str) -> None:
    with rh.open(saved(ONE_MODEL[kind]())) as checkpoint:
        assert list(checkpoint.weights()) == NAMES


@pytest.mark.parametrize("kind", ONE_MODEL)
def test_what_is_found_is_the_memory_that_was_saved(kind: str) -> None:
    torch.manual_seed(0)
    expected = state()
    torch.manual_seed(0)
    with rh.open(saved(ONE_MODEL[kind]())) as checkpoint:
        weights = checkpoint.weights()
        assert all(weights[name].numpy().tobytes() == expected[name].numpy().tobytes() for name in NAMES)


@pytest.mark.parametrize("kind", SEVERAL_MODELS)
def test_two_models_are_an_error_that_names_each_and_each_can_be_had(kind: str) -> None:
    build, names = SEVERAL_MODELS[kind]
    data = saved(build())
    with rh.open(data) as checkpoint:
        with pytest.raises(rh.AmbiguousError) as error:
            checkpoint.weights()
        for name in names:
            assert repr(name) in error.value.found
            assert len(checkpoint.weights(name)) > 0
        assert f"which={names[0]!r}" in error.value.hint
    with pytest.raises(rh.AmbiguousError):
        rh.load_into(Net(), data)
    rh.load_into(Net(), data, which=names[0])


@pytest.mark.parametrize("kind", NO_MODEL)
def test_what_is_no_model_is_never_taken_for_one(kind: str) -> None:
    with (
        rh.open(saved(NO_MODEL[kind]())) as checkpoint,
        pytest.raises(rh.NoSuchTensorError, match="no model's tensors"),
    ):
        checkpoint.weights()


def test_what_was_taken_off_is_said() -> None:
    tensors = {f"module.{name}": tensor for name, tensor in state().items()}
    with rh.open(saved({"checkpoint": {"net": tensors}})) as checkpoint:
        weights = checkpoint.weights()
    count = len(NAMES)
    assert weights.removed == (
        "taken from 'checkpoint.net'",
        f"prefix 'module.' (DataParallel) taken off {count} of {count} names",
    )
    assert str(weights).startswith(f"{count} tensors, ")


def test_module_is_left_on_when_only_some_names_have_it() -> None:
    tensors = {"module.a.weight": torch.zeros(2, 2), "head.weight": torch.zeros(2, 2)}
    with rh.open(saved(tensors)) as checkpoint:
        assert list(checkpoint.weights()) == list(tensors)


def test_module_inside_a_name_stays() -> None:
    tensors = {"module.mlp_module.weight": torch.zeros(2, 2), "module.module.weight": torch.zeros(2, 2)}
    with rh.open(saved(tensors)) as checkpoint:
        assert list(checkpoint.weights()) == ["mlp_module.weight", "module.weight"]


def test_which_takes_a_part_that_is_no_candidate() -> None:
    with rh.open(
        saved({"net": state(), "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": []}})
    ) as checkpoint:
        assert list(checkpoint.weights("optimizer")) == ["state[0].exp_avg"]


def test_which_takes_a_container_of_one_model_and_refuses_one_of_two() -> None:
    data = saved({"a": {"net": state(), "epoch": 3}, "b": {"g": state(), "d": state()}})
    with rh.open(data) as checkpoint:
        assert list(checkpoint.weights("a")) == NAMES
        with pytest.raises(rh.AmbiguousError, match="2 models in b"):
            checkpoint.weights("b")


def test_which_that_does_not_exist_gets_the_nearest_name() -> None:
    with rh.open(saved({"teacher": state(), "student": state()})) as checkpoint:
        with pytest.raises(rh.NoSuchTensorError, match="did you mean 'teacher'"):
            checkpoint.weights("techer")
        with pytest.raises(rh.NoSuchTensorError):
            checkpoint.weights("epoch")


def test_which_is_the_name_of_a_part_and_not_of_a_tensor() -> None:
    with rh.open(saved({"net": state(), "scale": torch.ones(3)})) as checkpoint:
        with pytest.raises(rh.NoSuchTensorError, match="is one tensor"):
            checkpoint.weights("scale")
        with pytest.raises(TypeError, match="which= is the name of a part"):
            checkpoint.weights(0)  # type: ignore[arg-type]


def test_names_that_are_spelled_alike_can_both_be_chosen() -> None:
    with rh.open(saved({"a": {"b": state()}, "a.b": state()})) as checkpoint:
        with pytest.raises(rh.AmbiguousError) as error:
            checkpoint.weights()
        names = [line.split("'")[1] for line in error.value.found.splitlines()]
        assert len(set(names)) == 2
        assert len({id(checkpoint.weights(name)[NAMES[0]].storage) for name in names}) == 2


def test_a_missing_weight_is_a_key_error_with_the_nearest_name() -> None:
    with rh.open(saved(state())) as checkpoint, pytest.raises(KeyError, match=r"did you mean 'conv\.weight'"):
        checkpoint.weights()["conv.wieght"]


def test_a_state_dict_with_other_things_in_it_is_still_one() -> None:
    tensors: dict[str, Any] = {**state(), "_extra_state": {"scale": torch.ones(3)}, "version": 2}
    with rh.open(saved(tensors)) as checkpoint:
        assert set(NAMES) < set(checkpoint.weights())


def test_a_model_of_one_number_is_found_where_it_is_all_there_is() -> None:
    with rh.open(saved({"scale": torch.tensor(2.0)})) as checkpoint:
        assert list(checkpoint.weights()) == ["scale"]


def test_a_quantised_linear_layer_is_found() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer = torch.ao.nn.quantized.Linear(4, 3)
        data = saved({f"fc.{name}": value for name, value in layer.state_dict().items()})
    with rh.open(data) as checkpoint:
        assert any(ref.dtype.kind == "quantized" for ref in checkpoint.weights().values())


def test_quantised_tensors_have_their_names() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = torch.quantize_per_tensor(torch.ones(2, 2), 0.5, 3, torch.qint8)
        rows = torch.quantize_per_channel(torch.ones(2, 2), torch.ones(2), torch.zeros(2), 0, torch.qint8)
        data = saved({"conv.weight": plain, "fc.weight": rows, "tied.weight": plain, "fc.bias": torch.ones(2)})
    with rh.open(data) as checkpoint:
        weights = checkpoint.weights()
        assert {"conv.weight", "fc.weight", "tied.weight", "fc.bias"} <= set(weights)
        assert weights["conv.weight"].numpy().tolist() == [[5, 5], [5, 5]]


def test_shared_memory_stays_shared() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    with rh.open(saved(model)) as checkpoint:
        weights = checkpoint.weights()
    assert weights["0.weight"].storage is weights["1.weight"].storage


keys = st.text("abc._", min_size=1, max_size=6)
junk = st.recursive(
    st.none() | st.integers() | st.floats() | st.text(max_size=4) | st.just(torch.tensor(1.0)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)


@tried(60)
@given(st.dictionaries(keys.map("x".__add__), junk, max_size=4), st.lists(keys, max_size=3), st.data())
def test_a_model_is_found_wherever_it_lies_among_anything(
    beside: dict[str, object], path: list[str], data: st.DataObject
) -> None:
    tree: object = state()
    for key in path:
        entries = {key: tree, **beside}
        tree = {name: entries[name] for name in data.draw(st.permutations(list(entries)))}
    with rh.open(saved(tree)) as checkpoint:
        assert list(checkpoint.weights()) == NAMES


def hostile() -> Iterator[tuple[str, bytes]]:
    """Trees that a careless search would never come back from, each of a few kilobytes."""
    deep = 100_000
    yield "a deep list", b"\x80\x02" + b"]" * deep + b"a" * (deep - 1) + b"."
    yield "a deep dictionary", b"\x80\x02" + b"}U\x01a" * (deep - 1) + b"}" + b"s" * (deep - 1) + b"."
    yield "a list in itself", b"\x80\x02]q\x00h\x00a."
    yield "a dictionary in itself", b"\x80\x02}q\x00(U\x01ah\x00U\x01bh\x00u."
    levels = [b"]q\x00"]
    # Each holds the one before a thousand times.
    levels.extend(b"]q" + bytes([at]) + b"(" + (b"h" + bytes([at - 1])) * 1000 + b"e" for at in range(1, 12))
    yield "a thousand to the eleventh", b"\x80\x02(" + b"".join(levels) + b"t."
    yield "a hundred thousand entries", pickle.dumps({f"key {at}": at for at in range(100_000)})


@pytest.mark.parametrize(("name", "data"), list(hostile()), ids=[name for name, _ in hostile()])
def test_hostile_shapes_are_searched_at_once(name: str, data: bytes) -> None:
    checkpoint = rh.open(data)
    began = time.process_time()
    with pytest.raises(rh.NoSuchTensorError):
        checkpoint.weights()
    with pytest.raises(rh.NoSuchTensorError):
        checkpoint.weights("a.a")
    assert time.process_time() - began < 5


def shared() -> Iterator[tuple[str, bytes]]:
    """Ten thousand records that hold one table of ten thousand entries, in a tenth of a megabyte."""
    count = 10_000
    table = b"}q\x00(" + b"".join(b"U\x05%05dN" % at for at in range(count)) + b"u0ccopy_me\nA\nq\x010"
    yield "one state", b"\x80\x02" + table + b"(" + b"h\x01)\x81h\x00b" * count + b"l."
    module = b"h\x01)\x81}(U\x0b_parametersh\x00U\x08_modulesh\x00ub"
    yield "one table of parameters", b"\x80\x02" + table + b"(" + module * count + b"l."
    yield (
        "one list of arguments",
        b"\x80\x02" + b"(" + b"N" * count + b"tq\x000ccopy_me\nA\nq\x010(" + b"h\x01h\x00R" * count + b"l.",
    )


@pytest.mark.parametrize(("name", "data"), list(shared()), ids=[name for name, _ in shared()])
def test_records_that_share_what_they_hold_are_walked_at_once_or_refused(name: str, data: bytes) -> None:
    with rh.open(data) as checkpoint:
        began = time.process_time()
        for look in (len, str, rh.Checkpoint.weights, lambda checkpoint: checkpoint.weights("a.a")):
            with contextlib.suppress(rh.RehydrateError):
                look(checkpoint)
        assert time.process_time() - began < 2


def test_a_tensor_a_thousand_containers_deep_is_a_limit_and_no_flood() -> None:
    tree: object = {"w": torch.zeros(2, 2)}
    for _ in range(400):
        tree = {"a": tree, "t": torch.zeros(2, 2)}
    with rh.open(saved(tree)) as checkpoint, pytest.raises(rh.LimitError):
        len(checkpoint)


def test_twenty_thousand_tensors_are_found_fast() -> None:
    data = saved({f"blocks.{at}.weight": torch.empty(0) for at in range(20_000)})
    with rh.open(data) as checkpoint:
        began = time.process_time()
        assert len(checkpoint.weights()) == 20_000
        assert time.process_time() - began < 5


def test_real_files_give_weights_or_say_why_not(test_data: Path) -> None:
    chosen: dict[str, rh.Weights] = {}
    refused: dict[str, rh.RehydrateError] = {}
    for path in sorted((test_data / "checkpoints").rglob("*")):
        if not path.is_file():
            continue
        try:
            with rh.open(path) as checkpoint:
                chosen[path.name] = checkpoint.weights()
        except rh.RehydrateError as error:
            refused[path.name] = error
    assert len(chosen) > 20
    assert not [
        name for name, error in refused.items() if isinstance(error, rh.AmbiguousError) and "models" in error.what
    ]
    for name, weights in chosen.items():
        assert len(weights) > 0, name
        assert not {"exp_avg", "momentum_buffer", "square_avg"} & {key.split(".")[-1] for key in weights}, name
        assert not all(ref.dtype.name == "uint8" and len(ref.shape) == 1 for ref in weights.values()), name
        assert any(ref.shape for ref in weights.values()), name
        wrappers = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
        assert not any(wrappers & set(key.split(".")[:-1]) for key in weights), name
