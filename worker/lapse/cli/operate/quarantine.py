"""``lapse quarantine``: the ids that no worker goes on with, and what an operator says to them."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import click

from lapse import moments
from lapse.cli import formatting, output
from lapse.cli.context import Invocation, RegistryAccess, confirmed, with_session
from lapse.cli.exit_codes import Code, Refused
from lapse.cli.inspect.reasons import HINT, not_found
from lapse.cli.options import ID, KIND, PAST, POLICY, REASON, confirm_option, json_option, wide_option
from lapse.cli.output import Column
from lapse.ledger.records import PartitionRecords, Seen
from lapse.registry import keys
from lapse.registry.codec import dump
from lapse.registry.commands import actor
from lapse.registry.model import Partition

COLUMNS = (
    Column("id"),
    Column("kind", 3),
    Column("policy", 2),
    Column("reason"),
    Column("attempts", 4, right=True),
    Column("since", 1),
)
BATCH = 500
PAGE = 500
SHOWN = 10  # ids before a question


@dataclass(frozen=True, slots=True)
class Change:
    """What is done with ids in quarantine, why, how that is said, and whether as JSON."""

    kind: str
    verb: str
    reason: str
    said: str
    as_json: bool


@click.group()
def quarantine() -> None:
    """See to the ids that no worker goes on with: answers that nobody knows, refusals, too many failures.

    Examples:
      lapse quarantine list
      lapse quarantine retry threads --all

    """


@quarantine.command("list", short_help="List it: why, and what to do about it.")
@click.argument("kind", type=KIND, required=False)
@click.option("--policy", type=POLICY, metavar="NAME", help="Only this policy's.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many at most.")
@wide_option
@with_session
@json_option
def list_(*, session: Invocation, kind: str | None, policy: str | None, limit: int, wide: bool, as_json: bool) -> None:
    """List what is in quarantine: why, what the provider answered, and what to do about it.

    Examples:
      lapse quarantine list
      lapse quarantine list threads --json

    """
    found = session.run(lambda access: _found(access, session, kind, policy, limit))
    if as_json:
        output.records(_described(session, at, seen) for at, seen in found)
        return
    rows = [
        (seen.id, at.kind, at.policy, str(seen.record.get("r")), str(seen.record.get("n", 0)), _since(seen))
        for at, seen in found
    ]
    output.table(COLUMNS, rows, empty="Nothing is in quarantine.", wide=wide)
    _say_details(session, found)


def _say_details(session: Invocation, found: Sequence[tuple[Partition, Seen]]) -> None:
    """Say each answer once, with the ids that met it and the config line that would recognise it."""
    by_detail: dict[str, list[str]] = {}
    for _at, seen in found:
        by_detail.setdefault(str(seen.record.get("m", "")).replace(seen.id, "ID"), []).append(seen.id)
    for detail, ids in by_detail.items():
        said, _, _ = detail.partition(HINT)
        output.note()
        output.note(f"{formatting.count(len(ids), 'id')}, {ids[0]} first: {said or 'no answer'}", output.STRONG)
        if line := not_found(detail):
            output.note(f"if that means gone, add below [providers.{session.provider}] and retry:", indent=2)
            output.note(f"  {line}", output.GOOD, indent=2)


@quarantine.command(short_help="Try ids again at once.")
@click.argument("kind", type=KIND)
@click.argument("ids", metavar="[ID]...", type=ID, nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All of this kind, or of --policy.")
@click.option("--policy", type=POLICY, metavar="NAME", help="With --all: only this policy's.")
@click.option("--reason", type=REASON, default="retried by hand", metavar="TEXT", help="Why; it stands in the audit.")
@with_session
@json_option
def retry(*, session: Invocation, kind: str, ids: Sequence[str], reason: str, as_json: bool, **which: Any) -> int:
    """Try ids again at once, with their failed attempts forgotten.

    Examples:
      lapse quarantine retry threads thread_abc
      lapse quarantine retry threads --all --reason "recogniser added"

    """
    chosen = _chosen(session, kind, ids, **which)
    return _changed(session, Change(kind, "retry", reason, "will be tried again", as_json), chosen)


@quarantine.command(short_help="Stop tracking ids in quarantine.")
@click.argument("kind", type=KIND)
@click.argument("ids", metavar="[ID]...", type=ID, nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All of this kind, or of --policy.")
@click.option("--policy", type=POLICY, metavar="NAME", help="With --all: only this policy's.")
@click.option("--reason", type=REASON, default="dropped by hand", metavar="TEXT", help="Why; it stands in the audit.")
@confirm_option
@with_session
@json_option
def drop(
    *,
    session: Invocation,
    kind: str,
    ids: Sequence[str],
    reason: str,
    confirm: str | None,
    as_json: bool,
    **which: Any,
) -> int:
    """Stop tracking ids in quarantine; what they name stays at the provider, and no record says so any more.

    Examples:
      lapse quarantine drop threads thread_abc --confirm=openai

    """
    chosen = _chosen(session, kind, ids, **which)
    if chosen:
        _plan(
            chosen, f"These {formatting.plural(kind)} would stay at the provider, and no record would say so any more:"
        )
        confirmed(session.provider, confirm, f"drop {formatting.count(len(chosen), 'id')}")
    return _changed(session, Change(kind, "drop", reason, "are no longer tracked", as_json), chosen)


@quarantine.command(short_help="Track again what was taken for already gone.")
@click.argument("kind", type=KIND)
@click.argument("ids", metavar="[ID]...", type=ID, nargs=-1)
@click.option("--since", type=PAST, metavar="TIME", help="All that were settled as already gone since then.")
@click.option("--reason", type=REASON, default="undone by hand", metavar="TEXT", help="Why; it stands in the audit.")
@click.option("-v", "--verbose", is_flag=True, help="List the ids.")
@confirm_option
@with_session
@json_option
def undo(
    *,
    session: Invocation,
    kind: str,
    ids: Sequence[str],
    since: datetime | None,
    reason: str,
    verbose: bool,
    confirm: str | None,
    as_json: bool,
) -> int:
    """Track again what was settled as already gone, as after a wrong key or project; it is due as it was before.

    It says how many came to what; with -v each id with it, and with --json all of them.

    Examples:
      lapse quarantine undo threads thread_abc --confirm=openai
      lapse quarantine undo threads --since 2h --confirm=openai

    """
    if bool(ids) == bool(since):
        raise click.UsageError("say which: some ids, or --since TIME")
    chosen = list(dict.fromkeys(ids)) or session.run(lambda access: _buried(access, session, kind, since))
    settled = session.run(lambda access: _settled(access, session, kind, chosen))
    if settled:
        several = formatting.count(len(settled), kind, formatting.plural(kind))
        _plan(settled if verbose else (), f"{several} would be tracked again, and deleted when due.")
        if other := len(set(chosen) - set(settled)):
            output.note(f"{formatting.count(other, 'id')} given: not settled as already gone.", output.WARN)
        confirmed(session.provider, confirm, f"track {formatting.count(len(settled), 'id')} again")
    return _undone(session, Change(kind, "undo", reason, "are back", as_json), chosen, verbose=verbose)


_GROUPS = {
    "tracked": "tracked again, and due as before",
    "touched": "tracked again, with the time at which they were touched since",
    "held": "tracked again, and held",
    "forgotten": "left out: forgotten since",
    "registered": "as they are: registered anew since",
}
"""What undo comes to for an id that was settled as already gone, as ``quarantine.lua`` calls it."""


def _undone(session: Invocation, change: Change, ids: Sequence[str], *, verbose: bool) -> int:
    said = session.run(lambda access: _say(access, session.provider, change, ids))
    groups: dict[str, list[str]] = {what: [] for what in _GROUPS}
    for what, _, id_ in (one.partition("|") for one in said):
        groups[what].append(id_)
    back = [id_ for what in ("tracked", "touched", "held") for id_ in groups[what]]
    missed = sorted(set(ids) - {id_ for group in groups.values() for id_ in group})
    if change.as_json:
        _tell(session, change, back, missed, outcomes=groups)
    for what, text in _GROUPS.items() if not change.as_json else ():
        if groups[what]:
            output.say(f"{len(groups[what]):,} {text}")
        for id_ in groups[what] if verbose else ():
            output.say(id_, indent=2)
    output.note(f"{len(back):,} of {formatting.count(len(ids), 'id')} are tracked again.")
    if missed:
        raise Refused(Code.PARTIAL, f"{', '.join(missed[:10])}: not settled as already gone")
    return Code.OK


def _chosen(session: Invocation, kind: str, ids: Sequence[str], policy: str | None, *, everything: bool) -> list[str]:
    if bool(ids) == everything:
        raise click.UsageError("say which: some ids, or --all")
    if not everything:
        return list(ids)
    return [seen.id for _at, seen in session.run(lambda access: _found(access, session, kind, policy, None))]


def _plan(ids: Sequence[str], what: str) -> None:
    output.note(what, output.STRONG)
    for id_ in ids[:SHOWN]:
        output.note(id_, indent=2)
    if more := len(ids[SHOWN:]):
        output.note(f"... and {more:,} more", output.DIM, indent=2)


def _changed(session: Invocation, change: Change, ids: Sequence[str]) -> int:
    done = session.run(lambda access: _say(access, session.provider, change, ids))
    missed = sorted(set(ids) - set(done))
    _tell(session, change, done, missed)
    output.note(f"{len(done):,} of {formatting.count(len(ids), 'id')} {change.said}.")
    if missed:
        raise Refused(Code.PARTIAL, f"{', '.join(missed[:10])}: not in quarantine")
    return Code.OK


def _tell(session: Invocation, change: Change, ids: Sequence[str], missed: Sequence[str], **more: Any) -> None:
    if change.as_json:
        at = {"provider": session.provider, "kind": change.kind, "done": change.verb}
        output.document({**at, "ids": ids, "missed": missed, **more})
        return
    for id_ in ids:
        output.say(id_)


async def _say(access: RegistryAccess, provider: str, change: Change, ids: Sequence[str]) -> list[str]:
    kind, verb, reason = change.kind, change.verb, change.reason
    done: list[str] = []
    for start in range(0, len(ids), BATCH):
        batch = ids[start : start + BATCH]
        call = access.commands.on_slot(
            "ledger/lua/quarantine", provider, kind, verb, dump(actor()), dump(reason), *batch, parse=_texts
        )
        done += (await access.carrier.carry([call]))[0]
    if verb == "drop":
        await access.ledger.release_edges(provider, kind)
    return done


def _texts(reply: Iterable[bytes]) -> list[str]:
    return [text.decode() for text in reply]


async def _found(
    access: RegistryAccess, session: Invocation, kind: str | None, policy: str | None, limit: int | None
) -> list[tuple[Partition, Seen]]:
    """Return what is in quarantine at one provider, policy by policy, oldest first."""
    found: list[tuple[Partition, Seen]] = []
    for provider, name in await session.slots(access):
        if provider != session.provider or kind not in {None, name}:
            continue
        slot = keys.slot(session.namespace, provider, name)
        (policies,) = await access.carrier.run([("SMEMBERS", slot + keys.POLICIES)])
        for at in (Partition(provider, name, known) for known in sorted(_texts(policies)) if policy in {None, known}):
            found += [(at, seen) for seen in await _all(access, session, at, limit)]
    return found[:limit]


async def _all(access: RegistryAccess, session: Invocation, at: Partition, limit: int | None) -> list[Seen]:
    found: list[Seen] = []
    after: str | None = None
    records = PartitionRecords(access.ledger, at, session.config.rules)
    while limit is None or len(found) < limit:
        got = await records.page(state="quarantined", limit=PAGE, after=after)
        found, after = [*found, *got.seen], got.after
        if after is None:
            break
    return found


async def _buried(access: RegistryAccess, session: Invocation, kind: str, since: datetime | None) -> list[str]:
    """Return the ids settled as already gone since a time."""
    slot = keys.slot(session.namespace, session.provider, kind)
    start = round(since.timestamp() * 1000) if since else 0
    (settled,) = await access.carrier.run([("ZRANGE", slot + keys.TOMBSTONES, start, "+inf", "BYSCORE")])
    return await _settled(access, session, kind, _texts(settled))


async def _settled(access: RegistryAccess, session: Invocation, kind: str, ids: Sequence[str]) -> list[str]:
    """Return those of some ids that were settled as already gone."""
    if not ids:
        return []
    slot = keys.slot(session.namespace, session.provider, kind)
    (graves,) = await access.carrier.run([("HMGET", slot + keys.GRAVES, *ids)])
    return [id_ for id_, grave in zip(ids, graves, strict=True) if grave]


def _since(seen: Seen) -> str:
    since = seen.record.get("d")
    if since is not None and output.on_terminal():
        return moments.told(since, seen.now)
    return formatting.iso(since) or "-"


def _described(session: Invocation, at: Partition, seen: Seen) -> dict[str, Any]:
    detail = str(seen.record.get("m", ""))
    line = not_found(detail)
    return {
        **asdict(at),
        "id": seen.id,
        "reason": seen.record.get("r"),
        "since": formatting.iso(seen.record.get("d")),
        "attempts": seen.record.get("n", 0),
        "crashes": seen.record.get("x", 0),
        "detail": detail,
        "config": {"table": f"providers.{session.provider}", "line": line} if line else None,
        "retry": f"lapse quarantine retry {formatting.plural(at.kind)} {seen.id}",
    }
