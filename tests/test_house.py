"""The house, checked by AST on every run: imports go only down, no cycles, no torch below its line and none at
start-up, no banned call, no file over the budget. `docs/house.md` is the same in words."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "rehydrate"
BUDGET = 500

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
    "api": 9,
    "cli": 10, "web": 10, "__init__": 10, "__main__": 11,
}  # fmt: skip
TORCH_FROM = 5
TORCH_METHOD = ("checkpoint/tensor.py", "torch")
"""The one exception: this method of TensorRef imports torch inside."""
RUNS_CODE = "whole"
BANNED_CALLS = {"eval", "exec", "compile", "__import__"}
BANNED_METHODS = {
    ("pickle", "load"),
    ("pickle", "loads"),
    ("torch", "load"),
    ("marshal", "loads"),
    ("marshal", "load"),
}
BANNED_MODULES = {
    "pickle",
    "_pickle",
    "marshal",
    "shelve",
    "dill",
    "cloudpickle",
    "joblib",
    "torchvision",
}
BANNED_NAMES = {"utils", "helpers", "common", "core"}

FILES = sorted(PACKAGE.rglob("*.py"))


def place_of(path: Path) -> str:
    """The room a file is in: its folder below the package, or its own name on the ground."""
    inside = path.relative_to(PACKAGE)
    return inside.parts[0] if len(inside.parts) > 1 else inside.stem


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports_of(tree: ast.AST, *, inside_functions: bool) -> Iterator[tuple[str, ast.AST]]:
    """Modules that a file imports; those for type checkers only are left out."""
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        if is_for_types(node):
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or "", node
            yield from ((f"{node.module}.{alias.name}", node) for alias in node.names)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) and not inside_functions:
            continue
        stack.extend(ast.iter_child_nodes(node))


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def room_of_module(module: str) -> str | None:
    parts = module.split(".")
    if parts[0] != "rehydrate":
        return None
    if len(parts) == 1:
        return "__init__"
    return parts[1] if parts[1] in FLOORS else "__init__"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_only_from_floors_below_and_from_its_own_room(path: Path) -> None:
    here = place_of(path)
    for module, node in imports_of(parsed(path), inside_functions=True):
        there = room_of_module(module)
        if there is None or there == here:
            continue
        if module in (
            "rehydrate",
            "rehydrate.__version__",
        ):  # the command line says which version it is
            assert here in ("cli", "__main__"), f"{path}:{node.lineno}"
            continue
        assert FLOORS[there] < FLOORS[here], f"{path}:{node.lineno} ({here}) imports {module}, which is not below it"


def test_every_room_is_on_a_floor() -> None:
    assert {place_of(path) for path in FILES} <= set(FLOORS)


def test_imports_have_no_cycles() -> None:
    graph: dict[str, set[str]] = {}
    names = {module_name(path): path for path in FILES}
    for name, path in names.items():
        found = {module for module, _ in imports_of(parsed(path), inside_functions=False)}
        graph[name] = {module for module in found if module in names and module != name}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name not in done:
            for module in sorted(graph[name]):
                visit(module, (*trail, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())


def module_name(path: Path) -> str:
    parts = ["rehydrate", *path.relative_to(PACKAGE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_torch_stays_above_its_line(path: Path) -> None:
    if FLOORS[place_of(path)] >= TORCH_FROM and place_of(path) not in (
        "api",
        "cli",
        "__init__",
        "__main__",
    ):
        return
    tree = parsed(path)
    allowed: set[ast.AST] = set()
    if path.relative_to(PACKAGE).as_posix() == TORCH_METHOD[0]:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name == TORCH_METHOD[1]:
                allowed = set(ast.walk(node))
    for module, node in imports_of(tree, inside_functions=True):
        if module.split(".")[0] == "torch":
            assert node in allowed, f"{path}:{node.lineno} imports torch"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_that_runs_what_a_file_says_is_called(path: Path) -> None:
    here = place_of(path)
    if here == RUNS_CODE:
        return
    tree = parsed(path)
    for module, node in imports_of(tree, inside_functions=True):
        assert module.split(".")[0] not in BANNED_MODULES, f"{path}:{node.lineno} imports {module}"
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Name):
            assert called.id not in BANNED_CALLS, f"{path}:{node.lineno} calls {called.id}"
            assert called.id != "setattr" or FLOORS[here] >= FLOORS["placing"], f"{path}:{node.lineno} calls setattr"
        if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
            assert (called.value.id, called.attr) not in BANNED_METHODS, f"{path}:{node.lineno}"
            assert (called.value.id, called.attr) != ("object", "__setattr__"), f"{path}:{node.lineno}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_opens_with_its_purpose_and_stays_within_the_budget(path: Path) -> None:
    text = path.read_text("utf-8")
    assert ast.get_docstring(parsed(path)), f"{path} does not say what it is for"
    assert len(text.splitlines()) <= BUDGET, f"{path} has grown past {BUDGET} lines"
    assert not BANNED_NAMES & set(path.relative_to(PACKAGE).with_suffix("").parts)


@pytest.mark.parametrize("statement", ["import rehydrate", "import rehydrate.api", "import rehydrate.cli.inspect"])
def test_starting_up_loads_neither_torch_nor_numpy(statement: str) -> None:
    code = f"{statement}; import sys; print(sorted({{'torch', 'numpy', 'ml_dtypes', 'PIL'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_can_be_had_and_is_listed() -> None:
    import rehydrate

    for name in rehydrate.__all__:
        assert getattr(rehydrate, name) is not None
    assert set(rehydrate.__all__) <= set(dir(rehydrate))
    with pytest.raises(AttributeError, match="no attribute 'lood'"):
        _ = rehydrate.lood
