"""What it would mean if a name were imported or called: data, code that is missing, code that is brought, danger.

Whatever no table here knows needs code: a list of dangerous names makes a verdict worse and never better, so that a
name which was forgotten is never called safe. The tables were put together from what has been used to get around
scanners (the advisories of picklescan, fickling and modelscan) and from what Python's own modules can do. Nothing is
imported and nothing is called to find out.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

from rehydrate.pickles.known import is_harmless

__all__ = ["Judgement", "Severity", "is_dunder", "judge", "modern"]


class Severity(IntEnum):
    """How bad, from nothing at all to the worst."""

    DATA = 0
    NEEDS_CODE = 1
    EMBEDS_CODE = 2
    DANGEROUS = 3

    @property
    def word(self) -> str:
        """As a verdict says it: `data-only`, `needs-code`, ..."""
        return "data-only" if self is Severity.DATA else self.name.lower().replace("_", "-")


class Judgement(NamedTuple):
    """What a name means: how bad, and in a few words why."""

    severity: Severity
    why: str


_DATA = Judgement(Severity.DATA, "plain data")
_BRINGS = Judgement(Severity.EMBEDS_CODE, "code that the file brings along")
_NEEDS = Judgement(Severity.NEEDS_CODE, "code that is not in the file")

_MODERN = {
    "__builtin__": "builtins", "copy_reg": "copyreg", "cPickle": "pickle", "_pickle": "pickle", "posix": "os",
    "nt": "os", "commands": "subprocess", "_posixsubprocess": "subprocess", "_winapi": "subprocess",
    "_operator": "operator", "_functools": "functools", "_io": "io", "_socket": "socket", "_thread": "threading",
    "exceptions": "builtins", "_codecs": "codecs", "_struct": "struct", "_weakref": "weakref", "_ctypes": "ctypes",
    "_imp": "importlib", "imp": "importlib", "_signal": "signal", "thread": "threading",
    "urllib2": "urllib", "httplib": "http", "xmlrpclib": "xmlrpc", "SocketServer": "socketserver",
    "BaseHTTPServer": "http", "anydbm": "dbm", "whichdb": "dbm", "dbhash": "dbm", "dumbdbm": "dbm", "gdbm": "dbm",
    "_multiprocessing": "multiprocessing", "_sqlite3": "sqlite3", "ntpath": "os", "posixpath": "os",
    "_collections": "collections", "_bz2": "bz2", "_lzma": "lzma", "_xxsubinterpreters": "_interpreters",
}  # fmt: skip
"""Modules under their other names: those of Python 2, and those in C that Python's own import."""

_MODULES = {
    "runs programs": (
        "os", "subprocess", "pty", "popen2", "multiprocessing", "asyncio", "concurrent", "pexpect", "paramiko",
        "fabric", "webbrowser", "antigravity", "pip", "ensurepip", "setuptools", "distutils", "venv", "_aix_support",
        "_osx_support", "conda",
    ),
    "runs Python": (
        "runpy", "codeop", "_pyrepl", "idlelib", "lib2to3", "bdb", "pdb", "timeit", "cProfile", "pstats", "doctest",
        "unittest", "IPython", "ipykernel", "jinja2", "mako", "_interpreters", "sched", "threading", "atexit",
        "signal", "cgitb", "numexpr", "py_compile", "compileall", "rlcompleter", "readline", "tkinter", "xmlrpc",
        "wsgiref", "cffi", "pyximport", "pytest",
    ),
    "imports": (
        "importlib", "zipimport", "pkgutil", "pydoc", "_frozen_importlib", "_frozen_importlib_external", "modulefinder",
        "zipapp",
    ),
    "reaches into the process": (
        "sys", "builtins", "ctypes", "gc", "inspect", "mmap", "fcntl", "faulthandler", "resource", "termios",
        "sysconfig", "tracemalloc", "_testcapi", "_testinternalcapi", "winreg", "msvcrt",
    ),
    "reads or writes files": (
        "shutil", "io", "fileinput", "linecache", "tempfile", "glob", "zipfile", "tarfile", "sqlite3", "dbm", "mailbox",
        "netrc", "filecmp", "pwd", "spwd",
    ),
    "uses the network": (
        "socket", "socketserver", "ssl", "select", "selectors", "http", "urllib", "urllib3", "requests", "httpx",
        "aiohttp", "ftplib", "smtplib", "smtpd", "telnetlib", "poplib", "imaplib", "nntplib", "asyncore", "asynchat",
        "websocket", "websockets", "boto3", "botocore", "pycurl",
    ),
    "unpickles": ("pickle", "pickletools", "shelve", "jsonpickle", "yaml"),
}  # fmt: skip
_MODULE_MEANS = {module: why for why, modules in _MODULES.items() for module in modules}

