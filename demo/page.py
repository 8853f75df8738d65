"""The page: every picture with what was read, in one file that needs nothing else. All text is escaped."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from string import Template

from PIL import Image
from terminal import Reading, seen

__all__ = ["write_page"]

TEMPLATE = Path(__file__).with_name("page.html")
KINDS = {".png": "image/png", ".jpg": "image/jpeg"}


def write_page(path: Path, readings: Sequence[Reading], *, report: str, refusal: str, match: str) -> Path:
    """Write the page and say where it is."""
    right = sum(reading.is_right for reading in readings)
    page = Template(TEMPLATE.read_text("utf-8")).substitute(
        report=escape(report),
        refusal=escape(refusal),
        match=escape(match),
        score=escape(f"{right} of {len(readings)} pictures were read as what they are."),
        cards="\n".join(card(reading) for reading in readings),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, "utf-8")
    return path


def card(reading: Reading) -> str:
    """One picture: as it came, as the network saw it, the answer, and ten probabilities."""
    name = reading.path.name
    original = data_uri(reading.path.read_bytes(), KINDS[reading.path.suffix])
    buffer = BytesIO()
    Image.fromarray(seen(reading)).save(buffer, "PNG")
    small = data_uri(buffer.getvalue(), "image/png")
    digit = reading.prediction.digit
    return f"""\
<article class="{"right" if reading.is_right else "wrong"}">
  <div class="pictures">
    <img class="original" src="{original}" alt="{escape(name)}">
    <img class="seen" src="{small}" width="84" height="84" alt="the 28 by 28 points that the network saw">
  </div>
  <p class="answer{" problem" if digit is None else ""}">{escape(reading.answer)}</p>
  <p class="name">{escape(name)}{"" if reading.is_right else f" <strong>is {escape(reading.truth)}</strong>"}</p>
  <ol class="bars" aria-label="probabilities">{bars(reading)}</ol>
</article>"""


def bars(reading: Reading) -> str:
    """A bar for each digit, as high as it is probable."""
    items = []
    for digit, probability in enumerate(map(float, reading.prediction.probabilities)):
        chosen = ' class="chosen"' if digit == reading.prediction.digit else ""
        items.append(
            f'<li{chosen} title="{digit}: {100 * probability:.2f} %">'
            f'<span style="height:{100 * probability:.1f}%"></span>{digit}</li>'
        )
    return "".join(items)


def data_uri(data: bytes, kind: str) -> str:
    """Bytes as an address that holds them."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
