"""`make bench`: rehydrate beside torch on the same files, in the same run, interleaved; writes bench/results.md.

Every contestant has a process of its own, started once, that does one load when told to: so each may have its own
environment, and none inherits another's memory. Rounds alternate in order (A B C, C B A), memory is touched and given
back before each load (a virtual machine pays for a page's first touch), and what a contestant loaded is compared with
what the others loaded, bit for bit, before any figure counts. Files are warm: in the page cache. Reported are the
least and the median of wall seconds, and the ratio of medians.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from contestants import measure_opening
from first_forward import measure_first_forward
from in_place import measure_in_place
from index import measure_index
from report import Row, machine, write_results
from resume import measure_resume
from start_up import measure_start_up
from workloads import WORKLOADS

LONG = 5
"""Rounds, at most, of what takes a second each."""


def main() -> None:
    """Measure everything, say it, and write it down."""
    parser = argparse.ArgumentParser(description="rehydrate beside torch.load")
    parser.add_argument("--rounds", type=int, default=9, help="loads of each contestant (default 9)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results.md")
    options = parser.parse_args()
    print(machine())
    tables: list[tuple[str, list[Row]]] = []
    with tempfile.TemporaryDirectory(prefix="rehydrate-bench-") as folder:
        for workload in WORKLOADS:
            tables.append(measure_opening(workload, Path(folder, workload.file), options.rounds))
            show(*tables[-1])
        for measure in (measure_index, measure_start_up):
            tables.append(measure(Path(folder), options.rounds))
            show(*tables[-1])
        tables.append(measure_resume(Path(folder), min(options.rounds, LONG)))
        show(*tables[-1])
        for measure_both in (measure_in_place, measure_first_forward):
            for table in measure_both(Path(folder), min(options.rounds, LONG)):
                tables.append(table)
                show(*table)
    write_results(options.out, tables, options.rounds)
    print(f"written to {options.out}")


def show(name: str, rows: list[Row]) -> None:
    """One table on the terminal."""
    print(f"\n{name}")
    ours = rows[0].median
    for row in rows:
        print(
            f"  {row.contestant:<60} min {row.least:7.3f} s   median {row.median:7.3f} s   {row.median / ours:5.2f}x"
            + ("" if row.peak is None else f"   memory {row.peak:.2f}x")
        )


if __name__ == "__main__":
    main()