_NAMES = {
    "runs Python": (
        "code.interact", "code.InteractiveInterpreter", "code.InteractiveConsole", "trace.Trace", "profile.run",
        "profile.runctx", "profile.Profile", "cmd.Cmd", "typing.get_type_hints", "typing._eval_type",
        "dataclasses.make_dataclass", "dataclasses._create_fn", "numpy.testing", "numpy.f2py", "numpy.distutils",
        "pandas.eval", "pandas.core.computation", "sympy.sympify", "sympy.core.sympify", "sympy.parsing",
        "sympy.lambdify", "sympy.utilities.lambdify", "torch.utils.bottleneck", "torch.utils.cpp_extension",
        "torch.utils.collect_env", "torch.utils._config_module", "torch.utils.data.datapipes.utils.decoder",
        "torch.jit.unsupported_tensor_ops", "torch.jit.CompilationUnit", "torch._C.CompilationUnit",
        "torch._dynamo.guards", "torch._inductor.codecache", "torch.fx.experimental",
        "torch.fx.graph_module._forward_from_src", "torch.distributed.rpc", "torch.distributed.run",
        "torch.distributed.launcher", "torch.distributed.elastic", "torch.multiprocessing", "logging.config",
        "weakref.finalize", "codecs.register", "codecs.register_error", "encodings", "platform.popen",
        "platform._syscmd_ver", "platform._syscmd_file", "uuid._get_command_stdout", "uuid._popen",
        "uuid._find_mac_near_keyword", "uuid._find_mac_next_to_line", "getpass", "cupy.RawKernel", "cupy.RawModule",
    ),
    "downloads": (
        "torch.hub", "torch.utils.model_zoo", "torchvision.datasets.utils", "huggingface_hub", "transformers.pipeline",
        "nltk.download", "nltk.data", "pooch", "gdown", "wget",
    ),
    "reads or writes files": (
        "numpy.fromfile", "numpy.loadtxt", "numpy.genfromtxt", "numpy.memmap", "numpy.save", "numpy.savez",
        "numpy.savetxt", "numpy.lib.npyio", "numpy.lib._npyio_impl", "numpy.lib.format", "numpy.DataSource",
        "pandas.io", "pandas.read_csv", "pandas.read_json", "pandas.read_html", "pandas.read_sql", "pandas.read_excel",
        "torch.save", "torch.from_file", "torch.ops", "torch.classes", "torch._ops", "torch._classes",
        "torch.UntypedStorage.from_file", "scipy.io", "codecs.open", "gzip.open", "gzip.GzipFile", "bz2.open",
        "bz2.BZ2File", "lzma.open", "lzma.LZMAFile", "logging.FileHandler", "logging.handlers", "logging.basicConfig",
        "PIL.Image.open", "cv2.imread", "cv2.imwrite", "h5py.File", "marshal.dump",
    ),
    "unpickles": (
        "torch.load", "torch.serialization", "torch.jit.load", "torch.jit._serialization", "torch.package",
        "torch.storage._load_from_bytes", "torch.distributed.distributed_c10d._tensor_to_object", "joblib.load",
        "joblib.numpy_pickle", "sklearn.externals.joblib.load", "numpy.load", "pandas.read_pickle", "dill.load",
        "dill.loads", "dill._dill.load", "dill._dill.loads", "dill.Unpickler", "cloudpickle.load", "cloudpickle.loads",
        "ray.cloudpickle.loads",
    ),
    "imports": (
        "dill._dill._import_module", "cloudpickle.cloudpickle.subimport", "cloudpickle.subimport", "six._import_module",
    ),
    "reaches into the process": ("operator.setitem", "operator.delitem"),
}  # fmt: skip
_NAME_MEANS = {tuple(name.split(".")): why for why, names in _NAMES.items() for name in names}

_EMBEDS = frozenset(
    tuple(name.split("."))
    for name in (
        "marshal", "types.FunctionType", "types.CodeType", "types.LambdaType", "dill._dill", "dill.dill", "dill.source",
        "cloudpickle", "ray.cloudpickle", "joblib.externals.cloudpickle", "pyspark.cloudpickle",
        "torch.fx.graph_module.reduce_graph_module", "torch.fx.graph_module.reduce_package_graph_module",
        "torch.fx._lazy_graph_module", "torch_utils.persistence._reconstruct_persistent_obj",
    )
)  # fmt: skip
"""What makes functions out of bytes or text that the file brings along."""

_ORDINARY = frozenset(
    tuple(name.split("."))
    for name in (
        "io.BytesIO", "io.StringIO", "threading.Lock", "threading.RLock", "threading._RLock", "inspect.Signature",
        "inspect.Parameter", "inspect._ParameterKind", "inspect._empty", "signal.Signals", "os.PathLike",
        "urllib.parse.ParseResult", "urllib.parse.SplitResult", "http.HTTPStatus", "concurrent.futures.Future",
        "joblib.numpy_pickle.NumpyArrayWrapper", "joblib.numpy_pickle.NDArrayWrapper",
        "joblib.numpy_pickle.ZNDArrayWrapper",
    )
)  # fmt: skip
"""What honest objects hold of modules that are dangerous otherwise: it only holds data."""

