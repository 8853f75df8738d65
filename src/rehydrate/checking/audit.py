"""rh.audit: what an unsafe load of a file would have done.

The file is opened as always, inert, and what its pickles say is judged: the names that `pickle`, `torch.load(
weights_only=False)`, `torch.jit.load` or `joblib` would have imported, the calls that they would have made. A name
that nobody listed needs code, at best. The verdict is about code that runs when a file is loaded; whether a model was
trained to misbehave is not seen here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rehydrate.checking.broken import see_what_is_there
from rehydrate.checking.examining import Examiner
from rehydrate.checking.findings import Finding, packages_in_words
from rehydrate.checking.severity import Severity
from rehydrate.checking.weights_only import what_torch_stops_at
from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.errors import (
    ClosedError,
    MissingExtraError,
    MissingFileError,
    NoSuchTensorError,
    NotACheckpointError,
    RebuildError,
    RehydrateError,
    SeveralError,
)
from rehydrate.formats.opening import open_checkpoint
from rehydrate.limits import Limits
from rehydrate.storage.source import Where
from rehydrate.text import shown

__all__ = ["Audit", "audit"]

_NO_ANSWER = (MissingFileError, MissingExtraError, ClosedError, NoSuchTensorError)
"""Errors that say nothing about the file."""
_LISTED = 10
"""Findings that are printed; `Audit.findings` has more."""

_MEANS: Mapping[str, str] = {
    "data-only": "plain data: loading it would have imported nothing but what puts data together",
    "needs-code": "loading it would have imported and called code that is not in the file",
    "embeds-code": "the file brings code along, which loading it would have made runnable",
    "dangerous": "loading it would have done more than load",
    "malformed": "it is broken, or readers disagree about it: never safe, whatever one reader makes of it",
    "not-a-checkpoint": "it is something else",
}


@dataclass(frozen=True, slots=True, repr=False)
class Audit:
    """What an unsafe load would have done. True for a file of plain data, and for nothing else; prints itself."""

    where: str
    """The file."""
    verdict: str
    """`data-only`, `needs-code`, `embeds-code`, `dangerous`, `malformed` or `not-a-checkpoint`."""
    format: str
    """What kind of file it is; empty where it could not be opened."""
    findings: tuple[Finding, ...]
    """What was found, the worst first; at most fifty of each severity."""
    counts: Mapping[str, int]
    """How many there are of each severity."""
    packages: Mapping[str, int]
    """Packages that would have been imported, and how many names of each; plain data's are left out."""
    imports: tuple[str, ...]
    """Every name that would have been imported, as the file spells them, also inside bytes; plain data's included."""
    refusal: RehydrateError | None = None
    """Why the file could not be opened, or the bytes of its tensors not found."""
    weights_only: bool | None = None
    """Whether `torch.load(weights_only=True)` would open it; None where it could not be opened here."""
    blocker: str = ""
    """Why not, or what it would stop at first."""

    def __bool__(self) -> bool:
        return self.verdict == "data-only"

    def __str__(self) -> str:
        lines = [f"{shown(self.where)}: {self.verdict}", f"  {_MEANS[self.verdict]}"]
        if self.refusal is not None:
            lines += [f"  {line}" for line in str(self.refusal).splitlines()]
        lines += [f"  {finding.severity}: {finding}" for finding in self.findings[:_LISTED]]
        hidden = sum(self.counts.values()) - min(len(self.findings), _LISTED)
        if hidden > 0:
            lines.append(f"  and {hidden:,} more")
        if self.blocker:
            lines.append(f"  torch.load(weights_only=True) would refuse it: {self.blocker}")
        if self.packages:
            lines.append(f"  names of {packages_in_words(self.packages)}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Audit {shown(self.where)} {self.verdict}>"

    def __rich_repr__(self) -> Iterator[tuple[str, object]]:
        yield "where", shown(self.where)
        yield "verdict", self.verdict
        yield "findings", self.findings

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, for JSON."""
        return {
            "ok": bool(self),
            "where": shown(self.where),
            "verdict": self.verdict,
            "means": _MEANS[self.verdict],
            "format": self.format,
            "findings": [finding.to_dict() for finding in self.findings],
            "counts": dict(self.counts),
            "packages": {shown(package): number for package, number in self.packages.items()},
            "imports": [shown(name) for name in self.imports],
            "weights_only": self.weights_only,
            "blocker": self.blocker,
            "refusal": None if self.refusal is None else self.refusal.what,
        }

    def raise_if_bad(self) -> None:
        """Raise why the file could not be opened, or `RebuildError` for one that is not plain data."""
        if self:
            return
        if self.refusal is not None:
            raise self.refusal
        raise RebuildError(
            f"the file is {self.verdict}: {_MEANS[self.verdict]}",
            where=shown(self.where),
            found="\n".join(str(finding) for finding in self.findings[:_LISTED]),
            hint="rh.load opens it without any of that, and shows what it names as records",
        )


def audit(where: Where | Checkpoint, *, member: str | None = None) -> Audit:
    """Judge a file; see `rehydrate.audit`."""
    limits = Limits()
    examiner = Examiner(limits)
    if isinstance(where, Checkpoint):
        return _judged(where, examiner, limits)
    try:
        checkpoint = open_checkpoint(where, member=member, limits=limits)
    except _NO_ANSWER:
        raise
    except SeveralError as several:
        return _all_of(where, several, examiner, limits)
    except RehydrateError as refusal:
        return _refused(where, refusal, examiner, limits)
    with checkpoint:
        beside = checkpoint.facts.get("beside") if member is None else None
        broken = _beside(where, beside, examiner, limits) if isinstance(beside, tuple) else None
        return _judged(checkpoint, examiner, limits, broken)


def _all_of(where: Where, several: SeveralError, examiner: Examiner, limits: Limits) -> Audit:
    """A folder or an archive of several checkpoints is as bad as the worst of them."""
    refusal = _beside(where, several.choices, examiner, limits)
    severity = examiner.findings.worst
    name = os.fspath(where) if isinstance(where, (str, os.PathLike)) else several.where
    verdict = severity.word if refusal is None or severity is Severity.DANGEROUS else "malformed"
    report = _audit(name, verdict, "", examiner, refusal)
    return replace(report, weights_only=False, blocker=f"{several.what}; each was judged")


def _beside(where: Where, names: tuple[str, ...], examiner: Examiner, limits: Limits) -> RehydrateError | None:
    """Judge these of a folder or an archive as well; why the first that does not open is refused."""
    refusal: RehydrateError | None = None
    for name in names:
        try:
            with open_checkpoint(where, member=name, limits=limits) as checkpoint:
                examiner.checkpoint(checkpoint, inside=f"{shown(name)} ")
                refusal = refusal or _disputed(checkpoint)
        except RehydrateError as error:
            refusal = refusal or error
    return refusal


def _judged(checkpoint: Checkpoint, examiner: Examiner, limits: Limits, refusal: RehydrateError | None = None) -> Audit:
    examiner.checkpoint(checkpoint)
    severity = examiner.findings.worst
    refusal = refusal or _disputed(checkpoint)
    if refusal is not None and severity is not Severity.DANGEROUS:
        return _audit(checkpoint.source.name, "malformed", checkpoint.format, examiner, refusal)
    blocker = what_torch_stops_at(checkpoint, limits)
    report = _audit(checkpoint.source.name, severity.word, checkpoint.format, examiner, None)
    return replace(report, weights_only=not blocker, blocker=blocker)


def _disputed(checkpoint: Checkpoint) -> RehydrateError | None:
    """Why the bytes of some tensor cannot be found, or not by every reader; opening leaves them alone."""
    try:
        for storage in {id(ref.storage): ref.storage for ref in checkpoint.values()}.values():
            storage.locate()
    except RehydrateError as refusal:
        return refusal
    return None


def _refused(where: Where, refusal: RehydrateError, examiner: Examiner, limits: Limits) -> Audit:
    """A file that does not open: what was refused, and what another reader may see in it all the same."""
    less = replace(
        limits, work_per_byte=limits.work_per_byte // 4, key_seconds=limits.key_seconds / 4,
        byte_seconds=limits.byte_seconds / 4,
    )  # fmt: skip
    name = see_what_is_there(where, examiner, less)
    severity = examiner.findings.worst
    verdict = "not-a-checkpoint" if isinstance(refusal, NotACheckpointError) else "malformed"
    if severity is Severity.DANGEROUS:
        verdict = "dangerous"
    return _audit(name, verdict, "", examiner, refusal)


def _audit(where: str, verdict: str, kind: str, examiner: Examiner, refusal: RehydrateError | None) -> Audit:
    found = examiner.findings
    counts = {severity.word: found.counts[severity] for severity in sorted(found.counts, reverse=True)}
    return Audit(where, verdict, kind, found.in_order(), counts, dict(found.packages), tuple(found.imports), refusal)
