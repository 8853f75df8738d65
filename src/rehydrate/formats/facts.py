"""What every pickle says of itself, whatever it lies in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rehydrate.checkpoint.tensor import Storage
from rehydrate.checkpoint.trace import Call, Trace
from rehydrate.checkpoint.tree import tensors_under
from rehydrate.pickles.known import strangers
from rehydrate.pickles.reading import Reading
from rehydrate.pickles.torch_names import BY_DEVICE

__all__ = ["facts_of", "facts_of_all", "saved_on", "told_by", "trace_of"]


def facts_of(reading: Reading, **more: object) -> dict[str, object]:
    """`protocol`; `imports`: what an unsafe load would have imported; `calls`: those it would have called."""
    foreign = strangers(reading)
    return {
        **more,
        "protocol": reading.protocol,
        "imports": tuple(f"{module}.{name}" for module, name in foreign),
        "calls": tuple(f"{module}.{name}" for module, name in foreign if (module, name) in reading.called),
    }


def facts_of_all(reading: Reading, others: Iterable[Reading], **more: object) -> dict[str, object]:
    """The same for a file of several pickles, of which `reading` is the object's; the others name nothing in peace."""
    facts = facts_of(reading, **more)
    every = [facts, *(facts_of(other) for other in others if other is not reading and other.names)]
    return {**facts, "imports": told_by(every, "imports"), "calls": told_by(every, "calls")}


def told_by(every: Iterable[Mapping[str, object]], fact: str) -> tuple[str, ...]:
    """What several parts say together of a fact that is a tuple of names, each once: `imports`, `calls`, `saved_on`.

    >>> told_by([{"imports": ("a.B", "c.D")}, {}, {"imports": ("c.D", "e.F")}], "imports")
    ('a.B', 'c.D', 'e.F')
    """
    said = (facts.get(fact) for facts in every)
    return tuple(dict.fromkeys(name for names in said if isinstance(names, tuple) for name in names))


def saved_on(reading: Reading, storages: Iterable[Storage]) -> tuple[str, ...]:
    """Where the tensors lived. Those that were saved through the CPU have their own device beside the storage's."""
    if BY_DEVICE in reading.called:
        return tuple(sorted({ref.storage.location for _, ref in tensors_under(reading.value)}))
    return tuple(sorted({storage.location for storage in storages}))


def trace_of(reading: Reading, where: str = "") -> Trace:
    """What this pickle, which is the member `where` of the file, would have had an unpickler do."""
    start = reading.start
    return Trace(
        where,
        start,
        reading.end - start,
        reading.protocol,
        {name: at - start for name, at in reading.names.items()} if start else reading.names,
        reading.called,
        tuple(Call(at - start, record) for at, record in reading.calls),
        tuple((at - start, state) for at, state in reading.replaced),
    )
