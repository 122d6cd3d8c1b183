"""Redis dies or stands still: what was acknowledged is still there, and work goes on by itself."""

from faults import registry
from faults.rig import Rig


def test_a_killed_redis_loses_no_acknowledged_registration(rig: Rig) -> None:
    registry.killed_while_registering(rig, ids=1500, rate=500)
