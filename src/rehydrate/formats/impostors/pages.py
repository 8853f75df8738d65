"""What a server sends instead of a file: web pages, and error messages in HTML, XML, JSON or a line of text.

Whose page it is decides what to do; the title, the code or the line is quoted, because it mostly says why. Services
are recognised by the words of their own pages.
"""

from __future__ import annotations

import html
import re

from rehydrate.formats.impostors.impostor import Impostor
from rehydrate.text import shown

__all__ = ["by_message", "by_page", "by_xml"]

_LINK = "the link leads to a page about the file; download the file itself"
_SIGN_IN = "the file is for signed-in users only: sign in where you download it, or ask for a public link"

_PAGES: tuple[tuple[bytes, str], ...] = (
    (rb"virus scan", "Google Drive asks for a confirmation first; use gdown with the file's id"),
    (rb"google drive.*(quota|too many users)|quota exceeded", "Google Drive's limit for this file is reached: "
     "open it in Drive, make a copy of your own, and download that; or try again tomorrow"),
    (rb"google (accounts|drive)|drive\.google\.com", "the file is not shared with everybody; ask its owner, "
     "then use gdown with the file's id"),
    (rb"just a moment|attention required! \| cloudflare|checking your browser|are you a robot|captcha",
     "the server wants to see a browser: download it in one, or from another place"),
    (rb"(404|not found|doesn.t exist|does not exist).*hugging face|hugging face.*(404|not found)",
     "there is no such file, or it is not public: hf download OWNER/REPOSITORY NAME, after hf auth login"),
    (rb"hugging face|huggingface\.co", "the link leads to a page about the file: write /resolve/ in place of /blob/, "
     "or use hf download OWNER/REPOSITORY NAME"),
    (rb"not found.*github", "there is no such file on GitHub, or it is private; look at the release it belongs to"),
    (rb"\bgithub\b", "the link leads to a page about the file: write /raw/ in place of /blob/; "
     "for large files, git lfs pull in a clone"),
    (rb"\bgitlab\b", "the link leads to a page about the file: write /-/raw/ in place of /-/blob/"),
    (rb"dropbox", "write dl=1 in place of dl=0 at the end of the link"),
    (rb"onedrive|sharepoint|1drv\.ms|microsoft account", "put download=1 at the end of the link, after a ? or a &"),
    (rb"baidu|\xe7\x99\xbe\xe5\xba\xa6", "Baidu gives files to its own program only; ask for another place"),
    (rb"\bkaggle\b", "use kaggle datasets download or kaggle models instances versions download, with your token"),
    (rb"zenodo", "take the link of the file itself: https://zenodo.org/records/NUMBER/files/NAME?download=1"),
    (rb"\bmega\b", "MEGA's files are encrypted on the way; use megadl"),
    (rb"sign in|log ?in|anmelden|connexion|\xe7\x99\xbb\xe5\xbd\x95", _SIGN_IN),
    (rb"404|not found", "there is no such file at this address any more; look for another link"),
    (rb"403|forbidden|access denied|401|unauthorized", _SIGN_IN),
    (rb"429|too many requests|rate limit", "too much was asked of the server; wait, and download it again"),
    (rb"50[0234]|bad gateway|unavailable|internal server error", "the server had a fault; download it again later"),
    (rb"index of /", "this lists a folder of the server; download the file itself"),
)  # fmt: skip
"""Words of a page, mostly of its title, and what to do. The first that fits is right."""

