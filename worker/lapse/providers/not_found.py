"""The texts by which servers say that an object does not exist, and those by which they say less. No I/O."""

import re
from collections.abc import Sequence
from functools import lru_cache

from lapse.providers.response import Reply, complaint, line

ABSENT = frozenset({404, 410})
"""Statuses of an object that is not there."""

LOOSE = frozenset({400, 405})
"""Statuses that some servers answer for one too: believed only where the words name the id."""

_CHARACTERS = "A-Za-z0-9_.:=+-"
# An id, quoted or bare. It is captured whole and compared, so that no id passes for a longer one's beginning.
_QUOTE = "['\"`\u2018\u2019\u201c\u201d]"
_AN_ID = f"(?:{_QUOTE}([{_CHARACTERS}]+){_QUOTE}|(?<![{_CHARACTERS}])([{_CHARACTERS}]+))"

# How servers and gateways name a route they do not have; OpenAI's quotes the path, and so the id.
_ROUTE = "invalid url"
_FEWEST_LETTERS = 2
_SPECIFIC = 100  # a longer message says more than that something is missing
# What looks like an id and is not the one asked for: a proxy's upstream has ids of its own.
_OTHER_ID = re.compile(r"(?=[A-Za-z0-9_.:=+-]*[0-9])[A-Za-z0-9_.:=+-]{12,}")
# Without such words, a 400 that names the id complains of it.
_MISSING = re.compile(r"not found|no such|not exist|n't exist|no [^.]* found|gone|deleted|unknown", re.IGNORECASE)
# What servers answer to a path that they do not have: a text found in one of these would take a wrong base_url for
# "everything is gone already".
_NONDESCRIPT = (
    '{"detail":"not found"}',
    "404 page not found",
    "404: not found",
    "http 404 error",
    "the requested resource was not found on this server",
    "the requested url was not found on the server",
    "resource not found",
    "invalid url (delete /v1/threads/)",
    "cannot delete /v1/threads/",
    "not_found_error",
    "invalid_request_error",
    "method not allowed",
    "bad request",
)


def nondescript(template: str) -> bool:
    """Return True for a text that servers say of a whole endpoint too: it tells of no object."""
    said = template.replace("{id}", "").strip().lower()
    return sum(map(str.isalpha, said)) < _FEWEST_LETTERS or any(said in text for text in _NONDESCRIPT)


def absent(templates: Sequence[str], recognisers: Sequence[str], object_id: str, reply: Reply) -> bool:
    """Return True if an answer says that exactly this object does not exist.

    Args:
        templates: The kind's own words, of a 404 or 410.
        recognisers: Those that the configuration adds; with ``{id}`` they hold for a 400 or 405 too.
        object_id: The id that was asked for.
        reply: The answer.

    """
    if reply.status in ABSENT:
        return names_missing((*templates, *recognisers), object_id, reply)
    if reply.status in LOOSE:
        return names_missing([text for text in recognisers if "{id}" in text], object_id, reply)
    return False


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
    """Return the not-found text that would recognise this message: one that ``check-config`` takes, or None."""
    message = complaint(reply).message.strip()
    if not message or message.lower().startswith(_ROUTE) or len(message) > _SPECIFIC or line(message) != message:
        return None
    text = message.replace(object_id, "{id}")
    if nondescript(text.rstrip(".")) or _OTHER_ID.search(text.replace("{id}", " ")):
        return None
    if reply.status in LOOSE and not ("{id}" in text and _MISSING.search(text)):
        return None
    return text if _matches(text, message, object_id) else None


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
