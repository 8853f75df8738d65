"""`rehydrate inspect FILE…`: what a file is, what it holds, and the next thing to type. Loads no torch."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping

import click

from rehydrate.api import open as open_checkpoint
from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.checkpoint.record import Record, brief
from rehydrate.checkpoint.tensor import TensorRef
from rehydrate.checkpoint.tree import children, is_module, spelled, tensors_under
from rehydrate.checkpoint.weights import Weights
from rehydrate.cli.out import WIDTH, answer, note, problem_of, rows, say
from rehydrate.errors import AmbiguousError, NoSuchTensorError, RehydrateError
from rehydrate.text import counted, dimensions, listed, shown, size
from rehydrate.zoo.mnist import shapes

__all__ = ["command"]

_MOST_TENSORS = 12
"""Rows of the tensor table; the rest is counted."""
_MOST_PARTS = 8
"""Parts of the tree that are named."""
_WORDS = {"torch-zip": "a torch zip file", "pickle": "a plain pickle"}


@click.command("inspect")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
def command(files: tuple[str, ...], as_json: bool) -> int:
    """Show what FILE is, without running any of it."""
    results: list[dict[str, object]] = []
    problems: list[dict[str, object]] = []
    for path in files:
        try:
            with open_checkpoint(path) as checkpoint:
                results.append(_facts(checkpoint, path))
                if not as_json:
                    say("\n".join(_report(checkpoint, path)))
        except RehydrateError as error:
            problems.append({**problem_of(error), "path": shown(path)})
            if not as_json:
                note(f"rehydrate: {error}")
    if as_json:
        answer("inspect", results, problems, ok=not problems)
    return 2 if problems else 0


def _report(checkpoint: Checkpoint, path: str) -> Iterator[str]:
    """The lines that a person reads."""
    yield _cut(f"{shown(path)}: {_what(checkpoint)}, {size(checkpoint.source.size)}")
    weights, trouble = _weights(checkpoint)
    facts = [("holds", _holds(checkpoint))]
    if weights is not None:
        facts.append(("model", "\n".join(_model(weights))))
    elif trouble:
        facts.append(("model", trouble))
    saved_on = checkpoint.facts.get("saved_on")
    if isinstance(saved_on, tuple) and saved_on:
        facts.append(("saved on", ", ".join(shown(place) for place in saved_on)))
    facts.append(("imports", _imports(checkpoint)))
    yield from rows(facts)
    if weights is not None:
        yield from _table(weights)
    yield from _next(weights, trouble, path)


def _what(checkpoint: Checkpoint) -> str:
    writer = checkpoint.facts.get("writer")
    protocol = checkpoint.facts.get("protocol")
    words = _WORDS.get(checkpoint.format, checkpoint.format)
    return f"{words} by {writer}" if writer else f"{words}, protocol {protocol}"


def _weights(checkpoint: Checkpoint) -> tuple[Weights | None, str]:
    """The model's tensors, or why there is no one answer."""
    try:
        return checkpoint.weights(), ""
    except NoSuchTensorError:
        return None, ""
    except AmbiguousError as error:
        return None, f"{error.what}: {error.found}; {error.hint}"


def _holds(checkpoint: Checkpoint) -> str:
    """The parts of the root, tensors counted and everything else in a few words."""
    tree = checkpoint.tree
    if not isinstance(tree, Mapping) or all(isinstance(value, TensorRef) for value in tree.values()):
        return f"{counted(len(checkpoint), 'tensor')}" if len(checkpoint) else brief(tree)
    parts = [f"{shown(_spelled_key(key))}: {_part(value)}" for key, value in list(tree.items())[:_MOST_PARTS]]
    more = [f"and {len(tree) - _MOST_PARTS:,} more"] if len(tree) > _MOST_PARTS else []
    return "\n".join([*parts, *more])


def _spelled_key(key: object) -> str:
    return key if isinstance(key, str) else spelled((key,))


def _part(value: object) -> str:
    inside = sum(1 for _ in tensors_under(value))
    if isinstance(value, TensorRef):
        return f"{value.dtype} {dimensions(value.shape)}"
    if isinstance(value, Record):
        words = "a pickled " + ("module " if is_module(value) else "") + shown(value.path)
        return f"{words}, {counted(inside, 'tensor')}" if inside else words
    if inside:
        return f"{counted(inside, 'tensor')} in {counted(sum(1 for _ in children(value)), 'entry')}".replace(
            "entrys", "entries"
        )
    return brief(value, 1)


def _model(weights: Weights) -> Iterator[str]:
    dtypes = sorted({ref.dtype.name for ref in weights.values()})
    numbers = sum(ref.numel for ref in weights.values())
    yield f"{counted(len(weights), 'tensor')}, {counted(numbers, 'number')}, {listed(dtypes, 3)}"
    yield from weights.removed
    known = shapes.known_as({name: ref.shape for name, ref in weights.items()})
    if known is not None:
        yield f"looks like {known}"


def _imports(checkpoint: Checkpoint) -> str:
    """What an unsafe load would have brought in, and that this one did not."""
    names = checkpoint.facts.get("imports")
    if not isinstance(names, tuple) or not names:
        return "nothing; it is data only"
    return f"an unsafe load would import {len(names):,}; here none was:\n" + listed(
        [shown(name, 60) for name in names], 5
    )


def _table(weights: Weights) -> Iterator[str]:
    """Names, dtypes and shapes of the first tensors."""
    first = list(weights.items())[:_MOST_TENSORS]
    widest = min(max(len(shown(name, 44)) for name, _ in first), 44)
    yield ""
    for name, ref in first:
        yield _cut(f"  {shown(name, 44):<{widest}}  {ref.dtype!s:<9} {dimensions(ref.shape)}")
    if len(weights) > len(first):
        yield f"  ... and {counted(len(weights) - len(first), 'tensor')} more"


def _next(weights: Weights | None, trouble: str, path: str) -> Iterator[str]:
    """What to type now: lines that work as they stand."""
    yield ""
    name = repr(os.fspath(path)) if path.isprintable() else "path"
    if weights is None:
        lines = [f"rh.open({name}).weights(which=...)" if trouble else f"rh.load({name})"]
    else:
        lines = [f"rh.load_into(YourModel(), {name})"]
        if shapes.known_as({key: ref.shape for key, ref in weights.items()}) is not None:
            lines = [f"rehydrate predict PICTURE --model {shlex.quote(path)}"]
    for line in lines:
        is_shell = line.startswith("rehydrate ")
        short = line if len(line) <= WIDTH - 10 else line.replace(name, "path").replace(shlex.quote(path), "FILE")
        yield (f"  next     {short}" if is_shell else f"  next     import rehydrate as rh\n           {short}")


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else line[: WIDTH - 3] + "..."


def _facts(checkpoint: Checkpoint, path: str) -> dict[str, object]:
    """The same for programs."""
    weights, _ = _weights(checkpoint)
    return {
        "path": shown(path, 4096),
        "format": checkpoint.format,
        "bytes": checkpoint.source.size,
        "facts": {key: list(value) if isinstance(value, tuple) else value for key, value in checkpoint.facts.items()},
        "tensors": [
            {"name": name, "dtype": ref.dtype.name, "shape": list(ref.shape)} for name, ref in checkpoint.items()
        ],
        "model": None
        if weights is None
        else {
            "part": spelled(weights.path),
            "removed": list(weights.removed),
            "tensors": list(weights),
        },
    }
