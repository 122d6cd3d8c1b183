"""What a worker process does on its event loop: sweep a partition for a slice, keep house, move audit records."""

import asyncio
import contextlib
import math
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial

import structlog

from lapse.audit.chain import open_seal
from lapse.audit.shipper import Mover, open_sink
from lapse.errors import ConfigError, RegistryError
from lapse.guards.context import SweepContext, named
from lapse.guards.edits.adoption import retire
from lapse.guards.integrity import preflight, replication
from lapse.guards.integrity.continuity import Trouble
from lapse.guards.integrity.monitor import Watch
from lapse.ledger import failures
from lapse.ledger.halts import Halts
from lapse.ledger.housekeeping import creations, subjects
from lapse.ledger.housekeeping.erasures import Erasures
from lapse.ledger.housekeeping.forgotten import anything_ends, end_unlistable
from lapse.ledger.housekeeping.misnamed import Misnamed
from lapse.ledger.outbox import Outbox, folder_of, replay
from lapse.ledger.partition import Ledger
from lapse.ledger.reasons import EVERYWHERE, HaltReason
from lapse.policy import Config, Rule
from lapse.policy.reload import audit_file
from lapse.providers.account import Account
from lapse.providers.kinds import KINDS
from lapse.providers.provider import TIMEOUT, Provider
from lapse.providers.throttle import Throttle
from lapse.registry import keys
from lapse.registry.aio import Carrier
from lapse.registry.model import ERASURE, Partition
from lapse.registry.scripts import Call, script
from lapse.registry.spool.spool import of as spool_of
from lapse.runtime.erasures import EraseRun, lease
from lapse.runtime.host import Host
from lapse.runtime.published import Published
from lapse.sweep.orphans import collect_orphans
from lapse.sweep.report import Report
from lapse.sweep.sweep import sweep

REGISTRY_TIMEOUT = 5.0
BESIDES = 8  # connections for what goes on beside the deletions
STEP_ASIDE = 1.0  # seconds
WAKES, ALL_DONE = 1, 2  # ledger/lua/wake
FACTS_LAST = 30.0  # seconds; what preflight saw of the server
AUDIT_EVERY = 1.0  # seconds between two moves while a sweep writes
AUDIT_AT_ONCE = 100_000
FAREWELL = 1.0  # seconds for the registry to hear that a process ends

log = structlog.get_logger("lapse")


@dataclass(slots=True)
class AccountClient:
    """One account as this process uses it."""

    account: Account
    timeout: float
    provider: Provider
    throttle: Throttle


