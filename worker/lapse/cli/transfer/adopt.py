"""``lapse adopt KIND``: what a provider lists and nobody registered comes under a policy."""

from collections import Counter

import click

from lapse import log
from lapse.cli import formatting, output
from lapse.cli.context import Invocation, RegistryAccess, confirmed, one_provider, with_session
from lapse.cli.exit_codes import Code, Refused
from lapse.cli.inprocess import context_of
from lapse.cli.operate.purge import say_where
from lapse.cli.operate.remedies import CONFIRM
from lapse.cli.options import KIND, POLICY, confirm_option, json_option
from lapse.cli.progress import progress
from lapse.cli.transfer.adopting import Unregistered, due_now, look
from lapse.cli.transfer.adopting import adopt as track
from lapse.cli.transfer.backfill import Standing
from lapse.guards.integrity import preflight
from lapse.policy import Rule
from lapse.sweep.purge import Incomplete

MEANS = {
    "known": "registered already",
    "forgotten": "forgotten, or dropped from quarantine",
    "settled": "deleted or gone, as this registry knows, and listed still",
    "held": "held",
    "foreign": "with the stamp of another registry, of this one before it was begun anew, or of another object",
    "other_policy": "with this registry's stamp, for another policy",
    "undated": "without a time of creation",
    "unaddressable": "listed under an id that no request can name",
    "unstamped": "without a stamp that says whose they are: --unstamped takes them too",
}


@click.command()
@click.argument("kind", type=KIND)
@click.option("--policy", type=POLICY, required=True, metavar="NAME", help="The policy to track them under.")
@click.option("--unstamped", is_flag=True, help="Take what carries no stamp too: you say that it is yours.")
@click.option("--limit", type=click.IntRange(0, 1_000_000), default=50, show_default=True, help="Names to print.")
@confirm_option
@with_session
@json_option
def adopt(
    *,
    session: Invocation,
    kind: str,
    policy: str,
    unstamped: bool,
    limit: int,
    confirm: str | None,
    as_json: bool,
) -> int:
    """Track what a provider lists and nobody registered, as old as the list says it is.

    It shows first what that would be, and what is left out. What is adopted and due counts as newly due: more than
    max_newly_due halts the policy until you approve.

    Examples:
      lapse adopt assistants --policy idle-assistants --confirm=openai
      lapse adopt assistants --policy idle-assistants --unstamped --confirm=openai

    """
    rules = session.rules(kind, policy)
    name = one_provider(rules)
    (rule,) = rules
    log.configure("ERROR")
    preflight.start(session.endpoint, session.config)
    found = session.run(lambda access: _looked(access, session, rule, unstamped=unstamped))
    _announce(session, rule, found, limit)
    if not found.chosen:
        return _told(rule, found, Counter(), "", as_json=as_json)
    what = f"track {formatting.count(len(found.chosen), kind, formatting.plural(kind))} under {policy}"
    confirmed(name, confirm, what)
    with progress("adopting", len(found.chosen), quiet=as_json) as advance:
        standings, plan = session.run(lambda access: track(access, rule, found, advance))
    return _told(rule, found, standings, plan, as_json=as_json)


async def _looked(access: RegistryAccess, session: Invocation, rule: Rule, *, unstamped: bool) -> Unregistered:
    at = rule.partition
    async with context_of(access, session, at.provider) as context:
        kind = context.provider.kinds.get(at.kind)
        if kind is None or not kind.listable:
            several = formatting.plural(at.kind)
            raise Refused(Code.USAGE, f"{at.provider} cannot list {several}: lapse import takes them from a table")
        if trouble := await context.watch.look():
            raise Refused(Code.HALTED, f"the registry is not the one that is known: {trouble.reason}: {trouble.detail}")
        if (await access.ledger.survey(rule)).place not in {None, context.provider.place}:
            raise Refused(Code.HALTED, f"what is registered for {at} is at another account than this list: use its key")
        try:
            return await look(context, rule, unstamped=unstamped)
        except Incomplete as error:
            raise Refused(Code.TEMPORARY, str(error)) from None


def _announce(session: Invocation, rule: Rule, found: Unregistered, limit: int) -> None:
    at = rule.partition
    several = formatting.count(len(found.chosen), at.kind, formatting.plural(at.kind))
    output.note(
        f"{several} at {at.provider} to track under {at.policy}, {due_now(found, rule):,} due now:", output.STRONG
    )
    if bare := sum(one.id in found.unstamped for one in found.chosen):
        output.note(
            f"{bare:,} of them without a stamp: nothing but you says that they are yours", output.WARN, indent=2
        )
    if not rule.enforce:
        output.note(f'{at.policy} observes: none is deleted until it says mode = "enforce"', output.DIM, indent=2)
    for one in found.chosen[:limit]:
        named = f"{one.id}  {formatting.iso(one.created)}  {found.names.get(one.id, '')}"
        output.note(output.one_line(named.rstrip()), indent=4)
    if len(found.chosen) > limit:
        output.note(f"... and {len(found.chosen) - limit:,} more (--limit)", output.DIM, indent=4)
    for why, text in MEANS.items():
        if number := found.left[why]:
            output.note(f"left out: {number:,} {text}", indent=2)
    say_where(session, at.provider, found.identity)


def _told(rule: Rule, found: Unregistered, standings: Counter[str], plan: str, *, as_json: bool) -> int:
    adopted = standings[Standing.NEW]
    left = {why: number for why, number in found.left.items() if number}
    if as_json:
        output.document({"adopted": adopted, "due_now": due_now(found, rule), "left_out": left, "plan": plan or None})
    else:
        output.say(f"{adopted:,} adopted; {sum(left.values()):,} left out")
    if late := standings.total() - adopted:
        output.note(f"{formatting.count(late, 'id')} came to be known meanwhile, and stayed as they were")
    if plan:
        output.note(f"More are due at once than max_newly_due allows: lapse approve {plan} {CONFIRM}", output.WARN)
    return Code.OK
