"""The plan of one policy, as ``lapse plan -o`` makes it."""

from lapse.cli.context import RegistryAccess
from lapse.ledger.records import due_pages
from lapse.policy import Rule
from lapse.registry.commands import Commands
from lapse.sweep.plan import Doomed
from support.world import World


async def planned(world: World, rule: Rule) -> list[Doomed]:
    """Return the ids that a plan names, in their order."""
    context = world.context()
    access = RegistryAccess(world.carrier, context.control, context.ledger, Commands("lapse", None))
    found = sorted({one async for page in due_pages(access.ledger, rule) for one in page})
    return [Doomed(one.id, one.due, one.by, one.alone) for one in found]
