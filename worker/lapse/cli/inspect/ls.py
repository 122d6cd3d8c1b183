"""``lapse ls``: the ids of a kind, a page at a time."""

from collections.abc import Iterator
from typing import Any

import click
from rich.text import Text

from lapse import moments
from lapse.cli import formatting, output
from lapse.cli.context import Invocation, RegistryAccess, with_session
from lapse.cli.exit_codes import Code, Refused
from lapse.cli.options import KIND, json_option
from lapse.cli.output import Column
from lapse.ledger.records import STATES, PartitionRecords, Seen, due_first
from lapse.registry import keys
from lapse.registry.model import Partition

COLUMNS = (
    Column("id"),
    Column("policy", 1),
    Column("state"),
    Column("due", 0),
    Column("by", 3),
    Column("last active", 2),
    Column("created", 4),
)
STYLES = {"held": output.GOOD, "quarantined": output.BAD, "waiting": output.WARN, "claimed": output.WARN}


@click.command()
@click.argument("kind", type=KIND)
@click.option("--policy", metavar="NAME", help="Only this policy's; also one that the policy file does not know.")
@click.option("--state", type=click.Choice(STATES), help="Only these.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many at most.")
@click.option("--after", metavar="CURSOR", help="Go on where the page before ended.")
@with_session
@json_option
def ls(
    *,
    session: Invocation,
    kind: str,
    policy: str | None,
    state: str | None,
    limit: int,
    after: str | None,
    as_json: bool,
) -> None:
    """List the ids of a kind: where each stands, and when it is due by the policy file.

    With --json one object a line. Elsewhere than on a terminal the columns stand between tabs, the id first.

    Examples:
      lapse ls conversations
      lapse ls threads --state held
      lapse ls threads --policy chat --state due --limit 10
      lapse ls conversations --json

    """
    slot = (session.provider, kind)
    rules = [rule for rule in session.config.rules if (rule.partition.provider, rule.partition.kind) == slot]

    async def read(access: RegistryAccess) -> tuple[list[Seen], str | None]:
        if state == "due":
            mine = [rule for rule in rules if policy in {None, rule.partition.policy}]
            return [one for rule in mine for one in await due_first(access.ledger, rule, limit)][:limit], None
        names = [policy] if policy else await _policies(access, *slot)
        first, _, cursor = (after or "").partition("/")
        if after and first not in names:
            raise Refused(Code.USAGE, f"--after {after}: give what the page before ended with")
        found: list[Seen] = []
        for name in names[names.index(first) :] if after else names:
            here = PartitionRecords(access.ledger, Partition(*slot, name), rules)
            got = await here.page(state=state, limit=limit - len(found), after=cursor or None)
            found, cursor = [*found, *got.seen], ""
            if got.after:
                return found, f"{name}/{got.after}"
        return found, None

    found, following = session.run(read)
    if as_json:
        output.records(_described(one, kind) for one in found)
    else:
        output.table(COLUMNS, _rows(found), empty=_nothing(kind, state, session.provider))
    if following:
        output.note(f"There may be more: --after {following}", output.DIM)


async def _policies(access: RegistryAccess, provider: str, kind: str) -> list[str]:
    """Return every policy name that was ever used here, by workers or applications."""
    (names,) = await access.carrier.run(
        [("SMEMBERS", keys.slot(access.ledger.namespace, provider, kind) + keys.POLICIES)]
    )
    return sorted(name.decode() for name in names)


def _rows(found: list[Seen]) -> Iterator[tuple[str | Text, ...]]:
    for one in found:
        yield (
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


def _described(one: Seen, kind: str) -> dict[str, Any]:
    return {
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
    }


def _nothing(kind: str, state: str | None, provider: str) -> str:
    return f"No {formatting.plural(kind)}{' ' + state if state else ''} at {provider}."
