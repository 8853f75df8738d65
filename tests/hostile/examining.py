"""What is asked of one hostile file: that it is refused, or shows what it must, and that nothing else happens.

`examine` is for files that are read at once. `examine_bomb` also bounds time and memory by the file's length, and is
only called in a process of its own; see `bombs`.
"""

from __future__ import annotations

import pickletools
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from unicodedata import category

import rehydrate as rh
from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.errors import RehydrateError

from .case import Case
from .guard import guarded

UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Categories of characters that do something, or that nobody can see."""
LONGEST = 3000
"""Characters of a message, whatever the file holds."""

SECONDS, SECONDS_A_BYTE = 2.0, 1e-6
"""Processor time that opening and looking may take, and auditing again; what was packed counts unpacked."""
LOOKING = 3
"""Times as much for opening a file again and looking at it from all sides, and for its audit, which opens it, too."""
AUDITED = 2_000_000
"""Bytes of the longest bomb that is audited, too."""
_STATUS = Path("/proc/self/status")
BYTES, BYTES_A_BYTE, BYTES_AN_OPCODE = 64 << 20, 4, 160
"""Memory, for each byte of the file and each opcode of its pickles."""


class Unsound(Exception):
    """The library did something that it must not do: what is wrong is not the test."""


def examine(case: Case, where: bytes | Path) -> None:
    """Open one file under the guard; `Unsound` says what was wrong."""
    path = where if isinstance(where, Path) else None
    with guarded(path, beside=bool(case.beside)), at_most(20):
        try:
            checkpoint = rh.open(where)
        except RehydrateError as error:
            check_message(error)
            if not isinstance(error, case.refused or ()):
                raise Unsound(f"it was refused, with {type(error).__name__}: {error}") from error
            if case.says not in str(error):
                raise Unsound(f"the refusal does not say {case.says!r}: {error}") from error
            return
        with checkpoint:
            if case.shows is None:
                raise Unsound(f"it was opened: {checkpoint}")
            look(checkpoint)
            if not case.shows(checkpoint):
                raise Unsound(f"it shows something else: {checkpoint}")


def examine_bomb(case: Case, data: bytes) -> None:
    """The same for a file that asks for much: opening it is bounded, looking at it, and auditing it."""
    with bounded(case, data), suppress(RehydrateError):
        rh.open(data).close()
    with bounded(case, data, times=LOOKING):
        examine(case, data)
    if len(data) <= AUDITED:
        with bounded(case, data, times=LOOKING):
            check_text(str(rh.audit(data)))


@contextmanager
def bounded(case: Case, data: bytes, *, times: int = 1) -> Iterator[None]:
    """Time and memory that a file of so many bytes, unpacked, and so many opcodes may take; more time to look at it."""
    length = case.unpacked or len(data)
    before = _peak_after_reset()
    begin = time.process_time()
    yield
    seconds, grown = time.process_time() - begin, _peak() - before
    if seconds > times * (SECONDS + SECONDS_A_BYTE * length):
        raise Unsound(f"{length:,} bytes took {seconds:.1f} s")
    more = grown // times - BYTES - BYTES_A_BYTE * length
    if more > 0 and more > BYTES_AN_OPCODE * (case.opcodes or opcodes_of(data)):  # counting takes longer than opening
        raise Unsound(f"{length:,} bytes took {grown:,} bytes of memory")


def opcodes_of(data: bytes) -> int:
    """Opcodes of the pickle that a file is, as far as it can be read, or that is stored in a zip archive."""
    at = max(data.find(b"data.pkl\x80") + len("data.pkl"), 0) if data.startswith(b"PK") else 0
    count = 0
    try:
        for _ in pickletools.genops(data[at:]):
            count += 1
    except Exception:  # noqa: BLE001 - it is broken there, in whichever way
        pass
    return count


def look(checkpoint: Checkpoint) -> None:
    """What anybody does first with an opened file; each gives something bounded, or one of our errors."""
    for view in (str, repr, list, Checkpoint.weights):
        try:
            seen = view(checkpoint)  # type: ignore[operator]
        except RehydrateError as error:
            check_message(error)
        else:
            if isinstance(seen, str):
                check_text(seen)


def check_message(error: RehydrateError) -> None:
    """A message is bounded, and nothing from the file can move a terminal's cursor or pretend to be a line of ours."""
    check_text(str(error))
    for part in (error.what, error.where, error.hint):
        if "\n" in part:
            raise Unsound(f"a line is broken: {part!r}")


def check_text(text: str) -> None:
    """Bounded, and made of characters that only show."""
    if len(text) > LONGEST:
        raise Unsound(f"{len(text):,} characters were said, beginning with {text[:200]!r}")
    odd = {character for character in text if category(character) in UNSAFE and character != "\n"}
    if odd:
        raise Unsound(f"{odd!r} was said in {text!r}")


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Processor time; for code in C that never returns there is the alarm of `bombs`."""

    def stop(*args: object) -> None:
        raise Unsound(f"it took more than {seconds} s")

    previous = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)


def _peak_after_reset() -> int:
    if not _STATUS.exists():
        return 0
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak of resident memory back to what it is now
    return _peak()


def _peak() -> int:
    """The most memory that was resident; 0 where the system does not say."""
    if not _STATUS.exists():
        return 0
    with _STATUS.open() as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM"))
