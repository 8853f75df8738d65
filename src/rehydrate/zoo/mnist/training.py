"""From the digits to weights, and from weights to how many of the test digits they read.

What ships in the package was made by exactly this, on a CPU with one thread (`OMP_NUM_THREADS=1`):

    rehydrate train mnist --data DIR --out large.pth --net large --epochs 30
    rehydrate train mnist --data DIR --out small.pth --net small --epochs 40

Each epoch shows every training digit once, changed a little, among digits that were drawn and printed for it and
pictures of no digit. A seed decides all of it: on one machine, with as many threads, the same seed gives the same
weights. The test digits are never looked at.
"""

from __future__ import annotations

import math
import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import nn

from rehydrate.checkpoint.checkpoint import Checkpoint
from rehydrate.errors import MismatchError, SaveError
from rehydrate.storage.atomic import Sink
from rehydrate.storage.source import Where
from rehydrate.text import counted, shown
from rehydrate.writing.save import Saved, save
from rehydrate.zoo.mnist.augmenting import distorted
from rehydrate.zoo.mnist.digits import read_digits
from rehydrate.zoo.mnist.drawing import DIGITS, SIDE, drawn, printed, signs
from rehydrate.zoo.mnist.networks import Net, build, checked_name, load_network, name_of, normalised, outputs_of
from rehydrate.zoo.mnist.outliers import outliers
from rehydrate.zoo.mnist.shapes import EPOCHS

__all__ = ["Evaluation", "evaluate", "fit", "train"]

SEED = 1998
"""The year of the digits; any other number is as good."""
BATCH = 128
"""Pictures of one step."""
PEAK = 3e-3
"""The highest learning rate, reached a quarter of the way and left on a cosine down to nothing."""
AGAIN = 1e-3
"""The same where training begins with trained weights: less, so that they are improved and not forgotten."""
INVENTED = 12
"""One drawn or printed digit for so many real ones."""
OUTLIERS = 6
"""One picture of no digit for so many real ones."""
UNSURE = {"large": 1.0, "small": 0.3}
"""How much a picture of no digit counts beside a digit; the small network has less room for both."""
NO_DIGIT = 10
"""The label of pictures of no digit while training; the network has ten outputs and none for it."""

Report = Callable[[str], None]


def _silent(line: str) -> None:
    """Nobody listens."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How many digits a network read right: for each digit, and of how many."""

    right_by_digit: tuple[int, ...]
    total_by_digit: tuple[int, ...]

    @property
    def right(self) -> int:
        """Digits read right."""
        return sum(self.right_by_digit)

    @property
    def total(self) -> int:
        """Digits shown."""
        return sum(self.total_by_digit)

    @property
    def accuracy(self) -> float:
        """The share read right, 0 to 1."""
        return self.right / self.total

    def to_dict(self) -> dict[str, object]:
        """The same as plain data, for JSON."""
        return {
            "right": self.right,
            "total": self.total,
            "accuracy": self.accuracy,
            "right_by_digit": list(self.right_by_digit),
            "total_by_digit": list(self.total_by_digit),
        }

    def __str__(self) -> str:
        counts = zip(self.right_by_digit, self.total_by_digit, strict=True)
        wrong = [f"{digit}: {total - right}" for digit, (right, total) in enumerate(counts) if total > right]
        head = f"{self.right:,} of {counted(self.total, 'test digit')} right, {100 * self.accuracy:.2f} %"
        return head + (f"\n  wrong  {', '.join(wrong)}" if wrong else "")


def evaluate(data: str | os.PathLike[str], model: Where | Checkpoint | nn.Module | None = None) -> Evaluation:
    """Test a network on the test digits in the folder `data`.

    `model` is what `load_network` takes: None for ours, a file of either network, or a module that gives ten numbers
    for each picture `[N, 1, 28, 28]`, which is left in `eval()` mode. Raises what `read_digits` and `load_network`
    raise, and `MismatchError` for a module that gives something else.
    """
    pictures, labels = (torch.from_numpy(part) for part in read_digits(data, "test"))
    network = load_network(model)
    read = torch.cat([outputs_of(network, some).argmax(1).cpu() for some in torch.split(pictures, 1000)])
    is_right = read == labels
    return Evaluation(
        tuple(int((is_right & (labels == digit)).sum()) for digit in range(10)),
        tuple(int((labels == digit).sum()) for digit in range(10)),
    )


def train(
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    epochs: int = EPOCHS,
    net: Net | None = None,
    start: Where | Checkpoint | None = None,
    seed: int = SEED,
    report: Report = _silent,
) -> Saved:
    """Train a network on the training digits in the folder `data`, and save its state dict as `out`.

    `net` is `large` or `small`; with `start`, a checkpoint to begin with, it need not be said. `report` gets a line
    an epoch. Everything that could make the last step fail is found before the first: raises `SaveError` if `out`
    cannot be written, `MismatchError` if `start` is of neither network or not of `net`, and what `read_digits` raises.
    """
    if epochs < 1:
        raise ValueError(f"training takes at least one epoch, not {epochs}")
    network = _begun(start, net) if start is not None else _new("large" if net is None else net, seed)
    _rehearse(network, os.fspath(out))
    pictures, labels = (torch.from_numpy(part) for part in read_digits(data, "train"))
    peak = PEAK if start is None else AGAIN
    fit(network, pictures, labels, epochs=epochs, peak=peak, seed=seed, report=report)
    return save(network.state_dict(), out)


