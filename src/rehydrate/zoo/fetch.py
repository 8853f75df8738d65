"""Data sets by name: which files, from where, and what their content must be.

A file is taken from the first mirror that gives the right bytes; a wrong hash counts as no answer and the next mirror
is asked. What is there already and right is not fetched again. Nothing here is called unless somebody asks to fetch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rehydrate.errors import MissingExtraError, MissingFileError
from rehydrate.text import listed, shown

__all__ = ["MNIST", "DataSet", "fetch"]


@dataclass(frozen=True, slots=True)
class DataSet:
    """Files with their SHA-256, and the addresses they can be had from."""

    name: str
    files: Mapping[str, str]
    mirrors: tuple[str, ...]


MNIST = DataSet(
    name="mnist",
    files={
        "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    },
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "http://yann.lecun.com/exdb/mnist/",
    ),
)
"""LeCun, Cortes and Burges: 60,000 digits to learn from and 10,000 to be tested on, 28 by 28 grey levels."""


def fetch(
    data_set: DataSet,
    folder: str | Path,
    *,
    mirrors: Sequence[str] | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Download what is missing into `folder`, and the paths of all files.

    Raises `MissingExtraError` without pooch, `MissingFileError` when no mirror gave a file with the right hash.
    """
    try:
        import pooch
    except ImportError as error:
        raise MissingExtraError("fetching needs pooch", hint="pip install 'rehydrate[fetch]'") from error
    pooch.get_logger().setLevel("ERROR")  # it warns of every hash it refuses; what matters is said here
    addresses = data_set.mirrors if mirrors is None else mirrors
    paths: list[Path] = []
    for name, sha256 in data_set.files.items():
        paths.append(_fetch_one(pooch.retrieve, name, sha256, Path(folder), addresses, report))
    return paths


def _fetch_one(
    retrieve: Callable[..., str],
    name: str,
    sha256: str,
    folder: Path,
    mirrors: Sequence[str],
    report: Callable[[str], None],
) -> Path:
    refused: list[str] = []
    for mirror in mirrors:
        try:
            path = retrieve(
                url=mirror.rstrip("/") + "/" + name,
                known_hash=f"sha256:{sha256}",
                fname=name,
                path=folder,
            )
        except (
            OSError,
            ValueError,
        ) as error:  # no answer, an error page, or other bytes than these
            refused.append(f"{mirror}: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
            report(f"{name}: not from {mirror}, asking the next")
            continue
        report(f"{name}: here")
        return Path(path)
    raise MissingFileError(
        f"no mirror gave {name}",
        where=shown(folder),
        found=listed([shown(line) for line in refused], 5),
        hint="give an address of your own: rehydrate fetch mnist --mirror URL",
    )