_MESSAGES: tuple[tuple[bytes, str], ...] = (
    (rb"(\d{3}[: ]+)?(entry|file|page|object|resource)? ?not found", "there is no such file at this address; look for "
     "another link, and at how its name is spelled"),
    (rb"(\d{3}[: ]+)?repository not found", "there is no such repository, or it is not public: hf auth login"),
    (rb"invalid (username|credentials|token)|bad credentials", "the file needs an account: hf auth login"),
    (rb"access to (model|dataset) .* is restricted", "ask for access on the model's page, then hf auth login"),
    (rb"(\d{3}[: ]+)?(access denied|forbidden|unauthorized|authentication required|permission denied)", _SIGN_IN),
    (rb"(\d{3}[: ]+)?(too many requests|rate limit)", "too much was asked of the server; wait, and download it again"),
    (rb"(\d{3}[: ]+)?(bad gateway|service unavailable|gateway time-?out|internal server error)",
     "the server had a fault; download it again later"),
    (rb"error code: \d+|error \d{3}\b|upstream connect error|no such bucket|link expired|bad request|4\d\d[: ]+\w",
     "check the link"),
)  # fmt: skip
"""Bodies of one line, from their beginning."""

_XML_CODES = {
    "AccessDenied": "the link is not public or has expired; make a new one",
    "ExpiredToken": "the link has expired; make a new one",
    "RequestTimeTooSkewed": "the clock of this machine is wrong",
    "SignatureDoesNotMatch": "the link was changed on its way; copy it whole",
    "NoSuchKey": "there is no such file in this bucket any more; look for another link",
    "NoSuchBucket": "the bucket is gone; look for another link",
    "BlobNotFound": "there is no such file in this container any more; look for another link",
    "AuthenticationFailed": "the link is not public or has expired; make a new one",
}
"""Codes of storage services, and what to do."""


_PAGE = re.compile(
    rb"(<\?xml[^>]*>\s*)?(<!--((?!-->).)*-->\s*)*<(!doctype html|html|head|body|script|meta|title)",
    re.DOTALL | re.IGNORECASE,
)


def by_page(first: bytes) -> Impostor | None:
    """A web page, which may begin with comments."""
    if not _PAGE.match(first):
        return None
    title = re.search(rb"(?is)<title[^>]*>(.*?)</title", first)
    words = html.unescape(title[1].decode("utf-8", "replace")).strip() if title else ""
    text = title[1].lower() if title and title[1].strip() else first.lower()
    hint = next((hint for pattern, hint in _PAGES if re.search(pattern, text, re.DOTALL)), _LINK)
    if hint is _SIGN_IN and b"drive.google" in first:
        hint = _PAGES[2][1]
    return Impostor("a web page" + (f": {shown(words)}" if words else ""), hint)


def by_xml(first: bytes) -> Impostor | None:
    """An XML document: an error of a storage service, a drawing, a model of OpenVINO."""
    if not first.startswith((b"<?xml", b"<Error", b"<svg", b"<net ", b"<ListBucketResult", b"<PMML")):
        return None
    code = re.search(rb"<Code>(\w{1,60})</Code>", first)
    if code:
        word = code[1].decode()
        message = re.search(rb"<Message>([^<]{1,300})", first)
        return Impostor(
            f"an error of a storage service in XML: {word}",
            _XML_CODES.get(word, "check the link"),
            shown(message[1].decode("utf-8", "replace")) if message else "",
        )
    if b"<svg" in first:
        return Impostor("an SVG drawing", "save it as PNG first, if it is a digit to be read")
    if re.search(rb"<net\s[^>]*name=", first):
        return Impostor("the description of an OpenVINO model (XML)", "its weights are in the .bin of the same name")
    if b"<PMML" in first:
        return Impostor("a PMML model")
    if b"ListBucketResult" in first:
        return Impostor("a list of a bucket's files in XML", "download one of them: its name stands in <Key>")
    return Impostor("an XML document, such as a storage service sends instead of a file", "check the link")


def by_message(first: bytes) -> Impostor | None:
    """A line of text that says why there is no file."""
    line = first[:300].lower()
    for pattern, hint in _MESSAGES:
        if re.match(pattern, line):
            words = first[:200].splitlines()[0]
            return Impostor("an error message instead of a file", hint, shown(words.decode("utf-8", "replace"), 80))
    return None
