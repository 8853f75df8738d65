"""`rehydrate predict PICTURE…`: the digit in each picture, or why there is none to read."""

from __future__ import annotations

import click

from rehydrate.cli.out import LONGEST_PATH, answer, complain, failed, problem_of, say
from rehydrate.errors import MismatchError, RehydrateError
from rehydrate.text import shown

__all__ = ["command"]


@click.command("predict")
@click.argument("pictures", nargs=-1, required=True, metavar="PICTURE...")
@click.option("--model", metavar="FILE", help="A checkpoint of either MNIST network; ours if left out.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
def command(pictures: tuple[str, ...], model: str | None, as_json: bool) -> int:
    """Read the handwritten digit in PICTURE: any format, size, colour or paper."""
    from rehydrate.zoo.mnist import load_network, predict

    try:
        network = None if model is None else load_network(model)
    except RehydrateError as error:
        if not as_json:
            return failed(error, command="predict", as_json=False)
        unread: list[dict[str, object]] = [{"path": shown(path, LONGEST_PATH), "ok": False} for path in pictures]
        answer("predict", unread, [problem_of(error)], ok=False)
        return 1 if isinstance(error, MismatchError) else 2
    results: list[dict[str, object]] = []
    problems: list[dict[str, object]] = []
    for path in pictures:
        try:
            prediction = predict(path, network)
        except RehydrateError as error:
            problems.append(problem_of(error))
            results.append({"path": shown(path, LONGEST_PATH), "ok": False})
            if not as_json:
                complain(error)
            continue
        results.append({"path": shown(path, LONGEST_PATH), "ok": bool(prediction), **prediction.to_dict()})
        if prediction.problem:
            problems.append(_said(path, prediction.problem, str(prediction)))
        if not as_json:
            say(f"{shown(path)}: {prediction}")
    is_good = all(result["ok"] for result in results)
    if as_json:
        answer("predict", results, problems, ok=is_good)
    if any("problem" not in result for result in results):
        return 2
    return 0 if is_good else 1


def _said(path: str, problem: str, sentence: str) -> dict[str, object]:
    """A picture without a digit as one entry of `problems`."""
    return {
        "code": problem.replace(" ", "-"),
        "severity": "warning",
        "message": f"{shown(path)}: {sentence}",
        "hint": "cut the picture around one digit" if problem == "several" else "",
    }
