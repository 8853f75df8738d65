"""omegaconf's configurations come out as the dictionaries, lists and values that they stand for.

The classes here only have omegaconf's names: a pickle holds names and states, and those are laid out as each version of
omegaconf lays them out.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import rehydrate as rh
from rehydrate.checkpoint.record import Record

from ..hostile.guard import guarded

CLASSES = {
    "omegaconf.dictconfig": ("DictConfig",),
    "omegaconf.listconfig": ("ListConfig",),
    "omegaconf.nodes": ("AnyNode", "IntegerNode", "EnumNode", "UntypedNode"),
    "omegaconf.base": ("Metadata", "ContainerMetadata", "UnionNode"),
}


@pytest.fixture
def classes(monkeypatch: pytest.MonkeyPatch) -> dict[str, type]:
    made: dict[str, type] = {}
    monkeypatch.setitem(sys.modules, "omegaconf", ModuleType("omegaconf"))
    for module, names in CLASSES.items():
        stand_in = ModuleType(module)
        for name in names:
            made[name] = type(name, (), {"__module__": module})
        vars(stand_in).update({name: made[name] for name in names})
        monkeypatch.setitem(sys.modules, module, stand_in)
    return made


def configured(classes: dict[str, type], value: object, parent: object, names: tuple[str, str], node: str) -> object:
    """A value as nodes; `names` are those of content and value in this version's states."""
    content, single = names
    kind = {dict: "DictConfig", list: "ListConfig"}.get(type(value), node)
    made = classes[kind]()
    state = vars(made)
    if content.startswith("_"):
        state["_metadata"] = classes["ContainerMetadata" if kind.endswith("Config") else "Metadata"]()
        state["_metadata"].key = "a"
    state["_parent" if content.startswith("_") else "parent"] = parent
    if isinstance(value, dict):
        state[content] = {key: configured(classes, item, made, names, node) for key, item in value.items()}
    elif isinstance(value, list):
        state[content] = [configured(classes, item, made, names, node) for item in value]
    else:
        state[single] = value
    return made


VALUE = {
    "lr": 0.1, "name": "x", "sizes": [1, 2, {"a": None, "b": []}], "missing": "???", "refers": "${lr}", "empty": {},
    "nothing": None, 3: True,
}  # fmt: skip
VERSIONS: dict[str, tuple[tuple[str, str], str]] = {
    "1.4": (("content", "val"), "UntypedNode"),
    "2": (("_content", "_val"), "AnyNode"),
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("version", VERSIONS)
def test_a_configuration_is_plain_data(version: str, protocol: int, classes: dict[str, type]) -> None:
    config: Any = configured(classes, VALUE, None, *VERSIONS[version])
    data = pickle.dumps({"cfg": config, "sizes": vars(config)[VERSIONS[version][0][0]]["sizes"]}, protocol)
    with guarded(), rh.open(data) as checkpoint:
        str(checkpoint)
    assert checkpoint.tree["cfg"] == VALUE
    assert type(checkpoint.tree["cfg"]["sizes"]) is list
    assert checkpoint.tree["sizes"] is checkpoint.tree["cfg"]["sizes"]
    assert "omegaconf.dictconfig.DictConfig" in checkpoint.facts["imports"]  # an unsafe load needs the package
    assert rh.load(data)["cfg"] == VALUE  # type: ignore[index]


@pytest.mark.parametrize("content", [None, "???", "${other}"])
def test_a_container_that_is_missing_is_what_stands_for_it(content: object, classes: dict[str, type]) -> None:
    for kind in ("DictConfig", "ListConfig"):
        made = classes[kind]()
        vars(made).update(_metadata=classes["ContainerMetadata"](), _parent=None, _content=content)
        with rh.open(pickle.dumps([made])) as checkpoint:
            assert checkpoint.tree == [content]


def test_a_union_is_the_value_in_it(classes: dict[str, type]) -> None:
    union = classes["UnionNode"]()
    vars(union).update(_parent=None, _content=configured(classes, 5, union, ("_content", "_val"), "IntegerNode"))
    with rh.open(pickle.dumps([union])) as checkpoint:
        assert checkpoint.tree == [5]


def _odd(content: Callable[[Any], object]) -> Callable[[dict[str, type]], object]:
    def make(classes: dict[str, type]) -> object:
        made = classes["DictConfig"]()
        vars(made)["_content"] = content(made)
        return made

    return make


@pytest.mark.parametrize("make", [
    _odd(lambda config: {"itself": config}), _odd(lambda config: config), _odd(lambda config: [config]),
    _odd(lambda config: 5), _odd(lambda config: {1, 2}),
])  # fmt: skip
def test_a_configuration_that_holds_itself_or_something_else_opens(make: Any, classes: dict[str, type]) -> None:
    with guarded(), rh.open(pickle.dumps([make(classes)])) as checkpoint:
        assert str(checkpoint)


@pytest.mark.parametrize("state", [5, None, {"_val": 1}, (None, {"_content": 1})])
def test_a_configuration_without_content_is_empty_or_a_record(state: object, classes: dict[str, type]) -> None:
    data = b"\x80\x04comegaconf.dictconfig\nDictConfig\n)\x81" + pickle.dumps(state, 2)[2:-1] + b"b."
    with guarded(), rh.open(data) as checkpoint:
        assert checkpoint.tree == {} or isinstance(checkpoint.tree, Record)


def test_real_configurations_are_plain_data(test_data: Path) -> None:
    with rh.open(test_data / "checkpoints/ko120+DM-Benchmark/checkpoints/last-v1.ckpt") as checkpoint:
        assert checkpoint.tree["datamodule_hyper_parameters"]["train_val_test_split"] == [0.7, 0.1, 0.2]
