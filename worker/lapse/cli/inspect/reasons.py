"""Why one id will or will not be deleted, and when: sentences. No I/O."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lapse import durations, moments
from lapse.cli import formatting
from lapse.cli.operate.remedies import told
from lapse.ledger.halts import Halt
from lapse.ledger.reasons import BESIDE
from lapse.ledger.records import Seen
from lapse.metrics import causes
from lapse.metrics.views import PartitionView
from lapse.policy import Config, Rule
from lapse.registry.codec import edge, subjects_of
from lapse.registry.model import Partition

SHOWN = 5
HINT = "; if that means gone, add "
"""What ``outcomes.classify`` puts between an answer and the config line that would recognise it."""


@dataclass(frozen=True, slots=True)
class Case:
    """One id and everything around it that decides what becomes of it. Times in registry milliseconds.

    Attributes:
        partition: Where it stands; its policy is empty if it is not tracked.
        seen: What its slot knows of it.
        rule: The policy file's rule for it, or None.
        view: Its partition as it stands, or None without a rule.
        pauses: Scope -> who paused it and why.
        throttle: The provider's breaker and Retry-After.
        digest: The rules that workers sweep the partition with; empty before the first sweep.
        forgotten: When an application forgot it, or None.
        grave: True if it was settled as already gone, and can be brought back.
        deleted: When the provider confirmed its deletion, or None.
        answer: The audit's record of how it left the registry, or None.
        shut: What opened the breaker of its kind, with that answer, and until when; None while it is closed.
        sighting: How often listings showed it unused, or None.
        erased_by: The requests to erase a subject that it belongs to.

    """

    partition: Partition
    seen: Seen
    rule: Rule | None = None
    view: PartitionView | None = None
    pauses: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    throttle: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""
    forgotten: int | None = None
    grave: bool = False
    sighting: Mapping[str, int] | None = None
    deleted: int | None = None
    answer: Mapping[str, Any] | None = None
    shut: tuple[str, str, int] | None = None
    erased_by: Sequence[str] = ()

    @property
    def kinds(self) -> str:
        """The kind's plural, as the command line takes it."""
        return formatting.plural(self.partition.kind)


def explain(case: Case, config: Config) -> list[str]:
    """Return what becomes of the id, first in one sentence, then why."""
    if not case.seen.tracked:
        return list(_untracked(case))
    return [verdict(case), *_story(case, config), *_protection(case), *_attempts(case), *standing(case)]


def verdict(case: Case) -> str:
    """Say in one sentence whether and when it will be deleted."""
    seen, name = case.seen, case.seen.id
    if seen.record.get("g"):
        return f"{name} was forgotten while a deletion of it was under way: no further attempt is made."
    if case.erased_by and not seen.hold:
        return f"{name} is to be erased, whatever its policy says: lapse erase status {case.erased_by[0]} follows it."
    for state, said in _NOT_WHILE.items():
        if _stands(case, state):
            return f"{name} will not be deleted {said}"
    if seen.state == "claimed":
        return f"{name} is being deleted now."
    if case.rule is None:
        return f"{name} will never be deleted: no policy covers it (unmanaged)."
    obstacle = _obstacle(case)
    return f"{name} {_would(seen)}, but {obstacle}" if obstacle else f"{name} {_will(seen, case.rule)}"


def _will(seen: Seen, rule: Rule) -> str:
    if seen.state == "waiting" and int(seen.record["d"]) > seen.now:
        return f"will be tried again {_at(seen, int(seen.record['d']))}."
    if seen.due is None:
        return "will be deleted once nothing uses it."
    if seen.due > seen.now:
        moves = seen.by == "ttl" and rule.anchor == "last_active_at"
        return f"will be deleted {_at(seen, seen.due)}{', if it is not used before' if moves else ''}."
    return f"is due since {_at(seen, seen.due)}: the next sweep deletes it."


_NOT_WHILE = {
    "held": "while it is held.",
    "kept": "while a keep rule matches it.",
    "referenced": "while something else uses it.",
    "quarantined": "until an operator says what to do with it: it is in quarantine.",
}


def _stands(case: Case, state: str) -> bool:
    seen = case.seen
    if state == "held":
        return bool(seen.hold)
    return bool(seen.used_by) if state == "referenced" else seen.state == state


def _obstacle(case: Case) -> str:
    """Return what keeps the whole partition from deleting, or an empty string."""
    view, rule = case.view, case.rule
    if rule is None or view is None:
        return ""
    if not rule.enforce:
        return f'policy {rule.partition.policy} only observes: nothing is deleted until it says mode = "enforce".'
    if view.paused:
        return "its deletion is paused."
    if halts := stopping(view):
        return f"its policy is halted ({halts[0].reason})."
    if not case.digest:
        return "no worker has swept its policy yet."
    return ""


