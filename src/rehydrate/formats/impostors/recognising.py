"""What a file is when it is no checkpoint, or none that is read yet: one sentence each, and what to do.

    signatures    first bytes that give themselves away
    models        models of other libraries, by how their fields are laid out
    text          pointers, settings, source code, files that were harmed as text
    pages         what servers send instead of a file
    archives      archives that are documents, packages, programs

Asked when every format has declined, so that no checkpoint can be taken for something else, however it begins. What
nobody knows is described as it is: what it begins with, and whether its bytes are text, numbers, or like noise.
"""

from __future__ import annotations

import math
from collections import Counter
from shlex import quote

from rehydrate.errors import NotACheckpointError
from rehydrate.formats.contract import Head
from rehydrate.formats.impostors.impostor import Impostor
from rehydrate.formats.impostors.models import bare_numbers, by_layout
from rehydrate.formats.impostors.signatures import by_signature
from rehydrate.formats.impostors.text import by_text, harmed_as_text
from rehydrate.storage.source import Source
from rehydrate.text import counted, shown, size

__all__ = ["Impostor", "no_checkpoint", "quoted", "what_it_is"]

_SAMPLES = 64
"""Places of a file of zeros that are looked at."""
_SAMPLE = 4096
_DISC = 32769
"""Where the name of the standard stands on a disc image, after 32 kB that are mostly zeros."""
_SHORT = 4
"""Bytes that nothing can be shorter than that says what it is."""
_NOISE = 7.5
"""Bits of a byte, of eight, that bytes have which are compressed or encrypted."""


def no_checkpoint(source: Source, head: Head, why: str = "") -> NotACheckpointError:
    """The refusal of a file that no format takes; `why` is what one of them found when it tried."""
    impostor = _zeros(source, head) or what_it_is(head)
    if impostor is None:
        return NotACheckpointError(
            "this is no checkpoint that rehydrate knows (invalid magic number)",
            where=shown(source.name),
            found=_described(head) + (f"; {why}" if why else ""),
        )
    return NotACheckpointError(
        f"this is {impostor.what}",
        where=shown(source.name),
        found=impostor.found,
        hint=impostor.hint.replace("FILE", quoted(source.name)),
    )


def quoted(name: str) -> str:
    """A file's name as a shell takes it, for the commands in hints; FILE for bytes, and where a terminal would act."""
    return quote(name) if name.isprintable() and not name.startswith("<") else "FILE"


def what_it_is(head: Head) -> Impostor | None:
    """The sentence for what a file is, or None where nothing here knows it. Also for files that are no model at all."""
    if not head.first:
        return Impostor("an empty file", "the download or the save did not happen; get it again")
    if head.size < _SHORT:
        return Impostor(f"a file of {counted(head.size, 'byte')}", "the download or the save stopped; get it again")
    if not head.first.strip(b"\0"):
        return Impostor("nothing but zeros at its beginning", "it was never written out; get it again", size(head.size))
    # Layouts are guesses, and text is the surer one; but a map of msgpack or a message may begin like text.
    return by_signature(head) or by_text(head) or by_layout(head) or harmed_as_text(head)


def _zeros(source: Source, head: Head) -> Impostor | None:
    """A file that begins with zeros, looked at in many places: all of it, or only its beginning."""
    if not head.first or head.first.strip(b"\0"):
        return None
    if source.size >= _DISC + 5 and source.read(_DISC, 5) == b"CD001":
        return Impostor("an image of a disc (ISO)", "unpack it first: 7z x FILE")
    step = max(source.size // _SAMPLES, 1)
    for at in range(0, source.size, step):
        sample = source.read(at, min(_SAMPLE, source.size - at))
        data = sample.lstrip(b"\0")
        if data:
            return Impostor(
                "zeros at its beginning, and data behind them",
                "its beginning was never written out, as when a download with several connections stops; get it again",
                f"{size(source.size)}; something else than zeros stands at byte {at + len(sample) - len(data):,}",
            )
    return Impostor("nothing but zeros", "the disk was full, or the download stopped; get it again", size(source.size))


def _described(head: Head) -> str:
    """What can be said of bytes that nobody knows."""
    first = head.first
    begins = f"{counted(head.size, 'byte')} beginning with {first[:16].hex(' ')}"
    if bare_numbers(head):
        return begins + "; they could be float32 numbers and nothing else, which do not say what they are"
    sample = first if head.size <= len(first) else first + head.last
    if len(sample) >= 1024:
        counts = Counter(sample).values()
        bits = -sum(count / len(sample) * math.log2(count / len(sample)) for count in counts)
        if bits >= _NOISE:
            return begins + f"; like noise ({bits:.1f} bits of 8): compressed, encrypted, or cut out of a larger file"
    return begins
