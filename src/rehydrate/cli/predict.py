"""`rehydrate predict PICTURE…`: the digit in each picture, or why there is none to read."""

from __future__ import annotations

import click

from rehydrate.cli.out import answer, note, problem_of, say
from rehydrate.errors import RehydrateError
from rehydrate.text import shown

__all__ = ["command"]


@click.command("predict")
@click.argument("pictures", nargs=-1, required=True, metavar="PICTURE...")
@click.option("--model", metavar="FILE", help="A checkpoint of either MNIST network; ours if left out.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
def command(pictures: tuple[str, ...], model: str | None, as_json: bool) -> int:
    """Read the handwritten digit in PICTURE: any format, size, colour or paper."""
    from rehydrate.zoo.mnist import load_network, predict

    network = load_network(model)
    results: list[dict[str, object]] = []
    problems: list[dict[str, object]] = []
    for path in pictures:
        try:
            prediction = predict(path, network)
        except RehydrateError as error:
            problems.append({**problem_of(error), "path": shown(path)})
            if not as_json:
                note(f"rehydrate: {error}")
            continue
        results.append({"path": shown(path, 4096), **prediction.to_dict()})
        if not as_json:
            say(f"{shown(path)}: {prediction}")
    if as_json:
        answer(
            "predict",
            results,
            problems,
            ok=not problems and all(result["digit"] is not None for result in results),
        )
    if problems:
        return 2
    return 0 if all(result["digit"] is not None for result in results) else 1