def fit(
    network: nn.Module,
    pictures: torch.Tensor,
    labels: torch.Tensor,
    *,
    epochs: int,
    peak: float,
    seed: int,
    report: Report = _silent,
) -> None:
    """Train `network` on pictures, uint8 `[N, 28, 28]`, and labels, uint8 `[N]`; it is in `eval()` mode all along."""
    chance = torch.Generator().manual_seed(seed)
    unsure = UNSURE[name_of(network) or "large"]
    # Changed pictures are what keeps the networks general, and dropout on top of them is more than 21,840 parameters
    # bear: after 20 epochs, of 5,000 training digits that were held out 49 were read wrong with it and 36 without.
    network.eval()
    _arrange(network, torch.channels_last)  # as convolutions on a CPU want it: a step takes two thirds of the time
    optimizer = torch.optim.AdamW(network.parameters())
    for epoch in range(epochs):
        started, lost, right = time.perf_counter(), 0.0, 0
        shown_pictures, shown_labels = _shuffled(pictures, labels, chance)
        batches = list(zip(torch.split(shown_pictures, BATCH), torch.split(shown_labels, BATCH), strict=True))
        for at, (some, goals) in enumerate(batches):
            for group in optimizer.param_groups:
                group["lr"] = peak * _pace((epoch + at / len(batches)) / epochs)
            logits = network(normalised(distorted(some.float() / 255, chance)))
            loss = _loss(logits, goals, unsure)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            lost += float(loss.detach())
            right += int((logits.detach().argmax(1) == goals).sum())
        share = 100 * right / max(1, int((shown_labels != NO_DIGIT).sum()))
        report(
            f"epoch {epoch + 1} of {epochs}: loss {lost / len(batches):.4f}, {share:.2f} % of its digits right, "
            f"{time.perf_counter() - started:.0f} s"
        )
    _arrange(network, torch.contiguous_format)


def _arrange(network: nn.Module, layout: torch.memory_format) -> None:
    """Lay the weights of convolutions out in memory; their values stay."""
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.detach().contiguous(memory_format=layout)


def _pace(progress: float) -> float:
    """The learning rate as a share of its peak: up for a quarter of the way, then down on a cosine."""
    if progress < 0.25:
        return 0.04 + 0.96 * progress / 0.25
    return 0.5 + 0.5 * math.cos(math.pi * (progress - 0.25) / 0.75)


def _shuffled(
    pictures: torch.Tensor, labels: torch.Tensor, chance: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """What one epoch shows: every digit, invented ones, and pictures of no digit, in any order."""
    invented, names = _invented(max(1, len(pictures) // INVENTED), chance)
    some = torch.randperm(len(pictures), generator=chance)[: min(len(pictures), 20_000)]
    strange = outliers(max(1, len(pictures) // OUTLIERS), pictures[some].float() / 255, labels[some], chance)
    nothing = torch.full((len(strange),), NO_DIGIT)
    every = torch.cat([pictures, *((255 * made).round().to(torch.uint8) for made in (invented, strange))])
    order = torch.randperm(len(every), generator=chance)
    return every[order], torch.cat([labels.long(), names, nothing])[order]


def _invented(count: int, chance: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Digits drawn by strokes, and one in five printed, with their labels."""
    names = torch.randint(10, (count,), generator=chance)
    ways = torch.randint(1_000_000, (count,), generator=chance)
    every = [signs(spellings) for spellings in DIGITS]
    pieces = [every[name][way % len(every[name])] for name, way in zip(names.tolist(), ways.tolist(), strict=True)]
    font = printed("0123456789").view(10, -1, SIDE, SIDE)
    made = drawn(torch.stack(pieces[count // 5 :]), chance, narrowest=0.5)
    glyphs = font[names[: count // 5], ways[: count // 5] % font.shape[1]]
    return torch.cat([glyphs, made]), names


def _loss(logits: torch.Tensor, goals: torch.Tensor, unsure: float) -> torch.Tensor:
    """What is lost on digits by their own class, and on pictures of no digit by all classes alike."""
    is_digit = goals != NO_DIGIT
    right = -logits.gather(1, (goals * is_digit).unsqueeze(1)).squeeze(1)
    even = -logits.mean(1) - math.log(10)
    return torch.where(is_digit, right, unsure * even).mean()


def _new(net: str, seed: int) -> nn.Module:
    """An untrained network; the caller's own random numbers are as if it had not been made."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return build(net)


def _begun(start: Where | Checkpoint, net: str | None) -> nn.Module:
    """The network that training begins with."""
    network = load_network(start)
    if net is not None and name_of(network) != checked_name(net):
        raise MismatchError(
            f"this is the {name_of(network)} network, and the {net} one is to be trained",
            where=shown(start) if isinstance(start, (str, os.PathLike)) else "",
            hint="leave the size out, or begin with another file",
        )
    return network


def _rehearse(network: nn.Module, out: str) -> None:
    """Save the untrained weights beside `out` and remove them: an hour of training is not lost to a mistyped name."""
    Sink(out).abandon()
    place = os.path.join(os.path.dirname(os.path.realpath(out)), f".rehearsal-{secrets.token_hex(6)}")
    place += os.path.splitext(out)[1]
    try:
        save(network.state_dict(), place, durable=False)
    except SaveError as error:
        raise SaveError(error.what, where=shown(out), found=error.found, hint="call it something.pth") from error
    finally:
        with suppress(FileNotFoundError):
            os.unlink(place)
