"""``lapse sweep`` and ``orphans``: a worker's job done once, by hand, in this process."""

import asyncio
import contextlib
import json
import signal
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any

import click

from lapse import durations, keys, log, preflight
from lapse.cli import output, wording
from lapse.cli.arguments import KIND, config_option, confirm_option, json_option, provider_option
from lapse.cli.codes import Code, Refused
from lapse.cli.output import Column
from lapse.cli.planning import Planned, plan_of, show
from lapse.cli.session import Hands, Session, confirmed
from lapse.flow import Flow
from lapse.model import from_millis
from lapse.orphans import collect_orphans
from lapse.policy import Rule
from lapse.providers import TIMEOUT, Provider
from lapse.run import Means, Report
from lapse.scripts import Call, script
from lapse.sweep import sweep as sweep_partition

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


@click.command()
@click.argument("kind", type=KIND, required=False)
@click.option("--policy", metavar="NAME", help="Only this policy.")
@confirm_option
@provider_option
@config_option
@json_option
def sweep(
    *,
    kind: str | None,
    policy: str | None,
    confirm: str | None,
    provider: str | None,
    config: str | None,
    as_json: bool,
) -> int:
    r"""Sweep now, in this process: show the plan, ask, and delete what is due by every rule, guard and limit.

    Policies that observe are counted and not touched. Orphans have a command of their own.

    \b
    Examples:
      lapse sweep
      lapse sweep threads --policy chat --confirm=openai
    """
    session = Session(config, provider)
    rules = [rule for rule in session.rules(kind, policy) if rule.orphan is None]
    if not rules:
        raise Refused(Code.USAGE, "these are orphan rules: lapse orphans --run")
    name = _one_provider(rules)
    planned = session.run(lambda hands: _checked_plan(hands, session, rules))
    for one in planned:
        show(session, one, output.note)
    doomed = sum(one.view.due for one in planned if one.rule.enforce and not one.view.halts and not one.view.paused)
    if doomed:
        confirmed(name, confirm, f"delete up to {wording.count(doomed, 'object')} at {name}")
    return _perform(session, rules, doomed, as_json=as_json)


def _perform(session: Session, rules: Sequence[Rule], doomed: int, *, as_json: bool) -> int:
    log.configure("ERROR")
    preflight.start(session.url, session.config)
    with output.progress("sweeping", doomed) as advance:

        async def work(hands: Hands) -> list[Report]:
            await hands.control.epoch()
            async with _means(hands, session, rules[0].partition.provider) as means, _watched(hands, rules, advance):
                return [await _until_done(means, rule) for rule in rules]

        reports = session.run(work)
    return _told(reports, as_json=as_json)


async def _until_done(means: Means, rule: Rule) -> Report:
    """Sweep until nothing is due, or something other than the time ends it."""
    total: Report | None = None
    while total is None or (total.more and total.result == "budget_exhausted"):
        report = await (collect_orphans if rule.orphan else sweep_partition)(means, rule)
        if total is not None:
            report.outcomes.update(total.outcomes)
            report.seconds += total.seconds
        total = report
    return total


@contextlib.asynccontextmanager
async def _means(hands: Hands, session: Session, name: str) -> AsyncIterator[Means]:
    """Make what a sweep works with; the first Ctrl-C or TERM ends it in good order."""
    config, stop = session.config, threading.Event()
    account = config.accounts[name]
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with Provider(account, session.environ, timeout=min(TIMEOUT, config.sweep.lease * 0.45)) as provider:
        flow = Flow(hands.carrier, session.namespace, account)
        yield Means(hands.ledger, hands.control, provider, flow, config.sweep, stop)


@contextlib.asynccontextmanager
async def _watched(hands: Hands, rules: Sequence[Rule], advance: output.Advance) -> AsyncIterator[None]:
    """Move the bar by the registry's own counters while a sweep runs."""
    before = await _settled(hands, rules)

    async def watch() -> None:
        while True:
            await asyncio.sleep(SHOW_EVERY)
            advance(await _settled(hands, rules) - before)

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


