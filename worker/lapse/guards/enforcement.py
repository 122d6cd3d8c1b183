"""May this sweep act, and what does an outcome lead to? Decisions only. No I/O."""

import math
import random
from dataclasses import dataclass, replace

from lapse import durations
from lapse.ledger.claim import Claim
from lapse.ledger.partition import Survey
from lapse.ledger.reasons import STANDING, HaltReason
from lapse.ledger.settle import Settled
from lapse.policy import Rule
from lapse.policy.preconditions import Preconditions, follows, named_inside
from lapse.providers.kinds import Kind
from lapse.providers.outcomes import Outcome, Verdict

BACKOFF_FIRST = 5.0
BACKOFF_LONGEST = 3600.0
BUSY_AGAIN = 30.0
KEPT_AGAIN = 6 * 3600.0
UNPROVEN_AGAIN = 60.0
FORBIDDEN_AGAIN = 60.0
ODD_AGAIN = 60.0
OUTAGE_AGAIN = 10.0
NO_ANSWER = frozenset({None, 502, 503, 504})
"""Statuses of an answer that was none, or a gateway's: a plain 500 may be one id's own."""


@dataclass(frozen=True, slots=True)
class Stand:
    """What a sweep may do: ``act``; or why not: ``result``, and with ``halt`` the reason and text of the halt to set.

    ``whole_kind``: the halt concerns every policy of the kind. ``restart_ramp``: the cut-off jumped by an amount
    small enough to go on, slowly. ``named``: how many ids a plan names.
    ``lift``: standing halts to look at again.
    """

    act: bool
    result: str
    halt: str | None = None
    detail: str = ""
    plan: bool = False
    named: int = 0
    whole_kind: bool = False
    restart_ramp: bool = False
    lift: tuple[str, ...] = ()


def stand(rule: Rule, survey: Survey, place: str) -> Stand:
    """Decide whether a partition may be swept now at the account of this place."""
    if survey.bar == "superseded":
        return Stand(act=False, result="refused")
    if set(survey.halts) - STANDING:
        return Stand(act=False, result="halted")
    if not rule.enforce:
        return Stand(act=False, result="observed", lift=survey.halts)
    if survey.place not in {None, place}:
        return Stand(
            act=False,
            result="halted",
            halt=HaltReason.IDENTITY_CHANGED,
            detail=_ELSEWHERE,
            whole_kind=True,
            lift=survey.halts,
        )
    return replace(_enforced(rule, survey), lift=survey.halts)


def _enforced(rule: Rule, survey: Survey) -> Stand:
    if rule.anchor == "last_active_at" and not survey.touched and not rule.touches_stated and survey.registered:
        return Stand(
            act=False,
            result="halted",
            halt=HaltReason.NO_TOUCHES,
            detail=_NO_TOUCHES.format(policy=rule.partition.policy),
        )
    if rule.orphan and not survey.edges and not rule.orphan.uses_stated:
        return Stand(
            act=False, result="halted", halt=HaltReason.NO_USES, detail=_NO_USES.format(kind=rule.partition.kind)
        )
    return jump(survey)


_ELSEWHERE = (
    "the policy file's base_url, organization, project or type is another than that of the account whose ids are "
    "registered here: there, every one of them would look deleted"
)
_NO_TOUCHES = (
    "no id of this policy was ever touched: call register or touch when the application uses one, "
    'or anchor "{policy}" on created_at, or state touches = "none"'
)
_NO_USES = (
    "no {kind} was ever named in the uses of a registration, so all of them look unused: pass uses= where the "
    'application registers what uses them, or state uses = "none" in the orphan rule'
)
_UNCOUNTABLE = (
    "{why}: how many of the {ids} ids may be deleted by that, only the provider knows, so nothing is until somebody "
    "says yes"
)


