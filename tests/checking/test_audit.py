"""rh.audit: what an unsafe load would have done, however it is hidden; and nothing of it is done."""

from __future__ import annotations

import io
import json
import pickle
import warnings
import zlib
from argparse import Namespace
from base64 import b64encode
from collections import Counter, OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

import rehydrate as rh
from rehydrate.checking.weights_only import ALLOWED

from ..hostile import bombs
from ..hostile.archives import Entry, torch_zip
from ..hostile.assembler import (
    additems,
    append,
    appends,
    binbytes,
    binget,
    binput,
    build,
    call,
    empty_dict,
    empty_list,
    empty_set,
    empty_tuple,
    ext1,
    global_,
    inst,
    integer,
    mark,
    newobj,
    none,
    obj,
    pickle_of,
    pop,
    pop_mark,
    reduce,
    setitem,
    short_binbytes,
    short_unicode,
    stack_global,
    string,
    tensor,
    tuple1,
    tuple2,
    tuple_,
    unicode,
)
from ..hostile.case import Case
from ..hostile.examining import check_text
from ..hostile.guard import guarded
from ..hostile.tables import CASES

ID = unicode("id")
SYSTEM = call("os", "system", ID)
MODULE_OS = call("importlib", "import_module", unicode("os"))


def called(function: bytes, *args: bytes) -> bytes:
    """A call of whatever `function` pushes."""
    if len(args) == 1:
        return function + args[0] + tuple1 + reduce
    return function + mark + b"".join(args) + tuple_ + reduce


def of_attribute(owner: bytes, name: str) -> bytes:
    return call("builtins", "getattr", owner, unicode(name))


def planted(key: str, value: bytes) -> bytes:
    return call("net", "Net") + empty_dict + unicode(key) + value + setitem + build


def slots(key: str, value: bytes) -> bytes:
    """The state of an object with slots, which is given by `setattr`."""
    return call("net", "Net") + none + empty_dict + unicode(key) + value + setitem + tuple2 + build


LETTERS = called(of_attribute(unicode(""), "join"), empty_list + mark + unicode("sys") + unicode("tem") + appends)
INNER = pickle_of(SYSTEM)

