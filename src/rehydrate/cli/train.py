"""`rehydrate train mnist`: from the data files to a checkpoint."""

from __future__ import annotations

from typing import Literal

import click

from rehydrate.cli.out import progress, say
from rehydrate.zoo.mnist.shapes import EPOCHS

__all__ = ["command"]


@click.command("train")
@click.argument("what", type=click.Choice(["mnist"]))
@click.option(
    "--data",
    required=True,
    metavar="DIR",
    help="Where the IDX files are; `rehydrate fetch mnist` gets them.",
)
@click.option("--out", required=True, metavar="FILE", help="Where the trained weights go.")
@click.option("--epochs", type=click.IntRange(min=1), default=EPOCHS, show_default=True)
@click.option("--net", type=click.Choice(["large", "small"]), help="Which generation; else that of FILE, or `large`.")
@click.option("--from", "start", metavar="FILE", help="Begin with these weights.")
def command(
    what: str, data: str, out: str, epochs: int, net: Literal["large", "small"] | None, start: str | None
) -> int:
    """Train a network and save its weights."""
    from rehydrate.zoo.mnist.training import train

    saved = train(data, out, epochs=epochs, net=net, start=start, report=progress)
    say(str(saved))
    return 0
