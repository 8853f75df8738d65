"""Which of the files inside an archive is the checkpoint, and opening it.

Files are looked into where they lie. Where several are checkpoints none is chosen: `member=` does. Names are only
shown and compared; none is ever used as a path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.errors import MissingFileError, NotACheckpointError, RehydrateError, SeveralError
from rehydrate.formats.contract import Request
from rehydrate.formats.impostors.archives import by_members
from rehydrate.formats.impostors.recognising import quoted
from rehydrate.formats.inside import traces_inside
from rehydrate.storage.source import Source
from rehydrate.storage.views import PartSource
from rehydrate.text import listed, nearest, shown

__all__ = ["Files", "open_contained"]

Files = Mapping[str, Callable[[], Source]]
"""The name of each file, and what makes it a source; closing that closes the archive."""

_TRIED = 200
"""Files that are looked into."""


def open_contained(archive: str, files: Files, source: Source, request: Request) -> Checkpoint:
    """Open the one checkpoint among the files of `source`, which is a `tar` or a `zip`, or the one that was asked for.

    Raises `SeveralError` that lists several, `NotACheckpointError` where there is none, `MissingFileError` for a
    name that is not there, and whatever the file's own format raises.
    """
    name, others = _only(archive, files, source, request) if request.member is None else (request.member, ())
    if name not in files:
        near = nearest(name, files)
        raise MissingFileError(
            f"this archive has no file {shown(name)!r}",
            where=shown(source.name),
            found=listed([shown(other) for other in files], 4) if files else "no file",
            hint=f"did you mean {shown(near)!r}?" if near else "",
        )
    checkpoint = request.inside(files[name]())
    checkpoint.traces = traces_inside(checkpoint, name)
    inner = checkpoint.facts.get("member")
    checkpoint.format = f"{archive}+{checkpoint.format}"
    left = {"beside": others} if others else {}
    checkpoint.facts = {**checkpoint.facts, "member": f"{name}/{inner}" if inner else name, **left}
    return checkpoint


def _only(archive: str, files: Files, source: Source, request: Request) -> tuple[str, tuple[str, ...]]:
    """The one file that is a checkpoint, even a broken one; of several, the one that holds tensors. And the others."""
    found = list(_checkpoints(files, request))
    everything = [name for name, _ in found]
    if len(found) > 1:
        found = [pair for pair in found if pair[1]] or found
    if len(found) == 1:
        return found[0][0], tuple(name for name in everything if name != found[0][0])
    if found:
        raise SeveralError(
            f"this {archive} archive holds {len(found):,} checkpoints",
            where=shown(source.name),
            found=listed([shown(name) for name, _ in found]),
            hint=f"choose one: member={shown(found[0][0])!r}",
            choices=tuple(name for name, _ in found),
        )
    impostor = by_members(files)
    what = f", {impostor.what}" if impostor else ""
    looked_into = "files" if len(files) <= _TRIED else f"first {_TRIED} files"
    raise NotACheckpointError(
        f"this is a {archive} archive{what}, and none of its {looked_into} is a checkpoint",
        where=shown(source.name),
        found=listed([shown(name) for name in files]) if files else "no file",
        hint=impostor.hint.replace("FILE", quoted(source.name)) if impostor else "",
    )


def _checkpoints(files: Files, request: Request) -> Iterator[tuple[str, bool]]:
    """Files that are checkpoints, and whether they hold tensors; those that look like one and are broken count."""
    likely = [name for name in files if not _is_of_macos(name)]
    for name in likely[:_TRIED]:
        try:
            inside = request.inside(_Borrowed(files[name]()))
            yield name, bool(len(inside))
        except NotACheckpointError:
            continue
        except RehydrateError:
            yield name, True


class _Borrowed(PartSource):
    """A file that is only looked into: the archive stays open."""

    def __init__(self, source: Source) -> None:
        super().__init__(source, 0, source.size, source.name)

    def close(self) -> None:
        """The archive is still needed."""


def _is_of_macos(name: str) -> bool:
    """What macOS puts beside the files that it packs."""
    parts = name.split("/")
    return parts[-1].startswith("._") or parts[-1] == ".DS_Store" or "__MACOSX" in parts
