"""The house, checked by AST on every run: imports go only down, no cycles, no torch below its line and none at
start-up, no call that runs what it is given, no file over the budget. `docs/house.md` is the same in words.

Each rule is also held against small files that break it, so that none of them is a rule that nothing can break."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

import pytest

from .house import FLOORS, Module, code_that_runs, cycles, torch_below_its_line, untidiness, upward_imports

PACKAGE = Path(__file__).parent.parent / "src" / "rehydrate"
MODULES = [
    Module(PurePosixPath(path.relative_to(PACKAGE).as_posix()), path.read_text("utf-8"))
    for path in sorted(PACKAGE.rglob("*.py"))
]
RULES: list[Callable[[Module], Iterable[str]]] = [upward_imports, torch_below_its_line, code_that_runs, untidiness]


def sample(path: str, text: str) -> Module:
    """A file that somebody might write."""
    return Module(PurePosixPath(path), f'"""What it is for."""\n{text}\n')


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.path))
def test_the_house_keeps_its_rules(module: Module, rule: Callable[[Module], Iterable[str]]) -> None:
    assert list(rule(module)) == []


def test_imports_have_no_cycles() -> None:
    assert list(cycles(MODULES)) == []


def test_the_rules_look_at_every_file_of_every_room() -> None:
    assert len(MODULES) > 50
    assert {"errors", "storage", "checkpoint", "pickles", "formats", "placing", "cli"} <= {
        module.room for module in MODULES
    }
    assert all(module.tree.body for module in MODULES)
    assert sum(1 for module in MODULES for _ in module.imports(inside_functions=True)) > 500


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("storage/x.py", "import rehydrate.formats.opening"),
        ("storage/x.py", "from rehydrate.checkpoint.record import Record"),
        ("storage/x.py", "from rehydrate.checkpoint import record"),
        ("storage/x.py", "from rehydrate import api"),
        ("storage/x.py", "import rehydrate"),
        ("storage/x.py", "from rehydrate import open"),
        ("text.py", "from rehydrate.storage.source import Source"),
        ("text.py", "import rehydrate.errors"),
        ("placing/x.py", "from rehydrate.writing.save import save"),
        ("matching/x.py", "def f():\n    from rehydrate.placing.into import load_into"),
        ("matching/x.py", "class A:\n    import rehydrate.placing"),
        ("matching/x.py", "try:\n    import rehydrate.placing\nexcept ImportError:\n    pass"),
        ("matching/x.py", "from importlib import import_module\nimport_module('rehydrate.placing.into')"),
        ("matching/x.py", "import importlib as i\ni.import_module('rehydrate.zoo')"),
        ("matching/x.py", "from importlib import import_module as get\nget(f'rehydrate.zoo.{name}')"),
        (
            "matching/x.py",
            "from importlib import import_module\nHOMES = {'a': 'rehydrate.zoo'}\nimport_module(HOMES['a'])",
        ),
        ("__init__.py", "from importlib import import_module\nimport_module(name)"),
        ("__init__.py", "from importlib import import_module\nimport_module(f'{name}.x')"),
        ("__init__.py", "from importlib import import_module\nimport_module('os')"),
        ("__init__.py", "from importlib import import_module\nHOMES = {}\nimport_module(HOMES[name])"),
        ("formats/x.py", "from . import opening"),
        ("formats/x.py", "from rehydrate.errors import *"),
        (
            "matching/x.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    pass\nelse:\n    import rehydrate.zoo",
        ),
        ("matching/x.py", "TYPE_CHECKING = True\nif TYPE_CHECKING:\n    import rehydrate.zoo"),
    ],
)
def test_an_import_that_goes_up_is_seen(path: str, text: str) -> None:
    assert list(upward_imports(sample(path, text)))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("storage/x.py", "from rehydrate.errors import CorruptError\nfrom rehydrate.storage.source import Source"),
        ("matching/x.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import rehydrate.zoo"),
        ("cli/main.py", "from rehydrate import __version__"),
        ("__init__.py", "from importlib import import_module\nH = {'a': 'rehydrate.api'}\nimport_module(H[name])"),
    ],
)
def test_an_import_that_goes_down_is_let_through(path: str, text: str) -> None:
    assert not list(upward_imports(sample(path, text)))


def test_a_cycle_is_seen() -> None:
    first = sample("formats/a.py", "from rehydrate.formats import b")
    second = sample("formats/b.py", "import rehydrate.formats.c as c")
    third = sample("formats/c.py", "class C:\n    from rehydrate.formats.a import A")
    late = sample("formats/c.py", "def f():\n    from rehydrate.formats.a import A")
    assert list(cycles([first, second, third]))
    assert not list(cycles([first, second, late]))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("formats/x.py", "import torch"),
        ("formats/x.py", "import torch.nn as nn"),
        ("formats/x.py", "from torch import nn"),
        ("formats/x.py", "from torch.nn.modules import Module"),
        ("formats/x.py", "def f():\n    import torch"),
        ("formats/x.py", "async def f():\n    import torch"),
        ("formats/x.py", "from importlib import import_module\nimport_module('torch')"),
        ("formats/x.py", "import sys\nsys.modules['torch']"),
        ("checkpoint/tensor.py", "def numpy(self):\n    import torch"),
        ("checkpoint/arrays.py", "def torch(self):\n    import torch"),
        ("api.py", "import torch"),
        ("cli/inspect.py", "def f():\n    import torch"),
        ("__init__.py", "import torch"),
    ],
)
def test_torch_below_its_line_is_seen(path: str, text: str) -> None:
    assert list(torch_below_its_line(sample(path, text)))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("placing/x.py", "import torch"),
        ("checkpoint/tensor.py", "class T:\n    def torch(self):\n        import torch"),
        ("formats/x.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch"),
        ("formats/x.py", "from rehydrate.pickles import torch_names"),
    ],
)
def test_torch_above_its_line_is_let_through(path: str, text: str) -> None:
    assert not list(torch_below_its_line(sample(path, text)))


@pytest.mark.parametrize(
    "text",
    [
        "eval('1')", "exec('x = 1')", "compile('1', '', 'eval')", "__import__('os')", "run = eval", "f(exec)",
        "[eval][0]('1')", "getattr(__builtins__, 'eval')", "__builtins__['eval']", "import builtins",
        "import builtins as b\nb.eval('1')", "from builtins import eval as e\ne('1')", "import pickle",
        "import pickle as p\np.load(f)", "from pickle import loads", "from pickle import Unpickler as U",
        "import _pickle", "import marshal", "import joblib", "import dill", "import torchvision.models",
        "def f():\n    import pickle", "try:\n    import cPickle\nexcept ImportError:\n    pass",
        "from importlib import import_module\nimport_module('pickle')",
        "import sys\nsys.modules['pickle'].loads(b'')", "import importlib\nimportlib.reload(m)",
        "from importlib.util import module_from_spec", "import torch\ntorch.load(f)",
        "import torch\ntorch.serialization.load(f)", "from torch import load",
        "from torch import load as read\nread(f)", "import torch as t\nt.load(f)",
        "from torch.serialization import load", "import torch.serialization as s\ns.load(f)",
        "import torch\nread = torch.load", "import torch\nf(torch.load)", "import torch\ngetattr(torch, 'load')(f)",
        "import torch\ntorch.hub.load('a', 'b')", "import torch\ntorch.jit.load(f)", "from torch import hub",
        "from torch import serialization as s\ns.load(f)", "from torch.jit import load",
        "import os\nos.system('true')", "from os import popen", "import os as o\no.execv('a', [])",
        "import numpy\nnumpy.load(f, allow_pickle=True)", "import numpy\nnumpy.load(f, allow_pickle=flag)",
        "import runpy", "import torch\nt = torch\nt.load(f)",
        "import torch\ns: object = torch.serialization\ns.load(f)",
        "from importlib import import_module\nm = import_module('torch')\nm.load(f)",
        "import torch\nif (t := torch):\n    t.load(f)",
    ],
)  # fmt: skip
def test_code_that_runs_what_it_is_given_is_seen(text: str) -> None:
    assert list(code_that_runs(sample("placing/x.py", text)))
    assert list(code_that_runs(sample("formats/x.py", text)))
    assert not list(code_that_runs(sample("whole/x.py", text)))


@pytest.mark.parametrize(
    "text",
    ["setattr(a, 'b', 1)", "change = setattr", "delattr(a, 'b')", "object.__setattr__(a, 'b', 1)", "f(setattr)"],
)
def test_setting_by_name_is_seen_below_the_floor_that_may(text: str) -> None:
    assert list(code_that_runs(sample("formats/x.py", text)))
    assert not list(code_that_runs(sample("placing/x.py", text)))


@pytest.mark.parametrize(
    "text",
    [
        "import re\nre.compile('a')", "checkpoint.load(f)", "from rehydrate.api import load\nload(f)",
        "from rehydrate.pickles import machine", "self.exec()", "import numpy\nnumpy.load(f, allow_pickle=False)",
        "import torch\ntorch.save(a, f)", "model.eval()", "import os\nos.open('a', 0)", "name = 'eval'", "x.pickle = 1",
    ],
)  # fmt: skip
def test_what_only_sounds_like_it_is_let_through(text: str) -> None:
    assert not list(code_that_runs(sample("placing/x.py", text)))


@pytest.mark.parametrize(
    "module",
    [
        Module(PurePosixPath("text.py"), "x = 1\n"),
        sample("text.py", "\n" * 500),
        sample("formats/utils.py", ""),
        sample("common/x.py", ""),
        sample("nowhere/x.py", ""),
        sample("text.py", "class FileManager:\n    pass"),
        sample("text.py", "assert True"),
    ],
    ids=["no purpose", "too long", "utils", "common", "no floor", "manager", "assert"],
)
def test_untidiness_is_seen(module: Module) -> None:
    assert list(untidiness(module))


def test_a_tidy_file_is_let_through() -> None:
    assert not list(untidiness(sample("text.py", "\n" * 498)))


@pytest.mark.parametrize(
    "statement", ["import rehydrate", "import rehydrate.api", "import rehydrate.cli.inspect", "import rehydrate.zoo"]
)
def test_starting_up_loads_neither_torch_nor_numpy(statement: str) -> None:
    code = f"{statement}; import sys; print(sorted({{'torch', 'numpy', 'ml_dtypes', 'PIL'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_room_that_the_house_has_is_on_the_plan() -> None:
    rooms = {module.room for module in MODULES}
    assert rooms <= set(FLOORS)
    plan = (PACKAGE.parent.parent / "docs" / "house.md").read_text("utf-8")
    assert [room for room in sorted(rooms) if f"`{room}/" not in plan and f"`{room}.py" not in plan] == []


def test_every_property_is_tried_on_the_same_examples_each_time() -> None:
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef):
                decorators = [ast.unparse(decorator).partition("(")[0] for decorator in node.decorator_list]
                assert ("given" in decorators) == ("tried" in decorators), f"{path.name}: {node.name}"
