"""`rehydrate evaluate mnist`: how many of the 10,000 test digits a network reads."""

from __future__ import annotations

import click

from rehydrate.cli.out import answer, say

__all__ = ["command"]


@click.command("evaluate")
@click.argument("what", type=click.Choice(["mnist"]))
@click.option(
    "--data",
    required=True,
    metavar="DIR",
    help="Where the IDX files are; `rehydrate fetch mnist` gets them.",
)
@click.option("--model", metavar="FILE", help="A checkpoint of either network; ours if left out.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
def command(what: str, data: str, model: str | None, as_json: bool) -> int:
    """Test a network on the test digits."""
    from rehydrate.zoo.mnist.training import evaluate

    evaluation = evaluate(data, model)
    if as_json:
        answer("evaluate", [evaluation.to_dict()])
    else:
        say(str(evaluation))
    return 0
