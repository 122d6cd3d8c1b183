"""What the tests of deletions share: a budget, the deletion itself, and a look at what was sent."""

from lapse.policy import Keep
from lapse.policy.preconditions import Preconditions
from lapse.providers.outcomes import Limited, Verdict
from lapse.providers.provider import Provider
from lapse.sweep.deletion.delete import delete
from lapse.sweep.deletion.precheck import Target
from providers.scripted import Server


class Budget:
    """Counts the requests asked for, and refuses after ``most``."""

    def __init__(self, most: int = 10**9) -> None:
        self.most = most
        self.spent = 0

    async def __call__(self, requests: int = 1) -> None:
        if self.spent + requests > self.most:
            raise Limited("no tokens within 1 s", 7.0)
        self.spent += requests


async def remove(
    provider: Provider,
    kind: str,
    object_id: str,
    *keep: Keep,
    budget: Budget | None = None,
    items: bool = True,
) -> Verdict:
    spend = budget or Budget()
    # The look at what runs on it is another test's matter.
    preconditions = Preconditions(keep=keep, items=items, resting=True)
    return await delete(Target(provider, provider.kinds[kind], object_id, spend), preconditions=preconditions)


def deletions(server: Server) -> list[str]:
    return [target.removeprefix("DELETE ") for target in server.targets if target.startswith("DELETE")]
