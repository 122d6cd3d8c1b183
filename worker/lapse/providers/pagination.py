"""Reading a provider's lists to their end, or saying why that was not possible. No I/O of its own.

Pages are raw GETs. The openai client's own pager is lenient where this must not be: it takes ``{}`` for an
empty list and any empty page for the last one. What an incomplete list does not show would pass for deleted.
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from lapse.errors import InvalidResource
from lapse.providers.kinds import Kind
from lapse.providers.outcomes import Limited, Spend, Verdict, classify_read, limited, listed
from lapse.providers.response import Reply, complaint, line
from lapse.registry.keys import identifier

PAGE_BYTES = 16 * 1024 * 1024
"""The longest page that is read. One that does not fit is asked for again with a tenth of the objects."""

MAX_PAGES = 2000


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much of a list is read: one that is longer is not complete."""

    pages: int = MAX_PAGES
    objects: int = 200_000


BOUNDS = Bounds()


@dataclass(frozen=True, slots=True)
class Listed:
    """One object as a list shows it; times are seconds since 1970. None where the list says nothing.

    ``status`` tells an expired vector store or container, which stays listed, from a live one.
    """

    id: str
    created_at: float | None
    name: str | None
    metadata: dict[str, str]
    last_active_at: float | None = None
    status: str | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """What a list said.

    Attributes:
        items: Each object once, in the order of the list, without those that the provider made for itself; empty where
            the pages were taken one by one.
        count: How many these are.
        complete: True if the list was read to its end and every page was what a page should be.
        strange: What is listed under ids that lapse gives to no request, such as URLs: it is left alone.
        reason: Why it is not complete.
        verdict: The verdict on the answer that ended it, for breakers and Retry-After; None if none did.
        identity: With which all its pages were asked for; empty if the credential changed meanwhile.
        sent_at: When the first page was asked for, on this process' monotonic clock.

    """

    items: list[Listed] = field(default_factory=list)
    count: int = 0
    complete: bool = True
    reason: str | None = None
    verdict: Verdict | None = None
    identity: str = ""
    sent_at: float = 0.0
    strange: tuple[str, ...] = ()


