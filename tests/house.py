"""The rules of the house, each a function from a file's syntax tree to what is wrong with it. Nothing is imported."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

FLOORS = {
    # The ground: pure functions and records that everybody may use and that know nobody.
    "errors": -1, "dtypes": -1, "text": -1, "limits": -1, "collector": -1,
    "storage": 0,
    "checkpoint": 1,
    "pickles": 2,
    "formats": 3,
    "matching": 4, "checking": 4,
    "placing": 5, "writing": 5,
    "whole": 6,
    "training": 7,
    "zoo": 8,
    "api": 9, "rules": 9,
    "cli": 10, "web": 10, "__init__": 10, "__main__": 11,
}  # fmt: skip
"""Where each room is. A file imports from floors strictly below its own, and from its own room."""
TORCH_FROM = FLOORS["placing"]
TORCH_LATE = ("api", "cli", "web", "__init__", "__main__")
"""Rooms above the line that load torch only through a room in between, and only when a verb is called."""
TORCH_METHOD = ("checkpoint/tensor.py", "torch")
"""The one exception: this method of TensorRef imports torch inside."""
RUNS_CODE = "whole"
BUDGET = 500
"""Lines of a file."""

BANNED_MODULES = {
    "pickle", "_pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "jsonpickle", "runpy", "code",
    "codeop", "builtins", "torchvision",
}  # fmt: skip
BANNED_NAMES = {
    "eval", "exec", "compile", "__import__", "__builtins__",
    "torch.load", "torch.serialization.load", "torch.jit.load", "torch.hub", "torch.package", "torch.utils.model_zoo",
    "importlib.reload", "importlib.__import__", "importlib.machinery", "importlib.util.module_from_spec",
    "os.system", "os.popen", "os.execv", "os.execve", "os.execvp", "os.spawnv", "os.startfile", "pty.spawn",
}  # fmt: skip
"""What runs what it is given, by the path that its name leads to through the file's imports."""
SETS = {"setattr", "delattr", "object.__setattr__"}
"""What changes an object by a name that a file could choose; only where tensors are put into modules."""
VAGUE = {"utils", "helpers", "common", "core"}


@dataclass(frozen=True)
class Module:
    """A source file: where it lies below the package, and what is in it."""

    path: PurePosixPath
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, str(self.path))

    @property
    def room(self) -> str:
        """The folder it is in, or its own name on the ground."""
        return self.path.parts[0] if len(self.path.parts) > 1 else self.path.stem

    @property
    def name(self) -> str:
        parts = ["rehydrate", *self.path.with_suffix("").parts]
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @cached_property
    def names(self) -> dict[str, str]:
        """What each name stands for: `p` → `pickle` after `import pickle as p`, and `q` too after `q = p`."""
        found: dict[str, str] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    first = alias.name.split(".")[0]
                    found[alias.asname or first] = alias.name if alias.asname else first
            elif isinstance(node, ast.ImportFrom):
                found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        for node in ast.walk(self.tree):
            value = node.value if isinstance(node, (ast.Assign, ast.AnnAssign, ast.NamedExpr)) else None
            meaning = "" if value is None else _meaning(value, found)
            for target in _targets(node) if meaning else ():
                found.setdefault(target, meaning)
        return found

    def meaning(self, node: ast.AST) -> str:
        """The dotted path that an expression leads to, or nothing: `p.load` is `pickle.load`."""
        return _meaning(node, self.names)

    def imports(self, *, inside_functions: bool) -> Iterator[tuple[str, ast.AST]]:
        """Modules that it imports, also through `import_module`; those for type checkers only are left out."""
        stack: list[ast.AST] = [self.tree]
        while stack:
            node = stack.pop()
            if isinstance(node, ast.If) and self.meaning(node.test) == "typing.TYPE_CHECKING":
                stack.extend(node.orelse)
                continue
            if isinstance(node, ast.Import):
                yield from ((alias.name, node) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield node.module or "", node
                yield from ((f"{node.module}.{alias.name}", node) for alias in node.names)
            elif isinstance(node, ast.Call) and self.meaning(node.func) == "importlib.import_module":
                yield from ((module, node) for module in self._modules_in(node))
            is_function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            if inside_functions or not is_function:
                stack.extend(ast.iter_child_nodes(node))

    def _modules_in(self, call: ast.Call) -> list[str]:
        """What a call of `import_module` may import: a string, the beginning of one, or a table of the file's own."""
        argument = call.args[0] if call.args else None
        if isinstance(argument, ast.JoinedStr) and argument.values:
            return [_constant(argument.values[0])]
        if isinstance(argument, ast.Subscript) and isinstance(argument.value, ast.Name):
            return [text for text in self._strings_behind(argument.value.id) if text.startswith("rehydrate.")] or [""]
        return [_constant(argument) if argument is not None else ""]

    def _strings_behind(self, name: str) -> list[str]:
        """Strings in the module's own assignment to a name, and in the tables that it is made from."""
        for node in self.tree.body:
            if name in _targets(node):
                inside = list(ast.walk(node))
                texts = [text for part in inside if (text := _constant(part))]
                others = {part.id for part in inside if isinstance(part, ast.Name) and part.id not in (name, "name")}
                return texts + [text for other in sorted(others) for text in self._strings_behind(other)]
        return []


def _meaning(node: ast.AST, names: dict[str, str]) -> str:
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id if hasattr(builtins, node.id) or node.id == "__builtins__" else "")
    if isinstance(node, ast.Attribute):
        base = _meaning(node.value, names)
        return f"{base}.{node.attr}" if base else ""
    if isinstance(node, ast.Subscript) and _meaning(node.value, names) == "sys.modules":
        return _constant(node.slice)
    if isinstance(node, ast.Call) and node.args:
        function = _meaning(node.func, names)
        if function == "importlib.import_module":
            return _constant(node.args[0])
        if function == "getattr" and len(node.args) > 1:
            base, name = _meaning(node.args[0], names), _constant(node.args[1])
            return f"{base}.{name}" if base and name else ""
    return ""