REACHED: dict[str, tuple[bytes, str]] = {
    # P1: how a name can be spelled
    "GLOBAL": (SYSTEM, "os.system"),
    "the name that the module has in C": (call("posix", "system", ID), "posix.system"),
    "Python 2's name": (call("__builtin__", "eval", ID), "__builtin__.eval"),
    "INST": (mark + string("'id'") + inst("os", "system"), "os.system"),
    "OBJ": (mark + global_("os", "system") + ID + obj, "os.system"),
    "NEWOBJ": (global_("subprocess", "Popen") + ID + tuple1 + newobj, "subprocess.Popen"),
    "STACK_GLOBAL": (called(short_unicode("os") + short_unicode("system") + stack_global, ID), "os.system"),
    "a dotted name through an honest module": (call("pathlib", "os.system", ID), "pathlib.os.system"),
    "an extension code": (called(ext1(7), ID), "copyreg.extension_7"),
    # P2: what leads there
    "getattr": (called(of_attribute(MODULE_OS, "system"), ID), "os.system"),
    "getattr of __import__": (
        called(of_attribute(call("builtins", "__import__", unicode("os")), "popen"), ID),
        "os.popen",
    ),
    "attrgetter": (called(called(call("operator", "attrgetter", unicode("system")), MODULE_OS), ID), "os.system"),
    "methodcaller": (called(call("operator", "methodcaller", unicode("system"), ID), MODULE_OS), "os.system"),
    "itemgetter of sys.modules": (
        called(
            of_attribute(called(call("operator", "itemgetter", unicode("os")), global_("sys", "modules")), "system"), ID
        ),
        "os.system",
    ),
    "partial": (called(call("functools", "partial", global_("os", "system"), ID)), "os.system"),
    "partial of getattr": (
        called(called(call("functools", "partial", global_("builtins", "getattr"), MODULE_OS), unicode("system")), ID),
        "os.system",
    ),
    "map": (call("builtins", "map", of_attribute(MODULE_OS, "system"), empty_list + ID + append), "os.system"),
    "reduce": (
        call("functools", "reduce", global_("builtins", "getattr"), MODULE_OS + unicode("system") + tuple2),
        "os.system",
    ),
    "apply": (call("__builtin__", "apply", global_("os", "system"), ID + tuple1), "os.system"),
    "resolve_name": (called(call("pkgutil", "resolve_name", unicode("os:system")), ID), "os.system"),
    "pydoc.locate": (called(call("pydoc", "locate", unicode("os.system")), ID), "os.system"),
    "a name put together from letters": (called(call("builtins", "getattr", MODULE_OS, LETTERS), ID), "os.system"),
    "every subclass of everything": (
        called(of_attribute(of_attribute(empty_tuple, "__class__"), "__subclasses__")),
        "<unknown>.__class__",
    ),
    "the globals of a function": (of_attribute(global_("json", "dumps"), "__globals__"), "json.dumps.__globals__"),
    "eval in a state": (planted("forward", global_("builtins", "eval")), "builtins.eval"),
    "a default that would be made by os.system": (
        call("collections", "defaultdict", global_("os", "system")),
        "os.system",
    ),
    # P3: pickles in pickles
    "pickle.loads": (call("pickle", "loads", binbytes(INNER)), "os.system"),
    "_pickle.loads": (call("_pickle", "loads", binbytes(INNER)), "os.system"),
    "torch's own": (call("torch.storage", "_load_from_bytes", binbytes(INNER)), "os.system"),
    "joblib.load of BytesIO": (call("joblib", "load", call("io", "BytesIO", binbytes(INNER))), "os.system"),
    "pickle.loads of base64": (
        call("pickle", "loads", call("base64", "b64decode", binbytes(b64encode(INNER)))),
        "os.system",
    ),
    "pickle.loads of zlib": (
        call("pickle", "loads", call("zlib", "decompress", binbytes(zlib.compress(INNER)))),
        "os.system",
    ),
    "pickle.loads of hexadecimal": (
        call("pickle", "loads", call("codecs", "decode", unicode(INNER.hex()), unicode("hex"))),
        "os.system",
    ),
    "three levels": (
        call("pickle", "loads", binbytes(pickle_of(call("pickle", "loads", binbytes(INNER))))),
        "os.system",
    ),
    "bytes that nobody unpickles yet": (empty_list + binbytes(INNER) + append, "os.system"),
    "bytes as the key of a dictionary": (empty_dict + short_binbytes(INNER) + none + setitem, "os.system"),
    # P4: states
    "__setstate__ is planted": (planted("__setstate__", global_("json", "loads")), "__setstate__"),
    "__setstate__ is planted, then called": (
        planted("__setstate__", global_("json", "loads")) + ID + build,
        "__setstate__",
    ),
    "__class__ is swapped by slots": (slots("__class__", global_("net", "Other")), "__class__"),
    # P5: functions that honest files call
    "_rebuild_from_type_v2": (
        call("torch._tensor", "_rebuild_from_type_v2", global_("os", "system"), none, ID + tuple1, none),
        "os.system",
    ),
    "copyreg.__newobj__": (call("copyreg", "__newobj__", global_("subprocess", "Popen"), ID), "subprocess.Popen"),
    # P6: where the result goes
    "the result is thrown away": (SYSTEM + pop + none, "os.system"),
    "inside a mark that is thrown away": (mark + SYSTEM + pop_mark + none, "os.system"),
    "as a member of a set": (empty_set + mark + SYSTEM + additems, "os.system"),
    # more that does harm
    "a file": (call("builtins", "open", unicode("/etc/passwd")), "builtins.open"),
    "the network": (call("urllib.request", "urlopen", unicode("http://a")), "urllib.request.urlopen"),
    "torch.hub": (call("torch.hub", "load", unicode("a/b")), "torch.hub.load"),
    "numpy's runstring": (
        call("numpy.testing._private.utils", "runstring", ID, empty_dict),
        "numpy.testing._private.utils.runstring",
    ),
    "a path that is written to": (
        called(of_attribute(call("pathlib", "PosixPath", unicode("a")), "write_text"), ID),
        "pathlib.Path.write_text",
    ),
}


