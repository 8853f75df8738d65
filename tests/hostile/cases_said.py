"""Presentation: what a file calls things is shown, and does nothing to the terminal, the page or its own line."""

from __future__ import annotations

from collections.abc import Callable

from rehydrate.checkpoint.checkpoint import Checkpoint

from .archives import Entry, torch_entries, torch_zip, zip_of
from .assembler import (
    append,
    build,
    call,
    empty_dict,
    empty_tuple,
    int_,
    mark,
    none,
    persid_binary,
    pickle_of,
    reduce,
    setitem,
    stack_global,
    storage_id,
    tensor,
    tuple_,
    unicode,
)
from .case import Case, opens, refuses

EVIL = {
    "an escape sequence": "\x1b[2J\x1b]0;owned\x07",
    "a newline that pretends to be ours": "w\n  try    rm -rf /",
    "a carriage return": "evil\rgood",
    "other line ends": "a\u2028b\u2029c\x85d\x0be\x0cf",
    "bidirectional overrides": "\u202egnp.exe\u2066\u200f",
    "C1 controls": "\x9b31m\x90\x9d",
    "nothing that can be seen": "\u200b\u2060\ufeff\u00ad",
    "lone surrogates": "\ud800\udfff",
    "private and unassigned characters": "\ue000\U000e0041\U0010ffff",
    "a megabyte": "A" * 1_000_000,
    "a megabyte of marks on one letter": "a" + "\u0301" * 1_000_000,
    "markup": "[bold red]x[/]<script>alert(1)</script>",
}


def _zipped(program: bytes, *more: Entry) -> bytes:
    return torch_zip(pickle_of(program), None, *more)


def _opened(_: Checkpoint) -> bool:
    return True


def _one_tensor(checkpoint: Checkpoint) -> bool:
    return len(checkpoint) == 1


def _named(what: str, text: str) -> list[Case]:
    """The same text in every place that a file has for text."""
    word = unicode(text)
    model = empty_dict + unicode("fc.weight") + tensor((2, 2), (2, 1)) + setitem
    places: dict[str, tuple[Callable[[], bytes], Callable[[Checkpoint], bool]]] = {
        "a value": (lambda: pickle_of(word), _opened),
        "a key": (lambda: pickle_of(empty_dict, word, word, setitem), _opened),
        "the name of a tensor": (lambda: _zipped(empty_dict + word + tensor() + setitem), _one_tensor),
        "the name of a model": (lambda: _zipped(empty_dict + word + model + setitem), _one_tensor),
        "the names of two models": (
            lambda: _zipped(empty_dict + word + model + setitem + unicode("b" + text) + model + setitem), _opened,
        ),
        "the argument of a call": (lambda: pickle_of(call("os", "system", word)), _opened),
        "where a storage was": (lambda: _zipped(empty_dict + unicode("w") + tensor(
            storage=storage_id(location=text) + persid_binary) + setitem), _one_tensor),
    }  # fmt: skip
    if len(text) < 1000:
        places["a class"] = (lambda: pickle_of(word, word, stack_global, version=4), _opened)
        places["a call"] = (lambda: pickle_of(word, word, stack_global, empty_tuple, reduce, version=4), _opened)
    return [opens(f"SAID {what} in {place}", build, shows) for place, (build, shows) in places.items()]


def _refused(what: str, text: str) -> list[Case]:
    """The same text in whatever a refusal may quote."""
    word, raw = unicode(text), text.encode("utf-8", "surrogatepass")[:60_000]
    zipped = {
        "a storage's key": storage_id(word) + persid_binary,
        "a storage's class": storage_id(kind=word) + persid_binary,
        "a persistent id": word + persid_binary,
        "a shape": tensor(size=word),
        "an offset": tensor(offset=word),
    }
    plain = {
        "what is called": word + empty_tuple + reduce,
        "what is appended to": word + none + append,
        "what is given state": word + none + build,
        "a number": int_(raw.replace(b"\n", b"")),
        "a key that is too large": empty_dict + mark + word * 3 + none * 5000 + tuple_ + none + setitem
        if len(text) < 1000
        else none + none,
    }
    folder = Entry(raw, b"x")
    archives = {
        "an entry beside the folder": lambda: zip_of(*torch_entries(pickle_of(none)), folder),
        "an entry of no checkpoint": lambda: zip_of(folder),
        "an entry that is twice there": lambda: zip_of(*torch_entries(pickle_of(none)), folder, folder),
        "an entry that is encrypted": lambda: zip_of(*torch_entries(pickle_of(none)), Entry(raw, b"x", flags=1)),
        "the byte order": lambda: torch_zip(pickle_of(none), order=raw[:60_000]),
    }
    return [
        *(
            refuses(f"SAID {what} in {place}", lambda program=program: _zipped(program))
            for place, program in zipped.items()
        ),
        *(
            refuses(f"SAID {what} in {place}", lambda program=program: pickle_of(program))
            for place, program in plain.items()
        ),
        *(refuses(f"SAID {what} in {place}", build) for place, build in archives.items()),
    ]


CASES = tuple(case for what, text in EVIL.items() for case in (*_named(what, text), *_refused(what, text)))
