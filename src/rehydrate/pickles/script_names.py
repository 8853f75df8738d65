"""Names that TorchScript's pickler, which is C++, gives the types of its lists by: they stand for the lists.

    torch.jit._pickle.build_intlist, build_doublelist, build_boollist, build_tensorlist    (list) → that list
    torch.jit._pickle.restore_type_tag                                                      (value, type) → that value

Source: `torch/jit/_pickle.py`, and `Pickler` in `torch/csrc/jit/serialization/pickler.cpp`.
"""

from __future__ import annotations

from collections.abc import Mapping

from rehydrate.pickles.results import UNFIT, Constructor, Name

__all__ = ["CONSTRUCTORS", "MODULE"]

MODULE = "torch.jit._pickle"


def _list(args: tuple[object, ...]) -> object:
    return args[0] if len(args) == 1 and type(args[0]) is list else UNFIT


def _tagged(args: tuple[object, ...]) -> object:
    return args[0] if len(args) == 2 and type(args[0]) in (list, dict) and type(args[1]) is str else UNFIT


CONSTRUCTORS: Mapping[Name, Constructor] = {
    **{(MODULE, f"build_{kind}list"): _list for kind in ("int", "double", "bool", "tensor")},
    (MODULE, "restore_type_tag"): _tagged,
}
"""(module, name) → the function that gives the plain value."""
