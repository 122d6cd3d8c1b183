"""Uses that an application could not say: until an operator knows, nothing of the kinds that they name is an orphan."""

from lapse.guards.context import SweepContext
from lapse.ledger.reasons import HaltReason
from lapse.registry import keys
from lapse.registry.model import Partition


async def halted(context: SweepContext, partition: Partition) -> str | None:
    """Halt an orphan rule if an application could not say all that it uses since it was last resumed; return why.

    The client noted that where it could not (``unsaid.lua``). A rule remembers the note that it halted for:
    resumed, it goes on until there is another one.
    """
    ledger = context.ledger
    slot = keys.slot(ledger.namespace, partition.provider, partition.kind)
    rules = ledger.prefix(partition) + keys.RULES
    noted, seen = await ledger.carrier.run([("HGET", slot + keys.SAID, "unsaid"), ("HGET", rules, "unsaid_seen")])
    if not noted or noted == seen:
        return None
    detail = _detail(noted.decode(), partition)
    await context.trip(partition, HaltReason.USES_EXCEEDED, detail)
    await ledger.note(partition, unsaid_seen=noted.decode())
    return detail


def _detail(noted: str, partition: Partition) -> str:
    source = noted.partition(" ")[2].split("|")[-1]
    return (
        f"the application could not say all that {source} uses (1,000 a call, 20,000 an id): what is listed of"
        f" {partition.kind} may be in use unseen"
    )
