"""Floor 8: known models with their weights, and what they are for.

`rehydrate.zoo.mnist` is imported when it is first used; naming it loads no torch.
"""

from __future__ import annotations

from importlib import import_module

__all__ = ["mnist"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'rehydrate.zoo' has no attribute {name!r}")
    return import_module(f"rehydrate.zoo.{name}")


def __dir__() -> list[str]:
    return list(__all__)
