"""What the audit says would be imported, held against what Python's own unpickler asks for, with nothing behind it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import rehydrate as rh

from ..hostile.assembler import build, call, empty_dict, global_, pickle_of, pop, setitem, unicode
from .test_audit import CODE, ID, REACHED, SYSTEM

ASK = """
import io, json, pickle, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
resource.setrlimit(resource.RLIMIT_CPU, (10, 10))
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

class Nothing:
    def __new__(cls, *args, **kwargs): return object.__new__(cls)
    def __init__(self, *args, **kwargs): pass
    def __call__(self, *args, **kwargs): return Nothing()
    def __setstate__(self, state): pass
    def __setitem__(self, key, value): pass
    def append(self, item): pass
    def extend(self, items): pass
    def add(self, item): pass
    def __hash__(self): return id(self)

class Asks(pickle._Unpickler):
    def find_class(self, module, name):
        asked.append(module + "." + name)
        return Nothing

answers = []
for line in sys.stdin:
    asked = []
    try:
        Asks(io.BytesIO(bytes.fromhex(line)), fix_imports=False).load()
    except Exception as error:
        answers.append(None)
        continue
    answers.append(list(dict.fromkeys(asked)))
print(json.dumps(answers))
"""

PROGRAMS = {
    **{name: program for name, (program, _) in {**REACHED, **CODE}.items()},
    "honest": call("net", "Net")
    + empty_dict
    + unicode("fc")
    + call("torch.nn.modules.linear", "Linear")
    + setitem
    + build,
    "discarded": SYSTEM + pop + call("net", "Net", ID, global_("net", "Other")),
    "nothing": empty_dict,
}


@pytest.fixture(scope="module")
def asked() -> dict[str, list[str] | None]:
    """What Python's unpickler asks for in each program; None for what it cannot read with nothing behind the names."""
    lines = "\n".join(pickle_of(program, version=4).hex() for program in PROGRAMS.values())
    done = subprocess.run(
        [sys.executable, "-I", "-c", ASK], input=lines, capture_output=True, text=True, check=True, timeout=60
    )
    return dict(zip(PROGRAMS, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_import_that_python_would_make_is_told(name: str, asked: dict[str, list[str] | None]) -> None:
    told = rh.audit(pickle_of(PROGRAMS[name], version=4)).imports
    wanted = asked[name]
    if wanted is not None:
        assert [path for path in told if path in wanted] == wanted
        assert name in REACHED or list(told) == wanted


def test_python_reads_nearly_all_of_them(asked: dict[str, list[str] | None]) -> None:
    assert sum(names is None for names in asked.values()) <= 6
