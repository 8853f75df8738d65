"""P4, P5: BUILD on everything, and gadgets through the functions that honest files call."""

from __future__ import annotations

from collections.abc import Callable

from rehydrate.checkpoint.tensor import TensorRef

from .archives import torch_zip
from .assembler import (
    appends,
    binbytes,
    binget,
    binint1,
    binput,
    build,
    call,
    empty_dict,
    empty_list,
    empty_tuple,
    global_,
    integer,
    mark,
    newfalse,
    newobj,
    newtrue,
    none,
    numbers,
    persid_binary,
    pickle_of,
    plain,
    reduce,
    setitem,
    storage_id,
    tensor,
    tuple1,
    tuple2,
    tuple_of,
    unicode,
)
from .case import (
    BROKEN,
    Case,
    both,
    calls,
    harmless,
    is_record,
    opens,
    refuses,
    reports_call,
    tree_is,
)

_ID = unicode("id")
_SYSTEM = global_("os", "system")


def _zipped(*program: bytes) -> Callable[[], bytes]:
    return lambda: torch_zip(pickle_of(empty_dict, unicode("w"), *program, setitem))


def _state(*pairs: tuple[bytes, bytes]) -> bytes:
    return empty_dict + b"".join(key + value + setitem for key, value in pairs)


_NET = global_("net", "Net") + empty_tuple + newobj


def _is_untouched(checkpoint: object) -> bool:
    """The record is still what the file first said that it is."""
    record = checkpoint.tree
    return is_record(checkpoint) and (record.path, record.args) == ("net.Net", ())


P4 = (
    opens(
        "P4 a state that overrides methods",
        plain(_NET, _state((unicode("__call__"), _SYSTEM), (unicode("__repr__"), _SYSTEM)), build),
        _is_untouched,
    ),
    opens(
        "P4 a state that overrides the record's own fields",
        plain(
            _NET,
            _state(
                (unicode("module"), unicode("os")),
                (unicode("args"), none),
                (unicode("items"), none),
            ),
            build,
        ),
        both(_is_untouched, lambda ckpt: ckpt.tree.state["module"] == "os"),
    ),
    harmless(
        "P4 __setstate__ is planted, then BUILD comes again",
        plain(_NET, _state((unicode("__setstate__"), _SYSTEM)), build, _ID, build),
        _is_untouched,
    ),
    opens(
        "P4 slots that would be set by setattr",
        plain(_NET, none + _state((unicode("__class__"), _SYSTEM)) + tuple2, build),
        _is_untouched,
    ),
    opens(
        "P4 __class__ is swapped",
        plain(_NET, _state((unicode("__class__"), _SYSTEM)), build),
        _is_untouched,
    ),
    harmless(
        "P4 BUILD on a class",
        plain(global_("net", "Net"), none + _state((unicode("x"), _SYSTEM)) + tuple2, build),
    ),
    harmless(
        "P4 BUILD on a class of Python's that stays alive between files",
        plain(global_("builtins", "dict"), none + _state((unicode("get"), _SYSTEM)) + tuple2, build),
    ),
    harmless(
        "P4 BUILD on sys.modules",
        plain(global_("sys", "modules"), _state((unicode("os"), none)), build),
    ),
    harmless(
        "P4 BUILD on a module that a gadget returns (a1111#5942)",
        plain(
            global_("pytorch_lightning.callbacks", "model_checkpoint"),
            _state((unicode("x"), none)),
            build,
        ),
    ),
    harmless(
        "P4 BUILD on a list",
        plain(empty_list, _state((unicode("append"), _SYSTEM)), build),
        tree_is([]),
    ),
    harmless(
        "P4 BUILD on a dictionary",
        plain(empty_dict, _state((unicode("a"), none)), build),
        tree_is({}),
    ),
    refuses("P4 BUILD on a string", plain(_ID, _state((unicode("a"), none)), build), *BROKEN),
    refuses("P4 BUILD on None", plain(none, empty_dict, build), *BROKEN),
    refuses("P4 BUILD on a tuple", plain(empty_tuple, empty_dict, build), *BROKEN),
    refuses("P4 BUILD with nothing to build on", plain(empty_dict, build), *BROKEN),
    opens(
        "P4 BUILD on an OrderedDict, as torch does",
        plain(call("collections", "OrderedDict"), _state((unicode("_metadata"), empty_dict)), build),
        lambda ckpt: ckpt.tree == {} and ckpt.attributes[id(ckpt.tree)] == {"_metadata": {}},
    ),
    opens(
        "P4 BUILD on a tensor, which would be Tensor.set_",
        _zipped(tensor(), tuple_of(integer(1 << 40), none, none), build),
        lambda ckpt: type(ckpt.tree["w"]) is TensorRef and ckpt["w"].shape == (4,),
    ),
    opens(
        "P4 a state that is no dictionary",
        plain(_NET, _ID, build),
        lambda ckpt: ckpt.tree.state == "id",
    ),
    opens(
        "P4 a state with keys that are no strings",
        plain(_NET, _state((binint1(3), none), (none, none)), build),
        lambda ckpt: ckpt.tree.state == {3: None, None: None},
    ),
    opens(
        "P4 a state of a hundred thousand parts",
        lambda: pickle_of(_NET, mark, none * 100_000, b"t", build),
        lambda ckpt: len(ckpt.tree.state) == 100_000,
    ),
    opens(
        "P4 a state that contains what it is the state of",
        plain(_NET, binput(0), empty_dict, unicode("self"), binget(0), setitem, build),
        lambda ckpt: ckpt.tree.state["self"] is ckpt.tree,
    ),
    opens(
        "P4 a module whose buffers are not to be saved, says a number",
        plain(
            _NET,
            _state(
                (unicode("_parameters"), empty_dict),
                (unicode("_modules"), empty_dict),
                (unicode("_buffers"), _state((unicode("b"), none), (binint1(1), none))),
                (unicode("_non_persistent_buffers_set"), binint1(5)),
            ),
            build,
        ),
        _is_untouched,
    ),
    opens(
        "P4 a module whose buffers are not to be saved, says a string",
        plain(
            _NET,
            _state(
                (unicode("_parameters"), empty_dict),
                (unicode("_modules"), empty_dict),
                (unicode("_buffers"), _state((binint1(1), none))),
                (unicode("_non_persistent_buffers_set"), unicode("b")),
            ),
            build,
        ),
        _is_untouched,
    ),
    opens(
        "P4 a module whose parts are no modules",
        plain(
            _NET,
            _state(
                (unicode("_parameters"), _state((none, none))),
                (unicode("_modules"), _state((unicode("m"), binint1(3)))),
                (unicode("_buffers"), _ID),
                (unicode("_non_persistent_buffers_set"), empty_list + empty_list + b"a"),
            ),
            build,
        ),
        _is_untouched,
    ),
)