_DUNDERS = frozenset({
    "__globals__", "__builtins__", "__subclasses__", "__class__", "__base__", "__bases__", "__mro__", "__dict__",
    "__code__", "__closure__", "__getattribute__", "__getattr__", "__reduce__", "__reduce_ex__", "__setstate__",
    "__import__", "__loader__", "__spec__", "__self__", "__func__", "__wrapped__", "__call__", "__setattr__",
    "__delattr__", "__init_subclass__", "__kwdefaults__", "__defaults__",
    "f_globals", "f_builtins", "f_locals", "f_back", "tb_frame", "gi_frame", "cr_frame", "func_globals",
})  # fmt: skip
"""Attributes that lead from any object to everything else."""

_METHODS = frozenset({"tofile", "write_text", "write_bytes", "unlink", "load_module", "exec_module", "runstring"})
"""Methods that do harm whatever they are a method of."""

_PLAIN_BUILTINS = frozenset({
    "list", "dict", "int", "float", "bool", "str", "tuple", "object", "complex", "bytes", "bytearray", "set",
    "frozenset", "slice", "range", "xrange", "long", "unicode", "NoneType", "ellipsis", "NotImplemented", "Ellipsis",
})  # fmt: skip
_CALLABLE_BUILTINS = frozenset({
    "getattr", "hasattr", "isinstance", "issubclass", "print", "type", "repr", "len", "iter", "next", "map", "filter",
    "zip", "sorted", "reversed", "enumerate", "sum", "min", "max", "abs", "any", "all", "hash", "id", "chr", "ord",
    "hex", "bin", "oct", "round", "divmod", "pow", "format", "apply", "reduce", "property", "staticmethod",
    "classmethod", "super", "unichr", "memoryview", "callable", "ascii", "buffer", "file_", "intern", "coerce", "cmp",
})  # fmt: skip
"""What cannot do harm by itself; what it is given is judged where it is followed."""


def is_dunder(name: str) -> bool:
    """Whether an attribute leads from an object to all of Python."""
    return name in _DUNDERS


def modern(parts: tuple[str, ...]) -> tuple[str, ...]:
    """A name with its module called as Python 3 calls it.

    >>> modern(("__builtin__", "eval")), modern(("posix", "system"))
    (('builtins', 'eval'), ('os', 'system'))
    """
    if parts[:2] == ("numpy", "_core"):
        return ("numpy", "core", *parts[2:])
    return (_MODERN.get(parts[0], parts[0]), *parts[1:])


@lru_cache(8192)
def judge(parts: tuple[str, ...], module: int) -> Judgement:
    """What the name means whose first `module` parts are the module, the others attributes inside it.

    >>> judge(("posix", "system"), 1).severity.name, judge(("pathlib", "os", "system"), 1).severity.name
    ('DANGEROUS', 'DANGEROUS')
    >>> judge(("torch", "nn", "Linear"), 2).severity.name, judge(("torch", "float32"), 1).severity.name
    ('NEEDS_CODE', 'DATA')
    """
    name = (".".join(parts[:module]), ".".join(parts[module:]))
    if is_harmless(name):
        return _DATA
    parts = modern(parts)
    if parts[0] == "builtins" and len(parts) == 2:
        return _builtin(parts[1])
    if parts[0] == "copyreg" and parts[-1].startswith("extension_"):
        return Judgement(Severity.DANGEROUS, "whatever the process that loads it has registered")
    known = _known(parts)
    if known is not None:
        return known
    attributes = parts[module:]
    dunder = next((part for part in attributes if part in _DUNDERS), None)
    if dunder is not None:
        return Judgement(Severity.DANGEROUS, f"reaches into the process through {dunder}")
    for at in range(1, len(attributes) + 1):  # a module that another one imported: `pathlib.os.system`
        tail = modern(attributes[at - 1 :])
        if tail[0] in _MODULE_MEANS:
            return Judgement(Severity.DANGEROUS, _MODULE_MEANS[tail[0]])
    if attributes and (attributes[-1] in _METHODS or (parts[0] == "pathlib" and len(parts) > 2)):
        return Judgement(Severity.DANGEROUS, "reads or writes files")
    return _NEEDS


def _builtin(name: str) -> Judgement:
    if name in _PLAIN_BUILTINS:
        return _DATA
    if name in _CALLABLE_BUILTINS or name.endswith(("Error", "Exception", "Warning")):
        return _NEEDS
    return Judgement(Severity.DANGEROUS, "runs Python" if name in ("eval", "exec", "compile", "execfile") else
                     "imports" if name == "__import__" else "reaches into the process")  # fmt: skip


def _known(parts: tuple[str, ...]) -> Judgement | None:
    """What the tables say of the name, of what it is in, and of its module; the longest that any of them has counts."""
    for length in range(min(len(parts), 6), 0, -1):
        head = parts[:length]
        if head in _NAME_MEANS:
            return Judgement(Severity.DANGEROUS, _NAME_MEANS[head])
        if head in _EMBEDS:
            return _BRINGS
        if head in _ORDINARY:
            return _NEEDS if len(parts) == length else None
        if length == 1 and head[0] in _MODULE_MEANS:
            return Judgement(Severity.DANGEROUS, _MODULE_MEANS[head[0]])
    return None