def _targets(node: ast.AST) -> list[str]:
    """The names that an assignment binds."""
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _constant(node: ast.AST) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def upward_imports(module: Module) -> Iterator[str]:
    """Imports from a floor that is not below, or that cannot be told."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield _at(module, node, "a relative import")
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            yield _at(module, node, "an import of everything")
    for name, node in module.imports(inside_functions=True):
        if isinstance(node, ast.Call) and not name.startswith("rehydrate"):
            yield _at(module, node, f"import_module of {name or 'what cannot be told'}")
        there = _room_of(name)
        if there is None or there == module.room:
            continue
        if name in ("rehydrate", "rehydrate.__version__") and module.room in ("cli", "__main__"):
            continue  # the command line says which version it is
        if FLOORS[there] >= FLOORS.get(module.room, -1):
            yield _at(module, node, f"{module.room} imports {name}, which is not below it")


def _room_of(name: str) -> str | None:
    parts = name.split(".")
    if parts[0] != "rehydrate":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in FLOORS else "__init__"


def cycles(modules: Iterable[Module]) -> Iterator[str]:
    """Modules that cannot be imported without having been imported, functions left out."""
    known = {module.name: module for module in modules}
    graph = {
        name: sorted({other for other, _ in module.imports(inside_functions=False) if other in known and other != name})
        for name, module in known.items()
    }
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> Iterator[str]:
        if name in trail:
            yield " -> ".join((*trail[trail.index(name) :], name))
        elif name not in done:
            for other in graph[name]:
                yield from visit(other, (*trail, name))
            done.add(name)

    for name in sorted(graph):
        yield from visit(name, ())


def torch_below_its_line(module: Module) -> Iterator[str]:
    """Imports of torch where there must be none."""
    if FLOORS.get(module.room, -1) >= TORCH_FROM and module.room not in TORCH_LATE:
        return
    allowed: set[ast.AST] = set()
    if str(module.path) == TORCH_METHOD[0]:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef) and node.name == TORCH_METHOD[1]:
                allowed |= set(ast.walk(node))
    for name, node in module.imports(inside_functions=True):
        if name.split(".")[0] in ("torch", "functorch") and node not in allowed:
            yield _at(module, node, f"imports {name}")
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Subscript) and module.meaning(node).split(".")[0] == "torch":
            yield _at(module, node, "takes torch out of sys.modules")


def code_that_runs(module: Module) -> Iterator[str]:
    """Whatever runs what it is given: named, called, kept under another name or looked up by a string."""
    if module.room == RUNS_CODE:
        return
    for name, node in module.imports(inside_functions=True):
        if name.split(".")[0] in BANNED_MODULES or _is_banned(name):
            yield _at(module, node, f"imports {name}")
    for node in ast.walk(module.tree):
        meaning = module.meaning(node)
        if meaning.split(".")[0] in BANNED_MODULES or _is_banned(meaning):
            yield _at(module, node, f"names {meaning}")
        if meaning in SETS and FLOORS.get(module.room, -1) < FLOORS["placing"]:
            yield _at(module, node, f"names {meaning}")
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and not _is_false(node.value):
            yield _at(module, node, "allows pickles")


def _is_false(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def _is_banned(path: str) -> bool:
    parts = path.split(".")
    return any(".".join(parts[:length]) in BANNED_NAMES for length in range(1, len(parts) + 1))


def untidiness(module: Module) -> Iterator[str]:
    """A file without its purpose, too long, or with a name that says nothing."""
    if not ast.get_docstring(module.tree):
        yield f"{module.path} does not say what it is for"
    if len(module.text.splitlines()) > BUDGET:
        yield f"{module.path} has grown past {BUDGET} lines"
    if VAGUE & set(module.path.with_suffix("").parts):
        yield f"{module.path} has a name that says nothing"
    if module.room not in FLOORS:
        yield f"{module.path} is on no floor"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ClassDef) and node.name.endswith("Manager"):
            yield _at(module, node, f"{node.name} has a name that says nothing")
        if isinstance(node, ast.Assert):
            yield _at(module, node, "an assert, which -O takes out")


def _at(module: Module, node: ast.AST, what: str) -> str:
    return f"{module.path}:{getattr(node, 'lineno', 0)}: {what}"
