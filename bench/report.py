"""The benchmark's results as a page, with what has to be known about the machine."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

__all__ = ["Row", "machine", "write_results"]


@dataclass(frozen=True, slots=True)
class Row:
    """How long one contestant took, round by round."""

    contestant: str
    seconds: tuple[float, ...]
    peak: float | None = None
    """The most memory of one load, as a multiple of what was loaded."""

    @property
    def least(self) -> float:
        """Seconds of the fastest round."""
        return min(self.seconds)

    @property
    def median(self) -> float:
        """Seconds of the middle round."""
        return statistics.median(self.seconds)


def machine() -> str:
    """One line: processor, memory, kernel, huge pages, versions."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return (
        f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB; Linux {platform.release()}, "
        f"huge pages {_huge_pages()}; Python {platform.python_version()}, torch {torch.__version__}"
    )


def _processor() -> str:
    for line in _words("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _huge_pages() -> str:
    words = _words("/sys/kernel/mm/transparent_hugepage/enabled")
    return words[words.find("[") + 1 : words.find("]")] if "[" in words else "unknown"


def _words(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except OSError:
        return ""


def _line(row: Row, first: float, has_peaks: bool) -> str:
    ratio = row.median / first
    shown = f"{ratio:.1f}" if ratio >= 1 else f"{ratio:.2f}"
    line = f"| `{row.contestant}` | {row.least:.3f} s | {row.median:.3f} s | {shown}× |"
    peak = "" if row.peak is None else f"{row.peak:.2f}×"
    return f"{line} {peak} |" if has_peaks else line


def write_results(path: Path, tables: Sequence[tuple[str, Sequence[Row]]], rounds: int) -> None:
    """Write the page."""
    lines = [
        "# What `make bench` measured",
        "",
        f"{machine()}.",
        "",
        f"{rounds} rounds, contestants interleaved, the order turned round every time; files in the page cache; "
        "results compared for equality first. Wall seconds; the ratio is of medians, to the first line of each table. "
        "Memory is the most that one load took, what it filled among it, to the bytes that were loaded.",
    ]
    for name, rows in tables:
        has_peaks = any(row.peak is not None for row in rows)
        lines += ["", f"## {name}", ""]
        lines += ["| | min | median | ratio |" + " memory |" * has_peaks, "|---|--:|--:|--:|" + "--:|" * has_peaks]
        lines += [_line(row, rows[0].median, has_peaks) for row in rows]
    path.write_text("\n".join(lines) + "\n", "utf-8")