class Work:
    """All that runs on a process' loop; made outside of it, used inside."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._namespace = host.config.registry.namespace
        self._carrier = Carrier(host.registry.endpoint, REGISTRY_TIMEOUT, most=_connections(host.config))
        self._control = Halts(self._carrier, self._namespace)
        self._watch = Watch(self._carrier, self._namespace, known=host.known, witness=host.witness)
        self._worker = f"{socket.gethostname()}:{os.getpid()}"
        self._clients: dict[str, AccountClient] = {}
        self._retired: list[Provider] = []
        self._busy = 0
        self._outbox = outbox_of(host)
        self._spool = spool_of(None, self._namespace, host.registry.endpoint)
        self._facts, self._looked = preflight.Facts({}), -math.inf
        self._replicas: tuple[preflight.Finding, ...] = ()
        self._published = Published(host, self._carrier, self._control, self._worker)
        self.freed: dict[Partition, int] = {}
        """What a sweep made due in other partitions, and when, in registry milliseconds."""
        self.erasing = False
        """True if housekeeping saw that ids may be left to delete for a request to erase a subject."""

    async def sweep(self, partition: Partition, sent: int | None) -> int | None:
        """Sweep one partition for one slice; see ``Runtime.sweep``."""
        config = self._current()
        rule = next((rule for rule in config.rules if rule.partition == partition), None)
        if rule is None:
            log.warning("partition.unknown", **named(partition))
            return None
        if self._host.stop.is_set() or not await self._permitted(config):
            return None
        await self._published.show(config)
        if not await self._wake(rule, sent):
            return None
        ledger, seconds = self._ledger(config), self._host.slice(config, config.accounts[partition.provider])
        async with self._noting(ledger, partition):
            client = await self._client(config, config.accounts[partition.provider])
            context = self._context(config, client, ledger)
            act = collect_orphans if rule.orphan else sweep
            async with self._working(), self._auditing(config, partition):
                report = await act(context, rule, budget=seconds)
        if report.result == "divergence":
            return await self._step_aside(partition)
        await self._free(config, ledger.freed - {partition})
        return await self._control.now() if _goes_on(rule, report, seconds) else None

    async def erase(self) -> bool:
        """Delete for open requests to erase subjects, for one slice; see ``Runtime.erase``."""
        config = self._current()
        if self._host.stop.is_set() or not await self._permitted(config) or await self._watch.look():
            return False
        ledger, seconds = self._ledger(config), config.sweep.budget
        if not await lease(ledger, seconds):
            return False
        try:
            return await EraseRun(ledger, partial(self._erasing, config), time.monotonic() + seconds).run()
        finally:
            await lease(ledger, 0)

    @contextlib.asynccontextmanager
    async def _erasing(self, config: Config, provider: str, kind: str) -> AsyncIterator[SweepContext | None]:
        account = config.accounts.get(provider)
        if account is None or kind not in KINDS[account.type]:
            yield None
            return
        client = await self._client(config, account)
        async with self._working(), self._auditing(config, Partition(provider, kind, ERASURE)):
            yield self._context(config, client, self._ledger(config))

    def _context(self, config: Config, client: AccountClient, ledger: Ledger) -> SweepContext:
        return SweepContext(
            ledger,
            self._control,
            client.provider,
            client.throttle,
            config.sweep,
            self._host.stop,
            self._watch,
            config.rules,
            self._outbox,
        )

    @contextlib.asynccontextmanager
    async def _noting(self, ledger: Ledger, partition: Partition) -> AsyncIterator[None]:
        """Note why a sweep was cut short, or could not begin, if the registry takes it."""
        try:
            yield
        except Exception as error:
            with contextlib.suppress(RegistryError):
                now = await self._control.now()
                await failures.note(ledger, partition, "error", str(error) or repr(error), now)
            raise

    async def _free(self, config: Config, partitions: set[Partition]) -> None:
        """Note which partitions have to be swept at once: what they hold is used no more, and the next tick is far."""
        known = {rule.partition for rule in config.rules if rule.enforce and rule.orphan is None}
        if partitions & known:
            self.freed |= dict.fromkeys(partitions & known, await self._control.now())

    async def _step_aside(self, partition: Partition) -> int:
        """Leave a wake-up to a worker with the rules in force: the broker serves first who has waited longest."""
        rules = keys.partition(self._namespace, partition.provider, partition.kind, partition.policy) + keys.RULES
        await self._carrier.run([("HDEL", rules, "woken")])
        await asyncio.sleep(STEP_ASIDE)
        return await self._control.now()

    async def housekeep(self, sent: int | None = None) -> None:
        """Publish, move audit records, clean up; see ``Runtime.housekeep``."""
        config = self._current()
        if not await self._permitted(config):
            return
        await self._published.show(config)
        trouble = await self._watch.look()
        if self._outbox and not trouble:
            await replay(self._ledger(config), self._outbox, self._watch.epoch)
        self._spool.look()
        now = await self._control.now()
        slots = await self._published.begin(config, sent, now)
        if slots is None:
            return
        await self._control.copy_pauses()
        await self._control.tell_owed(slots)
        until = time.monotonic() + config.sweep.budget
        ledger = self._ledger(config)
        await retire(ledger, config.rules, slots)
        over, known = (now - round(age * 1000) for age in (config.sweep.tombstones, config.sweep.deleted_tombstones))
        if not trouble:
            providers = {*config.accounts, *(provider for provider, _ in slots)}
            await Misnamed(self._carrier, self._namespace).run(providers, until)
            await subjects.keep(ledger, slots, until)
            await creations.keep(ledger, slots, until)
            self.erasing = await Erasures(ledger, config.erasure, config.accounts, slots).keep(until)
        for provider, kind in slots:
            if self._host.stop.is_set() or time.monotonic() > until:
                return
            await self._move(config, provider, kind, halt=lambda: time.monotonic() > until)
            if trouble or await self._astray(provider, kind):
                continue  # a wrong clock must not end what "already gone" can be brought back by
            if await anything_ends(ledger, provider, kind, config.rules):
                await ledger.end_tombstones(provider, kind, over, known)
                if not _listable(config, provider, kind):
                    await end_unlistable(ledger, provider, kind, over)
                await ledger.release_edges(provider, kind)

    async def farewell(self) -> None:
        """Take this process' sign of life away, if the registry hears it: it ends, and is not missed."""
        with contextlib.suppress(RegistryError, TimeoutError):
            async with asyncio.timeout(FAREWELL):
                await self._carrier.run([("HDEL", keys.workers(self._namespace), self._worker)])

    async def aclose(self) -> None:
        """Close every connection."""
        for provider in [*self._retired, *(client.provider for client in self._clients.values())]:
            await provider.aclose()
        await self._carrier.aclose()
        if self._outbox:
            self._outbox.close()

    def _current(self) -> Config:
        config = self._host.current()
        self._watch.partitions = [rule.partition for rule in config.rules]
        self._carrier.allow(_connections(config))
        return config

    async def _permitted(self, config: Config) -> bool:
        """Return False while this Redis must not hold the registry; what CONFIG SET changes is seen within a minute."""
        fresh = time.monotonic() - self._looked > FACTS_LAST
        if fresh:
            self._facts = await preflight.look(self._carrier)
            if self._facts.error is None:  # else it is looked at again before anything is claimed
                said, info = config.registry.replicas, self._facts.info
                self._replicas = (await replication.settle(self._carrier, self._namespace, said, info),)
                self._looked = time.monotonic()
        refusal = preflight.refusal((*preflight.judge(self._facts, config), *self._replicas))
        if refusal:
            log.error("registry.refused", reason=refusal)
            await self._watch.halt(Trouble(HaltReason.REGISTRY_UNFIT, " ".join(refusal.split())))
        elif fresh:
            await self._watch.lift(HaltReason.REGISTRY_UNFIT, "this Redis may hold the registry again")
        return refusal is None

    async def _astray(self, provider: str, kind: str) -> bool:
        return any(halt.reason in EVERYWHERE for halt in await self._control.halts([(provider, kind)]))

    async def _wake(self, rule: Rule, sent: int | None) -> bool:
        # Every complete listing counts towards `seen`: an orphan rule does not run twice in one interval.
        apart = round(rule.every * 900) if rule.orphan else 0
        partition = rule.partition
        slot = keys.slot(self._namespace, partition.provider, partition.kind)
        when = "" if sent is None else sent
        idle = rule.digest if rule.enforce and not rule.orphan and not rule.formerly else ""
        call = Call(script("ledger/lua/wake"), slot, (partition.policy, when, apart, idle), int)
        answer = (await self._carrier.carry([call]))[0]
        if answer == ALL_DONE:
            log.info("sweep.finished", **Report(partition).as_log())
        elif not answer:
            log.debug("tick.needless", **named(partition))
        return bool(answer == WAKES)

    async def _client(self, config: Config, account: Account) -> AccountClient:
        """Return the client and the request budget of an account, made anew when the account has changed."""
        timeout = min(TIMEOUT, config.sweep.lease * 0.45)
        client = self._clients.get(account.name)
        if client is None or (client.account, client.timeout) != (account, timeout):
            if client is not None:
                self._retired.append(client.provider)
            provider = Provider(account, self._host.environ, timeout=timeout)
            client = AccountClient(account, timeout, provider, Throttle(self._carrier, self._namespace, account))
            self._clients[account.name] = client
        return client

    @contextlib.asynccontextmanager
    async def _working(self) -> AsyncIterator[None]:
        """Close clients that were replaced once nobody can be using them any more."""
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            while self._retired and not self._busy:
                await self._retired.pop().aclose()

    @contextlib.asynccontextmanager
    async def _auditing(self, config: Config, partition: Partition) -> AsyncIterator[None]:
        """Move a slot's audit records while a sweep writes them, and once more at its end."""
        over = asyncio.Event()

        async def follow() -> None:
            working = True
            while working and not over.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(over.wait(), AUDIT_EVERY)
                working = await self._move(config, partition.provider, partition.kind)

        moving = asyncio.create_task(follow())
        try:
            yield
        finally:
            over.set()
            await moving

    async def _move(self, config: Config, provider: str, kind: str, *, halt: Callable[[], bool] = bool) -> bool:
        try:
            seal = open_seal(config.audit.key_file)
            sink = open_sink(audit_file(config, self._host.environ))
            mover = Mover(self._carrier, self._namespace, sink, seal, config.audit.subjects)
            await mover.move(provider, kind, at_most=AUDIT_AT_ONCE, halt=halt)
        except (OSError, RegistryError, ConfigError) as error:
            about = {"provider": provider, "kind": kind, "sink": config.audit.sink}
            log.error("audit.failed", error=str(error), **about)
            return False
        return True

    def _ledger(self, config: Config) -> Ledger:
        return Ledger(
            self._carrier, self._namespace, self._worker, max_pending=config.audit.max_pending, host=self._host.name
        )


def outbox_of(host: Host) -> Outbox | None:
    """Return this process' outbox, None where nothing says in which folder."""
    folder = folder_of(host.config.sweep.outbox, host.environ)
    return Outbox(folder) if folder else None


def _connections(config: Config) -> int:
    """Return how many connections to the registry a process needs: one for each deletion in flight, and some more."""
    return max((account.concurrency for account in config.accounts.values()), default=0) + BESIDES


def _listable(config: Config, provider: str, kind: str) -> bool:
    """Return True unless it is known that no list shows this kind."""
    account = config.accounts.get(provider)
    known = KINDS[account.type].get(kind) if account else None
    return known is None or known.listable


def _goes_on(rule: Rule, report: Report, seconds: float) -> bool:
    """Return True if the partition has work that another slice could do at once.

    A run that ended long before its slice did was turned away (by Retry-After, a pace, a breaker): beat's next
    tick is early enough.
    """
    cut_short = report.result in {"budget_exhausted", "limited"} and report.seconds >= seconds / 2
    return report.more and cut_short and rule.orphan is None
