"""HTML as a tree, so that no text can become markup, and the frame of every page with its security policy.

Elements are those of the standard library, whose serialiser escapes every text and attribute; only the stylesheet and
the script, which are files of this package, are written as they are.
"""

import base64
import hashlib
import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import TypeAlias
from xml.etree.ElementTree import Element, tostring

from lapse.cli import output

Child: TypeAlias = "str | Element | Iterable[Child] | None"

NAME = 80
"""Characters of a name that are shown: those that lapse takes have at most 64."""
_TYPED = re.compile(r'[A-Za-z0-9_.:/@ "=+,-]+')
_CODE = re.compile("`([^`]+)`")
ELSEWHERE = "lapse status"


def tag(name: str, /, *children: Child, **attributes: str) -> Element:
    """Return an element; ``class_`` is the attribute class, and another ``_`` in a name stands for a hyphen."""
    made = Element(
        name, {key.rstrip("_").replace("_", "-"): shown(value) for key, value in attributes.items() if value}
    )
    _fill(made, children)
    return made


def shown(text: str) -> str:
    """Return a text with whatever is no character to read written out: controls, changes of direction, surrogates."""
    return output.visible(text).encode("utf-8", "backslashreplace").decode()


def name_of(text: str) -> str:
    """Return a name at a length that leaves room for others."""
    return text if len(text) <= NAME else f"{text[:NAME]}…"


def command(text: str) -> Element:
    """Return a command to type; one that a shell could read as more than a command is never shown."""
    words = (text if _TYPED.fullmatch(text) else ELSEWHERE).split(" ")
    return tag(
        "code", [[" " if index else "", tag("span", word)] for index, word in enumerate(words)], class_="command"
    )


def prose(text: str) -> list[Child]:
    """Return a sentence of ours; what stands between backticks is code."""
    return [tag("code", part) if index % 2 else part for index, part in enumerate(_CODE.split(text))]


def document(title: str, head: Iterable[Child], main: Iterable[Child]) -> bytes:
    """Return a whole page: ``head`` stands above what the script replaces, which is ``main``."""
    page = tag(
        "html",
        tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="color-scheme", content="light dark"),
            tag("title", title),
            tag("style", _verbatim("page.css")),
        ),
        tag("body", tag("header", head), tag("main", main), tag("script", _verbatim("refresh.js"))),
        lang="en",
    )
    return f"<!doctype html>\n{tostring(page, encoding='unicode', method='html')}\n".encode()


@cache
def security_headers() -> dict[str, str]:
    """Return what a browser may load and run of a page: its own stylesheet, its own script, and the page again."""
    policy = (
        "default-src 'none'",
        f"style-src '{_hashed('page.css')}'",
        f"script-src '{_hashed('refresh.js')}'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
    return {"Content-Security-Policy": "; ".join(policy), "Referrer-Policy": "no-referrer"}


def _fill(parent: Element, children: Iterable[Child]) -> None:
    for child in children:
        if child is None:
            continue
        if isinstance(child, Element):
            parent.append(child)
        elif isinstance(child, str):
            _write(parent, child)
        else:
            _fill(parent, child)


def _write(parent: Element, text: str) -> None:
    text = text if parent.tag in {"style", "script"} else shown(text)
    if len(parent):
        parent[-1].tail = (parent[-1].tail or "") + text
    else:
        parent.text = (parent.text or "") + text


@cache
def _verbatim(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hashed(name: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(_verbatim(name).encode()).digest()).decode()}"
