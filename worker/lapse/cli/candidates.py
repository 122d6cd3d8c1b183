"""``lapse orphans``: what nothing uses, as far as that can be said yet."""

import json
from collections.abc import Sequence
from typing import Any

import click

from lapse import durations, keys
from lapse.cli import output, wording
from lapse.cli.arguments import config_option, confirm_option, json_option, provider_option
from lapse.cli.codes import Code, Refused
from lapse.cli.output import Column
from lapse.cli.performing import checked_plan, perform
from lapse.cli.session import Hands, Session, confirmed, one_provider
from lapse.model import from_millis
from lapse.policy import Rule

INTERVAL_MS = 900  # milliseconds for each second of the rule's interval, as workers count it
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
    """Show orphan candidates, and what cannot be decided yet; with --run, look for orphans now.

    A run by hand counts as one complete listing, and only once in the interval in which workers look.

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
    name = one_provider(rules)

    async def ahead(hands: Hands) -> list[dict[str, Any]]:
        await checked_plan(hands, session, rules)
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
        confirmed(name, given, f"list what is there and delete up to {wording.count(doomed, 'orphan')}")
    session.run(lambda hands: _wake(hands, session, rules))
    return perform(session, rules, doomed, as_json=as_json)


async def _wake(hands: Hands, session: Session, rules: Sequence[Rule]) -> None:
    """Mark the run, unless the interval has had its own: every complete listing counts towards ``seen``."""
    now = await hands.control.now()
    for rule in rules:
        key = session.key_of(rule.partition, keys.RULES)
        (woken,) = await hands.carrier.run([("HGET", key, "woken")])
        if woken and now - int(woken) < rule.every * INTERVAL_MS:
            every = durations.show(rule.every)
            raise Refused(
                Code.LIMITED, f"{rule.partition} was looked at within the last {every}: one look in that time counts"
            )
        await hands.ledger.note(rule.partition, woken=now)
