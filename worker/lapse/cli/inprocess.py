"""A worker's job done once in this process: what ``lapse sweep`` and ``lapse orphans --run`` have in common."""

import asyncio
import contextlib
import signal
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

from lapse import log
from lapse.cli import output
from lapse.cli.context import Invocation, RegistryAccess
from lapse.cli.exit_codes import Code, Refused
from lapse.cli.inspect.plan import Planned, plan_of
from lapse.cli.progress import progress
from lapse.errors import ConfigError, RegistryError
from lapse.guards.context import SweepContext
from lapse.guards.integrity import preflight, replication
from lapse.guards.integrity.continuity import Known
from lapse.guards.integrity.monitor import Watch
from lapse.ledger.outbox import Outbox, folder_of
from lapse.ledger.reasons import HaltReason
from lapse.policy import Rule
from lapse.providers.provider import TIMEOUT, Provider
from lapse.providers.throttle import Throttle
from lapse.registry import keys
from lapse.registry.model import Partition
from lapse.sweep.orphans import collect_orphans
from lapse.sweep.report import Report
from lapse.sweep.sweep import sweep

WORKERS_LIVE = 300.0
"""Seconds since beat's last tick within which workers will sweep by themselves."""
SHOW_EVERY = 0.25

RESULTS = {
    "stopped": Code.INTERRUPTED,
    "halted": Code.HALTED,
    "paused": Code.HALTED,
    "refused": Code.USAGE,
    "divergence": Code.USAGE,
    "breaker": Code.TEMPORARY,
    "unproven": Code.PARTIAL,
    "undecided": Code.PARTIAL,
    "limited": Code.LIMITED,
    "budget_exhausted": Code.LIMITED,
}
WORST_FIRST = (Code.INTERRUPTED, Code.HALTED, Code.TEMPORARY, Code.PARTIAL, Code.USAGE, Code.LIMITED, Code.OK)
DONE = {"deleted", "already_gone", "kept", "conflict"}


def perform(session: Invocation, rules: Sequence[Rule], doomed: int, *, as_json: bool) -> int:
    """Sweep these partitions, say what came of it, and return the exit code.

    Args:
        session: This call's.
        rules: What to sweep, all of one provider.
        doomed: How much is to be deleted, for the bar.
        as_json: Print one JSON object for each partition.

    Raises:
        ConfigError: this Redis must not hold a registry.

    """
    log.configure("ERROR")
    preflight.start(session.endpoint, session.config)
    with progress("sweeping", doomed, quiet=as_json) as advance:

        async def work(access: RegistryAccess) -> list[Report]:
            async with (
                context_of(access, session, rules[0].partition.provider) as context,
                watched(access, rules, advance),
            ):
                return [await _until_done(context, rule) for rule in rules]

        reports = session.run(work)
    return told(reports, as_json=as_json)


async def _until_done(context: SweepContext, rule: Rule) -> Report:
    """Sweep until nothing is due, or something other than the time ends it."""
    total: Report | None = None
    while total is None or (total.more and total.result == "budget_exhausted"):
        report = await (collect_orphans if rule.orphan else sweep)(context, rule)
        if total is not None:
            report.outcomes.update(total.outcomes)
            report.seconds += total.seconds
        total = report
    return total


@contextlib.asynccontextmanager
async def context_of(
    access: RegistryAccess, session: Invocation, name: str, known: Known | None = None
) -> AsyncIterator[SweepContext]:
    """Make what a sweep works with; the first Ctrl-C or TERM ends it in good order.

    ``known``: what was seen of the registry when this was decided; None: what the host remembers, if anything.

    Raises:
        ConfigError: fewer replicas are connected than have to have a claim.

    """
    config, stop = session.config, threading.Event()
    info = (await preflight.look(access.carrier)).info
    replicas = await replication.settle(access.carrier, session.namespace, config.registry.replicas, info)
    if reason := preflight.refusal([replicas]):
        raise ConfigError(reason)
    account = config.accounts[name]
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with Provider(account, session.environ, timeout=min(TIMEOUT, config.sweep.lease * 0.45)) as provider:
        throttle = Throttle(access.carrier, session.namespace, account)
        folder = folder_of(config.sweep.outbox, session.environ)
        box = Outbox(folder) if folder else None
        everything = [rule.partition for rule in config.rules]
        watch = Watch(access.carrier, session.namespace, everything, known=known or session.known)
        yield SweepContext(
            access.ledger, access.control, provider, throttle, config.sweep, stop, watch, config.rules, box
        )


