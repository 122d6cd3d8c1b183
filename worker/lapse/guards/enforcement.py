"""May this sweep act, and what does an outcome lead to? Decisions only. No I/O."""

from dataclasses import dataclass, replace

from lapse.ledger.claim import Status
from lapse.ledger.partition import Survey
from lapse.ledger.reasons import STANDING, HaltReason
from lapse.policy import Rule


@dataclass(frozen=True, slots=True)
class Stand:
    """What a sweep may do: act; or why not: ``result``, and with ``halt`` the reason and text of the halt to set.

    ``whole_kind``: the halt concerns every policy of the kind. ``restart_ramp``: the cut-off jumped by an amount
    small enough to go on, slowly. ``named``: how many ids a plan names.
    ``lift``: standing halts to look at again.
    """

    result: str
    halt: str | None = None
    detail: str = ""
    plan: bool = False
    named: int = 0
    whole_kind: bool = False
    restart_ramp: bool = False
    lift: tuple[str, ...] = ()

    @property
    def act(self) -> bool:
        """True if the sweep may delete."""
        return self.result == "completed"


def stand(rule: Rule, survey: Survey, place: str) -> Stand:
    """Decide whether a partition may be swept now at the account of this place."""
    if survey.bar in {Status.SUPERSEDED, Status.INDEXING}:
        return Stand("refused")
    if set(survey.halts) - STANDING:
        return Stand("halted")
    if not rule.enforce:
        return Stand("observed", lift=survey.halts)
    if survey.place not in {None, place}:
        return Stand("halted", HaltReason.IDENTITY_CHANGED, _ELSEWHERE, whole_kind=True, lift=survey.halts)
    return replace(_enforced(rule, survey), lift=survey.halts)


def _enforced(rule: Rule, survey: Survey) -> Stand:
    if rule.anchor == "last_active_at" and not survey.touched and not rule.touches_stated and survey.registered:
        return Stand("halted", HaltReason.NO_TOUCHES, _NO_TOUCHES.format(policy=rule.partition.policy))
    if rule.orphan and not survey.edges and not rule.orphan.uses_stated:
        return Stand("halted", HaltReason.NO_USES, _NO_USES.format(kind=rule.partition.kind))
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
        return Stand("completed", restart_ramp=survey.base is not None and edit.moved)
    why = "; ".join(edit.unknown)
    detail = _UNCOUNTABLE.format(why=why, ids=edit.total) if why else _newly_due(survey)
    return Stand("halted", HaltReason.CUTOFF_JUMPED, detail, plan=True, named=edit.named)


def _newly_due(survey: Survey) -> str:
    edit = survey.edit
    how = "this policy was never enforced before" if survey.base is None else "its cut-off moved further than the clock"
    if adopted := sum(part.newly for part in edit.parts):
        how += f", or they come from an old name ({adopted} do)"
    return f"{'' if edit.exact else 'up to '}{edit.named} of {edit.total} ids would become due at once: {how}"


def refused(status: Status) -> tuple[str, str]:
    """Return how a sweep ends whose claim was refused, and why in words."""
    return {
        Status.LIMITED: ("limited", "max_deletions or ramp"),
        Status.HALTED: ("halted", ""),
        Status.SUPERSEDED: ("refused", "other rules are in force"),
        Status.INDEXING: ("refused", "these rules count from creations, and their index is not whole yet"),
        Status.LOST: ("refused", "the registry is not the one that this was decided under"),
        Status.CLOCK: ("refused", "the claim came too late"),
        Status.BREAKER: ("breaker", "all ids of this kind are answered alike: its breaker is open"),
        Status.SUBJECTS: ("refused", "this kind has not heard yet which subjects are held"),
        Status.DAMAGED: ("halted", HaltReason.REGISTRY_DAMAGED),
        Status.AUDIT: ("limited", "the audit stream is full: its sink does not take records"),
    }[status]
