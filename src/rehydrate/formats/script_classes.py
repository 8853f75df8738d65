r"""What the classes of a TorchScript archive declare: which attributes are parameters, and which are buffers.

    class Linear(Module):                                 in code/__torch__/torch/nn/modules/linear.py
      __parameters__ = ["weight", "bias", ]
      __buffers__ = []                                    absent before torch 1.5: every other Tensor is one
      weight : Tensor
      __annotations__["0"] = Tensor                       the same for a name that is no identifier

The head of each class is matched as text, line by line; nothing is parsed further, compiled or run. With it the objects
of an archive can be given the shape of pickled modules, whose walk gives what `state_dict()` of the loaded program
would. Source: `PythonPrintImpl::printClass` in `torch/csrc/jit/serialization/python_print.cpp`, `slot_iterator` in
`torch/csrc/jit/api/module.h`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from rehydrate.checkpoint.record import Record
from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.formats.zip_directory import ZipDirectory

__all__ = ["PACKAGE", "Declaration", "as_pickled_modules", "declarations"]

PACKAGE = "__torch__"
"""What the qualified name of every class of an archive begins with."""
_CLASS = re.compile(r"class ([^\s(:]+)(?:\(([^)]*)\))?:")
_LIST = re.compile(r"  (__parameters__|__buffers__) = \[(.*)\]")
_ATTRIBUTE = re.compile(r'  (?:__annotations__\["((?:[^"\\]|\\.)*)"\] = |(\S+) : )(.*)')
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)(?:"|\\?$)')  # an open end is taken, too: nothing is looked at twice
_END_OF_HEAD = "  def "


@dataclass(frozen=True, slots=True)
class Declaration:
    """The head of one class."""

    is_module: bool
    parameters: frozenset[str]
    buffers: frozenset[str] | None
    """None where the class does not say."""
    types: Mapping[str, str]
    """Attribute → its type, as it is written."""

    def is_buffer(self, name: str) -> bool:
        """Whether a tensor under this name is a buffer, given that it is no parameter."""
        return self.types.get(name) == "Tensor" if self.buffers is None else name in self.buffers


def declarations(directory: ZipDirectory, folder: str) -> dict[str, Declaration]:
    """The classes below a folder of code by their qualified names.

    Raises what reading a member raises.
    """
    found: dict[str, Declaration] = {}
    for name, member in directory.members.items():
        if name.startswith(folder) and name.endswith(".py"):
            text = directory.read(member, directory.limits.pickle_bytes).decode("utf-8", "replace")
            module = name.removeprefix(folder).removesuffix(".py").replace("/", ".")
            for class_name, declaration in _classes(text):
                found[f"{module}.{class_name}"] = declaration
    return found


@dataclass(slots=True)
class _Head:
    """The head of a class while its lines are read."""

    name: str
    base: str
    lists: dict[str, frozenset[str]] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)

    def declared(self) -> tuple[str, Declaration]:
        """The class's name, and what it declares."""
        parameters = self.lists.get("__parameters__", frozenset())
        buffers = self.lists.get("__buffers__")
        return self.name, Declaration(self.base == "Module", parameters, buffers, self.types)


def _classes(text: str) -> Iterator[tuple[str, Declaration]]:
    head: _Head | None = None
    for line in text.split("\n"):
        opening = _CLASS.match(line)
        if head is not None and (opening is not None or line.startswith(_END_OF_HEAD)):
            yield head.declared()
            head = None
        if opening is not None:
            head = _Head(opening[1], opening[2] or "")
        elif head is not None:
            listed, attribute = _LIST.match(line), _ATTRIBUTE.match(line)
            if listed is not None:
                head.lists[listed[1]] = frozenset(_QUOTED.findall(listed[2]))
            elif attribute is not None:
                head.types[attribute[1] or attribute[2]] = attribute[3]
    if head is not None:
        yield head.declared()


def _is_object(value: object) -> bool:
    """Whether this is an object of a class that the archive brings along, or of one of torch's own."""
    return isinstance(value, Record) and value.args == () and value.module.split(".", 1)[0] == PACKAGE


def as_pickled_modules(root: Record, declared: Mapping[str, Declaration]) -> Record | None:
    """The modules of a program in the shape of pickled ones: parameters, buffers and modules apart.

    None where that would leave out what a model consists of: state that is packed into an object, as that of quantised
    layers is, or all of it, as after freezing. A module that stands in two places is two records of one state.
    """
    if not _is_module(root, declared):
        return None
    made = {id(root): _tables()}
    waiting = [root]
    count = 0
    while waiting:
        module = waiting.pop()
        tables = made[id(module)]
        for name, value in module.state.items() if isinstance(module.state, dict) else ():
            declaration = declared.get(module.path)
            table = _table(name, value, declaration)
            if table:
                tables[table][name] = _marked(value) if declaration and table == "_parameters" else value
                count += 1
            elif isinstance(value, Record) and _is_module(value, declared):
                if id(value) not in made:
                    made[id(value)] = _tables()
                    waiting.append(value)
                tables["_modules"][name] = Record(value.module, value.name, (), state=made[id(value)])
            elif isinstance(value, Record) and _is_object(value) and not isinstance(value.state, dict):
                return None
    return Record(root.module, root.name, (), state=made[id(root)]) if count else None


def _is_module(value: Record, declared: Mapping[str, Declaration]) -> bool:
    declaration = declared.get(value.path)
    return _is_object(value) and isinstance(value.state, dict) and (declaration is None or declaration.is_module)


def _table(name: object, value: object, declaration: Declaration | None) -> str:
    """Which table of a module a value belongs into; none for what is no part of a state dict."""
    is_tensor = isinstance(value, TensorRef) or (isinstance(value, Record) and value.module == "torch._utils")
    if not is_tensor or not isinstance(name, str):
        return ""
    if declaration is None:
        return "_parameters"
    if name in declaration.parameters:
        return "_parameters"
    return "_buffers" if declaration.is_buffer(name) else ""


def _marked(value: object) -> object:
    """A tensor that is declared to be a parameter, as one that a pickle rebuilds as such."""
    if not isinstance(value, TensorRef):
        return value
    return TensorRef("", replace(value.window, traits=value.traits | {"parameter"}), value.storage)


def _tables() -> dict[str, dict[object, object]]:
    return {"_parameters": {}, "_buffers": {}, "_modules": {}}