def _would(seen: Seen) -> str:
    if seen.due is None:
        return "is to be deleted once nothing uses it"
    return f"is due {'since ' if seen.due <= seen.now else ''}{_at(seen, seen.due)}"


def _untracked(case: Case) -> Iterator[str]:
    seen, name = case.seen, case.seen.id
    yield f"{name} is not tracked: lapse will not delete it."
    if seen.hold:
        yield _hold(seen)
    if case.forgotten:
        yield f"It was forgotten {_at(seen, case.forgotten)}: lapse leaves it alone until it is registered again."
    if seen.tombstone and case.grave:
        yield (
            f"It was settled {_at(seen, seen.tombstone)} as already gone: the provider did not know it. If that was"
            " wrong, bring it back:"
        )
        yield f"  lapse quarantine undo {case.kinds} {seen.id}"
        yield from _answered(case)
    elif case.answer and case.answer["event"] == "deleted_by_app":
        when = _at(seen, int(case.answer["at"]))
        yield f"The application deleted it itself {when}, and said that the provider confirmed it."
    elif gone := gone_at(case):
        yield _gone(case, gone)
        yield from _answered(case)
    elif not case.forgotten:
        yield "The registry has never heard of it, or its deletion was confirmed and needs no memory. To track it:"
        yield f"  lapse register {case.partition.kind} {seen.id} --policy NAME"
    if case.sighting:
        yield f"It carries this registry's stamp: {_sighted(case)}"
    if seen.used_by:
        yield f"It is used by {_several(seen.used_by)}."


def _gone(case: Case, at: int) -> str:
    """Say that an id was deleted, and that the provider confirmed it only where a worker wrote that down."""
    when, said = _at(case.seen, at), case.answer or {}
    if said.get("outcome") != "deleted" and not case.deleted:
        return f"It left the registry {when}: the application said that it had deleted it, or a worker found it so."
    policy = f" under {said['policy']}" if said.get("policy") else ""
    request = f" ({said['request_id']})" if said.get("request_id") else ""
    line = f", audit line {said['line']}" if said.get("line") else ""
    return f"It was deleted {when}{policy}, confirmed by the provider{request}{line}."


def gone_at(case: Case) -> int | None:
    """Return when an id that is not tracked was deleted, in registry milliseconds; None if nothing remembers it."""
    said = case.answer or {}
    confirmed = int(said["at"]) if said.get("outcome") == "deleted" else None
    return confirmed or case.seen.tombstone or case.deleted


def _answered(case: Case) -> Iterator[str]:
    """Say by which answer the id was settled, if the audit can be read here."""
    said = case.answer
    if said is None:
        yield "By which answer, says the audit: lapse audit export, or the workers' own output."
        return
    parts = [str(said["status"])] if said.get("status") else []
    parts += [f"request {said['request_id']}"] if said.get("request_id") else []
    parts += [str(said["detail"])] if said.get("detail") else []
    answer = ", ".join(parts) or str(said.get("outcome"))
    yield f"The answer was {answer}; attempt {said.get('attempt', 1)}, by {said.get('worker', 'a worker')}."


def _story(case: Case, config: Config) -> Iterator[str]:
    """Tell what it is registered under, since when, and what decides its time."""
    seen, rule = case.seen, case.rule
    policy = str(seen.record["p"])
    if rule is None:
        there = ", ".join(sorted({rule.partition.policy for rule in config.rules}))
        yield (
            f"It is registered under {policy}, and {config.path} has no such policy for {case.kinds} of"
            f" {case.partition.provider} (it has {there}): register it under one of them, or write the policy."
        )
    else:
        yield f"It is registered under {rule.partition.policy}, which {formatting.does(rule).rpartition(';')[0]}."
    created, active = seen.created, seen.active
    if created:
        used = " and never used since" if seen.record.get("f") else ""
        used = f", last used {_at(seen, active)}" if active and active != created else used
        yield f"It was created {_at(seen, created)}{used}."
    yield from _time(case)
    if subjects := subjects_of(seen.facts):
        yield f"It holds data of {', '.join(subjects)}."
    if labels := seen.facts.get("labels"):
        yield f"Its labels: {', '.join(f'{key}={value}' for key, value in sorted(labels.items()))}."
    if uses := seen.facts.get("uses"):
        yield f"It uses {_several(uses)}, which lives as long."


def _time(case: Case) -> Iterator[str]:
    seen, rule = case.seen, case.rule
    if seen.record.get("e") and seen.by == "max_age":
        yield f"Its own expiry, {_at(seen, seen.record['e'])}, lies behind the policy's max_age, which decides."
    elif seen.record.get("e"):
        yield f"Its own expiry decides, {_at(seen, seen.record['e'])}, and not the policy's ttl; no touch moves it."
    elif seen.by == "max_age" and rule and rule.max_age:
        yield f"The policy's max_age of {durations.show(rule.max_age)} decides: no touch extends it."
    if rule and rule.orphan and not seen.record.get("e"):
        yield _sighted(case)


