"""What a provider's answer says: its JSON, its message, its Retry-After, in words fit for a log. No I/O.

What it means is decided in ``outcomes``. Bodies come from proxies, gateways and login pages as well as from
the provider, so nothing here assumes JSON, text or good manners.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any

from lapse.log import redact

DETAIL = 300
"""The longest line that is made of an answer, in characters."""

LONGEST_WAIT = 86400.0
"""The longest Retry-After that is believed, in seconds."""


_REDIRECTION = 3  # the first digit of such statuses


@dataclass(frozen=True, slots=True)
class Reply:
    """One request's answer, or why there is none.

    Attributes:
        status: None if no complete answer arrived.
        headers: Names in lower case.
        body: The beginning of the answer's body; without an answer, what happened, in words.
        failure: One word where there is no answer: ``timeout``, ``connect``, ``tls``, ``reset`` or
            ``protocol``; where no request was made: ``credentials``, ``invalid``, ``sunset`` or ``late``, its claim's
            time being over.
        sent: True if the provider may have seen the request.
        seconds: From the request's start to the body's end.

    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    failure: str | None = None
    sent: bool = True
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Complaint:
    """What an error body says of itself; empty strings where it does not."""

    message: str = ""
    code: str = ""
    type: str = ""


def document(reply: Reply) -> dict[str, Any]:
    """Return the JSON object in the body, or an empty one if the body holds anything else."""
    parsed = _parsed(reply)
    return parsed if isinstance(parsed, dict) else {}


def array(reply: Reply) -> list[Any] | None:
    """Return the JSON array that the body is, or None if the body holds anything else."""
    parsed = _parsed(reply)
    return parsed if isinstance(parsed, list) else None


def _parsed(reply: Reply) -> Any:  # noqa: ANN401 - any JSON
    try:
        return json.loads(reply.body)
    except (ValueError, RecursionError):
        return None


def complaint(reply: Reply) -> Complaint:
    """Return the message, code and type of an error body.

    Read are OpenAI's and Azure's ``{"error": {...}}``, ``{"error": "..."}``, FastAPI's ``{"detail": ...}``,
    ``{"message": "..."}`` and plain text. A web page has no message.
    """
    body = document(reply)
    if not body:
        # What begins like JSON and is none, or no object, is a broken answer and not somebody's words.
        return Complaint("" if reply.body.lstrip()[:1] in b'{["' else _text(reply.body))
    error = next((body[key] for key in ("error", "detail", "message") if body.get(key)), "")
    if not isinstance(error, dict):
        return Complaint(error if isinstance(error, str) else json.dumps(error))
    return Complaint(*(error[key] if isinstance(error.get(key), str) else "" for key in ("message", "code", "type")))


def shape(reply: Reply) -> str:
    """Return what kind of body it is, for an answer that should have been another: ``an HTML page``."""
    body = document(reply)
    if body:
        said = body.get("object")
        return f"a {said} object" if isinstance(said, str) else f"JSON with {', '.join(list(body)[:5])}"
    if not reply.body.strip():
        return "an empty body"
    if _is_page(reply.body):
        title = re.search(rb"<title[^>]*>([^<]{1,100})", reply.body[:4096], re.IGNORECASE)
        return f"an HTML page{' ' + repr(title[1].decode(errors='replace').strip()) if title else ''}"
    text = _text(reply.body)
    return f"the text {text[:80]!r}" if text else f"{len(reply.body)} bytes that are not text"


def say(reply: Reply) -> str:
    """Return one redacted line that tells a person what the answer was."""
    if reply.status is None:
        return line(f"{reply.failure}: {reply.body.decode(errors='replace')}")
    if reply.status // 100 == _REDIRECTION:
        # What follows the path may be a ticket or a token.
        target = re.split(r"[?#;]", reply.headers.get("location", "nowhere"), maxsplit=1)[0]
        return line(f"{reply.status} redirect to {target}")
    told = complaint(reply)
    code = next((f" [{word}]" for word in (told.code, told.type) if word), "")
    return line(f"{reply.status} {told.message or shape(reply)}{code}")


