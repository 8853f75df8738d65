"""The pickles of a file, judged: every name, every call, every state, and the pickles that lie in their bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from rehydrate.checking.findings import Finding, Findings
from rehydrate.checking.folding import Folder, Reached
from rehydrate.checking.places import Places
from rehydrate.checking.severity import Judgement, Severity, judge, modern
from rehydrate.checking.spelling import Spelling
from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.trace import Call, Trace
from rehydrate.errors import RehydrateError
from rehydrate.formats.facts import trace_of
from rehydrate.formats.opening import open_checkpoint
from rehydrate.limits import Limits
from rehydrate.pickles.known import is_harmless, read_what_is_known
from rehydrate.pickles.numpy_names import is_plain
from rehydrate.text import shown

__all__ = ["Examiner"]

_DEPTH = 3
"""Pickles in each other that are looked into; what is deeper is taken to be hidden on purpose."""

_SHOWN = 160
"""Characters of a call that are shown."""
_PLANTED = frozenset({
    "__setstate__", "__reduce__", "__reduce_ex__", "__class__", "__getattr__", "__getattribute__", "__init__",
    "__new__", "__call__", "__del__", "__set__", "__get__", "__enter__", "__exit__", "__iter__", "__next__",
})  # fmt: skip
"""Methods that Python calls by itself: no honest state has one."""

_TENSOR_BYTES = ("torch.storage", "_load_from_bytes")
"""What makes tensors in plain pickles: the reader has opened the bytes, or the call is followed like any other."""
_ARGUMENTS = Judgement(Severity.NEEDS_CODE, "plain data's name, with arguments that plain data never has")
_PLANT = Judgement(Severity.DANGEROUS, "plants a method that Python calls by itself")
_TWICE = Judgement(Severity.DANGEROUS, "gives one value its state twice: what the first planted, the second may call")
_INSIDE = Judgement(Severity.EMBEDS_CODE, "a pickle inside bytes")
_PROGRAM = Judgement(Severity.EMBEDS_CODE, "a program that the file brings along")
_DEEP = Judgement(Severity.DANGEROUS, "hides pickles in each other")


class Examiner:
    """What is found in one file, the files and pickles inside it included."""

    def __init__(self, limits: Limits) -> None:
        self.findings = Findings()
        self._limits = limits
        self._seen: set[int] = set()
        self._alive: list[object] = []
        self._judged: dict[bytes, Severity] = {}
        """Bytes that were seen to be unpickled: a file may have the same ones unpickled again and again."""

    def checkpoint(self, checkpoint: Checkpoint, *, inside: str = "", depth: int = 0) -> None:
        """Everything that an open file holds."""
        places = Places(checkpoint.tree, checkpoint.attributes.values())
        for trace in checkpoint.traces:
            self.trace(replace(trace, where=inside + trace.where), places, depth)
        self._states(checkpoint.attributes.values(), inside)
        whose = checkpoint.traces[0].where if len(checkpoint.traces) == 1 else ""
        self._packed(places, inside + whose, depth)
        if checkpoint.facts.get("code"):
            self._note(_PROGRAM, "code", f"{checkpoint.format} code", inside, 0, is_called=True)

    def pickle(self, data: bytes, at: int, where: str, depth: int = 0) -> tuple[int, RehydrateError | None]:
        """A pickle that stands somewhere in bytes, as far as it can be read: where it ends, and what broke it."""
        reading, broke = read_what_is_known(data, at, self._limits)
        self._alive.append(reading)
        places = Places(reading.value, reading.attributes.values())
        self.trace(trace_of(reading, where), places, depth)
        self._states(reading.attributes.values(), where)
        self._packed(places, where, depth)
        return reading.end, broke

    def trace(self, trace: Trace, places: Places, depth: int) -> None:
        """One pickle: its calls in order, then the names that none of them was found to call."""
        folder = Folder(len(trace.calls))
        found: set[str] = set()
        for call in trace.calls:
            for reached in folder.follow(call.record):
                found.add(reached.name)
                self._reached(reached, call, trace, places, depth)
            self._odd_arguments(call, trace, places)
            self._planted(call.record.state, trace.where, trace.start + call.at)
            places.look_into(call.record)
        for (module, name), at in trace.names.items():
            self._named(module, name, at, trace, found)
        for at, state in trace.replaced:
            self._note(_TWICE, "__setstate__", "state, again", trace.where, trace.start + at, is_called=True)
            self._planted(state, trace.where, trace.start + at)
            places.look_into(state)

    def _reached(self, reached: Reached, call: Call, trace: Trace, places: Places, depth: int) -> None:
        judgement = reached.judgement
        if reached.loads is not None:
            judgement = Judgement(self._loaded(reached.loads, trace.where, depth), "unpickles bytes of its own")
        if judgement.severity is not Severity.DATA:
            self._add(judgement, reached.name, call, trace, places, is_called=True, said=reached.call)

    def _loaded(self, data: bytes, where: str, depth: int) -> Severity:
        """The worst of what unpickling these bytes would do; they are known to be unpickled."""
        if data not in self._judged:
            self._judged[data] = self._unpickled(data, where, depth)
        return self._judged[data]

    def _unpickled(self, data: bytes, where: str, depth: int) -> Severity:
        if depth >= _DEPTH:
            return Severity.DANGEROUS
        inner = Examiner(self._limits)
        place = f"{where} > bytes" if where else "bytes"
        try:
            with open_checkpoint(data, limits=self._limits) as checkpoint:
                inner.checkpoint(checkpoint, inside=place + " ", depth=depth + 1)
        except RehydrateError:
            _, broke = inner.pickle(data, 0, place, depth + 1)
            if broke is not None:
                return Severity.DANGEROUS
        self.findings.take(inner.findings)
        return inner.findings.worst

    def _packed(self, places: Places, where: str, depth: int) -> None:
        """Bytes that read as a pickle which would import something: somebody may unpickle them later."""
        for data in places.packed:
            if id(data) in self._seen or b"." not in data:
                continue
            self._seen.add(id(data))
            self._alive.append(data)
            inner = Examiner(self._limits)
            place = f"{where} > bytes" if where else "bytes"
            if depth >= _DEPTH:
                reading, _ = read_what_is_known(bytes(data), 0, self._limits)
                if reading.calls:
                    self._note(_DEEP, "pickle", "<bytes>", place, 0)
                continue
            _, broke = inner.pickle(bytes(data), 0, place, depth + 1)
            is_one = inner.findings.worst and (broke is None or inner.findings.worst is Severity.DANGEROUS)
            if is_one:
                self.findings.take(inner.findings)
                self._note(_INSIDE, "pickle", f"<{len(data):,} bytes>", place, 0)

    def _odd_arguments(self, call: Call, trace: Trace, places: Places) -> None:
        """A call of a name that makes plain data, and that did not: a number for `bytearray`, an odd codec."""
        record = call.record
        name = (record.module, record.name)
        if is_plain(record):
            return
        if record.module.split(".")[0] not in ("torch", "copyreg", "copy_reg", "") and is_harmless(name):
            said = Spelling(record, record.args or (), record.kwargs)
            self._add(_ARGUMENTS, shown(record.path), call, trace, places, is_called=True, said=said)

    def _named(self, module: str, name: str, at: int, trace: Trace, found: set[str]) -> None:
        """A name that is imported: doing so runs its module."""
        parts = (*module.split("."), *name.split("."))
        self.findings.imports[".".join(parts)] = None
        judgement = judge(parts, module.count(".") + 1)
        is_called = (module, name) in trace.called
        if judgement.severity is Severity.DATA or (is_called and (module, name) == _TENSOR_BYTES):
            return
        package = modern(parts)[0]
        self.findings.packages[package] += 1
        path = shown(".".join(parts))
        if path in found:
            return
        self._note(judgement, path, path, trace.where, trace.start + at, is_called=is_called)

    def _states(self, states: Iterable[object], where: str) -> None:
        for state in states:
            self._planted(state, where, 0)

    def _planted(self, state: object, where: str, at: int) -> None:
        """A state that would put methods where Python looks for them, on the value or by `setattr` on its slots."""
        for part in state if isinstance(state, tuple) and len(state) == 2 else (state,):
            if isinstance(part, Mapping):
                for key in _PLANTED:
                    if key in part:
                        self._note(_PLANT, key, f"state with {key!r}", where, at)

    def _add(
        self, judgement: Judgement, name: str, call: Call, trace: Trace, places: Places, *, is_called: bool,
        said: Spelling | None = None,
    ) -> None:  # fmt: skip
        def make(severity: Severity) -> Finding:
            path = places.path_of(call.record)
            text = shown(repr(call.record), _SHOWN) if said is None else str(said)
            kind, at = severity.word, trace.start + call.at
            return Finding(kind, judgement.why, name, trace.where, at, path or "", text, is_called, path is None)

        key = (name, trace.where) if judgement.severity < Severity.DANGEROUS else (name, trace.where, call.at)
        self.findings.add(judgement.severity, key, make)

    def _note(
        self, judgement: Judgement, name: str, text: str, where: str, at: int, *, is_called: bool = False
    ) -> None:
        def make(severity: Severity) -> Finding:
            kind = severity.word
            return Finding(kind, judgement.why, name, where, at, "", text, is_called)

        self.findings.add(judgement.severity, (name, where, "named"), make)
