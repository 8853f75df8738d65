"""rehydrate brings frozen models back to life."""

from rehydrate.api import load, open  # noqa: A004

__version__ = "0.1.0"
