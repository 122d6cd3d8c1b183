"""Requests to erase a subject in a world: asked for, worked on as a worker does, and looked at."""

import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from lapse.guards.context import SweepContext
from lapse.ledger.erasure.account import account_of
from lapse.ledger.erasure.request import ErasureAccount, ErasureRequest
from lapse.ledger.erasure.requests import begin, find, slots
from lapse.ledger.housekeeping import subjects
from lapse.ledger.housekeeping.erasures import Erasures
from lapse.policy.tables import ErasureSection
from lapse.providers.kinds import KINDS
from lapse.runtime.erasures import EraseRun
from support.world import DAY, World

LATE = DAY


class Erasing:
    """What an operator and a worker do about erasures in a world."""

    def __init__(self, world: World, *providers: str, **section: Any) -> None:
        self.world = world
        self.providers = providers or ("openai",)
        self.section = ErasureSection(**section)
        context = world.context()
        self.ledger, self.control = context.ledger, context.control

    async def ask(self, subject: str, *, ago: float = 0.0, late: float = LATE, id_: str = "") -> ErasureRequest:
        """Say a request, as one that was said so many seconds ago."""
        at = time.time() - ago
        request = ErasureRequest(
            id_ or str(uuid.uuid4()),
            subject,
            round(at * 1000),
            round((at + late) * 1000),
            round(at * 1000),
            round((at + 30 * DAY) * 1000),
        )
        standing, answer = await begin(self.ledger, request)
        assert answer, answer.failed
        self.world.registry.erased(subject, standing.until / 1000)
        return standing

    async def housekeep(self) -> bool:
        """Do what housekeeping does about subjects; True if ids may be left to delete."""
        ledger = self.ledger
        chosen = await slots(ledger)
        published = {"providers": '["openai"]', "kinds": json.dumps(sorted(KINDS["openai"])), "slots": "[]"}
        await self.control.publish(published)
        await subjects.keep(ledger, chosen, time.monotonic() + 20)
        return await Erasures(ledger, self.section, self.providers, chosen).keep(time.monotonic() + 20)

    async def run(self, context: SweepContext | None = None) -> None:
        """Delete what may be deleted."""
        context = context or self.world.context()

        @asynccontextmanager
        async def contexts(provider: str, _kind: str) -> AsyncIterator[SweepContext | None]:
            yield context if provider in self.providers else None

        more = await EraseRun(context.ledger, contexts, time.monotonic() + 20).run()
        assert not more

    async def work(self, context: SweepContext | None = None) -> None:
        """Do all that a worker does in a minute."""
        await self.housekeep()
        await self.run(context)
        await self.housekeep()

    async def asked_and_worked(self, subject: str, context: SweepContext, **said: Any) -> None:
        """Say a request, and do all that a worker does in a minute."""
        await self.ask(subject, **said)
        await self.work(context)

    async def account(self, request: ErasureRequest) -> ErasureAccount:
        """Return what came of it."""
        return await account_of(self.ledger, request.id)

    async def fates(self, request: ErasureRequest) -> dict[str, str]:
        """Return what became of each id."""
        return {one.resource.id: str(one.fate) for one in (await self.account(request)).ids}

    async def state(self, request: ErasureRequest) -> str:
        """Return how far it has come."""
        found = await find(self.ledger, request.id)
        assert found
        return str(found.state)