def line(text: str) -> str:
    """Return a text as one redacted, printable line of at most ``DETAIL`` characters."""
    # Cut before redacting, so that no pattern runs over 64 KiB, and again after it.
    printable = "".join(character if character.isprintable() else " " for character in text[: 4 * DETAIL])
    single = " ".join(redact(printable).split())
    return single if len(single) <= DETAIL else single[: DETAIL - 1] + "…"


# --- not-found texts

_CHARACTERS = "A-Za-z0-9_.:=+-"
# An id, quoted or bare. It is captured whole and compared, so that no id passes for a longer one's beginning.
_QUOTE = "['\"`\u2018\u2019\u201c\u201d]"
_AN_ID = f"(?:{_QUOTE}([{_CHARACTERS}]+){_QUOTE}|(?<![{_CHARACTERS}])([{_CHARACTERS}]+))"

# How servers and gateways name a route they do not have; OpenAI's quotes the path, and so the id.
_ROUTE = "invalid url"
_SPECIFIC = 100  # a longer message says more than that something is missing
_ROUTES = frozenset({"not found", "resource not found", "page not found", "404 page not found", "404 not found"})


def names_missing(templates: Sequence[str], object_id: str, reply: Reply) -> bool:
    """Return True if the message matches one of these not-found texts.

    A text with ``{id}`` matches only if the message has exactly this id in its place; one without it matches
    anywhere in the message. "Invalid URL (DELETE /v1/threads/thread_x)" matches none, whatever the texts are.
    """
    message = complaint(reply).message
    if not message or message.lower().startswith(_ROUTE):
        return False
    return any(_matches(template, message, object_id) for template in templates if template.strip())


def recogniser(object_id: str, reply: Reply) -> str | None:
    """Return the not-found text that would recognise this message, where it is specific enough to be one."""
    message = complaint(reply).message.strip()
    route = message.lower().rstrip(".") in _ROUTES or message.lower().startswith(_ROUTE)
    if not message or route or len(message) > _SPECIFIC or line(message) != message:
        return None
    return message.replace(object_id, "{id}")


def _matches(template: str, message: str, object_id: str) -> bool:
    if "{id}" not in template:
        return template in message
    return any(
        all(quoted in {"", object_id} for quoted in found.groups("")[0::2])
        and all(bare in {"", object_id} or bare.rstrip(".:") == object_id for bare in found.groups("")[1::2])
        for found in _pattern(template).finditer(message)
    )


@lru_cache(maxsize=256)
def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(_AN_ID.join(re.escape(part) for part in template.split("{id}")))


def _text(body: bytes) -> str:
    """Return a body of text, or an empty string for a web page and for what is not text."""
    text = body.decode(errors="replace").strip()
    return "" if _is_page(body) or "\0" in text or text.count("\ufffd") > len(text) / 10 else text


def _is_page(body: bytes) -> bool:
    return body.lstrip().startswith(b"<")


# --- Retry-After

_NUMBER = re.compile(r"\s*(-?[0-9]{1,12}(?:\.[0-9]*)?)\s*")


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Return the seconds that an answer asks to stay away, 0 to ``LONGEST_WAIT``, or None if it does not say.

    ``retry-after-ms`` (milliseconds) goes before ``Retry-After`` (RFC 9110 10.2.3: seconds or a date). A date
    is counted from the answer's own Date, else from ``now``, seconds since 1970. The ``x-ratelimit-reset-*``
    durations are not used: they say when a budget is full again, not when the next request may come.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return _bounded(milliseconds / 1000)
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is None:
        until, since = _date(text), _date(headers.get("date"))
        since = now if since is None else since
        if until is None or since is None:
            return None
        seconds = until - since
    return _bounded(seconds)


def _number(text: str | None) -> float | None:
    found = _NUMBER.fullmatch(text or "")
    return float(found[1]) if found else None


def _date(text: str | None) -> float | None:
    try:
        parsed = parsedate_to_datetime(text or "")
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), LONGEST_WAIT)
