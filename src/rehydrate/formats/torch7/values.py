"""What Torch7's tables and objects become: lists, dicts and records that everything above knows.

    table with the keys 1 to n, and the empty one   list
    table of other strings and numbers              dict
    table with other keys                           `<lua.table>`, the pairs its `items`: these keys compare by identity
    tds.Hash, tds.Vec                               as the table that they stand for
    storage that stands alone                       tensor of one dimension
    object of a class                               record of the class; its state is the fields, as they were
    function                                        `<lua.function>` with its bytecode, which nothing runs

A field that holds another object is that object, also where an object contains itself. Which fields of a layer are
learned, and what its tensors are called in PyTorch, is found where trees are walked: `checkpoint.modules`.
"""

from __future__ import annotations

from rehydrate.checkpoint.record import Record
from rehydrate.checkpoint.tensor import Storage
from rehydrate.errors import AmbiguousError, CorruptError
from rehydrate.formats.torch7.stream import Stream, Table
from rehydrate.formats.torch7.tensors import as_tensor
from rehydrate.text import shown

__all__ = ["tree_of"]

FEW = 4096
"""Keys that are numbers, of one dictionary, that may be any numbers. More of them must lie close together: numbers that
were chosen for it make a dictionary take a hundred times as long."""
CLOSE = 8


def tree_of(stream: Stream) -> object:
    """The root of a stream with every table in it made into what it is. Empties the stream.

    Raises `CorruptError` or `AmbiguousError` for keys that no table can have.
    """
    for table in stream.tables:
        table.final = _emptied(table)
    for vector in stream.vectors:
        vector.final = list[object]()
    for table in stream.tables:
        _fill(table)
    for vector in stream.vectors:
        vector.final.extend(map(_final, vector))
        vector.clear()
    for record in stream.records:
        _complete(record)
    return _final(stream.root)


def _final(value: object) -> object:
    if type(value) is Table:
        return value.final
    return as_tensor(value) if type(value) is Storage else value


def _emptied(table: Table) -> object:
    """An empty container of the kind that the table's keys ask for."""
    keys = table[::2]
    kinds = set(map(type, keys))
    if type(None) in kinds or any(key != key for key in keys if type(key) is float):
        raise CorruptError("a key of a table is nothing, or no number", found=f"in a table of {len(keys):,}")
    if kinds <= {int} and _counts_up(keys):
        return []
    if kinds <= {str, bytes, int, float} and _is_quick(keys):
        if len(set(keys)) < len(keys):
            raise AmbiguousError("a table has one key twice; readers may differ in which counts", found=_double(keys))
        return {}
    return Record("lua", "table")


def _counts_up(keys: list[object]) -> bool:
    """Whether these are the whole numbers from 1, each once, in whatever order."""
    count = len(keys)
    if keys == list(range(1, count + 1)):
        return True
    seen = bytearray(count + 1)
    for key in keys:
        if not isinstance(key, int) or not 0 < key <= count or seen[key]:
            return False
        seen[key] = 1
    return True


def _is_quick(keys: list[object]) -> bool:
    numbers = [key for key in keys if isinstance(key, (int, float))]
    most = CLOSE * len(numbers) + FEW
    return len(numbers) <= FEW or all(type(key) is int and -most < key < most for key in numbers)


def _double(keys: list[object]) -> str:
    seen: set[object] = set()
    for key in keys:
        if key in seen:
            return shown(key)
        seen.add(key)
    return ""


def _fill(table: Table) -> None:
    final = table.final
    if isinstance(final, dict):
        final.update(zip(map(_final, table[::2]), map(_final, table[1::2]), strict=True))
    elif isinstance(final, Record):
        final.extend(zip(map(_final, table[::2]), map(_final, table[1::2]), strict=True))
    elif isinstance(final, list):
        _fill_list(final, table)
    table.clear()


def _fill_list(final: list[object], table: Table) -> None:
    keys = table[::2]
    final.extend(map(_final, table[1::2]))
    if keys != list(range(1, len(keys) + 1)):
        values = dict(zip(keys, final, strict=True))
        final[:] = [values[number] for number in range(1, len(keys) + 1)]


def _complete(record: Record) -> None:
    if record.path == "lua.function" and isinstance(record.state, dict):
        record.state = {name: _final(value) for name, value in record.state.items()}
    else:
        record.state = _final(record.state)
