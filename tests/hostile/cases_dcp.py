"""D1: folders of torch.distributed.checkpoint whose `.metadata` lies, or whose files are something else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from rehydrate.errors import (
    AmbiguousError,
    CorruptError,
    LimitError,
    MissingFileError,
    NotACheckpointError,
    RebuildError,
    RehydrateError,
    TruncatedError,
)

from .archives import torch_zip
from .assembler import (
    build,
    call,
    empty_dict,
    empty_tuple,
    global_,
    integer,
    list_of,
    mark,
    newobj,
    none,
    numbers,
    pickle_of,
    setitems,
    tensor,
    tuple_of,
    unicode,
)
from .case import Case, Shows, opens, refuses, reports_call

_METADATA = "torch.distributed.checkpoint.metadata"
_FILES = "torch.distributed.checkpoint.filesystem"
_FILE = "__0_0.distcp"

Program = bytes


def dict_of(pairs: Mapping[str, Program] | Sequence[tuple[Program, Program]]) -> Program:
    items = [(unicode(key), value) for key, value in pairs.items()] if isinstance(pairs, Mapping) else pairs
    return empty_dict + mark + b"".join(key + value for key, value in items) + setitems


def record(module: str, name: str, **fields: Program) -> Program:
    """A dataclass the way protocol 2 writes it."""
    return global_(module, name) + empty_tuple + newobj + (dict_of(fields) + build if fields else b"")


def size(*extents: int) -> Program:
    return call("torch", "Size", numbers(extents))


def properties(dtype: Program | None = None) -> Program:
    kind = global_("torch", "float32") if dtype is None else dtype
    state = tuple_of(kind, none, none, none, none)
    return global_(_METADATA, "TensorProperties") + empty_tuple + newobj + state + build


def chunk(offsets: Sequence[int] = (0,), sizes: Sequence[int] = (4,)) -> Program:
    return record(_METADATA, "ChunkStorageMetadata", offsets=size(*offsets), sizes=size(*sizes))


def described(
    *chunks: Program, shape: Sequence[int] = (4,), dtype: Program | None = None, whole: Program | None = None
) -> Program:
    return record(
        _METADATA,
        "TensorStorageMetadata",
        properties=properties(dtype),
        size=size(*shape) if whole is None else whole,
        chunks=list_of(b"".join(chunks or (chunk(),))),
    )


def index(name: str = "w", offsets: Sequence[int] | None = (0,)) -> Program:
    offset = {} if offsets is None else {"offset": size(*offsets)}
    return record(_METADATA, "MetadataIndex", fqn=unicode(name), **offset)


def place(
    file: Program | str = _FILE,
    offset: Program | int = 0,
    length: Program | int | None = None,
    **more: Program,
) -> Program:
    return record(
        _FILES,
        "_StorageInfo",
        relative_path=unicode(file) if isinstance(file, str) else file,
        offset=integer(offset) if isinstance(offset, int) else offset,
        length=integer(len(_ITEM) if length is None else length) if not isinstance(length, bytes) else length,
        **more,
    )


def metadata(
    tensors: Mapping[str, Program] | Program | None = None,
    stored: Sequence[tuple[Program, Program]] | Program | None = None,
    *,
    paths: Program = none,
    **more: Program,
) -> Callable[[], bytes]:
    """The file `.metadata`: one tensor `w` of four float32 in one box, unless told otherwise."""
    state = {"w": described()} if tensors is None else tensors
    data = [(index(), place())] if stored is None else stored
    program = record(
        _METADATA,
        "Metadata",
        state_dict_metadata=state if isinstance(state, bytes) else dict_of(state),
        planner_data=paths,
        storage_data=data if isinstance(data, bytes) else dict_of(data),
        **more,
    )
    return lambda: pickle_of(program)


def _item(program: Program, storages: dict[str, bytes] | None = None) -> bytes:
    return torch_zip(pickle_of(program), storages)


_ITEM = _item(tensor())
_EVIL = call("os", "system", unicode("id"))


def _set(case: Case, **files: bytes) -> Case:
    beside = {_FILE: _ITEM, **{name + ".distcp": content for name, content in files.items()}}
    return replace(case, name=f"D1 {case.name}", file=".metadata", beside=beside)


def _refuses(
    name: str, build: Callable[[], bytes], *errors: type[RehydrateError], says: str = "", **files: bytes
) -> Case:
    return _set(refuses(name, build, *(errors or (CorruptError,)), says=says), **files)


def _opens(name: str, build: Callable[[], bytes], shows: Shows, **files: bytes) -> Case:
    return _set(opens(name, build, shows), **files)


def _holds(*values: float) -> Shows:
    return lambda checkpoint: checkpoint["w"].numpy().ravel().tolist() == list(values)


def _refuses_to_read(name: str, item: bytes) -> Case:
    """The index is as it should be, and what is stored is not."""

    def shows(checkpoint: object) -> bool:
        try:
            checkpoint["w"].numpy()  # type: ignore[index]
        except RehydrateError:
            return True
        return False

    return _opens(name, metadata(stored=[(index(), place(length=len(item)))]), shows, __0_0=item)


_TWO_BOXES = {"w": described(chunk((0,), (2,)), chunk((2,), (2,)))}
_BYTES = record(_METADATA, "BytesStorageMetadata")


def _boxes(shape: Sequence[int], *boxes: tuple[Sequence[int], Sequence[int]]) -> Callable[[], bytes]:
    """A tensor in these boxes, each stored in a place of its own that could hold it."""
    return metadata(
        {"w": described(*(chunk(*box) for box in boxes), shape=shape)},
        [
            (index("w", offsets), place(offset=at * 1000, length=1000))
            for at, offsets in enumerate(dict.fromkeys(tuple(offsets) for offsets, _ in boxes))
        ],
    )


_ROOM = bytes(64_000)

BOXES = (
    _opens("a set as it should be", metadata(), _holds(0, 0, 0, 0)),
    _refuses("a hole between boxes", _boxes((4,), ((0,), (1,)), ((2,), (2,))), says="hole", __0_0=_ROOM),
    _refuses("a hole at the end", _boxes((4,), ((0,), (3,))), says="hole", __0_0=_ROOM),
    _refuses("boxes that overlap", _boxes((4,), ((0,), (3,)), ((2,), (2,))), says="overlap", __0_0=_ROOM),
    _refuses(
        "boxes that overlap as much as they leave out",
        _boxes((2, 2), ((0, 0), (1, 2)), ((0, 1), (2, 1))), says="overlap", __0_0=_ROOM,
    ),
    _refuses(
        "one box in another, and a hole of its size",
        _boxes((4, 4), ((0, 0), (4, 3)), ((1, 1), (2, 2))), says="overlap", __0_0=_ROOM,
    ),
    _refuses("two boxes at one place", _boxes((4,), ((0,), (2,)), ((0,), (4,))), __0_0=_ROOM),
    _refuses("a box outside the tensor", _boxes((4,), ((0,), (5,))), says="outside", __0_0=_ROOM),
    _refuses("a box of other dimensions", _boxes((4,), ((0, 0), (4, 1))), __0_0=_ROOM),
    _refuses("a box that is nothing", metadata({"w": described(none)})),
    _refuses("a tensor of no boxes", metadata({"w": described(b"")}), says="hole"),
    _refuses(
        "a tensor that is cut along six dimensions",
        _boxes((2,) * 6, ((0,) * 6, (1,) * 6)), LimitError, __0_0=_ROOM,
    ),
    _refuses("a tensor of exabytes", _boxes((1 << 58,), ((0,), (1 << 58,))), says="more bytes", __0_0=_ROOM),
    _refuses("more elements than can be counted", _boxes((1 << 40, 1 << 40), ((0, 0), (1, 1))), __0_0=_ROOM),
    _refuses("a negative extent", _boxes((-4,), ((0,), (-4,))), __0_0=_ROOM),
    _refuses("65 dimensions", _boxes((1,) * 65, ((0,) * 65, (1,) * 65)), __0_0=_ROOM),
    _refuses("a size that is text", metadata({"w": described(whole=unicode("4"))})),
    _refuses("chunks that are none", metadata({"w": record(
        _METADATA, "TensorStorageMetadata", properties=properties(), size=size(4), chunks=none
    )})),
    _refuses("an element type that is text", metadata({"w": described(dtype=unicode("float32"))})),
    _refuses("an element type of two to the byte", metadata({"w": described(dtype=global_("torch", "quint4x2"))})),
)  # fmt: skip

PLACES = (
    *(
        _refuses(
            f"a file {where}", metadata(stored=[(index(), place(name))]), NotACheckpointError, says="another folder"
        )
        for where, name in {
            "above the folder": "../net.pth", "at the root": "/etc/passwd", "in a folder": "a/b.distcp",
            "behind a backslash": "..\\net.pth", "that is the folder": ".", "without a name": "",
            "with a NUL": "a\0b",
        }.items()
    ),
    _refuses("a file that is missing", metadata(stored=[(index(), place("__9_9.distcp"))]), MissingFileError),
    _refuses("a file that is a number", metadata(stored=[(index(), place(integer(3)))])),
    _refuses("an item that ends after its file", metadata(stored=[(index(), place(offset=1))]), TruncatedError),
    _refuses("an item that begins after its file", metadata(stored=[(index(), place(offset=1 << 40))]), TruncatedError),
    _refuses("a negative offset", metadata(stored=[(index(), place(offset=-1))])),
    _refuses("a length that is true", metadata(stored=[(index(), place(length=b"\x88"))])),
    _refuses("an offset of 2^64", metadata(stored=[(index(), place(offset=1 << 64))])),
    _refuses("two boxes in one place", metadata(_TWO_BOXES, [(index(), place()), (index("w", (2,)), place())])),
    _refuses(
        "one box in two places", metadata(stored=[(index(), place()), (index(), place(offset=9))]), AmbiguousError
    ),
    _refuses("a box that lies nowhere", metadata(stored=[(index("v"), place())]), says="does not say where"),
    _refuses("an object that lies nowhere", metadata({"w": _BYTES}), says="does not say where"),
    _refuses("places that are a list", metadata(stored=list_of(none)), says="where its tensors lie"),
    _refuses("a place that is no place", metadata(stored=[(index(), none)])),
    _refuses("a place of a name", metadata(stored=[(unicode("w"), place())])),
    _refuses("tensors that are a list", metadata(list_of(none))),
    _refuses("a tensor that is nothing", metadata({"w": none})),
    _refuses(
        "what was compressed",
        metadata(stored=[(index(), place(transform_descriptors=list_of(unicode("stream.zstd/1"))))]),
        RebuildError, says="stream.zstd",
    ),
)  # fmt: skip

INDEXES = (
    _refuses("bytes after the index", lambda: metadata()() + b"N.", AmbiguousError),
    _refuses("an index that is cut", lambda: metadata()()[:-40], TruncatedError, CorruptError),
    _refuses("an index of nothing", lambda: pickle_of(record(_METADATA, "Metadata"))),
    _refuses("an index that is a name", lambda: pickle_of(global_(_METADATA, "Metadata"))),
    _opens(
        "an index that runs a command",
        metadata(storage_meta=_EVIL), lambda checkpoint: reports_call("os.system")(checkpoint),
    ),
    _opens(
        "an index that runs a command by way of a module of torch's",
        metadata(storage_meta=call(_FILES, "os.system", unicode("id"))), reports_call(f"{_FILES}.os.system"),
    ),
    _refuses("an index that runs a command for its tensors", metadata(_EVIL)),
    _refuses("paths that meet", metadata(
        {"w": described(), "v": _BYTES}, [(index(), place()), (index("v", None), place("b.distcp"))],
        paths=dict_of({"v": tuple_of(unicode("w"))}),
    ), AmbiguousError, b=_ITEM),
    _refuses("a path through a tensor", metadata(
        {"w": described(), "v": _BYTES}, [(index(), place()), (index("v", None), place("b.distcp"))],
        paths=dict_of({"v": tuple_of(unicode("w"), unicode("x"))}),
    ), b=_ITEM),
    _refuses("a path of nothing", metadata(paths=dict_of({"w": empty_tuple}))),
    _refuses("a path of numbers that are none", metadata(paths=dict_of({"w": tuple_of(integer(-1))}))),
    _refuses("a path without an end", metadata(paths=dict_of({"w": numbers([0] * 300)})), LimitError),
    _opens(
        "a place in a list that is far away",
        metadata(paths=dict_of({"w": tuple_of(unicode("a"), integer((1 << 31) - 1))})),
        lambda checkpoint: list(checkpoint.tree["a"]) == [(1 << 31) - 1],
    ),
    _opens("paths that are a list", metadata(paths=list_of(none)), _holds(0, 0, 0, 0)),
)  # fmt: skip

STORED = (
    _refuses_to_read("a tensor of another shape", _item(tensor((2,)))),
    _refuses_to_read("a tensor of another type", _item(tensor(storage=b"".join((
        mark, unicode("storage"), global_("torch", "IntStorage"), unicode("0"), unicode("cpu"), integer(4), b"tQ",
    ))))),
    _refuses_to_read("a command instead of a tensor", _item(_EVIL)),
    _refuses_to_read("a page instead of a tensor", b"<html><body>" + bytes(100)),
    _refuses_to_read("zeros instead of a tensor", bytes(1000)),
    _refuses_to_read("a tensor without its data", _item(tensor(), {})),
    _opens(
        "an object that runs a command",
        metadata(
            {"w": described(), "o": _BYTES},
            [(index(), place()), (index("o", None), place("b.distcp", 0, len(_item(_EVIL))))],
        ),
        lambda checkpoint: reports_call("os.system")(checkpoint) and len(checkpoint.traces) == 2,
        b=_item(_EVIL),
    ),
    _refuses(
        "an object that is a page",
        metadata({"o": _BYTES}, [(index("o", None), place("b.distcp", 0, 20))]), NotACheckpointError,
        b=b"<html><body>no, sorry",
    ),
    _refuses(
        "an object that is the index again",
        metadata({"o": _BYTES}, [(index("o", None), place(".metadata", 0, 300))]), *(
            CorruptError, TruncatedError, NotACheckpointError
        ),
    ),
)  # fmt: skip

CASES: tuple[Case, ...] = (*BOXES, *PLACES, *INDEXES, *STORED)
