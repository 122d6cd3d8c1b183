"""What a provider's answer says: its JSON, its message, its Retry-After, in words fit for a log. No I/O.

What it means is decided in ``outcomes``. Bodies come from proxies, gateways and login pages as well as from
the provider, so nothing here assumes JSON, text or good manners.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from lapse.log import redact

DETAIL = 300
"""The longest line that is made of an answer, in characters."""

LONGEST_WAIT = 86400.0
"""The longest Retry-After that is followed, in seconds. What asks for more is a mistake, and must stop nobody else."""

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
        identity: Of the account and credential that this very request was made with; see ``Provider``.
        sent_at: When it was begun, on this process' monotonic clock.

    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    failure: str | None = None
    sent: bool = True
    seconds: float = 0.0
    identity: str = ""
    sent_at: float = 0.0


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


def _parsed(reply: Reply) -> Any:
    try:
        return json.loads(reply.body)
    except (ValueError, RecursionError):
        return None


def complaint(reply: Reply) -> Complaint:
    """Return the message, code and type of an error body.

    Read are OpenAI's and Azure's ``{"error": {...}}``, ``{"error": "..."}``, FastAPI's ``{"detail": ...}``,
    ``{"message": "..."}`` and plain text. Beside a ``message``, an ``error`` that is no table is a code, as Aegra and
    Node's frameworks write it. A web page has no message.
    """
    body = document(reply)
    if not body:
        # What begins like JSON and is none, or no object, is a broken answer and not somebody's words.
        return Complaint("" if reply.body.lstrip()[:1] in b'{["' else _text(reply.body))
    error = next((body[key] for key in ("error", "detail", "message") if body.get(key)), "")
    beside = body.get("message")
    if isinstance(beside, str) and beside and not isinstance(error, dict):
        code = body.get("error")
        return Complaint(beside, code if isinstance(code, str) and code != beside else "")
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


def _text(body: bytes) -> str:
    """Return a body of text, or an empty string for a web page and for what is not text."""
    text = body.decode(errors="replace").strip()
    return "" if _is_page(body) or "\0" in text or text.count("\ufffd") > len(text) / 10 else text


def _is_page(body: bytes) -> bool:
    return body.lstrip().startswith(b"<")


# --- Retry-After

_NUMBER = re.compile(r"\s*(-?[0-9]{1,20}(?:\.[0-9]{0,9})?)\s*")
_SHOWN = 40


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Return the seconds that an answer asks to stay away, 0 to ``LONGEST_WAIT``, or None if it does not say.

    ``retry-after-ms`` (milliseconds) goes before ``Retry-After`` (RFC 9110 10.2.3: seconds or a date). A date
    is counted from the answer's own Date, else from ``now``, seconds since 1970. The ``x-ratelimit-reset-*``
    durations are not used: they say when a budget is full again, not when the next request may come. What asks
    for longer than ``LONGEST_WAIT`` counts as not said: ``odd_wait`` names it.
    """
    seconds = _asked(headers, now)
    return None if seconds is None or seconds > LONGEST_WAIT else max(seconds, 0.0)


def odd_wait(headers: Mapping[str, str], now: float | None = None) -> str:
    """Return what is wrong with an answer's Retry-After, for a person; empty if it was followed or is not there."""
    text = next((headers[name] for name in ("retry-after-ms", "retry-after") if headers.get(name)), None)
    if text is None or retry_after(headers, now) is not None:
        return ""
    return f"its Retry-After {text[:_SHOWN]!r} is no time of at most a day and is not followed"


def _asked(headers: Mapping[str, str], now: float | None) -> float | None:
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is not None:
        return seconds
    until, since = _date(text), _date(headers.get("date"))
    since = now if since is None else since
    return None if until is None or since is None else until - since


def _number(text: str | None) -> float | None:
    found = _NUMBER.fullmatch(text or "")
    return float(found[1]) if found else None


def _date(text: str | None) -> float | None:
    try:
        parsed = parsedate_to_datetime(text or "")
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
