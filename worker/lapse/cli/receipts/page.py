"""A receipt as a page that is read, printed and filed. It loads nothing, runs nothing, and embeds what was signed.

Inside ``<script type="application/json">`` every ``<`` is written as an escape: nothing in there can end it.
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from lapse.audit import strictjson
from lapse.cli.formatting import count
from lapse.cli.receipts import canonical
from lapse.cli.receipts.document import LATE, UNCONCLUDED
from lapse.ledger.erasure.request import Fate

BEGINS = b"<!doctype html>"
OPENS = b'<script type="application/json" id="receipt">'
CLOSES = b"</script>"

STATES = {
    True: ("yes", "Complete: everything that was found is gone."),
    False: ("no", "Not complete: something is left, or may still come."),
    None: ("none", "Nothing was registered under this subject."),
}
REASONS = {
    Fate.HELD: "held: a hold forbids the deletion",
    Fate.IN_USE: "in use by something that is not this subject's alone",
    Fate.PENDING: "still to be deleted",
    Fate.UNPROVABLE: "unprovable: nobody can say whether it is gone",
    LATE: "until {open_until}, what was created before the request may still be registered, and belongs to it",
    UNCONCLUDED: "no worker has found yet that all is done",
}
FACTS = {
    "id": "Request",
    "received": "Received",
    "at": "Begun",
    "began": "All ids could be found",
    "completed": "Completed",
    "due": "Due",
    "until": "Covers late registrations until",
}


@dataclass(frozen=True, slots=True)
class Around:
    """A page without what it embeds."""

    before: bytes
    after: bytes

    @property
    def digest(self) -> str:
        """What the document says of its page: SHA-256 in hexadecimal."""
        return hashlib.sha256(self.before + self.after).hexdigest()

    def filled(self, document: bytes) -> bytes:
        """Return the page with a document in it."""
        return self.before + _embedded(document) + self.after


def is_one(content: bytes) -> bool:
    """Return True if a file is meant as a page."""
    return content.startswith(BEGINS)


def taken_apart(content: bytes) -> tuple[Around, bytes]:
    """Return a page and the document that it embeds, in its canonical form.

    Raises:
        ValueError: it embeds none, or not as receipts do.

    """
    before, opened, rest = content.partition(OPENS)
    inner, closed, after = rest.partition(CLOSES)
    if not opened or not closed:
        raise ValueError("the page embeds nothing")
    document = canonical.dumps(strictjson.loads(inner))
    if _embedded(document) != inner:
        raise ValueError("what the page embeds is not written as receipts are")
    return Around(before + opened, closed + after), document


def around(document: Mapping[str, Any]) -> Around:
    """Return the page of a document that has its key already."""
    verdict, state = STATES[document["complete"]]
    shown = {name: escape(str(document[name])) for name in ("covers", "names", "audit")}
    filled = _template().substitute(
        shown,
        style=_style(),
        style_digest=base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode(),
        request=escape(document["request"]["id"]),
        verdict=verdict,
        state=state,
        reasons="".join(_reasons(document)),
        facts="".join(_facts(document)),
        counts=escape(_counts(document)),
        ids=_table(document["ids"]),
        unsubjected=escape(_unsubjected(document["unsubjected"])),
        key=escape(document["key"]["id"]),
    )
    before, opened, after = filled.encode().partition(OPENS)
    return Around(before + opened, after)


def _embedded(document: bytes) -> bytes:
    return document.replace(b"<", b"\\u003c")


@cache
def _template() -> Template:
    return Template(files(__package__).joinpath("page.html").read_text(encoding="utf-8"))


@cache
def _style() -> str:
    return files(__package__).joinpath("page.css").read_text(encoding="utf-8")


def _reasons(document: Mapping[str, Any]) -> Iterator[str]:
    if document["reasons"]:
        yield "<ul>\n"
        for reason in document["reasons"]:
            said = REASONS.get(reason, reason).replace("{open_until}", _when(document["open_until"]))
            ids = f"{count(document['counts'][reason], 'id')} " if reason in document["counts"] else ""
            yield f"<li>{escape(ids + said)}</li>\n"
        yield "</ul>\n"


def _facts(document: Mapping[str, Any]) -> Iterator[str]:
    request = document["request"]
    yield _fact("Subject", document["subject"])
    for name, title in FACTS.items():
        yield _fact(title, request[name] if name == "id" else _when(request[name]))
    yield _fact(
        "This receipt", f"issued {_when(document['issued'])} by {document['tool']}, policy {document['policy']}"
    )


def _fact(title: str, value: str) -> str:
    return f"<dt>{escape(title)}</dt><dd>{escape(value)}</dd>\n"


def _counts(document: Mapping[str, Any]) -> str:
    told = ", ".join(f"{n:,} {outcome.replace('_', ' ')}" for outcome, n in document["counts"].items())
    return f"{count(document['found'], 'id')} found" + (f": {told}." if told else ".")


def _unsubjected(number: int) -> str:
    if not number:
        return ""
    stand = "stands" if number == 1 else "stand"
    return f"{count(number, 'id')} {stand} in the registry of which nobody said whose data it is; that is not covered."


def _table(ids: Sequence[Mapping[str, Any]]) -> str:
    if not ids:
        return ""
    titles = ("Kind, provider, policy", "Id", "Outcome", "Answer of the provider", "Audit")
    head = "".join(f"<th>{title}</th>" for title in titles)
    rows = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in _cells(one))}</tr>\n" for one in ids)
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n"


def _cells(one: Mapping[str, Any]) -> Iterator[str]:
    """Yield what stands in the columns of an id."""
    place, tried, status = one["audit"], one["next_try"], one["status"]
    yield _lines(one["kind"], one["provider"], one["policy"])
    yield f"<code>{escape(one['id'])}</code>"
    yield _lines(one["outcome"].replace("_", " "), one["detail"], tried and f"next try {_when(tried)}")
    yield _lines(_when(one["at"]), status and f"HTTP {status}", one["request_id"])
    yield f"line {place['n']:,}" if place else "not found"


def _lines(first: str, *others: str | None) -> str:
    return escape(first) + "".join(f"<small>{escape(other)}</small>" for other in others if other)


def _when(time: str | None) -> str:
    """Return a time of the document, which is in UTC, as a person reads it."""
    return f"{time[:19].replace('T', ' ')} UTC" if time else "not yet"
