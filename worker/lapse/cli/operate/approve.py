"""What an approval checks before it says yes: that its plan is still what would happen."""

from dataclasses import dataclass
from typing import NoReturn

from lapse.cli.context import RegistryAccess
from lapse.cli.exit_codes import Code, Refused
from lapse.cli.operate.remedies import CONFIRM
from lapse.guards import enforcement
from lapse.guards.edits import newly_due
from lapse.guards.edits.newly_due import AskedPlan
from lapse.ledger.halts import Halt
from lapse.ledger.partition import Survey
from lapse.ledger.reasons import HaltReason
from lapse.policy import Rule, enforced


@dataclass(frozen=True, slots=True)
class Recount:
    """A plan that is still what would happen: what it named, and the survey of now; None where a listing counts."""

    asked: AskedPlan
    survey: Survey | None


async def recount(access: RegistryAccess, rule: Rule, halt: Halt) -> Recount:
    """Return how a plan stands now, if its rules make no more due than it named.

    Raises:
        Refused: it would be more than a tenth, and 10, beyond that: nothing is approved, and there is a new plan.

    """
    partition = rule.partition
    asked = await newly_due.asked(access.ledger, partition, halt.plan or "")
    if asked is None:
        await anew(access, rule, halt, f"plan {halt.plan} does not say how many ids it names")
    if asked.listed:
        return Recount(asked, None)
    survey = await newly_due.look(access.ledger, rule, await access.ledger.survey(rule))
    if survey.edit.named > enforced.covered(asked.named):
        await anew(
            access, rule, halt, f"plan {halt.plan} named {asked.named} ids, and it would be {survey.edit.named} now"
        )
    return Recount(asked, survey)


async def accept(access: RegistryAccess, rule: Rule, count: Recount) -> None:
    """Make the rules of a plan those that ids stand under."""
    if count.survey:
        await newly_due.stand_under(access.ledger, rule, count.survey)
    else:  # the next listing counts: nothing here knows what the provider has
        covered = enforced.covered(count.asked.named)
        await access.ledger.note(rule.partition, orphans_ok=f"{rule.digest} {covered}")


async def anew(access: RegistryAccess, rule: Rule, halt: Halt, why: str) -> NoReturn:
    """Put a new plan, or none where nothing stands in the way any more, in the place of one that is out of date.

    Raises:
        Refused: always; it names the new plan.

    """
    survey = await newly_due.look(access.ledger, rule, await access.ledger.survey(rule))
    stand = enforcement.jump(survey)
    await access.control.lift(halt, why)
    then = "nothing stands in the way any more: the next sweep goes on"
    if halt.reason != HaltReason.CUTOFF_JUMPED:
        then = "the next sweep looks again, and halts with a new plan if it has to"
    elif stand.halt:
        plan = await newly_due.plan(access.ledger, rule, stand, survey)
        await access.control.halt(rule.partition, stand.halt, stand.detail, plan=plan)
        then = f"nothing is approved. The new plan: {stand.detail}\n  lapse approve {plan} {CONFIRM}"
    raise Refused(Code.HALTED, f"{rule.partition}: {why}; {then}")
