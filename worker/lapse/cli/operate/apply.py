"""``lapse apply FILE``: exactly the ids of a plan, or fewer."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import click

from lapse import log
from lapse.cli import formatting, output
from lapse.cli.context import Invocation, RegistryAccess, confirmed
from lapse.cli.exit_codes import Code, Refused
from lapse.cli.inprocess import context_of, refuse_other_rules, told, watched
from lapse.cli.options import FILE, config_option, confirm_option, json_option
from lapse.guards.integrity import preflight
from lapse.policy import Rule
from lapse.registry.model import Partition
from lapse.sweep.apply import apply as apply_part
from lapse.sweep.plan import Plan, read
from lapse.sweep.report import Report

SHOWN = 20


@click.command()
@click.argument("file", type=FILE)
@confirm_option
@config_option
@json_option
def apply(*, file: Path, confirm: str | None, config: str | None, as_json: bool) -> int:
    """Delete exactly the ids of a plan that `lapse plan -o FILE` wrote, or fewer, in its order.

    What was held, touched, moved, settled or claimed since is left out, with the reason. A plan for another provider,
    registry, epoch or version of its policies is refused as a whole. A policy that observes is applied too: you have
    seen each of these ids. Halts, pauses and max_deletions hold; what they stop can be applied again later.

    Examples:
      lapse apply plan.json --confirm=openai

    """
    plan = read(file)
    session = Invocation(config, plan.provider)
    rules = session.run(lambda access: _still_valid(access, session, plan, file))
    for part in plan.parts:
        output.note(
            f"{plan.provider}/{part.kind}/{part.policy} ({part.mode}): {formatting.count(len(part.ids), 'id')}",
            output.STRONG,
        )
    if not plan.size:
        output.note("The plan is empty: nothing was due when it was made.")
        return Code.OK
    confirmed(plan.provider, confirm, f"delete up to {formatting.count(plan.size, 'object')} there")
    return _perform(session, plan, rules, as_json=as_json)


async def _still_valid(access: RegistryAccess, session: Invocation, plan: Plan, file: Path) -> list[Rule]:
    """Return the rule of each part.

    Raises:
        Refused: something that the plan rests on is not as it was.

    """
    account = session.config.accounts.get(plan.provider)
    epoch = session.view.epoch().get("id", "")
    wrong = {
        f"{session.config.path} has no provider {plan.provider}": account is None,
        f"{plan.provider} is another account by now": account is not None and account.place != plan.place,
        f"it is for the namespace {plan.namespace}, not {session.namespace}": plan.namespace != session.namespace,
        "it is for another registry, or for this one before it was emptied": plan.epoch not in {"", epoch},
    }
    for why, holds in wrong.items():
        if holds:
            raise Refused(Code.USAGE, f"{file} is not applied: {why}")
    by_partition = {rule.partition: rule for rule in session.config.rules}
    rules = []
    for part in plan.parts:
        rule = by_partition.get(Partition(plan.provider, part.kind, part.policy))
        if rule is None or rule.digest != part.digest:
            what = "is no policy any more" if rule is None else "was changed since"
            raise Refused(
                Code.USAGE, f"{file} is not applied: {part.kind}/{part.policy} {what}; make a new plan and look at it"
            )
        await refuse_other_rules(access, session, rule)
        rules.append(rule)
    return rules


def _perform(session: Invocation, plan: Plan, rules: Sequence[Rule], *, as_json: bool) -> int:
    log.configure("ERROR")
    preflight.start(session.endpoint, session.config)
    left: dict[str, str] = {}
    with output.progress("applying", plan.size) as advance:

        async def work(access: RegistryAccess) -> list[Report]:
            reports = []
            async with context_of(access, session, plan.provider) as context, watched(access, rules, advance):
                for part, rule in zip(plan.parts, rules, strict=True):
                    report, out = await apply_part(context, rule, part.ids, plan.hash)
                    reports.append(report)
                    left.update(out)
            return reports

        reports = session.run(work)
    code = told(reports, as_json=as_json)
    _tell_left(left, as_json=as_json)
    return code


def _tell_left(left: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        output.records({"id": id_, "left_out": why} for id_, why in left.items())
        return
    for id_, why in islice(left.items(), SHOWN):
        output.say(f"left out {id_}: {why}", indent=2)
    if len(left) > SHOWN:
        output.say(f"... and {len(left) - SHOWN:,} more", output.DIM, indent=2)