@pytest.mark.parametrize("name", REACHED)
def test_what_a_call_would_reach_is_found(name: str) -> None:
    program, reached = REACHED[name]
    audit = rh.audit(pickle_of(program, version=4))
    assert audit.verdict == "dangerous"
    assert not audit
    assert reached in {finding.name for finding in audit.findings if finding.severity == "dangerous"}


@pytest.mark.parametrize("name", REACHED)
def test_the_same_in_a_torch_zip_with_its_place(name: str) -> None:
    audit = rh.audit(torch_zip(pickle_of(empty_dict + unicode("w") + REACHED[name][0] + setitem)))
    assert audit.verdict == "dangerous"
    assert all(finding.where.startswith("archive/data.pkl") for finding in audit.findings)


def test_a_finding_says_what_where_and_what_becomes_of_it() -> None:
    program = empty_dict + unicode("w") + SYSTEM + setitem + call("os", "popen", unicode("\x1b[2Jcurl")) + pop
    data = pickle_of(program)
    found = {finding.name: finding for finding in rh.audit(data).findings}
    kept, discarded = found["os.system"], found["os.popen"]
    assert (kept.text, kept.path, kept.is_called, kept.is_discarded) == ("os.system('id')", "w", True, False)
    assert data[kept.at : kept.at + 1] == reduce
    assert (discarded.text, discarded.path, discarded.is_discarded) == ("os.popen('\\x1b[2Jcurl')", "", True)
    assert "thrown away" in str(discarded)