_META = call(
    "torch._utils", "_rebuild_meta_tensor_no_storage",
    global_("torch", "float32"), numbers([2]), numbers([1]), newfalse,
)  # fmt: skip


_OF_TYPE = ("torch._tensor", "_rebuild_from_type_v2")
_THROUGH = global_(*_OF_TYPE)


def _stays_a_call(path: str, of: str, *args: bytes) -> Case:
    """A call that no honest file makes: whatever the arguments ask for, they stay arguments."""
    module, _, name = path.rpartition(".")
    program = call(module, name, *args)
    return opens(f"P5 {path} of {of} stays a call", plain(program), calls(module, name))


P5 = (
    opens(
        "P5 _rebuild_from_type_v2 of os.system",
        plain(call("torch._tensor", "_rebuild_from_type_v2", _SYSTEM, _SYSTEM, _ID + tuple1, empty_dict)),
        calls("torch._tensor", "_rebuild_from_type_v2"),
    ),
    opens(
        "P5 _rebuild_from_type_v2 of bytearray",
        plain(
            call(
                "torch._tensor",
                "_rebuild_from_type_v2",
                global_("builtins", "bytearray"),
                global_("builtins", "bytearray"),
                integer(1 << 40) + tuple1,
                empty_dict,
            )
        ),
        calls("torch._tensor", "_rebuild_from_type_v2"),
    ),
    opens(
        "P5 _rebuild_from_type_v2 of itself",
        plain(call(*_OF_TYPE, _THROUGH, none, tuple_of(_THROUGH, none, empty_tuple, none), none)),
        calls(*_OF_TYPE),
    ),
    opens(
        "P5 _rebuild_parameter_with_state sets .data",
        plain(
            call(
                "torch._utils",
                "_rebuild_parameter_with_state",
                _META,
                newtrue,
                call("collections", "OrderedDict"),
                _state((unicode("data"), _SYSTEM), (unicode("__class__"), _SYSTEM)),
            )
        ),
        lambda ckpt: type(ckpt.tree) is TensorRef and ckpt.tree.shape == (2,),
    ),
    opens(
        "P5 hooks that are a call",
        _zipped(tensor(tail=newfalse + call("os", "system", _ID))),
        both(reports_call("os.system"), lambda ckpt: ckpt["w"].numpy().tolist() == [0.0] * 4),
    ),
    _stays_a_call("torch.FloatTensor", "2^40", integer(1 << 40)),
    _stays_a_call("builtins.bytearray", "2^40", integer(1 << 40)),
    _stays_a_call("builtins.bytes", "2^40", integer(1 << 40)),
    _stays_a_call("builtins.list", "a range", call("builtins", "range", integer(1 << 40))),
    _stays_a_call("builtins.str", "a number", integer(1)),
    _stays_a_call("_codecs.encode", "a word by a cipher", _ID, unicode("rot13")),
    _stays_a_call("_codecs.encode", "a word by a compressor", _ID, unicode("zlib_codec")),
    _stays_a_call("_codecs.encode", "a word by NUL", _ID, unicode("\0")),
    _stays_a_call("_codecs.encode", "a word by a call", _ID, global_("os", "system")),
    _stays_a_call("_codecs.encode", "what latin-1 has not", unicode("\u20ac"), unicode("latin1")),
    _stays_a_call(
        "numpy.core.multiarray.scalar",
        "an object",
        call("numpy", "dtype", unicode("O8"), newfalse, newtrue),
        binbytes(b"x"),
    ),
    _stays_a_call(
        "torch._utils._rebuild_device_tensor_from_numpy", "os.system", _SYSTEM, none, unicode("cpu"), newfalse
    ),
    _stays_a_call("torch._utils._rebuild_wrapper_subclass", "os.system", _SYSTEM, *[none] * 7),
    _stays_a_call("collections.OrderedDict", "a word", _ID),
    _stays_a_call("collections.OrderedDict", "a list of numbers", empty_list + binint1(5) + b"a"),
    _stays_a_call("collections.Counter", "a range", call("builtins", "range", integer(1 << 40))),
    _stays_a_call("collections.Counter", "a word", _ID),
    _stays_a_call("builtins.set", "a range", call("builtins", "range", integer(1 << 40))),
    _stays_a_call("builtins.set", "a word", _ID),
    _stays_a_call("builtins.frozenset", "a call", call("os", "system", _ID)),
    _stays_a_call("builtins.complex", "a number beyond all floats", integer(1 << 2000), binint1(0)),
    _stays_a_call("builtins.complex", "a word", _ID),
    _stays_a_call("builtins.range", "a step of nothing", binint1(0), binint1(9), binint1(0)),
    _stays_a_call("builtins.range", "a number of a thousand bits", integer(1 << 1000)),
    _stays_a_call("builtins.slice", "os.system", _SYSTEM),
    _stays_a_call("builtins.slice", "a number of a thousand bits", integer(1 << 1000)),
    _stays_a_call("collections.deque", "a negative length", empty_list, integer(-1)),
    _stays_a_call("collections.deque", "a length of 2^80", empty_list, integer(1 << 80)),
    _stays_a_call("collections.deque", "a range", call("builtins", "range", integer(1 << 40))),
    refuses(
        "P5 collections.OrderedDict of pairs with lists for keys",
        plain(call("collections", "OrderedDict", empty_list + empty_list + mark + empty_list * 2 + appends + b"a")),
        *BROKEN,
    ),
    refuses("P5 builtins.set of lists", plain(call("builtins", "set", empty_list + empty_list + b"a")), *BROKEN),
    opens(
        "P5 a defaultdict that would call os.system for every missing key",
        plain(call("collections", "defaultdict", _SYSTEM)),
        calls("collections", "defaultdict"),
    ),
    opens(
        "P5 a defaultdict that would call a call's result",
        plain(call("collections", "defaultdict", call("os", "popen", _ID))),
        calls("collections", "defaultdict"),
    ),
    refuses("P5 what is called is a string", plain(_ID, _ID, tuple1, reduce), *BROKEN),
    refuses("P5 what is called is a tensor", _zipped(tensor(), _ID, tuple1, reduce), *BROKEN),
    refuses("P5 the arguments of a call are a list", plain(_SYSTEM, empty_list, reduce), *BROKEN),
    refuses("P5 the arguments of a call are a record", plain(_SYSTEM, _SYSTEM, reduce), *BROKEN),
    opens(
        "P5 a storage that is nobody's argument",
        _zipped(storage_id() + persid_binary),
        lambda ckpt: len(ckpt) == 0,
    ),
)

CASES = P4 + P5
