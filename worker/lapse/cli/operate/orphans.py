"""``lapse orphans``: what nothing uses, as far as that can be said yet."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import Any

import click

from lapse import durations, moments
from lapse.cli import formatting, output
from lapse.cli.context import Invocation, RegistryAccess, confirmed, one_provider, with_session
from lapse.cli.exit_codes import Code, Refused
from lapse.cli.inprocess import checked_plan, perform
from lapse.cli.operate.missing import missing
from lapse.cli.options import KIND, POLICY, confirm_option, json_option, wide_option
from lapse.cli.output import Column
from lapse.ledger.reasons import HaltReason
from lapse.ledger.records import scanned
from lapse.policy import Orphan, Rule
from lapse.registry import keys
from lapse.sweep.deletion.ownership import OURS

INTERVAL_MS = 900  # milliseconds for each second of the rule's interval, as workers count it
CANDIDATES = (
    Column("id"),
    Column("seen", right=True),
    Column("age", 1, right=True),
    Column("name", 2),
    Column("why", 3),
    Column("policy", 4),
)
MEANS = {
    "ripe": "to be deleted",
    "candidate": "unused, and not yet seen so on enough listings in a row",
    "young": "younger than min_age",
    "unaddressable": "listed under an id that no request can name, such as a URL: left alone for ever",
    "undated": "without a time of creation: left alone for ever",
    "kept": "matched by a keep rule",
    "foreign": "neither registered here nor with this registry's stamp: left alone for ever",
    "forgotten": "forgotten, and not registered since: left alone",
    "other_namespace": "with the stamp of another registry: left alone for ever",
    "old_epoch": "with the stamp of this registry before it was begun anew: left alone unless registered",
    HaltReason.OLDER_THAN_REGISTRY: "unused, created before this registry began: left until lapse approve says so",
    "copied": "with the stamp of another object, copied with its metadata: left alone unless registered",
    "no_nonce": "with a stamp that anything may have been copied from: left alone unless registered",
    "referenced": "used by something live",
    "held": "held",
    "settled": "deleted lately, and still listed",
    "other_policy": "under another policy",
    "own_expiry": "with an expiry of its own",
    "claimed": "being deleted now",
    "quarantined": "in quarantine",
}


@click.command()
@click.option("--policy", type=POLICY, metavar="NAME", help="Only this policy.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Candidates to show.")
@click.option("--missing", "kind", type=KIND, metavar="KIND", help="Registered ids that the list does not show.")
@click.option("--run", is_flag=True, help="List the provider now, and delete what is an orphan by then.")
@confirm_option
@wide_option
@with_session
@json_option
def orphans(
    *,
    session: Invocation,
    policy: str | None,
    limit: int,
    kind: str | None,
    run: bool,
    confirm: str | None,
    wide: bool,
    as_json: bool,
) -> int:
    """Show orphan candidates, and what cannot be decided yet; with --run, look for orphans now.

    With --missing KIND the other way round: what is registered, and a complete list does not show. It stays registered.
    A run by hand counts as one complete listing, and only once in the interval in which workers look.

    Examples:
      lapse orphans
      lapse orphans --policy idle-assistants --json
      lapse orphans --missing vector_stores
      lapse orphans --run --confirm=openai

    """
    if kind:
        return missing(session, kind, limit, as_json=as_json)
    rules = [rule for rule in session.rules(policy=policy) if rule.orphan]
    if not rules:
        which = f" in policy {policy}" if policy else ""
        raise Refused(
            Code.USAGE,
            f'{session.config.path} has no orphan rule{which}: give a policy orphan = {{ min_age = "30d", seen = 3 }}',
        )
    if run:
        return _run_orphans(session, rules, confirm, as_json=as_json)
    found = session.run(lambda access: _looked(access, session, rules, limit))
    if as_json:
        output.document(found)
    for one in found if not as_json else ():
        _show_orphans(one, wide=wide)
    return Code.OK


def _show_orphans(one: dict[str, Any], *, wide: bool) -> None:
    output.note(f"{one['partition']} ({one['mode']}): {one['says']}", output.STRONG)
    for what, number in sorted(one["counts"].items()):
        output.note(f"{number:,} {MEANS.get(what, what)}", indent=2)
    for obstacle in one["undecided"]:
        output.note(obstacle, output.WARN, indent=2)
    rows = [
        (
            c["id"],
            f"{c['times']} of {one['wanted']}",
            durations.show(c["age"]),
            c["name"] or "",
            c["reason"],
            one["policy"],
        )
        for c in one["candidates"]
    ]
    output.table(CANDIDATES, rows, empty="No candidates.", wide=wide)


async def _looked(
    access: RegistryAccess, session: Invocation, rules: Sequence[Rule], limit: int
) -> list[dict[str, Any]]:
    return [await _candidates(access, session, rule, rule.orphan, limit) for rule in rules if rule.orphan]


async def _candidates(
    access: RegistryAccess, session: Invocation, rule: Rule, orphan: Orphan, limit: int
) -> dict[str, Any]:
    at = rule.partition
    slot = keys.slot(session.namespace, at.provider, at.kind)
    fields = ("orphans", "listed", "listed_at", "ripens", "undecided", "undecided_at")
    values, number, began = await access.carrier.run(
        [
            ("HMGET", session.key_of(at, keys.RULES), *fields),
            ("HGET", slot + keys.LISTING, f"run|{at.policy}"),
            ("HGET", keys.epoch(session.namespace), "created"),
        ]
    )
    noted = {name: value.decode() for name, value in zip(fields, values, strict=True) if value}
    now = await access.control.now()
    ready = round(int(began or now) + orphan.min_age * 1000)
    last = Last(now, int(noted.get("listed_at", 0)), ready, rule.every, orphan.seen)
    first = await _most_seen(access, session.key_of(at, keys.SIGHTINGS), int(number or 0), limit)
    return {
        "partition": str(at),
        "policy": at.policy,
        "mode": "enforcing" if rule.enforce else "observing",
        "says": last.says(noted.get("listed")),
        "wanted": orphan.seen,
        "counts": json.loads(noted.get("orphans", "{}")),
        "undecided": list(last.obstacles(noted)),
        "candidates": [_candidate(last, id_, one) for id_, one in first],
    }


@dataclass(frozen=True, slots=True)
class Last:
    """When things were, and will be: registry milliseconds; ``every`` in seconds.

    ``ready``: when the registry is as old as an orphan has to be. ``wanted``: listings in a row.
    """

    now: int
    listed_at: int
    ready: int
    every: float
    wanted: int

    def says(self, listed: str | None) -> str:
        """Say what the last complete listing was."""
        if not self.listed_at:
            return "no complete listing yet, so nothing can be decided"
        return f"{int(listed or 0):,} listed {self.distance(self.listed_at)}"

    def decided(self, times: int) -> int:
        """Return when something seen so many times in a row can be deleted at the earliest."""
        missing = max(1, self.wanted - times)
        return max(self.ready, self.listed_at + round(missing * self.every * 1000))

    def obstacles(self, noted: Mapping[str, str]) -> Iterator[str]:
        """Say why nothing, or not everything, can be decided now, and until when."""
        if why := noted.get("undecided"):
            yield f"the last listing, {self.distance(int(noted['undecided_at']))}, decided nothing: {why}"
        if self.ready > self.now:
            yield f"the registry is younger than min_age: deletions begin {self.distance(self.ready)}"
        if ripens := json.loads(noted.get("ripens", "[]")):
            first, last = ripens
            if last <= self.now:
                yield "those younger than min_age are old enough by now: the next listing counts them"
            else:
                since = f"since {self.distance(first)}" if first <= self.now else self.distance(first)
                yield f"of those younger than min_age the first is old enough {since}, the last {self.distance(last)}"

    def distance(self, at: float) -> str:
        """Say how far away a time is."""
        return moments.told(at, self.now)


async def _most_seen(access: RegistryAccess, key: str, number: int, limit: int) -> list[tuple[str, dict[str, Any]]]:
    """Return the candidates of the last listing, those seen most often first."""
    best = list[tuple[str, dict[str, Any]]]()
    async for id_, text in scanned(access.carrier, "HSCAN", key):
        one = json.loads(text)
        # Not what the last listing did not show again, nor what was settled and is listed still.
        if one["run"] == number and one["times"]:
            best.append((id_, one))
        if len(best) > 2 * limit:
            best = nsmallest(limit, best, _turn)
    return nsmallest(limit, best, _turn)


def _turn(sighting: tuple[str, dict[str, Any]]) -> tuple[int, str]:
    return -int(sighting[1]["times"]), sighting[0]


def _candidate(last: Last, id_: str, one: dict[str, Any]) -> dict[str, Any]:
    missing = max(0, last.wanted - int(one["times"]))
    waits = f"{formatting.count(missing, 'listing')} more, {last.distance(last.decided(one['times']))} at the earliest"
    if not missing:
        waits = "its deletion" if last.ready <= last.now else f"the registry's age, {last.distance(last.ready)}"
    return {
        "id": id_,
        "name": one.get("n"),
        "age": max(1.0, last.now / 1000 - one["c"]),
        "times": int(one["times"]),
        "first": formatting.iso(one["first"]),
        "reason": f"used by nothing; {waits}",
        "ours_by": "registration" if not one.get("q") else "stamp" if one["m"] == OURS else "an earlier registration",
        "decided_at": formatting.iso(last.decided(one["times"])),
    }


def _run_orphans(session: Invocation, rules: Sequence[Rule], given: str | None, *, as_json: bool) -> int:
    name = one_provider(rules)

    async def ahead(access: RegistryAccess) -> list[dict[str, Any]]:
        await checked_plan(access, session, rules)
        return await _looked(access, session, rules, 10_000)

    doomed = 0
    for one, rule in zip(session.run(ahead), rules, strict=True):
        ready = [c for c in one["candidates"] if c["times"] >= one["wanted"] - 1]
        doomed += len(ready) if rule.enforce else 0
        output.note(f"{one['partition']} ({one['mode']}): {one['says']}", output.STRONG)
        output.note(f"{formatting.count(len(ready), 'candidate')} could be deleted after one more listing", indent=2)
        for candidate in ready[:10]:
            output.note(candidate["id"], indent=4)
    if any(rule.enforce for rule in rules):
        confirmed(name, given, f"list what is there and delete up to {formatting.count(doomed, 'orphan')}")
    session.run(lambda access: _wake(access, session, rules))
    return perform(session, rules, doomed, as_json=as_json)


async def _wake(access: RegistryAccess, session: Invocation, rules: Sequence[Rule]) -> None:
    """Mark the run, unless the interval has had its own: every complete listing counts towards ``seen``."""
    now = await access.control.now()
    for rule in rules:
        key = session.key_of(rule.partition, keys.RULES)
        (woken,) = await access.carrier.run([("HGET", key, "woken")])
        if woken and now - int(woken) < rule.every * INTERVAL_MS:
            every = durations.show(rule.every)
            raise Refused(
                Code.LIMITED, f"{rule.partition} was looked at within the last {every}: one look in that time counts"
            )
        await access.ledger.note(rule.partition, woken=now)
