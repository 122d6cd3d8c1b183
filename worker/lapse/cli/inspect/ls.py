"""``lapse ls``: the ids of a kind, a page at a time."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import click
from rich.text import Text

from lapse import moments
from lapse.audit.subjects import SubjectsShown
from lapse.cli import formatting, output
from lapse.cli.context import Invocation, RegistryAccess, with_session
from lapse.cli.exit_codes import Code, Refused
from lapse.cli.options import KIND, POLICY, json_option, label, subject_option, this_call, wide_option
from lapse.cli.output import Column
from lapse.ledger.records import STATES, PartitionRecords, Seen, due_first, look
from lapse.registry import keys
from lapse.registry.codec import subjects_of
from lapse.registry.model import Partition, Resource, SubjectPage

COLUMNS = (
    Column("id"),
    Column("policy", 1),
    Column("state"),
    Column("due", 0),
    Column("by", 3),
    Column("last active", 2),
    Column("created", 4),
)
SUBJECT_COLUMNS = (COLUMNS[0], Column("provider", 2), Column("kind"), *COLUMNS[1:])
SORTED, READ = 10_000, 500
"""Ids that are read to list them in the order in which they are due, and how many at once."""
TURN, NEVER = "due:", "never"
STYLES = {"held": output.GOOD, "quarantined": output.BAD, "waiting": output.WARN, "claimed": output.WARN}


@click.command()
@click.argument("kind", type=KIND, required=False)
@subject_option
@click.option(
    "--policy", type=POLICY, metavar="NAME", help="Only this policy's; also one that the policy file does not know."
)
@click.option("--state", type=click.Choice(STATES), help="Only these.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Only with this label; every id is read.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many at most.")
@click.option("--after", metavar="CURSOR", help="Go on where the page before ended.")
@wide_option
@with_session
@json_option
def ls(
    *,
    session: Invocation,
    kind: str | None,
    subject: str | None,
    policy: str | None,
    state: str | None,
    labels: tuple[str, ...],
    limit: int,
    after: str | None,
    wide: bool,
    as_json: bool,
) -> None:
    """List the ids of a kind: where each stands, and when it is due by the policy file.

    The soonest due is first, up to 10,000 ids; of more, a page has the order of the registry, and says so.
    Where there are more, the command for the next page stands on stderr. With --json one object a line. Elsewhere than
    on a terminal the columns stand between tabs, the id first.
    With --subject, all that is registered as a subject's, at every provider; it says nothing of contents.

    Examples:
      lapse ls conversations
      lapse ls threads --state held
      lapse ls threads --policy chat --state due --limit 10
      lapse ls conversations --label plan=free
      lapse ls conversations --json
      lapse ls --subject user:42

    """
    if subject is not None:
        if kind or policy or state or labels:
            raise click.UsageError(
                "--subject lists all that is a subject's: leave KIND, --policy, --state, --label out"
            )
        _of_subject(session, subject, Page(limit, after), as_json=as_json, wide=wide)
        return
    if kind is None:
        raise click.UsageError("say what: lapse ls KIND, or lapse ls --subject NAME")
    wanted = Wanted((session.provider, kind), policy, state, dict(map(label, labels)), limit)
    listed = session.run(lambda access: _listed(access, session, wanted, after or ""))
    found = listed.seen
    if as_json:
        shown = session.subjects_shown
        output.records(_described(one, session.provider, kind, shown) for one in found)
    else:
        output.table(COLUMNS, map(_row, found), empty=_nothing(kind, state, session.provider), wide=wide)
    if labels:
        output.note("--label has no index: every id was read to find these.", output.DIM)
    for text in _further(listed):
        output.note(text, output.DIM)


@dataclass(frozen=True, slots=True)
class Page:
    """How many ids of a subject are listed at most, and where the page before ended."""

    limit: int
    after: str | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which ids of a (provider, kind) are listed, and how many at most."""

    slot: tuple[str, str]
    policy: str | None
    state: str | None
    labels: Mapping[str, str]
    limit: int


