"""TorchScript archives: a program with its weights, as `torch.jit.save` has written since 1.3; also for phones.

    NAME/data.pkl                 the module: an object whose attributes are tensors, values and other objects
    NAME/data/KEY                 its tensors' storages
    NAME/constants.pkl            a tuple: what the code calls CONSTANTS.c0, c1, ...; after freezing, the weights
    NAME/constants/KEY
    NAME/code/__torch__/*.py      the program, in a language that looks like Python
    NAME/code/**.debug_pkl        where each line came from; not read
    NAME/bytecode.pkl             the program for the lite interpreter (`_save_for_lite_interpreter`)
    NAME/bytecode/KEY             its constants up to version 4; later they are in constants/, named by KEY or whole
    NAME/mobile_debug_handles.pkl
    NAME/extra/*                  `_extra_files`
    NAME/version, byteorder, .data/...   as in `torch_archive`

    persistent id                 ("storage", torch.FloatStorage, KEY, LOCATION, NUMEL), in 1.3 with a None behind
    an object                     GLOBAL `__torch__.package.Class`, (), NEWOBJ, {attribute: value}, BUILD; a class with
                                  `__getstate__` has that state instead of the dictionary: packed weights, for one

The pickles are protocol 2, written by C++, which stores each tensor's own storage under typed names and the types of
lists as calls (`pickles.script_names`). Nothing of the program is run. What is opened is the module as a record whose
attributes are names: `conv1.weight`; constants are under `CONSTANTS`. Sources: `torch/csrc/jit/serialization/` (export,
import, pickler), `torch/csrc/jit/mobile/import.cpp`. Archives of before 1.3 are in `script_model_json`.

torch.load hands an archive with a `constants.pkl` to torch.jit (CVE-2025-32434), so one whose `data.pkl` is no object
is a file of torch.save made up as a program, or the reverse: an error.
"""

from __future__ import annotations

from functools import partial

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.record import Record, brief
from rehydrate.checkpoint.tensor import Storage
from rehydrate.errors import AmbiguousError, CorruptError
from rehydrate.formats.contract import Request
from rehydrate.formats.facts import facts_of_all, saved_on, trace_of
from rehydrate.formats.pickle_inside import check_nothing_after
from rehydrate.formats.script_classes import PACKAGE, as_pickled_modules, declarations
from rehydrate.formats.torch_archive import Storages, byte_order, folder_of, folders_with, type_untyped, version_of
from rehydrate.formats.zip_directory import ZipDirectory
from rehydrate.formats.zip_kind import ZipKind
from rehydrate.pickles.known import read_known_pickle
from rehydrate.pickles.reading import Reading
from rehydrate.text import shown

__all__ = ["TORCHSCRIPT", "program_facts"]

_CODE = "code/"
_PROGRAM = ("constants.pkl", "bytecode.pkl")
_PICKLES = ("data", "constants", "bytecode", "mobile_debug_handles")
"""The pickles that torch reads, and for each a folder of storages."""


def _knows(directory: ZipDirectory) -> bool:
    folders = folders_with(directory, "data.pkl")
    if not folders:
        return False
    names, prefix = directory.members, folders[0]
    return any(prefix + record in names for record in _PROGRAM) or any(
        name.startswith(prefix + _CODE) for name in names
    )


class _ScriptStorages(Storages):
    """The storages of one pickle of a program."""

    def __call__(self, token: object) -> Storage:
        if type(token) is tuple and len(token) == 6 and token[5] is None:  # 1.3 wrote what the legacy stream has
            token = token[:5]
        return super().__call__(token)


class _BytecodeStorages(_ScriptStorages):
    """Those of a bytecode.pkl: in a folder of their own, or else among the constants; a key may be a whole path."""

    def __init__(self, directory: ZipDirectory, prefix: str, coding: str) -> None:
        has_folder = any(name.startswith(prefix + "bytecode/") for name in directory.members)
        folder = "bytecode/" if has_folder else "constants/"
        super().__init__(directory, prefix + folder, coding, folder)
        self._prefix = prefix

    def record_of(self, key: str) -> str:
        return self._prefix + key if "/" in key else super().record_of(key)