async def _settled(hands: Hands, rules: Sequence[Rule]) -> int:
    fields = [
        (keys.slot(hands.ledger.namespace, rule.partition.provider, rule.partition.kind), rule.partition.policy)
        for rule in rules
    ]
    commands = [
        ("HMGET", slot + keys.COUNTERS, *(f"settled|{policy}|{outcome}" for outcome in sorted(DONE)))
        for slot, policy in fields
    ]
    return sum(int(n or 0) for reply in await hands.carrier.run(list(commands)) for n in reply)


async def _checked_plan(hands: Hands, session: Session, rules: Sequence[Rule]) -> list[Planned]:
    planned = await plan_of(hands, session, rules, 3)
    for one in planned:
        await _refuse_other_rules(hands, session, one)
    return planned


async def _refuse_other_rules(hands: Hands, session: Session, one: Planned) -> None:
    """Refuse to put a file's rules in force by hand where workers use others: they would halt.

    Raises:
        Refused: this file is older than the rules in force, or workers are about to take it up by themselves.

    """
    rule = one.rule
    if one.digest in {"", rule.digest}:
        return
    ((superseded,),) = await hands.carrier.run([("HMGET", session.key_of(rule.partition, keys.RULES), "superseded")])
    if superseded and rule.digest in superseded.decode():
        raise Refused(Code.USAGE, f"{session.config.path} is older than the rules in force for {rule.partition}")
    beat = (await hands.control.published()).get("beat")
    if beat and await hands.control.now() - int(beat) < WORKERS_LIVE * 1000:
        raise Refused(
            Code.USAGE,
            f"workers use other rules for {rule.partition} than {session.config.path}: wait until they have taken it"
            " up, or use their file",
        )


def _told(reports: Sequence[Report], *, as_json: bool) -> int:
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


def _one_provider(rules: Sequence[Rule]) -> str:
    names = sorted({rule.partition.provider for rule in rules})
    if len(names) > 1:
        raise Refused(Code.USAGE, f"which provider? Give --provider, one of {', '.join(names)}")
    return names[0]


CANDIDATES = (Column("id"), Column("seen", right=True), Column("first seen"), Column("policy", 1))
MEANS = {
    "ripe": "to be deleted",
    "candidate": "unused, and not yet seen so on enough listings in a row",
    "young": "younger than min_age",
    "kept": "matched by a keep rule",
    "foreign": "neither registered here nor with this registry's stamp: left alone for ever",
    "referenced": "used by something live",
    "held": "held",
    "settled": "deleted lately, and still listed",
    "other_policy": "under another policy",
    "own_expiry": "with an expiry of its own",
    "claimed": "being deleted now",
    "quarantined": "in quarantine",
}


@click.command()
@click.option("--policy", metavar="NAME", help="Only this policy.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Candidates to show.")
@click.option("--run", is_flag=True, help="List the provider now, and delete what is an orphan by then.")
@confirm_option
@provider_option
@config_option
@json_option
def orphans(*, policy: str | None, limit: int, run: bool, confirm: str | None, **given: Any) -> int:  # noqa: ANN401 - click's
    r"""Show orphan candidates, and what cannot be decided yet; with --run, look for orphans now.

    A run by hand counts as one complete listing, and only once in the interval in which workers look.

    \b
    Examples:
      lapse orphans
      lapse orphans --policy idle-assistants --json
      lapse orphans --run --confirm=openai
    """
    session = Session(given["config"], given["provider"])
    rules = [rule for rule in session.rules(policy=policy) if rule.orphan]
    if not rules:
        raise Refused(Code.USAGE, f"{session.config.path} has no orphan rule like that")
    if run:
        return _run_orphans(session, rules, confirm, as_json=given["as_json"])
    found = session.run(lambda hands: _looked(hands, session, rules, limit))
    if given["as_json"]:
        output.document(found)
        return Code.OK
    for one in found:
        _show_orphans(one)
    return Code.OK


