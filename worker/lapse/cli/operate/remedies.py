"""What answers a halt: how to check, the answer that loses nothing, then the one that gives something up. No I/O.

One entry for each reason. Whatever is printed of it may be typed as it stands, in its order, by somebody who does not
read it: no living id is lost by that. The last answer never runs as it stands, since nobody's provider is called
PROVIDER. A reason without an entry is answered as one whose answer gives something up.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from lapse.cli import formatting
from lapse.ledger.halts import Halt
from lapse.ledger.reasons import EVERYWHERE, HaltReason

EVERYTHING = "*"
CONFIRM = "--confirm=PROVIDER"


@dataclass(frozen=True, slots=True)
class Remedy:
    """The answers to one reason.

    Attributes:
        check: A command that shows what is there, and changes nothing.
        first: What loses nothing, line by line: an edit in words, or a command; in their order.
        gives_up: What becomes of the ids that the other answer gives up; None: there is no such answer.

    """

    check: str
    first: str
    gives_up: str | None = None


BY_ITSELF = "the halt ends by itself"

REMEDIES = {
    HaltReason.CUTOFF_JUMPED: Remedy(
        "lapse plan {kinds} --policy {policy}",
        f"Put the policy file back as it was before the edit, or mode back to observe: {BY_ITSELF}, whichever"
        " worker reads it first.",
        "what became due by the edit is deleted",
    ),
    HaltReason.ORPHAN_SHARE: Remedy(
        "lapse orphans --policy {policy}",
        "Let the application register what uses them, with uses=, or put the policy file back as it was before"
        f" an edit: {BY_ITSELF} at the next listing that shows fewer.",
        "what the last listing showed unused is deleted",
    ),
    HaltReason.OLDER_THAN_REGISTRY: Remedy(
        "lapse orphans --policy {policy}",
        "Let the application register what uses them, with uses=: what is used is no orphan, and the rest waits"
        " without stopping anything else.",
        "what was created before this registry began, and is unused by what it knows, is deleted",
    ),
    HaltReason.LISTING_SHRUNK: Remedy(
        "lapse orphans --policy {policy}",
        f"Put back the key, project and base_url that the longer list was read with: {BY_ITSELF} at the next"
        " complete list.",
        "what the short list shows decides which of them are orphans",
    ),
    HaltReason.NO_WITNESS: Remedy(
        "lapse doctor",
        "Put back the key, project and base_url that these ids were made with:"
        f" {BY_ITSELF} once one of them can be read.",
        "they settle as already gone, and nothing deletes them at the provider any more",
    ),
    HaltReason.IDENTITY_CHANGED: Remedy(
        "lapse doctor",
        f"Put base_url, organization, project and type of the provider back: {BY_ITSELF}.",
        "those that are not at the other account settle as already gone, and live on where they are",
    ),
    HaltReason.CONFIG_DIVERGENCE: Remedy(
        "lapse doctor",
        f"Give the worker that the halt names the policy file of the others: {BY_ITSELF}. They go on meanwhile.",
        "the rules of whichever worker sweeps next decide about them",
    ),
    HaltReason.REGISTRY_LOST: Remedy(
        "lapse doctor",
        "Give the workers the URL of the Redis that they knew, or restore its last backup, and start them"
        f" again: {BY_ITSELF}.",
        "they are judged without the holds, uses and touches that the lost registry knew",
    ),
    HaltReason.REGISTRY_ROLLED_BACK: Remedy(
        "lapse doctor",
        "Erase again who was erased since, by the audit files there are:\n"
        "lapse erase replay --audit FILE\n"
        "Or restore the newest state of this Redis there is, and start the workers again.",
        "they are judged without the holds, uses and touches of the time that is missing",
    ),
    HaltReason.CLOCK_JUMPED: Remedy(
        "lapse doctor",
        f"Put the clock of the Redis host right: {BY_ITSELF}.",
        "they are due by the clock as it stands now",
    ),
    HaltReason.REGISTRY_DAMAGED: Remedy(
        "lapse doctor",
        f"Put back from a backup what the halt names, or set the pause again with lapse pause:"
        f" {BY_ITSELF}. Else hold, forget or register again what it protected before you go on.",
        "they are protected no more, and what the halt names counts as empty",
    ),
    HaltReason.GONE_WALL: Remedy(
        "lapse doctor",
        "Take back what was settled as already gone, and is looked at anew:\n"
        "lapse quarantine undo {kinds} --since {since} --confirm={provider}\n"
        "Where they also go by themselves, say so in the policy file: expect_gone = true.",
        "those not found from now on settle as already gone",
    ),
    HaltReason.INCONSISTENT_ABSENCE: Remedy(
        "lapse doctor",
        "Wait until the provider gives the same answer twice, and look at the route to it.",
        "those not found from now on settle as already gone",
    ),
    HaltReason.PRINCIPAL_UNPROVEN: Remedy(
        "lapse doctor",
        f"Give every worker of the provider a key of the same project: {BY_ITSELF}. The others go on meanwhile.",
        "what the refused credential does not find settles as already gone",
    ),
    HaltReason.UNRECORDABLE: Remedy(
        "lapse doctor",
        "Put right what Redis refuses, which the halt names, and try again: the outcome waits in the outbox.\n"
        'lapse resume {scope} --reason "tried again"',
    ),
    "endpoint_missing": Remedy(
        "lapse doctor",
        f"Put base_url right, or wait for the provider: {BY_ITSELF} once the endpoint answers. To try at once:\n"
        'lapse resume {scope} --reason "tried again"',
    ),
    "unrecognised": Remedy(
        "lapse quarantine list {kinds}",
        "Read the answers, put right what they say, and try again: what meets such an answer is quarantined anew.\n"
        'lapse resume {scope} --reason "tried again"',
    ),
    "sunset": Remedy(
        "lapse doctor",
        "Name the successor's kind in the policy file, and try again: nothing is deleted unless it answers.\n"
        'lapse resume {scope} --reason "tried again"',
    ),
    HaltReason.NO_TOUCHES: Remedy(
        "lapse doctor", f"Let the application register or touch what it uses: {BY_ITSELF} once its cause has ended."
    ),
    HaltReason.NO_USES: Remedy(
        "lapse doctor", f"Let the application pass uses= where it registers: {BY_ITSELF} once its cause has ended."
    ),
    HaltReason.USES_EXCEEDED: Remedy(
        "lapse orphans --policy {policy}",
        "Let the application say all that the named id uses, in several calls or for several ids: nothing"
        " listed is deleted meanwhile.",
        "what the application could not say that it uses counts as unused",
    ),
    HaltReason.REGISTRY_UNFIT: Remedy(
        "lapse doctor",
        f"Give this Redis persistence, no eviction and replicas in step: {BY_ITSELF} once its cause has ended.",
    ),
    HaltReason.MOVED: Remedy(
        "lapse doctor",
        "Give workers and applications the registry that the halt names: this one is done.",
        "they are judged without what the other registry heard since, whose workers may delete them too",
    ),
    HaltReason.HALF_IMPORTED: Remedy(
        "lapse doctor",
        f"Run lapse import again with the same file: it goes on where it ended, and {BY_ITSELF}.",
    ),
}
UNKNOWN = Remedy("lapse doctor", "Put right what the halt names.", "they are no longer guarded by this halt")


def remedy(reason: str) -> Remedy:
    """Return the answers to a reason."""
    return REMEDIES.get(reason, UNKNOWN)


def risky(halt: Halt) -> bool:
    """Return True if answering it by ``resume`` or ``approve`` gives something up."""
    return remedy(halt.reason).gives_up is not None


def where(halt: Halt) -> str:
    """Return what a halt halts, as a scope."""
    return f"{halt.provider}/{halt.kind}" + ("" if halt.policy == EVERYTHING else f"/{halt.policy}")


def told(halt: Halt) -> Iterator[str]:
    """Yield the lines that answer a halt, in the order in which they are to be tried; a command begins with a space."""
    one = remedy(halt.reason)
    yield "To check:"
    yield f"  {_filled(one.check, halt)}"
    for text in one.first.splitlines():
        yield f"  {_filled(text, halt)}" if text.startswith("lapse ") else text
    if one.gives_up:
        yield f"If that cannot be, the other answer says how many ids it gives up ({one.gives_up}), and wants the name:"
        yield f"  {other(halt)}"


def other(halt: Halt) -> str:
    """Return the command that gives something up, as it is printed: not as it runs."""
    if halt.plan:
        return f"lapse approve {halt.plan} {CONFIRM}"
    named = "--moved-to NAME " if halt.reason == HaltReason.MOVED else ""
    return _filled(f'lapse resume {{scope}} --reason "..." {named}{CONFIRM}', halt)


def answer(halt: Halt) -> str:
    """Return the first answer in one line."""
    return _filled(remedy(halt.reason).first.partition("\n")[0], halt)


def _filled(text: str, halt: Halt) -> str:
    scope = "" if halt.reason in WIDE else where(halt)
    if halt.policy == EVERYTHING:
        text = text.replace(" --policy {policy}", "")
    since = formatting.iso(halt.began or halt.since)
    kinds = formatting.plural(halt.kind)
    filled = text.format(kinds=kinds, scope=scope, policy=halt.policy, since=since, provider=halt.provider)
    return filled.replace("resume  ", "resume ")


WIDE = EVERYWHERE
"""Answered for everything at once."""