CODE = {
    "a function of cloudpickle's": (
        call("cloudpickle.cloudpickle", "_make_function", call("cloudpickle.cloudpickle", "_builtin_type", ID)),
        "cloudpickle.cloudpickle._make_function",
    ),
    "a class of cloudpickle's, and its state thrown away": (
        call("cloudpickle.cloudpickle", "_make_skeleton_class", unicode("A")) + binput(1) + pop
        + global_("cloudpickle.cloudpickle", "_class_setstate") + binget(1) + empty_dict + tuple2 + reduce + pop
        + binget(1),
        "cloudpickle.cloudpickle._make_skeleton_class",
    ),
    "a function of dill's": (
        call("dill._dill", "_create_function", call("dill._dill", "_create_code", integer(0))),
        "dill._dill._create_function",
    ),
    "marshalled code": (call("marshal", "loads", binbytes(b"c")), "marshal.loads"),
    "a module of torch.fx": (
        call("torch.fx.graph_module", "reduce_graph_module", empty_dict, unicode("import os")),
        "torch.fx.graph_module.reduce_graph_module",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CODE)
def test_code_that_a_file_brings_along_is_found(name: str) -> None:
    program, reached = CODE[name]
    audit = rh.audit(pickle_of(program))
    assert audit.verdict == "embeds-code"
    assert reached in {finding.name for finding in audit.findings}


def test_running_what_a_file_brings_along_is_dangerous() -> None:
    function = call("types", "FunctionType", call("marshal", "loads", binbytes(b"c")), empty_dict)
    assert rh.audit(pickle_of(function)).verdict == "embeds-code"
    assert rh.audit(pickle_of(called(function))).verdict == "dangerous"


def test_a_name_that_nobody_listed_needs_code_called_or_not() -> None:
    for program in (global_("net", "Net"), call("net", "Net"), call("builtins", "getattr", global_("net", "A"), ID)):
        audit = rh.audit(pickle_of(program))
        assert (audit.verdict, audit.packages.get("net")) == ("needs-code", 1)


def test_plain_datas_name_with_odd_arguments_is_no_plain_data() -> None:
    assert rh.audit(pickle_of(call("builtins", "bytearray", integer(1 << 40)))).verdict == "needs-code"


class Net(torch.nn.Module):
    """What somebody pickles whole."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x)


def saved(value: object, **how: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **how)
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.jit is deprecated; its files are there
def test_honest_files_are_what_they_are(tmp_path: Path) -> None:
    state = Net().state_dict()
    assert rh.audit(saved(state))
    assert rh.audit(saved({"model": state, "optimizer": torch.optim.Adam(Net().parameters()).state_dict()}))
    assert rh.audit(saved(state, _use_new_zipfile_serialization=False))
    assert rh.audit(pickle.dumps({"a": np.arange(3.0), "b": [np.float32(1)]}))
    assert rh.audit(pickle.dumps({"tensor": torch.arange(3)}, protocol=2))
    whole = rh.audit(saved(Net()))
    assert whole.verdict == "needs-code"
    assert {"torch", Net.__module__.split(".")[0]} <= set(whole.packages)
    torch.jit.script(Net()).save(tmp_path / "script.pt")
    assert rh.audit(tmp_path / "script.pt").verdict == "embeds-code"


def test_what_does_not_open_is_never_called_safe_and_what_can_be_seen_is() -> None:
    whole = pickle_of(SYSTEM)
    for broken in (
        whole[:-1],
        whole + b"garbage",
        whole[:-1] + b"\xff" * 9,
        b"cos\nsystem\n(S'id'\ntR."[:-1] + b"\xff",
    ):
        audit = rh.audit(broken)
        assert (audit.verdict, bool(audit)) == ("dangerous", False)
        assert audit.refusal is not None
    zipped = torch_zip(whole)
    assert rh.audit(zipped[: len(zipped) // 2]).verdict == "dangerous"
    assert rh.audit(pickle_of(none)[:-1]).verdict == "malformed"
    assert rh.audit(torch_zip(pickle_of(none), {}, Entry(b"archive/data.pkl", whole))).verdict == "dangerous"
    assert rh.audit(b"<!doctype html><title>a</title>").verdict == "not-a-checkpoint"


def test_tensors_whose_bytes_readers_dispute_are_malformed() -> None:
    pickle_ = pickle_of(empty_dict + unicode("w") + tensor() + setitem)
    hidden = torch_zip(pickle_, {}, Entry(b"archive/data/0", bytes(16), local_name=b"archive/data/1"))
    assert rh.audit(hidden).verdict == "malformed"


def test_a_report_prints_itself_and_is_plain_data() -> None:
    audit = rh.audit(pickle_of(call("os", "system", unicode("a\x1b[31m\n" * 100))))
    check_text(str(audit))
    assert json.loads(json.dumps(audit.to_dict()))["verdict"] == "dangerous"
    assert dict(audit.__rich_repr__())["verdict"] == "dangerous"
    with pytest.raises(rh.RebuildError, match="dangerous"):
        audit.raise_if_bad()
    rh.audit(pickle_of(none)).raise_if_bad()
    with pytest.raises(rh.TruncatedError):
        rh.audit(b"\x80\x04N").raise_if_bad()
    with pytest.raises(rh.MissingFileError):
        rh.audit("no such file")


def test_findings_are_bounded_and_counted() -> None:
    audit = rh.audit(pickle_of(*(call("os", f"system{at}") + pop for at in range(500)), none))
    assert audit.counts["dangerous"] == 500
    assert len(audit.findings) == 50
    assert len(str(audit).splitlines()) < 20


def test_an_open_checkpoint_is_audited_as_it_is() -> None:
    with rh.open(pickle_of(SYSTEM)) as checkpoint:
        assert rh.audit(checkpoint).verdict == "dangerous"


def test_nothing_happens_while_a_file_is_audited() -> None:
    programs = [pickle_of(program, version=4) for program, _ in REACHED.values()]
    for data in programs:  # imports what looking at such files imports
        rh.audit(data)
    with guarded():
        for data in programs:
            rh.audit(data)


def by_name(case: Case) -> str:
    return case.name.encode("ascii", "backslashreplace").decode()


def check_verdict(data: bytes) -> None:
    """A file that is refused is never called safe, and no more is one that would import or call anything foreign."""
    audit = rh.audit(data)
    check_text(str(audit))
    json.dumps(audit.to_dict())
    try:
        checkpoint = rh.open(data)
    except rh.NotACheckpointError:
        assert audit.verdict in ("not-a-checkpoint", "dangerous"), audit
    except rh.SeveralError:
        assert audit.verdict != "not-a-checkpoint", audit  # that of the worst of them
    except rh.RehydrateError:
        assert audit.verdict in ("malformed", "dangerous"), audit
    else:
        with checkpoint:
            foreign = checkpoint.facts.get("calls") or checkpoint.facts.get("imports")
            assert not (foreign and audit), audit


@pytest.mark.parametrize("case", CASES, ids=by_name)
def test_every_hostile_file_has_a_verdict_that_is_not_too_good(case: Case) -> None:
    check_verdict(case.build())


def test_bombs_have_one_too() -> None:
    for case in bombs.CASES:
        data = case.build()
        if len(data) < 1 << 16:
            check_verdict(data)


def test_torch_says_the_same_about_its_safe_reader() -> None:
    weights = torch.ones(2)
    values = [
        {"w": weights}, OrderedDict(w=torch.nn.Parameter(weights)), weights.to_sparse(), torch.Size([1]), torch.float16,
        torch.device("cpu"), Net().state_dict(), Net(), torch.optim.Adam(Net().parameters()).state_dict(),
        np.float32(1), np.arange(3), Namespace(lr=1), Path("a"), complex(1, 2), slice(1), frozenset({1}), {1, 2},
        Counter("aab"), defaultdict(list, a=1), b"bytes", bytearray(b"a"), {"a": (1, [2.0, None, True])},
        1 << 60, 1 << 3000,
    ]  # fmt: skip
    for value in values:
        for how in ({}, {"pickle_protocol": 4}, {"_use_new_zipfile_serialization": False}):
            data = saved(value, **how)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    torch.load(io.BytesIO(data), weights_only=True)
                    opens = True
                except pickle.UnpicklingError:
                    opens = False
            audit = rh.audit(data)
            assert (audit.weights_only, bool(audit.blocker)) == (opens, not opens), (value, how, audit.blocker)


@pytest.mark.skipif(not torch.__version__.startswith("2.13."), reason="the lists are those of torch 2.13")
def test_the_names_that_torchs_safe_reader_knows_are_torchs_own() -> None:
    from torch._weights_only_unpickler import _get_allowed_globals

    assert set(_get_allowed_globals()) == ALLOWED


def test_real_files_have_plausible_verdicts(test_data: Path) -> None:
    folder = test_data / "checkpoints"
    index = json.loads((folder / "index.json").read_text("utf-8"))
    surprising = []
    for entry in index:
        try:
            audit = rh.audit(folder / entry["path"])
        except rh.MissingFileError:  # an index without its shards
            continue
        is_plain = entry["torch_load_weights_only"] and audit.verdict != "data-only"
        if is_plain or audit.verdict == "dangerous":
            surprising.append((entry["path"], audit.verdict))
        if audit.weights_only is not None and audit.format.startswith("torch"):
            assert audit.weights_only == entry["torch_load_weights_only"], (entry["path"], audit.blocker)
    assert surprising == []


@pytest.mark.parametrize("protocol", [2, 5])
def test_arrays_of_types_that_torch_lacks_are_plain_data_too(protocol: int) -> None:
    for array in (
        np.ones(2, ">f4"), np.ones(2, "g"), np.array(["a"]), np.array([b"a"]), np.array([1, None]),
        np.array(["2020-01-01"], "M8[D]"), np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")]),
        np.datetime64("2020-01-01"), np.str_("a"), np.void(b"abc"),
    ):  # fmt: skip
        assert rh.audit(pickle.dumps(array, protocol=protocol)).verdict == "data-only", array


def test_a_number_of_objects_whose_bytes_numpy_would_unpickle_is_no_plain_data() -> None:
    dtype = b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI63\ntb"
    assert not rh.audit(b"cnumpy.core.multiarray\nscalar\n(" + dtype + b"S'N.'\ntR.")


def test_a_class_whose_source_a_file_brings_along_is_code() -> None:
    rebuilt = call("torch_utils.persistence", "_reconstruct_persistent_obj", b"}")
    assert rh.audit(pickle_of(rebuilt)).verdict == "embeds-code"