def jump(survey: Survey) -> Stand:
    """Decide whether what edits made due at once may be deleted, or waits for an operator."""
    edit = survey.edit
    if not edit.stops:
        return Stand(act=True, result="completed", restart_ramp=survey.base is not None and edit.moved)
    why = "; ".join(edit.unknown)
    return Stand(
        act=False,
        result="halted",
        halt=HaltReason.CUTOFF_JUMPED,
        detail=_UNCOUNTABLE.format(why=why, ids=edit.total) if why else _newly_due(survey),
        plan=True,
        named=edit.named,
    )


def _newly_due(survey: Survey) -> str:
    edit = survey.edit
    how = "this policy was never enforced before" if survey.base is None else "its cut-off moved further than the clock"
    if adopted := sum(part.newly for part in edit.parts):
        how += f", or they come from an old name ({adopted} do)"
    return f"{'' if edit.exact else 'up to '}{edit.named} of {edit.total} ids would become due at once: {how}"


def preconditions(rule: Rule, kind: Kind, by: str, now: int) -> Preconditions:
    """Return what a resource that is due by a rule is deleted under; ``now`` is registry milliseconds.

    What its ttl from last activity made due has been idle since, if the application tells of its use. What is due for
    any other reason may be in use at this moment.
    """
    timed = by == "ttl" and rule.ttl is not None
    idle = rule.anchor == "last_active_at"
    ttl = rule.ttl or 0
    long = kind.longest_run is not None and ttl >= kind.longest_run
    return Preconditions(
        keep=rule.keep,
        idle_since=now / 1000 - ttl if timed and idle and kind.active_field else None,
        resting=timed and long and (kind.runs is None or (idle and not rule.touches_stated)),
        cancel=rule.cancel,
        items=rule.cascade.get("conversation_item", "delete") == "delete",
        whole=named_inside(rule, kind),
    )


def settlement(claim: Claim, verdict: Verdict, *, outage: bool = False, told: int = 0) -> Settled:
    """Decide what becomes of a claim: ids are kept unless the provider said that they are gone.

    ``outage``: the provider fails everybody; that is no attempt of this id. ``told``: of how many of its items the
    registry knows already.
    """
    act, delay, counted, reason = _consequence(claim, verdict)
    if outage and verdict.outcome is Outcome.ERROR:
        delay, counted = OUTAGE_AGAIN, False
    return Settled(
        id=claim.resource.id,
        token=claim.token,
        policy=claim.policy,
        due=claim.due,
        act=act,
        outcome=verdict.outcome,
        delay=round(delay * 1000),
        counted=counted,
        unknown=verdict.unknown,
        reason=reason,
        detail=verdict.detail or None,
        status=verdict.status,
        request=verdict.request_id,
        items=verdict.items,
        active=None if verdict.active_at is None else round(verdict.active_at * 1000),
        left=verdict.left,
        extra=verdict.extra,
        identity=verdict.identity or None,
        seen=_seen(verdict),
        believed=verdict.believed,
        at=claim.at,
        good=verdict.outcome in _GOOD and not verdict.by_read,
        doubt=_doubt(verdict, outage=outage),
        told=told,
    )


def unbelieved(settled: Settled) -> Settled:
    """Return an absence as the registry recorded it where it was one too many: not proven, and backed off."""
    return replace(settled, act="retry", outcome=Outcome.UNPROVEN, reason="unproven")


def _seen(verdict: Verdict) -> str | None:
    if verdict.present or verdict.outcome is Outcome.DELETED:
        return "present"
    return "absent" if verdict.outcome in {Outcome.UNPROVEN, Outcome.ALREADY_GONE} else None


_GOOD = frozenset({Outcome.DELETED, Outcome.ALREADY_GONE})


def _doubt(verdict: Verdict, *, outage: bool) -> str | None:
    """Return what others may be told too: ``answer`` (one without sense), ``failure``, ``error``, ``outage``.

    None: it is this id's own.
    """
    if outage:
        return "outage" if verdict.outcome is Outcome.ERROR else None
    if verdict.outcome is Outcome.INVALID:
        return None if verdict.named or verdict.status is None else "answer"
    if verdict.outcome is Outcome.ERROR:
        return "failure" if verdict.status in NO_ANSWER else "error"
    return "answer" if verdict.outcome in {Outcome.FORBIDDEN, Outcome.UNCONFIRMED} else None


