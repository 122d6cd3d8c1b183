"""Redis is away while an application creates, and processes die: what they made is registered in the end."""

from faults import away
from faults.rig import Rig


def test_what_is_created_while_redis_is_away_is_registered_in_the_end(rig: Rig) -> None:
    away.created_while_away(rig, ids=400, rate=200, away=1)
