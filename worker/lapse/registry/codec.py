"""What is stored, as values: times, facts, holds, records. No I/O."""

import json
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from lapse import durations
from lapse.errors import InvalidResource
from lapse.registry import keys
from lapse.registry.kind_names import singular
from lapse.registry.model import Hold, Record, Resource, from_millis

EARLIEST = 1420070400.0  # 2015-01-01: nothing lapse deletes is older
LATEST = 253402300799.0  # 9999-12-31: later is a unit error
AHEAD = 60.0  # how far an application's clock may run ahead

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

When = datetime | float
Span = timedelta | float | str


def dump(value: object) -> str:
    """Return compact JSON without nulls: a script reads a null as a value."""
    return json.dumps(value, separators=(",", ":"))


def now_millis() -> int:
    """Return this process' clock in milliseconds; what decides a deletion is Redis TIME, never this."""
    return round(time.time() * 1000)


def past(value: When, what: str) -> int:
    """Return registry milliseconds of a time that has happened.

    Raises:
        InvalidResource: naive, not a number, before 2015 or more than 60 s ahead of this clock.

    """
    seconds = _seconds(value, what)
    if seconds > time.time() + AHEAD:
        raise InvalidResource(f"{what} {value!r} lies more than 60 s ahead: give seconds since 1970, not milliseconds")
    return round(seconds * 1000)


def moment(value: When, what: str) -> int:
    """Return registry milliseconds of any time from 2015 to 9999.

    Raises:
        InvalidResource: naive, not a number, or outside.

    """
    return round(_seconds(value, what) * 1000)


def ahead(value: When, what: str) -> int:
    """Return registry milliseconds of a time that is still to come.

    Raises:
        InvalidResource: naive, not a number, after 9999, or over by this clock.

    """
    millis = moment(value, what)
    if millis <= now_millis():
        raise InvalidResource(
            f"{what} {datetime.fromtimestamp(millis / 1000, UTC).isoformat()} is over already: give a time ahead"
        )
    return millis


def span(value: Span, what: str) -> int:
    """Return the milliseconds of a duration: seconds, a timedelta or text such as ``"7d"``.

    Raises:
        InvalidResource: zero, negative, not finite, longer than 100 years, or no duration.

    """
    if isinstance(value, str):
        try:
            return round(durations.parse(value) * 1000)
        except ValueError as error:
            raise InvalidResource(f"{what}: {error}") from None
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= durations.LONGEST:
        raise InvalidResource(
            f'{what} {value!r}: give seconds above zero and below 100 years, a timedelta, or text such as "7d"'
        )
    return max(1, round(seconds * 1000))


def _seconds(value: When, what: str) -> float:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise InvalidResource(f"{what} {value.isoformat()} has no time zone: use datetime.now(UTC)")
        try:
            seconds = value.timestamp()
        except (OverflowError, ValueError):
            raise InvalidResource(f"{what} {value.isoformat()} is not between 2015 and 9999") from None
        value = seconds
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidResource(f"{what} {value!r} is no time: give seconds since 1970 or a datetime with a time zone")
    if not EARLIEST <= value <= LATEST:
        raise InvalidResource(f"{what} {value!r} is not between 2015 and 9999: give seconds since 1970")
    return float(value)


def text(value: object, what: str, most: int | None = None) -> str:
    """Return text that every reader of the registry can read again.

    Raises:
        InvalidResource: empty, longer than ``most`` characters, no text, with control characters, which a terminal or a
            log would obey, or with half of a character: what is cut in the middle of an emoji has no bytes in UTF-8.

    """
    if not isinstance(value, str) or not value or (most and len(value) > most):
        length = f"text of 1 to {most} characters" if most else "text"
        raise InvalidResource(f"{what} {str(value)[:80]!a}: give {length}")
    if _CONTROL.search(value):
        raise InvalidResource(f"{what} {ascii(value)[:80]}: leave line breaks and other control characters out")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidResource(
            f"{what} {ascii(value)[:80]}: character {error.start} is half of one, no UTF-8; cut between characters"
        ) from None
    return value


def edges(
    uses: Iterable[tuple[str, ...]], provider: str, kind_of: Callable[[object], str] = singular
) -> list[Resource]:
    """Return what a ``uses`` list names, each once: (kind, id) at the same provider, or (provider, kind, id).

    Args:
        uses: What the application gave.
        provider: Whose they are where an entry does not say.
        kind_of: Returns the name of a kind.

    Raises:
        InvalidResource: an entry is neither, or names what cannot be stored.

    """
    if isinstance(uses, str | bytes) or not isinstance(uses, Iterable):
        raise InvalidResource(f"uses {ascii(uses)[:80]}: give a list of (kind, id)")
    found: dict[Resource, None] = {}
    for use in uses:
        match use:
            case (owner, kind, id_) if isinstance(use, list | tuple):
                pass
            case (kind, id_) if isinstance(use, list | tuple):
                owner = provider
            case _:
                raise InvalidResource(
                    f"uses entry {ascii(use)[:80]}: give (kind, id), or (provider, kind, id) for another provider"
                )
        found[Resource(keys.provider(owner), kind_of(kind), keys.identifier(id_))] = None
    return list(found)


def nonce() -> str:
    """Return what makes one stamp different from every other."""
    return secrets.token_hex(8)


def edge_text(resource: Resource) -> str:
    """Return a resource as one edge stores it."""
    return f"{resource.provider}|{resource.kind}|{resource.id}"


def edge(text: str) -> Resource:
    """Return the resource of a stored edge."""
    provider, kind, id_ = text.split("|")
    return Resource(provider, kind, id_)


def hold(stored: Mapping[str, Any]) -> Hold:
    """Return a stored hold."""
    since = datetime.fromtimestamp(stored["since"] / 1000, UTC)
    until = from_millis(stored.get("until"))
    return Hold(stored["reason"], stored["actor"], since, until, stored.get("subject"))


def subjects_of(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Return whose data an id is, as its facts say."""
    said = facts.get("subject")
    return tuple(said) if isinstance(said, list) else (said,) if said else ()


def record(resource: Resource, text: str) -> Record | None:
    """Return what ``get.lua`` says of an id, or None if it is not tracked."""
    seen = json.loads(text)
    found = seen.get("record")
    if not found or found.get("q"):
        return None
    held = seen.get("hold")
    facts = seen.get("facts", {})
    subjects = subjects_of(facts)
    creation = found.get("f") or found.get("c") or found.get("k")
    state = found["s"]
    if state == "parked":
        state = found["r"]
    return Record(
        resource=resource,
        policy=found["p"],
        state=state,
        created_at=from_millis(creation),
        last_active_at=from_millis(found.get("f") or found.get("a")),
        expires_at=from_millis(found.get("e")),
        due=from_millis(seen.get("due")),
        governed_by="hold" if held else seen["by"],
        hold=hold(held) if held else None,
        uses=tuple(edge(use) for use in facts.get("uses", ())),
        used_by=tuple(edge(use.split("|", 1)[1]) for use in seen.get("edges", ())),
        subject=next(iter(subjects), None),
        subjects=subjects,
        labels=facts.get("labels", {}),
        attempts=int(found.get("n", 0)),
        crashes=int(found.get("x", 0)),
        reason=found.get("r"),
        retry_at=from_millis(found["d"]) if state == "waiting" else None,
    )
