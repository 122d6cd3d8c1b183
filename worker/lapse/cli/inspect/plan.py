"""``lapse plan`` and ``approve``: what would be deleted, and saying yes to it."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click

from lapse import moments
from lapse.cli import formatting, output
from lapse.cli.context import Invocation, RegistryAccess, confirmed, one_provider, with_session
from lapse.cli.exit_codes import Code, Refused
from lapse.cli.inspect.costs import given_up
from lapse.cli.inspect.planfile import write
from lapse.cli.inspect.reasons import stopping
from lapse.cli.inspect.watching import watch_option, watched
from lapse.cli.operate.approve import accept, anew, recount
from lapse.cli.operate.remedies import remedy, told
from lapse.cli.options import KIND, NEW_FILE, PLAN, POLICY, REASON, config_option, confirm_option, json_option
from lapse.cli.output import Tell
from lapse.guards import enforcement
from lapse.guards.edits import newly_due
from lapse.guards.enforcement import Stand
from lapse.guards.preexisting import APPROVED, older, scope
from lapse.ledger.claim import RAMP_FIRST, RAMP_STEPS
from lapse.ledger.halts import Halt
from lapse.ledger.reasons import HaltReason
from lapse.ledger.records import Seen, due_first, scanned
from lapse.metrics.views import PartitionView
from lapse.policy import Rule
from lapse.registry import keys
from lapse.registry.model import Partition


@dataclass(frozen=True, slots=True)
class Planned:
    """What the next enforced sweep of one partition would do.

    Attributes:
        rule: The policy file's rule.
        view: The partition as it stands.
        first: The ids that are due, oldest first, as far as they were asked for.
        stand: What the guards would say; None while workers use other rules than this file's.
        digest: The rules that workers use; empty before the first sweep.
        ramping: True if only a part of what is due would go at first.

    """

    rule: Rule
    view: PartitionView
    first: list[Seen]
    stand: Stand | None
    digest: str
    ramping: bool


@click.command()
@click.argument("kind", type=KIND, required=False)
@click.option("--policy", type=POLICY, metavar="NAME", help="Only this policy.")
@click.option("--limit", type=click.IntRange(0, 1000), default=5, show_default=True, help="Ids to show of each policy.")
@click.option("-o", "--out", type=NEW_FILE, metavar="FILE", help="Write the exact plan, for apply.")
@watch_option
@with_session
@json_option
def plan(
    *,
    session: Invocation,
    kind: str | None,
    policy: str | None,
    limit: int,
    out: Path | None,
    watch: float | None,
    as_json: bool,
) -> None:
    """Show what the next enforced sweep would delete, oldest first; nothing is changed or sent.

    What is due follows from the policy file as it is now, in mode observe too. With -o the whole plan is written to a
    file, as JSON Lines, packed if its name ends in .gz: each id in its order, when and by what it is due, then what
    may go along with these by `cascade`, as far as their `uses` name it, and the rules, the account and the registry it
    is made for. `lapse apply FILE` deletes those and no others. Orphans are in no plan: listings decide about them.

    Examples:
      lapse plan
      lapse plan conversations --limit 20
      lapse plan --policy chat --json
      lapse plan -o plan.json
      lapse plan threads --watch

    """

    def look(current: Invocation) -> list[Planned]:
        rules = current.rules(kind, policy)
        if out:
            one_provider(rules)
        planned = current.run(lambda access: plan_of(access, current, rules, limit))
        if as_json:
            output.document([_described(current, one) for one in planned])
        for one in planned if not as_json else ():
            show(current, one)
        return planned

    if out is None:
        watched(session, watch, look, apart=not as_json)
    elif watch is not None:
        raise click.UsageError("-o writes one plan: leave --watch out")
    else:
        write(session, session.rules(kind, policy), out, sum(one.view.due for one in look(session)), quiet=as_json)


async def plan_of(access: RegistryAccess, session: Invocation, rules: Sequence[Rule], limit: int) -> list[Planned]:
    """Return what the next enforced sweep of each rule would do."""
    views = {view.partition: view for view in session.view.partitions(rules, session.config.accounts)}
    return [await _planned(access, session, rule, views[rule.partition], limit) for rule in rules]


def show(session: Invocation, one: Planned, tell: Tell = output.say) -> None:
    """Tell a plan: what would go, and what would stand in its way."""
    name, view, rule = str(one.rule.partition), one.view, one.rule
    mode = "enforcing" if rule.enforce else "observing"
    if rule.orphan and not view.due:
        tell(f"{name} ({mode}): {_orphans(view)}", output.STRONG)
    elif not view.due:
        tell(f"{name} ({mode}): nothing of {view.registered:,} is due", output.STRONG)
    else:
        effort = formatting.effort(rule, session.config.accounts[rule.partition.provider], view)
        tell(f"{name} ({mode}): {view.due:,} of {view.registered:,} due; {effort}", output.STRONG)
    for seen in one.first:
        due = moments.told(seen.due, seen.now) if seen.due is not None else "as nothing uses it"
        tell(f"{seen.id}  due {due} ({seen.by})", indent=2)
    if view.due and (children := formatting.going(rule)):
        tell(f"their {children} that are ours and that nothing else uses go along", indent=2)
    if view.due > len(one.first) > 0:
        tell(f"... and {view.due - len(one.first):,} more", output.DIM, indent=2)
    for text in _obstacles(one):
        # What begins with a space is to be copied.
        tell(text, output.STRONG if text.startswith(" ") else output.WARN, indent=2)


def _orphans(view: PartitionView) -> str:
    found = ", ".join(f"{n:,} {what}" for what, n in sorted(view.orphans.items()))
    return f"orphans at the last listing: {found}" if found else "no complete listing yet"


def _obstacles(one: Planned) -> list[str]:
    view, rule, said = one.view, one.rule, list[str]()
    if not rule.enforce and view.due:
        said.append('nothing is deleted while the policy observes; mode = "enforce" in the policy file changes that')
    if view.paused:
        said.append("paused: nothing is deleted")
    for halt in stopping(view):
        said += [f"halted: {halt.reason}: {halt.detail}", *told(halt)]
    if one.stand and one.stand.halt and not stopping(view):
        said.append(f"enforced, it would halt first ({one.stand.halt}): {one.stand.detail}")
    if one.stand is None:
        said.append("workers have not taken this version of the policy up yet, so what guards would say is not known")
    if one.ramping and view.due > RAMP_FIRST:
        said.append(f"a first enforcement deletes {RAMP_FIRST}, then a tenth, then all")
    if rule.max_deletions and view.due > rule.max_deletions.amount:
        said.append(f"at a pace of {formatting.pace(rule)}")
    return said


async def _planned(access: RegistryAccess, session: Invocation, rule: Rule, view: PartitionView, limit: int) -> Planned:
    stored = [("HMGET", session.key_of(rule.partition, keys.RULES), "digest", "ramp_step")]
    ((digest, step),) = await access.carrier.run(list(stored))
    known = digest is not None and digest.decode() == rule.digest
    place = session.config.accounts[rule.partition.provider].place
    survey = await newly_due.look(access.ledger, rule, await access.ledger.survey(rule)) if known else None
    stand = enforcement.stand(replace(rule, enforce=True), survey, place) if survey else None
    first = await due_first(access.ledger, rule, limit) if limit else []
    ramping = session.config.sweep.ramp is not None and int(step or 0) < RAMP_STEPS
    return Planned(rule, view, first, stand, digest.decode() if digest else "", ramping)


def _described(session: Invocation, one: Planned) -> dict[str, Any]:
    at, due = one.rule.partition, one.view.due
    account = session.config.accounts[at.provider]
    rate, needed = account.rate, formatting.requests(one.rule, account, one.view)
    return {
        **asdict(at),
        "mode": "enforce" if one.rule.enforce else "observe",
        "registered": one.view.registered,
        "due": due,
        "requests": needed,
        "seconds_at_rate": needed / rate if rate else None,
        "first": [{"id": seen.id, "due": (seen.due or 0) / 1000, "governed_by": seen.by} for seen in one.first],
        "obstacles": [text.strip() for text in _obstacles(one)],
    }


@click.command()
@click.argument("hash_", metavar="HASH", type=PLAN)
@click.option("--reason", type=REASON, metavar="TEXT", default="approved", help="Why; it stands in the audit.")
@confirm_option
@config_option
@json_option
def approve(*, hash_: str, reason: str, confirm: str | None, config: str | None, as_json: bool) -> int:
    """Answer a halt that carries a plan: what it names may be deleted, at the policy's own pace.

    `lapse status` shows HASH, and before it the answer that loses nothing. It says how many ids it gives up, and has to
    be confirmed. A plan whose policy was changed since is not approved: the next sweep makes a new one.

    Examples:
      lapse approve 3f2a91c0d4e5 --confirm=openai

    """
    session = Invocation(config)
    return session.run(lambda access: _approve(access, session, hash_, Yes(reason, confirm, as_json)))


@dataclass(frozen=True, slots=True)
class Yes:
    """Why a plan is approved, the provider it was confirmed for, if it was, and whether the answer is JSON."""

    reason: str
    provider: str | None
    as_json: bool


async def _approve(access: RegistryAccess, session: Invocation, wanted: str, said: Yes) -> int:
    halts = [halt for halt in await access.control.halts(await session.slots(access)) if halt.plan]
    halt = next((halt for halt in halts if halt.plan == wanted), None)
    if halt is None:
        there = ", ".join(str(halt.plan) for halt in halts)
        known = f"there is {there}" if there else "no policy waits for an approval"
        raise Refused(Code.USAGE, f"no halt carries the plan {wanted}: {known}")
    partition = Partition(halt.provider, halt.kind, halt.policy)
    rule = session.rule_for(partition)
    if rule is None:
        raise Refused(Code.USAGE, f"{session.config.path} has no policy for {partition}: use the workers' file")
    await _still_the_same(access, session, rule, halt)
    count = await recount(access, rule, halt) if halt.reason == HaltReason.CUTOFF_JUMPED else None
    ids = await given_up(access, session, halt)
    await _name_elders(access, session, halt)
    what = f"give up {formatting.count(ids, 'id')}: {remedy(halt.reason).gives_up}"
    confirmed(halt.provider, said.provider, what)
    if halt.reason == HaltReason.OLDER_THAN_REGISTRY:
        await access.ledger.note(partition, **{APPROVED: scope(rule.digest, await access.control.began())})
    elif halt.reason == HaltReason.ORPHAN_SHARE:
        key = session.key_of(partition, keys.RULES)
        (asked,) = await access.carrier.run([("HGET", key, "share_asked")])
        await access.ledger.note(partition, share_ok=int(asked or 0))
    elif count:
        await accept(access, rule, count)
    await access.control.lift(halt, f"plan {wanted}: {said.reason}")
    if said.as_json:
        answered = {"plan": wanted, "reason": halt.reason, "detail": halt.detail, "ids": ids}
        output.document({**asdict(partition), **answered, "enforcing": rule.enforce})
    else:
        output.say(f"approved {partition}: {halt.detail}")
    if not rule.enforce:
        output.note(f'Policy {rule.partition.policy} observes: nothing is deleted until it says mode = "enforce".')
    return Code.OK


async def _name_elders(access: RegistryAccess, session: Invocation, halt: Halt) -> None:
    """List what was created before the registry began: who approves it has seen it."""
    if halt.reason != HaltReason.OLDER_THAN_REGISTRY:
        return
    key = session.key_of(Partition(halt.provider, halt.kind, halt.policy), keys.SIGHTINGS)
    began = await access.control.began()
    async for id_, text in scanned(access.carrier, "HSCAN", key):
        if older(one := json.loads(text), began):
            name = f"  {one['n']}" if one.get("n") else ""
            output.note(f"{id_}  created {moments.told(one['c'] * 1000, began)}{name}", indent=2)


async def _still_the_same(access: RegistryAccess, session: Invocation, rule: Rule, halt: Halt) -> None:
    """Refuse a plan that was made with other rules than those in force, or than this policy file's."""
    stored = [("HMGET", session.key_of(rule.partition, keys.RULES), "digest", "since")]
    ((digest, since),) = await access.carrier.run(list(stored))
    if digest is None or digest.decode() != rule.digest:
        raise Refused(
            Code.USAGE,
            f"{session.config.path} is not what workers use for {rule.partition}: approve with their file, or wait"
            " until they have taken this one up",
        )
    if since is not None and int(since) > halt.since:
        await anew(access, rule, halt, f"the policy was changed after plan {halt.plan} was made")
