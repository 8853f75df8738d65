"""omegaconf's configurations, which Lightning and Hydra leave in checkpoints: plain dictionaries, lists and values.

    DictConfig, ListConfig      BUILD {"_content": {key: node} | [node] | None | "???" | "${…}", "_metadata", "_parent"}
    AnyNode, IntegerNode, …     BUILD {"_val": value, "_metadata", "_parent"}
    UnionNode                   BUILD {"_content": node, …}

Version 1 wrote `content` and `val`. What is missing (`???`) or refers to something else (`${…}`) stays the text that
stands in the configuration's file. Parents and metadata are for omegaconf; the values are the same without. Source:
`__getstate__` in `omegaconf/basecontainer.py` and `omegaconf/base.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

from rehydrate.checkpoint.record import Record
from rehydrate.pickles.results import UNFIT, Constructor, Costly, Growing, Name

__all__ = ["CONSTRUCTORS"]

_NODES = (
    "AnyNode", "StringNode", "IntegerNode", "FloatNode", "BooleanNode", "EnumNode", "BytesNode", "PathNode",
    "UntypedNode",  # of version 1
)  # fmt: skip


def _dictionary(args: tuple[object, ...]) -> object:
    return UNFIT if args else Growing({}, _grown_dictionary)


def _grown_dictionary(made: dict[object, object], state: object) -> object:
    content = _inside(state, "content")
    if not isinstance(content, dict):
        return content

    def fill() -> object:
        made.update(content)
        return made

    return Costly(len(content), fill)


def _list(args: tuple[object, ...]) -> object:
    return UNFIT if args else Growing([], _grown_list)


def _grown_list(made: list[object], state: object) -> object:
    content = _inside(state, "content")
    if not isinstance(content, (list, tuple)):
        return content

    def fill() -> object:
        made.extend(content)
        return made

    return Costly(len(content), fill)


def _node(module: str, name: str, attribute: str) -> Constructor:
    def construct(args: tuple[object, ...]) -> object:
        return UNFIT if args else Growing(Record(module, name, ()), grow)

    def grow(made: object, state: object) -> object:
        return _inside(state, attribute)

    return construct


def _inside(state: object, attribute: str) -> object:
    """The content or value in a state, by its new name or its old one."""
    if not isinstance(state, dict):
        return UNFIT
    return state.get("_" + attribute, state.get(attribute, UNFIT))


CONSTRUCTORS: Mapping[Name, Constructor] = {
    ("omegaconf.dictconfig", "DictConfig"): _dictionary,
    ("omegaconf.listconfig", "ListConfig"): _list,
    ("omegaconf.base", "UnionNode"): _node("omegaconf.base", "UnionNode", "content"),
    **{("omegaconf.nodes", name): _node("omegaconf.nodes", name, "val") for name in _NODES},
}
"""(module, name) → the function that makes the value."""
