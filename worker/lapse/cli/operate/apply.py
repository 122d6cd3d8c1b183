"""``lapse apply FILE``: exactly the ids of a plan, or fewer."""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import Self

import click

from lapse import log
from lapse.cli import formatting, output
from lapse.cli.context import Invocation, RegistryAccess, confirmed
from lapse.cli.exit_codes import Code, Refused
from lapse.cli.inprocess import context_of, refuse_other_rules, told, watched
from lapse.cli.options import FILE, config_option, confirm_option, json_option
from lapse.cli.progress import progress
from lapse.guards.integrity import preflight
from lapse.policy import Rule
from lapse.registry.model import Partition
from lapse.sweep.apply import apply as apply_part
from lapse.sweep.companions import PlannedCompanions
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
    seen each of these ids. Halts, pauses and max_deletions hold; what they stop can be applied again later. What may
    go along with an id goes with it if a sweep would take it too, and stays if it does not. What a policy's cascade
    would take along and the plan does not name stays, and is told: a file when its vector store goes, and a response
    with the conversation that it uses.

    Examples:
      lapse apply plan.json --confirm=openai

    """
    with closing(read(file)) as plan:
        provider = plan.basis.provider
        session = Invocation(config, provider)
        rules = session.run(lambda access: _still_valid(access, session, plan, file))
        for part, at in zip(plan.parts, (rule.partition for rule in rules), strict=True):
            output.note(f"{at} ({part.heading.mode}): {formatting.count(part.size, 'id')}", output.STRONG)
        if not plan.size:
            output.note("The plan is empty: nothing was due when it was made.")
            return Code.OK
        if plan.along:
            output.note(f"{formatting.count(plan.along, 'id')} may go along with these", output.STRONG)
        confirmed(provider, confirm, f"delete up to {formatting.count(plan.size + plan.along, 'object')} there")
        return _perform(session, plan, rules, as_json=as_json)


async def _still_valid(access: RegistryAccess, session: Invocation, plan: Plan, file: Path) -> list[Rule]:
    """Return the rule of each part.

    Raises:
        Refused: something that the plan rests on is not as it was.

    """
    basis = plan.basis
    account = session.config.accounts.get(basis.provider)
    epoch = session.view.epoch().get("id", "")
    wrong = {
        f"{session.config.path} has no provider {basis.provider}": account is None,
        f"{basis.provider} is another account by now": account is not None and account.place != basis.place,
        f"it is for the namespace {basis.namespace}, not {session.namespace}": basis.namespace != session.namespace,
        "it is for another registry, or for this one before it was emptied": basis.epoch not in {"", epoch},
    }
    for why, holds in wrong.items():
        if holds:
            raise Refused(Code.USAGE, f"{file} is not applied: {why}")
    by_partition = {rule.partition: rule for rule in session.config.rules}
    rules = []
    for said in (part.heading for part in plan.parts):
        rule = by_partition.get(Partition(basis.provider, said.kind, said.policy))
        if rule is None or rule.digest != said.digest:
            what = "is no policy any more" if rule is None else "was changed since"
            raise Refused(
                Code.USAGE, f"{file} is not applied: {said.kind}/{said.policy} {what}; make a new plan and look at it"
            )
        await refuse_other_rules(access, session, rule)
        rules.append(rule)
    return rules


def _perform(session: Invocation, plan: Plan, rules: Sequence[Rule], *, as_json: bool) -> int:
    log.configure("ERROR")
    preflight.start(session.endpoint, session.config)
    with LeftOut() as left, PlannedCompanions() as companions:

        async def work(access: RegistryAccess) -> list[Report]:
            def moved(settled: int) -> None:
                advance(settled + left.size)

            reports = []
            async with context_of(access, session, plan.basis.provider) as made, watched(access, rules, moved):
                context = replace(made, companions=companions)
                for part, rule in zip(plan.parts, rules, strict=True):
                    reports.append(await apply_part(context, rule, plan.ids(part), plan.hash, left.add))
            return reports

        companions.add(plan.companions())
        with progress("applying", plan.size, quiet=as_json) as advance:
            reports = session.run(work)
        left.add_children(companions.stayed())
        code = told(reports, as_json=as_json)
        left.tell(as_json=as_json)
    return code


class LeftOut:
    """What was left out, and why: as many ids as a plan has, so they wait in a file."""

    def __init__(self) -> None:
        self._file = TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - it is closed with this
        self.size = 0

    def add(self, left: Mapping[str, str]) -> None:
        """Take some of the plan."""
        for one in left.items():
            self._add(*one)

    def add_children(self, stayed: Iterable[tuple[str, str]]) -> None:
        """Take what did not go along with the plan's ids."""
        for id_, why in stayed:
            self._add(id_, why)

    def _add(self, id_: str, why: str) -> None:
        self._file.write(f"{json.dumps({'id': id_, 'left_out': why})}\n")
        self.size += 1

    def tell(self, *, as_json: bool) -> None:
        """Print all of it as JSON, or its beginning and how much more there is."""
        self._file.seek(0)
        records = map(json.loads, self._file)
        if as_json:
            output.records(records)
            return
        for one in islice(records, SHOWN):
            output.say(f"left out {one['id']}: {one['left_out']}", indent=2)
        if self.size > SHOWN:
            output.say(f"... and {self.size - SHOWN:,} more", output.DIM, indent=2)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        self._file.close()
