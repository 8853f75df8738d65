"""`rehydrate fetch mnist`: the data files, from whichever mirror answers, checked against their hashes."""

from __future__ import annotations

import click

from rehydrate.cli.out import note, say

__all__ = ["command"]


@click.command("fetch")
@click.argument("what", type=click.Choice(["mnist"]))
@click.option("--data", default="data/mnist", show_default=True, metavar="DIR", help="Where the files go.")
@click.option(
    "--mirror",
    "mirrors",
    multiple=True,
    metavar="URL",
    help="Ask this address first; may be repeated.",
)
def command(what: str, data: str, mirrors: tuple[str, ...]) -> int:
    """Download a data set; files that are there already are checked and kept."""
    from rehydrate.zoo.fetch import MNIST, fetch

    paths = fetch(MNIST, data, mirrors=(*mirrors, *MNIST.mirrors), report=note)
    for path in paths:
        say(str(path))
    return 0
