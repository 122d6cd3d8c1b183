"""How many replicas have what was written: what a failover loses is not told as done. No I/O.

WAIT answers for all that a server had written when the connection's command before it was carried out, by whomever:
redis.io/docs/latest/commands/wait.
"""

from typing import Any, NamedTuple

import redis

from lapse.errors import Unreplicated
from lapse.registry.model import Answer
from lapse.registry.scripts import packed


class Replicas(NamedTuple):
    """How many have to have it, and for how many seconds they are waited for; none by default."""

    number: int = 0
    within: float = 0.0

    @property
    def asking(self) -> list[bytes]:
        """What is said after a command, to the same server and in the same round trip."""
        return [packed("WAIT", self.number, round(self.within * 1000))] if self.number else []

    def demand(self, replies: list[Any]) -> None:
        """Read what ``asking`` was answered.

        Raises:
            Unreplicated: fewer have it.

        """
        for reply in replies:
            if isinstance(reply, redis.RedisError):
                raise Unreplicated(f"the registry does not say how many replicas have it: {reply}")
            if reply < self.number:
                raise Unreplicated(f"it is written, and {reply} of {self.number} replicas had it in {self.within:g} s")

    def judged(self, replies: list[Any], answer: Any) -> Any:
        """Return an answer, or that what it is about stands and too few replicas have it."""
        try:
            self.demand(replies)
        except Unreplicated:
            return answer if answer == Answer.TOO_LATE else Answer.UNREPLICATED
        return answer


NONE = Replicas()
"""Nobody is waited for."""
