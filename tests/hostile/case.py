"""What a case is, and the words that tables of cases are written in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.record import Record
from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.errors import (
    AmbiguousError,
    CorruptError,
    LimitError,
    NotACheckpointError,
    RehydrateError,
    TruncatedError,
)

Shows = Callable[[Checkpoint], bool]

BROKEN = (CorruptError, TruncatedError)
"""A promise of the format is broken."""
DISPUTED = (CorruptError, AmbiguousError)
"""Readers disagree, or one of them would refuse."""
BOMB = (LimitError, CorruptError)
"""It asks for more than any honest file needs."""
REFUSED = (CorruptError, TruncatedError, AmbiguousError, LimitError, NotACheckpointError)
"""Any refusal will do."""


@dataclass(frozen=True)
class Case:
    """One hostile file and what must come of it."""

    name: str
    """Begins with its kind, see `test_cases`; ends with its CVE, GHSA or issue if any."""
    build: Callable[[], bytes]
    refused: tuple[type[RehydrateError], ...] = ()
    """The errors that are right; none means that it must open."""
    shows: Shows | None = None
    """What must be true of the opened checkpoint; None means that it must be refused."""
    says: str = ""
    """Words that the refusal must contain."""
    file: str = "net.pth"
    unpacked: int = 0
    """Bytes of a bomb that is packed, unpacked."""
    opcodes: int = 0
    """Opcodes of its pickles, where they cannot be counted in the file as it is."""
    beside: Mapping[str, bytes] = field(default_factory=dict)
    """Files in the same folder, of a checkpoint that is several; it is then never opened from memory."""


def refuses(name: str, build: Callable[[], bytes], *errors: type[RehydrateError], says: str = "") -> Case:
    """A file that must be refused with one of these errors."""
    return Case(name, build, errors or REFUSED, says=says)


def is_no_checkpoint(name: str, content: bytes, says: str) -> Case:
    """A file that is something else, and the refusal says what."""
    return Case(name, lambda: content, (NotACheckpointError,), says=says)


def opens(name: str, build: Callable[[], bytes], shows: Shows) -> Case:
    """A file that must open and show this."""
    return Case(name, build, (), shows)


def harmless(name: str, build: Callable[[], bytes], shows: Shows | None = None) -> Case:
    """A file that may open (and then shows this) or be refused; it only must not do harm."""
    return Case(name, build, REFUSED, shows or anything)


def anything(checkpoint: Checkpoint) -> bool:
    return True


def tree_is(value: object) -> Shows:
    """The tree equals `value`, types included at the root."""
    return lambda checkpoint: type(checkpoint.tree) is type(value) and bool(checkpoint.tree == value)


def is_call_of(value: object, module: str, name: str) -> bool:
    return type(value) is Record and (value.module, value.name) == (module, name) and value.args is not None


def calls(module: str, name: str, *args: object) -> Shows:
    """The tree is the record of a call, inert; its arguments begin with `args`."""

    def shows(checkpoint: Checkpoint) -> bool:
        record = checkpoint.tree
        return is_call_of(record, module, name) and record.args[: len(args)] == args

    return shows


def names(module: str, name: str) -> Shows:
    """The tree is a bare name, inert."""
    return lambda checkpoint: (
        type(checkpoint.tree) is Record
        and (checkpoint.tree.module, checkpoint.tree.name) == (module, name)
        and checkpoint.tree.args is None
    )


def reports_call(path: str) -> Shows:
    """The facts say that an unsafe load would have called this, wherever the result went."""
    return lambda checkpoint: path in checkpoint.facts["calls"]


def is_record(checkpoint: Checkpoint) -> bool:
    return type(checkpoint.tree) is Record


def both(*conditions: Shows) -> Shows:
    return lambda checkpoint: all(condition(checkpoint) for condition in conditions)


def holds_tensor(name: str = "w") -> Shows:
    """There is a tensor of this name, and reading it gives an array or one of our errors."""

    def shows(checkpoint: Checkpoint) -> bool:
        ref = checkpoint[name]
        return type(ref) is TensorRef and (reads(ref) or True)

    return shows


def reads(ref: TensorRef) -> bool:
    """Whether the tensor's bytes can be read; anything but our errors escapes."""
    try:
        ref.numpy()
    except RehydrateError:
        return False
    return True


def refuses_to_read(name: str = "w") -> Shows:
    """The file opens, for its index is fine, and the tensor's bytes are refused when asked for."""
    return lambda checkpoint: not reads(checkpoint[name])