def _show_orphans(one: dict[str, Any]) -> None:
    output.note(f"{one['partition']} ({one['mode']}): {one['says']}", output.STRONG)
    for what, number in sorted(one["counts"].items()):
        output.note(f"{number:,} {MEANS.get(what, what)}", indent=2)
    rows = [(c["id"], f"{c['times']} of {one['wanted']}", c["first"], one["policy"]) for c in one["candidates"]]
    output.table(CANDIDATES, rows, empty="No candidates.")


async def _looked(hands: Hands, session: Session, rules: Sequence[Rule], limit: int) -> list[dict[str, Any]]:
    return [await _candidates(hands, session, rule, limit) for rule in rules]


async def _candidates(hands: Hands, session: Session, rule: Rule, limit: int) -> dict[str, Any]:
    at, wanted = rule.partition, rule.orphan.seen if rule.orphan else 0
    slot = keys.slot(session.namespace, at.provider, at.kind)
    (counts, listed, listed_at), number, flat = await hands.carrier.run(
        [
            ("HMGET", session.key_of(at, keys.RULES), "orphans", "listed", "listed_at"),
            ("HGET", slot + keys.LISTING, f"run|{at.policy}"),
            ("HGETALL", session.key_of(at, keys.SIGHTINGS)),
        ]
    )
    # What the last run did not see again is no candidate any more.
    sighted = [(id_.decode(), json.loads(one)) for id_, one in zip(flat[::2], flat[1::2], strict=True)]
    current = [(id_, one) for id_, one in sighted if one["run"] == int(number or 0)]
    now = await hands.control.now()
    says = "no complete listing yet, so nothing can be decided"
    if listed_at:
        says = f"{int(listed):,} listed {wording.distance((int(listed_at) - now) / 1000)}"
    return {
        "partition": str(at),
        "policy": at.policy,
        "mode": "enforcing" if rule.enforce else "observing",
        "says": says,
        "wanted": wanted,
        "counts": json.loads(counts or "{}"),
        "candidates": [_candidate(id_, one) for id_, one in sorted(current, key=_most_seen)[:limit]],
    }


def _most_seen(sighting: tuple[str, dict[str, Any]]) -> tuple[int, str]:
    return -int(sighting[1]["times"]), sighting[0]


def _candidate(id_: str, one: dict[str, Any]) -> dict[str, Any]:
    first = from_millis(one["first"])
    return {"id": id_, "times": int(one["times"]), "first": first.isoformat(timespec="seconds") if first else ""}


def _run_orphans(session: Session, rules: Sequence[Rule], given: str | None, *, as_json: bool) -> int:
    name = _one_provider(rules)

    async def ahead(hands: Hands) -> list[dict[str, Any]]:
        await _checked_plan(hands, session, rules)
        return await _looked(hands, session, rules, 10_000)

    doomed = 0
    for one, rule in zip(session.run(ahead), rules, strict=True):
        ready = [c for c in one["candidates"] if c["times"] >= one["wanted"] - 1]
        doomed += len(ready) if rule.enforce else 0
        output.note(f"{one['partition']} ({one['mode']}): {one['says']}", output.STRONG)
        output.note(f"{wording.count(len(ready), 'candidate')} could be deleted after one more listing", indent=2)
        for candidate in ready[:10]:
            output.note(candidate["id"], indent=4)
    if any(rule.enforce for rule in rules):
        confirmed(name, given, f"list {name} and delete up to {wording.count(doomed, 'orphan')}")
    session.run(lambda hands: _wake(hands, session, rules))
    return _perform(session, rules, doomed, as_json=as_json)


async def _wake(hands: Hands, session: Session, rules: Sequence[Rule]) -> None:
    """Mark the run, unless the interval has had its own: every complete listing counts towards ``seen``."""
    for rule in rules:
        at = rule.partition
        slot = keys.slot(session.namespace, at.provider, at.kind)
        apart = round(rule.every * 900)
        call = Call(script("wake"), slot, (at.policy, await hands.control.now(), apart), list)
        ((go, _now, _digest),) = await hands.carrier.carry([call])
        if not go:
            raise Refused(
                Code.LIMITED,
                f"{at} was looked at within the last {durations.show(rule.every)}: one look in that time counts",
            )
