"""Archives with programs in them, exported graphs, packages, and archives of parts: none of it runs.

`C1` as in `cases_archives`. CVE-2025-32434: torch.load hands an archive with a constants.pkl to torch.jit.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.errors import AmbiguousError, CorruptError, LimitError, NotACheckpointError

from .archives import Entry, torch_entries, torch_zip, zip_of
from .assembler import (
    binget,
    binput,
    build,
    call,
    dup,
    empty_dict,
    empty_tuple,
    global_,
    integer,
    mark,
    newobj,
    none,
    persid_binary,
    pickle_of,
    pop,
    setitem,
    setitems,
    storage_id,
    tensor,
    tuple1,
    tuple2,
    tuple_of,
    unicode,
)
from .case import BOMB, BROKEN, both, harmless, holds_tensor, opens, refuses, reports_call

Build = Callable[[], bytes]

_EVIL = call("os", "system", unicode("echo hurt > hurt"))
_CODE = b'class Net(Module):\n  __parameters__ = ["w", ]\n  __buffers__ = []\n  w : Tensor\n  def forward(self):\n'
_NO_CONSTANTS = pickle_of(empty_tuple)
_STORAGE = {"data/0": bytes(16)}


def _object(*attributes: bytes, name: str = "Net", module: str = "__torch__") -> bytes:
    """An object of a program: names and values in turn."""
    state = empty_dict + mark + b"".join(attributes) + setitems
    return global_(module, name) + empty_tuple + newobj + state + build


_HONEST = _object(unicode("w"), tensor())


def _program(
    root: bytes = _HONEST,
    constants: bytes = _NO_CONSTANTS,
    *more: Entry,
    storages: dict[str, bytes] = _STORAGE,
    code: bytes = _CODE,
    **records: bytes,
) -> Build:
    """A TorchScript archive; `records` are more pickles, by name without suffix."""
    pickles = {"data": pickle_of(root), "constants": constants, **records}
    return lambda: zip_of(
        *(Entry(b"net/" + name.encode() + b".pkl", pickle) for name, pickle in pickles.items()),
        *(Entry(b"net/" + name.encode(), content) for name, content in storages.items()),
        Entry(b"net/code/__torch__.py", code),
        Entry(b"net/version", b"3\n"),
        *more,
    )


def _module_json(model: object, *more: Entry, **records: bytes) -> Build:
    """An archive of before 1.3; text is taken as the JSON itself."""
    text = model if isinstance(model, bytes) else json.dumps(model).encode()
    return lambda: zip_of(
        Entry(b"net/model.json", text),
        Entry(b"net/code/net.py", b"op_version_set = 0\n"),
        Entry(b"net/tensors/0", bytes(16)),
        *(Entry(b"net/" + name.encode() + b".pkl", pickle) for name, pickle in records.items()),
        *more,
    )


_TENSOR = {"dims": ["4"], "strides": ["1"], "offset": "0", "dataType": "FLOAT", "data": {"key": "tensors/0"}}
_EMPTY: dict[str, object] = {"mainModule": {}}
_PARAMETER = {"name": "w", "tensorId": "0", "isBuffer": False}


def _model(
    tensor: dict[str, object] | None = None, parameter: dict[str, object] | None = None, **main: object
) -> Build:
    """An honest model.json but for what is given."""
    return _module_json(
        {
            "mainModule": {"name": "net", "parameters": [_PARAMETER | (parameter or {})], **main},
            "tensors": [_TENSOR | (tensor or {})],
        }
    )


def _modules_json(levels: int) -> bytes:
    return b'{"mainModule":' + b'{"name":"a","submodules":[' * levels + b"]}" * levels + b"}"


_META = {
    "dtype": 7, "sizes": [{"as_int": 4}], "strides": [{"as_int": 1}], "storage_offset": {"as_int": 0}, "layout": 7,
    "requires_grad": False, "device": {"type": "cpu", "index": None},
}  # fmt: skip


def _exported(payload: object, *more: Entry, config: bytes | None = None, weight: bytes = bytes(16)) -> Build:
    """An exported program with one weight."""
    written = json.dumps({"config": {"w": payload}}).encode() if config is None else config
    return lambda: zip_of(
        Entry(b"net/archive_format", b"pt2"),
        Entry(b"net/models/model.json", b"{}"),
        Entry(b"net/data/weights/model_weights_config.json", written),
        Entry(b"net/data/weights/weight_0", weight),
        Entry(b"net/data/constants/model_constants_config.json", b'{"config": {}}'),
        *more,
    )


def _payload(meta: dict[str, object] | None = None, **more: object) -> dict[str, object]:
    return {"path_name": "weight_0", "is_param": True, "use_pickle": False, "tensor_meta": _META | (meta or {}), **more}


_WEIGHTS = pickle_of(empty_dict + unicode("w") + tensor() + setitem)


def _agent(serialized: object, *more: Entry) -> Build:
    """An agent of Stable-Baselines3 with one value that is pickled."""
    data = json.dumps({"policy_class": {":type:": "x", ":serialized:": serialized}, "gamma": 0.99}).encode()
    return lambda: zip_of(Entry(b"data", data), Entry(b"policy.pth", torch_zip(_WEIGHTS)), *more)


def _coded(pickle: bytes) -> str:
    return base64.b64encode(pickle).decode()


def _package(program: bytes, *more: Entry) -> Build:
    """A package of torch.package with one pickle."""
    return lambda: zip_of(
        Entry(b"net/model/model.pkl", pickle_of(program)),
        Entry(b"net/.data/0.storage", bytes(16)),
        Entry(b"net/.data/extern_modules", b"torch"),
        Entry(b"net/.data/ts_code/0/data.pkl", pickle_of(_reduced("torch.jit._script", "unpackage_script_module"))),
        *more,
    )


def _reduced(module: str, name: str) -> bytes:
    """A persistent id that is a call."""
    return (
        tuple_of(unicode("reduce_package"), integer(1), global_(module, name), tuple_of(unicode("0"))) + persid_binary
    )


def _nested(levels: int) -> bytes:
    inner = torch_zip(_WEIGHTS)
    for level in range(levels):
        inner = zip_of(Entry(b"net%d.zip" % level, inner))
    return inner


def _bomb_in_bomb() -> bytes:
    """Six megabytes in thirty kilobytes in some hundred bytes: each level alone is within what may be inflated."""
    return zip_of(Entry(b"net.zip", zip_of(Entry(b"net.pth", b"\x80\2" + b"N0" * 3_000_000 + b"N.", 8)), 8))


def _is(name: str) -> Callable[[Checkpoint], bool]:
    return lambda checkpoint: checkpoint.format == name


def _names_weights(*names: str) -> Callable[[Checkpoint], bool]:
    return lambda checkpoint: list(checkpoint.weights()) == list(names)


_whole = holds_tensor()
_hurts = reports_call("os.system")

_SCRIPTS = (
    opens("C1 a program", _program(), both(_whole, _is("torchscript"), _names_weights("w"))),
    refuses(
        "C1 a state dict with a stray constants.pkl (CVE-2025-32434)",
        lambda: zip_of(*torch_entries(_WEIGHTS), Entry(b"archive/constants.pkl", _NO_CONSTANTS)), AmbiguousError,
    ),
    refuses("C1 a program whose module is a dictionary", _program(empty_dict), AmbiguousError, says="program"),
    refuses("C1 a program whose module is only a name", _program(global_("os", "system")), AmbiguousError),
    refuses("C1 a program whose module is a call", _program(_EVIL), AmbiguousError),
    opens(
        "C1 a call in a module",
        _program(_object(unicode("w"), tensor(), unicode("x"), _EVIL)), both(_whole, _hurts),
    ),
    opens("C1 a call among the constants (CVE-2025-32434)", _program(_HONEST, pickle_of(_EVIL + tuple1)), _hurts),
    opens("C1 a call in the bytecode", _program(bytecode=pickle_of(_EVIL)), _hurts),
    opens("C1 a call in the debug handles", _program(mobile_debug_handles=pickle_of(_EVIL)), _hurts),
    refuses("C1 constants that are no tuple", _program(_HONEST, pickle_of(_EVIL)), CorruptError),
    refuses("C1 constants that are cut", _program(_HONEST, b"\x80\2"), *BROKEN),
    refuses("C1 bytes after the constants", _program(_HONEST, _NO_CONSTANTS + b"x"), AmbiguousError),
    refuses("C1 bytes after the bytecode", _program(bytecode=pickle_of(none) + pickle_of(_EVIL)), AmbiguousError),
    refuses("C1 a program without its storage", _program(storages={}), CorruptError),
    refuses("C1 a program with a longer storage", _program(storages={"data/0": bytes(20)}), CorruptError),
    refuses(
        "C1 a program's storage of seven parts",
        _program(_object(unicode("w"), tensor(storage=storage_id(ending=none + none) + persid_binary))), CorruptError,
    ),
    refuses(
        "C1 a program's storage that is a part of another",
        _program(_object(unicode("w"), tensor(storage=storage_id(ending=empty_tuple) + persid_binary))), CorruptError,
    ),
    refuses("C1 a program's tensor beyond its storage", _program(_object(unicode("w"), tensor((5,)))), CorruptError),
    refuses(
        "C1 bytecode whose storage is a path out of the archive",
        _program(bytecode=pickle_of(tensor(storage=storage_id("../../etc/passwd") + persid_binary))), CorruptError,
    ),
    opens("C1 code of nothing", _program(code=b""), _whole),
    opens(
        "C1 code that unpacks to 30 MB",
        _program(_HONEST, _NO_CONSTANTS, Entry(b"net/code/more.py", b"\n" * 30_000_000, 8)), _whole,
    ),
    opens("C1 code that is not UTF-8", _program(code=b"class Net(Module):\n  \xff : Tensor\n"), _whole),
    opens("C1 code of one long line", _program(code=b"class " + b"N" * 100_000 + b"(Module):"), _whole),
    opens(
        "C1 code of many quotes",
        _program(code=b"class Net(Module):\n  __parameters__ = [" + b'"\\' * 50_000 + b"]"), _whole,
    ),
    opens("C1 code that says that nothing is a parameter", _program(code=b"class Net(Module):\n  x : int\n"), _whole),
    harmless(
        "C1 a module in itself",
        _program(
            global_("__torch__", "Net") + empty_tuple + newobj + binput(1) + empty_dict + mark
            + unicode("w") + tensor() + unicode("x") + binget(1) + setitems + build
        ),
        _whole,
    ),
    harmless(
        "C1 modules that hold the one below twice, thirty levels",
        _program(_object(unicode("w"), tensor()) + b"".join(
            binput(level) + pop + _object(unicode("a"), binget(level), unicode("b"), binget(level))
            for level in range(30)
        )),
    ),
    harmless(
        "C1 ten thousand modules in each other",
        _program((global_("__torch__", "N") + empty_tuple + newobj + empty_dict + unicode("x")) * 10_000
                 + _HONEST + (setitem + build) * 10_000),
    ),
    opens(
        "C1 an attribute that is called as the constants are",
        _program(_object(unicode("w"), tensor(), unicode("CONSTANTS"), none), pickle_of(integer(1) + tuple1)),
        lambda checkpoint: "module" in checkpoint.tree,  # type: ignore[operator]
    ),
    refuses(
        "C1 the bytecode again in capitals",
        _program(_HONEST, _NO_CONSTANTS, Entry(b"net/ByteCode.pkl", pickle_of(_EVIL))), AmbiguousError,
    ),
    opens(
        "C1 sources that differ in capitals",
        _program(_HONEST, _NO_CONSTANTS, Entry(b"net/code/Net.py", b""), Entry(b"net/code/net.py", b"")), _whole,
    ),
    refuses("C1 a second program", _program(_HONEST, _NO_CONSTANTS, Entry(b"x/data.pkl", _EVIL)), AmbiguousError),
    refuses("C1 an entry beside a program", _program(_HONEST, _NO_CONSTANTS, Entry(b"x", b"x")), AmbiguousError),
    refuses(
        "C1 a program of a third byte order",
        _program(_HONEST, _NO_CONSTANTS, Entry(b"net/byteorder", b"middle")), CorruptError,
    ),
)  # fmt: skip

_MODELS = (
    opens("C1 a model.json", _model(), both(_whole, _is("torchscript"), _names_weights("w"))),
    refuses("C1 a model.json and a data.pkl", _module_json({}, data=pickle_of(none)), AmbiguousError),
    refuses("C1 a model.json that is a list", _module_json([]), CorruptError),
    refuses("C1 a model.json that is cut", _module_json(b'{"mainModule": '), CorruptError),
    refuses("C1 a model.json with a name twice", _module_json(b'{"tensors": [], "tensors": []}'), AmbiguousError),
    refuses("C1 a model.json of NaN", _module_json(b'{"tensors": NaN}'), CorruptError),
    refuses("C1 a model.json without a module", _module_json({"tensors": []}), CorruptError),
    refuses("C1 a model.json that is nested a hundred thousand times", _module_json(_modules_json(100_000)), *BOMB),
    harmless("C1 a model.json of two hundred modules in each other", _module_json(_modules_json(200))),
    refuses("C1 a model.json of long digits", _module_json(b'{"tensors": ' + b"9" * 100_000 + b"}"), *BOMB),
    *(
        refuses(f"C1 a model.json whose tensor has {name} {value!r:.40}", _model({name: value}), *BROKEN)
        for name, value in (
            ("dims", ["-4"]), ("dims", ["9" * 500]), ("dims", ["5"]), ("dims", "4"), ("dims", [None]), ("dims", [4.0]),
            ("dims", ["٤"]), ("strides", ["4"]), ("strides", []), ("offset", "1"), ("offset", "-1"), ("dataType", "X"),
            ("dataType", 1), ("dataType", []), ("data", None), ("data", {"key": "tensors/1"}),
            ("data", {"key": "../../etc/passwd"}), ("device", 3),
        )
    ),
    *(
        refuses(f"C1 a model.json whose parameter has {name} {value!r}", _model(None, {name: value}), *BROKEN)
        for name, value in (("tensorId", "1"), ("tensorId", -1), ("tensorId", "x"), ("tensorId", True), ("name", 3))
    ),
    refuses("C1 a model.json of parameters that are none", _model(parameters=[3]), CorruptError),
    refuses("C1 a model.json of two parameters of one name", _model(parameters=[_PARAMETER] * 2), AmbiguousError),
    refuses(
        "C1 a model.json whose attribute is called as a table",
        _module_json(
            {"mainModule": {"attributes": [{"name": "_modules", "id": 0}]}}, attributes=pickle_of(none + tuple1)
        ),
        AmbiguousError,
    ),
    opens("C1 a call among the attributes", _module_json(_EMPTY, attributes=pickle_of(_EVIL + tuple1)), _hurts),
    refuses("C1 attributes that are no tuple", _module_json(_EMPTY, attributes=pickle_of(none)), CorruptError),
    harmless(
        "C1 an attribute that is a tensor that is not there",
        _module_json(
            _EMPTY,
            attributes=pickle_of(call("torch.jit._pickle", "build_tensor_from_id", integer(7)) + tuple1),
        ),
    ),
)  # fmt: skip

_EXPORTS = (
    opens("C1 an exported program", _exported(_payload()), both(_is("torch-export"), _names_weights("w"))),
    *(
        refuses(f"C1 an exported tensor with {name} {value!r:.50}", _exported(_payload({name: value})), *BROKEN)
        for name, value in (
            ("dtype", 99), ("dtype", "7"), ("dtype", True), ("sizes", [{"as_int": -4}]), ("sizes", [{"as_int": 5}]),
            ("sizes", [{"as_int": 1 << 70}]), ("sizes", [{"as_expr": {"expr_str": "__import__('os')"}}]), ("sizes", 4),
            ("sizes", [4]), ("strides", []), ("strides", [{"as_int": 9}]), ("storage_offset", {"as_int": 1}),
            ("storage_offset", None), ("layout", 1), ("device", None), ("device", {"type": 3}),
        )
    ),
    *(
        refuses(f"C1 an exported payload with {name} {value!r}", _exported(_payload(None, **{name: value})), *BROKEN)
        for name, value in (
            ("path_name", "weight_1"), ("path_name", "../model"), ("path_name", 3), ("tensor_meta", None)
        )
    ),
    refuses("C1 exported payloads that are a list", _exported(None, config=b'{"config": []}'), CorruptError),
    refuses("C1 exported payloads that are text", _exported(None, config=b"x"), CorruptError),
    refuses("C1 two exported payloads of a name", _exported(None, config=b'{"config":{"w":1,"w":2}}'), AmbiguousError),
    opens(
        "C1 an exported weight that is pickled, with a call",
        _exported(_payload(None, use_pickle=True), weight=pickle_of(_EVIL)), _hurts,
    ),
    opens(
        "C1 a call among the inputs of an exported program",
        _exported(_payload(), Entry(b"net/data/sample_inputs/model.pt", torch_zip(pickle_of(_EVIL)))), _hurts,
    ),
    harmless("C1 an exported program that holds itself", _exported(
        _payload(None, use_pickle=True), weight=_exported(_payload())())),
    refuses("C1 compiled code without its program", lambda: zip_of(
        Entry(b"net/archive_format", b"pt2"), Entry(b"net/data/aotinductor/model/net.so", b"\x7fELF")),
        NotACheckpointError),
    opens("C1 a call in an older exported program", lambda: zip_of(
        Entry(b"serialized_exported_program.json", b"{}"),
        Entry(b"serialized_state_dict.pt", torch_zip(pickle_of(_EVIL)))), _hurts),
)  # fmt: skip

_PARTS = (
    opens("C1 an agent", _agent(_coded(pickle_of(none))), both(_is("stable-baselines3"), _names_weights("w"))),
    opens("C1 an agent with a call in its data", _agent(_coded(pickle_of(_EVIL))), both(_names_weights("w"), _hurts)),
    refuses("C1 an agent with a broken pickle in its data", _agent(_coded(b"\x80\4x")), *BROKEN),
    refuses("C1 an agent with bytes after a pickle", _agent(_coded(pickle_of(none) + _EVIL)), AmbiguousError),
    refuses("C1 an agent with no base64", _agent("%%%"), CorruptError),
    refuses("C1 an agent with base64 that is not ASCII", _agent("٤٤٤٤"), CorruptError),
    refuses("C1 an agent with a number for a pickle", _agent(3), CorruptError),
    opens(
        "C1 an agent with a call in its policy",
        lambda: zip_of(Entry(b"data", b"{}"), Entry(b"policy.pth", torch_zip(pickle_of(_EVIL)))), _hurts,
    ),
    refuses("C1 an agent whose data is no JSON", lambda: zip_of(
        Entry(b"data", b"\x80\4N."), Entry(b"policy.pth", torch_zip(_WEIGHTS))), CorruptError),
    opens("C1 a package with a call", _package(_EVIL), _hurts),
    opens("C1 a package with a call in a persistent id", _package(_reduced("os", "system")), _hurts),
    refuses(
        "C1 a package's scripted module that is itself again",
        _package(_reduced("torch.jit._script", "unpackage_script_module")), CorruptError,
    ),
    refuses("C1 a package's call that is none", _package(
        tuple_of(unicode("reduce_package"), none, none) + persid_binary), CorruptError),
    refuses("C1 a package's storage with a huge number", _package(
        tensor(storage=storage_id(integer(1 << 70)) + persid_binary)), CorruptError),
    opens("C1 a package with a doubled storage", _package(storage_id(integer(0)) + persid_binary + dup + tuple2), _is(
        "torch-package")),
)  # fmt: skip

_CONTAINERS = (
    opens("C1 archives in an archive, three levels", lambda: _nested(3), _whole),
    refuses("C1 archives in an archive, thirty levels", lambda: _nested(30), LimitError),
    refuses("C1 a bomb in a bomb", _bomb_in_bomb, LimitError),
    refuses("C1 an archive of two checkpoints", lambda: zip_of(
        Entry(b"a.pth", torch_zip(_WEIGHTS)), Entry(b"b/c.pth", torch_zip(_WEIGHTS))), AmbiguousError, says="b/c.pth"),
    opens("C1 an archive of what macOS adds", lambda: zip_of(
        Entry(b"a.pth", torch_zip(_WEIGHTS)), Entry(b"__MACOSX/._a.pth", torch_zip(_WEIGHTS))), _whole),
    refuses("C1 an archive of an archive that is cut", lambda: zip_of(
        Entry(b"a.pth", torch_zip(_WEIGHTS)[:-30]), Entry(b"notes.txt", b"hello")), *BROKEN),
    refuses("C1 a torch zip two folders deep", lambda: zip_of(
        *torch_entries(_WEIGHTS, folder=b"a/b/c/")), NotACheckpointError, says="deep"),
    opens(
        "C1 a call in an archive in an archive",
        lambda: zip_of(Entry(b"a.pth", torch_zip(pickle_of(_EVIL)))), _hurts,
    ),
)  # fmt: skip

CASES = (*_SCRIPTS, *_MODELS, *_EXPORTS, *_PARTS, *_CONTAINERS)
