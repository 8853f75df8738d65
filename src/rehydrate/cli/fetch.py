"""`rehydrate fetch mnist`: the data files, from whichever mirror answers, checked against their hashes."""

from __future__ import annotations

import click

from rehydrate.cli.out import LONGEST_PATH, answer, complain, problem_of, progress, say
from rehydrate.errors import RehydrateError
from rehydrate.text import shown

__all__ = ["command"]


@click.command("fetch")
@click.argument("what", type=click.Choice(["mnist"]), metavar="mnist")
@click.option("--data", default="data/mnist", show_default=True, metavar="DIR", help="Where the files go.")
@click.option(
    "--mirror", "mirrors", multiple=True, metavar="URL", help="Ask this address first; may be repeated."
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
def command(what: str, data: str, mirrors: tuple[str, ...], as_json: bool) -> int:
    """Download a data set; files that are there already are checked and kept.

    Exit codes: 0 all files are there, 2 one could not be had.
    """
    from rehydrate.zoo.fetch import MNIST, fetch

    try:
        paths = fetch(MNIST, data, mirrors=(*mirrors, *MNIST.mirrors), report=progress)
    except RehydrateError as error:
        if as_json:
            answer("fetch", [{"data_set": what, "folder": data, "ok": False}], [problem_of(error)], ok=False)
        else:
            complain(error)
        return 2
    if as_json:
        answer("fetch", [{"data_set": what, "folder": data, "ok": True, "files": [str(path) for path in paths]}])
    else:
        for path in paths:
            say(shown(str(path), LONGEST_PATH))
    return 0
