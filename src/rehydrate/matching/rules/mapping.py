"""The mapping file: rules kept as TOML, small enough to be read and changed by hand.

    # Which tensors of a checkpoint become which of a model: rules of rehydrate, applied in this order.
    format = 1

    [[rules]]
    rule = "prefix"
    remove = "module."

    [[rules]]
    rule = "renames"

    [rules.names]
    "norm.{i}.*" = "norm{i}.*"

Each table is what a rule's `to_dict()` gives. The file is written whole or not at all, and nothing in it is run. How
long a regular expression takes is up to whoever wrote it: rules of strangers are to be read before they are used.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeGuard

import tomli_w

from rehydrate.errors import CorruptError, MissingFileError, SaveError
from rehydrate.matching.rules.every import rule_from
from rehydrate.matching.rules.rule import Rule
from rehydrate.storage.atomic import replacing
from rehydrate.text import shown, size

__all__ = ["Rules", "rules_of", "save_rules"]

Rules = Rule | str | os.PathLike[str] | Sequence["Rules"]
"""What may be given as rules: a rule, the path of a mapping file, or several of those."""

_OPENING = "# Which tensors of a checkpoint become which of a model: rules of rehydrate, applied in this order.\n"
_FORMAT = 1
_LARGEST = 16 << 20
"""Bytes of a mapping file: a hundred thousand renames, and no checkpoint that was meant to be opened otherwise."""


def save_rules(rules: Rule | Iterable[Rule], path: str | os.PathLike[str]) -> None:
    """Write rules as a mapping file, whole or not at all.

    Raises `SaveError` for a rule that is none of this library's, and for whatever the system refuses.

    >>> import tempfile, os
    >>> from rehydrate.rules import Prefix, Rename
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "map.toml")
    ...     save_rules([Prefix(remove="module."), Rename("norm.{i}.*", "norm{i}.*")], path)
    ...     rules_of(path)
    (Prefix(remove='module.', add=''), Rename(old='norm.{i}.*', new='norm{i}.*', regex=False))
    """
    tables = []
    for each in [rules] if _is_rule(rules) else list(rules):  # type: ignore[arg-type]
        table = each.to_dict()
        try:
            rule_from(table)
        except CorruptError as error:
            raise SaveError(
                f"this rule cannot be kept in a file: {error.what}", found=shown(each), hint=error.hint
            ) from None
        tables.append(table)
    try:
        data = _written(tables).encode("utf-8")
    except UnicodeEncodeError:
        raise SaveError("a name in these rules is no Unicode text, and TOML has no other", where=shown(path)) from None
    if len(data) > _LARGEST:
        what = f"these rules are {size(len(data))}, and a mapping file has at most {size(_LARGEST)}"
        raise SaveError(what, where=shown(path))
    with replacing(path) as sink:
        sink.write(data)


def rules_of(given: Rules) -> tuple[Rule, ...]:
    """The rules that somebody gave: rules, paths of mapping files, or several of those, in their order.

    >>> from rehydrate.rules import Drop
    >>> rules_of(Drop("head.*")), rules_of(())
    ((Drop(glob='head.*'),), ())

    Raises `MissingFileError` for a file that is not there, `CorruptError` for one that is broken, with the line or the
    number of the rule, and `TypeError` for anything that is no rule.
    """
    if isinstance(given, (str, os.PathLike)):
        return _read(given)
    if _is_rule(given):
        return (given,)
    if not isinstance(given, (list, tuple)):
        hint = ": Renames({...}) is a rule" if isinstance(given, Mapping) else ""
        raise TypeError(f"rules are rules, paths of mapping files, or lists of those, not {type(given).__name__}{hint}")
    return tuple(rule for each in given for rule in rules_of(each))


def _written(tables: Iterable[Mapping[str, Any]]) -> str:
    """TOML, in which a rule always has a table of its own; the library writes small ones in a row."""
    texts = [_OPENING, tomli_w.dumps({"format": _FORMAT})]
    texts += ("\n[" + tomli_w.dumps({"rules": table}).replace("]", "]]", 1) for table in tables)
    return "".join(texts)


def _is_rule(given: object) -> TypeGuard[Rule]:
    return not isinstance(given, type) and callable(getattr(given, "apply", None))


def _read(path: str | os.PathLike[str]) -> tuple[Rule, ...]:
    where = shown(path)
    document = _parsed(_bytes_of(path), where)
    if document.get("format") != _FORMAT or isinstance(document["format"], bool):
        raise CorruptError(
            "this is no mapping file that can be read here",
            where=where,
            found=f"format = {shown(document['format'], 60)}" if "format" in document else "no format",
            hint=f"a mapping file begins with format = {_FORMAT}, and has a table [[rules]] for each rule",
        )
    strange = sorted(document.keys() - {"format", "rules"})
    tables = document.get("rules", [])
    if strange or not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        found = f"the key {shown(strange[0])!r}" if strange else "rules that are no tables"
        raise CorruptError(
            "this mapping file is not understood", where=where, found=found, hint="[[rules]] begins a rule"
        )
    return tuple(_rule(table, f"{where}, rule {at} of {len(tables)}") for at, table in enumerate(tables, 1))


def _rule(table: dict[str, Any], where: str) -> Rule:
    try:
        return rule_from(table)
    except CorruptError as error:
        raise CorruptError(error.what, where=where, found=error.found, hint=error.hint) from None


def _bytes_of(path: str | os.PathLike[str]) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(_LARGEST + 1)
    except IsADirectoryError:
        raise CorruptError("this is a folder, and no mapping file", where=shown(path)) from None
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL byte in the name
        raise MissingFileError(
            "there is no such mapping file",
            where=shown(path),
            hint="rules= takes rules, or the path of a file that Match.save or save_rules wrote",
        ) from None
    if len(data) > _LARGEST:
        raise CorruptError(f"this is larger than {size(_LARGEST)}, and so no mapping file", where=shown(path))
    return data


def _parsed(data: bytes, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        found = f"byte {data[error.start]:#04x} at offset {error.start:,}"
        raise CorruptError("this is no text, and so no mapping file", where=where, found=found) from None
    except tomllib.TOMLDecodeError as error:
        raise CorruptError(f"this mapping file is no TOML: {shown(str(error), 200)}", where=where) from None
    except RecursionError:
        raise CorruptError("this mapping file is nested too deep", where=where) from None
