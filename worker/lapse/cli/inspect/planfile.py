"""``lapse plan -o FILE``: which ids exactly, written down."""

from collections.abc import Sequence
from pathlib import Path

from lapse.cli import formatting, output
from lapse.cli.context import Invocation, RegistryAccess, one_provider
from lapse.cli.exit_codes import Code, Refused
from lapse.ledger.records import due_first, suspect
from lapse.policy import Rule
from lapse.registry.commands import actor
from lapse.sweep.plan import Doomed, Part, Plan


def write(session: Invocation, rules: Sequence[Rule], file: Path) -> None:
    """Write the plan of these rules, all of one provider, to a file, whole or not at all."""
    provider = one_provider(rules)
    plan = session.run(lambda access: _made(access, session, rules, provider))
    fresh = file.with_name(f".{file.name}.new")
    try:
        fresh.write_text(plan.text(), encoding="utf-8")
        fresh.replace(file)
    except OSError as error:
        raise Refused(Code.USAGE, f"{file} cannot be written: {error.strerror}") from None
    output.note(f"Plan {plan.hash}, {formatting.count(plan.size, 'id')} at {provider}, is in {file}. To delete them:")
    output.note(f"  lapse apply {file}", output.STRONG)


async def _made(access: RegistryAccess, session: Invocation, rules: Sequence[Rule], provider: str) -> Plan:
    parts = tuple([await _part(access, rule) for rule in rules])
    return Plan(
        provider=provider,
        place=session.config.accounts[provider].place,
        namespace=session.namespace,
        epoch=session.view.epoch().get("id", ""),
        made_at=await access.control.now(),
        made_by=actor(),
        parts=parts,
    )


async def _part(access: RegistryAccess, rule: Rule) -> Part:
    due = await due_first(access.ledger, rule, None)
    ids = tuple(Doomed(one.id, one.due or 0, one.by, alone=suspect(one)) for one in due)
    mode = "enforcing" if rule.enforce else "observing"
    return Part(rule.partition.kind, rule.partition.policy, rule.digest, mode, ids)
