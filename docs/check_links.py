"""Every link of every Markdown file leads somewhere: `python docs/check_links.py [ROOT]`, part of `make check`.

A relative link must lead to a file that a clone has, and its `#anchor` to a heading there. Links to other sites are
looked at, not followed: they must have the form of an address. Prints `file:line: what is wrong`, exit 1 if anything
is. Code is not read: what stands in backticks or a fenced block is no link.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["complaints"]

FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})(.*)$")
INLINE_CODE = re.compile(r"(`+)(?:.+?)(?<!`)\1(?!`)")
LINK = re.compile(
    r"!?\[(?:[^\[\]]|\[[^\[\]]*\])*\]\(\s*(<[^<>]*>|[^\s()]*(?:\([^\s()]*\)[^\s()]*)*)(?:\s+[\"'(].*?[\"')])?\s*\)"
)
DEFINITION = re.compile(r"^ {0,3}\[([^\[\]]+)\]:\s*(<[^<>]*>|\S+)")
REFERENCE = re.compile(r"\[(?P<text>[^\[\]]+)\]\[(?P<label>[^\[\]]*)\]")
ATTRIBUTE = re.compile(r"<(?:a|img)\b[^>]*?\b(?:href|src)\s*=\s*[\"']([^\"']*)[\"']", re.IGNORECASE)
ANCHOR = re.compile(r"<[a-z][^>]*?\b(?:id|name)\s*=\s*[\"']([^\"']+)[\"']", re.IGNORECASE)
HEADING = re.compile(r"^ {0,3}#{1,6}\s+(.*?)\s*#*\s*$")
UNDERLINE = re.compile(r"^ {0,3}(=+|-{2,})\s*$")


def main() -> int:
    """Check a checkout, this one if no other is named."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent).resolve()
    files = files_of(root)
    pages = sorted(path for path in files if path.suffix == ".md")
    wrong = [complaint for page in pages for complaint in complaints(page, root, files)]
    for complaint in wrong:
        sys.stdout.write(complaint + "\n")
    sys.stderr.write(f"{len(pages)} Markdown files, {len(wrong)} links that lead nowhere\n")
    return 1 if wrong else 0


def files_of(root: Path) -> set[Path]:
    """What a clone has: files that git knows or would add. Without git, everything that is not hidden."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, capture_output=True, check=True)  # noqa: S603 - git, and a folder
        listed = done.stdout.decode("utf-8", "surrogateescape")
    except (OSError, subprocess.CalledProcessError):
        every = (path for path in root.rglob("*") if path.is_file())
        return {path for path in every if not any(part.startswith(".") for part in path.relative_to(root).parts)}
    return {path for name in listed.split("\0") if name and (path := root / name).exists()}


def complaints(page: Path, root: Path, files: set[Path]) -> Iterator[str]:
    """What is wrong with the links of one page, as `file:line: what`."""
    lines = list(prose(page))
    defined = {found[1].casefold() for _, line in lines if (found := DEFINITION.match(line))}
    for number, line in lines:
        place = f"{page.relative_to(root)}:{number}"
        for target in targets(line):
            trouble = trouble_with(target.strip().removeprefix("<").removesuffix(">"), page, root, files)
            if trouble:
                yield f"{place}: {target}: {trouble}"
        for found in REFERENCE.finditer(LINK.sub("", line)):
            label = found["label"] or found["text"]
            if label.casefold() not in defined:
                yield f"{place}: [{label}]: there is no definition of this reference"


def prose(page: Path) -> Iterator[tuple[int, str]]:
    """The numbered lines of a page without its code."""
    fence = ""
    for number, line in enumerate(page.read_text("utf-8").splitlines(), 1):
        found = FENCE.match(line)
        if fence:
            if found and found[1].startswith(fence) and not found[2].strip():
                fence = ""
        elif found:
            fence = found[1]
        else:
            yield number, INLINE_CODE.sub("", line)


def targets(line: str) -> Iterator[str]:
    """Every address that a line of prose links to."""
    definition = DEFINITION.match(line)
    if definition:
        yield definition[2]
        return
    for found in LINK.finditer(line):
        yield found[1]
    for found in ATTRIBUTE.finditer(line):
        yield found[1]
    yield from re.findall(r"<(https?:[^<>]*)>", line)


def trouble_with(target: str, page: Path, root: Path, files: set[Path]) -> str:
    """Why a link leads nowhere; empty if it leads somewhere."""
    try:
        parts = urlsplit(target)
    except ValueError as error:
        return f"not an address ({error})"
    if parts.scheme in ("http", "https"):
        is_formed = re.fullmatch(r"[\w.-]+\.[a-z]{2,}(:\d+)?", parts.netloc, re.IGNORECASE) and " " not in target
        return "" if is_formed else "not an address of a site"
    if parts.scheme == "mailto":
        return "" if re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", parts.path) else "not an address of mail"
    if parts.scheme or parts.netloc:
        return "not a kind of address that a page links to"
    if not target:
        return "empty"
    goal = page
    if parts.path:
        base = root if parts.path.startswith("/") else page.parent
        goal = (base / unquote(parts.path).lstrip("/")).resolve()
        if goal != root and root not in goal.parents:
            return "outside the repository"
        if goal not in files and not any(goal in path.parents for path in files):
            return "there is no such file in a clone"
    if parts.fragment and goal.suffix == ".md" and unquote(parts.fragment).casefold() not in anchors(goal):
        return f"{goal.relative_to(root)} has no heading of that name"
    return ""


@cache
def anchors(page: Path) -> frozenset[str]:
    """The names that the headings of a page can be linked by, as GitHub makes them."""
    names: list[str] = []
    before = ""
    for line in (line for _, line in prose_with_code(page)):
        names.extend(name.casefold() for name in ANCHOR.findall(line))
        found = HEADING.match(line)
        heading = found[1] if found else before if UNDERLINE.match(line) and before.strip() else None
        before = "" if heading is not None else line
        if heading is not None:
            text = LINK.sub(lambda link: link[0][link[0].index("[") + 1 : link[0].index("](")], heading)
            name = re.sub(r"[^\w\- ]", "", text.strip().casefold()).replace(" ", "-")
            count = sum(other == name or re.fullmatch(re.escape(name) + r"-\d+", other) is not None for other in names)
            names.append(f"{name}-{count}" if count else name)
    return frozenset(names)


def prose_with_code(page: Path) -> Iterator[tuple[int, str]]:
    """The lines outside of fenced blocks, words in backticks kept: headings have them."""
    whole = page.read_text("utf-8").splitlines()
    for number, _ in prose(page):
        yield number, whole[number - 1]


if __name__ == "__main__":
    sys.exit(main())
