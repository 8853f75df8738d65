r"""Rules: how the tensors of a checkpoint become those of your model.

A rule gets every tensor by its name and gives every tensor by its new name. It moves no bytes and changes no file; what
it says is done while a checkpoint is put into a model. Give it as `rules=` of `rh.match` or `rh.load_into`, one or
several in their order, or keep it in a small file.

    >>> import io, numpy, rehydrate as rh
    >>> from rehydrate.rules import Chunk, Drop, Prefix, Rename, Transpose, apply_rules
    >>> file = io.BytesIO()
    >>> numpy.savez(file, **{
    ...     "module.norm.1.weight": numpy.ones(4), "module.norm.2.weight": numpy.ones(4),
    ...     "module.attn.qkv": numpy.zeros((4, 12)), "module.head.bias": numpy.zeros(10),
    ... })
    >>> rules = [
    ...     Prefix(remove="module."),
    ...     Drop("head.*"),
    ...     Rename("norm.{i}.*", "norm{i}.*"),
    ...     Transpose("attn.qkv"),
    ...     Chunk("attn.qkv", ("attn.q", "attn.k", "attn.v")),
    ... ]
    >>> with rh.open(file.getvalue()) as checkpoint:
    ...     applied = apply_rules(checkpoint, rules)
    >>> for name, value in applied.values.items():
    ...     print(name, value.shape)
    norm1.weight (4,)
    norm2.weight (4,)
    attn.q (4, 4)
    attn.k (4, 4)
    attn.v (4, 4)
    >>> print(*applied.told, sep="\n")
    take prefix module. off: 4 tensors
    leave out head.*: 1 tensor
    rename norm.{i}.* -> norm{i}.*: 2 tensors
    transpose attn.qkv: 1 tensor
    take attn.qkv apart into attn.q, attn.k, attn.v along dimension 0: 1 tensor

**Which names a rule means** is said by a pattern of the whole name:

    *         any characters, dots too: `head.*` is everything below head
    ?         one character
    [abc]     one of these, as in fnmatch; [*] is a star itself
    {i}       a whole number, any name in braces; where it stands twice it is the same number
    {i + 1}   a number that is one more than i

In a new name stars go over in their order, and braces hold arithmetic with `+ - * // %`: `{i + 1}`, `{3 * i + j}`.

**What there is.** Names: `Rename`, `Renames` (many at once), `Prefix`, `Drop`. One tensor at a time: `Transpose`,
`Permute`, `Reshape`, `Slice`, `Pad`, `Interpolate`, `Cast`. Several that are one elsewhere: `Chunk` and `Concat`,
`Unstack` and `Stack`. `print(rule)` says in a line what it does. A rule that met nothing says so, and one that does not
fit raises `MismatchError` with counts and names; nothing is then changed.

**And back.** `rule.reversed()` is the rule that undoes it, where nothing was lost; otherwise it raises `ValueError` and
says why.

    >>> print(Rename("layer{i + 1}.*", "blocks.{i}.*").reversed())
    rename blocks.{i}.* -> layer{i + 1}.*
    >>> Drop("head.*").reversed()
    Traceback (most recent call last):
    ValueError: leave out head.* cannot be turned round: what it leaves out is gone

**In a file.** `save_rules(rules, "map.toml")` writes TOML that people can read and change, and `rules="map.toml"` takes
it back. `rename_rules` finds the few renames that make given old names into given new ones.
"""

from __future__ import annotations

from rehydrate.matching.rules.every import (
    Cast,
    Chunk,
    Concat,
    Drop,
    Interpolate,
    Pad,
    Permute,
    Prefix,
    Rename,
    Renames,
    Reshape,
    Slice,
    Stack,
    Transpose,
    Unstack,
    rule_from,
)
from rehydrate.matching.rules.folding import rename_rules
from rehydrate.matching.rules.mapping import rules_of, save_rules
from rehydrate.matching.rules.rule import Applied, Rule, apply_rules

__all__ = [
    "Applied",
    "Cast",
    "Chunk",
    "Concat",
    "Drop",
    "Interpolate",
    "Pad",
    "Permute",
    "Prefix",
    "Rename",
    "Renames",
    "Reshape",
    "Rule",
    "Slice",
    "Stack",
    "Transpose",
    "Unstack",
    "apply_rules",
    "rename_rules",
    "rule_from",
    "rules_of",
    "save_rules",
]