Take = Callable[[Sequence[Listed]], Awaitable[None]]
"""Is given a list page by page, each object once, so that a long one needs no memory."""


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page; ``more`` is None where the server does not say whether there is another, as a search never does.

    ``strange``: the ids among its objects that could be none of ours. ``end``: the last object's id, whatever it is.
    """

    items: tuple[Listed, ...]
    more: bool | None
    strange: tuple[str, ...] = ()
    end: str = ""

    @property
    def last(self) -> bool:
        """True if nothing follows: the server says so or, where it never does, the page is empty.

        Of a full page that is no more than a claim: proxies cut lists at a page and say so ("has_more": false).
        """
        return self.more is False or (self.more is None and not self.size)

    @property
    def size(self) -> int:
        """How many objects it shows."""
        return len(self.items) + len(self.strange)


def read_page(kind: Kind, reply: Reply) -> ListPage | None:
    """Return the page that an answer holds, or None if it is not one, down to the last object's id.

    An id that cannot be one of ours is no fault of the page: its object is left out, and named.
    """
    body = listed(kind, reply)
    if body is None:
        return None
    more = body.get("has_more")
    ids = [each.get(kind.id_field) if isinstance(each, dict) else None for each in body["data"]]
    named = [id_ for id_ in ids if isinstance(id_, str) and id_.strip()]
    if len(named) < len(ids) or not (more is None or isinstance(more, bool)):
        return None
    items = [read_object(kind, each) for each in body["data"]]
    strange = tuple(id_ for id_, item in zip(named, items, strict=True) if item is None)
    return ListPage(tuple(item for item in items if item is not None), more, strange, named[-1] if named else "")


def read_object(kind: Kind, body: Any) -> Listed | None:
    """Return what lapse needs of one object, or None if it has no id that could be one."""
    if not isinstance(body, dict):
        return None
    try:
        object_id = identifier(body.get(kind.id_field))
    except InvalidResource:
        return None
    name, metadata, status = body.get(kind.name_field), body.get("metadata"), body.get("status")
    return Listed(
        id=object_id,
        created_at=_time(body.get(kind.created_field)),
        name=name if isinstance(name, str) else None,
        metadata={key: _text(value) for key, value in metadata.items()} if isinstance(metadata, dict) else {},
        last_active_at=_time(body.get(kind.active_field)) if kind.active_field else None,
        status=status if isinstance(status, str) else None,
    )


async def walk(
    kind: Kind,
    fetch: Callable[[str | int | None, int], Awaitable[Reply]],
    spend: Spend,
    *,
    take: Take | None = None,
    bounds: Bounds = BOUNDS,
) -> Listing:
    """Read a list page by page; ``fetch`` takes where to go on, a cursor or an offset, and how many to ask for."""
    found = _Found(kind, take)
    reading: _Cursor | _Offset = _Offset() if kind.search else _Cursor(unpaged=kind.unpaged)
    size = kind.page_size
    for _ in range(bounds.pages):
        try:
            await spend(1)
            reply = await fetch(reading.position, size)
        except Limited as reason:
            return found.partial(str(reason), limited(reason))
        page = read_page(kind, reply)
        if page is None and (smaller := less(reply, size)):
            size = smaller
            continue
        if page is None:
            verdict = classify_read(kind, "", reply)
            return found.partial(verdict.detail, verdict)
        fresh = await found.add(page)
        if reading.is_over(page, fresh, size):
            return found.whole()
        if wrong := reading.go_on(page, fresh, size):
            return found.partial(wrong)
        if len(found.ids) > bounds.objects:  # strange ones too
            break
    return found.partial(f"longer than {bounds.pages} pages or {bounds.objects} objects")


class _Found:
    """The objects of a list so far, each once."""

    def __init__(self, kind: Kind, take: Take | None) -> None:
        self.ids: set[str] = set()
        self._kind = kind
        self._take = take
        self._items: list[Listed] = []
        self._strange: list[str] = []
        self._count = 0

    async def add(self, page: ListPage) -> int:
        """Add a page, handed on if somebody takes them; return how many of its objects were not seen before."""
        fresh = {item.id: item for item in page.items if item.id not in self.ids}
        odd = [id_ for id_ in dict.fromkeys(page.strange) if id_ not in self.ids]
        self.ids.update(fresh, odd)
        self._strange += [line(id_) for id_ in odd]
        chosen = [item for item in fresh.values() if not self._kind.is_system(item.metadata)]
        self._count += len(chosen)
        if self._take:
            await self._take(chosen)
        else:
            self._items += chosen
        return len(fresh) + len(odd)

    def whole(self) -> Listing:
        return Listing(self._items, self._count, strange=tuple(self._strange))

    def partial(self, reason: str, verdict: Verdict | None = None) -> Listing:
        strange = tuple(self._strange)
        return Listing(self._items, self._count, complete=False, reason=reason, verdict=verdict, strange=strange)


class _Cursor:
    """A place in a list that goes on after the last object seen."""

    def __init__(self, *, unpaged: bool) -> None:
        self.position: str | None = None
        self._unpaged = unpaged

    def is_over(self, page: ListPage, fresh: int, size: int) -> bool:
        if self._unpaged and page.more is None:
            return True
        # A full page may hide a next one, whatever it says: only one that is not full, or shows nothing new, is an end.
        return page.last and (not fresh or len(page.items) < size)

    def go_on(self, page: ListPage, fresh: int, _size: int) -> str | None:
        """Move behind a page, or return why that leads nowhere."""
        if not fresh:
            return f"the page after {self.position} shows nothing new but says that there is more"
        self.position = page.end
        return None


class _Offset:
    """A place in a search, oldest first, of which only the number of objects before it can be said.

    Whoever deletes one of those moves everything behind it to the front, and with it what no page has shown yet.
    So each page begins with the last ones of the page before: as long as one of them is there, nothing was passed
    over. If none is, too many were deleted meanwhile, and the search goes back. It ends with a page that shows
    those alone.
    """

    OVERLAP = 5

    def __init__(self) -> None:
        self.position = 0

    def is_over(self, page: ListPage, fresh: int, _size: int) -> bool:
        seen_before = bool(page.size) or self.position == 0
        return seen_before and fresh == 0 and page.size <= self.OVERLAP

    def go_on(self, page: ListPage, fresh: int, size: int) -> str | None:
        """Move behind a page, or back where it does not continue what was read."""
        if self.position and fresh == page.size:
            self.position = max(0, self.position - size)
        else:
            self.position += max(0, page.size - self.OVERLAP)
        return None


def cut(reply: Reply) -> bool:
    """Return True if a page was longer than what is read of one."""
    return len(reply.body) >= PAGE_BYTES


USUAL_MOST = 100
"""Objects on a page that every server gives; more may be refused."""
_REFUSES_SIZE = frozenset({400, 413, 422})


def less(reply: Reply, size: int) -> int | None:
    """Return how many objects to ask for instead, after a page that was too long, or was refused for its size."""
    if cut(reply) and size > 1:
        return size // 10
    return max(USUAL_MOST, size // 10) if reply.status in _REFUSES_SIZE and size > USUAL_MOST else None


def selectless(reply: Reply) -> bool:
    """Return True if a search was refused because it said which fields it wants."""
    return reply.status in _REFUSES_SIZE and "select" in complaint(reply).message.lower()


SECONDS_END, MILLISECONDS_END = 1e11, 1e14
"""Up to where a number is seconds since 1970, and up to where milliseconds: the year 5138, both."""


def _time(value: object) -> float | None:
    """Return seconds since 1970, or None for what is no point in time: without an offset, text is none.

    Some servers write milliseconds (Myla 0.2), which no date of this age can be mistaken for.
    """
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return None
        seconds = moment.timestamp() if moment.tzinfo else -1
        return seconds if 0 <= seconds < SECONDS_END else None
    return _bounded(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _bounded(value: float) -> float | None:
    if 0 <= value < SECONDS_END:
        return float(value)
    return float(value) / 1000 if SECONDS_END <= value < MILLISECONDS_END else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
