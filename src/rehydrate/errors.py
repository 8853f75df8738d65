"""The error tree: every way in which rehydrate says no.

    RehydrateError
    ├── NotACheckpointError   also ValueError         what it looks like instead
    ├── CorruptError          also ValueError         a promise of the format is broken
    ├── AmbiguousError        also ValueError         two readings, or two models: you choose
    ├── SeveralError          also ValueError         several files, each a checkpoint: an AmbiguousError, too
    ├── LimitError            also ValueError         a limit was reached (a bomb, or a very odd file)
    ├── ClosedError           also ValueError         the file behind a tensor was closed
    ├── TruncatedError        also EOFError           the file ends early
    ├── MissingExtraError     also ImportError        what to install
    ├── MissingFileError      also FileNotFoundError  there is nothing there
    ├── NoSuchTensorError     also KeyError           with "did you mean"
    ├── MismatchError         also RuntimeError       names and shapes do not fit the model
    ├── DeviceError           also RuntimeError       this machine lacks that device
    ├── RebuildError          also RuntimeError       a value or a class cannot be built here
    ├── TornLoadError         also RuntimeError       a load failed after writing had begun
    └── SaveError             also OSError            nothing was written; the old file is untouched

Each leaf is also the builtin that a caller would catch without knowing this library. A message says what
happened, where, what was found, and what to try. This file never formats anything but its own errors, and it
never escapes: whoever puts a name from a file into a message passes it through `rehydrate.text.shown` first.
"""

from __future__ import annotations

from errno import ENOENT

__all__ = [
    "AmbiguousError",
    "ClosedError",
    "CorruptError",
    "DeviceError",
    "LimitError",
    "MismatchError",
    "MissingExtraError",
    "MissingFileError",
    "NoSuchTensorError",
    "NotACheckpointError",
    "RebuildError",
    "RehydrateError",
    "SaveError",
    "SeveralError",
    "TornLoadError",
    "TruncatedError",
]


class RehydrateError(Exception):
    """Everything that this library raises on purpose.

    `what` is one sentence; `where` a file, a tensor, a byte offset; `found` what stood there; `hint` what to try.

    >>> print(CorruptError("the index is cut", where="net.pth", hint="download it again"))
    the index is cut
      where  net.pth
      try    download it again
    """

    def __init__(self, what: str, *, where: str = "", found: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.found = found
        self.hint = hint

    def __str__(self) -> str:
        lines = [self.what]
        for label, text in (("where", self.where), ("found", self.found), ("try", self.hint)):
            if text:
                lines.append(f"  {label:<6} " + text.replace("\n", "\n         "))
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with keyword arguments do not pickle by themselves, and worker processes pickle exceptions.
        return (_again, (type(self), self.what, self.where, self.found, self.hint))


def _again(kind: type[RehydrateError], what: str, where: str, found: str, hint: str) -> RehydrateError:
    return kind(what, where=where, found=found, hint=hint)


class NotACheckpointError(RehydrateError, ValueError):
    """The file is something else, and the message says what."""


class CorruptError(RehydrateError, ValueError):
    """The file breaks a promise of its own format."""


class AmbiguousError(RehydrateError, ValueError):
    """There are several answers, and choosing one silently would be wrong."""


class SeveralError(AmbiguousError):
    """A folder or an archive holds several checkpoints, each of which may be fine; `member=` takes one of `choices`."""

    def __init__(
        self, what: str, *, where: str = "", found: str = "", hint: str = "", choices: tuple[str, ...] = ()
    ) -> None:
        super().__init__(what, where=where, found=found, hint=hint)
        self.choices = choices


class LimitError(RehydrateError, ValueError):
    """The file asks for more than any honest file needs."""


class ClosedError(RehydrateError, ValueError):
    """The checkpoint that this tensor lies in has been closed."""


class TruncatedError(RehydrateError, EOFError):
    """The file ends before what it promised."""


class MissingExtraError(RehydrateError, ImportError):
    """An optional dependency is not installed; the hint is the command that installs it."""


class MissingFileError(RehydrateError, FileNotFoundError):
    """There is no such file; `errno` is what the system would say."""

    def __init__(self, what: str, *, where: str = "", found: str = "", hint: str = "") -> None:
        super().__init__(what, where=where, found=found, hint=hint)
        self.errno = ENOENT


class NoSuchTensorError(RehydrateError, KeyError):
    """There is no tensor, or no part, of that name."""


class MismatchError(RehydrateError, RuntimeError):
    """Names or shapes of the checkpoint do not fit the model; torch's users catch RuntimeError."""


class DeviceError(RehydrateError, RuntimeError):
    """The device does not exist on this machine."""


class RebuildError(RehydrateError, RuntimeError):
    """Something that the file describes cannot be built here."""


class TornLoadError(RehydrateError, RuntimeError):
    """Writing into the model had begun when the load failed; the message names what was written."""


class SaveError(RehydrateError, OSError):
    """The file was not written, and what was there before still is."""