_CERTAIN: dict[Outcome, tuple[str, float, bool, str | None]] = {
    Outcome.DELETED: ("done", 0, False, None),
    Outcome.ALREADY_GONE: ("done", 0, False, None),
    Outcome.UNRECOGNISED: ("quarantine", 0, False, "unrecognised"),
    Outcome.INVALID: ("quarantine", 0, False, "invalid"),
    Outcome.UNPROVEN: ("retry", UNPROVEN_AGAIN, False, "unproven"),
    Outcome.KEPT: ("keep", KEPT_AGAIN, False, None),
    Outcome.ACTIVE: ("touch", 0, False, None),
}


def _consequence(claim: Claim, verdict: Verdict) -> tuple[str, float, bool, str | None]:
    match verdict.outcome:
        case Outcome.ERROR | Outcome.UNCONFIRMED:
            # A request that never left says nothing about this id; and to delete some of its items is to get further.
            counted = (verdict.unknown or verdict.status is not None) and not verdict.items
            return "retry", backoff(claim.attempts), counted, str(verdict.outcome)
        case Outcome.FORBIDDEN:
            return "retry", max(FORBIDDEN_AGAIN, backoff(claim.attempts)), True, "forbidden"
        case Outcome.RATE_LIMITED if verdict.odd:
            # Others first: what one id is told may not hold up those behind it.
            return "retry", ODD_AGAIN, False, "rate_limited"
        case Outcome.CONFLICT:
            return "retry", BUSY_AGAIN * random.uniform(0.8, 1.2), False, "conflict"
        case outcome:
            return _CERTAIN.get(outcome, ("release", 0, False, None))


def backoff(attempts: int) -> float:
    """Return the seconds before the next attempt: 5 s doubling to an hour, 20 % jitter either way."""
    longest = min(BACKOFF_LONGEST, BACKOFF_FIRST * 2.0 ** min(attempts, 16))
    return longest * random.uniform(0.8, 1.2)


def refused(status: str) -> tuple[str, str]:
    """Return how a sweep ends whose claim was refused, and why in words."""
    return {
        "limited": ("limited", "max_deletions or ramp"),
        "halted": ("halted", ""),
        "superseded": ("refused", "other rules are in force"),
        "lost": ("refused", "the registry is not the one that this was decided under"),
        "clock": ("refused", "the claim came too late"),
        "breaker": ("breaker", "all ids of this kind are answered alike: its breaker is open"),
        "damaged": ("halted", HaltReason.REGISTRY_DAMAGED),
        "audit": ("limited", "the audit stream is full: its sink does not take records"),
    }[status]


def requests(rule: Rule, kind: Kind, ids: int, extra: float | None = None) -> int:
    """Return how many requests deleting so many ids takes: a look, items and children, then the id itself.

    ``extra``: how many each one took before its own so far; None: none was seen yet, and children count as one request.
    """
    if extra is None:
        asked = preconditions(rule, kind, "orphan" if rule.orphan else "ttl", 0)
        looks = asked.ask(kind) + bool(kind.runs and not asked.resting)
        extra = looks + bool((kind.child and asked.items) or follows(rule, kind))
    return ids + math.ceil(ids * extra)


def forecast(requests: int, rate: float | None) -> str:
    """Say how long a number of requests takes at a rate per second: ``"21m at 60/m"``."""
    if rate is None:
        return "no rate limit"
    return f"{durations.show(max(1.0, requests / rate))} at {_per(rate)}"


def _per(rate: float) -> str:
    return f"{rate:g}/s" if rate >= 1 and rate == int(rate) and rate > 10 else f"{rate * 60:g}/m"  # noqa: PLR2004 - how a person writes it