@contextlib.asynccontextmanager
async def watched(access: RegistryAccess, rules: Sequence[Rule], advance: Callable[[int], None]) -> AsyncIterator[None]:
    """Move the bar by the registry's own counters while a sweep runs."""
    before, over = await _settled(access, rules), asyncio.Event()

    async def watch() -> None:
        # Told, not cancelled: asyncio.wait_for below redis-py may take a cancellation for a reply that just came.
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), SHOW_EVERY)
            with contextlib.suppress(RegistryError):  # a bar that stands still ends no sweep
                advance(await _settled(access, rules) - before)

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        over.set()
        await watching


async def _settled(access: RegistryAccess, rules: Sequence[Rule]) -> int:
    asked = []
    for at in (rule.partition for rule in rules):
        counters = keys.slot(access.ledger.namespace, at.provider, at.kind) + keys.COUNTERS
        asked.append(("HMGET", counters, *(f"settled|{at.policy}|{outcome}" for outcome in sorted(DONE))))
    return sum(int(n or 0) for reply in await access.carrier.run(asked) for n in reply)


async def checked_plan(access: RegistryAccess, session: Invocation, rules: Sequence[Rule]) -> list[Planned]:
    """Return the plan of each rule.

    Raises:
        Refused: a policy of this file must not be put in force by hand.

    """
    for rule in rules:
        await refuse_other_rules(access, session, rule)
    return await plan_of(access, session, rules, 3)


async def refuse_other_rules(access: RegistryAccess, session: Invocation, rule: Rule) -> None:
    """Refuse to put a file's rules in force by hand where workers use others: they would halt.

    What stands under a name that the policy was formerly called stands under the rules that workers use for that name.

    Raises:
        Refused: this file is older than the rules in force, or workers are about to take it up by themselves.

    """
    for name in (rule.partition.policy, *rule.formerly):
        at = replace(rule.partition, policy=name)
        digest, superseded, put_back = await _in_force(access, session, at, rule.digest)
        if digest == rule.digest:
            continue
        if superseded and not put_back:
            if at != rule.partition:
                continue  # another file took the old name back since: no sweep by this one touches what stands there
            raise Refused(Code.USAGE, _older(session, at))
        if digest:
            await _refuse_beside_workers(access, session, at)


async def _in_force(access: RegistryAccess, session: Invocation, at: Partition, digest: str) -> tuple[str, bool, bool]:
    """Return the digest in force, and whether another one was superseded, and may come back: as ``adopt.lua`` decides.

    A worker may go back to what it swept with before, too. Each command is a worker of its own, which never did.
    """
    halts = keys.slot(session.namespace, at.provider, at.kind) + keys.HALTS
    known, waiting = await access.carrier.run(
        [
            ("HMGET", session.key_of(at, keys.RULES), "digest", "superseded", "acted"),
            ("HEXISTS", halts, f"{at.policy}|{HaltReason.CUTOFF_JUMPED}"),
        ]
    )
    current, superseded, acted = (value.decode() if value else "" for value in known)
    return current, digest in superseded, bool(waiting) and acted == digest


def _older(session: Invocation, at: Partition) -> str:
    return (
        f"{session.config.path} is older than the rules in force for {at}: use the file that has those; to go back to"
        " this one, put it where a running worker reads its own, or start a worker with it and answer its halt: lapse"
        f" resume {at} --reason TEXT --confirm={at.provider}"
    )


async def _refuse_beside_workers(access: RegistryAccess, session: Invocation, at: Partition) -> None:
    beat = (await access.control.published()).get("beat")
    if beat and await access.control.now() - int(beat) < WORKERS_LIVE * 1000:
        raise Refused(
            Code.USAGE,
            f"workers use other rules for {at} than {session.config.path}: wait until they have taken it up, or use"
            " their file",
        )


def told(reports: Sequence[Report], *, as_json: bool) -> int:
    """Print what each partition came to, and return the exit code of the worst."""
    if as_json:
        output.records(report.as_log() for report in reports)
    for report in reports if not as_json else ():
        outcomes = ", ".join(f"{n:,} {outcome}" for outcome, n in sorted(report.outcomes.items()) if n)
        detail = f" ({report.detail})" if report.detail else ""
        output.say(f"{report.partition}: {report.result}{detail}: {outcomes or 'nothing settled'}")
    codes = {RESULTS.get(report.result, Code.OK) for report in reports}
    if any(n and outcome not in DONE for report in reports for outcome, n in report.outcomes.items()):
        codes.add(Code.PARTIAL)
    return next(code for code in WORST_FIRST if code in codes | {Code.OK})
