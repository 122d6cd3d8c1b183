"""Deleting one resource: see what would keep it, empty what the provider would leave behind, then DELETE."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lapse.policy.preconditions import Preconditions
from lapse.providers.deadline import current
from lapse.providers.invented import Invented
from lapse.providers.kinds import Kind
from lapse.providers.not_found import ABSENT
from lapse.providers.outcomes import (
    Limited,
    Outcome,
    Verdict,
    classify,
    classify_item,
    classify_read,
    limited,
    unconfirmed,
    unreadable,
)
from lapse.providers.pagination import MAX_PAGES, ListPage, less, read_page
from lapse.providers.renaming import confirms_another
from lapse.providers.response import Reply, line
from lapse.sweep.deletion.precheck import Target, look

Family = Callable[[str, Mapping[str, Any]], Awaitable[Verdict | None]]
"""Deletes the children of the object with this id and body; returns why the parent has to stay, or None."""

ITEMS_AT_ONCE = 8
"""Children of one resource deleted at the same time; the provider's ``concurrency`` holds over all."""

FAILURES = 20
"""Of children in a row; then the others would fail too."""

_FREE = Preconditions()


async def delete(
    target: Target,
    *,
    preconditions: Preconditions = _FREE,
    family: Family | None = None,
    invented: Invented | None = None,
) -> Verdict:
    """Delete one resource and return what came of it.

    Nothing is deleted while a keep rule cannot be evaluated, and no parent while a child is left that should go.

    Args:
        target: The resource.
        preconditions: What lets it live, and what goes with it.
        family: Deletes its children, given what it says of itself; None leaves them alone.
        invented: Where ids are opaque: whether the server says of an invented one that it is not there.

    """
    provider, kind = target.provider, target.kind
    sight = await look(target, preconditions)
    if sight.verdict:
        return sight.verdict
    confirmed = 0
    if family and (verdict := await family(target.id, sight.body)):
        return verdict
    if preconditions.items and kind.child:
        emptying = _Emptying(target, kind.child)
        verdict = await emptying.run()
        confirmed = emptying.confirmed
        if verdict:
            return replace(verdict, items=confirmed)
    reply = await provider.delete(kind, target.id)
    verdict = classify(kind, target.id, reply, provider.recognisers)
    if provider.opaque and confirms_another(kind, target.id, reply):
        verdict = await _believed(verdict, target, invented)
    return replace(verdict, items=confirmed) if confirmed else verdict


async def _believed(verdict: Verdict, target: Target, invented: Invented | None) -> Verdict:
    """Return a confirmation under another id as one, if this server does not confirm what never existed."""
    try:
        if invented and await invented.missing(target.kind, target.id, target.spend):
            return replace(verdict, outcome=Outcome.DELETED, unknown=False, detail="")
    except Limited as reason:
        return replace(verdict, detail=line(f"{verdict.detail}; no invented id was asked for: {reason}"))
    return replace(verdict, detail=line(f"{verdict.detail}; this server confirms invented ids too"))


@dataclass(slots=True)
class _Emptying:
    """Deletes every child of one resource: a page, all on it, the first page again, until an empty one.

    Always the first page: a cursor whose object was deleted means nothing to a provider.
    """

    target: Target
    child: Kind
    confirmed: int = 0
    _done: set[str] = field(default_factory=set)
    _failed: dict[str, Verdict] = field(default_factory=dict)
    _row: int = 0
    _stop: Verdict | None = None

    async def run(self) -> Verdict | None:
        """Return None once a page shows that nothing is left, else what stands in the way."""
        size = self.child.page_size
        for _ in range(MAX_PAGES):
            try:
                await self.target.spend(1)
            except Limited as reason:
                return limited(reason)
            reply = await self.target.provider.items(self.target.kind, self.target.id, size)
            page = read_page(self.child, reply)
            if page is None and (smaller := less(reply, size)):
                size = smaller
                continue
            if page is None:
                return await self._unlisted(reply)
            if page.last and not page.size:
                return None
            left = [item.id for item in page.items if item.id not in self._done and item.id not in self._failed]
            if page.strange or not left:
                stuck = unconfirmed(reply, self._stuck(page))
                return self._failure() if self._failed and not page.strange else stuck
            await self._delete_all(left)
            if self._stop:
                return self._stop
        return Verdict(Outcome.UNCONFIRMED, detail=f"more than {MAX_PAGES} pages of {self.child.plural}")

    def _stuck(self, page: ListPage) -> str:
        """Return what is wrong with a page of which nothing, or not all, can be deleted."""
        if page.strange:
            return f"lists {self.child.plural} that no request could name: {page.strange[0]!r}"
        if not page.items:
            return "with an empty page that says there are more"
        return f"still lists {len(page.items)} deleted {self.child.plural}"

    async def _unlisted(self, reply: Reply) -> Verdict | None:
        """Return what is wrong where the list is missing; None if the object is: its own DELETE says what that means.

        A list may say so in words that a DELETE does not use. Where the object cannot be read either, it has no items
        that could be left behind.
        """
        verdict = classify_read(self.target.kind, self.target.id, reply, self.target.provider.recognisers)
        if unreadable(verdict) and self.target.kind.witness:
            try:
                await self.target.spend(1)
            except Limited as reason:
                return limited(reason)
            own = await self.target.provider.read(self.target.kind, self.target.id)
            return None if own.status in ABSENT else verdict
        return None if verdict.outcome is Outcome.ALREADY_GONE else verdict

    async def _delete_all(self, item_ids: Sequence[str]) -> None:
        rest = iter(item_ids)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(ITEMS_AT_ONCE, len(item_ids))):
                    group.create_task(self._delete_each(rest))
        except ExceptionGroup as errors:
            # What ``spend`` raises means the same here as before a single request.
            raise errors.exceptions[0] from None

    async def _confirm(self, item_id: str, *, deleted: bool) -> None:
        self._done.add(item_id)
        self._row = 0
        self.confirmed += deleted
        if deleted and (requests := current()):
            await requests.confirmed()

    async def _delete_each(self, rest: Iterator[str]) -> None:
        for item_id in rest:
            if self._stop:
                return
            try:
                await self.target.spend(1)
            except Limited as reason:
                self._stop = self._stop or limited(reason)
                return
            reply = await self.target.provider.delete_item(self.target.kind, self.target.id, item_id)
            verdict = classify_item(self.target.kind, self.target.id, item_id, reply, self.target.provider.recognisers)
            if verdict.outcome in {Outcome.DELETED, Outcome.ALREADY_GONE}:
                await self._confirm(item_id, deleted=verdict.outcome is Outcome.DELETED)
            elif verdict.outcome in _ITS_OWN:
                self._failed[item_id] = verdict
                self._row += 1
                if self._row >= FAILURES:
                    self._stop = self._stop or self._failure()
            else:
                self._stop = self._stop or verdict

    def _failure(self) -> Verdict:
        """Return what the first failure means; with others that were deleted it is no attempt of the parent."""
        first, more = next(iter(self._failed.values())), len(self._failed) - 1
        return replace(first, detail=f"{first.detail}; and {more:,} more {self.child.plural}") if more else first


_ITS_OWN = frozenset({Outcome.ERROR, Outcome.CONFLICT, Outcome.UNCONFIRMED})