def _sighted(case: Case) -> str:
    times = case.sighting["times"] if case.sighting else 0
    wanted = case.rule.orphan.seen if case.rule and case.rule.orphan else 0
    if not times:
        return "No complete listing has shown it unused yet."
    return f"{times} of {wanted} complete listings in a row have shown it unused."


def _protection(case: Case) -> Iterator[str]:
    seen = case.seen
    if seen.hold:
        yield _hold(seen)
    if seen.used_by:
        yield f"It is used by {_several(seen.used_by)}, and lives as long."
    if seen.state == "kept":
        yield f"A keep rule matched when it was last looked at; it is looked at again {_at(seen, seen.record['d'])}."


def _attempts(case: Case) -> Iterator[str]:
    seen, record = case.seen, case.seen.record
    tried = formatting.count(int(record.get("n", 0)), "failed attempt")
    if seen.state == "quarantined":
        after = f", after {tried}" if record.get("n") else ""
        yield f"It is in quarantine since {_at(seen, record['d'])}: {record.get('r')}{after}."
        if record.get("m"):
            yield f"The provider's last answer: {record['m'].partition(HINT)[0]}"
        yield from _ways_out(case)
    elif seen.state == "waiting":
        yield f"The last attempt ended with {record.get('r') or 'nothing known'}; {tried} so far."
    elif seen.state == "claimed":
        yield f"A worker has leased it until {_at(seen, record['d'])}; if it ends, the lease runs out by itself."
    if record.get("x"):
        yield f"{formatting.count(int(record['x']), 'worker')} ended while deleting it: it is tried alone."
    if record.get("u"):
        yield "An earlier attempt ended unknown: the provider may have deleted it already."


def _ways_out(case: Case) -> Iterator[str]:
    name = f"{case.kinds} {case.seen.id}"
    if line := not_found(str(case.seen.record.get("m", ""))):
        yield f"If that means that it is gone, add to [providers.{case.partition.provider}] in the policy file:"
        yield f"  {line}"
        yield "Then, or once the cause is mended:"
    else:
        yield "Once the cause is mended:"
    yield f"  lapse quarantine retry {name}"
    yield "To stop tracking it, and leave it at the provider:"
    yield f"  lapse quarantine drop {name}"


def not_found(detail: str) -> str:
    """Return the config line that a quarantine's detail proposes, or an empty string."""
    return detail.partition(HINT)[2]


def standing(case: Case) -> Iterator[str]:
    """Say what keeps the whole policy from deleting now, and which command answers it."""
    view, rule = case.view, case.rule
    if rule is None or view is None:
        return
    for halt in view.halts:
        since = _at(case.seen, halt.since)
        what = "is halted" if halt in stopping(view) else "is not swept by one of the workers"
        yield f"Policy {rule.partition.policy} {what} since {since}: {halt.reason}: {halt.detail}."
        yield from told(halt)
    if view.paused:
        pause = case.pauses.get(view.paused, {})
        yield f"It is paused by {pause.get('actor', 'somebody')}: {pause.get('reason')}."
        yield f"  {unpause(view.paused)}"
    if view.ramped:
        yield f"Policy {rule.partition.policy} is enforced for the first time, step by step, and goes on by itself."
    if view.limited:
        yield f"Policy {rule.partition.policy} has used up its pace, {formatting.pace(rule)}, and goes on by itself."
    if "breaker" in case.throttle:
        yield f"The provider's breaker is open ({case.throttle['breaker']}): requests wait."
    if shut := causes.shut(f"{case.partition.provider}/{case.partition.kind}", case.shut, case.seen.now):
        yield f"{shut}."
    if case.digest and case.digest != rule.digest:
        yield "Workers sweep with other rules than this policy file: they have not taken it up, or have another one."


def stopping(view: PartitionView) -> list[Halt]:
    """Return the halts that stop every worker and every id, and not one worker or some ids alone."""
    return [halt for halt in view.halts if halt.reason not in BESIDE]


def unpause(scope: str) -> str:
    """Return the command that takes a pause back."""
    return "lapse resume" if scope == "*" else f"lapse resume {scope}"


def _hold(seen: Seen) -> str:
    hold = seen.hold or {}
    until = f", until {_at(seen, hold['until'])}" if hold.get("until") else ""
    whose = f", with all of {hold['subject']}," if hold.get("subject") else ""
    since = _at(seen, hold["since"])
    return f"It is held{whose} by {hold.get('actor')} since {since}{until}: {json.dumps(hold.get('reason'))}."


def _several(edges: Any) -> str:
    named = [edge(text) for text in edges]
    shown = ", ".join(f"{one.kind} {one.id}" for one in named[:SHOWN])
    more = len(named) - SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def _at(seen: Seen, millis: float) -> str:
    return moments.both(millis, seen.now)
