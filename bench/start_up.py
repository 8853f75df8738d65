"""How long `rehydrate FILE` takes as a whole process, beside a Python that only imports torch."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import torch
from report import Row

__all__ = ["measure_start_up"]

TENSORS = 100


def measure_start_up(folder: Path, rounds: int) -> tuple[str, list[Row]]:
    """Inspecting a 400 MB file, importing torch, and an empty Python; in turn."""
    path = folder / "inspected.pth"
    torch.save({f"layers.{index}.weight": torch.zeros(1_000_000) for index in range(TENSORS)}, path)
    commands = {
        "rehydrate FILE": [sys.executable, "-m", "rehydrate", str(path)],
        'python -c "import torch"': [sys.executable, "-c", "import torch"],
        'python -c ""': [sys.executable, "-c", ""],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        names = list(commands) if number % 2 == 0 else list(reversed(commands))
        for name in names:
            started = time.perf_counter()
            subprocess.run(commands[name], check=True, stdout=subprocess.DEVNULL)
            if number:  # the first round only warms
                times[name].append(time.perf_counter() - started)
    path.unlink()
    return "a whole process, a 400 MB file inspected", [Row(name, tuple(seconds)) for name, seconds in times.items()]
