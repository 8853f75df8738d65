"""Data sets by name: which files, from where, and what their content must be.

A file is taken from the first mirror that gives the right bytes; one that is down, slow or sends something else is
passed over, and the next is asked. What is there already and right is not fetched again; what is there and wrong is
replaced. A file gets its name when all of it is there and its hash is right, never before. Nothing here is called
unless somebody asks to fetch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rehydrate.errors import MissingExtraError, MissingFileError, SaveError
from rehydrate.text import shown, size

if TYPE_CHECKING:
    import requests

__all__ = ["MNIST", "DataSet", "fetch"]

PATIENCE = 30
"""Seconds without a byte after which the next mirror is asked."""

_NO_ADDRESS = "not an address that can be asked"


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


class _WrongContentError(ValueError):
    """A mirror answered with something else."""


def fetch(
    data_set: DataSet,
    folder: str | Path,
    *,
    mirrors: Sequence[str] | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Download what is missing or damaged in `folder`; gives the paths of all files of the data set.

    `mirrors` are asked in place of the data set's own; `report` gets a line for each step. Raises `MissingExtraError`
    without pooch, `MissingFileError` naming each mirror and its reason when none gave a file with the right hash,
    `SaveError` when the folder cannot be written.
    """
    try:
        import pooch
    except ImportError as error:
        raise MissingExtraError("fetching needs pooch", hint="pip install 'rehydrate[fetch]'") from error
    pooch.get_logger().setLevel("ERROR")  # it warns of every hash it refuses; what matters is said here
    addresses = data_set.mirrors if mirrors is None else mirrors
    paths: list[Path] = []
    for name, sha256 in data_set.files.items():
        path = Path(folder) / name
        try:
            if path.exists() and pooch.file_hash(str(path)) == sha256:
                report(f"{name}: there already")
            else:
                _fetch_one(path, sha256, addresses, report)
        except OSError as error:
            if isinstance(error, MissingFileError):
                raise
            raise SaveError(f"cannot be written: {error.strerror or error}", where=shown(str(path))) from error
        paths.append(path)
    return paths


def _fetch_one(path: Path, sha256: str, mirrors: Sequence[str], report: Callable[[str], None]) -> None:
    """The file from the first mirror that has it."""
    import pooch
    import requests

    refused: list[str] = []
    for mirror in mirrors:
        report(f"{path.name}: asking {shown(urlsplit(mirror).netloc or mirror)}")
        try:
            pooch.retrieve(
                url=mirror.rstrip("/") + "/" + path.name,
                known_hash=f"sha256:{sha256}",
                fname=path.name,
                path=path.parent,
                downloader=_download,
            )
        except requests.RequestException as error:  # no answer, or not a whole one; also an address without a scheme
            refused.append(f"{shown(mirror)}: {_reason(error)}")
        except _WrongContentError as error:
            refused.append(f"{shown(mirror)}: {error}")
        except ValueError:  # pooch's word for a wrong hash, and for an address of a kind that it does not know
            is_known = urlsplit(mirror).scheme in ("http", "https")
            refused.append(
                f"{shown(mirror)}: {'sent other bytes than the published ones' if is_known else _NO_ADDRESS}"
            )
        else:
            report(f"{path.name}: here, {size(path.stat().st_size)}")
            return
        report(f"{path.name}: not from {refused[-1]}")
    raise MissingFileError(
        f"no mirror gave {path.name}" + ("; what is there under this name is damaged" if path.exists() else ""),
        where=shown(str(path)),
        found="\n".join(refused),
        hint="ask another address: rehydrate fetch mnist --mirror URL; or put the file there yourself",
    )


def _download(url: str, to: str, _: object) -> None:
    """Fetch `url` into the file `to`; pooch compares the hash and gives it its name."""
    import pooch

    os.unlink(to)  # pooch made it for its owner's eyes only; made anew, it gets the mode that other files get
    # As it lies on the server: some unpack what is packed already, and the hash is of the packed file.
    pooch.HTTPDownloader(timeout=PATIENCE, headers={"Accept-Encoding": "identity"})(url, to, None)
    with open(to, "rb") as file:
        if file.read(64).lstrip().lower().startswith((b"<!doctype html", b"<html", b"<head")):
            raise _WrongContentError("sent a web page instead of the file")


def _reason(error: requests.RequestException) -> str:
    """Why a mirror gave nothing, in a few words."""
    import requests

    if error.response is not None:
        return shown(f"answered {error.response.status_code} {error.response.reason}", 60)
    if isinstance(error, requests.Timeout) or "timed out" in str(error):
        return f"did not answer within {PATIENCE} seconds"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "broke off in the middle of the file"
    if isinstance(error, requests.ConnectionError):
        return "cannot be reached"
    if isinstance(error, ValueError):  # of several classes for several mistakes in an address
        return _NO_ADDRESS
    return shown(str(error) or type(error).__name__, 60)
