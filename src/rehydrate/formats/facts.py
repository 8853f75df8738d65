"""What every pickle says of itself, whatever it lies in."""

from __future__ import annotations

from rehydrate.checkpoint.trace import Call, Trace
from rehydrate.pickles.known import strangers
from rehydrate.pickles.reading import Reading

__all__ = ["facts_of", "trace_of"]


def facts_of(reading: Reading, **more: object) -> dict[str, object]:
    """`protocol`; `imports`: what an unsafe load would have imported; `calls`: those it would have called."""
    foreign = strangers(reading)
    return {
        **more,
        "protocol": reading.protocol,
        "imports": tuple(f"{module}.{name}" for module, name in foreign),
        "calls": tuple(f"{module}.{name}" for module, name in foreign if (module, name) in reading.called),
    }


def trace_of(reading: Reading, where: str = "") -> Trace:
    """What this pickle, which is the member `where` of the file, would have had an unpickler do."""
    return Trace(
        where,
        reading.start,
        reading.end - reading.start,
        reading.protocol,
        reading.names,
        reading.called,
        tuple(Call(at, record) for at, record in reading.calls),
    )
