"""The documents hold together: links lead somewhere, and the page about the house knows every file in it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CHECK = ROOT / "docs" / "check_links.py"


def checked(folder: Path) -> tuple[int, list[str]]:
    """The exit code, and the complaints about a folder of pages."""
    done = subprocess.run([sys.executable, str(CHECK), str(folder)], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout.splitlines()


def test_every_link_of_every_page_leads_somewhere() -> None:
    assert checked(ROOT) == (0, [])


GOOD = """\
# The first page

[other](docs/other.md), [part](docs/other.md#what-it-does-1), [here](#the-first-page), [folder](docs), [ref][one],
[one], ![picture](a%20b.png), [site](https://example.org/a_(b)?c=d#e), <https://example.org>, a[0] and b[1],
[mail](mailto:a@example.org "why"), <a href="docs/other.md#named">html</a>, `[not a link](nowhere.md)`,
[code `x`](docs/other.md#a-rhload_into-of-x).

```md
[not a link](nowhere.md)
```

[one]: docs/other.md "a title"
"""
OTHER = """\
Other
=====
<a id="named"></a>
## What it does
## What it does
## A `rh.load_into` of *x*
[back](../README.md#the-first-page)
"""


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "a b.png").touch()
    (tmp_path / "README.md").write_text(GOOD)
    (tmp_path / "docs" / "other.md").write_text(OTHER)
    return tmp_path


def test_links_of_every_form_are_followed(pages: Path) -> None:
    assert checked(pages) == (0, [])


@pytest.mark.parametrize(
    ("link", "why"),
    [
        ("[a](nowhere.md)", "no such file"),
        ("![a](docs/none.png)", "no such file"),
        ("[a](docs/other.md#what-it-does-2)", "no heading"),
        ("[a](#nothing)", "no heading"),
        ("[a][undefined]", "no definition"),
        ("[a](../outside.md)", "outside"),
        ("[a](https://)", "not an address"),
        ("[a](https://localhost/x)", "not an address"),
        ("[a](file:///etc/passwd)", "not a kind"),
        ("[a]()", "empty"),
        ('<img src="none.png">', "no such file"),
        ("[x]: nowhere.md", "no such file"),
    ],
)
def test_a_link_that_leads_nowhere_is_named_with_its_line(pages: Path, link: str, why: str) -> None:
    (pages / "README.md").write_text(f"# The first page\n\n{link}\n")
    code, complaints = checked(pages)
    assert code == 1
    assert len(complaints) == 1
    assert complaints[0].startswith("README.md:3: ")
    assert why in complaints[0]


def test_what_git_ignores_is_in_no_clone(pages: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(pages)], check=True)
    (pages / ".gitignore").write_text("out/\n")
    (pages / "out").mkdir()
    (pages / "out" / "page.md").touch()
    assert checked(pages) == (0, [])
    (pages / "README.md").write_text("# The first page\n[made](out/page.md)\n")
    assert checked(pages)[0] == 1


def test_the_page_about_the_house_knows_every_file() -> None:
    package = ROOT / "src" / "rehydrate"
    files = {path.relative_to(package).as_posix() for path in package.rglob("*.py")}
    folders = {name for name in files if name.endswith("/__init__.py")}
    rows = re.findall(
        r"^\| (`\S+\.py`(?: `\S+\.py`)*) \|", (ROOT / "docs" / "house.md").read_text("utf-8"), re.MULTILINE
    )
    named = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert len(named) == len(set(named))
    assert set(named) == files - folders


def test_the_page_about_the_corpus_says_what_comes_out_today(test_data: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "make_corpus.py"), "--check"],
        env={**os.environ, "REHYDRATE_TEST_DATA": str(test_data)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr or "make corpus writes the page anew"
