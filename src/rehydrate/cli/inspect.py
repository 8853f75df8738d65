"""`rehydrate FILE…`: what a file is, what it holds, and the next thing to type. Loads no torch, and reads no tensor."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import click

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.tree import spelled
from rehydrate.checkpoint.weights import Weights, find_models
from rehydrate.cli.inputs import explained, refuse_stream
from rehydrate.cli.kinds import as_json, what
from rehydrate.cli.layers import table
from rehydrate.cli.out import WIDTH, answer, complain, first_columns, problem_of, rows, say
from rehydrate.cli.parts import held, why_no_model
from rehydrate.errors import AmbiguousError, NoSuchTensorError, RehydrateError
from rehydrate.formats.opening import open_checkpoint
from rehydrate.text import columns, counted, listed, shown, size
from rehydrate.zoo.mnist.shapes import known_as

__all__ = ["command"]

_UNSAFE = {"pickle": "pickle.load", "joblib": "joblib.load"}
"""What people open a format with that runs what it says, where it is not torch."""
_IMPORTS = 6
"""Names that are listed of those that an unsafe load would have imported."""
_NOTABLE = frozenset({"os", "posix", "nt", "sys", "subprocess", "builtins", "__builtin__", "shutil", "socket", "runpy"})
"""Modules whose names are listed first: what they do is rarely about tensors."""
_TYPES = frozenset(
    {
        "bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "long", "object", "set",
        "slice", "str", "tuple", "type", "unicode",
    }
)  # fmt: skip
"""What a file may name of Python's builtins without anybody wondering."""
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""How torch's normalising layers call what they count and do not learn."""
_BESIDE = 6
"""Files beside the one that was opened that are named."""
_MARGIN = 11
"""Columns before what is to be typed."""


@click.command("inspect")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
@click.pass_context
def command(context: click.Context, files: tuple[str, ...], as_json: bool) -> int:
    """Show what FILE is, without running any of it.

    Exit codes: 0 it is a checkpoint, 2 it is none or cannot be read.
    """
    group = context.parent.command if context.parent else None
    commands = group.list_commands(context) if isinstance(group, click.Group) else []
    results: list[dict[str, object]] = []
    problems: list[dict[str, object]] = []
    for number, path in enumerate(files):
        if number and not as_json:
            say()
        try:
            refuse_stream(path)
            with open_checkpoint(path) as checkpoint:
                if as_json:
                    results.append(_facts(checkpoint, path))
                else:
                    say("\n".join(_report(checkpoint, path)))
        except RehydrateError as error:
            error = explained(error, path, commands)
            problems.append(problem_of(error))
            results.append({"path": path, "ok": False, "problem": problems[-1]["code"]})
            if not as_json:
                complain(error)
    if as_json:
        answer("inspect", results, problems, ok=not problems)
    return 2 if problems else 0


def _report(checkpoint: Checkpoint, path: str) -> Iterator[str]:
    """The lines that a person reads."""
    weights, trouble = _weights(checkpoint)
    facts = [("is", f"{what(checkpoint)}, {size(checkpoint.source.size)}"), ("holds", "\n".join(_holds(checkpoint)))]
    facts[1:1] = _opened(checkpoint)
    if weights is not None:
        facts.append(("model", "\n".join(_model(weights))))
    else:
        facts.append(("model", trouble or why_no_model(checkpoint.tree)))
    saved_on = checkpoint.facts.get("saved_on")
    if isinstance(saved_on, tuple) and saved_on:
        facts.append(("saved on", ", ".join(shown(place, 40) for place in saved_on)))
    facts.append(("imports", _imports(checkpoint)))
    yield shown(path, WIDTH)
    yield from rows(facts)
    if weights is not None:
        yield ""
        yield from (f"  {line}" for line in table(weights))
    yield ""
    yield from _next(checkpoint, weights, path)


def _opened(checkpoint: Checkpoint) -> Iterator[tuple[str, str]]:
    """Which file of an archive or a folder this is, and what was left alone; which of several files of one model."""
    member, beside, shards = (checkpoint.facts.get(fact) for fact in ("member", "beside", "shards"))
    if isinstance(member, str):
        yield "member", shown(member)
    if isinstance(beside, tuple):
        yield "beside", listed([shown(name, 40) for name in beside], _BESIDE)
    if isinstance(shards, str):
        yield "part", shards


def _holds(checkpoint: Checkpoint) -> list[str]:
    """The parts, a line each."""
    room = WIDTH - _MARGIN - 1
    return [line if columns(line) <= room else f"{first_columns(line, room - 3)}..." for line in held(checkpoint.tree)]


def _weights(checkpoint: Checkpoint) -> tuple[Weights | None, str]:
    """The model's tensors, or why there is no one answer."""
    try:
        return checkpoint.weights(), ""
    except NoSuchTensorError:
        return None, ""
    except AmbiguousError as error:
        return None, f"{error.what}; which one is for you to say:\n{error.found}"


def _model(weights: Weights) -> Iterator[str]:
    part = repr(shown(spelled(weights.path), 40)) if weights.path else "all of it"
    dtypes = sorted({ref.dtype.name for ref in weights.values()})
    yield f"{part}: {counted(len(weights), 'tensor')}, {_extent(weights)}, {listed(dtypes, 4)}"
    yield from (sentence for sentence in weights.removed if not sentence.startswith("taken from"))
    known = known_as({name: ref.shape for name, ref in weights.items()})
    if known is not None:
        yield f"looks like {known}"