def _read(directory: ZipDirectory, request: Request) -> Checkpoint:
    prefix = folder_of(directory, "data.pkl", (_CODE, "extra/"))
    order = byte_order(directory, prefix)
    readings: dict[str, tuple[Reading, Storages]] = {}
    for name in _PICKLES:
        if f"{prefix}{name}.pkl" in directory.members:
            readings[name] = _pickle(directory, prefix, name, "raw" if order == "little" else "big-endian")
    data, storages = readings["data"]
    root = data.value
    if not isinstance(root, Record) or root.args != ():
        raise AmbiguousError(
            "this archive has a program beside what is no module of one; torch.load and torch.jit disagree about it",
            where=shown(prefix + "data.pkl"),
            found=brief(root),
            hint="take constants.pkl and code/ out if torch.save wrote it",
        )
    if order == "big":
        for reading, _ in readings.values():
            type_untyped(reading.value)
    tree = _with_constants(root, readings["constants"][0].value if "constants" in readings else ())
    every = [reading for reading, _ in readings.values()]
    return Checkpoint(
        directory.source,
        format="torchscript",
        tree=tree,
        attributes={key: value for reading in every for key, value in reading.attributes.items()},
        facts={
            **_without_own(facts_of_all(data, every, byteorder=order, saved_on=saved_on(data, storages.made.values()))),
            **program_facts(directory, prefix),
            **_bytecode_version(readings["bytecode"][0].value if "bytecode" in readings else None),
        },
        kept=tuple(value for reading in every for value in reading.kept),
        traces=tuple(trace_of(reading, f"{prefix}{name}.pkl") for name, (reading, _) in readings.items()),
        checksums=directory.checksums,
        model=partial(_model, directory, prefix, root),
    )


def _pickle(directory: ZipDirectory, prefix: str, name: str, coding: str) -> tuple[Reading, Storages]:
    member = directory.members[f"{prefix}{name}.pkl"]
    storages = (
        _BytecodeStorages(directory, prefix, coding)
        if name == "bytecode"
        else _ScriptStorages(directory, f"{prefix}{name}/", coding, f"{name}/")
    )
    data = directory.read(member, directory.limits.pickle_bytes)
    reading = read_known_pickle(data, persistent=storages, limits=directory.limits)
    check_nothing_after(reading, member.size, shown(member.name))
    return reading, storages


def _with_constants(root: Record, constants: object) -> object:
    """The module with the constants of its program beside its attributes, under the name that the code has for them."""
    if not isinstance(constants, tuple):
        raise CorruptError("a program's constants are no tuple", found=brief(constants))
    if not constants:
        return root
    named = {f"c{number}": value for number, value in enumerate(constants)}
    if isinstance(root.state, dict) and "CONSTANTS" not in root.state:
        root.state["CONSTANTS"] = named
        return root
    return {"module": root, "CONSTANTS": named}


def _without_own(facts: dict[str, object]) -> dict[str, object]:
    """Facts without the classes that the archive brings along: nobody imports those."""
    for what in ("imports", "calls"):
        names = facts[what]
        if isinstance(names, tuple):
            facts[what] = tuple(name for name in names if name.split(".", 1)[0] != PACKAGE)
    return facts


def program_facts(directory: ZipDirectory, prefix: str) -> dict[str, object]:
    """`writer`, and `code`: the members that are program."""
    version = version_of(directory, prefix)
    programs = tuple(prefix + record for record in _PROGRAM[1:])
    return {
        "writer": "torch.jit.save" + (f" (file version {shown(version)})" if version else ""),
        "code": tuple(name for name in directory.members if name.startswith(prefix + _CODE) or name in programs),
    }


def _bytecode_version(bytecode: object) -> dict[str, object]:
    """`bytecode`: the version of the lite interpreter's program, where there is one."""
    if isinstance(bytecode, tuple) and bytecode and type(bytecode[0]) is int:
        return {"bytecode": bytecode[0]}
    return {}


def _model(directory: ZipDirectory, prefix: str, root: Record) -> object:
    return as_pickled_modules(root, declarations(directory, prefix + _CODE))


TORCHSCRIPT = ZipKind("torchscript", _knows, _read)
"""The format's row in `zipped.KINDS`."""
