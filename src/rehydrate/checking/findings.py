"""Findings: what an unsafe load would have done, in order, bounded however much a file says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rehydrate.checking.severity import Severity
from rehydrate.text import counted, shown

__all__ = ["Finding", "Findings"]

_KEPT = 50
"""Findings of each severity that are kept; all are counted."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that an unsafe load would have imported or called."""

    severity: str
    """`needs-code`, `embeds-code` or `dangerous`."""
    what: str
    """Why, in a few words: `runs programs`."""
    name: str
    """What would have been reached, however it was hidden: `os.system`."""
    where: str
    """The member of the file whose pickle says so; empty where the file is the pickle."""
    at: int
    """The byte of that member."""
    path: str
    """Where in the tree the result stands; empty for what was thrown away, and for a bare name."""
    text: str
    """The call as somebody would write it, bounded and escaped; the name where it was only imported."""
    is_called: bool
    """False for a name that is imported and not visibly called."""
    is_discarded: bool = False
    """Whether the result is thrown away: it was called for what it does."""

    def __str__(self) -> str:
        place = f"byte {self.at:,}" + (f" of {shown(self.where)}" if self.where else "")
        fate = "its result is thrown away" if self.is_discarded else f"at {self.path}" if self.path else ""
        does = "" if self.is_called else "imported, "
        return f"{self.text}  {does}{self.what}; " + ", ".join(part for part in (place, fate) if part)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, for JSON."""
        return {
            "severity": self.severity,
            "what": self.what,
            "name": self.name,
            "where": shown(self.where),
            "at": self.at,
            "path": self.path,
            "text": self.text,
            "called": self.is_called,
            "discarded": self.is_discarded,
        }


class Findings:
    """Findings as they are found: the first of each kind are kept, all are counted."""

    def __init__(self) -> None:
        self.counts: Counter[Severity] = Counter()
        self.packages: Counter[str] = Counter()
        """Packages whose code is needed, and how many of their names are."""
        self.imports: dict[str, None] = {}
        """Every name that would have been imported, in order."""
        self._kept: dict[Severity, list[Finding]] = {}
        self._known: set[tuple[object, ...]] = set()

    def add(self, severity: Severity, key: tuple[object, ...], make: Callable[[Severity], Finding]) -> None:
        """Count a finding; `make` it, unless its like is there already or there are enough."""
        self.counts[severity] += 1
        kept = self._kept.setdefault(severity, [])
        if len(kept) < _KEPT and key not in self._known:
            self._known.add(key)
            kept.append(make(severity))

    def take(self, others: Findings) -> None:
        """Add those of a pickle that lies inside."""
        self.counts.update(others.counts)
        self.packages.update(others.packages)
        self.imports.update(others.imports)
        self._known |= others._known
        for severity, more in others._kept.items():
            kept = self._kept.setdefault(severity, [])
            kept.extend(more[: _KEPT - len(kept)])

    @property
    def worst(self) -> Severity:
        """The worst of all."""
        return max(self.counts, default=Severity.DATA)

    def in_order(self) -> tuple[Finding, ...]:
        """Those that are kept, the worst first, in each severity as the file has them."""
        return tuple(finding for severity in sorted(self._kept, reverse=True) for finding in self._kept[severity])


def packages_in_words(packages: Mapping[str, int], most: int = 6) -> str:
    """The packages that are needed, those of most names first."""
    ordered = sorted(packages.items(), key=lambda pair: (-pair[1], pair[0]))
    words = [f"{shown(package, 40)} ({counted(number, 'name')})" for package, number in ordered[:most]]
    return ", ".join(words) + (f" and {len(ordered) - most:,} more" if len(ordered) > most else "")
