"""``lapse sweep``: a sweep by hand, in this process."""

import click

from lapse.cli import formatting, output
from lapse.cli.context import Invocation, confirmed, one_provider, with_session
from lapse.cli.exit_codes import Code, Refused
from lapse.cli.inprocess import checked_plan, perform
from lapse.cli.inspect.plan import show
from lapse.cli.options import KIND, POLICY, confirm_option, json_option


@click.command()
@click.argument("kind", type=KIND, required=False)
@click.option("--policy", type=POLICY, metavar="NAME", help="Only this policy.")
@confirm_option
@with_session
@json_option
def sweep(*, session: Invocation, kind: str | None, policy: str | None, confirm: str | None, as_json: bool) -> int:
    """Sweep now, in this process: show the plan, ask, and delete what is due by every rule, guard and limit.

    Policies that observe are counted and not touched. Orphans have a command of their own.

    Examples:
      lapse sweep
      lapse sweep threads --policy chat --confirm=openai

    """
    rules = [rule for rule in session.rules(kind, policy) if rule.orphan is None]
    if not rules:
        raise Refused(Code.USAGE, "these are orphan rules: lapse orphans --run")
    name = one_provider(rules)
    planned = session.run(lambda access: checked_plan(access, session, rules))
    for one in planned:
        show(session, one, output.note)
    doomed = sum(one.view.due for one in planned if one.view.enforcing)
    if doomed:
        confirmed(name, confirm, f"delete up to {formatting.count(doomed, 'object')} there")
    return perform(session, rules, doomed, as_json=as_json)
