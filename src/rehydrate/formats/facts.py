"""What every pickle says of itself, whatever it lies in."""

from __future__ import annotations

from rehydrate.pickles.known import strangers
from rehydrate.pickles.reading import Reading

__all__ = ["facts_of"]


def facts_of(reading: Reading, **more: object) -> dict[str, object]:
    """`protocol`; `imports`: what an unsafe load would have imported; `calls`: those it would have called."""
    foreign = strangers(reading)
    return {
        **more,
        "protocol": reading.protocol,
        "imports": tuple(f"{module}.{name}" for module, name in foreign),
        "calls": tuple(f"{module}.{name}" for module, name in foreign if (module, name) in reading.called),
    }
