"""``lapse status``: what each policy holds, does, and waits for."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import click
from rich.text import Text

from lapse import durations, moments
from lapse.cli import formatting, output
from lapse.cli.context import Invocation, with_session
from lapse.cli.inspect import troubles
from lapse.cli.inspect.docs import tell_words
from lapse.cli.inspect.reasons import stopping, unpause
from lapse.cli.inspect.watching import watch_option, watched
from lapse.cli.operate.remedies import answer, told
from lapse.cli.options import json_option, wide_option
from lapse.cli.output import Column
from lapse.ledger.halts import Halt
from lapse.ledger.reasons import OF_ALL
from lapse.log import redact
from lapse.metrics.server import ticked
from lapse.metrics.snapshot import UNMANAGED
from lapse.metrics.views import PartitionView
from lapse.policy import Rule
from lapse.policy.reload import registry_source
from lapse.registry import keys
from lapse.registry.model import Partition

COLUMNS = (
    Column("policy"),
    Column("state"),
    Column("registered", 1, right=True),
    Column("due", right=True),
    Column("overdue", 2, right=True),
    Column("held or used", 4, right=True),
    Column("waiting", 5, right=True),
    Column("quarantined", 3, right=True),
    Column("already gone", 4, right=True),
    Column("last sweep", 6, right=True),
)
STYLES = {
    "enforcing": output.GOOD,
    "observing": output.WARN,
    "limited": output.WARN,
    "paused": output.WARN,
    "halted": output.BAD,
    UNMANAGED: output.DIM,
}


@dataclass(frozen=True, slots=True)
class PolicyStanding:
    """A partition, its rule if the file has one, and when and with what it was last swept (registry milliseconds).

    ``already_gone``: how many ids were settled because the provider did not know them; lapse deleted none of these.
    """

    view: PartitionView
    rule: Rule | None
    woken: int | None = None
    digest: str = ""
    already_gone: int = 0

    @property
    def state(self) -> str:
        """What it does, in one word: what stands in the way goes first."""
        view = self.view
        if not view.configured:
            return UNMANAGED
        if stopping(view) or view.paused:
            return "halted" if stopping(view) else "paused"
        if view.mode == "observe":
            return "observing"
        return "limited" if view.limited or view.ramped else "enforcing"

    def words(self) -> Iterator[str]:
        """Yield what it shows of itself that the documents explain."""
        view = self.view
        yield self.state.strip("()")
        yield from (halt.reason for halt in view.halts)
        shown = {
            "overdue": view.overdue >= 1,
            "ramp": view.ramped,
            "pace": view.limited,
            "parked": view.parked,
            "kept": view.kept,
            "quarantine": view.quarantined,
            "already gone": self.already_gone,
        }
        yield from (word for word, there in shown.items() if there)


@click.command()
@watch_option
@wide_option
@with_session
@json_option
def status(*, session: Invocation, watch: float | None, wide: bool, as_json: bool) -> None:
    """Show what each policy holds, what it does, and what it waits for, with the command that answers it.

    With --watch a terminal is cleared for each look; elsewhere looks follow each other. With --json each is a document.

    Examples:
      lapse status
      lapse status --json
      lapse status --watch=5

    """
    watched(session, watch, lambda current: _show(current, as_json=as_json, wide=wide), apart=not as_json)


def _show(session: Invocation, *, as_json: bool, wide: bool) -> None:
    standings = standings_of(session, session.rules())
    now, published, pauses = session.view.now(), session.view.published(), session.view.pauses()
    if as_json:
        output.document(
            {
                "now": now / 1000,
                "config": {"path": str(session.config.path), "hash": session.config.hash},
                "workers": json.loads(published.get("config", "null")),
                "beat": int(published["beat"]) / 1000 if "beat" in published else None,
                "paused": pauses,
                "partitions": [_described(session, one) for one in standings],
                **troubles.described(session, [one.view.partition for one in standings], now),
            }
        )
        return
    if output.on_terminal():
        output.table(COLUMNS, (_row(one, now) for one in standings), empty="no policies", wide=wide)
        output.say()
    else:
        for one in standings:
            output.say(_line(one, now))
    for text, style in _remarks(session, standings, now, pauses):
        output.say(text, style, indent=2 if style == output.DIM else 0)
    for text in _machinery(session, standings, now, published):
        output.say(text, output.STRONG if text.startswith(" ") else output.DIM)
    tell_words(word for one in standings for word in one.words())


def standings_of(session: Invocation, rules: Sequence[Rule]) -> list[PolicyStanding]:
    """Return how the partitions of these rules stand, then those of their accounts that only applications name."""
    accounts = {name: session.config.accounts[name] for name in {rule.partition.provider for rule in rules}}
    views = session.view.partitions(rules, accounts, ramp=session.config.sweep.ramp)
    by_partition = {rule.partition: rule for rule in rules}
    with session.client.pipeline(transaction=False) as pipe:
        for view in views:
            at, rule = view.partition, by_partition.get(view.partition)
            pipe.hmget(
                keys.partition(session.namespace, at.provider, at.kind, at.policy) + keys.RULES, "woken", "digest"
            )
            counters = keys.slot(session.namespace, at.provider, at.kind) + keys.COUNTERS
            names = (at.policy, *(rule.formerly if rule else ()))
            pipe.hmget(counters, [f"settled|{name}|already_gone" for name in names])
        stored = pipe.execute()
    return [
        PolicyStanding(
            view,
            by_partition.get(view.partition),
            int(woken) if woken else None,
            digest or "",
            sum(int(n or 0) for n in gone),
        )
        for view, (woken, digest), gone in zip(views, stored[::2], stored[1::2], strict=True)
    ]


def _row(one: PolicyStanding, now: int) -> tuple[str | Text, ...]:
    view = one.view
    return (
        str(view.partition),
        Text(one.state, style=STYLES[one.state]),
        f"{view.registered:,}",
        f"{view.due:,}" if view.configured else "-",
        durations.show(view.overdue) if view.overdue >= 1 else "-",
        f"{view.parked + view.kept:,}",
        f"{view.waiting:,}",
        Text(f"{view.quarantined:,}", style=output.BAD if view.quarantined else ""),
        f"{one.already_gone:,}",
        moments.told(one.woken, now) if one.woken else "never",
    )


def _line(one: PolicyStanding, now: int) -> str:
    """Return a partition as one line of names and values, for whatever reads a pipe."""
    view = one.view
    values = {
        "state": one.state,
        "registered": view.registered,
        "due": view.due,
        "overdue": durations.show(view.overdue).replace(" ", ""),
        "parked": view.parked,
        "kept": view.kept,
        "waiting": view.waiting,
        "claimed": view.claimed,
        "quarantined": view.quarantined,
        "already_gone": one.already_gone,
        "swept": f"{(now - one.woken) / 1000:.0f}s" if one.woken else "never",
    }
    return f"{view.partition} " + " ".join(f"{name}={value}" for name, value in values.items())


def _remarks(
    session: Invocation, standings: list[PolicyStanding], now: int, pauses: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """Say what each partition does or waits for, and which command answers it; what concerns all of them, once."""
    for halt in {halt.reason: halt for one in standings for halt in one.view.halts if halt.reason in OF_ALL}.values():
        yield from _halted("everything is halted", halt, now, output.BAD)
    for one in standings:
        yield from _remark(session, one, now)
    for scope, pause in pauses.items():
        since = moments.told(pause["since"], now)
        what = "Everything" if scope == "*" else scope
        yield f"{what} was paused {since} by {pause['actor']}: {pause['reason']}", output.WARN
        yield f"  {unpause(scope)}", output.STRONG
    yield from troubles.told(session, [one.view.partition for one in standings], now)
    yield from _elsewhere(session)


def _elsewhere(session: Invocation) -> Iterator[tuple[str, str]]:
    """Say what is held of providers that the file does not have: misspelt, perhaps, and then it protects nothing."""
    strange = [slot for slot in session.view.known_slots((), {}) if slot[0] not in session.config.accounts]
    for slot in session.view.slots(strange):
        if slot.held:
            at = f"{slot.provider}/{slot.kind}"
            yield f"{at}: {slot.held:,} held; the file has no provider {slot.provider}.", output.WARN
            kinds = formatting.plural(slot.kind)
            yield f"  lapse ls {kinds} --provider {slot.provider} --state held", output.STRONG


def _remark(session: Invocation, one: PolicyStanding, now: int) -> Iterator[tuple[str, str]]:
    view, rule = one.view, one.rule
    name = str(view.partition)
    if rule is None:
        held = formatting.count(view.registered, "id")
        yield f"{name}: {held} under a policy that the file does not have; nothing deletes them.", output.WARN
        yield f"  lapse ls {_kinds(session, view.partition)} --policy {view.partition.policy}", output.STRONG
        return
    account = session.config.accounts[rule.partition.provider]
    if one.state == "observing":
        yield f"{name}: observing: would send {formatting.effort(rule, account, view)}.", output.WARN
        if view.due:
            look = "orphans" if rule.orphan else f"plan {_kinds(session, view.partition)}"
            yield f"  lapse {look} --policy {view.partition.policy}", output.STRONG
    elif one.state in {"enforcing", "limited"} and view.due:
        yield f"{name}: {view.due:,} due: {formatting.effort(rule, account, view)}.", ""
    for halt in (halt for halt in view.halts if halt.reason not in OF_ALL):
        stopped = halt in stopping(view)
        what = "halted" if stopped else "not swept by one of the workers"
        yield from _halted(f"{name}: {what}", halt, now, output.BAD if stopped else output.WARN)
    if view.ramped:
        yield f"{name}: a first enforcement goes step by step; the next step follows by itself.", output.WARN
    if view.limited:
        yield f"{name}: its pace is used up, {formatting.pace(rule)}; it goes on by itself.", output.WARN
    if view.quarantined:
        yield f"{name}: {formatting.count(view.quarantined, 'id')} in quarantine", output.BAD
        yield f"  lapse quarantine list {_kinds(session, view.partition)}", output.STRONG
    if one.digest and one.digest != rule.digest:
        yield f"{name}: workers have not taken this version of the policy up yet.", output.WARN
        yield troubles.LOOK, output.STRONG


def _kinds(session: Invocation, at: Partition) -> str:
    """Return the words by which a command is about one kind of one account."""
    several = f" --provider {at.provider}" if len(session.config.accounts) > 1 else ""
    return f"{formatting.plural(at.kind)}{several}"


def _halted(what: str, halt: Halt, now: int, style: str) -> Iterator[tuple[str, str]]:
    yield f"{what}: {halt.reason}: {halt.detail} ({moments.told(halt.since, now)})", style
    for text in told(halt):
        yield text, output.STRONG if text.startswith(" ") else output.DIM


def _machinery(
    session: Invocation, standings: list[PolicyStanding], now: int, published: Mapping[str, str]
) -> Iterator[str]:
    source = registry_source(session.config, session.environ)
    yield f"registry: {redact(source.url)} (from {source.origin}), namespace {session.namespace}"
    beat = published.get("beat")
    yield f"beat: last tick {moments.told(int(beat), now)}" if beat else "beat: never seen"
    if beat and not ticked(session.config, beat, now, never="")[0]:
        yield troubles.LOOK
    swept = max((one.woken for one in standings if one.woken), default=None)
    about = json.loads(published.get("config", "{}"))
    if not about:
        yield "workers: never seen; to start one, with beat:"
        yield "  celery -A lapse.app worker --beat"
        return
    when = f"last sweep {moments.told(swept, now)}" if swept else "no sweep yet"
    if about.get("ok") is False:
        yield f"workers: {about['path']} is invalid by now, and the last valid version goes on:"
        yield "  lapse check-config"
    same = about["hash"] == session.config.hash
    uses = f"this policy file, version {about['hash']}" if same else f"version {about['hash']} of {about['path']}"
    yield f"workers: {when}; {about['worker']} uses {uses}" + (
        "" if same else f", and here it is {session.config.hash}"
    )


def _described(session: Invocation, one: PolicyStanding) -> dict[str, Any]:
    view, rule = one.view, one.rule
    account = session.config.accounts[rule.partition.provider] if rule else None
    needed = formatting.requests(rule, account, view) if rule and account else 0
    rate = account.rate if account else None
    return {
        **asdict(view.partition),
        "managed": view.configured,
        "state": one.state.strip("()"),
        "mode": view.mode,
        "registered": view.registered,
        "due": view.due,
        "overdue_seconds": view.overdue,
        "requests": needed,
        "seconds_at_rate": needed / rate if rate else None,
        **{name: getattr(view, name) for name in ("parked", "kept", "waiting", "claimed", "quarantined")},
        "already_gone": one.already_gone,
        "orphans": dict(view.orphans),
        "limited": view.limited,
        "ramped": view.ramped,
        "paused": view.paused,
        "halts": [_halt(halt) for halt in view.halts],
        "last_sweep": one.woken / 1000 if one.woken else None,
        "last_success": view.last_success,
    }


def _halt(halt: Halt) -> dict[str, Any]:
    said = {"reason": halt.reason, "detail": halt.detail, "since": halt.since / 1000, "plan": halt.plan}
    return said | {"answer": answer(halt), "answers": list(told(halt))}
