"""``lapse purge KIND``: everything of a kind, on purpose, and then the question what is left."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import click

from lapse import log
from lapse.cli import formatting, output
from lapse.cli.context import Invocation, RegistryAccess, confirmed, with_session
from lapse.cli.exit_codes import Code, Refused
from lapse.cli.inprocess import context_of, refuse_other_rules
from lapse.cli.options import KIND, confirm_option, json_option
from lapse.cli.progress import progress
from lapse.guards.integrity import preflight
from lapse.guards.integrity.continuity import Known
from lapse.ledger.reasons import BESIDE, STANDING
from lapse.policy import Rule
from lapse.registry.commands import actor
from lapse.registry.model import PURGED, Partition
from lapse.sweep.purge import Incomplete, Thing, inventory, rule_of
from lapse.sweep.purge import purge as purge_all
from lapse.sweep.report import Report

LOOKS, APART = 3, 2.0
"""How often, and how many seconds apart, the list is read afterwards while it shows what was deleted."""


@dataclass(frozen=True, slots=True)
class Found:
    """What there is, what was seen of the registry then, and whose list it was: ``Provider.identity``."""

    things: list[Thing]
    known: Known | None
    identity: str


ENDED = {"halted": Code.HALTED, "paused": Code.HALTED, "breaker": Code.TEMPORARY, "stopped": Code.INTERRUPTED}


@click.command()
@click.argument("kind", type=KIND)
@click.option("--include-kept", is_flag=True, help="Delete what keep rules match, too.")
@click.option("--limit", type=click.IntRange(0, 1_000_000), default=50, show_default=True, help="Names to print.")
@click.option("--foreign", is_flag=True, help="Go on where this registry knows nothing of what is listed.")
@confirm_option
@with_session
@json_option
def purge(
    *,
    session: Invocation,
    kind: str,
    include_kept: bool,
    limit: int,
    foreign: bool,
    confirm: str | None,
    as_json: bool,
) -> int:
    """Delete everything of a kind at a provider, foreign objects too, and then ask what is left.

    Of kinds that cannot be listed, everything that the registry knows. Your confirmation stands in the place of mode,
    registration, stamp, age and pace; holds, pauses, halts, the request budget and keep rules stand above it. What is
    created after it is left alone. Interrupted, it can be run again. An account of whose objects this registry knows
    none may be another one than you think: that takes --foreign too.

    Examples:
      lapse purge assistants --provider openai
      lapse purge conversations --confirm=openai

    """
    at = Partition(session.provider, kind, PURGED)
    if at.provider not in session.config.accounts:
        raise Refused(Code.USAGE, f"{session.config.path} has no provider {at.provider}")
    mine = [
        rule for rule in session.config.rules if (rule.partition.provider, rule.partition.kind) == (at.provider, kind)
    ]
    rule = rule_of(at, () if include_kept else tuple(keep for one in mine for keep in one.keep), mine)
    log.configure("ERROR")
    preflight.start(session.endpoint, session.config)
    found = session.run(lambda access: _before(access, session, rule, () if include_kept else mine))
    doomed = [one for one in found.things if not one.held and not one.kept and not one.strange]
    _announce(rule, found.things, doomed, limit)
    say_where(session, at.provider, found.identity)
    if not doomed:
        return _told([_left(one, {}) for one in found.things], None, as_json=as_json)
    if not foreign and not any(one.known for one in found.things):
        raise Refused(
            Code.CONFIRM,
            f"this registry knows nothing of what is listed there: is it the account you mean? Add --foreign to delete"
            f" {formatting.count(len(doomed), 'object')} all the same",
        )
    confirmed(at.provider, confirm, f"delete {formatting.count(len(doomed), 'object')} there for good")
    return _perform(session, rule, doomed, found.known, as_json=as_json)


async def _before(access: RegistryAccess, session: Invocation, rule: Rule, keeping: Sequence[Rule]) -> Found:
    """Return what there is to purge; ``keeping``: the policies whose keep rules stand above it.

    Raises:
        Refused: a pause or a halt stands above it, or workers have other rules than these.

    """
    at = rule.partition
    for one in keeping:
        await refuse_other_rules(access, session, one)
    for scope, pause in (await access.control.pauses()).items():
        if scope in {"*", at.provider} or f"{scope}/".startswith(f"{at.provider}/{at.kind}/"):
            raise Refused(Code.HALTED, f"lapse pause on {scope}: {pause['reason']}")
    for halt in await access.control.halts([(at.provider, at.kind)]):
        if halt.reason not in STANDING | BESIDE:
            raise Refused(Code.HALTED, f"{at.provider}/{at.kind}/{halt.policy} is halted: {halt.reason}: {halt.detail}")
    return await _listed(access, session, rule)


async def _listed(access: RegistryAccess, session: Invocation, rule: Rule, known: Known | None = None) -> Found:
    async with context_of(access, session, rule.partition.provider, known) as context:
        if rule.partition.kind not in context.provider.kinds:
            raise Refused(Code.USAGE, f"{rule.partition.provider} has no {formatting.plural(rule.partition.kind)}")
        if trouble := await context.watch.look():
            raise Refused(Code.HALTED, f"the registry is not the one that is known: {trouble.reason}: {trouble.detail}")
        try:
            return Found(await inventory(context, rule), context.watch.known, await context.provider.identity())
        except Incomplete as error:
            raise Refused(Code.TEMPORARY, str(error)) from None


def say_where(session: Invocation, provider: str, identity: str) -> None:
    """Name the account: a purge at the wrong one cannot be taken back."""
    account = session.config.accounts[provider]
    of = [f"{name} {value}" for name in ("organization", "project") if (value := getattr(account, name))]
    key = account.api_key_env or account.api_key_file or account.auth
    output.note(f"account: {', '.join([account.base_url, *of, f'key from {key}'])}; identity {identity}", indent=2)


async def _after(access: RegistryAccess, session: Invocation, rule: Rule, gone: Collection[str]) -> list[Thing]:
    """Return what is listed now; while deleted objects are, a list that lags is given some seconds."""
    for look in range(LOOKS):
        if look:
            await asyncio.sleep(APART)
        things = (await _listed(access, session, rule)).things
        if not any(one.id in gone for one in things):
            break
    return things


def _announce(rule: Rule, things: Sequence[Thing], doomed: Sequence[Thing], limit: int) -> None:
    at = rule.partition
    output.note(
        f"{formatting.count(len(doomed), at.kind, formatting.plural(at.kind))} at {at.provider} to delete:",
        output.STRONG,
    )
    foreign = [one for one in doomed if one.foreign]
    for title, chosen in (("", [one for one in doomed if not one.foreign]), ("not registered here", foreign)):
        if title and chosen:
            output.note(f"{len(chosen):,} of them {title}, and without this registry's stamp:", output.WARN, indent=2)
        for one in chosen[:limit]:
            output.note(output.one_line(f"{one.id}  {one.name}".rstrip()), indent=4)
        if len(chosen) > limit:
            output.note(f"... and {len(chosen) - limit:,} more (--limit)", output.DIM, indent=4)
    held, kept = sum(bool(one.held) for one in things), sum(one.kept and not one.held for one in things)
    if held or kept:
        output.note(f"left alone: {held:,} held, {kept:,} matched by a keep rule", indent=2)


def _perform(session: Invocation, rule: Rule, doomed: Sequence[Thing], known: Known | None, *, as_json: bool) -> int:
    several = formatting.plural(rule.partition.kind)
    with progress("purging", len(doomed), several, quiet=as_json) as advance:

        async def work(access: RegistryAccess) -> tuple[Report, set[str], dict[str, str]]:
            async with context_of(access, session, rule.partition.provider, known) as context:
                return await purge_all(context, rule, [one.id for one in doomed], actor(), advance)

        report, gone, why = session.run(work)
    there = session.run(lambda access: _after(access, session, rule, gone))
    named = {one.id for one in doomed}
    why |= dict.fromkeys(gone, "gone, as the provider said, and listed still")
    left = [_left(one, why, late=one.id not in named) for one in there]
    if any(one.id in gone for one in there):
        output.note("What is listed still may go from the list later: run it again, and see.", output.WARN)
    return _told(left, report, as_json=as_json)


def _left(one: Thing, why: Mapping[str, str], *, late: bool = False) -> dict[str, str]:
    reason = f"held: {one.held}" if one.held else "kept" if one.kept else why.get(one.id)
    reason = "its id can stand in no request" if one.strange else reason
    return {"id": one.id, "name": one.name, "left": reason or ("created after the confirmation" if late else "unknown")}


def _told(left: Sequence[Mapping[str, str]], report: Report | None, *, as_json: bool) -> int:
    outcomes = {name: n for name, n in sorted(report.outcomes.items()) if n} if report else {}
    if as_json:
        output.document({"result": report.result if report else "completed", "outcomes": outcomes, "left": list(left)})
    else:
        for one in left:
            output.say(output.one_line(f"left {one['id']} {one['name']}".rstrip() + f": {one['left']}"))
        output.say(
            f"{', '.join(f'{n:,} {name}' for name, n in outcomes.items()) or 'nothing deleted'}; {len(left):,} left"
        )
    if report and report.result in ENDED:
        return ENDED[report.result]
    return Code.PARTIAL if left else Code.OK