@dataclass(frozen=True, slots=True)
class IdsListed:
    """A page: its ids, where the next ones begin if there are any, and whether the soonest due is first of all."""

    seen: list[Seen]
    after: str | None = None
    cut: bool = False
    in_order: bool = True


def _further(listed: IdsListed) -> Iterator[str]:
    """Say what a page leaves out, and in which order it is if not in that of due times."""
    if not listed.in_order:
        yield f"More than {SORTED:,} ids: not in the order in which they are due. --state due has that order."
    if listed.cut:
        yield "More are due: --limit shows more of them, and lapse plan -o FILE writes all."
    if listed.after:
        yield "There may be more:"
        yield f"  {this_call(after=listed.after)}"


async def _listed(access: RegistryAccess, session: Invocation, wanted: Wanted, after: str) -> IdsListed:
    rules = [one for one in session.config.rules if (one.partition.provider, one.partition.kind) == wanted.slot]
    if wanted.state == "due":
        mine = [rule for rule in rules if wanted.policy in {None, rule.partition.policy}]
        most = None if wanted.labels else wanted.limit + 1
        due = [one for rule in mine for one in await due_first(access.ledger, rule, most) if one.has(wanted.labels)]
        return IdsListed(sorted(due, key=_turn)[: wanted.limit], cut=len(due) > wanted.limit)
    names = await _policies(access, *wanted.slot)
    if wanted.policy:
        known = sorted({*names, *(name for rule in rules for name in (rule.partition.policy, *rule.formerly))})
        if wanted.policy not in known:
            at = f"{formatting.plural(wanted.slot[1])} at {wanted.slot[0]}"
            raise Refused(Code.USAGE, f"no policy {wanted.policy} has {at}: there is {', '.join(known) or 'none'}")
        names = [wanted.policy]
    places = {name: PartitionRecords(access.ledger, Partition(*wanted.slot, name), rules) for name in names}
    if after.startswith(TURN):
        return await _soonest(places.values(), wanted, _read_turn(after))
    if not after and sum([await one.size(wanted.state) for one in places.values()]) <= SORTED:
        return await _soonest(places.values(), wanted, None)
    return await _as_stored(places, wanted, after)


Turn = tuple[bool, int, str]
"""Where an id stands in the order of due times: what nothing makes due comes last."""


def _turn(one: Seen) -> Turn:
    return (one.due is None, one.due or 0, one.id)


def _read_turn(after: str) -> Turn:
    due, _, id_ = after.removeprefix(TURN).partition("/")
    if not id_ or not (due == NEVER or due.isdecimal()):
        raise _no_cursor(after)
    return (due == NEVER, 0 if due == NEVER else int(due), id_)


def _no_cursor(after: str) -> Refused:
    return Refused(Code.USAGE, f"--after {after}: give what the page before ended with")


async def _soonest(places: Iterable[PartitionRecords], wanted: Wanted, after: Turn | None) -> IdsListed:
    """Read every id, and return those that are due soonest of what comes after a turn."""
    found: dict[str, Seen] = {}
    for here in places:
        cursor: str | None = None
        while True:
            got = await here.page(state=wanted.state, limit=READ, after=cursor, labels=wanted.labels)
            found |= {one.id: one for one in got.seen}
            if (cursor := got.after) is None:
                break
    rest = sorted((one for one in found.values() if after is None or _turn(one) > after), key=_turn)
    page = rest[: wanted.limit]
    if len(rest) == len(page):
        return IdsListed(page)
    last = page[-1]
    return IdsListed(page, f"{TURN}{NEVER if last.due is None else last.due}/{last.id}")


