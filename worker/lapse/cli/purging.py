"""``lapse purge KIND``: everything of a kind, on purpose, and then the question what is left."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from lapse import log, preflight
from lapse.cli import output, wording
from lapse.cli.arguments import KIND, config_option, confirm_option, json_option, provider_option
from lapse.cli.codes import Code, Refused
from lapse.cli.performing import means_of
from lapse.cli.session import Hands, Session, confirmed
from lapse.commands import actor
from lapse.guard import STANDING
from lapse.memory import BESIDE, Known
from lapse.model import PURGED, Partition
from lapse.policy import Rule
from lapse.purge import Incomplete, Thing, inventory, rule_of
from lapse.purge import purge as purge_all
from lapse.run import Report

Listing = tuple[list[Thing], Known | None]
"""What there is, and what was seen of the registry then."""

ENDED = {"halted": Code.HALTED, "paused": Code.HALTED, "breaker": Code.TEMPORARY, "stopped": Code.INTERRUPTED}


@click.command()
@click.argument("kind", type=KIND)
@click.option("--include-kept", is_flag=True, help="Delete what keep rules match, too.")
@click.option("--limit", type=click.IntRange(0, 1_000_000), default=50, show_default=True, help="Names to print.")
@confirm_option
@provider_option
@config_option
@json_option
def purge(*, kind: str, include_kept: bool, limit: int, confirm: str | None, **given: Any) -> int:  # noqa: ANN401 - click's
    """Delete everything of a kind at a provider, foreign objects too, and then ask what is left.

    Of kinds that cannot be listed, everything that the registry knows. Your confirmation stands in the place of mode,
    registration, stamp, age and pace; holds, pauses, halts, the request budget and keep rules stand above it. What is
    created after it is left alone. Interrupted, it can be run again.

    Examples:
      lapse purge assistants --provider openai
      lapse purge conversations --confirm=openai

    """
    session = Session(given["config"], given["provider"])
    at = Partition(session.provider, kind, PURGED)
    if at.provider not in session.config.accounts:
        raise Refused(Code.USAGE, f"{session.config.path} has no provider {at.provider}")
    mine = [
        rule for rule in session.config.rules if (rule.partition.provider, rule.partition.kind) == (at.provider, kind)
    ]
    rule = rule_of(at, () if include_kept else tuple(keep for one in mine for keep in one.keep), mine)
    log.configure("ERROR")
    preflight.start(session.url, session.config)
    things, known = session.run(lambda hands: _before(hands, session, rule))
    doomed = [one for one in things if not one.held and not one.kept]
    _announce(rule, things, doomed, limit)
    if not doomed:
        return _told([_left(one, {}) for one in things], None, as_json=given["as_json"])
    confirmed(at.provider, confirm, f"delete {wording.count(len(doomed), 'object')} there for good")
    return _perform(session, rule, doomed, known, as_json=given["as_json"])


async def _before(hands: Hands, session: Session, rule: Rule) -> Listing:
    at = rule.partition
    for scope, pause in (await hands.control.pauses()).items():
        if scope in {"*", at.provider} or f"{scope}/".startswith(f"{at.provider}/{at.kind}/"):
            raise Refused(Code.HALTED, f"lapse pause on {scope}: {pause['reason']}")
    for halt in await hands.control.halts([(at.provider, at.kind)]):
        if halt.reason not in STANDING | BESIDE:
            raise Refused(Code.HALTED, f"{at.provider}/{at.kind}/{halt.policy} is halted: {halt.reason}: {halt.detail}")
    return await _listed(hands, session, rule)


async def _listed(hands: Hands, session: Session, rule: Rule, known: Known | None = None) -> Listing:
    async with means_of(hands, session, rule.partition.provider, known) as means:
        if rule.partition.kind not in means.provider.kinds:
            raise Refused(Code.USAGE, f"{rule.partition.provider} has no {wording.plural(rule.partition.kind)}")
        if trouble := await means.watch.look():
            raise Refused(Code.HALTED, f"the registry is not the one that is known: {trouble.reason}: {trouble.detail}")
        try:
            return await inventory(means, rule), means.watch.known
        except Incomplete as error:
            raise Refused(Code.TEMPORARY, str(error)) from None


def _announce(rule: Rule, things: Sequence[Thing], doomed: Sequence[Thing], limit: int) -> None:
    at = rule.partition
    output.note(
        f"{wording.count(len(doomed), at.kind, wording.plural(at.kind))} at {at.provider} to delete:", output.STRONG
    )
    foreign = [one for one in doomed if one.foreign]
    for title, chosen in (("", [one for one in doomed if not one.foreign]), ("not registered here", foreign)):
        if title and chosen:
            output.note(f"{len(chosen):,} of them {title}, and without this registry's stamp:", output.WARN, indent=2)
        for one in chosen[:limit]:
            output.note(f"{one.id}  {one.name}".rstrip(), indent=4)
        if len(chosen) > limit:
            output.note(f"... and {len(chosen) - limit:,} more (--limit)", output.DIM, indent=4)
    held, kept = sum(bool(one.held) for one in things), sum(one.kept and not one.held for one in things)
    if held or kept:
        output.note(f"left alone: {held:,} held, {kept:,} matched by a keep rule", indent=2)


def _perform(session: Session, rule: Rule, doomed: Sequence[Thing], known: Known | None, *, as_json: bool) -> int:
    with output.progress("purging", len(doomed)) as advance:

        async def work(hands: Hands) -> tuple[Report, set[str], dict[str, str]]:
            async with means_of(hands, session, rule.partition.provider, known) as means:
                return await purge_all(means, rule, [one.id for one in doomed], actor(), advance)

        report, gone, why = session.run(work)
    there, _known = session.run(lambda hands: _listed(hands, session, rule))
    named = {one.id for one in doomed}
    left = [_left(one, why, late=one.id not in named) for one in there if one.id not in gone]
    lagging = sum(one.id in gone for one in there)
    if lagging:
        output.note(f"{lagging:,} were deleted, as the provider confirmed, and are listed still.")
    return _told(left, report, as_json=as_json)


def _left(one: Thing, why: Mapping[str, str], *, late: bool = False) -> dict[str, str]:
    reason = f"held: {one.held}" if one.held else "kept" if one.kept else why.get(one.id)
    return {"id": one.id, "name": one.name, "left": reason or ("created after the confirmation" if late else "unknown")}


def _told(left: Sequence[Mapping[str, str]], report: Report | None, *, as_json: bool) -> int:
    outcomes = {name: n for name, n in sorted(report.outcomes.items()) if n} if report else {}
    if as_json:
        output.document({"result": report.result if report else "completed", "outcomes": outcomes, "left": list(left)})
    else:
        for one in left:
            output.say(f"left {one['id']} {one['name']}".rstrip() + f": {one['left']}")
        output.say(
            f"{', '.join(f'{n:,} {name}' for name, n in outcomes.items()) or 'nothing deleted'}; {len(left):,} left"
        )
    if report and report.result in ENDED:
        return ENDED[report.result]
    return Code.PARTIAL if left else Code.OK