def _extent(weights: Weights) -> str:
    """How many numbers there are, memory that several names share counted once, and how many of them are learned."""
    numbers: dict[object, int] = {}
    learned: set[object] = set()
    is_packed = any(ref.dtype.kind == "quantized" for ref in weights.values())
    is_marked = not is_packed and any("parameter" in ref.traits for ref in weights.values())
    for name, ref in weights.items():
        memory = (id(ref.storage), ref.offset, ref.shape, ref.strides)
        numbers[memory] = ref.numel
        if "parameter" in ref.traits if is_marked else not name.endswith(_STATISTICS):
            learned.add(memory)
    words = counted(sum(numbers.values()), "number")
    if len(learned) == len(numbers):
        return words
    count = sum(numbers[memory] for memory in learned)
    return f"{words} ({count:,} {'of them parameters' if is_marked else 'without running statistics'})"


def _imports(checkpoint: Checkpoint) -> str:
    """What an unsafe load would have brought in, and that this one did not."""
    names, calls = checkpoint.facts.get("imports"), checkpoint.facts.get("calls")
    if not isinstance(names, tuple) or not names:
        code = checkpoint.facts.get("code")
        if isinstance(code, tuple) and code and checkpoint.format.endswith("torch7"):
            return f"nothing; but {counted(len(code), 'function')} of Lua {_are(code)} in it, as bytecode"
        if isinstance(code, tuple) and code:
            return f"nothing; but a program lies in it ({counted(len(code), 'file')}), which its own loader would run"
        return "nothing: it is data only"
    unsafe = _UNSAFE.get(checkpoint.format.rpartition("+")[2], "an unsafe torch.load")
    calling = f" and call {len(calls):,}" if isinstance(calls, tuple) and calls else ""
    first = [shown(name, 64) for name in sorted(names, key=_is_plain)]
    return f"none here; {unsafe} would import {counted(len(names), 'name')}{calling}:\n{listed(first, _IMPORTS)}"


def _are(things: tuple[object, ...]) -> str:
    return "is" if len(things) == 1 else "are"


def _is_plain(name: str) -> bool:
    """Whether a name is what one would expect in a checkpoint; others are listed first."""
    module, _, kind = name.rpartition(".")
    return module.split(".")[0] not in _NOTABLE or (module in ("builtins", "__builtin__") and kind in _TYPES)


def _next(checkpoint: Checkpoint, weights: Weights | None, path: str) -> Iterator[str]:
    """What to type now: every line works as it stands."""
    choices = [name for name in find_models(checkpoint.tree) if shown(name, 40) == name] if weights is None else []
    if weights is not None and known_as({name: ref.shape for name, ref in weights.items()}) is not None:
        shell = f"rehydrate predict PICTURE --model {shlex.quote(path)}"
        if path.isprintable() and columns(shell) <= WIDTH - _MARGIN:
            yield f"  next     {shell}"
            yield "  or       import rehydrate as rh"
        else:
            yield "  next     import rehydrate as rh"
        lines = ["network = rh.zoo.mnist.load_network(FILE)"]
    elif weights is not None:
        yield "  next     import rehydrate as rh"
        lines = ["weights = rh.open(FILE).weights()", "# into your own model: rh.load_into(model, FILE)"]
    elif choices:
        yield "  next     import rehydrate as rh"
        lines = [f"weights = rh.open(FILE).weights({choices[0]!r})"]
        lines.append(f"# into your own model: rh.load_into(model, FILE, which={choices[0]!r})")
    else:
        yield "  next     import rehydrate as rh"
        lines = ["everything = rh.load(FILE)" if len(checkpoint) else "data = rh.open(FILE).tree"]
    yield from (" " * _MARGIN + line for line in _python(lines, path))


def _python(lines: list[str], path: str) -> list[str]:
    """Lines of Python with the file's name in them; a name that makes a line too long gets lines of its own."""
    whole = [line.replace("FILE", repr(path)) for line in lines]
    if max(map(columns, whole)) <= WIDTH - _MARGIN:
        return whole
    pieces = [""]
    for character in path:
        if columns(repr(pieces[-1] + character)) > WIDTH - _MARGIN - len("path = ()"):
            pieces.append("")
        pieces[-1] += character
    first, *others = map(repr, pieces)
    named = [f"path = ({first}", *(f"        {piece}" for piece in others)] if others else [f"path = {first}"]
    named[-1] += ")" if others else ""
    return [*named, *(line.replace("FILE", "path") for line in lines)]


def _facts(checkpoint: Checkpoint, path: str) -> dict[str, object]:
    """The same for programs."""
    weights, _ = _weights(checkpoint)
    return {
        "path": path,
        "ok": True,
        "format": checkpoint.format,
        "bytes": checkpoint.source.size,
        "facts": {key: as_json(value) for key, value in checkpoint.facts.items()},
        "tensors": [
            {"name": name, "dtype": ref.dtype.name, "shape": list(ref.shape)} for name, ref in checkpoint.items()
        ],
        "models": list(find_models(checkpoint.tree)),
        "model": None
        if weights is None
        else {
            "part": spelled(weights.path),
            "removed": list(weights.removed),
            "looks_like": known_as({name: ref.shape for name, ref in weights.items()}),
            "tensors": list(weights),
        },
    }