async def _as_stored(places: Mapping[str, PartitionRecords], wanted: Wanted, after: str) -> IdsListed:
    """Return a page in the order of the registry: nothing but the page is read."""
    first, _, cursor = after.partition("/")
    names = list(places)
    if after and first not in names:
        raise _no_cursor(after)
    found: list[Seen] = []
    for name in names[names.index(first) :] if after else names:
        left = wanted.limit - len(found)
        got = await places[name].page(state=wanted.state, limit=left, after=cursor or None, labels=wanted.labels)
        found, cursor = [*found, *got.seen], ""
        if got.after:
            return IdsListed(found, f"{name}/{got.after}", in_order=False)
    return IdsListed(found, in_order=False)


async def _policies(access: RegistryAccess, provider: str, kind: str) -> list[str]:
    """Return every policy name that was ever used here, by workers or applications."""
    (names,) = await access.carrier.run(
        [("SMEMBERS", keys.slot(access.ledger.namespace, provider, kind) + keys.POLICIES)]
    )
    return keys.policies_named(names)


def _of_subject(session: Invocation, subject: str, asked: Page, *, as_json: bool, wide: bool) -> None:
    page = session.registry_of(None).resources(subject=subject, limit=asked.limit, after=asked.after)
    rules = session.config.rules if session.configured else []

    async def read(access: RegistryAccess) -> list[tuple[Resource, Seen]]:
        found: list[tuple[Resource, Seen]] = []
        for (provider, kind), records in groupby(page.records, lambda one: (one.resource.provider, one.resource.kind)):
            named = [one.resource for one in records]
            seen = await look(access.ledger, provider, kind, [one.id for one in named], rules)
            found += [(at, one) for at, one in zip(named, seen, strict=True) if one.tracked]
        return found

    found = session.run(read)
    if as_json:
        shown = session.subjects_shown
        output.records(_described(one, at.provider, at.kind, shown) for at, one in found)
    elif found:
        rows = ((*_row(one)[:1], at.provider, at.kind, *_row(one)[1:]) for at, one in found)
        output.table(SUBJECT_COLUMNS, rows, empty="", wide=wide)
    for text, style in of_subject(page, subject, this_call(after=page.after or "")):
        output.note(text, style)


def of_subject(page: SubjectPage, subject: str, further: str) -> Iterator[tuple[str, str]]:
    """Say what a page of a subject's ids leaves out; ``further``: the command that shows the rest."""
    if not page.records:
        yield f"Nothing is registered under {subject}.", ""
    if page.after:
        yield "There are more:", output.DIM
        yield f"  {further}", output.DIM
    if not page.whole:
        yield "Workers are still looking for ids that an older version registered: there may be more.", output.WARN


def _row(one: Seen) -> tuple[str | Text, ...]:
    return (
        one.id,
        str(one.record["p"]),
        Text(one.state, style=STYLES.get(one.state, "")),
        _due(one),
        one.by,
        _when(one, one.active),
        _when(one, one.created),
    )


def _due(one: Seen) -> str | Text:
    if one.due is None:
        return "never" if one.by == "unmanaged" else "when unused"
    return Text(_when(one, one.due), style=output.WARN if one.due <= one.now else "")


def _when(one: Seen, millis: int | None) -> str:
    """Return a time as who reads it wants it: a person how far away, a program when."""
    if millis is None or not output.on_terminal():
        return formatting.iso(millis) or "-"
    return moments.told(millis, one.now)


def _described(one: Seen, provider: str, kind: str, shown: SubjectsShown) -> dict[str, Any]:
    return {
        "provider": provider,
        "kind": kind,
        "id": one.id,
        "policy": one.record["p"],
        "state": one.state,
        "due": formatting.iso(one.due),
        "governed_by": one.by,
        "last_active_at": formatting.iso(one.active or None),
        "created_at": formatting.iso(one.created or None),
        "attempts": one.record.get("n", 0),
        "reason": one.record.get("r"),
        "subjects": shown.told(subjects_of(one.facts)),
    }


def _nothing(kind: str, state: str | None, provider: str) -> str:
    return f"No {formatting.plural(kind)}{' ' + state if state else ''} at {provider}."
